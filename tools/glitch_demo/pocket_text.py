"""Seeded random CLIP text encoders.

A random causal transformer is a hash of its prompt: every caption gets its own fixed
embedding, which is all that a checkpoint trained on a handful of captions needs.
"""

import torch
from torch import Tensor

VOCAB_SIZE = 49408
MAX_TOKENS = 77
LAYERS_L, WIDTH_L = 12, 768
LAYERS_G, WIDTH_G = 32, 1280

# Above 1, attention prefers a few words to an even mix of all: captions end up further apart.
ATTENTION_GAIN = 2.0
POSITION_STD = 0.3  # of a word's: what is said shall count for more than where


def clip_l_weights(seed: int) -> dict[str, Tensor]:
    """Draw a complete CLIP-L text encoder.

    Args:
        seed: seed of the random weights.

    Returns:
        fp16 tensors under transformers' names, from `text_model.embeddings…` on.
    """
    rng = torch.Generator().manual_seed(seed)
    state = {
        "text_model.embeddings.token_embedding.weight": _normal(rng, VOCAB_SIZE, WIDTH_L),
        "text_model.embeddings.position_embedding.weight": _normal(
            rng, MAX_TOKENS, WIDTH_L, std=POSITION_STD
        ),
        **_layer_norm("text_model.final_layer_norm", WIDTH_L),
    }
    for layer in range(LAYERS_L):
        prefix = f"text_model.encoder.layers.{layer}"
        state |= _layer_norm(f"{prefix}.layer_norm1", WIDTH_L)
        state |= _layer_norm(f"{prefix}.layer_norm2", WIDTH_L)
        for name in ("q", "k", "v", "out"):
            gain = ATTENTION_GAIN if name in "qk" else 1.0
            state |= _linear(rng, f"{prefix}.self_attn.{name}_proj", WIDTH_L, WIDTH_L, gain)
        state |= _linear(rng, f"{prefix}.mlp.fc1", 4 * WIDTH_L, WIDTH_L)
        state |= _linear(rng, f"{prefix}.mlp.fc2", WIDTH_L, 4 * WIDTH_L)
    return state


def open_clip_g_weights(seed: int) -> dict[str, Tensor]:
    """Draw a complete OpenCLIP bigG text encoder (695 M parameters).

    Args:
        seed: seed of the random weights.

    Returns:
        fp16 tensors under OpenCLIP's names (`transformer.resblocks…`, packed `in_proj_weight`).
    """
    rng = torch.Generator().manual_seed(seed)
    state = {
        "token_embedding.weight": _normal(rng, VOCAB_SIZE, WIDTH_G),
        "positional_embedding": _normal(rng, MAX_TOKENS, WIDTH_G),
        "text_projection": _normal(rng, WIDTH_G, WIDTH_G, std=WIDTH_G**-0.5),
        "logit_scale": torch.tensor(4.6052, dtype=torch.float16),  # log 100, CLIP's upper limit
        **_layer_norm("ln_final", WIDTH_G),
    }
    for layer in range(LAYERS_G):
        prefix = f"transformer.resblocks.{layer}"
        state |= _layer_norm(f"{prefix}.ln_1", WIDTH_G) | _layer_norm(f"{prefix}.ln_2", WIDTH_G)
        packed = _linear(rng, "", 3 * WIDTH_G, WIDTH_G)
        state[f"{prefix}.attn.in_proj_weight"] = packed[".weight"]
        state[f"{prefix}.attn.in_proj_bias"] = packed[".bias"]
        state |= _linear(rng, f"{prefix}.attn.out_proj", WIDTH_G, WIDTH_G)
        state |= _linear(rng, f"{prefix}.mlp.c_fc", 4 * WIDTH_G, WIDTH_G)
        state |= _linear(rng, f"{prefix}.mlp.c_proj", WIDTH_G, 4 * WIDTH_G)
    return state


def _normal(rng: torch.Generator, *shape: int, std: float = 1.0) -> Tensor:
    return (torch.randn(shape, generator=rng) * std).half()


def _linear(
    rng: torch.Generator, name: str, n_out: int, n_in: int, gain: float = 1.0
) -> dict[str, Tensor]:
    """Weights that keep the variance of their input, times `gain` squared."""
    return {
        f"{name}.weight": _normal(rng, n_out, n_in, std=gain * n_in**-0.5),
        f"{name}.bias": torch.zeros(n_out, dtype=torch.float16),
    }


def _layer_norm(name: str, width: int) -> dict[str, Tensor]:
    return {
        f"{name}.weight": torch.ones(width, dtype=torch.float16),
        f"{name}.bias": torch.zeros(width, dtype=torch.float16),
    }
