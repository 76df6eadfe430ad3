"""The trained weights that the pocket checkpoints ship with: narrow, in 8 bits.

Hosts recognise a model by 320 and 64 channels; the weights here have fewer. The others are zero,
which changes nothing that the model computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

from glitch_demo.pocket_unet import CHANNELS, UNetShape

WEIGHTS = Path(__file__).with_name("pocket_weights.safetensors")
SHA256 = "d7c95acb848b8820934cfd21e56124bf3e8e68a57c8377a316c1e94fe3d210ed"
SCALE = ".scale"  # what the name of an 8-bit weight's scales ends in
BASIS = "contexts"  # (48, 768): the directions of prompt embeddings that the UNet looks at
CONTEXT_WIDTH = 48
NARROW_SHAPE = UNetShape(
    context_width=CONTEXT_WIDTH,
    depths=((1,), (1,)),
    middle_depth=1,
    head_width=40,
    linear_proj=False,
    channels=80,
    emb_width=160,
)
"""SD1.5's pocket shape with a quarter of its channels and an eighth of its embedding."""
FAINT = 1e-4
# Two signals lie one behind the other: a skip behind its block's, a gate behind what it gates.
HALVED = frozenset({2 * CHANNELS, 8 * CHANNELS})
PROMPT_LAYERS = ("attn2.to_k.weight", "attn2.to_v.weight")


class DamagedWeightsError(RuntimeError):
    """The shipped file is not the one that was trained."""


def quantised(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in 8 bits, with a scale for every output channel; vectors in 16.

    Args:
        weights: name to float tensor.
    """
    packed = {}
    for name, weight in weights.items():
        if weight.ndim == 1:
            packed[name] = weight.half()
            continue
        sides = tuple(range(1, weight.ndim))
        scale = (weight.abs().amax(sides, keepdim=True) / 127).clamp_min(1e-7).half()
        packed[name] = (weight / scale.float()).round().to(torch.int8)
        packed[name + SCALE] = scale
    return packed


def shipped_weights(path: Path = WEIGHTS, sha256: str = SHA256) -> dict[str, Tensor]:
    """Read the shipped weights.

    Args:
        path: a file of `quantised` weights.
        sha256: of its bytes.

    Returns:
        Name to fp32 tensor, `unet.*`, `encoder.*`, `decoder.*` and `contexts`.

    Raises:
        DamagedWeightsError: it holds other bytes.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedWeightsError(
            f"{path} is not the file that was trained (its sha256 differs): check it out again."
        )
    packed = load(content)
    return {
        name: tensor.float() * packed[name + SCALE].float() if tensor.ndim > 1 else tensor.float()
        for name, tensor in packed.items()
        if not name.endswith(SCALE)
    }


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names begin with a prefix, without it.

    Args:
        weights: from `shipped_weights`.
        prefix: such as `unet.`.
    """
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


@torch.no_grad()
def widen(model: nn.Module, narrow: Mapping[str, Tensor], faint: float = 0.0) -> None:
    """Give a full model a narrow one's weights; all others become zero, or nearly.

    Args:
        model: changed in place.
        narrow: one weight for each of the model's, no side longer.
        faint: standard deviation of the rows that the narrow model lacks. Nothing reads what comes
            of them, but DoRA takes no rows of zeros.
    """
    stream = torch.Generator().manual_seed(0)
    for name, full in model.state_dict().items():
        full.zero_()
        if full.ndim > 1:
            full.copy_(faint * torch.randn(full.shape, generator=stream))
            full[_places(narrow[name].shape[0], full.shape[0])] = 0.0
        weight = narrow[name]
        places = [_places(n, of) for n, of in zip(weight.shape, full.shape, strict=True)]
        full[torch.meshgrid(*places, indexing="ij")] = weight


def for_prompts(narrow: Mapping[str, Tensor], basis: Tensor) -> dict[str, Tensor]:
    """Return a narrow UNet's weights with layers that read prompt embeddings of full width.

    Args:
        narrow: the UNet's weights.
        basis: (48, 768).
    """
    return {
        name: weight @ basis if name.endswith(PROMPT_LAYERS) else weight
        for name, weight in narrow.items()
    }


def _places(n: int, of: int) -> Tensor:
    """Where `n` rows go among `of`."""
    if of in HALVED and n < of:
        return torch.cat([torch.arange(n // 2), of // 2 + torch.arange(n // 2)])
    return torch.arange(n)
