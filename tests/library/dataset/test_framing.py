"""Each framing by what it keeps of the picture, and what SDXL is told about it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures_on_disk import gradient, photograph

from glitch_train.dataset.buckets import BucketRule
from glitch_train.dataset.framing import FRAMINGS, own_shape, parse_mix, plan_frame, render_frame
from glitch_train.errors import RecipeError
from glitch_train.training.items import time_ids

BUCKETS = BucketRule(512 * 512)
SOURCE = (400, 200)
TARGET = (128, 128)


def framed(framing: str, *, fill: str = "black", seed: int = 0, flip: bool = False) -> np.ndarray:
    """Return the framed gradient as an array of ints."""
    import dataclasses

    plan = plan_frame(SOURCE, framing, TARGET, BUCKETS, random.Random(seed))
    plan = dataclasses.replace(plan, flip=flip)
    image = render_frame(gradient(*SOURCE), plan, fill).image
    assert image.size == plan.size
    return np.asarray(image).astype(int)


def columns(pixels: np.ndarray) -> tuple[int, int]:
    """Return the source column at the left and right edge, as 0 to 255."""
    row = pixels[pixels.shape[0] // 2]
    return row[0, 0], row[-1, 0]


def test_center_crop_keeps_the_middle() -> None:
    """Catches a crop from a corner: half of the width remains, a quarter gone on each side."""
    left, right = columns(framed("center_crop"))
    assert left == pytest.approx(64, abs=3)
    assert right == pytest.approx(191, abs=3)


def test_random_crop_moves_and_repeats() -> None:
    """Catches a window that is fixed, leaves the picture, or differs for the same seed."""
    lefts = {seed: columns(framed("random_crop", seed=seed)) for seed in range(40)}
    assert all(right - left == pytest.approx(127, abs=4) for left, right in lefts.values())
    assert min(left for left, _ in lefts.values()) < 15
    assert max(right for _, right in lefts.values()) > 240
    assert columns(framed("random_crop", seed=3)) == lefts[3]


def test_stretch_keeps_everything_and_distorts() -> None:
    """Catches a crop, or an aspect ratio that is kept."""
    pixels = framed("stretch")
    assert pixels.shape == (128, 128, 3)
    assert columns(pixels) == pytest.approx((0, 255), abs=3)
    assert pixels[0, 64, 1] < 4
    assert pixels[-1, 64, 1] > 251


def test_letterbox_borders() -> None:
    """Catches a crop or a distortion, and a border that is not what was asked for."""
    black, edge, blur = (framed("letterbox", fill=fill) for fill in ("black", "edge", "blur"))
    assert not black[:32].any()
    assert not black[96:].any()
    assert columns(black) == pytest.approx((0, 255), abs=3)
    assert (edge[:32] == edge[32]).all()
    assert (edge[96:] == edge[95]).all()
    assert (black[32:96] == edge[32:96]).all()
    assert (black[32:96] == blur[32:96]).all()
    assert blur[:32].any()
    assert abs(np.diff(blur[4], axis=0)).max() <= 3


def test_tile_repeats_the_whole_picture() -> None:
    """Catches a single copy with a border, and copies that differ."""
    pixels = framed("tile")
    assert (pixels[:64] == pixels[64:]).all()
    assert columns(pixels) == pytest.approx((0, 255), abs=3)


def test_tile_does_not_enlarge() -> None:
    """Catches a small picture blown up: 100 pixels fit five times into 512."""
    plan = plan_frame((100, 100), "tile", (512, 512), BUCKETS, None)
    pixels = np.asarray(render_frame(gradient(100, 100), plan).image)
    assert plan.resized == (100, 100)
    assert (pixels[:100, :100] == pixels[400:500, 400:500]).all()


def test_uncropped_keeps_everything_at_its_own_shape() -> None:
    """Catches a crop, a side that no VAE takes, and more pixels than asked for."""
    pixels = framed("uncropped")
    assert pixels.shape[:2] == (88, 176)
    assert columns(pixels) == pytest.approx((0, 255), abs=3)


@given(st.tuples(st.integers(1, 30_000), st.integers(1, 30_000)))
def test_own_shape_is_near_and_within_the_area(size: tuple[int, int]) -> None:
    """Catches an aspect ratio that is off, a picture enlarged, or an area exceeded."""
    width, height = own_shape(size, 512 * 512)
    assert width % 8 == height % 8 == 0
    assert width * height <= 512 * 512
    assert min(width, height) >= 64
    assert max(width, height) <= 4096
    if max(size) / min(size) < 3 and min(size) > 200:
        assert width / height == pytest.approx(size[0] / size[1], rel=0.04)


@given(
    st.sampled_from(FRAMINGS),
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.booleans(),
)
def test_every_framing_takes_every_size(framing: str, size: tuple[int, int], flip: bool) -> None:
    """Catches a size on which the geometry or Pillow fails."""
    import dataclasses

    plan = plan_frame(size, framing, (128, 64), BUCKETS, random.Random(0))
    image = render_frame(gradient(*size), dataclasses.replace(plan, flip=flip), "edge").image
    assert image.size == plan.size


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_extreme_strip_costs_little(framing: str) -> None:
    """Catches resizing the whole strip: covering 512×512 it would have 800 million pixels."""
    import tracemalloc

    strip = gradient(30_000, 10)
    plan = plan_frame(strip.size, framing, (512, 512), BUCKETS, random.Random(0))
    tracemalloc.start()
    image = render_frame(strip, plan, "blur").image
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert image.size == plan.size
    assert peak < 50e6


def test_the_window_is_what_a_crop_of_the_whole_would_be() -> None:
    """Catches a window that is off by part of a pixel, beside resizing everything and cropping."""
    from PIL import Image

    source = photograph(size=SOURCE)
    plan = plan_frame(SOURCE, "random_crop", TARGET, BUCKETS, random.Random(5))
    left, top = plan.corner
    whole = source.resize(plan.resized, Image.Resampling.LANCZOS)
    crop = np.asarray(whole.crop((left, top, left + 128, top + 128))).astype(int)
    assert abs(np.asarray(render_frame(source, plan).image).astype(int) - crop).max() <= 1


def test_flip_mirrors_the_picture_and_the_crop_it_reports() -> None:
    """Catches a mirrored picture whose crop is told from the wrong side."""
    import dataclasses

    plain, flipped = framed("random_crop", seed=1), framed("random_crop", seed=1, flip=True)
    assert (flipped == plain[:, ::-1]).all()
    plan = plan_frame(SOURCE, "random_crop", TARGET, BUCKETS, random.Random(1))
    mirrored = dataclasses.replace(plan, flip=True)
    assert plan.crop_left_top[0] + mirrored.crop_left_top[0] == plan.resized[0] - 128


def test_size_conditioning_tells_the_truth_or_lies() -> None:
    """Catches width and height exchanged, or a lie that is true."""
    plan = plan_frame((400, 200), "center_crop", (128, 96), BUCKETS, None)
    assert time_ids(plan, "truthful") == (200, 400, 0, 32, 96, 128)
    assert time_ids(plan, "lie") == (96, 128, 0, 0, 96, 128)


def test_a_mix_is_read() -> None:
    """Catches weights that are not shares, or an order of words that is not understood."""
    assert parse_mix("70 bucket, 30 stretch") == {"bucket": 0.7, "stretch": 0.3}
    assert parse_mix("stretch 3; tile: 1 ") == {"stretch": 0.75, "tile": 0.25}
    assert parse_mix("70% bucket, 30% stretch") == parse_mix("7 bucket, 3 stretch")
    assert parse_mix("tile, stretch") == {"tile": 0.5, "stretch": 0.5}
    assert parse_mix("  ") == {}


@pytest.mark.parametrize("text", ["30 buket", "bucket stretch", "-1 tile", "0 tile", "1 2 tile"])
def test_a_bad_mix_is_refused(text: str) -> None:
    """Catches a mistyped framing that would silently be left out."""
    with pytest.raises(RecipeError, match="framing_mix"):
        parse_mix(text)
