"""A whole run on tiny models: order of events, files, stopping in the middle."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import weakref
from pathlib import Path

import pytest
from runs import Counted, make_run, stop_after
from safetensors.torch import load_file
from tiny import picture

from glitch_train.errors import TrainingError
from glitch_train.lora.file import read_recipe_of
from glitch_train.losses.read import read_csv
from glitch_train.losses.record import StepReport
from glitch_train.recipe.recipe import Recipe
from glitch_train.training.run.folder import choose_run
from glitch_train.training.run.run import Preparing, TrainingRun

pytestmark = pytest.mark.slow


def test_a_run_leaves_everything_behind(tmp_path: Path, folder: Path) -> None:
    """Catches a missing file, or a record that disagrees with what was reported."""
    run = make_run(tmp_path, folder, Counted())
    events = list(run.events())
    pictures = [e.done for e in events if isinstance(e, Preparing) and e.what == "pictures"]
    steps = [e for e in events if isinstance(e, StepReport)]
    assert pictures == [1, 2, 3]
    assert [report.step for report in steps] == [1, 2, 3]
    saved = load_file(run.paths.lora)
    assert saved.keys() == run.lora.keys()
    assert all(saved[key].equal(run.lora[key]) for key in saved)
    record = read_csv(run.paths.losses)
    assert record.loss == pytest.approx([report.loss for report in steps], rel=1e-6)
    assert Recipe.from_json(run.paths.recipe.read_text("utf-8")) == run.recipe
    assert json.loads(run.paths.recipe.read_text("utf-8"))["train"]["network_dim"] == 2


def test_the_second_run_encodes_nothing(tmp_path: Path, folder: Path) -> None:
    """Catches a cache that misses; and one that hits after the picture changed."""
    counted = Counted()
    list(make_run(tmp_path, folder, counted).events())
    list(make_run(tmp_path, folder, counted).events())
    assert counted.pictures == 3
    picture(folder / "a.png", colour="white")
    list(make_run(tmp_path, folder, counted).events())
    assert counted.pictures == 4


def test_runs_do_not_overwrite_each_other(tmp_path: Path, folder: Path) -> None:
    """Catches an earlier LoRA lost to a second run of the same name."""
    first = make_run(tmp_path, folder, Counted())
    list(first.events())
    second = make_run(tmp_path, folder, Counted())
    assert (first.paths.name, second.paths.name) == ("glitch_lora_00001", "glitch_lora_00002")


def test_stopping_keeps_the_lora_so_far(tmp_path: Path, folder: Path) -> None:
    """Catches work lost on Cancel."""
    run = make_run(tmp_path, folder, Counted(), steps=1000)
    with contextlib.closing(run.events()) as events:
        for event in events:
            if isinstance(event, StepReport) and event.step == 2:
                break
    assert run.paths.lora.is_file()
    assert len(read_csv(run.paths.losses)) == 2


@pytest.mark.parametrize("ends", ["finished", "stopped", "broken"])
def test_the_models_of_a_run_are_let_go(
    tmp_path: Path, folder: Path, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches gigabytes that stay for good, however a run ended: a host trains many times."""
    monkeypatch.setattr("glitch_train.training.rehearsal._REHEARSED", {})
    more = {"train_text_encoder": True, "sample_every": 2, "sample_steps": 1, "probe_every": 2}
    run = make_run(tmp_path, folder, Counted(), **more)
    base = run.setup.base
    models = [weakref.ref(one) for one in (base.unet, *(t.model for t in base.text_encoders))]
    if ends == "broken":
        base.unet.conv_out.bias.data.fill_(float("nan"))
    del base
    with contextlib.suppress(TrainingError):
        if ends == "stopped":
            stop_after(run, 2)
        else:
            list(run.events())
    del run
    gc.collect()
    assert [model() for model in models if model()] == []


def test_a_broken_loss_keeps_the_lora_so_far(tmp_path: Path, folder: Path) -> None:
    """Catches a run that dies with its last good LoRA unsaved."""
    run = make_run(tmp_path, folder, Counted(), steps=1000)
    events = run.events()
    while len(run.record) < 2:
        next(events)
    run.setup.base.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="at step 3"):
        next(events)
    assert all(value.isfinite().all() for value in load_file(run.paths.lora).values())


def test_precision_is_checked_before_any_work(tmp_path: Path, folder: Path) -> None:
    """Catches pictures being encoded for a run that cannot train."""
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        make_run(tmp_path, folder, Counted(), precision="fp16")


def test_what_is_set_in_vain_is_said_once(tmp_path: Path, folder: Path) -> None:
    """Catches a warmup longer than the run carried out without a word, or told of a longer run."""
    settings = {"lr_scheduler": "cosine", "warmup_steps": 4, "save_every": 3}
    short = make_run(tmp_path, folder, Counted(), steps=3, **settings)
    list(short.events())
    (said,) = short.record.about.notes
    assert said.startswith("Without effect: warmup_steps 4 does not end within the run of 3 steps")
    longer = make_run(tmp_path, folder, Counted(), "must", steps=5, **settings)
    list(longer.events())
    assert longer.record.about.notes == []


def test_two_hosts_that_name_their_loras_alike(tmp_path: Path, folder: Path) -> None:
    """Catches the LoRA of one host replaced by another's, whose output folder is its own."""
    runs = []
    for host, rank in (("a", 2), ("b", 4)):  # both claim the name before either saves
        run = make_run(tmp_path / host, folder, Counted(), network_dim=rank, save_every=2)
        loras = tmp_path / "loras"
        paths = choose_run(run.recipe, "never", "x", tmp_path / host / "again", loras)
        runs.append(TrainingRun(dataclasses.replace(run.setup, paths=paths)))
    assert runs[0].paths.lora == runs[1].paths.lora
    for run in runs:
        list(run.events())
    for run, rank in zip(runs, (2, 4), strict=True):
        assert read_recipe_of(run.lora_path).train.network_dim == rank
    assert runs[0].record.about.notes == []
    assert f"so this one is {runs[1].lora_path.name}." in " ".join(runs[1].record.about.notes)
    assert len(list((tmp_path / "loras").rglob("*.safetensors"))) == 4
    assert all(path.stat().st_size for path in (tmp_path / "loras").rglob("*.safetensors"))
