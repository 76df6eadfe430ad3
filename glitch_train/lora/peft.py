"""The settings that peft keeps beside a LoRA's factors: in the metadata, or in a file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import LoraFileError
from ..files import read_object
from ..plain_json import json_object

PEFT_HEAD = "base_model.model."
"""What peft's own names begin with, whatever model they are for."""
SECOND_WIDTH = 1280
"""Width of SDXL's second text encoder, by which peft's names are told from the first's."""

# Sources: huggingface/diffusers, LORA_ADAPTER_METADATA_KEY; huggingface/peft, CONFIG_NAME.
_IN_METADATA = "lora_adapter_metadata"
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_HEADS = {"unet": "unet.", "te1": "text_encoder.", "te2": "text_encoder_2."}


def with_config_beside(path: Path, metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Return a file's metadata, with the settings of its peft folder.

    Args:
        path: the file.
        metadata: its own.

    Raises:
        DiskError: when the folder's settings cannot be read.
    """
    if path.name != _WEIGHTS:
        return metadata
    config = read_object(path.with_name(_CONFIG))
    heads = ("", *_HEADS.values())
    stated = {f"{head}{key}": value for head in heads for key, value in config.items()}
    return {_IN_METADATA: json.dumps(stated), **metadata} if config else metadata


def peft_settings(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return diffusers' ``lora_adapter_metadata``: peft settings under ``unet.lora_alpha`` …"""
    return json_object(metadata.get(_IN_METADATA, ""))


def peft_alpha(
    title: str, name: str, part: str, rank: int, stated: Mapping[str, Any]
) -> float | None:
    """Return the alpha that peft's settings give a module, None without settings.

    Args:
        title: what to call the file.
        name: the module's name in it.
        part: the part it belongs to.
        rank: of its factors.
        stated: the settings.

    Raises:
        LoraFileError: for settings that are no numbers.

    Source: huggingface/peft, ``get_pattern_key`` and ``LoraLayer.update_layer``.
    """
    head = _HEADS.get(part, "")
    alpha = stated.get(f"{head}lora_alpha")
    patterns = stated.get(f"{head}alpha_pattern") or {}
    try:
        for pattern, value in patterns.items():
            if re.match(rf"(.*\.)?({pattern})$", name):
                alpha = value
                break
    except (AttributeError, re.error) as error:
        raise _odd(title, f"{head}alpha_pattern", patterns) from error
    if alpha is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise _odd(title, f"the alpha of {name}", alpha)
    return float(alpha) * math.sqrt(rank) if stated.get(f"{head}use_rslora") else float(alpha)


def _odd(title: str, what: str, value: object) -> LoraFileError:
    return LoraFileError(
        f"{title}: peft's settings give {what} as {str(value)[:40]!r}, where numbers belong; "
        "save the LoRA again."
    )
