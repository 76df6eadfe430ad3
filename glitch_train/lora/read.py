"""LoRA files of every format as one in-memory form, refused with a sentence where they are not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..errors import LoraFileError
from ..model.network import TE1, TE2, kernel_of
from ..model.quantised import SCALES
from ..model.tensor_file import TensorFile, dtype_of, one_thread, shape_of
from .checks import check_factors, check_key
from .foreign import BUNDLED, refuse_other_adapters, refuse_other_files
from .keys import ALPHA, DORA, DOWN, MID, UP, format_of, split_key, split_name
from .peft import PEFT_HEAD, SECOND_WIDTH, PeftSettings, read_peft_folder, with_config_beside


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
        unread: entries left out, to their number format, which torch does not have.
        notes: what was taken for granted, one sentence each.
    """

    title: str
    modules: Mapping[str, LoraModule]
    extras: tuple[str, ...]
    tensors: Mapping[str, torch.Tensor] = dataclasses.field(repr=False)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unread: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
    def embeddings(self) -> tuple[str, ...]:
        """Names of the textual inversions that lie beside the factors."""
        bundled = (key for key in self.extras if key.startswith(BUNDLED))
        return tuple(dict.fromkeys(key.split(".")[1] for key in bundled))

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur."""
        return tuple(sorted({module.rank for module in self.modules.values()}))

    @property
    def energy(self) -> float:
        """Σ‖ΔW‖² over all modules."""
        return math.fsum(module.energy for module in self.modules.values())


def read_lora_file(path: Path) -> LoraFile:
    """Read a LoRA from a safetensors file, one module at a time, or from a folder of peft's.

    Raises:
        LoraFileError: says what the file is instead, or what is broken in it.
    """
    if path.is_dir():
        return read_lora(*_titled(path))
    file = TensorFile(path)
    for key, kind in file.unread.items():
        check_key(path.name, key)
        if split_key(key):
            raise LoraFileError(
                f"{path.name}: {key} is in {kind}, which torch does not have; save it again in "
                "fp16 or fp32."
            )
    metadata, note = with_config_beside(path, file.metadata, any(PEFT_HEAD in key for key in file))
    lora = read_lora(file, path.name, metadata)
    notes = (note, *lora.notes) if note else lora.notes
    return dataclasses.replace(lora, unread=file.unread, notes=notes)


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
    refuse_other_adapters(tensors, title)
    found, extras = _by_module(tensors, title)
    settings = PeftSettings(title, metadata or {})
    modules = {}
    for name, keys in found.items():
        if keys.keys() <= {ALPHA, DORA}:
            extras += keys.values()  # belongs to a whole difference, or to nothing
            continue
        check_factors(title, name, keys, tensors)
        with torch.no_grad(), one_thread():
            modules[name] = _module(title, name, keys, tensors, settings)
    if not modules:
        refuse_other_files(list(tensors), title)
    notes = tuple(note for note in (settings.note, _about_scales(modules, extras)) if note)
    return LoraFile(title, modules, tuple(extras), tensors, dict(metadata or {}), notes=notes)


def product_energy(up: torch.Tensor, down: torch.Tensor) -> float:
    """Return ‖up @ down‖²: the trace of two Gram matrices, or by way of the product if smaller.

    Args:
        up: (out, rank), fp32.
        down: (rank, in) or (rank, in, kh, kw), fp32.
    """
    flat = down.flatten(1)
    if up.shape[1] ** 2 > up.shape[0] * flat.shape[1]:
        return float((up @ flat).cpu().double().square().sum())
    grams = ((up.T @ up).cpu(), (flat @ flat.T).cpu())  # MPS has no float64
    energy = float((grams[0].double() * grams[1].double()).sum())
    return 0.0 if energy < 0.0 else energy  # rounding of a product of nearly nothing; NaN stays


def _titled(folder: Path) -> tuple[Mapping[str, torch.Tensor], str, Mapping[str, str]]:
    tensors, metadata = read_peft_folder(folder)
    return tensors, folder.resolve().name, metadata


def _by_module(
    tensors: Mapping[str, torch.Tensor], title: str
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the factors of each module, factor to key, and the keys that are no factors."""
    found: dict[str, dict[str, str]] = {}
    extras = []
    for key in tensors:
        check_key(title, key)
        split = None if key.startswith(BUNDLED) else split_key(key)
        if split is None:
            extras.append(key)
            continue
        factors = found.setdefault(split[0], {})
        if split[1] in factors:
            raise LoraFileError(
                f"{title} holds two LoRAs for {split[0]} ({factors[split[1]]} and {key}); "
                "save each adapter to a file of its own."
            )
        factors[split[1]] = key
    return found, extras


def _about_scales(modules: Mapping[str, LoraModule], extras: Sequence[str]) -> str:
    """Say of factors in integers, or with scales beside them, that they are plain numbers."""
    whole = [m for m in modules.values() if not m.dtype.is_floating_point]
    scales = sum(key.endswith(SCALES) for key in extras)
    if not whole and not scales:
        return ""
    found = f" ({scales} do)" if scales else ""
    kinds = ", ".join(sorted({str(m.dtype)[6:] for m in whole or modules.values()}))
    return (
        f"The factors of {len(whole or modules)} modules are {kinds}: taken as plain numbers, as "
        f"ComfyUI takes them; a scale that lies beside them{found} is not applied."
    )


def _module(
    title: str,
    name: str,
    keys: dict[str, str],
    tensors: Mapping[str, torch.Tensor],
    settings: PeftSettings,
) -> LoraModule:
    part, path = split_name(name) or ("", name)
    rank = shape_of(tensors, keys[UP])[1]
    widths = shape_of(tensors, keys[UP])[0], shape_of(tensors, keys[DOWN])[1]
    if part == TE1 and name.startswith(PEFT_HEAD) and SECOND_WIDTH in widths:
        part = TE2
    if ALPHA in keys and math.prod(shape_of(tensors, keys[ALPHA])) != 1:
        raise LoraFileError(
            f"{title}: the alpha of {name} is {shape_of(tensors, keys[ALPHA])}, where one number "
            "belongs; save or download the file again."
        )
    alpha = float(tensors[keys[ALPHA]]) if ALPHA in keys else settings.alpha(name, part, rank)
    module = LoraModule(name, part, path, keys, tensors, alpha)
    up, down = module.factors()
    energy = product_energy(up, down) * module.scale**2
    if not math.isfinite(energy):
        raise LoraFileError(
            f"{title}: {name} holds NaN or infinite numbers; the training it comes from diverged. "
            "Use an earlier save."
        )
    return dataclasses.replace(module, energy=energy)
