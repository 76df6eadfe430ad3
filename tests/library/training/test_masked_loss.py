"""A mask makes a part of each picture count: against its definition, and in whole runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from runs import Counted, make_run, stop_after, weights, write_pictures
from tiny import tiny_items

from glitch_train.errors import TrainingError
from glitch_train.training.batches import read_batch
from glitch_train.training.objective import per_sample_loss
from glitch_train.training.run.run import TrainingRun


def draws(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a prediction that wants a gradient, and its target, (3, 4, 8, 6)."""
    stream = torch.Generator().manual_seed(seed)
    prediction = torch.randn(3, 4, 8, 6, generator=stream).requires_grad_()
    return prediction, torch.randn(3, 4, 8, 6, generator=stream)


@pytest.mark.parametrize("loss_type", ["mse", "l1", "huber"])
def test_the_loss_is_the_mean_over_the_kept_places(loss_type: str) -> None:
    """Catches a mean over all places, as if what is left out were learned perfectly (kohya's)."""
    prediction, target = draws()
    thresholds = torch.tensor([0.1, 0.2, 0.3]) if loss_type == "huber" else None
    mask = (torch.rand(3, 1, 8, 6, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    losses = per_sample_loss(prediction, target, loss_type, thresholds, mask)
    for row in range(3):
        kept = mask[row, 0] > 0
        one = None if thresholds is None else thresholds[row : row + 1]
        alone = per_sample_loss(
            prediction[row : row + 1, :, kept], target[row : row + 1, :, kept], loss_type, one
        )
        assert losses[row].item() == pytest.approx(alone.item(), rel=1e-5)
    losses.sum().backward()
    assert (prediction.grad[(mask == 0).expand_as(prediction)] == 0).all()


def test_a_grey_mask_weighs() -> None:
    """Catches a mask that is cut to black and white: the reference is OneTrainer's formula."""
    prediction, target = draws()
    mask = torch.rand(3, 1, 8, 6, generator=torch.Generator().manual_seed(2))
    errors = (prediction - target).square() * mask
    expected = (errors / mask.mean(dim=(1, 2, 3), keepdim=True)).mean(dim=(1, 2, 3))
    found = per_sample_loss(prediction, target, mask=mask)
    assert torch.allclose(found, expected, rtol=1e-5)


def test_a_white_mask_is_none_bit_for_bit() -> None:
    """Catches a mask whose arithmetic costs the last bit, of the losses or of their gradients."""
    for seed in range(5):
        (plain, target), (masked, _) = draws(seed), draws(seed)
        losses = per_sample_loss(plain, target)
        same = per_sample_loss(masked, target, mask=torch.ones(3, 1, 8, 6))
        assert torch.equal(losses, same)
        losses.sum().backward()
        same.sum().backward()
        assert torch.equal(plain.grad, masked.grad)


def test_nothing_kept_is_a_loss_of_zero() -> None:
    """Catches 0/0, which would end the run with NaN where a crop missed what the mask keeps."""
    prediction, target = draws()
    losses = per_sample_loss(prediction, target, mask=torch.zeros(3, 1, 8, 6))
    losses.sum().backward()
    assert losses.tolist() == [0.0] * 3
    assert (prediction.grad == 0).all()


def masked_run(place: Path, mask: Image.Image | None, **settings) -> TrainingRun:
    """Do a run on three pictures, the first two with a mask, and return it."""
    place.mkdir()
    folder = write_pictures(place)
    for name in ("a", "b") if mask else ():
        mask.save(folder / f"{name}_mask.png")
    run = make_run(
        place, folder, Counted(), data={"masks": "beside"}, save_precision="fp32",
        learning_rate=1e-2, **settings,
    )  # fmt: skip
    list(run.events())
    return run


@pytest.mark.slow
def test_runs_with_white_masks_are_runs_without(tmp_path: Path) -> None:
    """Catches a mask that changes latents, order or draws of a run, or its losses' last bit."""
    plain = masked_run(tmp_path / "plain", None)
    white = masked_run(tmp_path / "white", Image.new("L", (40, 30), 255))
    assert white.record.columns["loss"] == plain.record.columns["loss"]
    assert weights(white.paths.lora) == weights(plain.paths.lora)
    assert white.record.about.loss == plain.record.about.loss == "mse"


@pytest.mark.slow
def test_a_mask_arrives_in_losses_probes_and_record(tmp_path: Path) -> None:
    """Catches a mask that is read and then forgotten on its way."""
    half = Image.new("L", (40, 30), 0)
    half.paste(255, (0, 0, 20, 30))
    plain = masked_run(tmp_path / "plain", None, probe_every=1)
    masked = masked_run(tmp_path / "half", half, probe_every=1)
    assert masked.record.about.loss == "mse, masked"
    assert masked.record.columns["loss"][0] != plain.record.columns["loss"][0]
    probes = [one.record.columns["train_probe_loss"][0] for one in (plain, masked)]
    assert probes[0] != probes[1]


def test_a_part_of_a_batch_keeps_its_masks(tmp_path: Path) -> None:
    """Catches a pass that is cut for memory, or shared by processes, and trains pictures whole."""
    items, cache = tiny_items(tmp_path)
    mask = torch.rand(1, 8, 8)
    cache.store("mask", {"mask": mask})
    items[1] = dataclasses.replace(items[1], mask_key="mask")
    batch = read_batch(items, cache, cache, False)
    assert torch.equal(
        batch.loss_mask, torch.stack([torch.ones(1, 8, 8), mask, torch.ones(1, 8, 8)])
    )
    parts = [part.to(torch.device("cpu"), torch.bfloat16) for _, part in batch.cut(2)]
    assert torch.equal(torch.cat([part.loss_mask for part in parts]), batch.loss_mask)
    assert read_batch(items[:1], cache, cache, False).loss_mask is None


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_masks(tmp_path: Path) -> None:
    """Catches a second half of a run that learns from other places than the first."""
    folder = write_pictures(tmp_path)
    Image.new("L", (40, 30), 200).save(folder / "a_mask.png")
    data = {"masks": "beside"}
    stop_after(make_run(tmp_path, folder, Counted(), data=data, steps=4), 2)
    Image.new("L", (40, 30), 100).save(folder / "a_mask.png")
    run = make_run(tmp_path, folder, Counted(), "auto", data=data, steps=4)
    with pytest.raises(TrainingError, match="pictures or captions changed"):
        list(run.events())
