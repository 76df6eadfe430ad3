"""Texts as Windows writes them."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest
from windows_rules import is_bad_name

from glitch_train.comfyui.graph import load_graph
from glitch_train.encodings import decode
from glitch_train.errors import RecipeError
from glitch_train.file_names import name_fault
from glitch_train.files import read_text, write_text
from glitch_train.losses.read import read_csv, read_json
from glitch_train.recipe.recipe import read_recipe
from glitch_train.recipe.train import TrainRecipe

ENCODINGS = {
    "UTF-8": (b"", "utf-8"),
    "Notepad's UTF-8 with BOM": (codecs.BOM_UTF8, "utf-8"),
    "PowerShell's >": (codecs.BOM_UTF16_LE, "utf-16-le"),
    "Notepad's UTF-16 BE": (codecs.BOM_UTF16_BE, "utf-16-be"),
    "UTF-32": (codecs.BOM_UTF32_LE, "utf-32-le"),
}


@pytest.fixture(params=ENCODINGS)
def windows_text(request: pytest.FixtureRequest, tmp_path: Path):
    """Return a function that writes a file as a program of Windows does."""
    mark, encoding = ENCODINGS[request.param]

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(mark + text.replace("\n", "\r\n").encode(encoding))
        return path

    return write


def test_texts_of_windows_programs(windows_text) -> None:
    """Catches a mark that stays in the text, or an encoding nobody told apart."""
    assert read_text(windows_text("a.txt", "é → 1\n2\n")) == "é → 1\n2\n"


def test_recipes_of_windows_programs(windows_text) -> None:
    """Catches a recipe out of PowerShell that is called no text file, or no TOML."""
    toml = windows_text("a.toml", '[dataset]\ntrigger_word = "é"\n[train]\nsteps = 7\n')
    json = windows_text("a.json", '{"dataset": {"trigger_word": "é"},\n "train": {"steps": 7}}\n')
    for recipe in (read_recipe(toml), read_recipe(json)):
        assert (recipe.dataset.trigger_word, recipe.train.steps) == ("é", 7)


def test_records_and_workflows_of_windows_programs(windows_text) -> None:
    """Catches a reader of a person's files that goes its own way."""
    assert read_csv(windows_text("a.csv", "step;loss\n1;0.5\n2;0.25\n")).loss == [0.5, 0.25]
    assert read_json(windows_text("a.json", '{"loss": [0.5]}\n')).loss == [0.5]
    graph = '{"1": {"class_type": "é",\n "inputs": {}}}'
    assert load_graph(windows_text("b.json", graph))["1"]["class_type"] == "é"


@pytest.mark.parametrize("name", ENCODINGS)
def test_captions_of_windows_programs(name: str) -> None:
    r"""Catches a \r within a caption."""
    mark, encoding = ENCODINGS[name]
    assert decode(mark + "é\r\nb\r\n".encode(encoding)).text == "é\nb\n"


@pytest.mark.parametrize(
    "name",
    [
        "CON",
        "nul.txt",
        "Com1.a.b",
        "aux .x",
        "LPT².png",
        "a.",
        "a ",
        "a:b",
        "a?",
        "console",
        "com10",
        "a.con",
        "nul_1",
        "COM",
    ],
)
def test_names_that_windows_does_not_take(name: str) -> None:
    """Catches a name that is refused in vain, or makes a file that Windows cannot hold."""
    assert bool(name_fault(name)) == is_bad_name(name)


@pytest.mark.parametrize("name", ["con.v2", "NUL.", "COM1.glitch", "a*b", "a:b"])
def test_output_names_that_windows_does_not_take(name: str) -> None:
    """Catches a training whose end finds no file to write to."""
    with pytest.raises(RecipeError, match="output_name"):
        TrainRecipe(output_name=name)
    assert TrainRecipe(output_name="con").output_name == "con"  # its files are con_00001 …


@pytest.mark.not_on_windows(reason="a file has no mode for its group there")
def test_a_file_has_the_mode_of_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the umask set for a moment, when the files of other threads are open to everybody."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda _: pytest.fail("the umask is the whole process'"))
            write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
