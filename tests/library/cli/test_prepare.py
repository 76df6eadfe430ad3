"""``glitch_train prepare``: files as trained, and the report as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pictures_on_disk import gradient, jpeg, photo_folder
from PIL import Image

from glitch_train.cli.command import build_parser, main
from glitch_train.cli.options import read_settings
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.settings import declared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, one broken, one without caption, one caption without picture."""
    folder = photo_folder(tmp_path / "pictures", 4)
    (folder / "broken.jpg").write_text("no")
    (folder / "3.txt").unlink()
    (folder / "z.txt").write_text("nobody")
    (folder / "sub").mkdir()
    return folder


def prepare(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict, str]:
    """Return (exit code, report, stderr)."""
    code = main(["prepare", *map(str, arguments), "--json"])
    done = capsys.readouterr()
    return code, json.loads(done.out), done.err


def test_the_report_and_the_files(folder: Path, tmp_path: Path, capsys) -> None:
    """Catches a file that is not counted, wrong numbers, and files that are not as trained."""
    out = tmp_path / "out"
    code, report, _ = prepare(
        capsys, folder, "--out", out, "--width", "64", "--height=72", "--trigger_word", "glz",
        "--framing", "stretch",
    )  # fmt: skip
    assert code == 0
    assert {file["name"]: file["status"] for file in report["files"]} == {
        **{f"{i}.jpg": "used" for i in range(4)},
        **{f"{i}.txt": "used" for i in range(3)},
        **{"broken.jpg": "skipped", "z.txt": "skipped"},
    }
    assert all(set(file) == {"name", "status", "reason"} for file in report["files"])
    assert all(file["reason"] for file in report["files"] if file["status"] == "skipped")
    assert report["pictures"] == 4
    assert report["subfolders"] == ["sub"]
    assert report["captions"] == {"with": 3, "without": ["3.jpg"], "different": 4}
    assert report["sizes"]["average"] == report["sizes"]["largest"] == [96, 64]
    assert report["sizes"]["landscape"] == 4
    assert report["buckets"] == {"64x72": 4}
    assert report["tokens"]["histogram"] == {"0-75": 4}
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{i + 1:05}_{i}.{suffix}" for i in range(4) for suffix in ("png", "txt")
    )
    with Image.open(out / "00001_0.png") as opened:
        assert opened.size == (64, 72)
    assert (out / "00001_0.txt").read_text("utf-8").startswith("glz, Picture 0")
    assert (out / "00004_3.txt").read_text("utf-8") == "glz"


def test_all_files_broken(tmp_path: Path, capsys) -> None:
    """Catches a report that is withheld where it is needed most."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"")
    code, report, error = prepare(capsys, tmp_path / "in", "--out", tmp_path / "out")
    assert code == 1
    assert report["files"] == [
        {"name": "a.jpg", "status": "skipped", "reason": "the file is empty"}
    ]
    assert "holds no readable picture" in error
    assert len(error.strip().splitlines()) == 1


def test_every_setting_is_an_option_that_arrives() -> None:
    """Catches an option wired to another setting: each gets a value of its own."""
    arguments, expected = ["prepare", "in", "--out", "o"], {}
    for number, (name, (field, setting)) in enumerate(declared(DatasetRecipe).items()):
        if name == "folder":
            continue
        value: object = f"text {number}"
        if isinstance(field.default, bool):
            value = not field.default
        elif setting.choices:
            value = setting.choices[-1]
        elif isinstance(field.default, (int, float)):
            value = type(field.default)(number + 0.5)
        flag = "--" + (name.replace("_", "-") if number % 2 else name)
        arguments += [flag] if value is True else [flag, str(value)]
        expected[name] = value
    options = build_parser().parse_args(arguments)
    assert read_settings(options, DatasetRecipe, without=("folder",)) == expected


def test_a_recipe_file_is_where_options_start(folder: Path, tmp_path: Path, capsys) -> None:
    """Catches a recipe that is ignored, or that wins over the command line."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[dataset]\nwidth = 128\nheight = 72\ncorruption = """\nposterize\n"""\n')
    code, report, _ = prepare(
        capsys, folder, "--out", tmp_path / "out", "--recipe", recipe, "--width", "64"
    )
    assert code == 0
    assert report["buckets"] == {"64x72": 4}
    with Image.open(tmp_path / "out" / "00001_0.png") as opened:
        assert len(set(opened.tobytes())) == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--corruption", "jpeg_crash"], "did you mean 'jpeg_crush'"),
        (["--width", "100"], "width must be a multiple of 8"),
        (["--caption-dropout", "2"], "caption_dropout must be 0.0 to 1.0"),
        (["--framing", "bucket", "--width", "128"], "min_bucket_reso must be at most"),
        (["--framing-mix", "30 buket"], "framing_mix must be like"),
        (["--background", "whitish"], "background must be a colour"),
        (["--landscape-width", "128"], "must both be 0 or both be set"),
        (["--landscape-width", "8", "--landscape-height", "64"], "must be 0 or 64 to 4096"),
        (["--min-bucket-reso", "2048"], "min_bucket_reso must be at most max_bucket_reso"),
        (["--workers", "0"], "--workers must be 1 to 64"),
    ],
)
def test_bad_settings_are_one_sentence(folder, tmp_path, capsys, arguments, sentence) -> None:
    """Catches a traceback, or work that begins with a bad setting."""
    assert main(["prepare", str(folder), "--out", str(tmp_path / "out"), *arguments]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_pictures_own_folder_is_not_written_to(folder: Path, capsys) -> None:
    """Catches prepared files among the sources, where the next run would train on them."""
    before = sorted(folder.iterdir())
    assert main(["prepare", str(folder), "--out", str(folder / ".." / folder.name)]) == 1
    assert "must be another folder" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("arguments", [["", "--out=x"], [".", "--out="]])
def test_an_empty_path_is_not_this_folder(arguments, tmp_path, capsys, monkeypatch) -> None:
    """Catches files all over the current folder where a script's variable was not set."""
    photo_folder(tmp_path / "here", 1)
    monkeypatch.chdir(tmp_path / "here")
    assert main(["prepare", *arguments]) == 2
    assert "is empty; name a file or folder" in capsys.readouterr().err
    assert len(list(Path().iterdir())) == 2


def test_a_part_is_not_overwritten(tmp_path: Path, capsys) -> None:
    """Catches a picture of a kohya folder that is called as its prepared one would be."""
    name = "00001_" * 11 + ".png"
    (tmp_path / "root" / "1_x").mkdir(parents=True)
    picture = tmp_path / "root" / "1_x" / name
    gradient(64, 64).save(picture)
    before = picture.read_bytes()
    assert main(["prepare", str(tmp_path / "root"), "--out", str(picture.parent)]) == 1
    assert "must be another folder" in capsys.readouterr().err
    assert picture.read_bytes() == before


@pytest.mark.not_on_windows(reason="a name that only POSIX takes")
def test_a_folder_with_a_line_break_is_one_sentence(tmp_path: Path, capsys) -> None:
    """Catches an error of a report that takes two lines."""
    (tmp_path / "a\nb").mkdir()
    assert main(["prepare", str(tmp_path / "a\nb"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.not_on_windows(reason="a link")
def test_a_link_to_itself_as_folder_is_one_sentence(tmp_path: Path, capsys) -> None:
    """Catches a traceback of Python 3.12 and older over a link that leads nowhere."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert main(["prepare", str(tmp_path / "loop"), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "There is no folder" in error
    assert len(error.strip().splitlines()) == 1


def test_two_sets_are_not_mixed(folder: Path, tmp_path: Path, capsys) -> None:
    """Catches pictures of an earlier run beside the new ones, where both would be trained."""
    out = tmp_path / "out"
    options = ["--width=64", "--height=64", "--random-flip", "--variants-per-picture"]
    assert prepare(capsys, folder, "--out", out, *options, "2")[0] == 0
    (out / "notes.md").write_text("mine")
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert main(["prepare", str(folder), "--out", str(out), *options, "1"]) == 1
    error = capsys.readouterr().err
    assert "holds 16 pictures or captions that are not of this set" in error
    assert len(error.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert prepare(capsys, folder, "--out", out, *options, "2", "--trigger-word", "new")[0] == 0
    assert {path: path.stat().st_mode for path in out.iterdir()}.keys() == before.keys()
    assert all(path.read_text().startswith("new") for path in out.glob("*.txt"))


@pytest.mark.not_on_windows(reason="names that only POSIX takes")
def test_odd_names_make_plain_ones(tmp_path: Path, capsys) -> None:
    """Catches a name that leaves the folder, is too long, or collides with another."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "a.png", "new\nline.jpg", "dots...jpg", "x" * 240 + ".jpg", "😀.jpg"):
        if name.endswith("png"):
            gradient(64, 64).save(folder / name)
        else:
            (folder / name).write_bytes(jpeg(gradient(64, 64)))
    code, report, _ = prepare(
        capsys, folder, "--out", tmp_path / "out", "--width=64", "--height=64"
    )
    assert code == 0
    assert report["pictures"] == 6
    names = [path.name for path in (tmp_path / "out").glob("*.png")]
    assert len(names) == 6
    assert all(name.isprintable() and len(name) < 80 for name in names)


def test_preparing_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    """Catches an import that makes the command slow to start."""
    script = (
        "import sys; from glitch_train.cli import main; "
        f"main(['prepare', {str(folder)!r}, '--out', {str(tmp_path / 'o')!r}, '--width=64',"
        "'--height=64', '--corruption', 'jpeg_crush']); sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
