"""One workflow per preset: train as the recipe says, read the curve, compare, measure."""

from __future__ import annotations

from collections.abc import Iterator

from glitch_train.recipe.experiments import EXPERIMENTS, Experiment

from .bases import SD15, SDXL, Base
from .comparing import compare
from .cross_model import cross_model
from .flow import Flow
from .notes import experiment_note
from .training import Run, TrainingColumns, read_curves

STANDARD = "SD1.5 standard"
"""What a technique changes one thing of."""


def experiments() -> Iterator[Flow]:
    """Return the workflow of every preset, called by its slug."""
    for preset in EXPERIMENTS.values():
        if preset.settings:
            yield experiment(preset)
        else:
            yield cross_model(preset.slug, SDXL, SD15, preset.title)


def experiment(preset: Experiment) -> Flow:
    """Return a preset's workflow; a technique is laid over the standard run.

    Args:
        preset: An experiment or a technique.
    """
    flow = Flow(preset.slug)
    chain = (preset.title,) if preset.stands_alone else (STANDARD, preset.title)
    base = _base_of(preset)
    columns = TrainingColumns(flow, experiment_note(preset), chain, [base])
    trainer = columns.add(Run(flow.name, chain, turned=_turned(preset)))
    read_curves(columns, "Read the curve", f"glitch/{flow.name}_loss", [trainer])
    compare(flow, columns.bases[0], trainer["lora"], sizes=base.sizes)
    return flow


def _turned(preset: Experiment) -> tuple[str, ...]:
    """Return what a person would turn first: what the preset is about, and for how long it goes."""
    about = ("framing", "learning_rate") if preset.stands_alone else tuple(preset.settings)[:2]
    return tuple(dict.fromkeys((*about, "steps")))


def _base_of(preset: Experiment) -> Base:
    return SDXL if preset.title.startswith(SDXL.family) else SD15
