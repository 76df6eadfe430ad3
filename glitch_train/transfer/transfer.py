"""A LoRA of one model family carried over to another, on purpose."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable

import torch

from ..errors import LoraFileError
from ..lora.family import source_network, with_kernels
from ..lora.read import LoraFile
from ..model.network import Network
from ..model.tensor_file import one_thread
from .base import Base
from .carrier import Carrier
from .mapping import make_plan
from .recipe import SECOND_ENCODER, TransferRecipe
from .report import TransferReport

TRANSFER_KEY = "glitch_transfer"
"""Metadata key under which the settings of the transfer are kept as JSON."""


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A LoRA carried over.

    Attributes:
        state: its factors, named as kohya's scripts name them for the target's family.
        metadata: for the file.
        report: what went where, and how loud it is.
    """

    state: dict[str, torch.Tensor]
    metadata: dict[str, str]
    report: TransferReport


def transfer(
    lora: LoraFile,
    target: Base,
    recipe: TransferRecipe,
    *,
    source: Base | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Transfer:
    """Carry a LoRA over to a network.

    Args:
        lora: the LoRA.
        target: the network it is to patch.
        recipe: mapping, fit, depth, norm and seed.
        source: the base it was trained on, where it is at hand; told by its names otherwise.
        on_progress: called with modules done and modules in all.

    Returns:
        The new LoRA and its report. Modules that keep their place and shape keep their factors,
        bit by bit.

    Raises:
        LoraFileError: for a LoRA of an unknown family, one that ``strict`` refuses, or one of
            which nothing reaches the target.
    """
    origin = source.network if source else source_network(lora, (target.network,))
    lora = with_kernels(lora, origin)
    plan = make_plan(recipe.mapping, lora, origin, target.network, seed=recipe.seed, te2=recipe.te2)
    if not plan:
        raise _nothing_reaches(lora, origin, target.network, recipe)
    carrier = Carrier(lora, origin, target, recipe, source)
    with torch.inference_mode(False), torch.no_grad(), one_thread():
        for done, (key, groups) in enumerate(plan.items(), start=1):
            carrier.carry(target.network.modules[key], groups)
            if on_progress:
                on_progress(done, len(plan))
    carrier.carry_extras()
    report = carrier.report({m.name for groups in plan.values() for group in groups for m in group})
    return Transfer(carrier.state, _metadata(report), report)


def _nothing_reaches(
    lora: LoraFile, origin: Network, target: Network, recipe: TransferRecipe
) -> LoraFileError:
    """Return the sentence for a LoRA that feeds nothing, with advice that was tried."""
    said = f"No module of {lora.title} ({origin.title}) reaches {target.title} with the mapping "
    said += recipe.mapping
    encoders = dict.fromkeys((recipe.te2, *SECOND_ENCODER))
    for mapping, te2 in itertools.product(("by_role", "by_depth", "by_name"), encoders):
        if make_plan(mapping, lora, origin, target, seed=recipe.seed, te2=te2):
            advice = [mapping] if mapping != recipe.mapping else []
            advice += [f"te2 {te2}"] if te2 != recipe.te2 else []
            return LoraFileError(f"{said}; choose {' and '.join(advice)}.")
    return LoraFileError(f"{said}, nor with another; choose another LoRA or model.")


def _metadata(report: TransferReport) -> dict[str, str]:
    """Return what other tools read; nothing in it changes from run to run."""
    family = report.target.family
    settings = {"lora": report.lora.title, "source": report.source.family.name}
    settings |= {"target": family.name, **dataclasses.asdict(report.recipe)}
    kept = {key: value for key, value in report.lora.metadata.items() if key == "glitch_recipe"}
    return kept | {
        "ss_base_model_version": family.kohya_base,
        "ss_network_module": "networks.lora",
        "ss_network_dim": "Dynamic" if len(report.lora.ranks) > 1 else str(report.lora.ranks[0]),
        "ss_training_comment": "Glitching the Gaze, carried over from another family",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": family.architecture,
        "modelspec.title": f"{report.lora.title} on {family.name}",
        TRANSFER_KEY: json.dumps(settings),
    }
