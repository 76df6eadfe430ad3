"""Real photographs for demo and tests, and picture folders with captions cut from them.

The photographs ship inside scikit-image's wheel; only its data files are read, so that its own
dependencies need not be installed. Sources and licences: skimage/data/README.txt and
https://scikit-image.org/docs/stable/api/skimage.data.html (NASA, CC0 and public domain).
"""

import importlib.util
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

CRUSHED_JPEG_QUALITY = 6
# Longer side over shorter side of the pictures that are squeezed to a square.
STRETCH = 1.8


class PhotosMissingError(RuntimeError):
    """The package that carries the photographs is not installed."""


@dataclass(frozen=True)
class Photo:
    """A photograph and the prompt that stands for it."""

    name: str
    """One word, for file names."""
    caption: str
    """What the pocket checkpoint draws this picture for."""
    path: Path
    """The picture file."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom of the part worth looking at, in pixels of the file."""

    def open(self) -> Image.Image:
        """Return all of the photograph as RGB; what is transparent lies on white."""
        with Image.open(self.path) as picture:
            if "A" not in picture.getbands():
                return picture.convert("RGB")
            flat = Image.new("RGBA", picture.size, "white")
            flat.alpha_composite(picture.convert("RGBA"))
        return flat.convert("RGB")


_PHOTOS = (
    (
        "astronaut",
        "a portrait of a smiling astronaut in an orange suit",
        "astronaut.png",
        (80, 0, 380, 300),
    ),
    ("cat", "a ginger cat looking at the camera", "chelsea.png", (100, 0, 400, 300)),
    ("coffee", "a cup of coffee on a wooden table", "coffee.png", (80, 0, 480, 400)),
    ("rocket", "a rocket on its launch pad at night", "rocket.jpg", (170, 60, 490, 427)),
    ("motorcycle", "a red motorcycle in a garage", "motorcycle_left.png", (100, 0, 700, 500)),
    (
        "cameraman",
        "a man with a camera on a tripod in a field",
        "camera.png",
        (80, 30, 400, 350),
    ),
    ("coins", "old coins lying in rows on a dark cloth", "coins.png", (0, 0, 303, 303)),
    (
        "galaxies",
        "galaxies and stars in deep black space",
        "hubble_deep_field.jpg",
        (100, 100, 800, 800),
    ),
    ("moon", "craters on the grey surface of the moon", "moon.png", (0, 0, 512, 512)),
    ("eye", "the red back of an eye with its blood vessels", "retina.jpg", (100, 100, 1311, 1311)),
    ("bricks", "a wall of grey bricks", "brick.png", (0, 0, 300, 300)),
    ("gravel", "small round pebbles on the ground", "gravel.png", (0, 0, 300, 300)),
    ("horse", "the black silhouette of a horse", "horse.png", (36, 0, 364, 328)),
)


def demo_photos() -> list[Photo]:
    """Return the demo's photographs, the same ones in the same order every time.

    Raises:
        PhotosMissingError: scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise PhotosMissingError(
            "The demo's photographs come with scikit-image, which is not installed: "
            "pip install scikit-image"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    return [Photo(name, caption, folder / file, box) for name, caption, file, box in _PHOTOS]


def load(photo: Photo, size_px: int) -> Image.Image:
    """Open a photograph as a square: its box, scaled to cover and cut at the centre.

    Args:
        photo: one of `demo_photos()`.
        size_px: side of the square in pixels.

    Returns:
        An RGB picture.
    """
    part = photo.open().crop(photo.box)
    return ImageOps.fit(part, (size_px, size_px), Image.Resampling.LANCZOS)


def write_picture_folder(
    folder: Path,
    photos: Sequence[Photo],
    pictures_per_photo: int = 4,
    size_px: int = 192,
    jpeg_quality: int = CRUSHED_JPEG_QUALITY,
    seed: int = 0,
) -> list[Path]:
    """Write pictures of the given photographs, each with its caption beside it.

    Every picture is another crop, every second one mirrored, every second pair squeezed sideways
    to a square; all are saved as JPEG, by default at a quality that leaves little but blocks.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        photos: whose pictures and captions to write.
        pictures_per_photo: crops of each photograph.
        size_px: side of the square pictures in pixels.
        jpeg_quality: 1 to 95; 6 is visibly crushed.
        seed: seed of the crops; the same seed writes the same bytes.

    Returns:
        The picture files, in the order written; captions have the suffix `.txt` instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)  # noqa: S311 - crops, not secrets
    written = []
    for photo in photos:
        for index in range(pictures_per_photo):
            stretched = index % 4 >= 2
            picture = _random_crop(load(photo, 2 * size_px), rng, stretched)
            if index % 2:
                picture = ImageOps.mirror(picture)
            path = folder / f"{photo.name}_{index:02d}.jpg"
            picture.resize((size_px, size_px), Image.Resampling.LANCZOS).save(
                path, "JPEG", quality=jpeg_quality
            )
            path.with_suffix(".txt").write_text(photo.caption + "\n", encoding="utf-8")
            written.append(path)
    return written


def _random_crop(picture: Image.Image, rng: random.Random, stretched: bool) -> Image.Image:
    """Cut out 80 to 100 % of the picture, `STRETCH` times taller than wide or wider than tall."""
    side = rng.uniform(0.8, 1.0) * picture.width
    width, height = side, side
    if stretched:
        width, height = rng.choice([(side / STRETCH, side), (side, side / STRETCH)])
    left = rng.uniform(0, picture.width - width)
    top = rng.uniform(0, picture.height - height)
    return picture.crop(tuple(round(edge) for edge in (left, top, left + width, top + height)))
