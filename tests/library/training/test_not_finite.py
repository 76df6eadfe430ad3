"""Losses that are no numbers: recorded, said, nothing lost; or passed over and counted."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import Counted, make_run, start, stop_after, weights
from safetensors.torch import load_file

from glitch_train.errors import TrainingError
from glitch_train.losses.read import read_csv, read_json
from glitch_train.losses.verdict.diagnose import diagnose
from glitch_train.training.fp16 import skipped_in_words, way_out
from glitch_train.training.loop import NotFiniteError
from glitch_train.training.run.run import TrainingRun
from glitch_train.training.team import Team

pytestmark = pytest.mark.slow

BAD_STEP = 3
SETTINGS = {"steps": 6, "probe_every": 0, "batch_size": 1, "save_precision": "fp32"}


def break_step(run: TrainingRun, value: float, where: str = "loss") -> None:
    """Let the UNet give a value that is no number at one step, or only its gradient."""
    calls = 0

    def after(_module, _inputs, output):
        nonlocal calls
        calls += not output[0].is_meta  # the memory plan's rehearsal is no step
        if calls != BAD_STEP:
            return output
        if where == "loss":
            return (output[0] + value,)
        output[0].register_hook(lambda gradient: gradient * value)
        return output

    run.setup.base.unet.register_forward_hook(after)


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_it_stops_and_the_record_says_so(
    tmp_path: Path,
    folder: Path,
    value: float,
    where: str,
) -> None:
    """Catches a record that ends before the step that broke, so that its verdict is good."""
    run = make_run(tmp_path, folder, Counted(), **SETTINGS)
    break_step(run, value, where)
    with pytest.raises(TrainingError, match=rf"{where} became .* at step 3; the LoRA up to step 2"):
        list(run.events())
    for record in (read_csv(run.paths.losses),
                   read_json(run.paths.losses.with_suffix(".json"))):  # fmt: skip
        assert record.steps == [1, 2, 3]
        assert math.isfinite(record.loss[2]) == (where == "gradient")
        assert record.columns["not_finite"][2] == 1
        assert "became" in record.about.ended.why
        stability = diagnose(record).stability
        assert stability.state == "nan"
        assert stability.evidence["first_not_finite_step"] == 3
    twin = make_run(tmp_path / "twin", folder, Counted(), **SETTINGS | {"steps": 2})
    list(twin.events())
    assert weights(run.paths.lora) == weights(twin.paths.lora)


def test_going_on_repeats_the_step(tmp_path: Path, folder: Path) -> None:
    """Catches draws that the broken step used up, or its row standing in the record twice."""
    run = make_run(tmp_path, folder, Counted(), **SETTINGS)
    break_step(run, math.nan)
    with pytest.raises(NotFiniteError):
        list(run.events())
    settings = SETTINGS | {"glitch_through": True}
    second = make_run(tmp_path, folder, Counted(), "must", **settings)
    list(second.events())
    whole = make_run(tmp_path / "whole", folder, Counted(), **SETTINGS)
    list(whole.events())
    assert second.record.loss == whole.record.loss
    assert second.record.steps == [1, 2, 3, 4, 5, 6]
    assert weights(second.paths.lora) == weights(whole.paths.lora)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_glitch_through_passes_over(tmp_path: Path, folder: Path, where: str) -> None:
    """Catches NaN reaching the LoRA, a step that is not counted, or a verdict that is silent."""
    run = make_run(tmp_path, folder, Counted(), glitch_through=True, **SETTINGS)
    break_step(run, math.nan, where)
    list(run.events())
    record = read_csv(run.paths.losses)
    assert record.steps == [1, 2, 3, 4, 5, 6]
    assert [value == 1 for value in record.columns["not_finite"]] == [False, False, True] + [
        False
    ] * 3
    assert record.about.passed_over == 1
    assert all(value.isfinite().all() for value in load_file(run.paths.lora).values())
    verdict = diagnose(record).stability
    assert verdict.state == "nan"
    assert "passed over" in verdict.sentence


def test_passed_over_means_unchanged(tmp_path: Path) -> None:
    """Catches momentum or weight decay moving the LoRA at a step that does not count."""
    training = start(tmp_path, glitch_through=True, learning_rate=1e-2, steps=5)
    training.train_step()
    before = [parameter.clone() for parameter in training.parameters]
    handle = training.base.unet.register_forward_hook(lambda *_: (_[2][0] * math.nan,))
    report = training.train_step()
    handle.remove()
    assert not report.finite
    assert report.step == 2
    assert all(one.equal(two) for one, two in zip(before, training.parameters, strict=True))
    assert training.train_step().finite


def test_a_broken_lora_is_not_saved(tmp_path: Path, folder: Path) -> None:
    """Catches the last good files being overwritten by a LoRA of NaN, also with glitch_through."""
    run = make_run(tmp_path, folder, Counted(), save_every=1, glitch_through=True, **SETTINGS)
    stop_after(run, 2)
    again = make_run(tmp_path, folder, Counted(), "must", glitch_through=True, **SETTINGS)
    events = again.events()
    while len(again.record) < 3:
        next(events)
    good = again.paths.lora.read_bytes(), again.paths.state.read_bytes()
    next(p for p in again.setup.base.unet.parameters() if p.requires_grad).data.fill_(math.nan)
    with pytest.raises(TrainingError, match="only earlier snapshots are kept"):
        list(events)
    assert (again.paths.lora.read_bytes(), again.paths.state.read_bytes()) == good


def test_the_scaler_may_skip_steps(tmp_path: Path) -> None:
    """Catches an overflow of fp16's loss scale, which is part of its work, taken for an error."""
    training = start(tmp_path, steps=3)
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)

    def overflow(_module, _inputs, output):
        output[0].register_hook(lambda gradient: gradient * 1e10)

    training.base.unet.register_forward_hook(overflow)
    before = [parameter.clone() for parameter in training.parameters]
    report = training.train_step()
    assert report.finite
    assert not math.isfinite(report.grad_norm)
    assert report.skipped
    assert training.scaler.get_scale() == 2.0**126
    assert all(one.equal(two) for one, two in zip(before, training.parameters, strict=True))


def overflowing(folder: Path, steps: int, **settings):
    """Return a training under fp16's loss scale whose every gradient overflows."""
    training = start(folder, steps=steps, **settings)
    training.scaler = torch.amp.GradScaler("cpu")
    training.base.unet.register_forward_hook(
        lambda _module, _inputs, output: output[0].register_hook(lambda g: g * math.inf) and None
    )
    return training


def test_gradients_that_overflow_for_good_end_the_run(tmp_path: Path) -> None:
    """Catches a run under fp16 that skips every update and ends as if it had trained."""
    training = overflowing(tmp_path, steps=100)
    with pytest.raises(NotFiniteError, match="gradient became .*nothing was learned.*bf16 or fp32"):
        list(training)
    # From 65536 down to 1 the scaler looks for a scale; the next one is refused.
    assert training.step == 17


def test_a_run_without_one_update_does_not_end_well(tmp_path: Path) -> None:
    """Catches a run that is too short for the scaler to give up, and learned nothing."""
    with pytest.raises(NotFiniteError, match="nothing was learned until then"):
        list(overflowing(tmp_path, steps=4))


def test_overflow_may_be_passed_over(tmp_path: Path) -> None:
    """Catches skips for good that glitch_through neither passes over nor counts."""
    reports = list(overflowing(tmp_path, steps=20, glitch_through=True))
    assert [report.finite for report in reports] == [True] * 17 + [False] * 3


def test_skipped_updates_are_counted_and_said(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches updates that trained nothing and stand nowhere: in the record, going on included."""
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *_args, **_more: scaler("cpu"))
    first = make_run(tmp_path, folder, Counted(), **SETTINGS | {"steps": 4, "save_every": 4})
    break_step(first, math.inf, "gradient")
    list(first.events())
    told = read_json(first.paths.losses.with_suffix(".json")).about
    assert told.skipped == 1
    assert [note for note in told.notes if "1 update was skipped" in note]
    again = make_run(tmp_path, folder, Counted(), "must", **SETTINGS | {"save_every": 4})
    list(again.events())
    assert again.record.about.skipped == 1
    assert again.record.about.notes == told.notes


def test_the_rate_follows_real_updates(tmp_path: Path) -> None:
    """Catches a schedule that runs out while the scaler looks for its scale."""
    training = start(tmp_path, steps=4, lr_scheduler="linear", learning_rate=1e-3)
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    handle = training.base.unet.register_forward_hook(
        lambda _module, _inputs, output: output[0].register_hook(lambda g: g * 1e10) and None
    )
    assert training.train_step().skipped
    handle.remove()
    training.scaler = torch.amp.GradScaler("cpu")
    rates = [report.learning_rate for report in training]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3])


def test_the_hosts_fp16_accumulation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches advice that leaves out what the host was started with."""
    assert "accumulation" not in skipped_in_words(2)
    matmul = SimpleNamespace(allow_fp16_accumulation=True)
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    assert "without --fast fp16_accumulation" in skipped_in_words(2)
    assert way_out(is_fp16=False) == "precision fp32"


def test_a_process_without_rows_scales_too(tmp_path: Path) -> None:
    """Catches several processes on fp16, more of them than a small last batch has pictures."""

    class Idle(Team):
        rank, size = 0, 2

        def rows(self, count: int) -> slice:
            return slice(0, 0)

        def share_gradients(self, parameters) -> None:
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)

    training = start(tmp_path, steps=2)
    training.scaler, training.team = torch.amp.GradScaler("cpu"), Idle()
    report = training.train_step()
    assert report.finite
    assert report.loss == 0
