"""A small Stable Diffusion UNet whose parameters carry the original (LDM) names.

Same blocks as SD1.5 and SDXL, fewer of them, 320 channels at every level: hosts expect those. A
narrow one computes what a full one does whose other channels are zero.
Source: CompVis/stable-diffusion, ldm/modules/diffusionmodules/openaimodel.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 320
LATENT_CHANNELS = 4
GROUP_WIDTH = 10  # 320 channels in 32 groups
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
    channels: int = CHANNELS
    """Of every level; fewer than 320 for a narrow one."""
    emb_width: int = 4 * CHANNELS
    """Of the timestep embedding."""

    @property
    def groups(self) -> int:
        """Groups of every group norm."""
        return self.channels // GROUP_WIDTH


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

    def __init__(self, shape: UNetShape, n_in: int) -> None:
        super().__init__()
        width = shape.channels
        self.in_layers = nn.Sequential(
            nn.GroupNorm(shape.groups, n_in), nn.SiLU(), nn.Conv2d(n_in, width, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(shape.emb_width, width))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(shape.groups, width),
            nn.SiLU(),
            nn.Dropout(0.0),  # holds index 2, as in the original
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if n_in == width else nn.Conv2d(n_in, width, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map (B, n_in, H, W) and (B, emb_width) to (B, channels, H, W)."""
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    """Multi-head attention of `x` to `context`."""

    def __init__(self, width: int, context_width: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map (B, N, width) and (B, M, context_width) to (B, N, width)."""
        q, k, v = (
            t.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for t in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    """A linear layer gated by the GELU of another one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, 4 × width)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class Norm(nn.LayerNorm):
    """Layer norm over 320 channels, of which those beyond its own are zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, channels) to the same shape."""
        if x.shape[-1] == CHANNELS:
            return super().forward(x)
        mean = x.sum(-1, keepdim=True) / CHANNELS
        variance = x.square().sum(-1, keepdim=True) / CHANNELS - mean.square()
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


class TransformerBlock(nn.Module):
    """Self-attention, attention to the prompt, feed-forward."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        width = shape.channels
        self.attn1 = Attention(width, width, shape.head_width)
        self.attn2 = Attention(width, shape.context_width, shape.head_width)
        net = (GEGLU(width), nn.Dropout(0.0), nn.Linear(4 * width, width))
        self.ff = nn.ModuleDict({"net": nn.Sequential(*net)})
        self.norm1, self.norm2, self.norm3 = (Norm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map (B, N, channels) to the same shape, looking at (B, 77, context_width)."""
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff["net"](self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map, added to it."""

    def __init__(self, shape: UNetShape, depth: int) -> None:
        super().__init__()
        width, self.linear = shape.channels, shape.linear_proj
        self.norm = nn.GroupNorm(shape.groups, width, eps=1e-6)
        self.proj_in, self.proj_out = (
            nn.Linear(width, width) if self.linear else nn.Conv2d(width, width, 1) for _ in range(2)
        )
        self.transformer_blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(depth))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
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

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to (B, width, H/2, W/2)."""
        return self.op(x)


class Upsample(nn.Module):
    """Double height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to (B, width, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class PocketUNet(nn.Module):
    """The noise predictor; its state dict is `model.diffusion_model.*` without the prefix."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        width = shape.channels
        self.time_embed = _mlp(CHANNELS, shape.emb_width)
        if shape.vector_width:
            self.label_emb = nn.Sequential(_mlp(shape.vector_width, shape.emb_width))
        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1)])]
        )
        self.output_blocks = nn.ModuleList()
        for level, depths in enumerate(shape.depths):
            for depth in depths:
                self.input_blocks.append(_block(shape, width, depth))
            if level < len(shape.depths) - 1:
                self.input_blocks.append(nn.ModuleList([Downsample(width)]))
        self.middle_block = _block(shape, width, shape.middle_depth)
        self.middle_block.append(ResBlock(shape, width))
        for level, depths in reversed(list(enumerate(shape.depths))):
            for depth in (*depths, depths[-1]):
                self.output_blocks.append(_block(shape, 2 * width, depth))
            if level > 0:
                self.output_blocks[-1].append(Upsample(width))
        self.out = nn.Sequential(
            nn.GroupNorm(shape.groups, width),
            nn.SiLU(),
            nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1),
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
        return self.out(h)


def timestep_embedding(timesteps: Tensor) -> Tensor:
    """Embed (B,) timesteps as (B, 320): cosines, then sines, of falling frequency."""
    half = CHANNELS // 2
    index = torch.arange(half, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * index)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _mlp(n_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width))


def _block(shape: UNetShape, n_in: int, depth: int) -> nn.ModuleList:
    layers: list[nn.Module] = [ResBlock(shape, n_in)]
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
