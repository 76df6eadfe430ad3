"""A row of the GPU benchmark by ComfyUI's own TrainLoraNode, on weights of the same shapes."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from glitch_demo.full_shapes import LAYOUTS, ldm_weights
from glitch_train.training.devices import peak_memory_mb

from ._gpu_rows import Row


def measure_host(row: Row, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Return the node's seconds a step and peak memory.

    Args:
        row: what to measure.
        device: where; a CPU is told to the host.
        options: ``steps`` that are timed, ``comfyui``, a folder whose packages this Python has, and
            ``tiny``, for pictures of 64 pixels.
    """
    sys.argv = sys.argv[:1]
    tree = Path(options.comfyui).resolve()
    sys.path.insert(0, str(tree))
    os.chdir(tree)
    import comfy.cli_args

    comfy.cli_args.args.cpu = device.type == "cpu"
    import comfy.sd
    from comfy_extras import nodes_train

    seconds: list[float] = []
    nodes_train.trange = lambda count, **_: _Timed(count, seconds, device)
    family, layout = LAYOUTS[row.family]
    side = 8 if options.tiny else row.size_px // 8
    more = {"pooled_output": torch.randn(1, 1280)} if family.is_xl else {}
    inputs = {
        "latents": [{"samples": torch.randn(row.batch, 4, side, side)}] * 2,
        "positive": [[[torch.randn(1, 77, family.context_dim), more]]],
        **_settings(row, nodes_train.TrainLoraNode, options.steps),
    }
    # A file, as newer hosts load a model anew where they leave its weights on the disk.
    with tempfile.TemporaryDirectory(prefix="glitch_gpu_") as folder, torch.inference_mode():
        path = Path(folder) / "unet.safetensors"
        weights = {
            name: (torch.randn(value.shape, device=device) / value[0].numel() ** 0.5).half().cpu()
            for name, value in ldm_weights(family, layout).items()
        }
        save_file(weights, path)
        del weights
        model = comfy.sd.load_diffusion_model(str(path))
        nodes_train.TrainLoraNode.execute(model=[model], **inputs)
    return {
        "step_s": statistics.median(seconds[1:]),  # the first step allocates
        "peak_mb": peak_memory_mb(device),
    }


def _settings(row: Row, node: Any, steps: int) -> dict[str, list[Any]]:
    """Return the node's defaults with the row's settings, whatever its version has."""
    wanted = {
        "batch_size": row.batch,
        "steps": steps + 1,
        "grad_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "rank": row.rank,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": row.precision,
        "lora_dtype": "fp32",
        "algorithm": "LoRA",
        "gradient_checkpointing": row.checkpointing,
        "existing_lora": "[None]",
    }
    inputs = [one for one in node.define_schema().inputs if one.id not in ("model", "latents")]
    known = {one.id: getattr(one, "default", None) for one in inputs if one.id != "positive"}
    return {name: [wanted.get(name, default)] for name, default in known.items()}


class _Timed:
    """Stands in for the progress bar over the node's steps and notes what each took."""

    def __init__(self, count: int, seconds: list[float], device: torch.device) -> None:
        self._count, self._seconds, self._device = count, seconds, device

    def __iter__(self) -> Iterator[int]:
        from ._gpu_measure import synchronize

        for number in range(self._count):
            began = time.perf_counter()
            yield number
            synchronize(self._device)
            self._seconds.append(time.perf_counter() - began)

    def set_postfix(self, *_: object, **__: object) -> None:
        """Show nothing."""
