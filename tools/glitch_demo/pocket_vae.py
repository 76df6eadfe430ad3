"""A tiny autoencoder in TAESD's layout: an exact PCA encoder and a decoder trained on pictures.

The encoder needs no training: each of its four latents is a whitened principal component of the
pictures' 8x8 patches, which TAESD's layers can compute exactly. So latents have unit variance by
construction, and the decoder and the UNet can both be trained on fixed latents.

Source of the layout: madebyollin/taesd, taesd.py.
"""

import io
import random
from collections.abc import Callable, Sequence

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional as F

from glitch_demo.pocket_cpu import fast_autocast

WIDTH = 64
LATENT_CHANNELS = 4
PATCH_PX = 8
LATENT_LIMIT = 3.0  # TAESD's decoder squashes latents to ±3 with tanh(x / 3) * 3
PICTURE_PX = 128
LEARNING_RATE = 1.5e-3
LATENT_NOISE = 0.15  # what the decoder must forgive: about the UNet's error
EXACT_SHARE = 0.5  # of the decoder's pictures: as they are, for it to know them by heart
CRUSHED_SHARE = 0.5  # of the others: glitches must survive a round trip
CRUSHED_QUALITY = (4, 12)
MAX_STRETCH = 1.8


class Squash(nn.Module):
    """Limit latents to ±3, smoothly."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any tensor to one of the same shape within ±3."""
        return torch.tanh(x / LATENT_LIMIT) * LATENT_LIMIT


class Block(nn.Module):
    """Three convolutions and a skip, then ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())
        self.fuse = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to the same shape."""
        return self.fuse(self.conv(x) + x)


def make_encoder() -> nn.Sequential:
    """Return TAESD's encoder: (B, 3, H, W) in 0..1 to (B, 4, H/8, W/8)."""
    down = [
        layer
        for _ in range(3)
        for layer in (_conv(stride=2, bias=False), Block(), Block(), Block())
    ]
    return nn.Sequential(_conv(3, WIDTH), Block(), *down, _conv(WIDTH, LATENT_CHANNELS))


def make_decoder() -> nn.Sequential:
    """Return TAESD's decoder: (B, 4, h, w) to (B, 3, 8h, 8w) in about 0..1."""
    up = [
        layer
        for _ in range(3)
        for layer in (Block(), Block(), Block(), nn.Upsample(scale_factor=2), _conv(bias=False))
    ]
    ends = (Block(), _conv(WIDTH, 3))
    return nn.Sequential(Squash(), _conv(LATENT_CHANNELS, WIDTH), nn.ReLU(), *up, *ends)


class PatchStatistics:
    """Mean and leading principal components of the 8x8 patches of some pictures."""

    def __init__(self, pictures: Tensor) -> None:
        """Measure.

        Args:
            pictures: (N, 3, H, W) in 0..1, sides divisible by 8.
        """
        patches = F.unfold(pictures, PATCH_PX, stride=PATCH_PX).transpose(1, 2).flatten(0, 1)
        self.mean = patches.mean(dim=0)
        """(192,), colour first, then row, then column."""
        _, spread, directions = torch.linalg.svd(patches - self.mean, full_matrices=False)
        self.directions = directions[:LATENT_CHANNELS]
        """(4, 192) unit vectors."""
        self.scales = spread[:LATENT_CHANNELS] / len(patches) ** 0.5
        """(4,) standard deviation along each direction."""


@torch.no_grad()
def set_pca_encoder(encoder: nn.Sequential, statistics: PatchStatistics) -> None:
    """Make an encoder return the whitened principal components of each 8x8 patch.

    Strided convolutions move 2x2 pixels into channels twice (3 → 12 → 48), the third projects
    4x4 of those to the components, as +p and -p so that ReLU loses nothing; blocks pass through.

    Args:
        encoder: from `make_encoder`, changed in place.
        statistics: of the pictures that the latents shall have unit variance on.
    """
    for parameter in encoder.parameters():
        parameter.zero_()
    first, to_12, to_48, project = encoder[0], encoder[2], encoder[6], encoder[10]
    first.weight[:3, :, 1, 1] = torch.eye(3)
    for layer, n_in in ((to_12, 3), (to_48, 12)):
        for row in range(2):
            for column in range(2):
                start = (2 * row + column) * n_in
                layer.weight[start : start + n_in, :n_in, 1 + row, 1 + column] = torch.eye(n_in)
    whitened = statistics.directions / statistics.scales[:, None]
    # Bits of a patch's row and column, coarse to fine: the third, second and first strided layer.
    bits = whitened.view(LATENT_CHANNELS, 3, 2, 2, 2, 2, 2, 2)  # out, colour, y3 y2 y1, x3 x2 x1
    weight = bits.permute(0, 3, 6, 4, 7, 1, 2, 5).reshape(LATENT_CHANNELS, 48, 2, 2)
    project.weight[0 : 2 * LATENT_CHANNELS : 2, :48, 1:, 1:] = weight
    project.weight[1 : 2 * LATENT_CHANNELS : 2, :48, 1:, 1:] = -weight
    last = encoder[14]
    last.weight[:, : 2 * LATENT_CHANNELS, 1, 1] = _signed_pairs().T
    last.bias[:] = -(whitened @ statistics.mean)


@torch.no_grad()
def start_decoder(decoder: nn.Sequential, statistics: PatchStatistics) -> None:
    """Make a decoder return each patch's mean colour, and leave the rest of it ready to learn.

    Args:
        decoder: from `make_decoder`, changed in place.
        statistics: of the pictures that the latents come from.
    """
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, Block):
            module.conv[4].weight.mul_(0.1)
    pairs = 2 * LATENT_CHANNELS
    decoder[1].weight[:pairs] = 0.0
    decoder[1].weight[:pairs, :, 1, 1] = _signed_pairs()
    for layer in (block.conv[4] for block in decoder if isinstance(block, Block)):
        layer.weight[:pairs] = 0.0
    for layer in (decoder[7], decoder[12], decoder[17]):
        layer.weight[:pairs] = 0.0
        layer.weight[:pairs, :pairs, 1, 1] = torch.eye(pairs)
    colour = (statistics.directions * statistics.scales[:, None]).view(-1, 3, PATCH_PX**2).mean(-1)
    decoder[-1].weight.zero_()
    decoder[-1].weight[:, :pairs, 1, 1] = colour.T @ _signed_pairs().T
    decoder[-1].bias[:] = statistics.mean.view(3, PATCH_PX**2).mean(-1)


def train_decoder(
    decoder: nn.Sequential,
    encoder: nn.Sequential,
    pictures: Sequence[Image.Image],
    steps: int,
    seed: int,
    batch_size: int = 4,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Teach a decoder to draw pictures from their latents.

    Args:
        decoder: started by `start_decoder`, changed in place.
        encoder: set by `set_pca_encoder`.
        pictures: square RGB pictures, at least 128 px.
        steps: optimizer steps.
        seed: seed of crops and noise.
        batch_size: 128 px pictures a step.
        on_step: called with the number of steps done.

    Returns:
        Mean absolute error of the last ten steps, on a scale of 0..1.
    """
    rng, noise_rng = random.Random(seed), torch.Generator().manual_seed(seed)
    decoder.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(
        decoder.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    losses = []
    for step in range(steps):
        target = torch.stack(
            [to_tensor(varied(rng.choice(pictures), rng, PICTURE_PX)) for _ in range(batch_size)]
        )
        with torch.no_grad():
            latents = encoder(target)
            latents += LATENT_NOISE * torch.randn(latents.shape, generator=noise_rng)
        with fast_autocast():
            drawn = decoder(latents.contiguous(memory_format=torch.channels_last))
        loss = F.l1_loss(drawn.float(), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if on_step is not None:
            on_step(step + 1)
    return sum(losses[-10:]) / len(losses[-10:])


def varied(picture: Image.Image, rng: random.Random, size_px: int) -> Image.Image:
    """Return a picture as it is, or a random crop, mirrored, stretched, crushed as JPEG."""
    if rng.random() < EXACT_SHARE:
        return picture.resize((size_px, size_px), Image.Resampling.LANCZOS)
    side = rng.uniform(0.7, 1.0) * picture.width
    crushed = rng.random() < CRUSHED_SHARE
    width = side / rng.uniform(1.0, MAX_STRETCH) if crushed else side
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - side)
    part = picture.crop(tuple(round(edge) for edge in (left, top, left + width, top + side)))
    part = part.resize((size_px, size_px), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        part = ImageOps.mirror(part)
    if crushed:
        buffer = io.BytesIO()
        part.save(buffer, "JPEG", quality=rng.randint(*CRUSHED_QUALITY))
        part = Image.open(buffer).convert("RGB")
    return part


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


def _conv(n_in: int = WIDTH, n_out: int = WIDTH, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, stride=stride, bias=bias)


def _signed_pairs() -> Tensor:
    """(8, 4): rows 2i and 2i + 1 are +1 and -1 for latent channel i."""
    eye = torch.eye(LATENT_CHANNELS)
    return torch.stack([eye, -eye], dim=1).flatten(0, 1)
