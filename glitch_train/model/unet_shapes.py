"""The full-size UNets of every family, as layouts and shapes, without a checkpoint at hand."""

from __future__ import annotations

from collections.abc import Iterator

from .families import SD2, SD15, SDXL, SSD1B, VEGA, Family
from .unet_names import UNetLayout

Shape = tuple[int, ...]

# Layouts of runwayml/stable-diffusion-v1-5, stabilityai/stable-diffusion-2-1,
# stabilityai/stable-diffusion-xl-base-1.0, segmind/SSD-1B and segmind/Segmind-Vega.
_SD_LAYOUT = UNetLayout(
    channels=(320, 640, 1280, 1280),
    layers_per_block=2,
    down_depths=((1, 1), (1, 1), (1, 1), (0, 0)),
    up_depths=((0, 0, 0), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    mid_depth=1,
)
_XL_CHANNELS = (320, 640, 1280)
LAYOUTS: dict[Family, UNetLayout] = {
    SD15: _SD_LAYOUT,
    SD2: _SD_LAYOUT,
    SDXL: UNetLayout(
        _XL_CHANNELS,
        2,
        ((0, 0), (2, 2), (10, 10)),
        ((10, 10, 10), (2, 2, 2), (0, 0, 0)),
        10,
    ),
    SSD1B: UNetLayout(
        _XL_CHANNELS, 2, ((0, 0), (2, 2), (4, 4)), ((4, 4, 10), (2, 1, 1), (0, 0, 0)), 0
    ),
    VEGA: UNetLayout(
        _XL_CHANNELS, 2, ((0, 0), (1, 1), (2, 2)), ((2, 2, 2), (1, 1, 1), (0, 0, 0)), 0
    ),
}
_IN_CHANNELS = 4
_XL_VECTOR_WIDTH = 2816


def unet_shapes(family: Family, layout: UNetLayout) -> dict[str, Shape]:
    """Return the weight of every Linear and convolution of a UNet, in the network's order.

    Args:
        family: gives the text width, and whether transformers project with Linear.
        layout: the skeleton.

    Returns:
        LDM module name, without ``.weight``, to the weight's shape.
    """
    return dict(_modules(family, layout))


def _modules(family: Family, layout: UNetLayout) -> Iterator[tuple[str, Shape]]:
    base = layout.channels[0]
    emb = 4 * base
    yield "time_embed.0", (emb, base)
    yield "time_embed.2", (emb, emb)
    if family.is_xl:
        yield "label_emb.0.0", (emb, _XL_VECTOR_WIDTH)
        yield "label_emb.0.2", (emb, emb)
    yield "input_blocks.0.0", (base, _IN_CHANNELS, 3, 3)
    skips = [base]
    yield from _down(family, layout, skips)
    yield from _middle(family, layout)
    yield from _up(family, layout, skips)
    yield "out.2", (_IN_CHANNELS, base, 3, 3)


def _down(family: Family, layout: UNetLayout, skips: list[int]) -> Iterator[tuple[str, Shape]]:
    block, width, emb = 1, layout.channels[0], 4 * layout.channels[0]
    for level, depths in enumerate(layout.down_depths):
        for depth in depths:
            yield from _resnet(f"input_blocks.{block}.0", width, layout.channels[level], emb)
            width = layout.channels[level]
            yield from _transformer(f"input_blocks.{block}.1", width, depth, family)
            skips.append(width)
            block += 1
        if level < layout.levels - 1:
            yield f"input_blocks.{block}.0.op", (width, width, 3, 3)
            skips.append(width)
            block += 1


def _middle(family: Family, layout: UNetLayout) -> Iterator[tuple[str, Shape]]:
    width, emb = layout.channels[-1], 4 * layout.channels[0]
    yield from _resnet("middle_block.0", width, width, emb)
    if layout.mid_depth:
        yield from _transformer("middle_block.1", width, layout.mid_depth, family)
        yield from _resnet("middle_block.2", width, width, emb)


def _up(family: Family, layout: UNetLayout, skips: list[int]) -> Iterator[tuple[str, Shape]]:
    block, width, emb = 0, layout.channels[-1], 4 * layout.channels[0]
    for index, depths in enumerate(layout.up_depths):
        level = layout.levels - 1 - index
        for position, depth in enumerate(depths):
            channels = layout.channels[level]
            yield from _resnet(f"output_blocks.{block}.0", width + skips.pop(), channels, emb)
            width = channels
            yield from _transformer(f"output_blocks.{block}.1", width, depth, family)
            if position == len(depths) - 1 and level > 0:
                slot = 2 if depth else 1
                yield f"output_blocks.{block}.{slot}.conv", (width, width, 3, 3)
            block += 1


def _resnet(name: str, n_in: int, n_out: int, emb: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.in_layers.2", (n_out, n_in, 3, 3)
    yield f"{name}.emb_layers.1", (n_out, emb)
    yield f"{name}.out_layers.3", (n_out, n_out, 3, 3)
    if n_in != n_out:
        yield f"{name}.skip_connection", (n_out, n_in, 1, 1)


def _transformer(name: str, width: int, depth: int, family: Family) -> Iterator[tuple[str, Shape]]:
    if not depth:
        return
    linear = family.is_xl or family is SD2
    projection: Shape = (width, width) if linear else (width, width, 1, 1)
    yield f"{name}.proj_in", projection
    for block in range(depth):
        inner = f"{name}.transformer_blocks.{block}"
        for attention, context in (("attn1", width), ("attn2", family.context_dim)):
            yield f"{inner}.{attention}.to_q", (width, width)
            yield f"{inner}.{attention}.to_k", (width, context)
            yield f"{inner}.{attention}.to_v", (width, context)
            yield f"{inner}.{attention}.to_out.0", (width, width)
        yield f"{inner}.ff.net.0.proj", (8 * width, width)
        yield f"{inner}.ff.net.2", (width, 4 * width)
    yield f"{name}.proj_out", projection
