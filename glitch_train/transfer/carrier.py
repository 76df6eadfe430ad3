"""Feeds the modules of a network, one after another, from those of a LoRA."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch

from ..errors import LoraFileError
from ..lora.dora import host_dora_scale
from ..lora.family import named_modules
from ..lora.keys import ALPHA, DORA, DOWN, MID, PEFT_MAGNITUDE, UP, lora_name
from ..lora.read import LoraFile, LoraModule
from ..model.network import GATED, UNET, Module, Network
from .base import Base
from .fit import Factors, add_up, fit_factors, truncate
from .loudness import estimated_norm, gain
from .mapping import Group
from .recipe import TransferRecipe
from .report import Patch, Skipped, TransferReport, skipped_modules

_FACTOR_KEYS = {DOWN: "lora_down.weight", UP: "lora_up.weight", MID: "lora_mid.weight"}
# What is computed from other formats is written as fp32: fp8 and integers would round it away.
_SAVED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class Carrier:
    """Carries module after module, and keeps what came out.

    Attributes:
        state: the factors so far, by their keys in the new file.
        patches: what was done.
        dora_dropped: how many modules lost a DoRA magnitude.
        dora_as_read: how many have peft's magnitudes, which the host takes otherwise.
        extras_kept: whether entries that are no factors were kept.
    """

    def __init__(
        self,
        lora: LoraFile,
        origin: Network,
        target: Base,
        recipe: TransferRecipe,
        source: Base | None,
    ) -> None:
        """Begin with nothing.

        Args:
            lora: what is carried, with the kernels of ``origin``.
            origin: the network that it was made for.
            target: the network that it is to patch.
            recipe: fit, depth, norm and seed.
            source: ``origin`` with its weights, where they are at hand.
        """
        self.state: dict[str, torch.Tensor] = {}
        self.patches: list[Patch] = []
        self.dora_dropped = self.dora_as_read = 0
        self.extras_kept = False
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
        by = gain(self._recipe, target, energy, sources, self._norm_of_target, self._norm_of_source)
        if factors:
            self._write(target, sources[0], dataclasses.replace(factors, scale=factors.scale * by))
            self.dora_dropped += any(DORA in module.keys for module in sources)
        else:
            self._copy(target, sources[0], by)
        loudness = math.sqrt(energy) * by / max(self._norm_of_target(target), 1e-30)
        names = tuple(module.name for module in sources)
        self.patches.append(Patch(target, names, exact, energy * by**2, loudness))

    def carry_extras(self) -> None:
        """Keep entries that are no factors or of modules nobody knows, where nothing moves."""
        same = _same_unet(self._origin, self._target.network)
        self.extras_kept = same and self._recipe.mapping != "shuffled"
        if self.extras_kept:
            modules = self._lora.modules.values()
            unknown = (one.keys.values() for one in modules if one.name not in self._key_of)
            for key in itertools.chain(self._lora.extras, *unknown):
                self.state.setdefault(key, self._lora.tensors[key].clone())

    def report(self, offered: Collection[str]) -> TransferReport:
        """Return what went where.

        Args:
            offered: names of the LoRA's modules that the mapping had a place for.
        """
        target, recipe = self._target, self._recipe
        of_lora = (recipe.mapping, self._lora, self._origin, target.network)
        skipped = skipped_modules(*of_lora, self.patches, offered)
        return TransferReport(
            lora=self._lora,
            source=self._origin,
            target=target.network,
            recipe=recipe,
            patches=tuple(self.patches),
            skipped=tuple(map(self._with_what_was_kept, skipped)),
            extras_kept=self.extras_kept,
            dora_dropped=self.dora_dropped,
            dora_as_read=self.dora_as_read,
            target_measured=target.measured is not None,
            source_measured=self._norm_of_source is not None,
        )

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
        dtype = like.dtype if like.dtype in _SAVED_DTYPES else torch.float32
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
            shaped = _host_magnitude(magnitude, target, module.keys[DORA])
            if PEFT_MAGNITUDE in module.keys[DORA]:
                shaped = self._host_scale(shaped, target, module)
            self.state[f"{name}.dora_scale"] = shaped.detach().cpu().clone()
        else:
            self.dora_dropped += 1

    def _host_scale(
        self, magnitude: torch.Tensor, target: Module, module: LoraModule
    ) -> torch.Tensor:
        """Turn peft's magnitudes into the host's numbers, where the weight is at hand."""
        if self._target.weight is None:
            self.dora_as_read += 1
            return magnitude
        up, down = module.factors()
        change = up @ down.flatten(1) * module.scale
        weight = self._target.weight(target).detach().cpu()
        return host_dora_scale(magnitude.float(), weight, change)

    def _with_what_was_kept(self, one: Skipped) -> Skipped:
        if not self.extras_kept or one.name in self._key_of:
            return one
        return Skipped(one.name, f"{one.reason}; kept under its own name")

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


def _host_magnitude(magnitude: torch.Tensor, target: Module, key: str) -> torch.Tensor:
    """Give a DoRA's magnitudes the shape in which the host multiplies them into the weight.

    Peft keeps (out,), or (1, out, 1, 1) for convolutions; LyCORIS (out, 1, …), or in its early
    versions (1, in, …), one number per input.

    Source: ComfyUI comfy/weight_adapter/base.py, ``weight_decompose``.
    """
    by_input = magnitude.ndim > 1 and magnitude.shape[0] == 1 and PEFT_MAGNITUDE not in key
    ones = (1,) * (len(target.shape) - 2)
    shape = (1, target.n_in, *ones) if by_input else (target.n_out, 1, *ones)
    if magnitude.numel() != max(shape):
        raise LoraFileError(
            f"{key} has {magnitude.numel()} magnitudes where the weight has {max(shape)}; save or "
            "download the LoRA again."
        )
    return magnitude.reshape(shape)


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
