"""When a run is finished: after its steps, or earlier by a rule of the recipe."""

from __future__ import annotations

import dataclasses
import math

from ...losses.about import Ending
from ...recipe.train import TrainRecipe
from ...wording import number


@dataclasses.dataclass(frozen=True)
class RunProgress:
    """How far a run has come, over all its sessions.

    Attributes:
        step: optimizer steps done.
        epochs: epochs done, whole ones.
        seconds: time spent training, with probes and saving, without encoding.
        drift: how far the predictions were from the base model's when last measured; NaN before.
    """

    step: int = 0
    epochs: int = 0
    seconds: float = 0.0
    drift: float = math.nan


def reached(train: TrainRecipe, progress: RunProgress) -> Ending | None:
    """Return the ending of a run that has come this far, or None while it goes on.

    A rule that is 0 is off. Raising the rule that ended a run lets it go on.

    Args:
        train: steps and the ``stop_at`` rules.
        progress: how far the run is.
    """
    step, minutes = progress.step, progress.seconds / 60
    whys = {
        "steps": f"all {train.steps} steps are done" if step >= train.steps else "",
        "stop_at_epochs": f"{progress.epochs} epochs are done"
        if 0 < train.stop_at_epochs <= progress.epochs
        else "",
        "stop_at_minutes": f"it trained for {number(minutes, 3)} minutes"
        if 0 < train.stop_at_minutes <= minutes
        else "",
        "stop_at_drift": f"the drift of {number(progress.drift, 3)} is above "
        f"{number(train.stop_at_drift)}"
        if 0 < train.stop_at_drift < progress.drift
        else "",
    }
    for rule, why in whys.items():
        if why:
            if rule == "steps":
                return Ending(rule, step, f"Finished: {why}.")
            return Ending(rule, step, f"Stopped after step {step}: {why} ({rule}).")
    return None
