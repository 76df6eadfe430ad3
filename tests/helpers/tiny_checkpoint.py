"""A whole SD1.5 checkpoint in one small file: few channels and layers, the real vocabulary."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny import tiny_layout
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from glitch_demo.full_shapes import ldm_weights
from glitch_demo.pocket_vae import make_decoder, make_encoder, vae_state
from glitch_train.model.families import SD15

HELPERS = Path(__file__).parent
TOOLS = HELPERS.parents[1] / "tools"


def process_environment(**more: str) -> dict[str, str]:
    """Return what a process of its own needs here: one thread, and the CPU's torchvision mended."""
    path = [str(TOOLS / "glitch_demo" / "torchvision_shim"), str(HELPERS), str(TOOLS.parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", **more}


def write_tiny_checkpoint(path: Path, seed: int = 0) -> Path:
    """Write a seeded checkpoint of 90 MB, most of it the vocabulary, and return its path."""
    torch.manual_seed(seed)
    unet = {
        f"model.diffusion_model.{name}": torch.randn(value.shape) * 0.1
        for name, value in ldm_weights(SD15, tiny_layout()).items()
    }
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=12, eos_token_id=49407,
    )  # fmt: skip
    tower = {
        f"cond_stage_model.transformer.{name}": value.clone()
        for name, value in CLIPTextModelWithProjection(config).state_dict().items()
        if name.startswith("text_model.")
    }
    vae = {
        f"first_stage_model.{name}": value
        for name, value in vae_state(make_encoder(), make_decoder(), 0.18215).items()
    }
    whole = {name: value.half().contiguous() for name, value in {**unet, **tower, **vae}.items()}
    save_file(whole, path)
    return path
