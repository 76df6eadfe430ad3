"""The workflows that come with the pack, each described once."""

from __future__ import annotations

from collections.abc import Iterator

from glitch_train.recipe.partial import NO_PRESET

from .bases import CHOICE_COLOR, POCKET, SD15, SDXL
from .blocks import SampleRows
from .cross_model import cross_model
from .experiments import experiments
from .flow import Flow, Node
from .further import compare_runs, generation_sweep, resume_and_overtrain
from .other_families import other_families

DEMO_SETTINGS = """random_flip = true
lr_scheduler = "constant_with_warmup"
warmup_steps = 5
probe_every = 10"""
"""Of the demo's run, beside what its loader and trainer show."""
_DEMO_NOTE = (
    "Needs the checkpoint and pictures that `make demo` places; or choose your own folder and "
    "checkpoint in the **green** nodes.\n\n"
    "Press **Run**. The curve grows inside *Train the LoRA*; Cancel keeps what was trained so "
    "far.\n\nOn the right the same prompts and seeds are drawn twice: **base** is the model as "
    "it is, **LoRA** is what the broken pictures made of it.\n\nThen change one thing and run "
    "again:\n- `framing` to *center_crop*: the standard\n- `quality_low`, `quality_high` of "
    "the crush\n- `learning_rate`, `steps` up (a full checkpoint needs 0.0001 instead of 0.002)\n"
    "- another folder, another checkpoint"
)


def shipped() -> Iterator[Flow]:
    """Return every shipped workflow."""
    yield demo()
    yield from experiments()
    yield cross_model("cross_model_sdxl_to_sd15", SDXL, SD15)
    yield cross_model("cross_model_sd15_to_sdxl", SD15, SDXL)
    yield resume_and_overtrain()
    yield compare_runs()
    yield generation_sweep()
    yield other_families()


def demo() -> Flow:
    """Train on JPEG-crushed photographs and draw two prompts with and without the LoRA."""
    flow = Flow("demo")
    group = flow.group("1 · Base model and broken pictures")
    column = group.column(380)
    column.note(_DEMO_NOTE, tall=440)
    crush = column.add(
        "GlitchCorruptJpegCrush",
        "Crush every picture as JPEG",
        quality_low=4,
        quality_high=12,
        generations=2,
        shift_px=1,
    )
    recipe = column.add(
        "GlitchRecipe", "What else is not as usual", preset=NO_PRESET, settings=DEMO_SETTINGS
    )
    column = group.column(400)
    base = POCKET.loader(column, top=0)
    loader = column.add(
        "GlitchDatasetLoader",
        "Pictures, broken on purpose",
        color=CHOICE_COLOR,
        corruption_chain=crush["corruption_chain"],
        folder="glitch_demo_pictures",
        width=128,
        height=128,
        framing="stretch",
        variants_per_picture=4,
        recipe=recipe["recipe"],
    )
    flow.choose(loader, "folder")
    flow.choose(base, "ckpt_name")
    flow.choose(crush, "quality_low", "quality_high")
    sheet = group.column(400).add(
        "GlitchContactSheet",
        "What will be trained",
        top=0,
        tall=400,
        dataset=loader["dataset"],
        pictures=4,
        variants=3,
        cell_px=192,
        caption_lines=2,
    )
    group = flow.group("2 · Train and read")
    trainer = group.column(420).add(
        "GlitchLoraTrainer",
        "Train the LoRA",
        top=0,
        model=base["MODEL"],
        clip=base["CLIP"],
        vae=base["VAE"],
        dataset=loader["dataset"],
        steps=60,
        learning_rate=0.002,
        network_dim=16,
        network_alpha=16.0,
        batch_size=4,
        seed=7,
        recipe=recipe["recipe"],
        output_name="glitch_demo",
    )
    flow.choose(trainer, "steps")
    graph = group.column(420).add(
        "GlitchLossGraph",
        "Read the curve",
        top=0,
        loss_map=trainer["loss_map"],
        filename_prefix="glitch/demo_loss",
        width=1200,
        height=700,
    )
    flow.show(sheet, trainer, graph)
    _draw(flow, base, trainer)
    return flow


def _draw(flow: Flow, base: Node, trainer: Node) -> None:
    """Add the demo's prompts, drawn by the host's own nodes with and without the LoRA."""
    rows = SampleRows(flow.group("3 · Same prompts, same seeds: base against LoRA"), base)
    prompts = (
        "a portrait of a smiling astronaut in an orange suit",
        "a ginger cat looking at the camera",
    )
    sampling = {
        "seed": 11,
        "steps": 20,
        "cfg": 1.5,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
    }
    for kind, model in (("LoRA", trainer["model"]), ("base", base["MODEL"])):
        for number, prompt in enumerate(prompts, start=1):
            saved = rows.add(
                f"{number} · {kind}",
                prompt,
                f"demo_{kind.lower()}",
                model=model,
                latent={"width": 128, "height": 128, "batch_size": 3},
                sampling=sampling,
            )
            flow.show(saved)
