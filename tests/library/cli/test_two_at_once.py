"""Two processes with one output folder and one cache: nothing is lost, nothing mixed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_checkpoint import process_environment
from train_verb import arguments, train

from glitch_train.lora.file import read_recipe_of
from glitch_train.losses.read import read_csv

pytestmark = pytest.mark.slow


def test_two_runs_of_one_name(place: Path, checkpoint: Path, capsys) -> None:
    """Catches one run's LoRA, losses or cached latents under the name of the other."""
    together = [
        subprocess.Popen(
            [sys.executable, "-m", "glitch_train",
             *arguments(place, checkpoint, "--set", f"seed={seed}", "steps=6")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=process_environment(),
        )
        for seed in (1, 2)
    ]  # fmt: skip
    results = {}
    for seed, one in zip((1, 2), together, strict=True):
        out, err = one.communicate()
        assert one.returncode == 0, err
        results[seed] = json.loads(out)
    assert {one["name"] for one in results.values()} == {"glitch_lora_00001", "glitch_lora_00002"}
    for seed, one in results.items():
        assert read_recipe_of(Path(one["lora"])).train.seed == seed
        assert Path(one["lora"]).stem == one["name"] == Path(one["losses"]).parent.name
        assert read_csv(Path(one["losses"])).loss[-1] == pytest.approx(one["loss"], rel=1e-6)
        more = ("--set", f"seed={seed}", "steps=6", "--out", str(place / f"alone{seed}"))
        alone = train(capsys, *arguments(place, checkpoint, *more))
        expected = load_file(alone["lora"])
        found = load_file(one["lora"])
        assert expected.keys() == found.keys()
        assert all(found[key].equal(expected[key]) for key in expected)
    assert not list((place / "out").rglob("*.part"))
