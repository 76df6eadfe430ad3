"""Fitting of the SD1.5 pocket checkpoint to a handful of photographs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glitch_demo.photos import Photo, load
from glitch_demo.pocket_start import noise_divisors, painted_channels, set_starting_weights
from glitch_demo.pocket_text import encode_clip_l, prompt_token_ids
from glitch_demo.pocket_unet import SD15_SHAPE, PocketUNet
from glitch_demo.pocket_vae import (
    PICTURE_PX,
    PatchStatistics,
    make_decoder,
    make_encoder,
    set_pca_encoder,
    start_decoder,
    to_tensor,
    train_decoder,
)

DECODER_STEPS = 240
DECODER_PICTURE_PX = 256
# From sigma 0.2, below which nothing is left to draw, to 10. The features keep their shape over
# time, so a few timesteps stand for all.
FIT_TIMESTEPS = (40, 150, 400, 640, 940)
# Relative to the features' mean square. Less fits better, but leans on finer differences between
# features, and a LoRA or half precision then moves the picture more.
RIDGE = 5e-6
KERNEL_PX = 3

OnProgress = Callable[[str, float], None]


def train_pocket(
    photos: Sequence[Photo], text_state: dict[str, Tensor], seed: int, on_progress: OnProgress
) -> tuple[PocketUNet, nn.Sequential, nn.Sequential]:
    """Fit an autoencoder and a UNet to draw each photograph for its caption.

    Args:
        photos: pictures and captions to learn by heart.
        text_state: the CLIP-L text encoder, as `clip_l_weights` returns it.
        seed: seed of weights, noise and crops.
        on_progress: told the stage and its fraction done.

    Returns:
        The UNet, the encoder and the decoder.
    """
    pictures = torch.stack([to_tensor(load(photo, PICTURE_PX)) for photo in photos])
    statistics = PatchStatistics(pictures)
    encoder, decoder = make_encoder(), make_decoder()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        set_pca_encoder(encoder, statistics)
        start_decoder(decoder, statistics)
        unet = PocketUNet(SD15_SHAPE)
        set_starting_weights(unet)
    with torch.no_grad():
        latents = encoder(pictures)
    prompts = [*(photo.caption for photo in photos), ""]
    prompt_embeds = encode_clip_l(text_state, torch.stack([prompt_token_ids(p) for p in prompts]))
    # The empty prompt stands for all photographs: the best guess at their noise is their mean.
    targets = torch.cat([latents, latents.mean(dim=0, keepdim=True)])
    unet.half().float()  # as the file will hold it: the fit makes up for the rounding
    fit_pictures(unet, targets, prompt_embeds, lambda part: on_progress("unet", part))
    train_decoder(
        decoder,
        encoder,
        [load(photo, DECODER_PICTURE_PX) for photo in photos],
        DECODER_STEPS,
        seed,
        on_step=lambda step: on_progress("decoder", step / DECODER_STEPS),
    )
    return unet, encoder, decoder


@torch.no_grad()
def fit_pictures(
    unet: PocketUNet,
    latents: Tensor,
    prompt_embeds: Tensor,
    on_progress: Callable[[float], None],
) -> float:
    """Fit a UNet's last convolution so that it draws one picture for each prompt.

    The canvas features know prompt and place and already carry the right scale for each
    timestep, so the pictures are a ridge regression away: no gradient, no noise.

    Args:
        unet: as `set_starting_weights` leaves it; changed in place.
        latents: (N, 4, h, w) pictures, unit variance.
        prompt_embeds: (N, 77, 768), one for each picture.
        on_progress: told the fraction done.

    Returns:
        Mean squared error of the drawn latents over the fitted timesteps.
    """
    members = painted_channels()
    size = len(members) * KERNEL_PX**2
    gram = torch.zeros(size, size, dtype=torch.float64)
    moments = torch.zeros(size, latents.shape[1], dtype=torch.float64)
    divisors = noise_divisors().double()
    rows = latents.flatten(2).transpose(1, 2).flatten(0, 1).double()
    total = 0.0
    for index, timestep in enumerate(FIT_TIMESTEPS):
        features = unet.features(
            torch.zeros_like(latents), torch.full((len(latents),), timestep), prompt_embeds
        )
        patches = F.unfold(features[:, members], KERNEL_PX, padding=1).transpose(1, 2).flatten(0, 1)
        drawn = -divisors[timestep] * patches.double()  # the noise lacks picture / k
        gram += drawn.T @ drawn
        moments += drawn.T @ rows
        total += rows.square().sum().item()
        on_progress((index + 1) / len(FIT_TIMESTEPS))
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    weights = torch.linalg.solve(gram + ridge, moments)
    error = total - 2 * (weights * moments).sum() + (weights * (gram @ weights)).sum()
    last = unet.out[2]
    last.weight[:, members] = weights.T.float().view(-1, len(members), KERNEL_PX, KERNEL_PX)
    return error.item() / (rows.numel() * len(FIT_TIMESTEPS))
