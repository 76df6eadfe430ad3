"""An autoencoder in TAESD's layout that draws what corruptions leave behind.

One latent of four says, by its local mean, how broken a picture is: positive where JPEG crushed it,
negative where noise lies on it. Four numbers cannot hold the 64 pixels of a crushed block, or of
noise; with that one they can say *that* it is crushed, and the decoder draws it so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glitch_demo.photos import Photo
from glitch_demo.pocket_vae import Block, make_decoder, make_encoder
from glitch_demo.terminal import say

from .cpu import fast_autocast
from .pictures import corrupted, crop, source
from .state import averaged, load_state, save_state

WIDTHS = (24, 32, 64, 64)
"""Channels that are used at 1, 1/2, 1/4 and 1/8 of the picture's size; TAESD has 64 at each."""
STEPS = 9000
BATCH_SIZE = 4
BLOCK_GAIN = 0.3  # of what a block adds at first
LEARNING_RATE, LAST_SHARE, WARMUP = 1.5e-3, 0.02, 100
DECODER_STEPS, DECODER_LEARNING_RATE = 800, 5e-4
WHOLE, STRETCHED = 0.3, 0.35
LATENT_NOISE = 0.1  # what the decoder must forgive
BROKEN_CHANNEL = 3
EMA = 0.004
SAVE_EVERY, SAY_EVERY = 500, 100
LEAST_SPREAD = 0.02  # of tones, so that a black picture does not rule
LUMA = (0.299, 0.587, 0.114)


def autoencoder() -> nn.ModuleDict:
    """Return narrow `encoder` and `decoder`, untrained."""
    both = nn.ModuleDict({"encoder": make_encoder(WIDTHS), "decoder": make_decoder(WIDTHS)})
    for module in both.modules():
        if isinstance(module, Block):
            with torch.no_grad():
                module.conv[4].weight.mul_(BLOCK_GAIN)
    _start_with_edges(both["encoder"][0])
    return both


@torch.no_grad()
def _start_with_edges(first: nn.Conv2d) -> None:
    """Let some channels see what differs from pixel to pixel: chance finds no trace of JPEG."""
    ridge = torch.tensor([1.0, -2.0, 1.0])
    across = torch.zeros(3, 3)
    across[1] = 3 * ridge
    crossed = torch.outer(ridge, ridge) * 4 / 3
    luma = torch.tensor(LUMA).view(3, 1, 1)
    for index, kernel in enumerate((crossed, across, across.T)):
        first.weight[2 * index] = luma * kernel
        first.weight[2 * index + 1] = -luma * kernel
        first.bias[2 * index : 2 * index + 2] = 0.0


def train_autoencoder(
    photos: Sequence[Photo], path: Path, keep_encoder_of: Path | None = None, seed: int = 1
) -> None:
    """Train, or go on training, and keep the state in a file.

    Args:
        photos: what to learn to draw.
        path: the state; its `ema` holds the weights to use, decoder last.
        keep_encoder_of: a finished state: its encoder stays as it is, so that a UNet may be trained
            on its latents, and its decoder learns on.
        seed: of weights, crops and corruptions.
    """
    torch.manual_seed(seed)
    both = autoencoder()
    steps, rate = STEPS, LEARNING_RATE
    if keep_encoder_of is not None:
        averaged(both, keep_encoder_of)
        both["decoder"].requires_grad_(True)
        steps, rate = DECODER_STEPS, DECODER_LEARNING_RATE
    both.to(memory_format=torch.channels_last)
    encoder, decoder = both["encoder"], both["decoder"]
    parameters = [parameter for parameter in both.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    step, ema = load_state(path, both, optimizer)
    rng = random.Random(seed + step)
    torch.manual_seed(seed + step)
    sources = [source(photo) for photo in photos]
    begun, said = time.monotonic(), []
    while step < steps:
        pictures, broken = zip(
            *(
                corrupted(crop(rng.choice(sources), rng, WHOLE, STRETCHED), rng)
                for _ in range(BATCH_SIZE)
            ),
            strict=True,
        )
        target = torch.stack(pictures).contiguous(memory_format=torch.channels_last)
        with fast_autocast():
            latents = encoder(target)
        latents = latents.float()
        noisy = latents + LATENT_NOISE * torch.randn_like(latents)
        with fast_autocast():
            drawn = decoder(noisy.contiguous(memory_format=torch.channels_last))
        parts = losses(drawn.float(), target, latents, torch.tensor(broken))
        optimizer.zero_grad()
        sum(parts).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        share = max(LAST_SHARE, 1 - step / steps) * min(1.0, (step + 1) / WARMUP)
        optimizer.param_groups[0]["lr"] = rate * share
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(ema, [p.detach() for p in both.parameters()], max(EMA, 1 / step))
        said.append([part.item() for part in parts])
        if step % SAY_EVERY == 0:
            means = [sum(column) / len(column) for column in zip(*said, strict=True)]
            parts = " ".join(f"{mean:.4f}" for mean in means)
            say(f"{step}: {time.monotonic() - begun:.0f} s, {parts}")
            said = []
        if step % SAVE_EVERY == 0 or step == steps:
            save_state(path, both, optimizer, step, ema)


def losses(drawn: Tensor, target: Tensor, latents: Tensor, broken: Tensor) -> tuple[Tensor, ...]:
    """Return what is minimised: colours, coarse colours, contrast, texture, latents, brokenness.

    Args:
        drawn: (B, 3, H, W) what the decoder drew.
        target: (B, 3, H, W) what it should have drawn.
        latents: (B, 4, H/8, W/8) what the encoder made of the target.
        broken: (B,) how broken each target is.
    """
    pixels = F.l1_loss(drawn, target)
    coarse = F.l1_loss(F.avg_pool2d(drawn, 4), F.avg_pool2d(target, 4))
    tones = _tones(target)
    apart = (_tones(drawn) - tones).abs().mean((1, 2)) / (tones.std((1, 2)) + LEAST_SPREAD)
    contrast = 0.2 * apart.mean() + F.l1_loss(_saturation(drawn), _saturation(target))
    texture = sum(F.l1_loss(a, b) for a, b in zip(_texture(drawn), _texture(target), strict=True))
    free = latents[:, :BROKEN_CHANNEL]
    unit = free.mean((0, 2, 3)).square().sum() + (free.std((0, 2, 3)) - 1).square().sum()
    told = F.avg_pool2d(latents[:, BROKEN_CHANNEL:], 4) - broken.view(-1, 1, 1, 1)
    beyond = F.relu(latents.abs() - 2.7).square().mean()  # TAESD's decoder squashes at 3
    spread = 0.02 * unit + 0.5 * beyond
    return pixels, coarse, contrast, 0.5 * texture, spread, 0.5 * told.square().mean()


def _texture(pictures: Tensor) -> list[Tensor]:
    """Energy of what neighbours do not share, steps at columns and rows, coloured noise."""
    luma = (pictures * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    crossed = luma.diff(n=2, dim=2).diff(n=2, dim=3).abs() / 6
    found = [4 * _root(F.avg_pool2d(F.pad(crossed, (1, 1, 1, 1)), 8))]
    for plane in (luma, luma.transpose(2, 3)):
        step = plane.diff(dim=3)
        jump = (step[..., 1:-1] - (step[..., :-2] + step[..., 2:]) / 2).abs()
        found.append(2 * _root(F.avg_pool2d(jump, (16, 1))))
    colour = (pictures - luma).diff(dim=3).abs()
    return [*found, 2 * _root(F.avg_pool2d(colour, 8))]


def _tones(pictures: Tensor) -> Tensor:
    """All tones of a reduced picture from dark to bright, wherever they lie, for each colour."""
    return F.avg_pool2d(pictures, 2).flatten(2).sort(-1).values


def _saturation(pictures: Tensor) -> Tensor:
    return (pictures - pictures.mean(1, keepdim=True)).square().mean((1, 2, 3)).add(1e-4).sqrt()


def _root(values: Tensor) -> Tensor:
    return (values + 1e-3).sqrt()
