"""A LoRA of one model family carried over to another, on purpose."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence

import torch

from ..errors import LoraFileError
from ..lora.family import named_modules, source_network, with_kernels
from ..lora.keys import ALPHA, DORA, DOWN, MID, UP, lora_name
from ..lora.read import LoraFile, LoraModule
from ..model.network import GATED, UNET, Module, Network
from ..model.tensor_file import one_thread
from .fit import Factors, add_up, fit_factors, truncate
from .loudness import NormOf, estimated_norm, gain
from .mapping import Group, make_plan
from .recipe import SECOND_ENCODER, TransferRecipe
from .report import Patch, TransferReport, skipped_modules

TRANSFER_KEY = "glitch_transfer"
"""Metadata key under which the settings of the transfer are kept as JSON."""

_FACTOR_KEYS = {DOWN: "lora_down.weight", UP: "lora_up.weight", MID: "lora_mid.weight"}
# fp64 files are written as fp32: no tool trains or applies LoRAs in fp64.
_SAVED_DTYPES = {torch.float64: torch.float32}


@dataclasses.dataclass(frozen=True)
class Base:
    """A network, and the norms of its weights where they are at hand.

    Attributes:
        network: its modules.
        measured: ‖W‖ of a module, or None when no weights are at hand.
    """

    network: Network
    measured: NormOf | None = None


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
    carrier = _Carrier(lora, origin, target, recipe, source)
    with torch.inference_mode(False), torch.no_grad(), one_thread():
        for done, (key, groups) in enumerate(plan.items(), start=1):
            carrier.carry(target.network.modules[key], groups)
            if on_progress:
                on_progress(done, len(plan))
    extras = carrier.carry_extras()
    offered = {m.name for groups in plan.values() for group in groups for m in group}
    report = TransferReport(
        lora=lora,
        source=origin,
        target=target.network,
        recipe=recipe,
        patches=tuple(carrier.patches),
        skipped=skipped_modules(
            recipe.mapping, lora, origin, target.network, carrier.patches, offered
        ),
        extras_kept=extras,
        dora_dropped=carrier.dora_dropped,
        target_measured=target.measured is not None,
        source_measured=source is not None and source.measured is not None,
    )
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


class _Carrier:
    """Carries module after module, and keeps what came out."""

    def __init__(
        self,
        lora: LoraFile,
        origin: Network,
        target: Base,
        recipe: TransferRecipe,
        source: Base | None,
    ) -> None:
        self.state: dict[str, torch.Tensor] = {}
        self.patches: list[Patch] = []
        self.dora_dropped = 0
        self._lora, self._origin, self._target, self._recipe = lora, origin, target, recipe
        self._key_of = {m.name: key for key, m in named_modules(lora, origin).items()}
        self._norm_of_target = target.measured or estimated_norm
        self._norm_of_source = _norms_of_lora(source, self._key_of)

    def carry(self, target: Module, groups: Sequence[Group]) -> None:
        """Feed one target module."""
        chosen = [_chosen(group, self._recipe.depth) for group in groups]
        sources = [module for group in chosen for module in group]
        exact = len(sources) == 1 and sources[0].shape[:2] == (target.n_out, target.n_in)
        factors = None if exact else self._fitted(target, chosen)
        energy = factors.energy if factors else sources[0].energy
        by = gain(
            self._recipe,
            target,
            energy,
            sources,
            self._norm_of_target,
            self._norm_of_source,
        )
        if factors:
            self._write(target, sources[0], dataclasses.replace(factors, scale=factors.scale * by))
            self.dora_dropped += any(DORA in module.keys for module in sources)
        else:
            self._copy(target, sources[0], by)
        loudness = math.sqrt(energy) * by / max(self._norm_of_target(target), 1e-30)
        names = tuple(module.name for module in sources)
        self.patches.append(Patch(target, names, exact, energy * by**2, loudness))

    def carry_extras(self) -> bool:
        """Keep entries that are no factors where nothing moves; say whether they were kept."""
        same = self._recipe.mapping != "shuffled" and _same_unet(self._origin, self._target.network)
        if same:
            for key in self._lora.extras:
                self.state.setdefault(key, self._lora.tensors[key].clone())
        return same

    def _fitted(self, target: Module, groups: Sequence[Group]) -> Factors:
        return add_up([self._combined(target, group) for group in groups])

    def _combined(self, target: Module, group: Group) -> Factors:
        halves = 2 if target.role.job == GATED else 1
        fitted = []
        for module in group:
            up, down = module.factors()
            fitted.append(
                fit_factors(
                    Factors(up, down, module.scale),
                    target.n_out,
                    target.n_in,
                    fit=self._recipe.fit,
                    seed=self._recipe.seed,
                    halves=halves,
                )
            )
        total = add_up(fitted)
        if self._recipe.depth not in ("mean", "sum") or len(fitted) == 1:
            return total
        share = 1 / len(fitted) if self._recipe.depth == "mean" else 1.0
        total = dataclasses.replace(total, scale=total.scale * share)
        return truncate(total, max(part.rank for part in fitted), self._recipe.seed)

    def _write(self, target: Module, like: LoraModule, factors: Factors) -> None:
        name = lora_name(self._target.network, target)
        dtype = _SAVED_DTYPES.get(like.dtype, like.dtype)
        down, up = factors.down, factors.up
        if len(target.shape) == 4 and down.ndim == 2:
            down = down[:, :, None, None]
        if len(target.shape) == 4:
            up = up[:, :, None, None]
        self.state[f"{name}.lora_down.weight"] = down.to(dtype, copy=True).contiguous()
        self.state[f"{name}.lora_up.weight"] = up.to(dtype, copy=True).contiguous()
        self.state[f"{name}.alpha"] = torch.tensor(factors.scale * factors.rank)

    def _copy(self, target: Module, module: LoraModule, by: float) -> None:
        """Take the factors as they are; only a gain changes alpha."""
        name = lora_name(self._target.network, target)
        for factor, suffix in _FACTOR_KEYS.items():
            value = module.tensor(factor)
            if value is not None:
                flat_kernel = module.kernel if factor == DOWN else ()
                shaped = _like_weight(value, target, flat_kernel)
                self.state[f"{name}.{suffix}"] = shaped.detach().cpu().clone().contiguous()
        alpha = module.tensor(ALPHA)
        if by == 1.0 and alpha is not None:
            self.state[f"{name}.alpha"] = alpha.detach().cpu().clone()
        else:
            self.state[f"{name}.alpha"] = torch.tensor(module.scale * module.rank * by)
        magnitude = module.tensor(DORA)
        if magnitude is None:
            return
        if self._recipe.mapping == "by_name" or self._stays(module, target):
            self.state[f"{name}.dora_scale"] = magnitude.detach().cpu().clone()
        else:
            self.dora_dropped += 1

    def _stays(self, module: LoraModule, target: Module) -> bool:
        same_family = self._origin.family is self._target.network.family
        return same_family and self._key_of.get(module.name) == target.key


def _norms_of_lora(
    source: Base | None, key_of: Mapping[str, str]
) -> Callable[[LoraModule], float] | None:
    """Return ‖W‖ of the weight that a module of the LoRA was trained on, where it is at hand."""
    if source is None or source.measured is None:
        return None
    network, measured = source.network, source.measured

    def norm_of(module: LoraModule) -> float:
        key = key_of.get(module.name)
        return measured(network.modules[key]) if key else 0.0

    return norm_of


def _chosen(group: Group, depth: str) -> Group:
    """Return the blocks of a group that the depth setting uses."""
    if depth == "first":
        return group[:1]
    return group[-1:] if depth == "last" else group


def _like_weight(factor: torch.Tensor, target: Module, kernel: Sequence[int]) -> torch.Tensor:
    """Give a factor the number of dimensions of the weight it patches.

    Args:
        factor: as in the file.
        target: the module.
        kernel: of a down factor that is stored flat, else empty.
    """
    if kernel:
        return factor.unflatten(1, (-1, *kernel))
    if len(target.shape) == 4 and factor.ndim == 2:
        return factor[:, :, None, None]
    return factor.flatten(1) if len(target.shape) == 2 and factor.ndim == 4 else factor


def _same_unet(one: Network, other: Network) -> bool:
    def unet(network: Network) -> dict[str, tuple[int, ...]]:
        return {m.key: m.shape for m in network.modules.values() if m.role.part == UNET}

    return one.family is other.family and unet(one) == unet(other)


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
