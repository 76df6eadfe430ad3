"""What the pocket checkpoint's text encoder makes of a caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor


@torch.no_grad()
def prompt_embeddings(
    captions: Sequence[str], tokenizer: Path, weights: Mapping[str, Tensor]
) -> Tensor:
    """Encode captions as SD1.5 does: 77 tokens, last layer, final norm.

    Args:
        captions: short texts.
        tokenizer: folder of CLIP's tokenizer, such as ComfyUI's comfy/sd1_tokenizer.
        weights: the text encoder's, under transformers' names.

    Returns:
        (captions, 77, 768) fp32.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    encoder = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
        )
    ).eval()
    prefixed = any(name.startswith("text_model.") for name in encoder.state_dict())
    named = {
        name if prefixed else name.removeprefix("text_model."): weight.float()
        for name, weight in weights.items()
    }
    missing = encoder.load_state_dict(named, strict=False)[0]
    if any(not name.endswith("position_ids") for name in missing):
        raise ValueError(f"The text encoder lacks {missing}.")
    ids = CLIPTokenizer.from_pretrained(tokenizer)(
        list(captions), padding="max_length", max_length=77, return_tensors="pt"
    )["input_ids"]
    return encoder(input_ids=ids).last_hidden_state
