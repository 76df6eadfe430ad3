"""Mixes on the command line: what a recipe's parts become, and what is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pictures_on_disk import photo_folder

from glitch_train.cli.command import main


@pytest.fixture
def mix(tmp_path: Path) -> Path:
    """A recipe of two parts of one folder."""
    folder = photo_folder(tmp_path / "faces", 2)
    path = tmp_path / "mix.toml"
    path.write_text(
        f"[dataset]\nfolder = '{folder}'\nwidth = 64\nheight = 64\n"
        "[[mix]]\nweight = 70\n[[mix]]\nweight = 30\ncorruption = 'jpeg_crush'\n"
    )
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "MIX", "--folder", "FOLDER"), "mix.toml is a mix of 2 datasets, each with its"),
        (("train", "MIX", "--checkpoint", "none.safetensors"), "none.safetensors"),
        (("prepare", "FOLDER", "--recipe", "MIX", "--out", "OUT"), "prepare takes one folder"),
    ],
)
def test_what_a_mix_cannot_do_is_one_sentence(
    mix: Path, tmp_path: Path, capsys, arguments: tuple[str, ...], said: str
) -> None:
    """Catches parts of a mix that are dropped without a word, or a mix that is refused whole."""
    places = {"MIX": str(mix), "FOLDER": str(tmp_path / "faces"), "OUT": str(tmp_path / "out")}
    assert main([places.get(word, word) for word in arguments]) == 1
    told = capsys.readouterr().err.strip()
    assert said in told
    assert "\n" not in told


def test_a_mix_is_printed(mix: Path, capsys) -> None:
    """Catches a recipe printed without its parts, which would train the first of them alone."""
    assert main(["recipe", str(mix), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [part["weight"] for part in printed["mix"]] == [70, 30]
    assert [part["corruption"] for part in printed["mix"]] == ["", "jpeg_crush"]


def test_kohyas_folders_are_prepared(tmp_path: Path, capsys) -> None:
    """Catches a root of kohya's that is refused, or whose proportions nobody is told."""
    root = tmp_path / "root"
    photo_folder(root / "3_a cup", 1)
    photo_folder(root / "1_b", 2)
    out = tmp_path / "out"
    settings = ("--width", "64", "--height", "64", "--json")
    assert main(["prepare", str(root), "--out", str(out), *settings]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["samples_per_epoch"]) == (3, 5)
    assert [part["share"] for part in told["mix"]] == [0.4, 0.6]
    assert len(list(out.glob("*.png"))) == 3
