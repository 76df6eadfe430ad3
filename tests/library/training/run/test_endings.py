"""Stopping by a rule: at the right step, said why, and finished until the rule is raised."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from runs import Counted, make_run, start, start_text_encoders, stop_after, weights
from tiny import tiny_unet

from glitch_train.errors import RecipeError, TrainingError
from glitch_train.lora.file import read_metadata
from glitch_train.losses.read import read_csv
from glitch_train.losses.record import StepReport
from glitch_train.recipe.train import TrainRecipe
from glitch_train.seeds import generator
from glitch_train.training.batches import read_batch
from glitch_train.training.objective import noise_schedule
from glitch_train.training.probe import Probe, Split
from glitch_train.training.run.endings import RunProgress, reached
from glitch_train.training.run.run import TrainingRun

pytestmark = pytest.mark.slow

SETTINGS = {"learning_rate": 3e-3, "save_precision": "fp32", "probe_every": 2, "steps": 40}


@pytest.mark.parametrize(
    ("settings", "progress", "rule"),
    [
        ({}, RunProgress(39, 9, 9e9, 9.0), None),
        ({}, RunProgress(40), "steps"),
        ({"stop_at_epochs": 3}, RunProgress(12, 2), None),
        ({"stop_at_epochs": 3}, RunProgress(12, 3), "stop_at_epochs"),
        ({"stop_at_minutes": 1.5}, RunProgress(1, 0, 89.9), None),
        ({"stop_at_minutes": 1.5}, RunProgress(1, 0, 90.0), "stop_at_minutes"),
        ({"stop_at_drift": 0.5}, RunProgress(1, drift=0.5), None),
        ({"stop_at_drift": 0.5}, RunProgress(1, drift=math.nan), None),
        ({"stop_at_drift": 0.5}, RunProgress(1, drift=0.51), "stop_at_drift"),
    ],
)
def test_when_a_rule_is_reached(settings: dict, progress: RunProgress, rule: str | None) -> None:
    """Catches a rule that is off and stops, or stops at the wrong side of its limit."""
    ending = reached(TrainRecipe(**{"steps": 40} | settings), progress)
    assert (ending and ending.rule) == rule
    if rule and rule != "steps":
        assert rule in ending.why
        assert f"after step {progress.step}" in ending.why


def test_drift_without_a_probe_is_refused() -> None:
    """Catches a rule that would never be looked at."""
    with pytest.raises(RecipeError, match="probe_every must be above 0"):
        TrainRecipe(stop_at_drift=0.5, probe_every=0)


def steps_of(run: TrainingRun) -> list[int]:
    """Follow a run to its end; return the steps it did."""
    return [event.step for event in run.events() if isinstance(event, StepReport)]


def test_epochs(tmp_path: Path, folder: Path) -> None:
    """Catches an epoch counted when it begins: 3 pictures, twice, by 2 are 3 steps each."""
    run = make_run(tmp_path, folder, Counted(), **SETTINGS, stop_at_epochs=2)
    assert steps_of(run) == [1, 2, 3, 4, 5, 6]
    assert run.record.about.to_dict()["ended"] == {
        "rule": "stop_at_epochs",
        "step": 6,
        "why": "Stopped after step 6: 2 epochs are done (stop_at_epochs).",
    }
    assert read_metadata(run.paths.lora)["ss_steps"] == "6"
    record = read_csv(run.paths.losses)
    assert record.about.ended == run.record.about.ended
    assert not math.isnan(record.columns["train_probe_loss"][-1])


def test_an_epoch_that_ends_inside_a_step(tmp_path: Path, folder: Path) -> None:
    """Catches a run that misses the end of an epoch within accumulated passes."""
    run = make_run(
        tmp_path, folder, Counted(), **SETTINGS, stop_at_epochs=1, gradient_accumulation=2
    )
    assert steps_of(run) == [1, 2]


def test_minutes(tmp_path: Path, folder: Path) -> None:
    """Catches time that is lost between the sessions of a run, or encoding that counts."""
    settings = SETTINGS | {"stop_at_minutes": 0.1, "probe_every": 0}
    first = make_run(tmp_path, folder, Counted(), **settings)
    ticks = itertools.count(0, 1)  # each look at the clock is a second later
    first._clock = lambda: next(ticks)
    stop_after(first, 1)
    second = make_run(tmp_path, folder, Counted(), "must", **settings)
    later = itertools.count(1000, 1)
    second._clock = lambda: next(later)
    steps = steps_of(second)
    assert steps[0] == 2
    assert second.record.about.ended.rule == "stop_at_minutes"
    alone = make_run(tmp_path / "alone", folder, Counted(), **settings)
    third = itertools.count(5, 1)
    alone._clock = lambda: next(third)
    assert len(steps_of(alone)) <= steps[-1] <= 6


def test_drift(tmp_path: Path, folder: Path) -> None:
    """Catches a run that goes on after the drift was measured above the limit."""
    free = make_run(tmp_path / "free", folder, Counted(), **SETTINGS)
    steps_of(free)
    drifts = free.record.columns["drift"]
    assert drifts[0] == 0
    limit = 0.999 * drifts[9]
    assert max(drift for drift in drifts[:9] if drift == drift) < limit
    run = make_run(tmp_path, folder, Counted(), **SETTINGS, stop_at_drift=limit)
    assert steps_of(run)[-1] == 10
    assert run.record.about.ended.rule == "stop_at_drift"
    assert run.record.columns["drift"][-1] == drifts[9]
    assert read_csv(run.paths.losses).columns["drift"][-1] == pytest.approx(drifts[9])


def test_a_finished_run_stays_finished_until_its_rule_is_raised(
    tmp_path: Path,
    folder: Path,
) -> None:
    """Catches a run that goes on by itself after its rule ended it, or never again."""
    steps_of(make_run(tmp_path, folder, Counted(), **SETTINGS, stop_at_epochs=1, save_every=1))
    again = make_run(tmp_path, folder, Counted(), "auto", **SETTINGS, stop_at_epochs=1)
    assert again.paths.name == "glitch_lora_00002"
    again.paths.folder.rmdir()
    with pytest.raises(TrainingError, match="raise steps or the stop_at rule"):
        make_run(tmp_path, folder, Counted(), "must", **SETTINGS, stop_at_epochs=1)
    raised = make_run(tmp_path, folder, Counted(), "auto", **SETTINGS, stop_at_epochs=2)
    assert raised.paths.name == "glitch_lora_00001"
    assert steps_of(raised) == [4, 5, 6]
    assert raised.record.about.snapshots == [1, 2, 3]  # what the first session left
    assert raised.record.about.ended.step == 6


def test_cancelled_and_continued_equals_uninterrupted(
    tmp_path: Path,
    folder: Path,
) -> None:
    """Catches a rule that a stop in between moves: bytes of the LoRA, steps and drifts."""
    settings = SETTINGS | {"stop_at_epochs": 3, "stop_at_drift": 100.0}
    whole = make_run(tmp_path / "whole", folder, Counted(), **settings)
    steps_of(whole)
    for stop in (1, 4, 7):
        cancelled = make_run(tmp_path / "parts", folder, Counted(), "auto", **settings)
        stop_after(cancelled, stop)
        assert cancelled.record.about.ended.rule == "cancel"
    last = make_run(tmp_path / "parts", folder, Counted(), "must", **settings)
    assert steps_of(last) == [8, 9]
    assert weights(last.paths.lora) == weights(whole.paths.lora)
    one, two = (read_csv(run.paths.losses).columns for run in (whole, last))
    assert str(one["drift"]) == str(two["drift"])


def test_drift_by_hand(tmp_path: Path) -> None:
    """Catches a wrong norm, or a base that is not the base: the same with a UNet without LoRA."""
    training = start(tmp_path, learning_rate=1e-2)
    items, cache = training.source.items, training.source.latents
    probe = Probe(Split(items, items[:1]), cache, seed=4)
    assert probe.measure(training)["drift"] == 0
    list(training)
    mine = probe.measure(training)["drift"]
    moved = base = 0.0
    for part in (items, items[:1]):
        stream = generator(4, "probe")
        for draw in range(8):
            batch = read_batch([part[draw % len(part)]], cache, cache, False)
            noise = torch.randn(batch.latents.shape, generator=stream)
            timestep = torch.tensor([round((draw + 0.5) * 125)])
            noisy = noise_schedule("epsilon").add_noise(batch.latents, noise, timestep)
            with torch.no_grad():
                bare, now = (
                    unet(noisy, timestep, batch.prompt_embeds).sample
                    for unet in (tiny_unet(), training.base.unet)
                )
            moved += (now - bare).double().pow(2).sum().item()
            base += bare.double().pow(2).sum().item()
    assert mine == pytest.approx(math.sqrt(moved / base), rel=1e-4)
    assert mine > 0
    later = Probe(Split(items, items[:1]), cache, seed=4)  # first measured after some steps
    assert later.measure(training)["drift"] == mine
    assert all(parameter.requires_grad for parameter in training.parameters)


def test_drift_of_the_text_encoder(tmp_path: Path) -> None:
    """Catches a drift that compares with captions encoded by the trained text encoder."""
    training = start_text_encoders(tmp_path, text_encoder_only=True, text_encoder_lr=1e-2)
    probe = Probe(Split(list(training.source.items), []), training.source.latents, 0)
    assert probe.measure(training)["drift"] == pytest.approx(0, abs=1e-7)
    list(training)
    after = probe.measure(training)["drift"]
    assert after > 1e-4
    fresh = Probe(Split(list(training.source.items), []), training.source.latents, 0)
    assert fresh.measure(training)["drift"] == pytest.approx(after, rel=1e-5)
