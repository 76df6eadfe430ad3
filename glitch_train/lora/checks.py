"""Whether the factors of a LoRA fit together, asked before any of them is read."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from ..errors import LoraFileError
from ..model.network import kernel_of
from ..model.tensor_file import DTYPES, dtype_of, shape_of
from .keys import DORA, DOWN, MID, UP

# Names are a hundred characters long, and the largest weight of SDXL has 2**25 values; both bounds
# are there so that a damaged file costs a sentence and no memory.
_LONGEST_KEY, _MOST_VALUES = 500, 2**27


def check_key(title: str, key: str) -> None:
    """Refuse a key that no program writes, and that no sentence could show.

    Raises:
        LoraFileError: names its beginning.
    """
    if len(key) > _LONGEST_KEY or not key.isprintable():
        raise LoraFileError(
            f"{title} has an entry called {key[:40]!r} …, which is no module's name; download or "
            "copy it again."
        )


def check_factors(
    title: str, name: str, keys: Mapping[str, str], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Refuse the factors of a module that are no low-rank product.

    Args:
        title: what to call the file.
        name: the module's name in it.
        keys: factor to key.
        tensors: the file.

    Raises:
        LoraFileError: says what is wrong with which.
    """
    for factor, other in ((DOWN, UP), (UP, DOWN)):
        if factor not in keys:
            lacking = f"its {other} factor but no {factor} factor"
            if other not in keys:
                lacking = "neither an up nor a down factor"
            raise LoraFileError(
                f"{title}: {name} has {lacking}; the file is incomplete, save or download it again."
            )
    for factor in keys.keys() & {DOWN, UP, MID, DORA}:
        dtype = dtype_of(tensors, keys[factor])
        if dtype is torch.bool or dtype not in DTYPES.values():
            raise LoraFileError(
                f"{title}: the {factor} factor of {name} is {str(dtype)[6:]}; "
                "LoRA factors must be real numbers."
            )
    _check_shapes(
        title,
        name,
        shape_of(tensors, keys[UP]),
        shape_of(tensors, keys[DOWN]),
        shape_of(tensors, keys[MID]) if MID in keys else None,
    )


def _check_shapes(
    title: str,
    name: str,
    up: tuple[int, ...],
    down: tuple[int, ...],
    mid: tuple[int, ...] | None,
) -> None:
    if len(up) not in (2, 4) or len(down) not in (2, 4) or kernel_of(up):
        raise LoraFileError(
            f"{title}: {name} has factors of shape {up} and {down}; they must be matrices or "
            "2D convolutions."
        )
    if 0 in up or 0 in down:
        raise LoraFileError(f"{title}: {name} has rank {up[1]}; the rank must be at least 1.")
    fits_mid = mid is None or (len(mid) == 4 and mid[1] == down[0] and not kernel_of(down))
    if up[1] != (mid or down)[0] or not fits_mid:
        raise LoraFileError(
            f"{title}: the factors of {name} do not fit together: up is {up}, down is {down}"
            f"{f', mid is {mid}' if mid else ''}."
        )
    inner = down[1] * math.prod((mid or down)[2:])
    if max(up[0], up[1]) * inner > _MOST_VALUES:
        raise LoraFileError(
            f"{title}: {name} is for a weight of {up[0]} × {inner}, larger than any of Stable "
            "Diffusion's; download or save it again."
        )
