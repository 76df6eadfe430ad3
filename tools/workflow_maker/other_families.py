"""A family that the pack's own trainer refuses, trained by the host's Train LoRA."""

from __future__ import annotations

from .bases import CHOICE_COLOR, Base
from .comparing import compare
from .flow import Flow

SD35 = Base(
    "SD3.5 medium",
    "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors",
    "https://huggingface.co/Comfy-Org/stable-diffusion-3.5-fp8/resolve/main/"
    "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors",
    sizes="1024x1024",
)
_NOTE = (
    "Choose your picture folder and a checkpoint of **any family that ComfyUI trains** (SD3.5, "
    "Flux, Qwen …) in the **green** nodes, then press **Run**.\n\n"
    "The pack breaks and captions the pictures; ComfyUI's own *Make Training Dataset* and *Train "
    "LoRA* do the rest, with their settings: no recipe reaches them. What Train LoRA gets is what "
    "*Pictures* hands out (`preview_count` says how many).\n\n"
    "**Look for:** the curve, which has one loss a step and no probe; then base against LoRA, and "
    "what glitched. Keep the LoRA with *Save LoRA*.\n\n"
    "For scripts: `workflows/api/other_families.json` has Train LoRA as ComfyUI 0.3.75 has it; "
    "`glitch_train queue` fits it to yours."
)


def other_families() -> Flow:
    """Wire pictures and captions into the host's trainer, and what it gives into what reads it."""
    flow = Flow("other_families")
    group = flow.group("1 · Choose a folder and a checkpoint")
    group.column(380).note(_NOTE, tall=420)
    column = group.column(400)
    base = SD35.loader(column, f"Base model · {SD35.family}", top=0)
    pictures = column.add(
        "GlitchDatasetLoader",
        "Pictures",
        color=CHOICE_COLOR,
        framing="stretch",
        width=1024,
        height=1024,
    )
    flow.choose(pictures, "folder")
    flow.choose(base, "ckpt_name")
    sheet = group.column(400).add(
        "GlitchContactSheet", "What will be trained", top=0, tall=400, dataset=pictures["dataset"]
    )
    group = flow.group("2 · Train with ComfyUI's own trainer, and read")
    made = group.column(340).add(
        "MakeTrainingDataset",
        "Encode pictures and captions",
        top=0,
        images=pictures["pictures"],
        texts=pictures["captions"],
        vae=base["VAE"],
        clip=base["CLIP"],
    )
    trainer = group.column(380).add(
        "TrainLoraNode",
        "Train LoRA (ComfyUI's own)",
        top=0,
        model=base["MODEL"],
        latents=made["latents"],
        positive=made["conditioning"],
        steps=500,
        learning_rate=0.0002,
        rank=16,
        existing_lora="[None]",
    )
    flow.choose(trainer, "steps", "learning_rate")
    graph = group.column(460).add(
        "GlitchLossGraph",
        "Read the curve",
        top=0,
        loss_map=trainer["loss_map"],
        filename_prefix="glitch/other_families_loss",
    )
    words = group.column(400).add("PreviewAny", "Verdict", top=0, tall=700, source=graph["verdict"])
    flow.show(sheet, graph, words)
    compare(flow, base, trainer["lora"], sizes=SD35.sizes)
    return flow
