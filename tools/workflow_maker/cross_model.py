"""Workflows in which a LoRA of one family is worn by a model of another."""

from __future__ import annotations

from .bases import SD15, SDXL, Base
from .comparing import BASE_TOP, GRID_TOP, compare
from .flow import Flow
from .notes import mismatch_note
from .training import Run, TrainingColumns, read_curve

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
    run = Run(name, chain, source, mismatch_note(source, target))
    columns = TrainingColumns(flow, len(chain))
    trainer = columns.add(run)
    read_curve(columns, run, trainer)
    group = flow.group(f"{len(flow.groups) + 1} · Onto {target.family}")
    base = target.loader(group.column(340), f"{target.family} · wears the LoRA", top=BASE_TOP)
    applier = group.column(420).add(
        "GlitchCrossModelLoraApplier",
        f"{source.family} LoRA on {target.family}",
        top=GRID_TOP,
        model=base["MODEL"],
        clip=base["CLIP"],
        lora=trainer["lora"].passing_under(base),
    )
    group.column(400).add(
        "PreviewAny", "What went where", top=700, tall=700, source=applier["report"]
    )
    compare(flow, name, target, applier["lora"], applier)
    return flow
