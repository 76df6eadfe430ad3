"""Real photographs and broken files for the dataset's tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms


def photograph(name: str = "coffee.png", size: tuple[int, int] | None = None) -> Image.Image:
    """Return one of scikit-image's photographs, RGB, stretched to a size."""
    skimage = pytest.importorskip("skimage")
    with Image.open(Path(skimage.__file__).parent / "data" / name) as opened:
        image = opened.convert("RGB")
    return image.resize(size, Image.Resampling.LANCZOS) if size else image


def gradient(width: int, height: int) -> Image.Image:
    """Return a picture in which red is the column and green the row, both over the whole side."""
    x = np.linspace(0, 255, width, dtype=np.float32)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height, dtype=np.float32)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, np.full_like(x, 128)], axis=-1).round().astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    """Return a picture as JPEG bytes."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", **{"quality": 92, **options})
    return stream.getvalue()


def srgb_profile() -> bytes:
    """Return an ICC profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def wide_profile() -> bytes:
    """Return an ICC profile of Adobe RGB's colours: sRGB's with other primaries.

    Source: Adobe RGB (1998) Color Image Encoding, 4.3.1.1, adapted to D50 as ICC asks.
    """
    raw = bytearray(srgb_profile())
    primaries = {
        b"rXYZ": (0.60974, 0.31111, 0.01947),
        b"gXYZ": (0.20528, 0.62567, 0.06087),
        b"bXYZ": (0.14919, 0.06322, 0.74457),
    }
    for number in range(int.from_bytes(raw[128:132], "big")):
        tag = 132 + 12 * number
        place = int.from_bytes(raw[tag + 4 : tag + 8], "big") + 8
        for value in primaries.get(bytes(raw[tag : tag + 4]), ()):
            raw[place : place + 4] = round(value * 65536).to_bytes(4, "big")
            place += 4
    return bytes(raw)


def photo_folder(folder: Path, count: int = 3, size: tuple[int, int] = (96, 64)) -> Path:
    """Write small photographs ``0.jpg`` … with captions of several parts."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg"]
    for index in range(count):
        image = photograph(names[index % len(names)], size)
        # Equal pictures would share their random variants.
        image.putpixel((0, 0), (index % 256, index // 256, 0))
        (folder / f"{index}.jpg").write_bytes(jpeg(image))
        (folder / f"{index}.txt").write_text(
            f"Picture {index}, seen from afar, in soft light. Its colours are warm. It stands."
        )
    return folder
