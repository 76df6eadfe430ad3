"""The settings that peft keeps beside a LoRA's factors: in the metadata, or in a folder's file."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import LoraFileError
from ..model.network import TE1, TE2, UNET
from ..model.tensor_file import TensorFile
from ..plain_json import parse_json

PEFT_HEAD = "base_model.model."
"""What peft's own names begin with, whatever model they are for."""
SECOND_WIDTH = 1280
"""Width of SDXL's second text encoder, by which peft's names are told from the first's."""

# Sources: huggingface/diffusers, LORA_ADAPTER_METADATA_KEY; huggingface/peft, CONFIG_NAME.
_IN_METADATA = "lora_adapter_metadata"
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Peft saves one folder a model; diffusers' examples call them so.
_FOLDERS = {"unet": UNET, "text_encoder": TE1, "text_encoder_2": TE2}
_HEADS = {part: f"{folder}." for folder, part in _FOLDERS.items()}
# A pattern is a regular expression of the file's own. These bounds are far above what anybody
# writes, and keep the time that it takes small.
_LONGEST_PATTERN, _MOST_REPEATS = 200, 3


class PeftSettings:
    """The strength that peft's settings give a module."""

    def __init__(self, title: str, metadata: Mapping[str, str]) -> None:
        """Read diffusers' ``lora_adapter_metadata``: settings under ``unet.lora_alpha`` …

        Args:
            title: what to call the file.
            metadata: of the file.
        """
        self._title = title
        self._stated: dict[str, Any] = {}
        self.note = ""
        text = metadata.get(_IN_METADATA)
        if text is None:
            return
        try:
            stated = parse_json(text)
        except ValueError:
            stated = None
        if isinstance(stated, dict):
            self._stated = stated
        else:
            self.note = (
                f"Its {_IN_METADATA} is no JSON object; factors without an alpha are taken at "
                "scale 1."
            )

    def alpha(self, name: str, part: str, rank: int) -> float | None:
        """Return the alpha that the settings give a module, None without settings.

        Args:
            name: the module's name in the file.
            part: the part it belongs to.
            rank: of its factors.

        Raises:
            LoraFileError: for settings that are no numbers.

        Source: huggingface/peft, ``get_pattern_key`` and ``LoraLayer.update_layer``.
        """
        head = _HEADS.get(part, "")
        alpha = self._get(head, "lora_alpha")
        patterns = self._get(head, "alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise self._odd(f"{head}alpha_pattern", patterns)
        own = name.removeprefix(head).removeprefix(PEFT_HEAD)
        for pattern, value in patterns.items():
            if self._compiled(pattern).match(own):
                alpha = value
                break
        if alpha is None:
            return None
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or abs(alpha) > 1e9:
            raise self._odd(f"the alpha of {name}", alpha)
        return float(alpha) * math.sqrt(rank) if self._get(head, "use_rslora") else float(alpha)

    def _get(self, head: str, key: str) -> Any:
        """Return a setting of a part, or that of a folder with one model in it."""
        return self._stated.get(f"{head}{key}", self._stated.get(key))

    def _compiled(self, pattern: str) -> re.Pattern[str]:
        try:
            return _compiled(pattern)
        except (re.error, OverflowError, RecursionError, ValueError) as error:
            raise self._odd("a module's name in alpha_pattern", pattern) from error

    def _odd(self, what: str, value: object) -> LoraFileError:
        return LoraFileError(
            f"{self._title}: peft's settings give {what} as {str(value)[:40]!r}, which peft does "
            "not write; save the LoRA again."
        )


@functools.lru_cache(maxsize=4096)  # diffusers writes a pattern for each module
def _compiled(pattern: str) -> re.Pattern[str]:
    repeats = re.findall(r"(?<!\\)[*+{]", pattern)
    if (
        len(pattern) > _LONGEST_PATTERN
        or len(repeats) > _MOST_REPEATS
        or re.search(r"\)[*+{]", pattern)
    ):
        raise ValueError("too much to match")
    return re.compile(rf"(.*\.)?({pattern})$")


def with_config_beside(
    path: Path, metadata: Mapping[str, str], is_peft: bool
) -> tuple[Mapping[str, str], str]:
    """Return a file's metadata with the settings of its peft folder, and what to say about it.

    Args:
        path: the file.
        metadata: its own.
        is_peft: whether its names are peft's.

    Raises:
        LoraFileError: when the folder's settings cannot be read.
    """
    config, own = path.with_name(_CONFIG), path.name == _WEIGHTS
    if not (own or (is_peft and config.exists())) or _IN_METADATA in metadata:
        return metadata, ""
    if not config.exists():
        return metadata, f"There is no {_CONFIG} beside {path.name}; it is taken at scale 1."
    # A file that was renamed keeps its settings, unless they may be another's.
    if not own and len(list(path.parent.glob("*.safetensors"))) > 1:
        return metadata, (
            f"The {_CONFIG} beside {path.name} may be another file's: taken at scale 1; give each "
            "a folder of its own."
        )
    note = "" if own else f"Its strength was read from the {_CONFIG} beside it."
    return {**metadata, _IN_METADATA: json.dumps(_read_config(config))}, note


def read_peft_folder(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors of a peft folder, or of one such folder a model, and their settings.

    Args:
        folder: with ``adapter_model.safetensors`` in it, or in its ``unet``, ``text_encoder`` and
            ``text_encoder_2``.

    Raises:
        LoraFileError: when it is no such folder, or one of its files cannot be read.
    """
    places = {"": folder} | {f"{name}.": folder / name for name in _FOLDERS}
    found = {head: place for head, place in places.items() if (place / _WEIGHTS).is_file()}
    if not found:
        raise LoraFileError(
            f"{folder} is a folder without an {_WEIGHTS}; choose a LoRA file, or the folder that "
            "peft saved."
        )
    tensors: dict[str, torch.Tensor] = {}
    stated: dict[str, Any] = {}
    for head, place in found.items():
        file = TensorFile(place / _WEIGHTS)
        for key, kind in file.unread.items():
            raise LoraFileError(
                f"{file.path}: {key[:100]!r} is in {kind}, which torch does not have; save it "
                "again in fp16 or fp32."
            )
        tensors |= {f"{head}{key}": file[key] for key in file}
        config = _read_config(place / _CONFIG)
        stated |= {f"{head}{key}": value for key, value in config.items()}
    return tensors, {_IN_METADATA: json.dumps(stated)}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = parse_json(path.read_bytes())
    except OSError as error:
        raise LoraFileError(
            f"Cannot read {path}: {error.strerror or error}; it says how strong the LoRA beside it "
            "is, copy it there."
        ) from error
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise LoraFileError(f"{path} is no JSON object; copy or download it again.")
    return config
