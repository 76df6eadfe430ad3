"""Workflows beyond the presets: compare runs, resume and overtrain, sweep the generation."""

from __future__ import annotations

import json

from .bases import SD15, SDXL
from .comparing import BASE_TOP, PROMPTS, compare, grid
from .flow import Flow
from .notes import paragraphs
from .training import Run, TrainingColumns, read_curve

ROW, SWEEP_ROW = 2100, 1500
"""From one run or sweep to the next below it, in pixels."""
ODD_SIZES = "1088x896, 1152x896, 1216x832, 1344x768, 1472x704, 1536x640, 1856x512"
COMPARED = (
    ("compare_standard", ("SD1.5 standard",)),
    ("compare_high_lr", ("SD1.5 standard", "high learning rate (2e-4)")),
    ("compare_dropout", ("SD1.5 standard", "caption dropout")),
)
OVERCOOK_EVERY = 1000


def compare_runs() -> Flow:
    """Train three recipes and lay their curves over each other."""
    flow = Flow("compare_runs")
    columns = TrainingColumns(flow)
    group = flow.group("3 · The same prompts and seeds for each")
    loaders, grids = group.column(340), group.column(680)
    note = paragraphs(
        "Three runs on the same pictures: the standard one, one with a higher learning rate, one "
        "with caption dropout. Their LOSS_MAPs meet in one graph.",
        "**Look for:** Which curve starts, falls and ends where: the verdict has a paragraph for "
        "each. Then compare the grids cell by cell.",
        about_grid="",
    )
    losses = {}
    for number, (name, presets) in enumerate(COMPARED):
        top = ROW * number
        run = Run(name, presets, SD15, note if number == 0 else "")
        trainer = columns.add(run, top)
        base = SD15.loader(loaders, f"Base model · grid {number + 1}", top=top + BASE_TOP)
        cells = grid(
            grids, base, f"Base against {name}", f"glitch/{name}_grid", top=top + BASE_TOP + 80,
            lora=trainer["lora"].passing_under(base), sizes=SD15.sizes,
        )  # fmt: skip
        socket = "loss_map" if number == 0 else f"loss_map_{number + 1}"
        losses[socket] = (
            trainer["loss_map"].passing_under(base, cells).turning_at_last(25 * (number + 1))
        )
    reading = flow.group("4 · All curves in one graph")
    graph = reading.column(700).add(
        "GlitchLossGraph", "Read the curves", top=ROW, filename_prefix="glitch/compare_loss",
        **losses,
    )  # fmt: skip
    reading.column(460).add("PreviewAny", "Verdicts", top=ROW, tall=900, source=graph["verdict"])
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
    run = Run(flow.name, chain, SD15, note, watched, prompt)
    columns = TrainingColumns(flow)
    trainer = columns.add(run)
    read_curve(columns, run, trainer)
    compare(
        flow, run.name, SD15, trainer["lora"],
        layout={"lora_names": f"{run.name}_00001/*_step*", "columns": "lora"},
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
    columns = TrainingColumns(flow)
    trainer = columns.add(Run(flow.name, ("SDXL standard", "short (1200 steps)"), SDXL, note))
    group = flow.group("3 · Four sweeps, the same prompt and seed")
    loaders, grids = group.column(340), group.column(900)
    sweeps = (
        ("Steps 5 to 21", "steps", "steps", {"steps": "5-21"}),
        ("CFG 1 to 20", "cfg", "cfg", {"cfg": "1-20"}),
        ("LoRA strength", "strength", "lora, strength", {"strength": "0.25:2:0.25"}),
        ("Odd aspect ratios", "sizes", "lora", {"sizes": ODD_SIZES}),
    )
    for number, (title, name, columns_of, swept) in enumerate(sweeps):
        top = SWEEP_ROW * number
        base = SDXL.loader(loaders, f"Base model · {name}", top=top + BASE_TOP)
        layout = loaders.add("GlitchGridSettings", f"Layout · {name}", columns=columns_of)
        usual = {"prompts": PROMPTS[0], "seeds": "0", "sizes": SDXL.sizes}
        grid(
            grids, base, title, f"glitch/{flow.name}_{name}", top=top + BASE_TOP + 80,
            lora=trainer["lora"].turning(80 - 15 * number).passing_under(base),
            settings=layout["settings"],
            **{**usual, **swept},
        )  # fmt: skip
    return flow
