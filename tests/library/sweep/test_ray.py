"""``glitch_train sweep --engine ray`` on a local Ray with two workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glitch_train.cli.command import main
from glitch_train.lora.file import read_metadata

pytestmark = pytest.mark.slow

NAMES = ("sd15_standard", "random_crop_and_flip", "mismatched_base")


def sweep(place: Path, checkpoint: Path, *more: str) -> list[str]:
    """Return the command line."""
    settings = [f"ckpt={checkpoint}", f"folder={place / 'pictures'}", "steps=3", "width=64"]
    settings += ["height=64", "network_dim=2", "probe_every=0", "repeats=2", *more]
    command = ["sweep", *NAMES, "--engine", "ray", "--gpus", "0", "--seeds", "1", "2", "--json"]
    return [*command, "--out", str(place / "sweep"), "--set", *settings]


def test_presets_on_two_workers(two_workers, place: Path, checkpoint: Path, capsys) -> None:
    """Catches settings that get lost on the way, runs done twice, and a matrix without them."""
    out = place / "sweep"
    assert main(sweep(place, checkpoint)) == 0, capsys.readouterr().err
    told = json.loads(capsys.readouterr().out)
    runs = {f"{slug}, seed {seed}" for slug in NAMES[:2] for seed in (1, 2)}
    assert set(told["done"]) == runs
    assert told["left_out"][0].startswith("mismatched_base is left out")
    assert {slug: row["seeds"] for slug, row in told["experiments"].items()} == {
        slug: [1, 2] for slug in NAMES[:2]
    }
    done = json.loads((out / "random_crop_and_flip/seed2/done.json").read_text("utf-8"))
    about = read_metadata(Path(done["loras"][0]))
    assert (about["ss_seed"], about["ss_steps"], about["ss_network_dim"]) == ("2", "3", "2")
    assert (about["ss_random_crop"], about["ss_flip_aug"]) == ("True", "True")
    assert "without pictures" in (out / "matrix.md").read_text("utf-8")
    for name in ("loss.png", "losses.csv", "verdict.md", "recipe.json"):
        assert (out / "random_crop_and_flip/seed2" / name).is_file()

    assert main(sweep(place, checkpoint, "random_crop_and_flip.steps=4")) == 0
    again = json.loads(capsys.readouterr().out)
    assert set(again["kept"]) == {"sd15_standard, seed 1", "sd15_standard, seed 2"}
    assert set(again["done"]) == runs - set(again["kept"])


def test_a_failure_is_told(two_workers, place: Path, checkpoint: Path, capsys) -> None:
    """Catches exit code 0 when a run failed, and the others lost with it."""
    command = sweep(place, checkpoint, f"sd15_standard.ckpt={place / 'gone.safetensors'}")
    assert main(command) == 1
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert set(told["failed"]) == {"sd15_standard, seed 1", "sd15_standard, seed 2"}
    assert len(told["done"]) == 2
    assert "gone.safetensors does not exist" in said.err.splitlines()[-1]
