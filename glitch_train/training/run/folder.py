"""Where a run keeps what it makes, and how names are kept from colliding."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import logging
import os
from pathlib import Path

from ...errors import GlitchTrainError, TrainingError
from ...file_names import check_path_lengths
from ...files import disk_errors_said, read_text, write_text
from ...recipe.recipe import Recipe
from .endings import reached

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """The files of one run.

    Attributes:
        name: the recipe's output name with a number that no earlier run has.
        folder: holds the recipe and the record.
        lora: the LoRA file.
    """

    name: str
    folder: Path
    lora: Path

    @property
    def recipe(self) -> Path:
        """The recipe as JSON."""
        return self.folder / "recipe.json"

    @property
    def state(self) -> Path:
        """What an unfinished run goes on from."""
        return self.folder / "state.pt"

    def snapshot(self, step: int) -> Path:
        """The LoRA as it was after a step, beside the finished one."""
        return self.lora.parent / self.name / f"{self.name}_step{step:06}.safetensors"

    @property
    def samples(self) -> Path:
        """Folder of the sample pictures."""
        return self.folder / "samples"

    def sample(self, step: int, row: int) -> Path:
        """The sample picture of a prompt after a step."""
        return self.samples / f"step{step:06}_prompt{row:02}.png"

    @property
    def strip(self) -> Path:
        """All sample pictures in one, prompts × steps."""
        return self.samples / "strip.png"

    @property
    def losses(self) -> Path:
        """The loss record as CSV, growing while the run trains."""
        return self.folder / "losses.csv"


def claim_run(output_name: str, runs_folder: Path, loras_folder: Path) -> RunPaths:
    """Reserve the next free name by creating the run's folder.

    Args:
        output_name: the recipe's name for the run.
        runs_folder: where run folders live.
        loras_folder: where LoRA files live.

    Returns:
        Paths whose name is ``output_name`` with ``_00001``, ``_00002`` …: nothing is overwritten,
        nor made in a spelling that is the same name on Windows and macOS.

    Raises:
        DiskError: when no folder can be made there, or a file's path would be too long.
    """
    with disk_errors_said(runs_folder):
        runs_folder.mkdir(parents=True, exist_ok=True)
        runs, loras = _spellings_in(runs_folder), _spellings_in(loras_folder)
        number = 0
        while True:
            number += 1
            name = f"{output_name}_{number:05}"
            if name.casefold() in runs or f"{name}.safetensors".casefold() in loras:
                continue
            paths = RunPaths(name, runs_folder / name, loras_folder / f"{name}.safetensors")
            check_path_lengths(paths.lora, paths.snapshot(0), paths.sample(0, 0))
            with contextlib.suppress(FileExistsError):
                paths.folder.mkdir()
                return paths


def _spellings_in(folder: Path) -> set[str]:
    """Return the names in a folder as Windows and macOS tell them apart."""
    return {name.casefold() for name in os.listdir(folder)} if folder.is_dir() else set()


def unfinished_run(
    recipe: Recipe, base: str, runs_folder: Path, loras_folder: Path
) -> RunPaths | None:
    """Return the newest run of a recipe that has a state and is not finished, or lacks its LoRA.

    Args:
        recipe: the recipe; it may ask for more than the run did, then the run is not finished.
        base: what identifies the base model; runs on another one are passed over.
        runs_folder: where run folders live.
        loras_folder: where LoRA files live.
    """
    from .state import load_state, progress_of, same_run

    name = recipe.train.output_name
    for folder in sorted(runs_folder.glob(f"{glob.escape(name)}_[0-9]*"), reverse=True):
        paths = RunPaths(folder.name, folder, loras_folder / f"{folder.name}.safetensors")
        try:
            theirs = Recipe.from_json(read_text(paths.recipe))
        except (OSError, ValueError, GlitchTrainError):
            continue
        if not same_run(recipe, theirs):
            continue
        if not paths.state.is_file():
            if paths.lora.is_file() and theirs.train.steps < recipe.train.steps:
                log.warning(
                    "%s is finished and kept no state (its save_every is 0), so it cannot go on.",
                    paths.name,
                )
            continue
        state = load_state(paths.state, mapped=True)
        has_lora = state.get("has_lora", True) and paths.lora.is_file()
        finished = reached(recipe.train, progress_of(state)) and has_lora
        if state["base"] == base and not finished:
            return paths
    return None


def choose_run(
    recipe: Recipe, resume: str, base: str, runs_folder: Path, loras_folder: Path
) -> RunPaths:
    """Return the run to go on with, or a new one.

    Args:
        recipe: the recipe.
        resume: ``auto`` goes on where there is an unfinished run of the same recipe, ``never``
            begins a new one, ``must`` refuses to.
        base: what identifies the base model.
        runs_folder: where run folders live.
        loras_folder: where LoRA files live.

    Raises:
        TrainingError: with ``must``, when there is nothing to go on with.
    """
    found = None if resume == "never" else unfinished_run(recipe, base, runs_folder, loras_folder)
    if found is None and resume == "must":
        raise TrainingError(
            f"There is no unfinished run of {recipe.train.output_name!r} with this recipe in "
            f"{runs_folder}; set resume to auto, or raise steps or the stop_at rule to go on with "
            "a finished one that kept its state (save_every above 0)."
        )
    return found or claim_run(recipe.train.output_name, runs_folder, loras_folder)


def write_recipe(paths: RunPaths, recipe: Recipe) -> None:
    """Write the recipe into the run's folder."""
    write_text(paths.recipe, recipe.to_json() + "\n")
