"""Each corruption by what it does to a photograph, and the chain they form."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_on_disk import photograph
from PIL import Image

from glitch_train.dataset.corruptions.chain import (
    CORRUPTIONS,
    CorruptionStep,
    chain_text,
    corrupt,
    parse_chain,
)
from glitch_train.dataset.corruptions.jpeg import encode_jpeg, flip_bits, scan_bytes
from glitch_train.errors import RecipeError

PHOTO = photograph("chelsea.png", (160, 128))
OTHER = photograph("coffee.png", (160, 128))


def apply(text: str, *, seed: int = 0, variant: int = 0, image: Image.Image = PHOTO) -> np.ndarray:
    """Return a corrupted photograph as an array of ints."""
    chain = parse_chain(text)
    result = corrupt(image, chain, seed, "photo", variant, lambda draws, size: OTHER)
    assert result.mode == "RGB"
    assert result.size == image.size
    return np.asarray(result).astype(int)


ORIGINAL = np.asarray(PHOTO).astype(int)


def distance(pixels: np.ndarray) -> float:
    """Return the mean difference to the photograph, 0 to 255."""
    return float(np.abs(pixels - ORIGINAL).mean())


def blockiness(pixels: np.ndarray) -> float:
    """Return how much stronger steps are between 8×8 blocks than within them."""
    steps = np.abs(np.diff(pixels.mean(axis=2), axis=1)).mean(axis=0)
    return float(steps[7::8].mean() / np.delete(steps, np.s_[7::8]).mean())


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_corruption_changes_the_picture_and_repeats(kind: str) -> None:
    """Catches one that does nothing, or whose result depends on more than seed and variant."""
    first = apply(kind)
    assert distance(first) > 1
    assert (apply(kind) == first).all()
    assert np.asarray(PHOTO).astype(int).tolist() == ORIGINAL.tolist()


@pytest.mark.parametrize("kind", sorted(set(CORRUPTIONS) - {"posterize", "resolution_crush"}))
def test_random_corruptions_vary(kind: str) -> None:
    """Catches draws that ignore the seed or the variant."""
    kind = f"{kind} amount=0.9"
    assert len({apply(kind, variant=variant).tobytes() for variant in range(6)}) > 1
    assert len({apply(kind, seed=seed).tobytes() for seed in range(6)}) > 1


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_amount_is_the_strength(kind: str) -> None:
    """Catches an amount that is ignored or runs backwards; 0 changes nothing at all."""

    def mean(amount: float) -> float:
        runs = (apply(f"{kind} amount={amount}", variant=v) for v in range(12))
        return float(np.mean([distance(pixels) for pixels in runs]))

    assert mean(0) == 0
    assert mean(0.25) < mean(1)


def test_probability_is_per_variant() -> None:
    """Catches all or none, and a chance that is far off: 200 draws at 0.3."""
    hit = sum(distance(apply("posterize probability=0.3", variant=v)) > 0 for v in range(200))
    assert 40 <= hit <= 80
    assert all(distance(apply("posterize probability=0", variant=v)) == 0 for v in range(20))


def test_steps_are_carried_out_in_order() -> None:
    """Catches a chain that is sorted: crushing after posterizing smooths its levels again."""
    few = "posterize bits=1"
    smooth = "resolution_crush width=40 height=32 filter=bilinear"
    assert len(np.unique(apply(f"{smooth}\n{few}"))) == 2
    assert len(np.unique(apply(f"{few}\n{smooth}"))) > 20


def test_a_step_does_not_disturb_the_others_draws() -> None:
    """Catches one stream for the whole chain: an earlier step's options would move later ones."""
    later = "channel_shift shift=0.3"
    first = apply(f"pixel_sort amount=0\n{later}")
    assert (apply(f"jpeg_crush amount=0\n{later}") == first).all()


def test_jpeg_crush_makes_blocks_and_its_options_arrive() -> None:
    """Catches options that are not passed on, each with a value of its own."""
    low = apply("jpeg_crush quality_low=5 quality_high=5")
    assert blockiness(low) > 1.5 * blockiness(ORIGINAL)
    expected = Image.open(io.BytesIO(encode_jpeg(PHOTO, 5, "4:2:0")))
    assert (low == np.asarray(expected).astype(int)).all()
    full = apply("jpeg_crush quality_low=5 quality_high=5 subsampling=4:4:4")
    assert (full != low).any()
    again = apply("jpeg_crush quality_low=40 quality_high=40 generations=6 shift_px=1")
    assert distance(again) > distance(apply("jpeg_crush quality_low=40 quality_high=40"))
    # Moved and moved back: the picture itself stays in place.
    assert distance(again) < np.abs(np.roll(again, 3, axis=1) - ORIGINAL).mean()


def test_jpeg_quality_is_drawn_from_its_range() -> None:
    """Catches one quality for all variants, and one outside the range."""
    matches = set()
    for variant in range(24):
        crushed = apply("jpeg_crush quality_low=10 quality_high=13", variant=variant)
        for quality in range(1, 40):
            with Image.open(io.BytesIO(encode_jpeg(PHOTO, quality, "4:2:0"))) as im:
                if (np.asarray(im).astype(int) == crushed).all():
                    matches.add(quality)
    assert {10, 13} <= matches <= {10, 11, 12, 13}


def test_resolution_crush_leaves_few_colours_in_blocks() -> None:
    """Catches a wrong size, or nearest that smooths."""
    pixels = apply("resolution_crush width=10 height=8")
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) <= 80
    assert (pixels[:16, :16] == pixels[0, 0]).all()
    assert len(np.unique(apply("resolution_crush width=10 height=8 filter=lanczos"))) > 100


def test_posterize_leaves_its_levels() -> None:
    """Catches a wrong number of levels."""
    assert len(np.unique(apply("posterize bits=2"))) == 4


def test_channel_shift_moves_red_and_blue_only() -> None:
    """Catches green moved, or red and blue moved together."""
    pixels = apply("channel_shift shift=0.1")
    assert (pixels[..., 1] == ORIGINAL[..., 1]).all()
    assert sorted(pixels[..., 0].ravel()) == sorted(ORIGINAL[..., 0].ravel())
    assert (pixels[..., 0] != ORIGINAL[..., 0]).any()
    assert (pixels[..., 2] != ORIGINAL[..., 2]).any()


@pytest.mark.parametrize(("direction", "axis"), [("vertical", 0), ("horizontal", 1)])
def test_pixel_sort_keeps_pixels_in_their_line(direction: str, axis: int) -> None:
    """Catches pixels that appear, vanish or leave their line, and lines along the wrong axis."""
    pixels = apply(f"pixel_sort direction={direction} low=0 high=255")

    def lines(values: np.ndarray) -> list:
        return [sorted(map(tuple, np.take(values, i, 1 - axis))) for i in range(20)]

    assert lines(pixels) == lines(ORIGINAL)
    luma = pixels @ np.array([299, 587, 114]) // 1000
    assert (np.diff(luma, axis=axis) >= 0).all()


def test_pixel_sort_leaves_the_dark_and_bright_alone() -> None:
    """Catches thresholds that are ignored."""
    pixels = apply("pixel_sort low=100 high=150")
    luma = ORIGINAL @ np.array([299, 587, 114]) // 1000
    outside = (luma < 100) | (luma > 150)
    assert (pixels[outside] == ORIGINAL[outside]).all()


def test_scanlines_are_where_they_belong() -> None:
    """Catches wrong rows, and rows that are darkened more than asked."""
    pixels = apply("scanline spacing_px=5 darkness=0.5 jitter=0")
    assert np.abs(pixels[::5] - ORIGINAL[::5] * 0.5).max() <= 1
    rest = np.arange(len(pixels)) % 5 != 0
    assert (pixels[rest] == ORIGINAL[rest]).all()


def test_datamosh_takes_blocks_of_another_picture() -> None:
    """Catches invented pixels, a share that is off, and blocks from the picture itself."""
    pixels = apply("datamosh_blocks block_px=16 share=0.5 drift_px=0")
    other = np.asarray(OTHER).astype(int)
    foreign = (pixels == other).all(axis=2)
    assert (foreign | (pixels == ORIGINAL).all(axis=2)).all()
    assert foreign.mean() == pytest.approx(0.5, abs=0.06)


def test_datamosh_without_another_picture_changes_nothing() -> None:
    """Catches a crash in a folder of one."""
    chain = parse_chain("datamosh_blocks")
    assert corrupt(PHOTO, chain, 0, "photo", 0, lambda draws, size: None) is PHOTO


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 3000),
    st.integers(1, 95),
    st.floats(0, 1),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_bitstream_never_crashes(seed, flips, quality, start, size) -> None:
    """Catches streams that libjpeg gives up on, down to pictures of one pixel."""
    image = PHOTO.resize(size)
    text = f"bitstream flips={flips} quality={quality} start={start}"
    assert apply(text, seed=seed, image=image).shape == (size[1], size[0], 3)


def test_bitstream_flips_no_markers_and_only_scan_data() -> None:
    """Catches damage to the header, or a new marker, either of which ends the decoding."""
    stream = encode_jpeg(PHOTO, 60, "4:2:0")
    places = scan_bytes(stream)
    begin = stream.index(b"\xff\xda")
    assert places.min() > begin + 2
    bits = np.random.default_rng(0).integers(0, 8, size=len(places))
    damaged = flip_bits(stream, places, bits)
    assert damaged[:begin] == stream[:begin]
    assert damaged.count(b"\xff") == stream.count(b"\xff")
    assert sum(a != b for a, b in zip(damaged, stream, strict=True)) == len(places)


def test_bitstream_spares_what_comes_before_its_start() -> None:
    """Catches a start that is ignored."""
    pixels = apply("bitstream start=0.6 flips=30")
    whole = apply("bitstream start=0.999 flips=1")
    assert (pixels[:40] == whole[:40]).all()
    assert (pixels[80:] != whole[80:]).any()


def test_chains_are_read_and_written() -> None:
    """Catches options lost between text and step; every option gets a value of its own."""
    text = (
        "resolution_crush amount=0.9 probability=0.8 width=123 height=45 filter=bilinear\n"
        "jpeg_crush amount=0.7 probability=0.6 quality_low=4 quality_high=9 generations=3 "
        "shift_px=2 subsampling=4:4:4"
    )
    steps = parse_chain(text)
    assert [step.kind for step in steps] == ["resolution_crush", "jpeg_crush"]
    assert "\n".join(step.to_text() for step in steps) == text
    assert parse_chain("posterize; # nothing\n\n pixel_sort  amount = 0.5 ") == (
        CorruptionStep("posterize", CORRUPTIONS["posterize"]()),
        CorruptionStep("pixel_sort", CORRUPTIONS["pixel_sort"](amount=0.5)),
    )
    assert chain_text("posterize", "", "scanline;posterize bits=1") == (
        "posterize\nscanline\nposterize bits=1"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("jpeg_crash", "did you mean 'jpeg_crush'"),
        ("posterize bit=3", "did you mean 'bits'"),
        ("posterize bits", "write name=value"),
        ("posterize bits=9", "bits must be 1 to 8, got 9"),
        ("posterize bits=two", "bits must be a whole number"),
        ("posterize amount=nan", "amount must be a number"),
        ("posterize amount=1.5", "amount must be 0.0 to 1.0"),
        ("jpeg_crush subsampling=4:1:1", "subsampling must be one of 4:4:4, 4:2:0"),
        ("jpeg_crush quality_low=50", "quality_low must be at most quality_high"),
        ("pixel_sort low=230", "low must be at most high"),
    ],
)
def test_bad_chains_are_refused_with_a_sentence(text: str, sentence: str) -> None:
    """Catches a mistyped step that would silently be left out."""
    with pytest.raises(RecipeError, match=sentence):
        parse_chain(text)
