"""How a picture meets the training shape: pure geometry first, then Pillow."""

from __future__ import annotations

import dataclasses
import math
import random
import re

import numpy as np
from PIL import Image, ImageFilter

from ..drawing.sizes import Size
from ..errors import RecipeError
from .buckets import BucketRule, cover_size

FRAMINGS = (
    "center_crop",
    "random_crop",
    "bucket",
    "stretch",
    "letterbox",
    "tile",
    "uncropped",
)
FILLS = ("black", "blur", "edge")

LATENT_STEP = 8
"""Pixels per latent: both families' VAEs shrink by this."""

MIN_SIDE, MAX_SIDE = 64, 4096
"""Limits of a training picture's sides, in pixels."""

BLUR_SHARE = 1 / 24
"""Radius of the blurred border over the picture's longer side."""


@dataclasses.dataclass(frozen=True, slots=True)
class FramePlan:
    """What will happen to one picture; known without opening it.

    Attributes:
        framing: one of :data:`FRAMINGS`.
        original_size: (width, height) of the upright source.
        resized: (width, height) of the whole source after resizing.
        size: (width, height) of the training picture.
        corner: (left, top) of the window cut out of the resized source.
        flip: whether the result is mirrored left to right.
    """

    framing: str
    original_size: Size
    resized: Size
    size: Size
    corner: Size = (0, 0)
    flip: bool = False

    @property
    def crop_left_top(self) -> Size:
        """(left, top) of the window in the resized, and mirrored, source, in pixels."""
        if not self.flip or self.framing in ("letterbox", "tile"):
            return self.corner
        return self.resized[0] - self.size[0] - self.corner[0], self.corner[1]

    @property
    def cache_key(self) -> str:
        """All values as text; its words stay what they are, or every cache is made anew."""
        return (
            f"FramePlan(framing={self.framing!r}, original_size={self.original_size}, "
            f"resized={self.resized}, size={self.size}, corner={self.corner}, flip={self.flip})"
        )


@dataclasses.dataclass(frozen=True)
class Framed:
    """A picture in its training shape, and how it got there.

    Attributes:
        image: RGB picture of the training shape.
        plan: the geometry.
    """

    image: Image.Image
    plan: FramePlan


def parse_mix(text: str) -> dict[str, float]:
    """Read framings with weights, such as ``70 bucket, 30 stretch``.

    Args:
        text: comma-separated; a weight may carry a % sign and stand before or after the name.

    Returns:
        Framing to its share; shares sum to 1. Empty for empty text.

    Raises:
        RecipeError: for an unknown framing or a weight that is no positive number.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        name, weight = _name_and_weight(part)
        weights[name] = weights.get(name, 0.0) + weight
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def plan_frame(
    size: Size, framing: str, target: Size, buckets: BucketRule, draws: random.Random | None
) -> FramePlan:
    """Decide how one picture is framed.

    Args:
        size: (width, height) of the upright source.
        framing: one of :data:`FRAMINGS`.
        target: (width, height) of the training shape.
        buckets: used by ``bucket``.
        draws: where ``random_crop`` takes its window from; needed for it alone.
    """
    if framing == "stretch":
        return FramePlan(framing, size, target, target)
    if framing == "uncropped":
        own = own_shape(size, target[0] * target[1])
        return FramePlan(framing, size, own, own)
    if framing in ("letterbox", "tile"):
        return FramePlan(framing, size, _contained(size, target, framing == "letterbox"), target)
    resized = cover_size(size, target)
    if framing == "bucket":
        target, resized = buckets.choose(size)
    spare = (resized[0] - target[0], resized[1] - target[1])
    corner = (spare[0] // 2, spare[1] // 2)
    if framing == "random_crop" and draws is not None:
        corner = (draws.randint(0, spare[0]), draws.randint(0, spare[1]))
    return FramePlan(framing, size, resized, target, corner)


def own_shape(size: Size, area: int) -> Size:
    """Return the nearest shape a VAE takes to a picture's own, shrunk to at most ``area`` pixels.

    Sides are multiples of 8 within 64..4096, so an extremely long strip is squeezed.
    """
    shrink = min(1.0, math.sqrt(area / (size[0] * size[1])))
    exact = (size[0] * shrink, size[1] * shrink)
    options = [
        (_limited(math.floor(exact[0] / LATENT_STEP) + i), _limited(exact[1] // LATENT_STEP + j))
        for i in (0, 1)
        for j in (0, 1)
    ]
    fitting = [option for option in options if option[0] * option[1] <= max(area, MIN_SIDE**2)]
    aspect = size[0] / size[1]
    # The larger of two equally well shaped ones keeps more of the picture.
    return min(
        fitting or options[:1],
        key=lambda shape: (abs(math.log(shape[0] / shape[1] / aspect)), -shape[0]),
    )


def render_frame(image: Image.Image, plan: FramePlan, fill: str = "black") -> Framed:
    """Carry out a plan.

    Args:
        image: RGB source or its L mask, upright; it may have been decoded at a reduced size.
        plan: made for the source's full size.
        fill: one of :data:`FILLS`, for ``letterbox``.
    """
    if plan.framing == "letterbox":
        framed = _letterbox(_resize(image, plan.resized), plan.size, fill)
    elif plan.framing == "tile":
        framed = _tile(_resize(image, plan.resized), plan.size)
    else:
        framed = _window(image, plan)
    if plan.flip:
        framed = framed.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return Framed(framed, plan)


def _name_and_weight(part: str) -> tuple[str, float]:
    words = part.replace("%", " ").replace(":", " ").split()
    names = [word for word in words if word in FRAMINGS]
    numbers = [word for word in words if re.fullmatch(r"\d+(\.\d+)?", word)]
    if len(names) != 1 or len(names) + len(numbers) != len(words) or len(numbers) > 1:
        raise RecipeError(
            f"framing_mix must be like '70 bucket, 30 stretch' with framings out of "
            f"{', '.join(FRAMINGS)}; got {part!r}."
        )
    weight = float(numbers[0]) if numbers else 1.0
    if weight <= 0:
        raise RecipeError(f"A weight in framing_mix must be above 0, got {part!r}.")
    return names[0], weight


def _limited(latents: float) -> int:
    return int(min(MAX_SIDE, max(MIN_SIDE, latents * LATENT_STEP)))


def _contained(size: Size, target: Size, enlarge: bool) -> Size:
    scale = min(target[0] / size[0], target[1] / size[1])
    if not enlarge:
        scale = min(1.0, scale)
    return (
        min(target[0], max(1, round(size[0] * scale))),
        min(target[1], max(1, round(size[1] * scale))),
    )


def _resize(image: Image.Image, size: Size) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _window(image: Image.Image, plan: FramePlan) -> Image.Image:
    """Resize only the part that is cut out: the same pixels, without the rest's cost."""
    if plan.resized == image.size:
        left, top = plan.corner
        return image.crop((left, top, left + plan.size[0], top + plan.size[1]))
    x, y = image.width / plan.resized[0], image.height / plan.resized[1]
    box = (
        plan.corner[0] * x,
        plan.corner[1] * y,
        min(image.width, (plan.corner[0] + plan.size[0]) * x),
        min(image.height, (plan.corner[1] + plan.size[1]) * y),
    )
    return image.resize(plan.size, Image.Resampling.LANCZOS, box=box)


def _letterbox(image: Image.Image, target: Size, fill: str) -> Image.Image:
    left, top = (target[0] - image.width) // 2, (target[1] - image.height) // 2
    if fill == "edge":
        right, bottom = target[0] - image.width - left, target[1] - image.height - top
        pixels = np.asarray(image)
        border = ((top, bottom), (left, right), (0, 0))[: pixels.ndim]
        return Image.fromarray(np.pad(pixels, border, mode="edge"))
    page = Image.new("RGB", target)
    if fill == "blur":
        page = _window(image, plan_frame(image.size, "center_crop", target, BucketRule(1), None))
        page = page.filter(ImageFilter.GaussianBlur(max(target) * BLUR_SHARE))
    page.paste(image, (left, top))
    return page


def _tile(image: Image.Image, target: Size) -> Image.Image:
    across, down = -(-target[0] // image.width), -(-target[1] // image.height)
    pixels = np.asarray(image)
    tiled = np.tile(pixels, (down, across, 1)[: pixels.ndim])[: target[1], : target[0]]
    return Image.fromarray(np.ascontiguousarray(tiled))
