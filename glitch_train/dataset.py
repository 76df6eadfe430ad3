"""A folder of pictures and captions becomes samples, and a report that counts every file once."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DatasetError
from .framing import Framed, frame
from .recipe import DatasetRecipe

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
CAPTION_SUFFIX = ".txt"
BACKGROUND = (255, 255, 255)
"""What shows through transparent pictures."""

OnProgress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Sample:
    """One picture and its caption.

    Attributes:
        path: the picture's file.
        caption: the text it is trained with, possibly empty.
        size: (width, height) of the upright source, in pixels.
    """

    path: Path
    caption: str
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class SkippedFile:
    """A file that is not trained on, and why."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class GlitchDataset:
    """Samples and how they are prepared; pictures are opened only when asked for.

    Attributes:
        recipe: the settings it was made with.
        samples: the usable pictures, sorted by file name.
        skipped: every other file of the folder.
        without_caption: names of used pictures that have no caption file.
    """

    recipe: DatasetRecipe
    samples: tuple[Sample, ...]
    skipped: tuple[SkippedFile, ...] = ()
    without_caption: tuple[str, ...] = ()

    def prepare(self, sample: Sample) -> Framed:
        """Open one picture and bring it to the training shape.

        Raises:
            DatasetError: when the file changed and cannot be read any more.
        """
        image = open_picture(sample.path)
        return frame(image, self.recipe.framing, self.recipe.width, self.recipe.height)

    def framing_key(self) -> str:
        """Return everything besides the file that decides what :meth:`prepare` gives."""
        recipe = self.recipe
        return f"{recipe.framing} {recipe.width}x{recipe.height}"


def load_dataset(recipe: DatasetRecipe, on_progress: OnProgress | None = None) -> GlitchDataset:
    """Read a folder of pictures, each with a caption file beside it.

    Every picture is decoded once here, so that a broken one is known before training starts.

    Args:
        recipe: where the pictures are and what becomes of them.
        on_progress: called with (files done, files in all).

    Returns:
        The dataset; unreadable pictures are listed as skipped.

    Raises:
        DatasetError: when the folder is missing or holds no readable picture.
    """
    folder = Path(recipe.folder)
    names = list_files(folder)
    samples: list[Sample] = []
    skipped: list[SkippedFile] = []
    without_caption: list[str] = []
    captions = {name for name in names if Path(name).suffix.lower() == CAPTION_SUFFIX}
    for done, name in enumerate(names):
        path = folder / name
        if path.suffix.lower() in PICTURE_SUFFIXES:
            try:
                size = open_picture(path).size
            except DatasetError as error:
                skipped.append(SkippedFile(name, str(error)))
                continue
            caption_name = _caption_of(path, captions)
            captions.discard(caption_name or "")
            if caption_name is None:
                without_caption.append(name)
            samples.append(Sample(path, read_caption(folder, caption_name), size))
        elif path.suffix.lower() != CAPTION_SUFFIX:
            skipped.append(SkippedFile(name, "not a picture or caption"))
        if on_progress:
            on_progress(done + 1, len(names))
    skipped += [SkippedFile(name, "caption without a readable picture") for name in captions]
    if not samples:
        raise DatasetError(_no_pictures(folder, skipped))
    return GlitchDataset(
        recipe,
        tuple(samples),
        tuple(sorted(skipped, key=lambda file: file.name)),
        tuple(without_caption),
    )


def list_files(folder: Path) -> list[str]:
    """Return the names of the visible files directly in a folder, sorted.

    Raises:
        DatasetError: when the folder is missing or cannot be read.
    """
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}; choose one that holds your pictures.")
    try:
        entries = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    except OSError as error:
        raise DatasetError(f"Cannot read the folder {folder}: {error.strerror}.") from error
    return sorted(name for name in entries if not name.startswith("."))


def folder_fingerprint(folder: Path) -> str:
    """Return a value that changes when a file of the folder is added, removed or edited."""
    digest = hashlib.sha256()
    for name in list_files(folder):
        state = (folder / name).stat()
        digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def open_picture(path: Path) -> Image.Image:
    """Open a picture upright, as RGB; transparency is flattened onto :data:`BACKGROUND`.

    Raises:
        DatasetError: names the file and what is wrong with it.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            return _flatten(upright)
    except UnidentifiedImageError as error:
        raise DatasetError(f"{path.name} is not a picture that Pillow can read.") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path.name} has too many pixels to open safely.") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f"{path.name} cannot be decoded: {error}.") from error


def read_caption(folder: Path, name: str | None) -> str:
    """Return the text of a caption file, stripped; empty without one.

    Bytes that are not UTF-8 are read as Windows-1252, which older caption tools write.
    """
    if name is None:
        return ""
    raw = (folder / name).read_bytes()
    try:
        return raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace").strip()


def report(dataset: GlitchDataset) -> str:
    """Describe a dataset in Markdown: counts, sizes, orientation, captions, skipped files."""
    recipe = dataset.recipe
    sizes = [sample.size for sample in dataset.samples]
    portrait = sum(height > width for width, height in sizes)
    landscape = sum(width > height for width, height in sizes)
    average = tuple(round(sum(side) / len(sizes)) for side in zip(*sizes, strict=True))
    largest = max(sizes, key=lambda size: size[0] * size[1])
    lines = [
        f"**{len(sizes)} pictures** from `{recipe.folder}`, {recipe.repeats} repeats, "
        f"{len(sizes) * recipe.repeats} samples per epoch",
        f"- framing: {recipe.framing} to {recipe.width}×{recipe.height}",
        f"- average size {average[0]}×{average[1]}, largest {largest[0]}×{largest[1]}",
        f"- {portrait} portrait, {landscape} landscape, {len(sizes) - portrait - landscape} square",
        f"- {len(sizes) - len(dataset.without_caption)} with a caption file",
    ]
    lines += [f"- no caption: {name}" for name in dataset.without_caption]
    if dataset.skipped:
        lines.append(f"- {len(dataset.skipped)} files skipped:")
        lines += [f"  - {file.name}: {file.reason}" for file in dataset.skipped]
    return "\n".join(lines)


def training_captions(dataset: GlitchDataset) -> Iterator[str]:
    """Yield each different caption once, in order of first use."""
    yield from dict.fromkeys(sample.caption for sample in dataset.samples)


def _caption_of(picture: Path, captions: set[str]) -> str | None:
    name = picture.stem + CAPTION_SUFFIX
    return name if (picture.parent / name).is_file() or name in captions else None


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image.copy()
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    page = Image.new("RGB", layer.size, BACKGROUND)
    page.paste(layer, mask=layer.getchannel("A"))
    return page


def _no_pictures(folder: Path, skipped: list[SkippedFile]) -> str:
    if not skipped:
        return f"The folder {folder} is empty; put pictures with .txt captions into it."
    first = skipped[0]
    return (
        f"The folder {folder} holds no readable picture ({len(skipped)} files skipped, "
        f"for example {first.name}: {first.reason}); use jpg, png, webp, bmp, tiff or gif."
    )
