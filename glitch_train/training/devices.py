"""Which device, which number format, and whether activations are kept."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from typing import Any

import torch

from ..errors import TrainingError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Activations of one forward and backward pass, measured in bytes per latent pixel of a 16-bit
# SD1.5 UNet with scaled_dot_product_attention; SDXL keeps about twice as much.
_ACTIVATION_BYTES_PER_LATENT_PIXEL = 700_000


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the compute dtype for a precision setting.

    Args:
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``. ``auto`` is fp32 on a CPU: bf16
            without bf16 units is some thirty times slower.
        device: where training runs.

    Raises:
        TrainingError: for one that the device cannot train in.
    """
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if precision == "fp16" and device.type == "cpu":
        raise TrainingError("precision fp16 needs a GPU; on this CPU choose auto or fp32.")
    dtype = _DTYPES[precision]
    if dtype != torch.float32 and not _can_mix(device, dtype):
        raise TrainingError(
            f"precision {precision} cannot be trained in on a device of the kind {device.type}; "
            "choose auto or fp32."
        )
    return dtype


def mixed_precision(
    device: torch.device, dtype: torch.dtype
) -> contextlib.AbstractContextManager[Any]:
    """Return autocast to a 16-bit format, and for fp32 a block that changes nothing.

    Not a disabled autocast: a device that has none refuses that too, as DirectML's does.
    """
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@functools.cache
def _can_mix(device: torch.device, dtype: torch.dtype) -> bool:
    """Find out whether a device has autocast to a format, and for fp16 the scaler of gradients.

    What a device has differs by torch's version and the system's, so both are tried.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            with mixed_precision(device, dtype):
                if not torch.is_autocast_enabled(device.type):
                    return False
            if dtype == torch.float16:
                value = torch.zeros(1, device=device, requires_grad=True)
                scaler = torch.amp.GradScaler(device.type)
                scaler.scale(value.sum()).backward()
                scaler.unscale_(torch.optim.SGD([value], lr=0.0))
    except (RuntimeError, AssertionError, NotImplementedError, TypeError):
        return False
    return True


def wants_checkpointing(
    setting: str, device: torch.device, *, latent_pixels: int, batch_size: int, is_xl: bool
) -> bool:
    """Decide gradient checkpointing.

    Args:
        setting: ``on``, ``off`` or ``auto``, which compares the activations' expected size with
            the memory that is free.
        device: where training runs; the UNet is already there.
        latent_pixels: H/8 × W/8 of the largest training picture.
        batch_size: pictures per forward pass.
        is_xl: whether the UNet is of the SDXL family.
    """
    if setting != "auto":
        return setting == "on"
    needed = latent_pixels * batch_size * _ACTIVATION_BYTES_PER_LATENT_PIXEL * (2 if is_xl else 1)
    return needed > _free_bytes(device)


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory that was in use so far, in MiB: the GPU's, else the process's.

    NaN where the system does not say. Asking does not wait for the device.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return _peak_working_set() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _peak_working_set() -> float:
    """Return the most memory Windows gave this process, in bytes; NaN without psutil.

    Source: psutil's documentation, Process.memory_info, on Windows.
    """
    try:
        import psutil
    except ImportError:
        return math.nan
    return getattr(psutil.Process().memory_info(), "peak_wset", math.nan)


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        import psutil
    except ImportError:
        return float("inf")
    return psutil.virtual_memory().available / 2  # fp32 activations are twice as large
