"""Starting weights that leave a pocket UNet little to learn.

A noise predictor that knows its few pictures by heart, each with a little spread s around it,
computes, for noise level sigma and the noisy x at unit variance,

    noise = (x sqrt(1 + sigma²) - picture(prompt, place)) / k,      k = sigma + s² / sigma

Ordinary training takes hours to find that. Here the structure is there from the start, made of the
network's own parts, and only `picture` is left to fit:

- The first group of channels carries +x and -x past every block; silu(x) - silu(-x) = x.
- Above the data channels, the *canvas* is blind to the noisy input and knows place and prompt.
- A group norm divides its channels by their spread. *Anchor* channels that hold ±k(t) rule that
  spread where k is large: the last norm divides x by k / sqrt(1 + sigma²), the canvas by k.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glitch_demo.pocket_unet import (
    CHANNELS,
    EMB_WIDTH,
    GROUPS,
    LATENT_CHANNELS,
    Downsample,
    PocketUNet,
    ResBlock,
    SpatialTransformer,
    Upsample,
    timestep_embedding,
)

TRAIN_TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012  # Stable Diffusion's "scaled linear" schedule

GROUP_WIDTH = CHANNELS // GROUPS
PAIRED = 2 * LATENT_CHANNELS  # channels that carry +x and -x; the first group's other two anchor it
CANVAS_START = 4 * GROUP_WIDTH
PAINTED_START = 10 * GROUP_WIDTH  # of the part of the canvas that the picture is read from
MEMBERS = 8  # of each canvas group; its other two channels are the anchors
TAPS = 2  # canvas channels that each canvas channel reads in a convolution
TAP_GAIN = 1.5  # undoes what SiLU takes from a unit-variance signal
# PyTorch's default draws have a third of the variance that keeps a signal's size.
VARIANCE_GAIN = math.sqrt(3.0)
PICTURE_SPREAD = 0.1  # s, of latents with unit variance: about what the fit leaves open
X_ANCHOR = 40.0  # times k: far above x, or its size would change the scale
CANVAS_ANCHOR = 1000.0  # times k: far above the canvas, or the prompt would change the scale
STEADY_ANCHOR = 6.0  # a constant that keeps the clock's own group norm linear
CLOCK_RIDGE = 1e-7  # relative to the mean square of the features


def alphas_cumprod() -> Tensor:
    """Return Stable Diffusion's (1000,) products of 1 - beta."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_TIMESTEPS) ** 2
    return torch.cumprod(1 - betas, dim=0)


def sigmas() -> Tensor:
    """Return the (1000,) ratios of noise to picture, sqrt((1 - alpha) / alpha)."""
    alphas = alphas_cumprod()
    return ((1 - alphas) / alphas).sqrt()


def noise_divisors() -> Tensor:
    """Return the (1000,) k of each timestep: what the noise is the difference to the picture by."""
    return sigmas() + PICTURE_SPREAD**2 / sigmas()


@torch.no_grad()
def set_starting_weights(unet: PocketUNet) -> None:
    """Set weights so that the UNet starts with the structure above and an empty picture.

    It then returns x sqrt(1 + sigma²) / k: all of the input is taken for noise.

    Args:
        unet: freshly made; changed in place. Draws from the global random generator.
    """
    for parameter in unet.parameters():
        if parameter.ndim > 1:
            parameter.mul_(VARIANCE_GAIN)
        parameter.copy_(parameter.half())  # as files hold it, before anything is fitted to it
    members, anchors = canvas_channels()
    entry = unet.input_blocks[0][0]
    entry.weight[:GROUP_WIDTH], entry.bias[:GROUP_WIDTH] = 0.0, 0.0
    entry.weight[:PAIRED, :, 1, 1] = _signed_pairs()
    entry.weight[CANVAS_START:] = 0.0
    nn.init.normal_(entry.bias[members])
    entry.bias[anchors] = 0.0
    for module in unet.modules():
        if isinstance(module, ResBlock):
            _start_block(module)
        elif isinstance(module, Downsample):
            _shift_canvas(module.op)
        elif isinstance(module, Upsample):
            _shift_canvas(module.conv)
        elif isinstance(module, SpatialTransformer):
            _start_transformer(module)
    if hasattr(unet, "label_emb"):
        _clear_rows(unet.label_emb[0][2], torch.arange(EMB_WIDTH))  # the clock tells time alone
    _start_clock(unet)
    # This transformer comes after the anchors: it reads the part of the canvas without them.
    for transformer in unet.output_blocks[-1][1:]:
        transformer.proj_in.weight[:, PAINTED_START:] = 0.0
    norm, _, last = unet.out
    # The anchors are two of ten channels: the norm divides by sqrt(0.2) k.
    norm.weight[:GROUP_WIDTH] = X_ANCHOR * math.sqrt(2 / GROUP_WIDTH)
    last.weight.zero_()
    last.bias.zero_()
    last.weight[:, :PAIRED, 1, 1] = _signed_pairs().T


def canvas_channels() -> tuple[Tensor, Tensor]:
    """Return the indices of the canvas's channels and of the (positive, negative) anchors."""
    canvas = torch.arange(CANVAS_START, CHANNELS)
    return canvas[canvas % GROUP_WIDTH < MEMBERS], canvas[canvas % GROUP_WIDTH >= MEMBERS]


def painted_channels() -> Tensor:
    """Return the indices of the canvas's channels that the last convolution draws from."""
    members, _ = canvas_channels()
    return members[members >= PAINTED_START]


def _start_block(block: ResBlock) -> None:
    """Write to neither x nor the anchors, keep the canvas to itself and blind to time."""
    _, anchors = canvas_channels()
    for conv in (block.in_layers[2], block.out_layers[3]):
        _shift_canvas(conv)
    block.emb_layers[1].weight[CANVAS_START:] = 0.0
    block.emb_layers[1].bias[CANVAS_START:] = 0.0
    _clear_rows(block.out_layers[3], torch.arange(GROUP_WIDTH))
    _clear_rows(block.out_layers[3], anchors)
    if isinstance(block.skip_connection, nn.Conv2d):
        eye = torch.eye(CHANNELS)[:, :, None, None]
        block.skip_connection.weight[:] = torch.cat([eye, eye], dim=1) * math.sqrt(0.5)
        block.skip_connection.weight[:GROUP_WIDTH, :CHANNELS] = 0.0
        block.skip_connection.weight[:GROUP_WIDTH, CHANNELS:] = eye[:GROUP_WIDTH]
        block.skip_connection.bias.zero_()


def _start_transformer(transformer: SpatialTransformer) -> None:
    """Read the canvas only, write to neither x nor the anchors."""
    members, anchors = canvas_channels()
    unread = torch.ones(CHANNELS, dtype=torch.bool)
    unread[members] = False
    transformer.proj_in.weight[:, unread] = 0.0
    transformer.proj_in.bias.zero_()
    _clear_rows(transformer.proj_out, torch.arange(GROUP_WIDTH))
    _clear_rows(transformer.proj_out, anchors)


def _shift_canvas(conv: nn.Conv2d) -> None:
    """Let each canvas channel read a few random canvas channels at random neighbouring pixels.

    Zero padding is all that tells a convolution where it is. Taps off the centre move the border
    one pixel further in with every layer, so that steps at every distance from every side come
    out: a map of the picture.
    """
    members, _ = canvas_channels()
    sources = torch.cat([members, members + CHANNELS])
    sources = sources[sources < conv.weight.shape[1]]
    conv.weight[CANVAS_START:] = 0.0
    for _ in range(TAPS):
        picks = sources[torch.randint(len(sources), (len(members),))]
        rows, columns = torch.randint(3, (2, len(members)))
        signs = torch.randn(len(members)).sign()
        conv.weight[members, picks, rows, columns] = signs * TAP_GAIN / math.sqrt(TAPS)


def _start_clock(unet: PocketUNet) -> None:
    """Make the last residual block write ±k(t) to the anchors.

    Six channels between its convolutions hold ± k / k_max, ± k / sqrt(1 + sigma²) and ± a
    constant, fitted to the timestep embedding by least squares.
    """
    block = unet.output_blocks[-1][0]
    _, anchors = canvas_channels()
    divisors = noise_divisors()
    clocks = torch.stack([divisors / divisors.max(), divisors / (1 + sigmas() ** 2).sqrt()])
    embedded = F.silu(unet.time_embed(timestep_embedding(torch.arange(TRAIN_TIMESTEPS)))).double()
    features = torch.cat([embedded, torch.ones(TRAIN_TIMESTEPS, 1)], dim=1)
    ridge = CLOCK_RIDGE * features.square().mean() * torch.eye(features.shape[1]) * len(features)
    fitted = torch.linalg.solve(features.T @ features + ridge, features.T @ clocks.T.double()).T
    group = torch.arange(GROUP_WIDTH)
    _clear_rows(block.in_layers[2], group)
    _clear_rows(block.emb_layers[1], group)
    for index, weights in enumerate(fitted.float()):
        for row, sign in ((2 * index, 1.0), (2 * index + 1, -1.0)):
            block.emb_layers[1].weight[row] = sign * weights[:-1]
            block.emb_layers[1].bias[row] = sign * weights[-1]
    block.emb_layers[1].bias[4:6] = torch.tensor([STEADY_ANCHOR, -STEADY_ANCHOR])
    block.out_layers[0].weight[:GROUP_WIDTH] = STEADY_ANCHOR * math.sqrt(2 / GROUP_WIDTH)
    out = block.out_layers[3].weight
    out[:, :GROUP_WIDTH] = 0.0
    targets = (
        (anchors[anchors >= PAINTED_START][0::2], 0, CANVAS_ANCHOR * divisors.max().item()),
        (torch.tensor([PAIRED]), 2, X_ANCHOR),
    )
    for positive, source, gain in targets:
        for rows, sign in ((positive, 1.0), (positive + 1, -1.0)):
            out[rows, source, 1, 1], out[rows, source + 1, 1, 1] = sign * gain, -sign * gain


def _signed_pairs() -> Tensor:
    """(8, 4): rows 2i and 2i + 1 are +1 and -1 for latent channel i."""
    eye = torch.eye(LATENT_CHANNELS)
    return torch.stack([eye, -eye], dim=1).flatten(0, 1)


def _clear_rows(layer: nn.Module, rows: Tensor) -> None:
    for parameter in layer.parameters():
        parameter[rows] = 0.0
