"""Encoders that make NaN: told before anything of it is stored; what was stored heals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from runs import Counted, make_run, tiny_tower
from tiny import picture

from glitch_train.cache import TensorCache
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import TrainingError
from glitch_train.losses.record import StepReport
from glitch_train.training.encode import encode_captions, encode_pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures, two of them alike."""
    folder = tmp_path / "alike"
    folder.mkdir()
    for name, colour in [("a", "red"), ("b", "green"), ("c", "red")]:
        picture(folder / f"{name}.png", colour=colour)
    return folder


def load(folder: Path):
    """Load a folder at 64×64."""
    return load_dataset(DatasetRecipe(folder=str(folder), width=64, height=64))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=["nan", "inf", "-inf"])
def test_latents_that_are_no_numbers_are_told(pictures: Path, tmp_path: Path, value) -> None:
    """Catches one value of SDXL's VAE in fp16 that spoils every loss: which picture, what to do."""

    def encode(image) -> torch.Tensor:
        latents = torch.zeros(4, 8, 8)
        latents[1, 2, 3] = value if image.getpixel((5, 5))[1] > 100 else 0.0
        return latents

    cache = TensorCache(tmp_path / "cache")
    with pytest.raises(TrainingError, match=r"NaN or infinity\) of b\.png.*--fp32-vae, or use"):
        list(encode_pictures(load(pictures), encode, "vae", cache))
    stored = list(cache.folder.rglob("*.safetensors"))
    assert len(stored) == 1


def test_a_cache_that_holds_nan_heals(pictures: Path, tmp_path: Path) -> None:
    """Catches NaN of an earlier version trained on for ever, and more encoded than it takes."""
    cache, counted = TensorCache(tmp_path / "cache"), Counted()
    keys = list(encode_pictures(load(pictures), counted.encode_picture, "vae", cache))
    assert keys[0] == keys[2] != keys[1]
    assert counted.pictures == 2
    cache.store(keys[0], {"latents": torch.full((4, 8, 8), math.nan)})
    assert list(encode_pictures(load(pictures), counted.encode_picture, "vae", cache)) == keys
    assert counted.pictures == 3
    assert all(cache.load(key)["latents"].isfinite().all() for key in keys)


def test_captions_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    """Catches a broken text encoder whose NaN would be stored in the same way."""
    tower = tiny_tower()
    tower.model.text_model.final_layer_norm.weight.data[0] = math.nan
    cache = TensorCache(tmp_path / "cache")
    with pytest.raises(TrainingError, match="NaN or infinity\\) of the caption 'a red coat'"):
        list(
            encode_captions(["a red coat"], Counted().tokenize, [tower], cache, torch.device("cpu"))
        )
    assert not list(cache.folder.rglob("*.safetensors"))


@pytest.mark.slow
def test_a_run_heals_on_its_way(tmp_path: Path, pictures: Path) -> None:
    """Catches a run whose pictures were cached as NaN: its losses are numbers."""
    first = make_run(tmp_path, pictures, Counted(), steps=2)
    list(first.events())
    for file in (tmp_path / "cache").rglob("*.safetensors"):
        held = first._cache.load(file.stem)
        if "latents" in held:
            first._cache.store(file.stem, {"latents": held["latents"] * math.nan})
    again = make_run(tmp_path, pictures, Counted(), steps=2)
    losses = [event.loss for event in again.events() if isinstance(event, StepReport)]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
