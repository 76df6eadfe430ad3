"""One training step of a full-size SD1.5, against the least it can cost and ComfyUI's own node.

256×256, batch 1, rank 32, fp32 on the CPU. In one process, in turns: a whole step of this pack
(data, noise, forward, backward, clip, optimizer, record), and forward + backward to the input of
the same frozen UNet without a LoRA. In a process of its own: ComfyUI's TrainLoraNode with the same
checkpoint and settings. The two processes run in turns too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

SIZE_PX, RANK = 256, 32
CAPTION = "a portrait in soft light"
SHARE_LIMIT, FASTER_LIMIT, MEMORY_LIMIT = 1.08, 2.5, 0.5
Figures = dict[str, list[float]]
"""Wall and CPU seconds of each step, by what it was, and peak megabytes."""


def main(arguments: Sequence[str]) -> None:
    """Measure in turns and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks step", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="processes of each kind")
    parser.add_argument("--steps", type=int, default=4, help="measured steps of each kind a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--without-host", action="store_true", help="leave TrainLoraNode out")
    parser.add_argument("--here", choices=("make", "ours", "host"), help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        measure = {"make": _make, "ours": _ours, "host": _host}[options.here]
        print(json.dumps(measure(options.checkpoint, options.steps)))
        return
    kinds = ["ours"] if options.without_host else ["ours", "host"]
    found: Figures = {}
    with tempfile.TemporaryDirectory(prefix="glitch_step_") as folder:
        checkpoint = Path(folder) / "sd15.safetensors"
        _in_a_process("make", checkpoint, options)
        for _ in range(options.rounds):
            for kind in kinds:
                for name, values in _in_a_process(kind, checkpoint, options).items():
                    found.setdefault(name, []).extend(values)
    _print(found, not options.without_host)


def _in_a_process(kind: str, checkpoint: Path, options: argparse.Namespace) -> Figures:
    from glitch_demo.host import host_environment

    command = [sys.executable, "-m", "benchmarks", "step", "--here", kind]
    command += ["--checkpoint", str(checkpoint), "--steps", str(options.steps)]
    environment = host_environment() | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment
    )
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    print(f"{kind}: {figures}", file=sys.stderr)
    return figures


def _print(found: Figures, with_host: bool) -> None:
    def per_step(name: str) -> float:
        return statistics.median(found[name])

    def peak(kind: str) -> float:
        return max(found[f"{kind}_peak_mb"])

    share, cpu_share = (
        per_step(f"ours_{clock}") / per_step(f"least_{clock}") for clock in ("s", "cpu_s")
    )
    print(f"our step: {per_step('ours_s'):.2f} s, {peak('ours'):.0f} MB peak")
    print(f"forward + input gradient: {per_step('least_s'):.2f} s")
    print(f"  our step over it: {share:.3f} (CPU seconds: {cpu_share:.3f}; at most {SHARE_LIMIT})")
    if not with_host:
        return
    faster = per_step("host_s") / per_step("ours_s")
    cpu_faster = per_step("host_cpu_s") / per_step("ours_cpu_s")
    memory = peak("ours") / peak("host")
    print(f"TrainLoraNode: {per_step('host_s'):.2f} s, {peak('host'):.0f} MB peak")
    print(f"  ours is {faster:.2f} × as fast (CPU: {cpu_faster:.2f} ×; at least {FASTER_LIMIT} ×)")
    print(f"  with {memory:.2f} of its memory (at most {MEMORY_LIMIT})")


class _Clock:
    """Wall and CPU seconds of what is done between two looks."""

    def __init__(self, name: str, figures: Figures) -> None:
        self._wall = figures.setdefault(f"{name}_s", [])
        self._cpu = figures.setdefault(f"{name}_cpu_s", [])
        self.look()

    def look(self) -> None:
        """Begin anew."""
        self._before = time.perf_counter(), time.process_time()

    def note(self) -> None:
        """Keep what passed since the last look."""
        self._wall.append(time.perf_counter() - self._before[0])
        self._cpu.append(time.process_time() - self._before[1])


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _make(checkpoint: Path, _: int) -> Figures:
    from ._full_size import write_sd15

    write_sd15(checkpoint)
    return {}


def _ours(checkpoint: Path, steps: int) -> Figures:
    from glitch_train.losses.record import StepReport

    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="glitch_step_run_") as folder:
        run = _our_run(checkpoint, Path(folder), steps + 1)
        events = (event for event in run.events() if isinstance(event, StepReport))
        next(events)  # the first step allocates
        least = _least(run.base.unet)
        least()
        ours_clock, least_clock = _Clock("ours", figures), _Clock("least", figures)
        for _ in range(steps):
            least_clock.look()
            least()
            least_clock.note()
            ours_clock.look()
            next(events)
            ours_clock.note()
        figures["ours_peak_mb"] = [_peak_mb()]
        events.close()
    return figures


def _our_run(checkpoint: Path, folder: Path, steps: int) -> Any:
    import numpy as np
    from PIL import Image

    from glitch_train.dataset.recipe import DatasetRecipe
    from glitch_train.recipe.recipe import Recipe
    from glitch_train.recipe.train import TrainRecipe
    from glitch_train.training.run.standalone import prepare_run

    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(CAPTION, "utf-8")
    train = TrainRecipe(
        steps=steps,
        network_dim=RANK,
        network_alpha=float(RANK),
        precision="fp32",
        gradient_checkpointing="off",
        probe_every=0,
    )
    dataset = DatasetRecipe(folder=str(pictures), width=SIZE_PX, height=SIZE_PX)
    recipe = Recipe(dataset, train, checkpoint=str(checkpoint))
    return prepare_run(recipe, folder / "out", device="cpu")


def _least(trained: Any) -> Callable[[], None]:
    """Return forward + input gradient of the UNet without its LoRA, on the same weights."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        bare = UNet2DConditionModel.from_config(trained.config)
    weights = {
        name.replace(".base_layer", ""): value
        for name, value in trained.state_dict().items()
        if ".lora_" not in name
    }
    bare.load_state_dict(weights, assign=True)
    bare.requires_grad_(False)
    latent_px = SIZE_PX // 8
    noisy_latents = torch.randn(1, 4, latent_px, latent_px, requires_grad=True)
    target, prompt = torch.randn(1, 4, latent_px, latent_px), torch.randn(1, 77, 768)

    def step() -> None:
        timesteps = torch.randint(0, 1000, (1,))
        model_pred = bare(noisy_latents, timesteps, prompt, return_dict=False)[0]
        torch.nn.functional.mse_loss(model_pred, target).backward()
        noisy_latents.grad = None

    return step


def _host(checkpoint: Path, steps: int) -> Figures:
    from glitch_demo.host_tree import host_tree

    tree = str(host_tree())
    sys.argv = sys.argv[:1]
    sys.path.insert(0, tree)
    os.chdir(tree)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.sd
    import torch
    from comfy_extras import nodes_train

    figures: Figures = {}
    nodes_train.trange = lambda count, **_: _TimedRange(count, figures)
    with torch.inference_mode():  # as the host's executor does
        model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint))
        prompt = clip.encode_from_tokens_scheduled(clip.tokenize(CAPTION))
        del clip
        latents = [{"samples": torch.randn(2, 4, SIZE_PX // 8, SIZE_PX // 8)}]
        latents *= 2  # a single batch of latents crashes this version of the node
        _train_lora_node(nodes_train.TrainLoraNode, model, latents, prompt, steps + 1)
    for name, values in figures.items():
        figures[name] = values[1:]  # the first step allocates
    figures["host_peak_mb"] = [_peak_mb()]
    return figures


def _train_lora_node(node: Any, model: Any, latents: Any, prompt: Any, steps: int) -> None:
    settings = {
        "batch_size": 1,
        "steps": steps,
        "grad_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "rank": RANK,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "algorithm": "LoRA",
        "gradient_checkpointing": False,
        "existing_lora": "[None]",
    }
    node.execute([model], latents, [prompt], **{name: [value] for name, value in settings.items()})


class _TimedRange:
    """Stands in for the progress bar over the node's steps and notes what each took."""

    def __init__(self, count: int, figures: Figures) -> None:
        self._count = count
        self._clock = _Clock("host", figures)

    def __iter__(self) -> Iterator[int]:
        for number in range(self._count):
            self._clock.look()
            yield number
            self._clock.note()

    def set_postfix(self, *_: object, **__: object) -> None:
        """Show nothing."""
