"""DoRA magnitudes as the paper has them, and as the host applies them."""

from __future__ import annotations

import torch


def host_dora_scale(
    magnitude: torch.Tensor, weight: torch.Tensor, change: torch.Tensor
) -> torch.Tensor:
    """Return a DoRA's magnitudes as the host reads them: (out, 1) or (out, 1, 1, 1), fp32.

    Args:
        magnitude: as the paper and peft have them, one number an output.
        weight: the frozen weight, (out, in) or (out, in, kh, kw).
        change: ΔW, (out, everything else).

    The host makes ``dora_scale * (W + ΔW) / ‖W‖`` of them, by the norm of the frozen row where
    the paper and peft have that of the changed one; the quotient of both is part of the number.

    Source: ComfyUI comfy/weight_adapter/base.py, ``weight_decompose``.
    """
    with torch.inference_mode(False), torch.no_grad():
        frozen = weight.flatten(1).float()
        quotient = frozen.norm(dim=1) / (frozen + change).norm(dim=1)
        scale = magnitude.flatten() * quotient
        return scale.reshape(-1, *[1] * (weight.ndim - 1))


def paper_magnitude(
    scale: torch.Tensor, weight: torch.Tensor, change: torch.Tensor
) -> torch.Tensor:
    """Return what :func:`host_dora_scale` was made of: (out,), fp32.

    Args:
        scale: as the host reads it.
        weight: the frozen weight, (out, in) or (out, in, kh, kw).
        change: ΔW, (out, everything else).
    """
    return scale.flatten().float() / host_dora_scale(
        torch.ones(len(weight), device=weight.device), weight, change
    ).flatten().to(scale.device)
