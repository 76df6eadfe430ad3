"""The processes that train one LoRA together; alone, every call is a plain one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")


class Team:
    """One process that trains alone, and what a process of several has to offer.

    Attributes:
        rank: number of this process, from 0; 0 is the one that writes.
        size: number of processes.
        device: the one that the launcher gave this process; None leaves the choice open.
    """

    rank = 0
    size = 1
    device: torch.device | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the person."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Return which of a batch's samples are this process's: equal shares, in order."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def local_main_first(self) -> contextlib.AbstractContextManager[None]:
        """Let one process of each machine go through a block before the others."""
        return contextlib.nullcontext()

    def from_main(self, work: Callable[[], Result]) -> Result:
        """Return to all what the main process gets from ``work``; its error ends all."""
        return work()

    def all_succeed(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` gives here; where it fails in one process, raise in all."""
        return work()

    def any(self, yes: bool) -> bool:
        """Say whether one of the processes says yes."""
        return yes

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        return values

    def share_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""

    def close(self) -> None:
        """Part from the other processes at the end."""


ALONE = Team()


def join_team(device: str | None = None) -> Team:
    """Return the team that a launcher started this process in.

    ``accelerate launch`` and torchrun tell each process of the others by environment variables.

    Args:
        device: ``cpu`` keeps the processes off the GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE
    from .team_of_processes import TeamOfProcesses

    return TeamOfProcesses(on_cpu=device == "cpu")
