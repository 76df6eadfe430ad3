"""A whole run on tiny models: order of events, files, stopping in the middle."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import picture, tiny_base
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from glitch_train.cache import sampled_key
from glitch_train.dataset.load import load_dataset
from glitch_train.errors import TrainingError
from glitch_train.losses.read import read_csv
from glitch_train.losses.record import StepReport
from glitch_train.model.checkpoint import TextEncoder
from glitch_train.recipe.recipe import DatasetRecipe, Recipe, TrainRecipe
from glitch_train.training.run import Encoders, Preparing, TrainingRun
from glitch_train.training.run_folder import choose_run

pytestmark = pytest.mark.slow


def tiny_tower() -> TextEncoder:
    """Return a seeded text tower of the tiny UNet's width."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=64, hidden_size=24, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=24, eos_token_id=3,
    )  # fmt: skip
    return TextEncoder(CLIPTextModelWithProjection(config).requires_grad_(False), None, False)


class Counted:
    """A VAE and a tokenizer that count their calls."""

    def __init__(self) -> None:
        self.pictures = 0

    def encode_picture(self, image) -> torch.Tensor:
        self.pictures += 1
        return torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(self.pictures))

    def decode_picture(self, latents: torch.Tensor) -> Image.Image:
        grey = latents.mean(0).mul(40).add(128).clamp(0, 255).byte().numpy()
        return Image.fromarray(grey).resize((latents.shape[2] * 8, latents.shape[1] * 8))

    def tokenize(self, caption: str) -> tuple[torch.Tensor, ...]:
        ids = torch.full((1 + len(caption) // 20, 77), 3)
        ids[:, 1] = len(caption) % 60
        return (ids,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one without a caption, one with a long one."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, colour in [("a", "red"), ("b", "green"), ("c", "blue")]:
        picture(pictures / f"{name}.png", colour=colour)
    (pictures / "a.txt").write_text("a red square")
    (pictures / "b.txt").write_text("a green square that is described at some length")
    return pictures


def make_run(
    tmp_path: Path, folder: Path, counted: Counted, resume: str = "never", **train
) -> TrainingRun:
    """Return a run of three steps, in the place that ``resume`` chooses."""
    recipe = Recipe(
        DatasetRecipe(folder=str(folder), width=64, height=64, repeats=2),
        TrainRecipe(**{"steps": 3, "network_dim": 2, "batch_size": 2} | train),
    )
    base = tiny_base()
    base.text_encoders = (tiny_tower(),)
    key = sampled_key(base.unet)
    return TrainingRun(
        base,
        load_dataset(recipe.dataset),
        recipe,
        Encoders(counted.encode_picture, counted.decode_picture, counted.tokenize, "vae"),
        choose_run(recipe, resume, key, tmp_path / "runs", tmp_path / "loras"),
        cache_folder=tmp_path / "cache",
        device=torch.device("cpu"),
    )


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
    assert Recipe.from_json(run.paths.recipe.read_text()) == run.recipe
    assert json.loads(run.paths.recipe.read_text())["train"]["network_dim"] == 2


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


def test_a_broken_loss_keeps_the_lora_so_far(tmp_path: Path, folder: Path) -> None:
    """Catches a run that dies with its last good LoRA unsaved."""
    run = make_run(tmp_path, folder, Counted(), steps=1000)
    events = run.events()
    while len(run.record) < 2:
        next(events)
    run.base.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="at step 3"):
        next(events)
    assert all(value.isfinite().all() for value in load_file(run.paths.lora).values())


def test_precision_is_checked_before_any_work(tmp_path: Path, folder: Path) -> None:
    """Catches pictures being encoded for a run that cannot train."""
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        make_run(tmp_path, folder, Counted(), precision="fp16")
