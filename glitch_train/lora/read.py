"""LoRA files of every format as one in-memory form, refused with a sentence where they are not."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import LoraFileError
from ..model.network import kernel_of
from ..model.tensor_file import TensorFile, dtype_of, one_thread, shape_of
from ..plain_json import json_object
from .keys import ALPHA, DORA, DOWN, MID, UP, format_of, split_key, split_name

_FACTOR_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# A piece of a key that only this kind of file has, and what to say about it.
_NOT_LORA = (
    (".hada_w1_a", "a LoHa (LyCORIS), whose product is not low-rank; convert it to LoRA first"),
    (".lokr_w", "a LoKr (LyCORIS), whose product is not low-rank; convert it to LoRA first"),
    (".oft_", "an OFT adapter, which rotates weights; only LoRA, LoCon and DoRA are read"),
    (".on_input", "an (IA)³ adapter; only LoRA, LoCon and DoRA are read"),
    (".a1.weight", "a GLoRA; only LoRA, LoCon and DoRA are read"),
    ("lora_controlnet", "a Control-LoRA; load it as a ControlNet"),
    ("input_hint_block", "a ControlNet; load it as one"),
    ("lllite_", "a ControlNet-LLLite; load it with its own nodes"),
    ("emb_params", "a textual inversion; load it by embedding:name in the prompt"),
    ("model.diffusion_model.", "a full checkpoint, not a LoRA; load it as MODEL"),
    ("first_stage_model.", "a full checkpoint or VAE, not a LoRA; load it as MODEL or VAE"),
    ("cond_stage_model.", "a full checkpoint, not a LoRA; load it as MODEL"),
    ("conditioner.embedders.", "a full checkpoint, not a LoRA; load it as MODEL"),
)


class NotCarriedOver(LoraFileError):
    """A whole file of a kind or family that is recognised, but not carried over."""

    def __init__(self, title: str, what: str, advice: str) -> None:
        """Say what the file called ``title`` is, and what to do."""
        super().__init__(f"{title} is {what}{advice}.")
        self.what = what


@dataclasses.dataclass(frozen=True)
class LoraModule:
    """The factors of one module; ``ΔW = up @ down * scale``.

    Attributes:
        name: the module's name in the file.
        part: ``unet``, ``te1``, ``te2``, or empty for an unknown part.
        path: its name without prefix, underscored; see :func:`.keys.split_name`.
        keys: factor to key in the file.
        tensors: the file, or the state dict.
        alpha: None where the file has none, which means a scale of 1.
        energy: ‖ΔW‖², the squared Frobenius norm.
        kernel: of a convolution whose down factor is stored flat, (rank, in · kh · kw), as the
            host's own trainer does; empty otherwise.
    """

    name: str
    part: str
    path: str
    keys: Mapping[str, str]
    tensors: Mapping[str, torch.Tensor] = dataclasses.field(repr=False)
    alpha: float | None
    energy: float = math.nan
    kernel: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """Inner dimension."""
        return self._shape(UP)[1]

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight it patches; 1×1 kernels are left out."""
        kernel = self.kernel or kernel_of(self._shape(MID if MID in self.keys else DOWN))
        return (self._shape(UP)[0], self._shape(DOWN)[1] // math.prod(self.kernel), *kernel)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the factors."""
        return dtype_of(self.tensors, self.keys[DOWN])

    def tensor(self, factor: str) -> torch.Tensor | None:
        """Return a factor as it is in the file, or None."""
        key = self.keys.get(factor)
        return None if key is None else self.tensors[key]

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors in fp32: up (out, rank), down (rank, in) or (rank, in, kh, kw).

        A LoCon's middle factor is multiplied into down, which is exact.
        """
        up = self.tensors[self.keys[UP]].float().flatten(1)
        down = self.tensors[self.keys[DOWN]].float()
        if self.kernel:
            down = down.unflatten(1, (-1, *self.kernel))
        mid = self.tensor(MID)
        if mid is not None:
            down = torch.einsum("abxy,bi->aixy", mid.float(), down.flatten(1))
        return up, down if kernel_of(down.shape) else down.flatten(1)

    def _shape(self, factor: str) -> tuple[int, ...]:
        return shape_of(self.tensors, self.keys[factor])


@dataclasses.dataclass(frozen=True)
class LoraFile:
    """A LoRA of any format.

    Attributes:
        title: what to call it.
        modules: name in the file to module.
        extras: keys of entries that are no factors, such as whole differences.
        tensors: the file, or the state dict.
        metadata: text metadata; empty for a state dict.
    """

    title: str
    modules: Mapping[str, LoraModule]
    extras: tuple[str, ...]
    tensors: Mapping[str, torch.Tensor] = dataclasses.field(repr=False)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def format(self) -> str:
        """In whose format its modules are named."""
        return format_of(list(self.modules))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it is made of: LoRA, LoCon (convolutions with a kernel), DoRA."""
        found = []
        if any(not module.shape[2:] for module in self.modules.values()):
            found.append("LoRA")
        if any(module.shape[2:] for module in self.modules.values()):
            found.append("LoCon")
        if any(DORA in module.keys for module in self.modules.values()):
            found.append("DoRA")
        return tuple(found)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur."""
        return tuple(sorted({module.rank for module in self.modules.values()}))

    @property
    def energy(self) -> float:
        """Σ‖ΔW‖² over all modules."""
        return math.fsum(module.energy for module in self.modules.values())


def read_lora_file(path: Path) -> LoraFile:
    """Read a LoRA from a safetensors file, one module at a time.

    Raises:
        LoraFileError: says what the file is instead, or what is broken in it.
    """
    file = TensorFile(path)
    return read_lora(file, path.name, file.metadata)


def read_lora(
    tensors: Mapping[str, torch.Tensor], title: str, metadata: Mapping[str, str] | None = None
) -> LoraFile:
    """Read a LoRA from its tensors; every factor is checked, and every module measured.

    Args:
        tensors: keys of any format to factors.
        title: what to call it in errors and reports.
        metadata: text metadata, where peft's alpha stands.

    Raises:
        LoraFileError: says what the tensors are instead, or what is broken in them.
    """
    _refuse_what_is_no_lora(tensors, title)
    found: dict[str, dict[str, str]] = {}
    extras = []
    for key in tensors:
        split = split_key(key)
        if split is None:
            extras.append(key)
        else:
            found.setdefault(split[0], {})[split[1]] = key
    stated = _peft_alphas(metadata or {})
    modules = {}
    for name, keys in found.items():
        if keys.keys() <= {ALPHA, DORA}:
            extras += keys.values()  # belongs to a whole difference, or to nothing
            continue
        _check_factors(title, name, keys, tensors)
        with torch.no_grad(), one_thread():
            modules[name] = _module(title, name, keys, tensors, stated)
    if not modules:
        raise LoraFileError(f"{title} holds no LoRA factors; choose a LoRA, LoCon or DoRA file.")
    return LoraFile(title, modules, tuple(extras), tensors, dict(metadata or {}))


def product_energy(up: torch.Tensor, down: torch.Tensor) -> float:
    """Return ‖up @ down‖² without building the product: the trace of two Gram matrices.

    Args:
        up: (out, rank), fp32.
        down: (rank, in) or (rank, in, kh, kw), fp32.
    """
    flat = down.flatten(1)
    grams = ((up.T @ up).cpu(), (flat @ flat.T).cpu())  # MPS has no float64
    energy = float((grams[0].double() * grams[1].double()).sum())
    return 0.0 if energy < 0.0 else energy  # rounding of a product of nearly nothing; NaN stays


def _refuse_what_is_no_lora(tensors: Mapping[str, torch.Tensor], title: str) -> None:
    for key in tensors:
        for piece, what in _NOT_LORA:
            if piece in key:
                kind, mark, advice = re.split("([,;])", what, maxsplit=1)
                raise NotCarriedOver(title, kind, mark + advice)


def _check_factors(
    title: str, name: str, keys: Mapping[str, str], tensors: Mapping[str, torch.Tensor]
) -> None:
    for factor, other in ((DOWN, UP), (UP, DOWN)):
        if factor not in keys:
            raise LoraFileError(
                f"{title}: {name} has its {other} factor but no {factor} factor; the file is "
                "incomplete, save or download it again."
            )
    for factor in keys.keys() & {DOWN, UP, MID, DORA}:
        dtype = dtype_of(tensors, keys[factor])
        if dtype not in _FACTOR_DTYPES:
            raise LoraFileError(
                f"{title}: the {factor} factor of {name} is {str(dtype)[6:]}; "
                "LoRA factors must be fp16, bf16, fp32 or fp64."
            )
    up, down = shape_of(tensors, keys[UP]), shape_of(tensors, keys[DOWN])
    mid = shape_of(tensors, keys[MID]) if MID in keys else None
    if len(up) not in (2, 4) or len(down) not in (2, 4) or kernel_of(up):
        raise LoraFileError(
            f"{title}: {name} has factors of shape {up} and {down}; they must be matrices or "
            "2D convolutions."
        )
    if 0 in up or 0 in down:
        raise LoraFileError(f"{title}: {name} has rank {up[1]}; the rank must be at least 1.")
    if up[1] != (mid or down)[0] or (mid and (len(mid) != 4 or mid[1] != down[0])):
        raise LoraFileError(
            f"{title}: the factors of {name} do not fit together: up is {up}, down is {down}."
        )


def _module(
    title: str,
    name: str,
    keys: dict[str, str],
    tensors: Mapping[str, torch.Tensor],
    stated: Mapping[str, Any],
) -> LoraModule:
    part, path = split_name(name) or ("", name)
    rank = shape_of(tensors, keys[UP])[1]
    if ALPHA in keys and math.prod(shape_of(tensors, keys[ALPHA])) != 1:
        raise LoraFileError(
            f"{title}: the alpha of {name} is {shape_of(tensors, keys[ALPHA])}, where one number "
            "belongs; save or download the file again."
        )
    alpha = float(tensors[keys[ALPHA]]) if ALPHA in keys else _peft_alpha(part, name, rank, stated)
    module = LoraModule(name, part, path, keys, tensors, alpha)
    up, down = module.factors()
    energy = product_energy(up, down) * module.scale**2
    if not math.isfinite(energy):
        raise LoraFileError(
            f"{title}: {name} holds NaN or infinite numbers; the training it comes from diverged. "
            "Use an earlier save."
        )
    return dataclasses.replace(module, energy=energy)


def _peft_alphas(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return diffusers' ``lora_adapter_metadata``: peft settings under ``unet.lora_alpha`` …"""
    return json_object(metadata.get("lora_adapter_metadata", ""))


def _peft_alpha(part: str, name: str, rank: int, stated: Mapping[str, Any]) -> float | None:
    """Return the alpha that peft's settings give a module, None without settings."""
    head = {"unet": "unet.", "te1": "text_encoder.", "te2": "text_encoder_2."}.get(part, "")
    alpha = stated.get(f"{head}lora_alpha")
    for pattern, value in (stated.get(f"{head}alpha_pattern") or {}).items():
        if name.endswith(pattern):
            alpha = value
    if not isinstance(alpha, (int, float)):
        return None
    return float(alpha) * math.sqrt(rank) if stated.get(f"{head}use_rslora") else float(alpha)
