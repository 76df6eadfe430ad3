"""Parts of a workflow that compare: the grid of base against LoRA, and its glitch report."""

from __future__ import annotations

from typing import Any

from .bases import Base
from .flow import Column, Flow, Node, Output

PROMPTS = (
    "a fashion photograph of a woman in a long red coat walking through a street after rain, her "
    "whole figure in the frame, neon signs and wet asphalt behind her",
    "a studio portrait of a young man in a white shirt and a grey jacket, soft light from a "
    "window on the left, a plain background",
    "two models in black evening dresses sitting on a sofa in an empty hotel lobby, their hands "
    "in their laps, both looking at the camera, flash light, hard shadows on the wall",
)
"""Of every grid, so that reports can be compared."""
SEEDS = "0-2"
BASE_TOP, GRID_TOP = 380, 460
"""A loader ends above the wire that goes from the trainer to the grid's LoRA."""
REPORT_TOP = 700


def grid(
    column: Column,
    base: Node,
    title: str,
    prefix: str,
    *,
    top: int | None = GRID_TOP,
    **inputs: Any,
) -> Node:
    """Add a Glitch Grid with the prompts and seeds of all workflows.

    Args:
        column: Where it stands.
        base: The loader of its base model.
        title: What stands on it.
        prefix: Of its file.
        top: The y of its title, in pixels.
        **inputs: What else differs from the grid's defaults.
    """
    usual = {"prompts": "\n".join(PROMPTS), "seeds": SEEDS, "scheduler": "karras"}
    return column.add(
        "GlitchGrid",
        title,
        top=top,
        model=base["MODEL"],
        clip=base["CLIP"],
        vae=base["VAE"],
        filename_prefix=prefix,
        **{**usual, **inputs},
    )


def compare(
    flow: Flow,
    name: str,
    base: Base,
    lora: Output,
    patched: Node | None = None,
    *,
    layout: dict[str, Any] | None = None,
) -> Node:
    """Add a group with a grid of base against LoRA, and its report.

    Args:
        flow: The workflow.
        name: Of the files.
        base: What the pictures are drawn with.
        lora: The LoRA that the report weighs, and the grid wears unless there is `patched`.
        patched: A node with outputs model and clip, to draw with instead.
        layout: Inputs of Glitch Grid Settings, where the grid needs them.

    Returns:
        The grid.
    """
    number = len(flow.groups) + 1
    group = flow.group(f"{number} · Same prompts, same seeds: base against LoRA")
    loaders = group.column(340)
    loader = base.loader(loaders, "Base model · grid", top=BASE_TOP)
    column = group.column(680)
    if patched:
        worn = {
            "model_2": patched["model"].passing_under(loader),
            "clip_2": patched["clip"].passing_under(loader),
        }
    else:
        worn = {"lora": lora.passing_under(loader)}
    if layout:
        settings = loaders.add("GlitchGridSettings", "Layout of the grid", **layout)
        worn["settings"] = settings["settings"]
    cells = grid(
        column, loader, "Base against LoRA", f"glitch/{name}_grid",
        **worn, sizes=base.sizes,
    )  # fmt: skip
    _report(
        group.column(460),
        group.column(460),
        name,
        cells,
        base.loader(column, "Base model · report"),
        lora.passing_under(loader, column.nodes[-1]),
    )
    return cells


def _report(
    column: Column, words: Column, name: str, cells: Node, base: Node, lora: Output
) -> None:
    report = column.add(
        "GlitchReport",
        "How did it glitch?",
        top=REPORT_TOP,
        base=cells["base"],
        glitched=cells["glitched"],
        base_model=base["MODEL"].turning(20),
        base_clip=base["CLIP"].turning(40),
        lora=lora.turning_at_last(60),
        filename_prefix=f"glitch/{name}_report",
        names=name,
    )
    words.add("PreviewAny", "Report", top=REPORT_TOP, tall=900, source=report["report"])
