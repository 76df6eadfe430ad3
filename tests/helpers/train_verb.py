"""``glitch_train train`` on tiny material."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glitch_train.cli.command import main

RECIPE = """
[dataset]
width = 64
height = 64
repeats = 2
[train]
steps = 3
network_dim = 2
batch_size = 2
probe_every = 0
save_precision = "fp32"
"""


def arguments(place: Path, checkpoint: Path, *more: str, recipe: str = "recipe.toml") -> list[str]:
    """Return the command line of a run into ``place``/out."""
    named = ["--checkpoint", str(checkpoint), "--folder", str(place / "pictures")]
    return ["train", str(place / recipe), *named, "--out", str(place / "out"), "--json", *more]


def train(capsys: pytest.CaptureFixture, *command: str) -> dict:
    """Run the verb and return what it prints."""
    assert main(command) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)
