"""What a machine of a Ray cluster is sent, and what it sends back."""

from __future__ import annotations

import dataclasses
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import GlitchTrainError, TrainingError
from ..files import atomic_path, disk_errors_said
from .hostless import DONE, Made, Order, make, note_done
from .ray_board import Teller

_LORA = "lora"
"""Among the files that come through the object store; the others lie in the run's folder."""
_AT_HOME = Path(".cache", "glitching-the-gaze", "ray")
"""Below the home folder: where a machine works that does not see the sweep's folder."""


@dataclasses.dataclass(frozen=True)
class Share:
    """What one run gets of a machine.

    Attributes:
        gpus: GPUs; 0 trains on the CPU, a fraction shares one.
        cpus: cores, which are also the threads that a run on the CPU uses.
    """

    gpus: float = 1.0
    cpus: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.gpus <= 1 or (self.gpus > 1 and float(self.gpus).is_integer())):
            raise TrainingError(
                f"A run on Ray takes 0 GPUs, a fraction of one, or a whole number of them, not "
                f"{self.gpus:g}."
            )


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker is sent.

    Attributes:
        order: what to do.
        out: where the results go, as they see it who gave the order.
        mark: a file there; who sees it shares the folder.
        home: where who does not works instead, below their home folder.
        share: what the run gets.
        sender: the machine that the order comes from.
    """

    order: Order
    out: Path
    mark: str
    home: str
    share: Share
    sender: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a worker sends back.

    Attributes:
        made: in the shared folder; None where that is not shared, or the run failed.
        files: what was made, name to content, where the folder is not shared.
        error: one sentence when the run failed.
    """

    made: Made | None = None
    files: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ""


def work(task: Task, board: Any) -> Answer:
    """Do one run; this is what a machine of the cluster is sent."""
    import torch

    order, here = task.order, platform.node()
    board.begin.remote(order.name, here)  # who waits for an answer lends its cores to another
    if not task.share.gpus:
        torch.set_num_threads(task.share.cpus)
    is_shared = (task.out / task.mark).is_file()
    out = task.out if is_shared else Path.home() / _AT_HOME / task.home
    try:
        made = make(order, out, "cuda" if task.share.gpus else "cpu", Teller(board, order.name))
        return Answer(made) if is_shared else Answer(files=taken(made))
    except GlitchTrainError as error:
        where = "" if here == task.sender else f" (On {here}.)"
        return Answer(error=f"{error}{where}")


def taken(made: Made) -> dict[str, Any]:
    """Read all that was made, and remove it."""
    import numpy as np  # its arrays pass through the object store without a copy

    paths = {path.relative_to(made.run).as_posix(): path for path in made.run.rglob("*")}
    paths = {name: path for name, path in paths.items() if path.is_file() and name != DONE}
    files = {name: np.fromfile(path, np.uint8) for name, path in paths.items()}
    files[_LORA] = np.fromfile(made.lora, np.uint8)
    shutil.rmtree(made.run)
    made.lora.unlink()
    return files


def brought(order: Order, files: Mapping[str, Any], out: Path) -> Made:
    """Write what came through the object store under a name that is free here."""
    from ..training.run.folder import claim_run

    paths = claim_run(order.name, out, out)
    for name, content in files.items():
        path = paths.lora if name == _LORA else paths.folder / name
        with disk_errors_said(path), atomic_path(path) as part:
            content.tofile(part)
    made = Made(paths.lora, paths.losses)
    note_done(order.recipe, made)
    return made
