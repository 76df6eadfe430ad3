"""How loud a patched module is: the size of its change against the size of its weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..lora.read import LoraModule
from ..model.network import Module
from .recipe import TransferRecipe

NormOf = Callable[[Module], float]
"""Module to the Frobenius norm of its weight, ‖W‖."""


def estimated_norm(module: Module) -> float:
    """Return ‖W‖ as PyTorch initialises a layer of this shape: every output has gain 1/√3.

    A stand-in for a base model that is not at hand: entries of variance 1 / (3 · fan-in), so
    ‖W‖² = out / 3, whatever the input width and kernel.

    Source: ``torch.nn.Linear.reset_parameters``, kaiming_uniform with a = √5
    """
    return math.sqrt(module.n_out / 3.0)


def gain(
    recipe: TransferRecipe,
    target: Module,
    energy: float,
    sources: Sequence[LoraModule],
    norm_of_target: NormOf,
    norm_of_source: Callable[[LoraModule], float] | None,
) -> float:
    """Return what a module's difference is multiplied by.

    ``match`` needs the weights of the LoRA's own base. Where they are not at hand, they are taken
    to have the same gain per input as the target's, so that ‖W‖ goes with √out.

    Args:
        recipe: says which norm is wanted.
        target: the module that is patched.
        energy: ‖ΔW'‖² as it came out.
        sources: what feeds it; the mean of their loudnesses is matched.
        norm_of_target: ‖W‖ of the target's modules, measured or estimated.
        norm_of_source: ‖W‖ of the source's modules, or None.
    """
    if recipe.norm == "leave" or energy <= 0.0:
        return 1.0
    own = norm_of_target(target)
    wanted = recipe.loudness
    if recipe.norm == "match":
        ratios = []
        for module in sources:
            alike = own * math.sqrt(module.shape[0] / target.n_out)
            theirs = norm_of_source(module) if norm_of_source else alike
            ratios.append(math.sqrt(module.energy) / theirs if theirs > 0.0 else 0.0)
        wanted = sum(ratios) / len(ratios)
    return wanted * own / math.sqrt(energy)
