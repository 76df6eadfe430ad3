"""What a mask keeps is learned and what it leaves out is not, on the pocket checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps

from glitch_demo.photos import demo_photos
from glitch_demo.pocket import pocket_sd15
from glitch_train.cache import TensorCache
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.model.checkpoint_file import load_checkpoint
from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.batches import BatchSource, read_batch
from glitch_train.training.encode import (
    captions_to_encode,
    encode_captions,
    encode_masks,
    encode_pictures,
)
from glitch_train.training.items import training_items
from glitch_train.training.loop import LoraTraining

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SIDE_PX, STEPS, DRAWS = 128, 10, 6


def start(folder: Path, cache: TensorCache) -> LoraTraining:
    """Return a training on the one picture of a folder, with the mask beside it."""
    dataset = load_dataset(
        DatasetRecipe(folder=str(folder), width=SIDE_PX, height=SIDE_PX, masks="beside")
    )
    base, encoders = load_checkpoint(pocket_sd15(), CPU)
    latents = list(encode_pictures(dataset, encoders.encode_picture, encoders.vae_key, cache))
    towers, captions = base.text_encoders, captions_to_encode(dataset)
    prompts = dict(encode_captions(captions, encoders.tokenize, towers, cache, CPU))
    items = training_items(dataset, latents, prompts, list(encode_masks(dataset, cache)))
    source = BatchSource(items, cache, cache, batch_size=1, repeats=1, seed=3)
    settings = {"steps": STEPS, "learning_rate": 3e-4, "network_dim": 8, "network_alpha": 8.0}
    return LoraTraining(base, source, TrainRecipe(seed=3, **settings), CPU)


def losses_of_halves(training: LoraTraining, cache: TensorCache) -> tuple[float, float]:
    """Return the mean loss left and right, on the same noise and timesteps every time."""
    stream = torch.Generator().manual_seed(0)
    halves = torch.zeros(2)
    with torch.inference_mode(False), torch.no_grad():
        for draw in range(DRAWS):
            batch = read_batch(training.source.items[:1], cache, cache, False)
            noise = torch.randn(batch.latents.shape, generator=stream)
            timestep = torch.tensor([round((draw + 0.5) * 1000 / DRAWS)])
            prediction = training.predictor.measure(batch, noise, timestep).prediction
            errors = (prediction.float() - noise).square().mean(dim=(0, 1, 2))
            halves += torch.stack([part.mean() for part in errors.chunk(2)]) / DRAWS
    return halves[0].item(), halves[1].item()


def test_the_other_half_stays_where_it_was(tmp_path: Path) -> None:
    """Catches a mask that weighs wrong places, or none: then the right half is learned as well.

    The picture is a photograph's negative, new to the checkpoint everywhere. Measured here: left
    from 5.06 to 2.30, right from 6.30 to 5.77, for one LoRA works on all places. In 16 steps on a
    picture squeezed instead of cut: left from 9.47 to 4.93, right from 9.19 to 9.24; without the
    mask to 5.44 and 4.77.
    """
    with Image.open(demo_photos()[0].path) as opened:
        photo = ImageOps.fit(opened.convert("RGB"), (SIDE_PX, SIDE_PX))
    ImageOps.invert(photo).save(tmp_path / "a.png")
    mask = Image.new("L", photo.size, 0)
    mask.paste(255, (0, 0, SIDE_PX // 2, SIDE_PX))
    mask.save(tmp_path / "a_mask.png")
    cache = TensorCache(tmp_path / "cache")
    training = start(tmp_path, cache)
    left, right = losses_of_halves(training, cache)
    for _ in range(STEPS):
        training.train_step()
    left_after, right_after = losses_of_halves(training, cache)
    assert left_after < 0.6 * left
    assert right_after > 0.85 * right
