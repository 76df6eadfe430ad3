"""Checkpoints that keep weights in fewer bits, with scales beside them: made whole, or told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from ..errors import CheckpointError
from ..plain_json import parse_json
from .tensor_file import TensorFile

# What other tools keep beside a weight that they have packed: not to be undone in a few lines.
# Source: bitsandbytes functional.py (QuantState.as_dict), nn/modules.py; nunchaku's W4A4 Linear.
_PACKED = {
    ".absmax": "bitsandbytes' NF4 or FP4",
    ".SCB": "bitsandbytes' int8",
    ".qweight": "a packed format of Nunchaku, GPTQ or AWQ",
}
# ComfyUI's names of a weight's scale, old and new, and of what concerns only its fp8 arithmetic.
# Source: ComfyUI comfy/utils.py, convert_old_quants; comfy/quant_ops.py, QUANT_ALGOS.
SCALES = (".weight_scale", ".scale_weight")
_MARKS = (*SCALES, ".comfy_quant", ".scale_input", ".input_scale", "scaled_fp8")
_FORMAT = ".comfy_quant"
_METADATA = "_quantization_metadata"
_PLAIN_SCALE = ("float8_e4m3fn", "float8_e5m2", "int8_tensorwise")
"""Formats whose weight is what is stored, times its scale."""


def whole_weights(file: TensorFile) -> Mapping[str, torch.Tensor]:
    """Return a checkpoint's weights as numbers to compute with.

    Args:
        file: a checkpoint; plain ones, fp8 without scales among them, come back as they are.

    Returns:
        The tensors without their scales, each read when it is looked up; what has a scale is
        multiplied by it and fp16, as checkpoints are.

    Raises:
        CheckpointError: for weights packed otherwise; says which file to take instead.
    """
    _check_formats(file)
    scales = {
        f"{name.removesuffix(end)}.weight": name
        for name in file
        for end in SCALES
        if name.endswith(end)
    }
    is_quantised = scales or any(name.endswith(_MARKS) for name in file)
    return _Whole(file, scales) if is_quantised else file


def packed(name: str, how: str) -> CheckpointError:
    """Return the sentence on weights that cannot be made whole here.

    Args:
        name: of the file or model.
        how: they are kept.
    """
    return CheckpointError(
        f"{name} keeps its weights in {how}, which cannot be trained on here; load the fp16, bf16 "
        "or fp8 file of the same model (base_precision stores it in fewer bits while it trains)."
    )


class _Whole(Mapping[str, torch.Tensor]):
    """A quantised file's weights, made whole one at a time."""

    def __init__(self, file: TensorFile, scales: Mapping[str, str]) -> None:
        self._file = file
        self._scales = scales
        self._names = dict.fromkeys(name for name in file if not name.endswith(_MARKS))

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        weight = self._file[name]
        if name not in self._scales:
            return weight
        return (weight.float() * self._file[self._scales[name]].float()).half()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _check_formats(file: TensorFile) -> None:
    for name in (*file, *file.unread):
        for end, how in _PACKED.items():
            if name.endswith(end):
                raise packed(file.path.name, how)
    for told in _formats(file):
        kept = told.get("format")
        nested = told.get("params")
        rotated = told.get("convrot") or (isinstance(nested, dict) and nested.get("convrot"))
        if kept not in _PLAIN_SCALE or rotated:
            raise packed(file.path.name, f"ComfyUI's format {kept}{' (rotated)' * bool(rotated)}")
    if file.unread:
        kinds = ", ".join(sorted(set(file.unread.values())))
        raise packed(file.path.name, f"number formats that torch cannot compute with ({kinds})")


def _formats(file: TensorFile) -> Iterator[dict[str, object]]:
    """Yield what the file says of each quantised layer: in its metadata, or beside the weight."""
    texts = [file[name].numpy().tobytes() for name in file if name.endswith(_FORMAT)]
    try:
        found = [parse_json(text) for text in texts]
        if _METADATA in file.metadata:
            found += parse_json(file.metadata[_METADATA].encode())["layers"].values()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file.path.name} does not say readably how its weights are quantised; load the "
            "fp16, bf16 or fp8 file of the same model."
        ) from error
    yield from (told if isinstance(told, dict) else {} for told in found)
