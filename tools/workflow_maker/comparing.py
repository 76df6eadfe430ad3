"""Parts of a workflow that compare: the grid of base against LoRA, and its glitch report."""

from __future__ import annotations

from typing import Any

from glitch_train.grid.compared import COMPARED

from .flow import Column, Flow, Node, Output


def grid(
    column: Column, base: Node, title: str, prefix: str, *, top: int | None = 0, **inputs: Any
) -> Node:
    """Add a Glitch Grid with the prompts and seeds of all workflows.

    Args:
        column: Where it stands.
        base: The loader of its base model.
        title: What stands on it.
        prefix: Of its file.
        top: The y of its title, in pixels; None for below the node before.
        **inputs: What else differs from the grid's defaults.
    """
    return column.add(
        "GlitchGrid",
        title,
        top=top,
        model=base["MODEL"],
        clip=base["CLIP"],
        vae=base["VAE"],
        filename_prefix=prefix,
        **{**COMPARED, **inputs},
    )


def compare(
    flow: Flow, base: Node, lora: Output, *, layout: dict[str, Any] | None = None, **inputs: Any
) -> Node:
    """Add a group with a grid of base against LoRA, and its report.

    Args:
        flow: The workflow.
        base: The loader of the model that the pictures are drawn with.
        lora: The LoRA that the report weighs, and the grid wears unless `model_2` is given.
        layout: Inputs of Glitch Grid Settings, where the grid needs them.
        **inputs: Of the grid, where they differ from all others.

    Returns:
        The grid.
    """
    name = flow.name
    group = flow.group(f"{len(flow.groups) + 1} · Same prompts, same seeds: base against LoRA")
    worn = {} if "model_2" in inputs else {"lora": lora}
    if layout:
        settings = group.column(340).add(
            "GlitchGridSettings", "Layout of the grid", top=0, **layout
        )
        worn["settings"] = settings["settings"]
    column = group.column(680)
    cells = grid(column, base, "Base against LoRA", f"glitch/{name}_grid", **worn, **inputs)
    report = group.column(460).add(
        "GlitchReport",
        "How did it glitch?",
        top=0,
        base=cells["base"],
        glitched=cells["glitched"],
        prompts=cells["prompts"],
        base_model=base["MODEL"],
        base_clip=base["CLIP"],
        lora=lora,
        filename_prefix=f"glitch/{name}_report",
        names=name,
    )
    words = group.column(460).add("PreviewAny", "Report", top=0, tall=900, source=report["report"])
    flow.show(cells, report, words)
    return cells
