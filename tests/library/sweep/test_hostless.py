"""One run of a sweep without a host: its pictures, its indices, and what is not done twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from train_verb import arguments, train

from glitch_train.errors import GridError, LoraFileError, ReportError
from glitch_train.grid.plan import GridRecipe
from glitch_train.recipe.recipe import Recipe, read_recipe
from glitch_train.sweep.hostless import Order, check_grid, make

GRID = GridRecipe(
    prompts="a red square\na blue square", seeds="5", steps="2", cfg="3", sizes="64x64",
    scheduler="karras",
)  # fmt: skip
SAMPLED = [
    "sample_every=3", "sample_prompts=a red square\na blue square", "sample_seed=5",
    "sample_steps=2", "sample_cfg=3", "sample_sampler=dpmpp_2m_karras",
]  # fmt: skip


def order(place: Path, checkpoint: Path, grid: GridRecipe = GRID, **named) -> Order:
    """Return the tests' recipe with a grid."""
    recipe = read_recipe(place / "recipe.toml")
    dataset = dataclasses.replace(recipe.dataset, folder=str(place / "pictures"))
    named = {"learning_rate": 0.01, "steps": 3, "output_name": "run"} | named
    train = dataclasses.replace(recipe.train, **named)
    return Order(Recipe(dataset, train, checkpoint=str(checkpoint)), grid)


def pixels(*paths: Path) -> np.ndarray:
    """Return pictures of one size, (B, H, W, 3)."""
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def untold(what: str, done: int, total: int) -> None:
    """Hear nothing."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("named", "apart"),
    [({}, 0), ({"train_text_encoder": True}, 0), ({"network_type": "dora"}, 1)],
    ids=lambda one: next(iter(one), "lora") if isinstance(one, dict) else "",
)
def test_as_the_trainers_samples(
    place: Path, checkpoint: Path, capsys, named: dict, apart: int
) -> None:
    """Catches base and LoRA mistaken for each other, factors in wrong places, other noise.

    The pictures are those that ``glitch_train train`` samples of the model in its memory, and the
    indices what ``glitch_train report`` measures on them. A DoRA's magnitudes are rounded once.
    """
    given = order(place, checkpoint, **named)
    made = make(given, place / "sweep", "cpu", untold)
    settings = [f"{name}={value}" for name, value in named.items()]
    told = train(
        capsys, *arguments(place, checkpoint, "--set", "learning_rate=0.01", *SAMPLED, *settings)
    )
    samples = Path(told["run"]) / "samples"
    for role, step in (("base", 0), ("glitched", 3)):
        wanted = pixels(*(samples / f"step{step:06}_prompt{row:02}.png" for row in (1, 2)))
        drawn = pixels(*(made.results / role / f"{row:02}.png" for row in (1, 2)))
        assert np.abs(drawn.astype(int) - wanted).max() <= apart, role
    both = [pixels(*sorted((made.results / role).iterdir())) for role in ("base", "glitched")]
    assert (both[0] != both[1]).mean() > 0.1, "the LoRA does nothing"
    command = ["report", *(str(made.results / role) for role in ("base", "glitched"))]
    command += ["--lora", str(made.lora), "--checkpoint", str(checkpoint), "--json"]
    measured = train(capsys, *command)["runs"][0]["effects"]
    kept = json.loads((made.results / "report.json").read_text("utf-8"))["runs"][0]["effects"]
    drift, hold = kept.pop("semantic_drift"), kept.pop("caption_hold")
    assert kept == measured
    assert (drift["value"] > 0) == ("train_text_encoder" in named)
    assert "2 different prompts, each with 2 seeds" in hold["sentence"]


@pytest.mark.slow
def test_what_is_there_is_not_done_again(place: Path, checkpoint: Path) -> None:
    """Catches a LoRA trained anew for another grid, or pictures of another grid passed off."""
    heard: list[str] = []

    def tell(what: str, done: int, total: int) -> None:
        heard.append(what.split(" ")[0].rstrip(","))

    first = make(order(place, checkpoint), place / "out", "cpu", tell)
    assert {"encoding", "loss", "sampling", "measuring"} <= set(heard)
    was = first.lora.read_bytes()
    heard.clear()
    assert make(order(place, checkpoint), place / "out", "cpu", tell) == first
    assert not heard
    other = dataclasses.replace(GRID, strength="0.5, 1")
    assert make(order(place, checkpoint, other), place / "out", "cpu", tell) == first
    assert set(heard) == {"sampling", "measuring"}
    assert first.lora.read_bytes() == was
    halves = sorted((first.results / "glitched").iterdir())
    assert len(halves) == 4
    assert (pixels(halves[0]) != pixels(halves[1])).any(), "one strength for both"


@pytest.mark.slow
def test_a_run_that_broke_off_goes_on(place: Path, checkpoint: Path) -> None:
    """Catches a run begun anew, and states kept or left out because the recipe asks for none."""
    given = order(place, checkpoint, steps=21)
    seen: list[int] = []

    class Killed(BaseException):
        """A process that is gone saves nothing more."""

    def die(what: str, done: int, total: int) -> None:
        if what.startswith("loss") and done == 7:
            raise Killed

    def note(what: str, done: int, total: int) -> None:
        if what.startswith("loss"):
            seen.append(done)

    out = place / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glitch_train.training.run.session.Session._end", lambda self: None)
        with pytest.raises(Killed):
            make(given, out, "cpu", die)
    assert (out / "run_00001" / "state.pt").is_file()
    made = make(given, out, "cpu", note)
    assert seen == list(range(7, 22)), "the last state is that of step 6"
    assert not (made.run / "state.pt").exists()
    whole = make(given, place / "whole", "cpu", untold)
    for name in ("base/01.png", "glitched/01.png", "report.json"):
        assert (made.results / name).read_bytes() == (whole.results / name).read_bytes()


@pytest.mark.slow
def test_a_dora_at_half_its_strength_is_refused(place: Path, checkpoint: Path) -> None:
    """Catches a picture of a model that no host would make."""
    half = dataclasses.replace(GRID, strength="0.5")
    with pytest.raises(LoraFileError, match="strength 1 only"):
        make(order(place, checkpoint, half, network_type="dora"), place / "out", "cpu", untold)


@pytest.mark.parametrize(
    ("named", "kind", "sentence"),
    [
        ({"sampler_name": "heun"}, GridError, "heun with scheduler normal needs ComfyUI; without"),
        ({"scheduler": "beta"}, GridError, "dpmpp_2m with scheduler beta needs ComfyUI"),
        ({"denoise": 0.5}, GridError, "denoise is 0.5, which needs ComfyUI"),
        ({"base": False}, ReportError, "leave base switched on"),
        ({"strength": "0"}, ReportError, "leave base switched on"),
        ({"seeds": "0-500"}, GridError, "more than max_cells"),
    ],
)
def test_what_cannot_be_drawn_is_refused_first(named: dict, kind: type, sentence: str) -> None:
    """Catches hours of training before a sentence about the grid."""
    with pytest.raises(kind, match=sentence):
        check_grid(dataclasses.replace(GridRecipe(), **named))
