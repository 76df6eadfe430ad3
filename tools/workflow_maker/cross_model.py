"""Workflows in which a LoRA of one family is worn by a model of another."""

from __future__ import annotations

from .bases import SD15, SDXL, Base
from .comparing import compare
from .flow import Flow
from .notes import mismatch_note
from .training import Run, TrainingColumns, read_curves

STANDARD = {SD15.family: "SD1.5 standard", SDXL.family: "SDXL standard"}


def cross_model(name: str, source: Base, target: Base, *presets: str) -> Flow:
    """Return a workflow that trains on one family and draws with another.

    Args:
        name: Of the workflow.
        source: What the LoRA is trained on.
        target: What wears it.
        *presets: Laid over the standard run of the source.
    """
    flow = Flow(name)
    chain = (STANDARD[source.family], *presets)
    columns = TrainingColumns(flow, mismatch_note(source, target), chain, [source, target])
    trainer = columns.add(Run(name, chain))
    read_curves(columns, "Read the curve", f"glitch/{name}_loss", [trainer])
    _, base = columns.bases
    group = flow.group(f"{len(flow.groups) + 1} · Onto {target.family}")
    applier = group.column(420).add(
        "GlitchCrossModelLoraApplier",
        f"{source.family} LoRA on {target.family}",
        top=0,
        model=base["MODEL"],
        clip=base["CLIP"],
        lora=trainer["lora"],
    )
    words = group.column(400).add(
        "PreviewAny", "What went where", top=0, tall=700, source=applier["report"]
    )
    flow.choose(applier, "strength_model", "mapping", "norm")
    flow.show(applier, words)
    compare(
        flow, base, applier["lora"],
        sizes=target.sizes, model_2=applier["model"], clip_2=applier["clip"],
    )  # fmt: skip
    return flow
