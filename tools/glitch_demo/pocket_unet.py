"""A small Stable Diffusion UNet whose parameters carry the original (LDM) names.

Same blocks as SD1.5 and SDXL, fewer of them, 320 channels at every level.
Source: CompVis/stable-diffusion, ldm/modules/diffusionmodules/openaimodel.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 320
EMB_WIDTH = 4 * CHANNELS
LATENT_CHANNELS = 4
GROUPS = 32
MAX_PERIOD = 10000  # of the sinusoidal timestep embedding


@dataclass(frozen=True)
class UNetShape:
    """What tells one pocket UNet from another."""

    context_width: int
    """Width of the prompt embeddings: 768 for SD1.5, 2048 for SDXL."""
    depths: tuple[tuple[int, ...], ...]
    """Transformer layers of each residual block, one tuple per level; 0 is no transformer."""
    middle_depth: int
    """Transformer layers in the middle block."""
    head_width: int
    """Channels per attention head: 40 for SD1.5 (8 heads of 320), 64 for SDXL."""
    linear_proj: bool
    """Whether transformers project with Linear (SDXL) or 1x1 convolutions (SD1.5)."""
    vector_width: int = 0
    """Width of SDXL's pooled text and size vector (2816), 0 for none."""


SD15_SHAPE = UNetShape(
    context_width=768, depths=((1,), (1,)), middle_depth=1, head_width=40, linear_proj=False
)
# Vega's depths, by which hosts recognise an SDXL-family model: [0, 0, 1, 1, 2, 2].
SDXL_SHAPE = UNetShape(
    context_width=2048,
    depths=((0, 0), (1, 1), (2, 2)),
    middle_depth=2,
    head_width=64,
    linear_proj=True,
    vector_width=2816,
)


class ResBlock(nn.Module):
    """Two convolutions with a timestep embedding between them, and a skip."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, n_in), nn.SiLU(), nn.Conv2d(n_in, CHANNELS, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(EMB_WIDTH, CHANNELS))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, CHANNELS),
            nn.SiLU(),
            nn.Dropout(0.0),  # holds index 2, as in the original
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if n_in == CHANNELS else nn.Conv2d(n_in, CHANNELS, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map (B, n_in, H, W) and (B, 1280) to (B, 320, H, W)."""
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    """Multi-head attention of `x` to `context`."""

    def __init__(self, context_width: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.to_q = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.to_k = nn.Linear(context_width, CHANNELS, bias=False)
        self.to_v = nn.Linear(context_width, CHANNELS, bias=False)
        self.to_out = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.Dropout(0.0))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map (B, N, 320) and (B, M, context_width) to (B, N, 320)."""
        q, k, v = (
            t.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for t in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    """A linear layer gated by the GELU of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(CHANNELS, 8 * CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, 320) to (…, 1280)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the prompt, feed-forward."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.attn1 = Attention(CHANNELS, shape.head_width)
        self.attn2 = Attention(shape.context_width, shape.head_width)
        net = (GEGLU(), nn.Dropout(0.0), nn.Linear(4 * CHANNELS, CHANNELS))
        self.ff = nn.ModuleDict({"net": nn.Sequential(*net)})
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(CHANNELS) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map (B, N, 320) to the same shape, looking at (B, 77, context_width)."""
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff["net"](self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map, added to it."""

    def __init__(self, shape: UNetShape, depth: int) -> None:
        super().__init__()
        self.linear = shape.linear_proj
        self.norm = nn.GroupNorm(GROUPS, CHANNELS, eps=1e-6)
        self.proj_in, self.proj_out = (
            nn.Linear(CHANNELS, CHANNELS) if self.linear else nn.Conv2d(CHANNELS, CHANNELS, 1)
            for _ in range(2)
        )
        self.transformer_blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(depth))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map (B, 320, H, W) to the same shape."""
        h = self.norm(x)
        h = h if self.linear else self.proj_in(h)
        h = h.permute(0, 2, 3, 1).flatten(1, 2)
        h = self.proj_in(h) if self.linear else h
        for block in self.transformer_blocks:
            h = block(h, context)
        h = self.proj_out(h) if self.linear else h
        h = h.transpose(1, 2).unflatten(2, x.shape[2:])
        return x + (h if self.linear else self.proj_out(h))


class Downsample(nn.Module):
    """Halve height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.op = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 320, H, W) to (B, 320, H/2, W/2)."""
        return self.op(x)


class Upsample(nn.Module):
    """Double height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 320, H, W) to (B, 320, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class PocketUNet(nn.Module):
    """The noise predictor; its state dict is `model.diffusion_model.*` without the prefix."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.time_embed = _mlp(CHANNELS)
        if shape.vector_width:
            self.label_emb = nn.Sequential(_mlp(shape.vector_width))
        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([nn.Conv2d(LATENT_CHANNELS, CHANNELS, 3, padding=1)])]
        )
        self.output_blocks = nn.ModuleList()
        for level, depths in enumerate(shape.depths):
            for depth in depths:
                self.input_blocks.append(_block(shape, CHANNELS, depth))
            if level < len(shape.depths) - 1:
                self.input_blocks.append(nn.ModuleList([Downsample()]))
        self.middle_block = _block(shape, CHANNELS, shape.middle_depth)
        self.middle_block.append(ResBlock(CHANNELS))
        for level, depths in reversed(list(enumerate(shape.depths))):
            for depth in (*depths, depths[-1]):
                self.output_blocks.append(_block(shape, 2 * CHANNELS, depth))
            if level > 0:
                self.output_blocks[-1].append(Upsample())
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, CHANNELS),
            nn.SiLU(),
            nn.Conv2d(CHANNELS, LATENT_CHANNELS, 3, padding=1),
        )

    def forward(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        context: Tensor,
        vector: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise.

        Args:
            noisy_latents: (B, 4, H/8, W/8), unit variance.
            timesteps: (B,) in 0 to 999.
            context: (B, 77, context_width) prompt embeddings.
            vector: (B, vector_width) pooled text and sizes, for SDXL only.

        Returns:
            (B, 4, H/8, W/8) predicted noise.
        """
        return self.out[2](self.features(noisy_latents, timesteps, context, vector))

    def features(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        context: Tensor,
        vector: Tensor | None = None,
    ) -> Tensor:
        """Return what the last convolution reads, (B, 320, H/8, W/8); arguments as `forward`."""
        emb = self.time_embed(timestep_embedding(timesteps))
        if vector is not None:
            emb = emb + self.label_emb(vector)
        h, skips = noisy_latents, []
        for block in self.input_blocks:
            h = _run(block, h, emb, context)
            skips.append(h)
        h = _run(self.middle_block, h, emb, context)
        for block in self.output_blocks:
            h = _run(block, torch.cat([h, skips.pop()], dim=1), emb, context)
        return self.out[:2](h)


def timestep_embedding(timesteps: Tensor) -> Tensor:
    """Embed (B,) timesteps as (B, 320): cosines, then sines, of falling frequency."""
    half = CHANNELS // 2
    index = torch.arange(half, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * index)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _mlp(n_in: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, EMB_WIDTH), nn.SiLU(), nn.Linear(EMB_WIDTH, EMB_WIDTH))


def _block(shape: UNetShape, n_in: int, depth: int) -> nn.ModuleList:
    layers: list[nn.Module] = [ResBlock(n_in)]
    if depth:
        layers.append(SpatialTransformer(shape, depth))
    return nn.ModuleList(layers)


def _run(layers: Sequence[nn.Module], h: Tensor, emb: Tensor, context: Tensor) -> Tensor:
    for layer in layers:
        if isinstance(layer, ResBlock):
            h = layer(h, emb)
        elif isinstance(layer, SpatialTransformer):
            h = layer(h, context)
        else:
            h = layer(h)
    return h
