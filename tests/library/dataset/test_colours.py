"""Colour spaces and modes of pictures: as bright and colourful in training as on a screen."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from pictures_on_disk import srgb_profile, wide_profile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from glitch_train.dataset import pictures
from glitch_train.dataset.pictures import CHECK_ONLY, Picture, open_picture
from glitch_train.errors import DatasetError

RAMP = np.linspace(0, 1, 64, dtype=np.float32)[None, :].repeat(64, 0)


def opened(image: Image.Image, kind: str, **options: object) -> Picture:
    """Return a picture that was written as a file and read again."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    picture = open_picture(stream.getvalue(), f"a.{kind.lower()}")
    assert open_picture(stream.getvalue(), "a", needed=CHECK_ONLY).note == picture.note
    return picture


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_wide_gamut_is_brought_into_srgb(mode: str) -> None:
    """Catches cameras' and phones' colours trained paler than they are, without a word."""
    image = Image.new("RGB", (64, 64), (200, 100, 50)).convert(mode)
    if mode == "RGBA":
        image.putpixel((0, 0), (0, 0, 0, 0))
    wide = opened(image, "PNG", icc_profile=wide_profile())
    red, green, blue = wide.image.getpixel((32, 32))
    assert red > 215
    assert (abs(green - 100) < 8, blue < 50) == (True, True)
    assert "by its ICC profile" in wide.note
    assert mode != "RGBA" or wide.image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("profile", [srgb_profile(), b"no profile at all", b""])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_what_is_srgb_is_left_alone(mode: str, profile: bytes) -> None:
    """Catches colours that are rounded anew, and a remark on every photograph."""
    image = Image.new(mode, (64, 64), {"L": 90, "RGB": (200, 100, 50)}.get(mode, (9, 8, 7, 255)))
    picture = opened(image, "PNG", icc_profile=profile)
    assert np.array_equal(np.asarray(picture.image), np.asarray(image.convert("RGB")))
    assert "ICC" not in picture.note


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, -5.0, 1.2])
def test_one_odd_number_does_not_blacken_a_picture(odd: float) -> None:
    """Catches renderers' pictures in numbers with a point: one without a value, one highlight."""
    values = RAMP.copy()
    values[0, 0] = odd
    row = np.asarray(opened(Image.fromarray(values), "TIFF").image)[32, :, 0]
    assert (row[0], row[-1], abs(int(row[32]) - 130) < 3) == (0, 255, True)


def test_whole_numbers_below_zero_are_not_cut_off() -> None:
    """Catches the darker half of a signed picture trained as black."""
    values = ((RAMP - 0.5) * 65535).astype(np.int32)
    row = np.asarray(opened(Image.fromarray(values), "TIFF").image)[32, :, 0]
    assert (row[0], row[-1], abs(int(row[32]) - 130) < 3) == (0, 255, True)


@pytest.mark.parametrize("values", [RAMP, (RAMP * 65535).astype(np.uint16)], ids=["F", "I;16"])
def test_white_may_be_zero_in_a_tiff(values: np.ndarray) -> None:
    """Catches scans that are trained as their negatives."""
    photometric = {262: 0}
    row = np.asarray(opened(Image.fromarray(values), "TIFF", tiffinfo=photometric).image)[32, :, 0]
    assert (row[0], row[-1]) == (255, 0)


def test_numbers_without_a_sign_do_not_wrap() -> None:
    """Catches the brighter half of a picture of 32 bits trained as its darkest."""
    stream = io.BytesIO()
    stored = (RAMP.astype(float) * (2**32 - 1)).astype(np.uint32).view(np.int32)
    Image.fromarray(stored).save(stream, "TIFF")
    signed, unsigned = (struct.pack("<HHIH", 339, 3, 1, sign) for sign in (2, 1))
    raw = stream.getvalue()
    assert signed in raw
    row = np.asarray(open_picture(raw.replace(signed, unsigned), "a.tif").image)[32, :, 0]
    assert (row[0], row[-1], abs(int(row[32]) - 130) < 3) == (0, 255, True)


def test_a_picture_with_more_text_than_is_read_says_so() -> None:
    """Catches a whole picture called damaged for the workflow that is written into it."""
    text = PngInfo()
    text.add_text("workflow", "x" * 2_000_000, zip=True)
    with pytest.raises(DatasetError, match="more text than is read; save it without"):
        opened(Image.new("RGB", (8, 8)), "PNG", pnginfo=text)


@pytest.mark.parametrize("needed", [None, CHECK_ONLY], ids=["whole", "checked"])
def test_a_picture_that_cannot_be_prepared_does_not_pass_the_check(needed) -> None:
    """Catches a palette that is missing, found out when pictures are already being written."""
    stream = io.BytesIO()
    Image.new("P", (8, 8)).save(stream, "PNG")
    raw = stream.getvalue()
    start, end = raw.index(b"PLTE") - 4, raw.index(b"IDAT") - 4
    with pytest.raises(DatasetError, match="palette"):
        open_picture(raw[:start] + raw[end:], "a.png", needed=needed)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "L", "I;16", "F"])
def test_a_large_picture_is_reduced_in_strips(mode: str, orientation: int, monkeypatch) -> None:
    """Catches seams, another brightness or side, and a size that is not the source's."""
    across, down = np.meshgrid(np.linspace(0, 1, 1210), np.linspace(0, 1, 907))
    if mode in ("I;16", "F"):
        array = across * 60_000 if mode == "I;16" else across
        image = Image.fromarray(array.astype(np.uint16 if mode == "I;16" else np.float32))
    else:
        bands = np.stack([across, down, 1 - across, 0.5 + down / 2], axis=-1)
        image = Image.fromarray((255 * bands).astype(np.uint8), "RGBA")
        image = image.convert("RGB").convert(mode) if mode != "RGBA" else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, "TIFF" if mode in ("CMYK", "F") else "PNG", exif=exif)
    whole = open_picture(stream.getvalue(), "a", needed=(30, 40))
    monkeypatch.setattr(pictures, "LARGE_PIXELS", 1000)
    part = open_picture(stream.getvalue(), "a", needed=(30, 40))
    assert (part.size, part.note) == (whole.size, whole.note)
    least = 2 * np.array((30, 40))
    assert (np.array(part.image.size) >= least).all()
    assert (np.array(part.image.size) < 3 * least).any()
    expected = whole.image.resize(part.image.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(part.image, int) - np.asarray(expected, int)).max() <= 4
