"""Workflows beyond the presets: compare runs, resume and overtrain, sweep the generation."""

from __future__ import annotations

import json

from glitch_train.grid.compared import PROMPTS

from .bases import SD15, SDXL
from .comparing import compare, grid
from .flow import Flow
from .notes import paragraphs
from .training import Run, TrainingColumns, read_curves

ROW, SWEEP_ROW = 1000, 1000
"""From one run or sweep to the next below it, in pixels."""
ODD_SIZES = "1088x896, 1152x896, 1216x832, 1344x768, 1472x704, 1536x640, 1856x512"
COMPARED = (
    ("compare_standard", ("SD1.5 standard",), ("steps",)),
    ("compare_high_lr", ("SD1.5 standard", "high learning rate (2e-4)"), ("learning_rate",)),
    ("compare_wide", ("SD1.5 standard", "wide (dim 192)"), ("network_dim",)),
)
OVERCOOK_EVERY = 1000


def compare_runs() -> Flow:
    """Train three recipes on the same pictures and lay their curves over each other."""
    flow = Flow("compare_runs")
    note = paragraphs(
        "Three runs on the same pictures: the standard one, one with a higher learning rate, one "
        "with a wider network. Their LOSS_MAPs meet in one graph.",
        "**Look for:** Which curve starts, falls and ends where: the verdict has a paragraph for "
        "each. Then compare the grids cell by cell.",
        about_grid="",
    )
    columns = TrainingColumns(flow, note, COMPARED[0][1], [SD15], longest=2)
    trainers = [
        columns.add(Run(name, presets, turned=turned), ROW * number)
        for number, (name, presets, turned) in enumerate(COMPARED)
    ]
    read_curves(columns, "Read the curves", "glitch/compare_loss", trainers)
    column = flow.group("3 · The same prompts and seeds for each").column(680)
    for trainer in trainers:
        name = trainer.inputs["output_name"]
        cells = grid(
            column, columns.bases[0], f"Base against {name}", f"glitch/{name}_grid",
            top=None if column.nodes else 0, lora=trainer["lora"], sizes=SD15.sizes,
        )  # fmt: skip
        flow.show(cells)
    return flow


def resume_and_overtrain() -> Flow:
    """Train far beyond convergence and show every snapshot on the way."""
    flow = Flow("resume_and_overtrain")
    note = paragraphs(
        "6000 steps where 2000 are enough, with a snapshot after every "
        f"{OVERCOOK_EVERY}. Press Cancel whenever you like: the next Run goes on from there "
        "(`resume` is *auto*). To cook a finished run further, raise `steps` in the second "
        "recipe's *settings* (`steps = 12000`) and run again: it goes on from its last step.",
        f"While it trains, one picture is drawn after every {OVERCOOK_EVERY} steps, in the node.",
        "**Look for:** The strip from left to right: base, then each snapshot, then the finished "
        "LoRA. Where do the pictures begin to resemble the training pictures, where do they turn "
        "into one picture, where do they burn? The strip takes the first run of this name; for a "
        "later one change the number in *lora_names*.",
        about_grid="",
    )
    watched = {"save_every": OVERCOOK_EVERY, "sample_every": OVERCOOK_EVERY}
    prompt = f"sample_prompts = {json.dumps(PROMPTS[0])}"
    chain = ("SD1.5 standard", "overtrain (> 5000 steps)")
    columns = TrainingColumns(flow, note, chain, [SD15])
    trainer = columns.add(Run(flow.name, chain, watched, ("steps",), prompt))
    flow.choose(trainer, *watched)
    read_curves(columns, "Read the curve", f"glitch/{flow.name}_loss", [trainer])
    compare(
        flow, columns.bases[0], trainer["lora"], sizes=SD15.sizes,
        layout={"lora_names": f"{flow.name}_00001/*_step*", "columns": "lora"},
    )  # fmt: skip
    return flow


def generation_sweep() -> Flow:
    """Train one LoRA and push it with steps, CFG, strength and odd sizes."""
    flow = Flow("generation_sweep")
    note = paragraphs(
        "One LoRA, four sweeps at generation time: sampling steps 5 to 21, CFG 1 to 20, LoRA "
        "strength, and seven odd aspect ratios.",
        "**Look for:** Steps: where shapes settle. CFG: where colours burn. Strength: where the "
        "base is lost. Sizes: where bodies repeat. For a LoRA that you have, bypass the trainer "
        "(Ctrl+B), disconnect *lora* and choose `lora_name` in each grid.",
        about_grid="",
    )
    chain = ("SDXL standard", "short (1200 steps)")
    columns = TrainingColumns(flow, note, chain, [SDXL])
    trainer = columns.add(Run(flow.name, chain))
    read_curves(columns, "Read the curve", f"glitch/{flow.name}_loss", [trainer])
    group = flow.group("3 · Four sweeps, the same prompt and seed")
    layouts, column = group.column(340), group.column(900)
    sweeps = (
        ("Steps 5 to 21", "steps", "5-21", "steps"),
        ("CFG 1 to 20", "cfg", "1-20", "cfg"),
        ("LoRA strength", "strength", "0.25:2:0.25", "lora, strength"),
        ("Odd aspect ratios", "sizes", ODD_SIZES, "lora"),
    )
    usual = {"prompts": PROMPTS[0], "seeds": "0", "sizes": SDXL.sizes}
    for number, (title, name, swept, across) in enumerate(sweeps):
        layout = layouts.add(
            "GlitchGridSettings", f"Layout · {name}", top=SWEEP_ROW * number, columns=across
        )
        cells = grid(
            column, columns.bases[0], title, f"glitch/{flow.name}_{name}",
            top=SWEEP_ROW * number, lora=trainer["lora"], settings=layout["settings"],
            **{**usual, name: swept},
        )  # fmt: skip
        flow.choose(cells, name)
        flow.show(cells)
    return flow
