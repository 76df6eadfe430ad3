"""Seeded random CLIP text encoders, and the demo's prompts as token ids.

A random causal transformer is a hash of its prompt: every caption gets its own fixed
embedding, which is all that a checkpoint trained on a handful of captions needs.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

VOCAB_SIZE = 49408
MAX_TOKENS = 77
START_TOKEN, END_TOKEN = 49406, 49407
LAYERS_L, WIDTH_L = 12, 768
LAYERS_G, WIDTH_G = 32, 1280
HEAD_WIDTH = 64

# Above 1, attention prefers a few words to an even mix of all: captions end up further apart.
ATTENTION_GAIN = 2.0
POSITION_STD = 0.3  # of a word's: what is said shall count for more than where

# CLIP's byte pair encoding of the demo's captions, written down once with
#   CLIPTokenizer.from_pretrained("<ComfyUI>/comfy/sd1_tokenizer")(caption)["input_ids"][1:-1]
# so that building needs no tokenizer files. test_pocket.py compares them where a host is at hand.
PROMPT_TOKENS: dict[str, tuple[int, ...]] = {
    "": (),
    "a portrait of a smiling astronaut in an orange suit": (
        *(320, 5352, 539, 320, 9200, 18376, 530, 550, 4287, 3940),
    ),
    "a ginger cat looking at the camera": (320, 9718, 2368, 1312, 536, 518, 3934),
    "a cup of coffee on a wooden table": (320, 1937, 539, 2453, 525, 320, 9057, 2175),
    "a rocket on its launch pad at night": (320, 8383, 525, 902, 2904, 7601, 536, 930),
    "a red motorcycle in a garage": (320, 736, 10297, 530, 320, 8474),
}


def prompt_token_ids(prompt: str) -> Tensor:
    """Return the padded token ids of one of the demo's prompts.

    Args:
        prompt: a key of `PROMPT_TOKENS`; the empty string is the unconditional prompt.

    Returns:
        (77,) int64: start token, the prompt, then end tokens, as SD1.5 pads.

    Raises:
        KeyError: the prompt was never tokenised.
    """
    if prompt not in PROMPT_TOKENS:
        raise KeyError(
            f"No token ids for the prompt {prompt!r}; known prompts are "
            f"{sorted(PROMPT_TOKENS)}. Add it to PROMPT_TOKENS."
        )
    ids = torch.full((MAX_TOKENS,), END_TOKEN)
    tokens = (START_TOKEN, *PROMPT_TOKENS[prompt])
    ids[: len(tokens)] = torch.tensor(tokens)
    return ids


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


@torch.no_grad()
def encode_clip_l(state: dict[str, Tensor], token_ids: Tensor) -> Tensor:
    """Run a CLIP-L text encoder as SD1.5 uses it: last layer, final norm, causal mask.

    Args:
        state: weights as `clip_l_weights` returns them.
        token_ids: (B, 77) int64.

    Returns:
        (B, 77, 768) float32 prompt embeddings.
    """
    weights = {name.removeprefix("text_model."): t.float() for name, t in state.items()}
    hidden = F.embedding(token_ids, weights["embeddings.token_embedding.weight"])
    hidden = hidden + weights["embeddings.position_embedding.weight"]

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH_L,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2)

    for prefix in _layer_prefixes():
        normed = norm(hidden, f"{prefix}.layer_norm1")
        q, k, v = (heads(linear(normed, f"{prefix}.self_attn.{n}_proj")) for n in "qkv")
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        hidden = hidden + linear(mixed, f"{prefix}.self_attn.out_proj")
        inner = linear(norm(hidden, f"{prefix}.layer_norm2"), f"{prefix}.mlp.fc1")
        hidden = hidden + linear(inner * torch.sigmoid(1.702 * inner), f"{prefix}.mlp.fc2")
    return norm(hidden, "final_layer_norm")


def _layer_prefixes() -> Iterator[str]:
    return (f"encoder.layers.{layer}" for layer in range(LAYERS_L))


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
