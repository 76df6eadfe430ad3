"""Where a run keeps what it makes, and how names are kept from colliding."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .files import write_text
from .recipe import Recipe


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
        Paths whose name is ``output_name`` with ``_00001``, ``_00002`` …: nothing is overwritten.
    """
    runs_folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        name = f"{output_name}_{number:05}"
        folder, lora = runs_folder / name, loras_folder / f"{name}.safetensors"
        if not lora.exists():
            try:
                folder.mkdir()
                return RunPaths(name, folder, lora)
            except FileExistsError:
                pass
        number += 1


def write_recipe(paths: RunPaths, recipe: Recipe) -> None:
    """Write the recipe into the run's folder."""
    write_text(paths.recipe, recipe.to_json() + "\n")
