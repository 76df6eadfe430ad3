"""Which number format a device trains in, and how much of its memory is used and free."""

from __future__ import annotations

import functools
import math
import sys

import torch

from ..errors import TrainingError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
    if dtype != torch.float32 and not _can_train_in(device, dtype):
        raise TrainingError(
            f"precision {precision} cannot be trained in on a device of the kind {device.type}; "
            "choose auto or fp32."
        )
    return dtype


@functools.cache
def _can_train_in(device: torch.device, dtype: torch.dtype) -> bool:
    """Find out whether a device computes in a format, and for fp16 scales gradients.

    What a device has differs by torch's version and the system's, so both are tried.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            value = torch.ones(1, 1, device=device, requires_grad=True)
            scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
            rounded = value.to(dtype)
            scaler.scale((rounded @ rounded).float().sum()).backward()
            scaler.unscale_(torch.optim.SGD([value], lr=0.0))
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ImportError):
        return False
    return True


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


def free_bytes(device: torch.device) -> float:
    """Return how much of a device's memory can still be had; infinite where nobody says.

    What torch has reserved and does not use counts as free, as the host reckons.

    Source: ComfyUI, comfy/model_management.py, ``get_free_memory``.
    """
    if device.type == "cuda":
        stats = torch.cuda.memory_stats(device)
        unused = stats.get("reserved_bytes.all.current", 0) - stats.get(
            "active_bytes.all.current", 0
        )
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type not in ("cpu", "mps"):
        return math.inf
    try:
        import psutil
    except ImportError:
        return math.inf
    return psutil.virtual_memory().available
