"""Where captions come from, on real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from glitch_train.dataset.dataset import FileReport, GlitchDataset
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.dataset.report import DatasetReport


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures a, b and c."""
    for name in "abc":
        Image.new("RGB", (32, 24), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


def load(folder: Path, **settings: object) -> GlitchDataset:
    """Load a folder with some settings."""
    return load_dataset(DatasetRecipe(folder=str(folder), width=64, height=64, **settings))


def captions(dataset: GlitchDataset) -> list[str]:
    """Return the captions in the order of pictures."""
    return [sample.caption for sample in dataset.samples]


def about(dataset: GlitchDataset, name: str) -> FileReport:
    """Return what is reported of one file; fails unless that is exactly one line."""
    (found,) = [file for file in dataset.files if file.name == name]
    return found


def test_sidecars_txt_before_caption(folder: Path) -> None:
    """Catches the wrong one of two, and a used file that is reported as skipped."""
    (folder / "a.txt").write_text("from txt\n")
    (folder / "a.caption").write_text("from caption")
    (folder / "b.caption").write_text("only caption")
    dataset = load(folder)
    assert captions(dataset) == ["from txt", "only caption", ""]
    assert about(dataset, "a.txt") == FileReport("a.txt", True)
    assert about(dataset, "a.caption") == FileReport("a.caption", False, "a.txt is used instead")
    assert about(dataset, "b.caption").used
    assert "no caption" in about(dataset, "c.png").reason


def test_metadata_jsonl(folder: Path) -> None:
    """Catches a missed entry, a line separator inside a text, and bad lines that go unsaid."""
    lines = [
        '{"file_name": "a.png", "text": "from\u2028 metadata"}',
        "not json",
        '{"file_name": "b.png"}',
        '{"file_name": "gone.png", "text": "nobody"}',
        "",
        '{"file_name": "./c.png", "caption": "third"}',
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "c.txt").write_text("sidecar wins")
    dataset = load(folder)
    assert captions(dataset) == ["from\u2028 metadata", "", "sidecar wins"]
    report = about(dataset, "metadata.jsonl")
    assert report.used
    assert report.reason == (
        "line 2: not valid JSON; line 3: b.png has no text; line 4: there is no picture gone.png"
    )
    only = load(folder, caption_source="metadata")
    assert captions(only)[2] == "third"
    assert about(only, "c.txt") == FileReport(
        "c.txt", False, "not read, because caption_source is metadata"
    )
    assert captions(load(folder, caption_source="sidecar")) == ["", "", "sidecar wins"]


def test_an_empty_text_in_metadata_is_named(folder: Path) -> None:
    """Catches a picture trained without words, and nothing said."""
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": " "}')
    assert about(load(folder), "a.png").reason == "its caption in metadata.jsonl is empty"


def test_half_a_character_is_replaced(folder: Path) -> None:
    """Catches a caption or name that no tokenizer, file or report takes."""
    lines = [
        r'{"file_name": "a.png", "text": "a \ud83d face"}',
        r'{"file_name": "\ud800.png", "text": "x"}',
        "[" * 100_000,
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    dataset = load(folder)
    assert captions(dataset)[0] == "a ? face"
    assert about(dataset, "metadata.jsonl").reason == (
        "line 1: half a character, read as ?; line 2: there is no picture ?.png; "
        "line 3: not valid JSON"
    )


def test_names_that_differ_in_capitals_alone(tmp_path: Path) -> None:
    """Catches captions of a camera's IMG_1.JPG lost on Linux, where Windows takes img_1.txt."""
    for name in ("IMG_1.JPG", "a.png", "B.png", "b.jpg", "C.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    for name in ("img_1.txt", "img_1.caption", "A.caption", "a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    lines = ['{"file_name": "c.PNG", "text": "of C"}', '{"file_name": "d.png", "text": "x"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    dataset = load(tmp_path)
    found = {sample.name: sample.caption for sample in dataset.samples}
    assert found == {"IMG_1.JPG": "img_1.txt", "a.png": "a.txt", "B.png": "", "b.jpg": "b.txt",
                     "C.png": "of C"}  # fmt: skip
    assert "is img_1.txt, which is spelt with other capitals" in about(dataset, "IMG_1.JPG").reason
    assert about(dataset, "img_1.caption").reason == "img_1.txt is used instead"
    assert about(dataset, "A.caption").reason == "caption without a picture"
    assert about(dataset, "metadata.jsonl").reason == (
        "line 1: c.PNG is C.png, with other capitals; line 2: there is no picture d.png"
    )


@pytest.mark.parametrize(
    "text", ["{\\rtf1\\ansi a girl}", "<!DOCTYPE html><p>a girl", "<HTML>a girl"]
)
def test_markup_is_not_trained(folder: Path, text: str) -> None:
    """Catches the commands of a word processor trained as a caption."""
    (folder / "a.txt").write_text(text)
    dataset = load(folder)
    assert captions(dataset)[0] == ""
    assert "not plain text; save it as UTF-8" in about(dataset, "a.txt").reason


def test_one_fixed_caption(folder: Path) -> None:
    """Catches a file that is read nevertheless."""
    (folder / "a.txt").write_text("ignored")
    dataset = load(folder, caption_source="fixed", fixed_caption=" a photograph ")
    assert captions(dataset) == ["a photograph"] * 3
    assert "caption_source is fixed" in about(dataset, "a.txt").reason


def test_encodings(folder: Path) -> None:
    """Catches a byte order mark or a replacement character that ends up in training."""
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfmarked caf\xc3\xa9\r\nline two")
    (folder / "b.txt").write_bytes(b"caf\xe9 \x93quoted\x94")
    (folder / "c.txt").write_bytes("wide café".encode("utf-16"))
    dataset = load(folder)
    assert captions(dataset) == ["marked café\nline two", "café “quoted”", "wide café"]
    assert about(dataset, "a.txt").reason == ""
    assert about(dataset, "b.txt").reason == (
        "not UTF-8, read as Windows-1252 (Western Europe), which is a guess: “café “quoted””; if "
        "that is wrong, save it as UTF-8"
    )


def test_what_cannot_be_read_is_named_and_not_trained(folder: Path) -> None:
    """Catches a picture, or a text of an unknown encoding, as a caption of random letters."""
    (folder / "a.txt").write_bytes(b"\xb2\xb1\xfe\xff \xb3\xba\xd0\xb9")
    (folder / "a.caption").write_text("the next best")
    (folder / "b.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (folder / "c.txt").write_bytes(b"x" * 2_000_000)
    dataset = load(folder)
    assert captions(dataset) == ["the next best", "", ""]
    for name, why in (("a.txt", "no encoding"), ("b.txt", "control"), ("c.txt", "larger than")):
        assert not about(dataset, name).used
        assert why in about(dataset, name).reason
    assert "no caption" in about(dataset, "b.png").reason


def test_a_guessed_metadata_file_shows_what_was_read(folder: Path) -> None:
    """Catches a guess over all captions that nobody can check."""
    lines = ['{"file_name": "a.png", "text": "portrait"}', '{"file_name": "b.png", "text": "été"}']
    (folder / "metadata.jsonl").write_bytes("\r\n".join(lines).encode("cp1252"))
    dataset = load(folder)
    assert captions(dataset) == ["portrait", "été", ""]
    assert "Windows-1252 (Western Europe), which is a guess: “été”" in (
        about(dataset, "metadata.jsonl").reason
    )


def test_captions_of_one_folder_tell_together_how_they_are_written(folder: Path) -> None:
    """Catches two signs of Chinese that alone would be Korean."""
    for name, text in (("a", "风景"), ("b", "一个女孩站在雨中的街道上"), ("c", "红色的外套")):
        (folder / f"{name}.txt").write_bytes(text.encode("gbk"))
    assert captions(load(folder)) == ["风景", "一个女孩站在雨中的街道上", "红色的外套"]


def test_one_name_in_two_spellings(tmp_path: Path) -> None:
    """Catches a Mac's names, é as e and an accent, that find no caption of a Linux program."""
    for name in ("cafe\u0301", "na\u00efve", "o\u0308l"):
        Image.new("RGB", (32, 24), (len(name), 0, 0)).save(tmp_path / f"{name}.png")
    (tmp_path / "caf\u00e9.txt").write_text("coffee")
    (tmp_path / "nai\u0308ve.caption").write_text("simple")
    line = '{"file_name": "\u00f6l.png", "text": "oil"}'
    (tmp_path / "metadata.jsonl").write_text(line, encoding="utf-8")
    dataset = load(tmp_path)
    assert {sample.name[:2]: sample.caption for sample in dataset.samples} == {
        "ca": "coffee", "na": "simple", "o\u0308": "oil",
    }  # fmt: skip
    assert not any(file.reason for file in dataset.files)


def test_two_lines_for_one_picture(folder: Path) -> None:
    """Catches the first of two captions dropped without a word."""
    lines = [json.dumps({"file_name": "a.png", "text": text}) for text in ("one", "two")]
    for path in folder.glob("*.txt"):
        path.unlink()
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    dataset = load(folder)
    assert captions(dataset)[0] == "one"
    assert "line 2: a.png comes a second time" in about(dataset, "metadata.jsonl").reason


def test_two_spellings_side_by_side_keep_their_own_captions(tmp_path: Path) -> None:
    """Catches two pictures whose names differ in spelling alone, with one caption for both."""
    for number, name in enumerate(("cafe\u0301", "caf\u00e9")):
        Image.new("RGB", (32, 24), (number, 0, 0)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"caption {number}")
    assert captions(load(tmp_path)) == ["caption 0", "caption 1"]


def test_empty_captions_are_named(folder: Path) -> None:
    """Catches an empty caption that counts as one."""
    (folder / "a.txt").write_text(" \n")
    dataset = load(folder)
    assert captions(dataset)[0] == ""
    assert about(dataset, "a.png").reason == "its caption a.txt is empty"
    assert about(dataset, "a.txt").used


def test_captions_without_their_picture(folder: Path) -> None:
    """Catches a caption that vanishes without a word."""
    (folder / "z.txt").write_text("nobody")
    (folder / "broken.jpg").write_text("no picture")
    (folder / "broken.txt").write_text("its caption")
    dataset = load(folder)
    assert about(dataset, "z.txt").reason == "caption without a picture"
    assert about(dataset, "broken.txt").reason == "its picture broken.jpg is skipped"


def test_a_caption_may_carry_the_whole_name_of_its_picture(folder: Path) -> None:
    """Catches the sidecars of Hydrus and others (a.png.txt) taken for captions without pictures."""
    (folder / "a.txt").unlink(missing_ok=True)
    (folder / "A.PNG.txt").write_text("of the png alone")
    (folder / "a.jpg").write_bytes((folder / "a.png").read_bytes())
    dataset = load(folder)
    assert {sample.name: sample.caption for sample in dataset.samples}[
        "a.png"
    ] == "of the png alone"
    assert "spelt with other capitals" in about(dataset, "a.png").reason
    assert about(dataset, "a.jpg").reason.startswith("no caption")
    (folder / "a.txt").write_text("of both")
    dataset = load(folder)
    assert {sample.caption for sample in dataset.samples if sample.name[0] == "a"} == {"of both"}
    assert about(dataset, "A.PNG.txt").reason == "a.txt is used instead"


def test_duplicate_stems_share_their_caption(folder: Path) -> None:
    """Catches one of a.jpg and a.png left without a caption, or a.txt counted twice."""
    Image.new("RGB", (20, 20)).save(folder / "a.jpg")
    (folder / "a.txt").write_text("shared")
    dataset = load(folder)
    assert captions(dataset)[:2] == ["shared", "shared"]
    assert about(dataset, "a.txt").used
    assert "a.jpg" in about(dataset, "a.png").reason


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fixed_caption": "a cat"}, "fixed_caption is not used: caption_source is auto"),
        ({"caption_source": "fixed"}, "fixed_caption empty: every caption is empty"),
        ({"caption_source": "fixed", "fixed_caption": "a cat"}, ""),
    ],
)
def test_a_fixed_caption_that_is_not_used(
    folder: Path, settings: dict[str, str], said: str
) -> None:
    """Catches a caption that was given and dropped without a word."""
    report = DatasetReport.of(load(folder, **settings))
    remarks = report.to_dict()["remarks"]
    assert [said in remark for remark in remarks] == [True] * bool(said)
    assert all(f"- {remark}\n" in report.to_markdown() for remark in remarks)
