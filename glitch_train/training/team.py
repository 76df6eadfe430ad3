"""The processes that train one LoRA together; alone, every call is a plain one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import torch

from ..errors import GlitchTrainError, TrainingError

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

    Raises:
        TrainingError: when accelerate is not installed, or the variables do not fit each other.
    """
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return ALONE
        return TeamOfProcesses(on_cpu=device == "cpu")
    except (ValueError, KeyError) as error:
        raise TrainingError(
            f"The environment variables of a launcher, such as WORLD_SIZE and RANK, cannot be used "
            f"({error}): start with accelerate launch, or unset WORLD_SIZE to train alone."
        ) from error


# One process encodes pictures while the others wait for it, which can take long.
_PATIENCE = timedelta(hours=12)


_VALUES_AT_ONCE = 2**25
"""Gradients that are sent in one piece: 128 MiB."""


class TeamOfProcesses(Team):
    """This process as one of those that a launcher started."""

    def __init__(self, on_cpu: bool = False) -> None:
        """Meet the other processes.

        Args:
            on_cpu: stay off the GPUs.

        Raises:
            TrainingError: when Accelerate is not installed.
        """
        try:
            from accelerate import PartialState
            from accelerate.utils import broadcast_object_list, reduce
        except ImportError as error:
            raise TrainingError(
                "Training on several processes needs accelerate; run pip install accelerate."
            ) from error
        self._state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
        self._broadcast, self._reduce = broadcast_object_list, reduce
        self.rank: int = self._state.process_index
        self.size: int = self._state.num_processes
        self.device = self._state.device

    def local_main_first(self) -> contextlib.AbstractContextManager[None]:
        """Let one process of each machine go through a block before the others."""
        return self._state.local_main_process_first()

    def from_main(self, work: Callable[[], Result]) -> Result:
        """Return to all what the main process gets from ``work``; its error ends all."""
        answer: list[tuple[Result | None, GlitchTrainError | None]] = [(None, None)]
        if self.is_main:
            try:
                answer = [(work(), None)]
            except GlitchTrainError as error:
                answer = [(None, error)]
        result, failed = self._broadcast(answer)[0]
        if failed is not None:
            raise failed
        return result

    def all_succeed(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` gives here; where it fails in one process, raise in all."""
        try:
            result = work()
        except Exception:
            self.any(True)
            raise
        if self.any(False):
            raise TrainingError(
                "Training stopped because another of the processes failed; its own message says "
                "why."
            )
        return result

    def any(self, yes: bool) -> bool:
        """Say whether one of the processes says yes."""
        return bool(self.total(torch.tensor(float(yes), device=self.device)))

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        return self._reduce(values, "sum")

    def share_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes; one that lacks it adds nothing."""
        for some in _in_pieces(parameters):
            for parameter in some:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in some if parameter.grad is not None]
            summed = self.total(torch.cat([gradient.reshape(-1) for gradient in gradients]))
            parts = summed.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def close(self) -> None:
        """Part from the other processes at the end."""
        self._state.destroy_process_group()


def _in_pieces(
    parameters: Sequence[torch.nn.Parameter],
) -> Iterator[list[torch.nn.Parameter]]:
    piece: list[torch.nn.Parameter] = []
    values = 0
    for parameter in parameters:
        piece.append(parameter)
        values += parameter.numel()
        if values >= _VALUES_AT_ONCE:
            yield piece
            piece, values = [], 0
    if piece:
        yield piece
