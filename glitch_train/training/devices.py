"""Which number format a device trains in, and how much of its memory is used and free."""

from __future__ import annotations

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
        TrainingError: for fp16 on a CPU, which cannot train.
    """
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if precision == "fp16" and device.type == "cpu":
        raise TrainingError("precision fp16 needs a GPU; on this CPU choose auto or fp32.")
    return _DTYPES[precision]


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory that was in use so far, in MiB: the GPU's, else the process's.

    NaN where the system does not say. Asking does not wait for the device.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


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
    try:
        import psutil
    except ImportError:
        return math.inf
    return psutil.virtual_memory().available
