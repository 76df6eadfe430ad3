"""A narrow UNet that learns to denoise the photographs' latents for their captions."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from glitch_demo.photos import Photo
from glitch_demo.pocket_unet import PocketUNet, ResBlock, SpatialTransformer
from glitch_demo.pocket_vae import to_tensor
from glitch_demo.pocket_weights import CONTEXT_WIDTH, NARROW_SHAPE
from glitch_demo.terminal import say
from glitch_train.model.noise_schedule import TRAIN_TIMESTEPS
from glitch_train.training.objective import noise_schedule

from .cpu import fast_autocast
from .pictures import crop, source
from .state import load_state, save_state

STEPS = 5000
BATCH_SIZE = 16
LEARNING_RATE, LAST_SHARE, WARMUP = 1e-3, 0.01, 200
CROPS = 192  # of each photograph, encoded once
ENCODE_AT_ONCE = 8
UNCAPTIONED = 0.1
EMA = 0.001
SAVE_EVERY, SAY_EVERY = 500, 100
BANDS = 5


@torch.no_grad()
def latent_bank(encoder: nn.Module, photos: Sequence[Photo], seed: int = 5) -> Tensor:
    """Encode crops of every photograph.

    Args:
        encoder: (B, 3, 128, 128) to (B, 4, 16, 16).
        photos: what to cut them from.
        seed: of the crops.

    Returns:
        (photos, crops, 4, 16, 16).
    """
    rng, bank = random.Random(seed), []
    for photo in photos:
        cuts = source(photo)
        pictures = torch.stack([to_tensor(crop(cuts, rng)) for _ in range(CROPS)])
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with fast_autocast():
            bank.append(torch.cat([encoder(part) for part in pictures.split(ENCODE_AT_ONCE)]))
    return torch.stack(bank).float()


def context_basis(embeddings: Tensor) -> Tensor:
    """Return the (48, 768) directions in which captions differ, scaled to about unit variance.

    Args:
        embeddings: (captions, 77, 768).
    """
    rows = embeddings.flatten(0, 1)
    _, spread, directions = torch.linalg.svd(rows, full_matrices=False)
    return directions[:CONTEXT_WIDTH] / (spread[:CONTEXT_WIDTH].mean() / len(rows) ** 0.5)


def train_unet(bank: Tensor, contexts: Tensor, path: Path, seed: int = 0) -> None:
    """Train, or go on training, and keep the state in a file.

    Args:
        bank: from `latent_bank`.
        contexts: (photos + 1, 77, 48), those of the captions and of the empty prompt.
        path: the state; its `ema` holds the weights to use.
        seed: of weights, noise and choices.
    """
    torch.manual_seed(seed)
    unet = PocketUNet(NARROW_SHAPE)
    _start_as_identity(unet)
    parameters = list(unet.parameters())
    optimizer = torch.optim.AdamW(
        parameters, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    step, ema = load_state(path, unet, optimizer)
    torch.manual_seed(seed + step)
    alphas = noise_schedule("epsilon").alphas_cumprod
    begun, sums, counts = time.monotonic(), torch.zeros(BANDS), torch.zeros(BANDS)
    while step < STEPS:
        which = torch.randint(len(bank), (BATCH_SIZE,))
        latents = bank[which, torch.randint(bank.shape[1], (BATCH_SIZE,))]
        which[torch.rand(BATCH_SIZE) < UNCAPTIONED] = len(bank)
        spread = (torch.arange(BATCH_SIZE) + torch.rand(BATCH_SIZE)) / BATCH_SIZE
        timesteps = (spread * TRAIN_TIMESTEPS).long()
        alpha = alphas[timesteps].view(-1, 1, 1, 1)
        noise = torch.randn_like(latents)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        squared = (unet(noisy, timesteps, contexts[which]) - noise).square().mean((1, 2, 3))
        optimizer.zero_grad()
        squared.mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        decay = max(LAST_SHARE, 0.5 * (1 + math.cos(math.pi * step / STEPS)))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * decay * min(1.0, (step + 1) / WARMUP)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(ema, [p.detach() for p in parameters], max(EMA, 4 / (step + 4)))
        band = timesteps * BANDS // TRAIN_TIMESTEPS
        sums.index_add_(0, band, squared.detach())
        counts.index_add_(0, band, torch.ones(BATCH_SIZE))
        if step % SAY_EVERY == 0:
            means = " ".join(f"{value:.3f}" for value in (sums / counts).tolist())
            say(
                f"{step}: {time.monotonic() - begun:.0f} s, "
                f"{sums.sum() / counts.sum():.4f}, by timestep {means}"
            )
            sums.zero_()
            counts.zero_()
        if step % SAVE_EVERY == 0 or step == STEPS:
            save_state(path, unet, optimizer, step, ema)


def _start_as_identity(unet: PocketUNet) -> None:
    """Let every block add nothing at first, and the whole predict nothing."""
    last = [unet.out[2]]
    last += [module.out_layers[3] for module in unet.modules() if isinstance(module, ResBlock)]
    last += [module.proj_out for module in unet.modules() if isinstance(module, SpatialTransformer)]
    for layer in last:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
