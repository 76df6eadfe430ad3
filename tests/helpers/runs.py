"""Tiny trainings and whole runs, for the tests of training."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from PIL import Image
from tiny import picture, tiny_base, tiny_source
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from glitch_train.cache import TensorCache
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.losses.record import StepReport
from glitch_train.model.checkpoint import TextEncoder
from glitch_train.model.encoders import Encoders
from glitch_train.recipe.recipe import Recipe
from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.batches import BatchSource
from glitch_train.training.encode import encode_prompt
from glitch_train.training.items import TrainingItem
from glitch_train.training.loop import LoraTraining
from glitch_train.training.run.folder import choose_run
from glitch_train.training.run.run import TrainingRun
from glitch_train.training.run.setup import RunSetup


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


def write_pictures(place: Path) -> Path:
    """Write three pictures, one without a caption, one with a long one; return their folder."""
    pictures = place / "pictures"
    pictures.mkdir()
    for name, colour in [("a", "red"), ("b", "green"), ("c", "blue")]:
        picture(pictures / f"{name}.png", colour=colour)
    (pictures / "a.txt").write_text("a red square")
    (pictures / "b.txt").write_text("a green square that is described at some length")
    return pictures


def make_run(
    tmp_path: Path, folder: Path, counted: Counted, resume: str = "never", *, data=None, **train
) -> TrainingRun:
    """Return a run of three steps where ``resume`` has it; ``data`` are its dataset's settings."""
    settings = {"folder": str(folder), "width": 64, "height": 64, "repeats": 2}
    recipe = Recipe(
        DatasetRecipe(**settings | (data or {})),
        TrainRecipe(**{"steps": 3, "network_dim": 2, "batch_size": 2} | train),
    )
    base = tiny_base()
    base.text_encoders = (tiny_tower(),)
    key = base.key
    return TrainingRun(
        RunSetup(
            base=base,
            base_key=key,
            dataset=load_dataset(recipe.dataset),
            recipe=recipe,
            encoders=Encoders(
                counted.encode_picture, counted.decode_picture, counted.tokenize, "vae"
            ),
            paths=choose_run(recipe, resume, key, tmp_path / "runs", tmp_path / "loras"),
            cache_folder=tmp_path / "cache",
            device=torch.device("cpu"),
        )
    )


CPU = torch.device("cpu")


def start(folder: Path, *, is_xl: bool = False, prediction: str = "epsilon", **settings):
    """Return a training on a tiny model."""
    recipe = TrainRecipe(**{"network_dim": 4, "network_alpha": 2.0, "steps": 3} | settings)
    source = tiny_source(folder, batch_size=recipe.batch_size, seed=recipe.seed, is_xl=is_xl)
    return LoraTraining(tiny_base(is_xl=is_xl, prediction_type=prediction), source, recipe, CPU)


STEPS = 12


RESUMED = {
    "steps": STEPS, "learning_rate": 3e-3, "lr_scheduler": "cosine", "warmup_steps": 3,
    "probe_every": 4, "validation_split": 0.3, "noise_offset": 0.1, "save_precision": "fp32",
}  # fmt: skip


def going_on(tmp_path: Path, folder: Path, resume: str = "auto", **train) -> TrainingRun:
    """Return a run in the place that ``resume`` chooses."""
    return make_run(tmp_path, folder, Counted(), resume, **RESUMED | train)


def stop_after(run: TrainingRun, steps: int) -> None:
    """Follow a run and close it after some steps, as Cancel does."""
    with contextlib.closing(run.events()) as events:
        for event in events:
            if isinstance(event, StepReport) and event.step == steps:
                return


def weights(path: Path) -> bytes:
    """Return a LoRA file without its metadata, which holds times."""
    from safetensors.torch import load_file, save

    return save(load_file(path))


CAPTIONS = ("a red coat", "a green coat that is described at some length, twice")


def start_text_encoders(folder: Path, **settings) -> LoraTraining:
    """Return a training whose captions are real token chunks of a tiny tower."""
    recipe = TrainRecipe(**{"network_dim": 4, "network_alpha": 4.0, "steps": 3} | settings)
    base = tiny_base()
    base.text_encoders = (tiny_tower(),)
    cache, items = TensorCache(folder), []
    for index, caption in enumerate(CAPTIONS):
        chunks = Counted().tokenize(caption)
        with torch.no_grad():
            prompt = encode_prompt(base.text_encoders, chunks)
        stream = torch.Generator().manual_seed(index)
        cache.store(f"latents{index}", {"latents": torch.randn(4, 8, 8, generator=stream)})
        cache.store(
            f"prompt{index}", {"prompt_embeds": prompt.prompt_embeds, "tokens_0": chunks[0]}
        )
        items.append(
            TrainingItem(f"latents{index}", f"prompt{index}", (8, 8), (64, 64, 0, 0, 64, 64), index)
        )
    source = BatchSource(
        items, cache, cache, batch_size=2, repeats=2, seed=0,
        with_tokens=recipe.trains_text_encoder,
    )  # fmt: skip
    return LoraTraining(base, source, recipe, torch.device("cpu"))
