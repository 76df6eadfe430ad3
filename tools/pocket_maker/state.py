"""A training that can be stopped: weights, optimizer, average and step in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module)


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, ema: list[Tensor]
) -> None:
    """Replace the file at once, so that one killed while saving leaves the older one."""
    unfinished = path.with_suffix(".unfinished")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "step": step, "ema": ema}, unfinished)
    unfinished.replace(path)


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, list[Tensor]]:
    """Go on from a file, if it is there; return the step and the average of the weights."""
    if not path.exists():
        return 0, [p.detach().clone() for p in model.parameters()]
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["ema"]


def averaged(model: ModelT, path: Path) -> ModelT:
    """Return a model with the averaged weights of a training's state.

    Args:
        model: of the training's shape; changed in place.
        path: from `save_state`.
    """
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        for parameter, mean in zip(model.parameters(), state["ema"], strict=True):
            parameter.copy_(mean)
    return model.eval().requires_grad_(False)
