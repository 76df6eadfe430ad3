"""Every kind of bad file that folders hold: named, counted once, never fatal."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import tempfile
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import gradient, jpeg, photo_folder, photograph, srgb_profile
from PIL import Image

from glitch_train.dataset.dataset import GlitchDataset
from glitch_train.dataset.folder import folder_fingerprint, list_folder
from glitch_train.dataset.load import check_folder, load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.dataset.report import DatasetReport
from glitch_train.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good picture and its caption."""
    return photo_folder(tmp_path / "pictures", 1)


def load(folder: Path, **settings: object) -> GlitchDataset:
    """Load a folder and check that it counts every file exactly once."""
    recipe = DatasetRecipe(folder=str(folder), **{"width": 64, "height": 64, **settings})
    dataset = load_dataset(recipe)
    files = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
    assert [file.name for file in dataset.files] == files
    used = {file.name for file in dataset.files if file.used}
    assert {sample.name for sample in dataset.samples} <= used
    assert all(file.reason for file in dataset.skipped)
    return dataset


def reason(dataset: GlitchDataset, name: str) -> str:
    """Return why a file is skipped."""
    return {file.name: file.reason for file in dataset.skipped}[name]


def remark(dataset: GlitchDataset, name: str) -> str:
    """Return what is said of a used file."""
    return {file.name: file.reason for file in dataset.files if file.used}[name]


def prepared(dataset: GlitchDataset, name: str) -> np.ndarray:
    """Return a prepared picture as an array of ints."""
    sample = next(sample for sample in dataset.samples if sample.name == name)
    return np.asarray(dataset.prepare(sample).image).astype(int)


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("cut.jpg", jpeg(photograph())[:20_000], "damaged"),
        ("cut.png", None, "damaged"),
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"I am a text file", "not a picture"),
        ("head.jpg", b"\xff\xd8\xff\xe0", "not a picture"),
        ("pillow.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400), ""),
        ("notes.pdf", b"%PDF-1.4", "not a picture or caption"),
        ("sent.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400), ""),
        ("new.png", b"\xff\x0a" + bytes(60), "JPEG XL, which is not read; save it as PNG"),
        ("page.jpg", b"<!DOCTYPE html><html>404", "a saved web page"),
        ("lfs.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:a", "Git LFS pointer"),
        ("layers.psd", b"8BPS", "a kind of picture that is not read"),
        ("all.zip", b"PK\3\4", "an archive, which is not looked into; unpack it"),
        ("metadata.csv", b"file_name,text\n0.jpg,x", "not read, if it holds captions"),
        ("0.tags", b"1girl", "not read, if it holds captions"),
        (".hidden.jpg", jpeg(gradient(20, 20)), "a hidden file"),
    ],
)
def test_unreadable_files_are_named(folder: Path, name: str, raw: bytes | None, said: str) -> None:
    """Catches a crash, a silent drop, and half a picture that is trained on."""
    if raw is None:
        photograph(size=(200, 200)).save(folder / name)
        raw = (folder / name).read_bytes()[:5000]
    (folder / name).write_bytes(raw)
    dataset = load(folder)
    assert [sample.name for sample in dataset.samples] == ["0.jpg"]
    assert said in reason(dataset, name)


def test_heic_without_its_plugin_says_what_to_install(folder: Path, monkeypatch) -> None:
    """Catches a format that is merely "not readable"."""
    from glitch_train.dataset import pictures

    monkeypatch.setattr(pictures, "_plugin", lambda module: False)
    for name in ("phone.heic", "sent_on.jpg"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400))
        assert "pip install pillow-heif" in reason(load(folder), name)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jpe", "JPEG"), ("a.apng", "PNG"), ("a.mpo", "MPO"), ("a.dib", "DIB")]
)
def test_rarer_endings_of_what_pillow_reads(folder: Path, name: str, kind: str) -> None:
    """Catches a camera's or an animation's picture that is called none."""
    gradient(64, 64).save(folder / name, kind)
    assert prepared(load(folder), name).shape == (64, 64, 3)


@pytest.mark.not_on_windows(reason="it would write all zeros of the file")
def test_a_file_of_gigabytes_is_not_read_into_memory(folder: Path) -> None:
    """Catches a disk image or film called .jpg, which took as much memory as it has bytes."""
    with open(folder / "film.jpg", "wb") as file:
        file.truncate(3 << 30)
    started = time.perf_counter()
    assert "more than 400 MB" in reason(load(folder), "film.jpg")
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(("suffix", "plugin"), [("heic", "pillow_heif"), ("avif", None)])
def test_heic_and_avif_are_read_where_they_can_be(folder: Path, suffix: str, plugin) -> None:
    """Catches a plugin that is there but not used."""
    if plugin:
        pytest.importorskip(plugin).register_heif_opener()
    try:
        gradient(80, 80).save(folder / f"a.{suffix}", quality=95)
    except (KeyError, ValueError, OSError):
        pytest.skip(f"this Pillow cannot write {suffix}")
    pixels = prepared(load(folder), f"a.{suffix}")
    assert np.abs(pixels - np.asarray(gradient(64, 64)).astype(int)).mean() < 6


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_animations_the_first_frame_is_used(folder: Path, suffix: str) -> None:
    """Catches another frame, and an animation that is not mentioned."""
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "lime", "blue")]
    frames[0].save(folder / f"moving.{suffix}", save_all=True, append_images=frames[1:])
    dataset = load(folder)
    assert "first of 3 frames" in remark(dataset, f"moving.{suffix}")
    assert prepared(dataset, f"moving.{suffix}")[32, 32].tolist() == pytest.approx(
        [255, 0, 0], abs=4
    )


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(folder: Path, suffix: str) -> None:
    """Catches Pillow's clipping at 255, which leaves such pictures white."""
    ramp = np.linspace(0, 65535, 64)[None, :].repeat(64, 0).astype(np.uint16)
    Image.fromarray(ramp).save(folder / f"deep.{suffix}")
    row = prepared(load(folder), f"deep.{suffix}")[32, :, 0]
    assert row[0] == 0
    assert row[-1] == 255
    assert row[32] == pytest.approx(130, abs=3)


def test_cmyk_goes_through_its_profile(folder: Path) -> None:
    """Catches inverted or uncorrected colours; a profile that does not fit is survived."""
    orange = Image.new("RGB", (64, 64), (230, 120, 20)).convert("CMYK")
    (folder / "plain.jpg").write_bytes(jpeg(orange))
    (folder / "odd.jpg").write_bytes(jpeg(orange, icc_profile=srgb_profile()))
    (folder / "junk.jpg").write_bytes(jpeg(orange, icc_profile=b"no profile at all"))
    dataset = load(folder)
    for name in ("plain.jpg", "odd.jpg", "junk.jpg"):
        assert prepared(dataset, name)[32, 32].tolist() == pytest.approx([230, 120, 20], abs=12)
        assert "CMYK" in remark(dataset, name)


@pytest.mark.parametrize("background", ["white", "#102030"])
def test_transparency_is_flattened_on_the_chosen_colour(folder: Path, background: str) -> None:
    """Catches the hidden colour of transparent pixels, in palettes as in alpha channels."""
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    clear.paste((0, 255, 0, 255), (0, 0, 64, 32))
    clear.save(folder / "alpha.png")
    clear.convert("LA").save(folder / "gray.png")
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([0, 255, 0, 255, 0, 0])
    palette.paste(0, (0, 0, 64, 32))
    palette.save(folder / "palette.png", transparency=1)
    dataset = load(folder, background=background)
    expected = [255, 255, 255] if background == "white" else [16, 32, 48]
    for name in ("alpha.png", "gray.png", "palette.png"):
        assert prepared(dataset, name)[50, 32].tolist() == expected
    assert prepared(dataset, "palette.png")[10, 32].tolist() == [0, 255, 0]


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "tiff", "png", "webp", "avif"])
def test_exif_rotation(folder: Path, orientation: int, ending: str) -> None:
    """Catches a picture on its side, and a shape that is planned before turning, or turned twice.

    Pillow turns a TIFF by itself while it loads, and says its turned size before.
    """
    upright = gradient(96, 64)
    stored = upright.transpose(UNDO[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    if ending == "jpg":
        (folder / "turned.jpg").write_bytes(jpeg(stored, exif=exif, subsampling=0))
    else:
        try:
            stored.save(folder / f"turned.{ending}", exif=exif, quality=95)
        except (KeyError, OSError):
            pytest.skip(f"this Pillow cannot write {ending}")
    dataset = load(folder, width=96, framing="uncropped")
    name = f"turned.{ending}"
    sample = next(sample for sample in dataset.samples if sample.name == name)
    assert sample.size == (96, 64)
    assert dataset.plan(sample).original_size == (96, 64)  # what SDXL is told of the source
    assert np.abs(prepared(dataset, name) - np.asarray(upright).astype(int)).mean() < 4


def test_a_turned_jpeg_with_damaged_exif_is_not_squeezed(folder: Path) -> None:
    """Catches a picture that stays on its side while its shape is planned upright.

    Its resolution is told in letters, over which Pillow's own turning stumbles.
    """
    turned = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    resolution = struct.pack(">HHI4s", 0x011A, 2, 4, b"abc")
    damaged = b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + turned + resolution + bytes(4)
    stored = gradient(96, 64).transpose(UNDO[6])
    (folder / "turned.jpg").write_bytes(jpeg(stored, exif=damaged, subsampling=0))
    dataset = load(folder, width=96)
    sample = next(sample for sample in dataset.samples if sample.name == "turned.jpg")
    upright = np.asarray(gradient(96, 64)).astype(int)
    assert sample.size == (96, 64)
    assert np.abs(prepared(dataset, "turned.jpg") - upright).mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (30_000, 10), (10, 30_000)])
@pytest.mark.parametrize(
    "framing", ["center_crop", "bucket", "stretch", "letterbox", "tile", "uncropped"]
)
def test_extreme_sizes(folder: Path, size: tuple[int, int], framing: str) -> None:
    """Catches a side of 0, a memory explosion, and a picture left out."""
    gradient(*size).save(folder / "extreme.png")
    dataset = load(folder, framing=framing, width=256, height=256)
    pixels = prepared(dataset, "extreme.png")
    assert min(pixels.shape[:2]) >= 64


def test_a_decompression_bomb_is_refused_before_it_is_decoded(folder: Path, monkeypatch) -> None:
    """Catches gigabytes of memory, also where a program has switched Pillow's own limit off."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999)))
    (folder / "bomb.png").write_bytes(bomb + chunk(b"IEND", b""))
    assert "too many pixels" in reason(load(folder), "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "too many pixels" in reason(load(folder), "bomb.png")


@pytest.mark.parametrize("name", ["a" * 300, "gone", "a\0b", "\ud800"], ids=ascii)
def test_a_folder_that_cannot_be(tmp_path: Path, name: str) -> None:
    """Catches a traceback over a name that no file system takes."""
    with pytest.raises(DatasetError, match="There is no folder"):
        list_folder(tmp_path / name)


@pytest.mark.not_on_windows(reason="names that only POSIX takes")
def test_odd_names(folder: Path) -> None:
    """Catches names that break the report or its JSON."""
    names = ["two words.jpg", "smile \U0001f600.jpg", "new\nline.jpg", "q'\"`.jpg"]
    for name in names:
        (folder / name).write_bytes(jpeg(gradient(64, 64)))
    raw = os.fsencode(folder) + b"/bad\xff.jpg"
    with open(raw, "wb") as file:
        file.write(jpeg(gradient(64, 64)))
    dataset = load(folder)
    assert len(dataset.samples) == 6
    report = DatasetReport.of(dataset)
    shown = [file["name"] for file in report.to_dict()["files"]]
    assert "new\\nline.jpg" in shown
    report.to_markdown().encode("utf-8")
    "".join(shown).encode("utf-8")
    (folder / "new\nline.txt").write_text("")
    (folder / "new\nline_mask.png").write_bytes(jpeg(gradient(64, 64)))
    said = [file["reason"] for file in DatasetReport.of(load(folder)).to_dict()["files"]]
    assert "its caption new\\nline.txt is empty" in said
    assert not any("\n" in reason for reason in said)
    assert len({dataset.picture_key(sample) for sample in dataset.samples}) == 2


@pytest.mark.not_on_windows(reason="links and pipes")
def test_links(folder: Path, tmp_path: Path) -> None:
    """Catches a link that smuggles in files from elsewhere, or that leads nowhere."""
    outside = tmp_path / "secret.jpg"
    outside.write_bytes(jpeg(gradient(64, 64)))
    (folder / "out.jpg").symlink_to(outside)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "in.jpg").symlink_to(folder / "0.jpg")
    os.mkfifo(folder / "pipe.jpg")
    dataset = load(folder)
    assert [sample.name for sample in dataset.samples] == ["0.jpg", "in.jpg"]
    assert "leads out of the folder" in reason(dataset, "out.jpg")
    assert reason(dataset, "gone.jpg") == "a link to nothing"
    assert reason(dataset, "pipe.jpg") == "not a regular file"


def test_files_that_may_not_be_read() -> None:
    """Catches a crash at a picture, caption or metadata file without permission."""
    folder = Path(tempfile.mkdtemp(prefix="glitch_perm_"))
    try:
        photo_folder(folder, 3)
        (folder / "metadata.jsonl").write_text('{"file_name": "1.jpg", "text": "x"}')
        folder.chmod(0o755)
        for name in ("0.jpg", "1.txt", "metadata.jsonl"):
            (folder / name).chmod(0o000)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            dataset = load(folder)
        finally:
            os.seteuid(was)
        assert [sample.name for sample in dataset.samples] == ["1.jpg", "2.jpg"]
        assert reason(dataset, "0.jpg") == "cannot be read: Permission denied"
        assert reason(dataset, "1.txt") == "cannot be read: Permission denied"
        assert reason(dataset, "metadata.jsonl") == "cannot be read: Permission denied"
    finally:
        shutil.rmtree(folder)


def test_a_folder_that_changes_while_it_is_read(folder: Path, monkeypatch) -> None:
    """Catches a crash at a file that is listed and then gone."""
    from glitch_train.dataset import load as dataset_load

    photo_folder(folder, 5)
    real = dataset_load.list_folder

    def list_and_remove(path: Path):
        entries = real(path)
        (path / "2.jpg").unlink()
        (path / "3.txt").unlink()
        return entries

    monkeypatch.setattr(dataset_load, "list_folder", list_and_remove)
    dataset = load_dataset(DatasetRecipe(folder=str(folder)))
    assert [sample.name for sample in dataset.samples] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
    assert "disappeared" in reason(dataset, "2.jpg")
    assert len(dataset.files) == 10


def test_a_folder_that_is_written_to_all_the_while(tmp_path: Path) -> None:
    """Catches anything but a dataset or a sentence while files come and go."""
    folder = photo_folder(tmp_path / "busy", 4)
    stop = threading.Event()

    def churn() -> None:
        raw, number = jpeg(photograph(size=(200, 150))), 0
        while not stop.is_set():
            path = folder / f"churn{number % 7}.jpg"
            with contextlib.suppress(PermissionError):  # as on Windows while it is read
                path.write_bytes(raw[: 500 + number * 997 % len(raw)])
                (folder / f"churn{(number + 3) % 7}.jpg").unlink(missing_ok=True)
            number += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(15):
            dataset = load_dataset(DatasetRecipe(folder=str(folder)))
            names = [file.name for file in dataset.files]
            assert len(names) == len(set(names))
            assert {f"{i}.jpg" for i in range(4)} <= {sample.name for sample in dataset.samples}
            folder_fingerprint(folder)
    finally:
        stop.set()
        thread.join()


def test_a_picture_that_changed_since_is_not_trained_unseen(folder: Path) -> None:
    """Catches a picture in training that the report never saw."""
    dataset = load(folder)
    (folder / "0.jpg").write_bytes(jpeg(gradient(50, 50)))
    with pytest.raises(DatasetError, match=r"0\.jpg: it was changed after the folder was read"):
        dataset.prepare(dataset.samples[0])
    (folder / "0.jpg").unlink()
    with pytest.raises(DatasetError, match=r"0\.jpg: it disappeared"):
        dataset.prepare(dataset.samples[0])


def test_a_folder_without_a_picture(tmp_path: Path) -> None:
    """Catches training on nothing; the sentence names the first file's trouble."""
    with pytest.raises(DatasetError, match="There is no folder"):
        load_dataset(DatasetRecipe(folder=str(tmp_path / "none")))
    with pytest.raises(DatasetError, match="is empty; put pictures"):
        load_dataset(DatasetRecipe(folder=str(tmp_path)))
    (tmp_path / "sub").mkdir()
    with pytest.raises(DatasetError, match="choose one of them"):
        load_dataset(DatasetRecipe(folder=str(tmp_path)))
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(
        DatasetError, match=r"example a\.jpg: the file is empty.*one of its subfolders, such as sub"
    ):
        load_dataset(DatasetRecipe(folder=str(tmp_path)))
    with pytest.raises(DatasetError, match=r"a\.jpg is a file; choose the folder"):
        load_dataset(DatasetRecipe(folder=str(tmp_path / "a.jpg")))


@pytest.mark.not_on_windows(reason="links need a privilege there")
def test_a_link_that_leads_to_itself_is_one_skipped_file(folder: Path) -> None:
    """Catches a traceback that leaves the whole folder unread."""
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "ping.jpg").symlink_to(folder / "pong.jpg")
    (folder / "pong.jpg").symlink_to(folder / "ping.jpg")
    (folder / "round").symlink_to(folder)
    dataset = load_dataset(DatasetRecipe(folder=str(folder), width=64, height=64))
    assert [sample.name for sample in dataset.samples] == ["0.jpg"]
    for name in ("loop.jpg", "ping.jpg", "pong.jpg"):
        assert reason(dataset, name) == "a link that leads to itself"
    assert reason(dataset, "round") == "a link that leads back to the folder"
    folder_fingerprint(folder)


@pytest.mark.not_on_windows(reason="links need a privilege there")
def test_a_folder_of_links_says_so_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    """Catches advice about formats where the reason is that links are not followed."""
    linked = tmp_path / "links"
    linked.mkdir()
    for name in ("0.jpg", "0.txt"):
        (linked / name).symlink_to(folder / name)
    for refuse in (check_folder, lambda path: load_dataset(DatasetRecipe(folder=str(path)))):
        with pytest.raises(DatasetError, match=r"links to files outside it, which are not") as said:
            refuse(linked)
        assert str(folder / "0.jpg") in str(said.value)
    check_folder(folder)


@pytest.mark.parametrize(
    ("files", "said"),
    [((), "is empty"), (("a/b.txt",), "only subfolders"), (("a.pdf", "a.txt"), "no readable")],
)
def test_a_folder_without_pictures_is_known_by_its_names(tmp_path: Path, files, said: str) -> None:
    """Catches a refusal that waits until the workflow runs."""
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(DatasetError, match=said):
        check_folder(tmp_path)


def test_masks_of_other_tools_are_no_pictures(folder: Path) -> None:
    """Catches a mask that is trained, and a picture that is taken for one by a word of its name."""
    masks = ["0-masklabel.png", "0-condlabel.png", "0-MaskLabel.webp", "0_mask.png", "0-mask.png"]
    masks += ["gone-masklabel.png", "0-depth.png", "0_depth.png", "0.mask.png"]
    for name in [*masks, "carnival_mask.png", "unmask.png"]:
        gradient(64, 64).save(folder / name)
    (folder / "0-masklabel.txt").write_text("x")
    dataset = load(folder)
    assert [sample.name for sample in dataset.samples] == [
        *("0.jpg", "carnival_mask.png", "unmask.png")
    ]
    for name in masks:
        assert "a mask or conditioning picture of" in reason(dataset, name)
    assert reason(dataset, "0-masklabel.txt") == "caption without a picture"


def test_what_a_nas_or_system_leaves_is_not_named_as_a_subfolder(folder: Path) -> None:
    """Catches thumbnails that a person is told to choose, and resource forks that are read."""
    for name in ("@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", ".thumbnails", "lost+found"):
        (folder / name).mkdir()
        (folder / name / "0.jpg").write_bytes(jpeg(gradient(20, 20)))
    (folder / "@artist").mkdir()
    (folder / "._0.jpg").write_bytes(b"\0\5\x16\7")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf")
    dataset = load(folder)
    assert dataset.subfolders == ("@artist",)
    assert reason(dataset, "._0.jpg") == "a hidden file"
    assert "not a picture" in reason(dataset, "Thumbs.db")
