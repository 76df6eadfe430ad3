"""A seeded checkpoint of SD1.5's full size: the shapes are real, the weights are noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path


def write_sd15(path: Path) -> Path:
    """Write 860 M UNet parameters, a whole CLIP-L and a pocket VAE in fp16, 2 GB.

    Args:
        path: a .safetensors file to make.
    """
    import torch
    from safetensors.torch import save_file

    from glitch_demo.pocket_text import clip_l_weights
    from glitch_demo.pocket_vae import make_decoder, make_encoder, vae_state

    torch.manual_seed(0)
    with torch.no_grad():
        vae = vae_state(make_encoder(), make_decoder(), 0.18215)
        state = {f"model.diffusion_model.{name}": value for name, value in _unet()}
    state |= {f"cond_stage_model.transformer.{k}": v.half() for k, v in clip_l_weights(0).items()}
    state |= {f"first_stage_model.{k}": v.half() for k, v in vae.items()}
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def _unet() -> Iterator[tuple[str, object]]:
    """Yield every weight; variances are kept from layer to layer."""
    import torch

    from glitch_demo.full_shapes import LAYOUTS, ldm_weights

    for name, shape in ((n, tuple(v.shape)) for n, v in ldm_weights(*LAYOUTS["SD1.5"]).items()):
        if len(shape) == 1:
            value = torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
        else:
            value = torch.randn(shape) / math.sqrt(math.prod(shape[1:]))
        yield name, value.half()
