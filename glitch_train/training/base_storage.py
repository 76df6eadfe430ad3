"""The frozen UNet kept in fewer bits than it computes with: fp8, or NF4 by bitsandbytes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_input

from ..errors import TrainingError

_FP8 = torch.float8_e4m3fn
# What lies outside is a few megabytes, and its errors would reach every block.
_BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")


def check_base_precision(base_precision: str) -> None:
    """Refuse a storage whose package is missing, before work starts.

    Raises:
        TrainingError: names the package.
    """
    if base_precision == "nf4":
        _bitsandbytes()


def store_base(
    unet: torch.nn.Module, base_precision: str, device: torch.device, dtype: torch.dtype
) -> None:
    """Move a UNet with its LoRA layers to a device, the frozen weights stored as asked; in place.

    Weights are replaced one after another, never written to: whoever shares them keeps them. The
    LoRA's factors stay fp32. peft makes its layers in the image of what they wrap, so they must be
    there already.

    Args:
        unet: the frozen UNet with its LoRA layers, none of them DoRA.
        base_precision: ``fp8`` stores the Linears and convolutions of the blocks, ``nf4`` the
            Linears.
        device: where it is to be.
        dtype: what it computes in, and what the other weights are stored in.

    Raises:
        TrainingError: for ``nf4`` without bitsandbytes.
    """
    store, kept = _STORAGES[base_precision], set()
    for name, module in list(unet.named_modules()):
        if name.startswith(_BLOCKS) and ".lora_" not in name:
            stored = store(module, device, dtype)
            if stored is not None:
                parent, _, own = name.rpartition(".")
                setattr(unet.get_submodule(parent), own, stored)
                kept.add(id(stored.weight))
    for parameter in unet.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(device)
        elif id(parameter) not in kept:  # by what was done: the base itself may come in fp8
            parameter.data = parameter.data.to(device, dtype)


def to_fp8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a weight in float8_e4m3fn, and what its outputs are to be multiplied by.

    Args:
        weight: (out, …), any float dtype.

    Returns:
        (out, …) fp8, and (out, 1, …) fp32 powers of two: multiplying by them rounds nothing.
    """
    exact = weight.detach().float()
    largest = exact.abs().amax(dim=tuple(range(1, exact.ndim)), keepdim=True)
    exponent = torch.frexp(largest / torch.finfo(_FP8).max).exponent
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    return (exact / scale).to(_FP8), scale


def saved_by_fp8(unet: torch.nn.Module) -> int:
    """Return how many bytes less a UNet takes once its blocks are stored as fp8."""
    saved = 0
    for name, module in unet.named_modules():
        stored = isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and ".lora_" not in name
        if stored and name.startswith(_BLOCKS):
            saved += module.weight.numel() * (module.weight.element_size() - 1)
            saved -= 4 * module.weight.shape[0]  # the scales
    return saved


class Fp8Linear(torch.nn.Linear):
    """A frozen Linear whose weight is fp8; it computes in the format of its input."""

    scale: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return ``input @ weightᵀ + bias``."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return _LinearFromFp8.apply(input, self.weight, self.scale, bias)


class Fp8Conv2d(torch.nn.Conv2d):
    """A frozen convolution whose weight is fp8; it computes in the format of its input."""

    scale: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the input."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        how = (self.stride, self.padding, self.dilation, self.groups)
        return _ConvolutionFromFp8.apply(input, self.weight, self.scale, bias, how)


class _LinearFromFp8(torch.autograd.Function):
    """Keeps the fp8 weight for the backward pass; torch would keep the upcast one."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, scale)
        return F.linear(x, _upcast(weight, scale, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        weight, scale = ctx.saved_tensors
        return grads[0] @ _upcast(weight, scale, grads[0].dtype), None, None, None


class _ConvolutionFromFp8(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        how: tuple[Any, ...],
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.how, ctx.shape = how, x.shape
        return F.conv2d(x, _upcast(weight, scale, x.dtype), bias, *how)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        weight, scale = ctx.saved_tensors
        upcast = _upcast(weight, scale, grads[0].dtype)
        grad = conv2d_input(list(ctx.shape), upcast, grads[0], *ctx.how)
        return grad, None, None, None, None


def _upcast(weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return weight.to(dtype) * scale.to(dtype)


def _as_fp8(
    module: torch.nn.Module, device: torch.device, dtype: torch.dtype
) -> torch.nn.Module | None:
    stored: Fp8Linear | Fp8Conv2d
    if isinstance(module, torch.nn.Linear):
        with torch.device("meta"):
            stored = Fp8Linear(module.in_features, module.out_features, module.bias is not None)
    elif isinstance(module, torch.nn.Conv2d):
        with torch.device("meta"):
            stored = Fp8Conv2d(
                module.in_channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                module.dilation,  # type: ignore[arg-type]
                module.groups,
                module.bias is not None,
            )
    else:
        return None
    weight, scale = to_fp8(module.weight.to(device))
    stored.weight = torch.nn.Parameter(weight, requires_grad=False)
    stored.register_buffer("scale", scale)
    stored.bias = module.bias
    return stored


def _as_nf4(
    module: torch.nn.Module, device: torch.device, dtype: torch.dtype
) -> torch.nn.Module | None:
    if not isinstance(module, torch.nn.Linear):
        return None
    nn = _bitsandbytes().nn
    with torch.device("meta"):
        stored = nn.Linear4bit(
            module.in_features,
            module.out_features,
            module.bias is not None,
            compute_dtype=dtype,
            quant_type="nf4",
        )
    weight = module.weight.detach().to(device, dtype)
    stored.weight = nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", module=stored
    ).to(device)  # fmt: skip
    stored.bias = module.bias
    return stored


_STORAGES: dict[
    str, Callable[[torch.nn.Module, torch.device, torch.dtype], torch.nn.Module | None]
] = {"fp8": _as_fp8, "nf4": _as_nf4}


def _bitsandbytes() -> Any:
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise TrainingError(
            "base_precision nf4 needs the package bitsandbytes, which is not installed; run "
            "pip install bitsandbytes, or choose fp8."
        ) from error
