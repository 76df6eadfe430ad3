"""A model of another latent format, as small as ComfyUI accepts: an SD3 of two blocks, its VAE."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from glitch_demo.pocket_vae import make_decoder, make_encoder, vae_state

CHANNELS, PATCH, TEXT = 16, 2, 768
"""Of SD3's latents, of its patches, and of the SD1.5 text encoder that stands in for its own."""
BLOCKS = 2
WIDTH = 64 * BLOCKS  # the host reads the number of blocks off it


def place_tiny_sd3(base_dir: Path) -> tuple[str, str]:
    """Write both files into a host's models folder, once.

    Args:
        base_dir: the host's folder.

    Returns:
        Names of the diffusion model and of the VAE.
    """
    names = "tiny_sd3.safetensors", "tiny_sd3_vae.safetensors"
    states = (("diffusion_models", _transformer), ("vae", _vae))
    for (folder, state), name in zip(states, names, strict=True):
        path = base_dir / "models" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            torch.manual_seed(0)
            save_file({key: value.contiguous() for key, value in state().items()}, path)
    return names


def _transformer() -> dict[str, torch.Tensor]:
    linears = {
        "t_embedder.mlp.0": (256, WIDTH), "t_embedder.mlp.2": (WIDTH, WIDTH),
        "y_embedder.mlp.0": (TEXT, WIDTH), "y_embedder.mlp.2": (WIDTH, WIDTH),
        "context_embedder": (TEXT, WIDTH), "final_layer.linear": (WIDTH, CHANNELS * PATCH**2),
        "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
    }  # fmt: skip
    for number in range(BLOCKS):
        for side in ("context_block", "x_block"):
            last = number == BLOCKS - 1 and side == "context_block"  # it only gives its keys
            within = {"attn.qkv": (WIDTH, 3 * WIDTH), "adaLN_modulation.1": (WIDTH, 6 * WIDTH)}
            if last:
                within["adaLN_modulation.1"] = (WIDTH, 2 * WIDTH)
            else:
                within |= {"attn.proj": (WIDTH, WIDTH), "mlp.fc1": (WIDTH, 4 * WIDTH)}
                within["mlp.fc2"] = (4 * WIDTH, WIDTH)
            linears |= {f"joint_blocks.{number}.{side}.{key}": of for key, of in within.items()}
    state = {"x_embedder.proj.weight": 0.1 * torch.randn(WIDTH, CHANNELS, PATCH, PATCH)}
    state["x_embedder.proj.bias"] = torch.zeros(WIDTH)
    for key, (inputs, outputs) in linears.items():
        state[f"{key}.weight"] = torch.randn(outputs, inputs) / inputs**0.5
        state[f"{key}.bias"] = torch.zeros(outputs)
    return state


def _vae() -> dict[str, torch.Tensor]:
    encoder, decoder = make_encoder(), make_decoder()
    encoder[-1] = torch.nn.Conv2d(64, CHANNELS, 3, padding=1)
    decoder[1] = torch.nn.Conv2d(CHANNELS, 64, 3, padding=1)
    with torch.no_grad():
        decoder[-1].weight.mul_(20)  # what it draws is seen in 8 bits
    return vae_state(encoder, decoder, 1.0)
