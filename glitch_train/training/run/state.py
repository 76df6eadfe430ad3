"""The state of an unfinished run, whole on disk, to go on from exactly where it stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ...cache import content_key
from ...errors import TrainingError
from ...files import atomic_path, disk_errors_said
from ...losses.record import LossRecord
from ...recipe.recipe import Recipe
from ..items import TrainingItem
from ..loop import LoraTraining
from .endings import RunProgress

STATE_VERSION = 1

# What may differ between a run and its continuation.
_MAY_DIFFER = (
    "steps",
    "stop_at_epochs",
    "stop_at_minutes",
    "stop_at_drift",
    "glitch_through",
    "gradient_checkpointing",
    "save_every",
    "save_precision",
    "sample_every",
    "sample_prompts",
    "sample_sampler",
    "sample_steps",
    "sample_cfg",
    "sample_seed",
    "sample_width",
    "sample_height",
)
_HELD = {"version", "material", "base", "training", "record"}
# What a record knows of the run's past; the rest is the recipe's and the base's.
_PAST = ("snapshots", "passed_over", "skipped", "samples_missing")


def save_state(
    path: Path,
    training: LoraTraining,
    record: LossRecord,
    progress: RunProgress,
    *,
    material: str,
    base: str,
    has_lora: bool = True,
) -> None:
    """Write everything a run needs to go on, in one piece.

    Args:
        path: the file; the one before stays whole until this one is.
        training: the run.
        record: its losses so far; a row of a step that was not done is left out.
        progress: how far it is.
        material: what :func:`material_key` gave for its pictures and captions.
        base: what identifies the base model.
        has_lora: whether the LoRA of a finished run is on disk; else the run has this left to do.
    """
    state = {
        "version": STATE_VERSION,
        "material": material,
        "base": base,
        "has_lora": has_lora,
        "training": training.state_dict(),
        "progress": dataclasses.asdict(progress),
        "record": {name: values[: training.step] for name, values in record.columns.items()},
        "about": {name: told for name, told in record.about.to_dict().items() if name in _PAST},
    }
    with disk_errors_said(path), atomic_path(path) as part, part.open("wb") as file:
        out = _Straight(file)
        torch.save(state, out)  # type: ignore[arg-type]
        out.close()


class _Straight:
    """What torch writes into, tensor by tensor; an error waits until torch is done.

    Torch's writer is C++, which an error of the disk would end without saying why.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def write(self, content: bytes | memoryview) -> int:
        if self._error is None:
            try:
                self._file.write(content)
            except OSError as error:
                self._error = error
        return len(content)

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is closed."""

    def close(self) -> None:
        if self._error is not None:
            raise self._error


def load_state(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; tensors, numbers and text only, no code.

    Args:
        path: the file.
        mapped: leave the tensors on the disk, for a look at the rest: Windows does not let the
            file be replaced as long as one of them lives.

    Raises:
        TrainingError: when the file cannot be read, is damaged or of a newer version.
    """
    try:
        with torch.inference_mode(False):
            state: dict[str, Any] = torch.load(
                path, map_location="cpu", weights_only=True, mmap=mapped
            )
    except OSError as error:
        raise TrainingError(f"Cannot read the state {path}: {error.strerror or error}.") from error
    except Exception as error:  # torch raises many kinds
        raise TrainingError(
            f"The state {path} cannot be read ({type(error).__name__}); set resume to never."
        ) from error
    if not isinstance(state, dict) or not state.keys() >= _HELD or "step" not in state["training"]:
        raise TrainingError(f"{path} holds no state of a run; set resume to never.")
    if state["version"] != STATE_VERSION:
        raise TrainingError(
            f"The state {path} has version {state['version']}, this pack reads "
            f"{STATE_VERSION}; set resume to never."
        )
    return state


def progress_of(state: dict[str, Any]) -> RunProgress:
    """Return how far the run of a state had come."""
    return RunProgress(**state.get("progress", {"step": state["training"]["step"]}))


def material_key(items: Sequence[TrainingItem]) -> str:
    """Return a name for the pictures and captions as they are trained."""
    # Without a mask as before there were any, so that older states go on.
    return content_key(
        *(f"{item.latents_key} {item.prompt_key} {item.mask_key}".rstrip() for item in items)
    )


def same_run(one: Recipe, other: Recipe) -> bool:
    """Say whether a run of ``other`` may go on as ``one``: all but the length is the same."""
    parts = [recipe.to_dict() for recipe in (one, other)]
    for part in parts:
        part.pop("checkpoint", None)  # the base's weights tell, wherever they lie
        part.pop("origins")  # who named a setting does not change it
        for name in _MAY_DIFFER:
            part["train"].pop(name, None)
    return parts[0] == parts[1]
