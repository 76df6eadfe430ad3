"""The probe: fixed, low in noise, and without effect on the training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import Counted, make_run, start
from tiny import tiny_items

from glitch_train.errors import TrainingError
from glitch_train.losses.read import read_csv
from glitch_train.losses.record import StepReport
from glitch_train.training.probe import Probe, is_due, split_items

pytestmark = pytest.mark.slow


def probe_of(training, tmp_path: Path, validation_split: float = 0.0) -> Probe:
    """Return a probe on a training's own pictures."""
    split = split_items(training.source.items, validation_split, 0)
    return Probe(split, training.source.latents, 0)


def test_the_same_model_gives_the_same_numbers(tmp_path: Path) -> None:
    """Catches a draw that is not fixed, or one taken from the training's generators."""
    training = start(tmp_path)
    probe = probe_of(training, tmp_path)
    one = probe.measure(training)
    torch.manual_seed(99)
    assert probe.measure(training) == one
    list(training)
    assert probe.measure(training) != one


def test_by_hand(tmp_path: Path) -> None:
    """Catches wrong timesteps, noise or bands: the eight losses with plain calls."""
    training = start(tmp_path, batch_size=1)
    values = probe_of(training, tmp_path).measure(training)
    from glitch_train.seeds import generator
    from glitch_train.training.batches import read_batch

    stream, items, losses = generator(0, "probe"), training.source.items, []
    for draw in range(8):
        batch = read_batch(
            [items[draw % 3]], training.source.latents, training.source.prompts, False
        )
        noise = torch.randn(batch.latents.shape, generator=stream)
        with torch.no_grad():
            timestep = torch.tensor([62, 188, 312, 438, 562, 688, 812, 938][draw : draw + 1])
            loss = training.predictor.loss(batch, noise, timestep)
        losses.append(loss.item())
    assert values["train_probe_loss"] == pytest.approx(sum(losses) / 8, rel=1e-5)
    assert values["train_probe_loss_t0_249"] == pytest.approx(sum(losses[:2]) / 2, rel=1e-5)
    assert values["train_probe_loss_t750_999"] == pytest.approx(sum(losses[6:]) / 2, rel=1e-5)
    assert "probe_loss" not in values


@pytest.mark.parametrize(("share", "held_out"), [(0.0, 0), (0.01, 1), (0.25, 2), (0.5, 4)])
def test_held_out_pictures_are_not_trained_on(tmp_path: Path, share: float, held_out: int) -> None:
    """Catches a held-out picture that is trained on, or variants of one on both sides."""
    items, _ = tiny_items(tmp_path, 8)
    doubled = [item for item in items for _ in range(2)]
    split = split_items(doubled, share, 5)
    trained = {item.picture for item in split.training}
    kept = {item.picture for item in split.held_out}
    assert len(kept) == held_out
    assert trained | kept == set(range(8))
    assert not trained & kept


def test_holding_out_everything_is_refused(tmp_path: Path) -> None:
    """Catches a training on no picture."""
    items, _ = tiny_items(tmp_path, 1)
    with pytest.raises(TrainingError, match="holds out all 1 pictures"):
        split_items(items, 0.5, 0)


def test_a_run_with_and_without_probe_has_the_same_losses(
    tmp_path: Path,
    folder: Path,
) -> None:
    """Catches a probe that moves the training's random state or its weights."""

    def losses(every: int) -> list[float]:
        run = make_run(tmp_path, folder, Counted(), probe_every=every, steps=5)
        return [event.loss for event in run.events() if isinstance(event, StepReport)]

    assert losses(0) == losses(2)


def test_probes_stand_in_the_record(tmp_path: Path, folder: Path) -> None:
    """Catches a probe at the wrong step: before the first, every second, after the last."""
    run = make_run(tmp_path, folder, Counted(), probe_every=2, validation_split=0.3, steps=5)
    list(run.events())
    record = read_csv(run.paths.losses)
    for column in ("probe_loss", "train_probe_loss", "probe_loss_t0_249"):
        measured = [value == value for value in record.columns[column]]
        assert measured == [True, True, False, True, True], column


def test_when_it_is_due() -> None:
    """Catches a probe that is never measured after the last step."""
    assert [step for step in range(1, 8) if is_due(step, 7, 3)] == [3, 6, 7]
    assert not any(is_due(step, 7, 0) for step in range(1, 8))
