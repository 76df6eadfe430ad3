"""Captions, metadata.jsonl and pictures of any bytes: a dataset or a sentence, nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glitch_train.dataset.caption_files import METADATA_NAME
from glitch_train.dataset.dataset import GlitchDataset
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.dataset.report import DatasetReport
from glitch_train.errors import DatasetError

BOUNDED = settings(max_examples=30, deadline=None, derandomize=True, database=None)
"""The same inputs in every run, and few enough for a few seconds."""

GREY, PALETTE, RGBA = 0, 3, 6
"""Colour types of a PNG."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
CAPTION_BYTES = st.binary(max_size=80) | st.builds(
    lambda text, codec: text.encode(codec, errors="surrogatepass" if "utf" in codec else "replace"),
    st.text(max_size=40),
    st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32-be", "cp1251", "gbk", "cp932"]),
)
METADATA_LINES = st.builds(json.dumps, JSON) | st.builds(
    lambda name, caption, key: json.dumps({"file_name": name, key: caption}),
    st.sampled_from(["a.png", "../a.png", "/etc/passwd", "a.png\0"]) | JSON,
    JSON,
    st.sampled_from(["text", "caption", "prompt", "x"]),
)
MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
MODES += ["I", "F", "I;16"]
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000"]
"""Not AVIF: Pillow's writer of it ends the whole process at some of these pictures."""
ENDINGS = ["png", "jpg", "webp", "gif", "bmp", "tif", "avif", "heic"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with one whole picture."""
    folder = tmp_path_factory.mktemp("fuzzed")
    Image.new("RGB", (48, 32), (9, 90, 200)).save(folder / "a.png")
    return folder


def read_all(folder: Path) -> GlitchDataset:
    """Load a folder, prepare every picture and write the report, as loader and trainer would."""
    recipe = DatasetRecipe(folder=str(folder), width=64, height=64, framing="letterbox")
    dataset = load_dataset(recipe, workers=2)
    json.dumps(DatasetReport.of(dataset).to_dict())
    DatasetReport.of(dataset).to_markdown().encode("utf-8")
    for index, sample in enumerate(dataset.samples):
        dataset.shown_caption(index).encode("utf-8")
        with contextlib.suppress(DatasetError):  # damaged where only a full decode looks
            assert dataset.prepare(sample).image.size == (64, 64)
    return dataset


@pytest.mark.slow
@BOUNDED
@given(caption=CAPTION_BYTES, lines=st.lists(METADATA_LINES, max_size=4), tail=CAPTION_BYTES)
def test_captions_of_any_bytes(folder: Path, caption: bytes, lines: list[str], tail: bytes) -> None:
    """Catches a traceback, half a character, or a control character out of a caption file."""
    for source, name, raw in (
        ("sidecar", "a.txt", caption),
        ("metadata", METADATA_NAME, "\n".join(lines).encode() + b"\n" + tail),
    ):
        (folder / name).write_bytes(raw)
        try:
            (sample,) = read_all(folder).samples
            if source == "sidecar":
                assert not set(sample.caption) & set(map(chr, range(9)))
        finally:
            (folder / name).unlink()


def encoded(mode: str, kind: str, size: tuple[int, int], options: dict[str, object]) -> bytes:
    """Return a picture's bytes, or nothing where Pillow cannot write it."""
    stream = io.BytesIO()
    try:
        frame = Image.new(mode, size)
        more = {"save_all": True, "append_images": [frame.copy()]} if options["moving"] else {}
        frame.save(stream, kind, **more, exif=options["exif"], icc_profile=options["profile"])
    except Exception:  # a mode that this format does not have
        return b""
    return stream.getvalue()


OPTIONS = st.fixed_dictionaries(
    {
        "moving": st.booleans(),
        "exif": st.binary(max_size=30) | st.integers(0, 9).map(lambda turn: exif_turned(turn)),
        "profile": st.binary(max_size=30),
    }
)


def exif_turned(orientation: int) -> bytes:
    """Return EXIF with an orientation that may not exist."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.slow
@settings(BOUNDED, max_examples=60)
@given(
    raw=st.builds(
        encoded,
        st.sampled_from(MODES),
        st.sampled_from(FORMATS),
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        OPTIONS,
    )
    | st.binary(max_size=60),
    ending=st.sampled_from(ENDINGS),
    cut=st.integers(0, 400),
    bent=st.tuples(st.integers(0, 300), st.integers(0, 255)),
)
def test_pictures_of_any_kind(folder: Path, raw: bytes, ending: str, cut: int, bent) -> None:
    """Catches a traceback over an odd mode, a cut or bent file, and a file that is not reported."""
    place, byte = bent
    for content in (
        raw,
        raw[:-cut] if cut else raw,
        raw[:place] + bytes([byte]) + raw[place + 1 :],
    ):
        name = f"b.{ending}"
        (folder / name).write_bytes(content)
        try:
            assert [file.name for file in read_all(folder).files] == ["a.png", name]
        finally:
            (folder / name).unlink()


def png_of(width: int, height: int, *, depth: int = 1, colour: int = PALETTE) -> bytes:
    """Return a PNG whose bits are all zero, of any size, packed; a palette has transparency."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packer = zlib.compressobj(1)
    row = bytes(1 + -(-width * depth * (4 if colour == RGBA else 1) // 8))
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    palette = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\0\xff") if colour == PALETTE else b""
    data = palette + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data


PEAK = r"""
import re, sys
from pathlib import Path
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.pictures import open_alpha, open_picture
from glitch_train.dataset.recipe import DatasetRecipe
path = Path(sys.argv[1])
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10
before = peak()
"""
"""Not by ``getrusage``, whose peak is also that of the process that started this one."""

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


def growth(code: str, path: Path) -> int:
    """Return by how many bytes a new process grows at most in some code that is about a path."""
    command = [sys.executable, "-W", "ignore", "-c", f"{PEAK}{code}\nprint(peak() - before)", path]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@ON_LINUX
@pytest.mark.parametrize(
    ("depth", "colour"), [(8, RGBA), (8, PALETTE), (16, GREY)], ids=["alpha", "palette", "16 bits"]
)
def test_the_largest_picture_takes_less_than_a_gigabyte(tmp_path: Path, depth, colour) -> None:
    """Catches 179 million pixels that are held twice while they are converted."""
    path = tmp_path / "a.png"
    path.write_bytes(png_of(13_300, 13_400, depth=depth, colour=colour))
    read = "raw = path.read_bytes(); open_picture(raw, '', needed=(512, 512)); open_alpha(raw, '')"
    assert growth(read, path) < 1e9


@pytest.mark.slow
@ON_LINUX
def test_huge_pictures_take_turns(tmp_path: Path) -> None:
    """Catches threads that each hold a huge picture, and a conversion that holds it thrice.

    Three pictures of 88 million pixels: 88 MB decoded, ten times that when all are converted.
    """
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png_of(9_400 - number, 9_400))
    (tmp_path / "bomb.png").write_bytes(png_of(1, 1).replace(struct.pack(">II", 1, 1), b"\x7f" * 8))
    recipe = "DatasetRecipe(folder=str(path), width=64, height=64)"
    read = f"assert len(load_dataset({recipe}, workers=3).samples) == 3"
    assert growth(read, tmp_path) < 2e8
