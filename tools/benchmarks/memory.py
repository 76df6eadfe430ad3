"""Resident memory of a training run over few and many pictures, everything cached.

Pictures, base model and text encoder are tiny: what grows here grows with the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CAPTION = "Picture {0} of a long series, seen from afar, in soft light, its colours warm. " * 4


def main(arguments: Sequence[str]) -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(_train(options.measure, options.steps)))
        return
    few, many = (_run(count, options.steps) for count in (options.few, options.many))
    print(f"{options.few} pictures: {few:.0f} MB resident while training")
    print(f"{options.many} pictures: {many:.0f} MB, {many / few - 1:+.1%}")


def _run(count: int, steps: int) -> float:
    """Return the megabytes of the second run over ``count`` pictures; the first one encodes."""
    with tempfile.TemporaryDirectory(prefix="glitch_memory_") as folder:
        _write_pictures(Path(folder) / "pictures", count)
        command = [sys.executable, "-m", "benchmarks", "memory", "--measure", folder]
        command += ["--steps", str(steps)]
        for _ in ("encode", "train from the cache"):
            one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # tiny models: threads only wait
            done = subprocess.run(command, check=True, capture_output=True, env=one_thread)
            result = json.loads(done.stdout)
            print(f"{count} pictures: {result}", file=sys.stderr)
        assert result["encoded"] == 0
        return result["resident_mb"]


def _write_pictures(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06}.png")
        (folder / f"{number:06}.txt").write_text(CAPTION.format(number), "utf-8")


def _train(folder: Path, steps: int) -> dict[str, float]:
    import psutil
    import torch

    from glitch_train.dataset.load import load_dataset
    from glitch_train.dataset.recipe import DatasetRecipe
    from glitch_train.losses.record import StepReport
    from glitch_train.model.encoders import Encoders
    from glitch_train.recipe.recipe import Recipe
    from glitch_train.recipe.train import TrainRecipe
    from glitch_train.training.run.folder import claim_run
    from glitch_train.training.run.run import TrainingRun
    from glitch_train.training.run.setup import RunSetup

    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
    from runs import tiny_tower
    from tiny import tiny_base

    encoded = 0

    def encode_picture(image: Image.Image) -> torch.Tensor:
        nonlocal encoded
        encoded += 1
        return torch.full((4, image.height // 8, image.width // 8), float(encoded % 7))

    def decode_picture(latents: torch.Tensor) -> Image.Image:
        raise NotImplementedError("this run samples nothing")

    def tokenize(caption: str) -> tuple[torch.Tensor]:
        ids = list(caption.encode())[:70]
        return (torch.tensor([[0, *(i % 40 + 1 for i in ids), *[49] * (76 - len(ids))]]),)

    dataset = DatasetRecipe(folder=str(folder / "pictures"), width=64, height=64, repeats=1)
    recipe = Recipe(dataset, TrainRecipe(steps=steps, network_dim=2, batch_size=2))
    base = tiny_base()
    base.text_encoders = (tiny_tower(),)
    run = TrainingRun(
        RunSetup(
            base=base,
            base_key="tiny",
            dataset=load_dataset(dataset),
            recipe=recipe,
            encoders=Encoders(encode_picture, decode_picture, tokenize, "vae"),
            paths=claim_run("memory", folder / "runs", folder / "loras"),
            cache_folder=folder / "cache",
            device=torch.device("cpu"),
        )
    )
    resident = [psutil.Process().memory_info().rss for event in _steps(run, StepReport)]
    return {"encoded": encoded, "resident_mb": round(max(resident) / 2**20, 1)}


def _steps(run: object, kind: type) -> Iterator[object]:
    return (event for event in run.events() if isinstance(event, kind))  # type: ignore[attr-defined]
