"""Open picture files as they come: any mode, any colour space, upright, as RGB."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import io
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageColor, UnidentifiedImageError

from ..drawing.sizes import Size
from ..errors import DatasetError, RecipeError
from ..model.file_kind import what_came_instead
from .colours import in_strips, to_rgb

PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib"),
    *(".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"),
)
PLUGINS = {".heic": "pillow_heif", ".heif": "pillow_heif", ".avif": "pillow_avif"}
"""Suffix to the module that teaches Pillow to read it, where Pillow itself does not."""

# Phones' pictures are sent on as .jpg. Source: ISO/IEC 23008-12, 10.2; AV1 Image File Format, 6.2.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"), "pillow_heif"),
    **dict.fromkeys((b"avif", b"avis"), "pillow_avif"),
}
_START_BYTES = 300
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")

MAX_PIXELS = 178_956_970
"""Pillow's own limit against decompression bombs, also where a program has switched it off."""

LARGE_PIXELS = 30_000_000
"""Larger pictures are decoded one at a time: threads share the memory."""

CHECK_ONLY = (1, 1)
"""Size that is needed of a picture whose pixels are only checked."""

DRAFT_GAP = 2.0
"""JPEGs and large pictures are reduced to at least this many times the size needed: the value with
which Pillow's own thumbnails are "indistinguishable" from a full decode."""

EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what turns the stored picture upright. Source: Exif 2.32, 4.6.4 A."""

WHITE = (255, 255, 255)

_one_large = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Picture:
    """An opened picture.

    Attributes:
        image: RGB, upright; possibly decoded at a reduced size.
        size: (width, height) of the upright source at its full size.
        note: what a person should know about how it was read, or empty.
    """

    image: Image.Image
    size: Size
    note: str = ""


def parse_color(text: str) -> tuple[int, int, int]:
    """Return a colour name or #rrggbb as (red, green, blue), each 0 to 255.

    Raises:
        RecipeError: for anything else.
    """
    try:
        color = ImageColor.getrgb(text.strip())
    except ValueError as error:
        raise RecipeError(
            f"background must be a colour name such as white or #rrggbb, got {text!r}."
        ) from error
    return color[0], color[1], color[2]


def open_picture(
    raw: bytes,
    name: str,
    *,
    needed: Size | None = None,
    background: tuple[int, int, int] = WHITE,
) -> Picture:
    """Open a picture from its file's bytes.

    Args:
        raw: the whole file.
        name: the file's name, for messages and for its suffix.
        needed: (width, height) that suffices; a JPEG, and any large picture, is then reduced while
            it is read where that is much smaller.
        background: what shows through transparency.

    Raises:
        DatasetError: says what is wrong with the file, without its name.
    """
    with _opened(raw, name) as opened:
        return _read(opened, needed, background)


def open_alpha(raw: bytes, name: str) -> Image.Image | None:
    """Return how opaque a picture is, upright, mode L; None where it has no transparency.

    Args:
        raw: the whole file.
        name: the file's name, for messages and for its suffix.

    Raises:
        DatasetError: as :func:`open_picture`.
    """
    with _opened(raw, name) as opened:
        opened.load()
        if not opened.has_transparency_data:
            return None
        alpha = in_strips(opened, "L", lambda strip: strip.convert("RGBA").getchannel("A"))
        return _upright(alpha, opened)


@contextlib.contextmanager
def _opened(raw: bytes, name: str) -> Iterator[Image.Image]:
    """Open a file, one at a time where it is large; what goes wrong in the block is said."""
    if not raw:
        raise DatasetError("the file is empty")
    plugin = _plugin_for(raw, name)
    if plugin:
        _plugin(plugin)
    try:
        with Image.open(io.BytesIO(raw)) as opened:
            pixels = opened.width * opened.height
            with _one_large if pixels > LARGE_PIXELS else contextlib.nullcontext():
                _check_pixels(opened)
                yield opened
    except UnidentifiedImageError as error:
        raise DatasetError(_unreadable(raw, plugin)) from error
    except Image.DecompressionBombError as error:
        raise DatasetError("too many pixels to open safely (a decompression bomb?)") from error
    except DatasetError:
        raise
    except Exception as error:  # Pillow raises whatever a damaged file makes it stumble over
        if "MAX_TEXT" in str(error):
            raise DatasetError("it holds more text than is read; save it without") from error
        raise DatasetError(f"damaged, cannot be decoded: {_reason(error)}") from error


def _read(opened: Image.Image, needed: Size | None, background: tuple[int, int, int]) -> Picture:
    note, size = _note(opened), opened.size
    if needed is not None and opened.format == "JPEG":
        wanted = _turned(needed, opened)
        opened.draft(None, (round(wanted[0] * DRAFT_GAP), round(wanted[1] * DRAFT_GAP)))
        opened.load()
    else:
        opened.load()  # some formats are upright then, and Pillow's versions differ in which
        size = opened.size
    if opened.mode == "P" and opened.palette is None:
        raise DatasetError("damaged: it names colours of a palette that it does not have")
    part, smaller = opened, 1
    if needed == CHECK_ONLY:  # a conversion of all pixels would hold them twice more
        part = opened.crop((0, 0, 1, 1))
    elif needed is not None and opened.width * opened.height > LARGE_PIXELS:
        width, height = _turned(needed, opened)
        smaller = max(1, int(min(opened.width / width, opened.height / height) / DRAFT_GAP))
    image, color_note = to_rgb(part, background, getattr(opened, "tag_v2", {}), smaller)
    note = "; ".join(filter(None, (note, color_note)))
    return Picture(_upright(image, opened), _turned(size, opened), note)


def _check_pixels(opened: Image.Image) -> None:
    if opened.width * opened.height > MAX_PIXELS:
        raise DatasetError(
            f"{opened.width}×{opened.height} is too many pixels to open safely (a bomb?)"
        )
    if not opened.width * opened.height:
        raise DatasetError("it has no pixels")


def _turned(size: Size, opened: Image.Image) -> Size:
    """Return the size of the stored picture for one of the upright, and the other way round."""
    return (size[1], size[0]) if _orientation(opened) in SIDEWAYS else size


def _orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF, as above
        return 1


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Turn what was loaded as its EXIF says; nothing else of the EXIF needs to be whole."""
    turn = TURNS.get(_orientation(opened))
    return image if turn is None else image.transpose(turn)


def _note(opened: Image.Image) -> str:
    if not getattr(opened, "is_animated", False) or opened.format == "MPO":
        return ""
    what = "pages" if opened.format == "TIFF" else "frames"
    return f"first of {getattr(opened, 'n_frames', 1)} {what}"


def _unreadable(raw: bytes, plugin: str) -> str:
    if plugin and not _plugin(plugin):
        return f"this format needs a plugin: pip install {plugin.replace('_', '-')}"
    if raw.startswith(_JPEG_XL):
        return "JPEG XL, which is not read; save it as PNG or JPEG"
    instead = what_came_instead(raw[:_START_BYTES])
    return f"not a picture but {instead}" if instead else "not a picture that Pillow can read"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _plugin_for(raw: bytes, name: str) -> str:
    """Return the module that reads a file which Pillow may not, by its name, else its content."""
    by_content = _BRANDS.get(raw[8:12], "") if raw[4:8] == b"ftyp" else ""
    return PLUGINS.get(Path(name).suffix.lower(), by_content)


@functools.cache
def _plugin(module: str) -> bool:
    """Teach Pillow a format; returns whether the plugin is installed."""
    try:
        plugin = importlib.import_module(module)
    except ImportError:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        register = getattr(plugin, "register_heif_opener", None)
        if register:
            register()
    return True
