"""Recipes on a local Ray with two workers."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import pytest

from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import TrainingError
from glitch_train.lora.file import read_metadata
from glitch_train.losses.read import read_csv
from glitch_train.recipe.recipe import Recipe, read_recipe
from glitch_train.recipe.train import TrainRecipe
from glitch_train.sweep.ray_engine import Share, run_all

pytestmark = pytest.mark.slow

ONE_CORE = Share(gpus=0, cpus=1)


def named(place: Path, checkpoint: Path, name: str, **train) -> Recipe:
    """Return the tests' recipe under a name."""
    recipe = read_recipe(place / "recipe.toml")
    return Recipe(
        dataclasses.replace(recipe.dataset, folder=str(place / "pictures")),
        dataclasses.replace(recipe.train, output_name=name, **train),
        checkpoint=str(checkpoint),
    )


def test_runs_resume_and_fail_apart(two_workers, place: Path, checkpoint: Path) -> None:
    """Catches a failure that takes the others along, and a second call that trains all anew."""
    out = place / "out"
    good = [named(place, checkpoint, name, seed=seed) for name, seed in [("a", 1), ("b", 2)]]
    bad = named(place, place / "gone.safetensors", "bad")
    results = {one.name: one for one in run_all([good[0], bad], out, share=ONE_CORE)}
    assert "gone.safetensors does not exist" in results["bad"].error
    assert results["bad"].lora is None
    assert read_metadata(results["a"].lora)["ss_steps"] == "3"
    assert len(read_csv(results["a"].losses)) == 3
    again = {one.name: one for one in run_all(good, out, share=ONE_CORE)}
    assert (again["a"].was_done, again["b"].was_done) == (True, False)
    assert again["a"].lora == results["a"].lora
    assert not again["b"].error
    assert len(list(out.glob("*.safetensors"))) == 2


def test_closing_keeps_what_was_trained(two_workers, place: Path, checkpoint: Path) -> None:
    """Catches work lost when a sweep is stopped, or begun anew when it goes on."""
    out = place / "out"
    short, endless = (
        named(place, checkpoint, name, steps=steps, save_every=2)
        for name, steps in [("short", 30), ("endless", 1_000_000)]
    )
    running = run_all([short, endless], out, share=ONE_CORE)
    assert next(running).name == "short"
    losses = out / "endless_00001" / "losses.csv"
    while not (losses.is_file() and losses.read_text("utf-8").count("\n") > 3):
        time.sleep(0.1)
    running.close()
    saved = out / "endless_00001.safetensors"
    steps = int(read_metadata(saved)["ss_steps"])
    finite = dataclasses.replace(endless, train=dataclasses.replace(endless.train, steps=steps + 1))
    (result,) = run_all([finite], out, share=ONE_CORE)
    assert result.lora == saved
    assert read_metadata(saved)["ss_steps"] == str(steps + 1)


def test_more_than_any_machine_has(two_workers, place: Path, checkpoint: Path) -> None:
    """Catches a task that waits forever for a GPU that is not there."""
    recipe = named(place, checkpoint, "one")
    with pytest.raises(TrainingError, match="wants 1 GPU, and no machine"):
        list(run_all([recipe], place / "out", share=Share(gpus=1)))


def test_one_name_for_two(tmp_path: Path) -> None:
    """Catches two runs that go on with each other's state."""
    recipe = Recipe(DatasetRecipe(), TrainRecipe(output_name="same"))
    with pytest.raises(TrainingError, match="Two recipes have the output_name 'same'"):
        list(run_all([recipe, recipe], tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"recipe": {}, "lora": 1}'])
def test_a_damaged_note_is_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """Catches a traceback over a note that a full disk left in half."""
    (tmp_path / "a_00001").mkdir()
    (tmp_path / "a_00001" / "done.json").write_text(content)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrainingError, match="run pip install ray"):  # it would train again
        list(run_all([Recipe(DatasetRecipe(), TrainRecipe(output_name="a"))], tmp_path))
