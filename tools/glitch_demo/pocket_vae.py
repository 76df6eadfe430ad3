"""A tiny autoencoder in TAESD's layout.

Source of the layout: madebyollin/taesd, taesd.py.
"""

import itertools
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

WIDTHS = (64, 64, 64, 64)
"""Channels at 1, 1/2, 1/4 and 1/8 of the picture's size."""
LATENT_CHANNELS = 4
LATENT_LIMIT = 3.0  # TAESD's decoder squashes latents to ±3 with tanh(x / 3) * 3
PICTURE_PX = 128


class Squash(nn.Module):
    """Limit latents to ±3, smoothly."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any tensor to one of the same shape within ±3."""
        return torch.tanh(x / LATENT_LIMIT) * LATENT_LIMIT


class Block(nn.Module):
    """Three convolutions and a skip, then ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        a, b, c = (_conv(width, width) for _ in range(3))
        self.conv = nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c)
        self.fuse = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return self.fuse(self.conv(x) + x)


def make_encoder(widths: Sequence[int] = WIDTHS) -> nn.Sequential:
    """Return TAESD's encoder: (B, 3, H, W) in 0..1 to (B, 4, H/8, W/8).

    Args:
        widths: channels from the full size down; fewer than TAESD's for a narrow one.
    """
    down = [
        layer
        for wide, below in itertools.pairwise(widths)
        for layer in (_conv(wide, below, stride=2, bias=False), *_blocks(below, 3))
    ]
    ends = _conv(widths[-1], LATENT_CHANNELS)
    return nn.Sequential(_conv(3, widths[0]), *_blocks(widths[0], 1), *down, ends)


def make_decoder(widths: Sequence[int] = WIDTHS) -> nn.Sequential:
    """Return TAESD's decoder: (B, 4, h, w) to (B, 3, 8h, 8w) in about 0..1.

    Args:
        widths: channels from the full size down; fewer than TAESD's for a narrow one.
    """
    up = [
        layer
        for below, wide in itertools.pairwise(widths[::-1])
        for layer in (
            *_blocks(below, 3), nn.Upsample(scale_factor=2), _conv(below, wide, bias=False)
        )
    ]  # fmt: skip
    first = (Squash(), _conv(LATENT_CHANNELS, widths[-1]), nn.ReLU())
    return nn.Sequential(*first, *up, *_blocks(widths[0], 1), _conv(widths[0], 3))


def to_tensor(picture: Image.Image) -> Tensor:
    """Return an RGB picture as (3, H, W) float32 in 0..1."""
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(picture.height, picture.width, 3).permute(2, 0, 1).float() / 255


def vae_state(encoder: nn.Module, decoder: nn.Module, scale: float) -> dict[str, Tensor]:
    """Return an autoencoder as a checkpoint holds it, without the `first_stage_model.` prefix.

    Args:
        encoder: from `make_encoder`.
        decoder: from `make_decoder`.
        scale: the family's latent scale (0.18215 for SD1.5, 0.13025 for SDXL). Hosts multiply
            what the VAE returns by it; dividing first hands the UNet unit-variance latents.

    Returns:
        Tensors under `taesd_encoder.`, `taesd_decoder.`, `vae_scale` and `vae_shift`.
    """
    state = {f"taesd_encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    state |= {f"taesd_decoder.{name}": tensor for name, tensor in decoder.state_dict().items()}
    return state | {"vae_scale": torch.tensor(scale), "vae_shift": torch.tensor(0.0)}


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [Block(width) for _ in range(count)]


def _conv(n_in: int, n_out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, stride=stride, bias=bias)
