"""LoRA files in kohya's format, with the metadata other tools read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ..errors import LoraFileError, RecipeError
from ..files import atomic_path, disk_errors_said
from ..model.checkpoint import BaseModel
from ..model.tensor_file import TensorFile
from ..model.unet_names import rename, to_ldm_modules
from ..recipe.recipe import Recipe, read_recipe
from .dora import host_dora_scale, paper_magnitude
from .layers import LoraLayer, LoraLayers, TrainedLora

RECIPE_KEY = "glitch_recipe"
"""Metadata key under which the whole recipe is kept as JSON."""

LoraStateDict = dict[str, torch.Tensor]

_UNET_PREFIX = "lora_unet_"
SAVE_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def to_kohya(lora: TrainedLora, base: BaseModel, *, save_precision: str = "fp16") -> LoraStateDict:
    """Name LoRA factors as kohya's scripts do.

    SD1.5 files carry diffusers' module names, files of the SDXL family the original ones; dots
    become underscores.

    Args:
        lora: the factors.
        base: the model they were trained on.
        save_precision: ``fp16``, ``bf16`` or ``fp32``.

    Returns:
        ``lora_unet_….lora_down.weight``, ``.lora_up.weight``, ``.alpha`` and DoRA's
        ``.dora_scale``, on the CPU; the text encoders' modules begin with ``lora_te_``, in the
        SDXL family ``lora_te1_``, ``lora_te2_``. An alpha that ``save_precision`` would round is
        fp32, as is every dora_scale.
    """
    dtype = SAVE_DTYPES[save_precision]
    state: LoraStateDict = {}
    for name, layer in _named(lora, base):
        state |= _factors(name, layer, dtype)
    return state


def from_kohya(
    lora: TrainedLora, base: BaseModel, state: Mapping[str, torch.Tensor], strength: float = 1.0
) -> None:
    """Fill LoRA layers with what :func:`to_kohya` made of such layers.

    Args:
        lora: layers of the same recipe on the same base; changed in place.
        base: the model they are in.
        state: the file's factors.
        strength: of the LoRA, as Load LoRA takes it.

    Raises:
        LoraFileError: when a factor is missing or of another shape, or a DoRA is wanted at
            another strength than 1.
    """
    try:
        with torch.inference_mode(False), torch.no_grad():
            for name, layer in _named(lora, base):
                layer.down.copy_(state[f"{name}.lora_down.weight"])
                layer.up.copy_(state[f"{name}.lora_up.weight"])
                if layer.magnitude is not None and layer.weight is not None:
                    if strength != 1:
                        raise LoraFileError("A DoRA is drawn at strength 1 only without a host.")
                    scale = state[f"{name}.dora_scale"]
                    magnitude = paper_magnitude(scale, layer.weight, layer.change())
                    layer.magnitude.copy_(magnitude.view_as(layer.magnitude))
                else:
                    layer.up.mul_(strength)
    except (KeyError, RuntimeError) as error:
        raise LoraFileError(f"The LoRA is not of this recipe and base model: {error}.") from error


def save_lora(path: Path, state: LoraStateDict, metadata: Mapping[str, str]) -> None:
    """Write a LoRA file in one piece.

    Raises:
        DiskError: when the disk does not take it; an older file of that name stays whole.
    """
    from safetensors.torch import save_file

    with disk_errors_said(path), atomic_path(path) as part:
        save_file(state, part, metadata=dict(metadata))


def read_recipe_of(path: Path) -> Recipe:
    """Return the recipe a LoRA file of this pack was trained with.

    The file does not say where pictures and checkpoint lie. Where its run's folder is beside it,
    that one's recipe does.

    Raises:
        LoraFileError: when the file is not safetensors or carries no recipe.
        RecipeError: when the recipe is of a newer version.
    """
    text = read_metadata(path).get(RECIPE_KEY)
    if text is None:
        raise LoraFileError(f"{path.name} carries no recipe; it was not trained by this pack.")
    recipe = Recipe.from_json(text, f"The recipe in {path.name}")
    for folder in (path.with_suffix(""), path.parent):  # a snapshot lies in it
        with contextlib.suppress(RecipeError):
            whole = read_recipe(folder / "recipe.json")
            if whole.without_paths() == recipe:
                return whole
    return recipe


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file.

    Raises:
        LoraFileError: when the file is missing or not safetensors.
    """
    return TensorFile(path).metadata


def _named(lora: TrainedLora, base: BaseModel) -> Iterator[tuple[str, LoraLayer]]:
    """Yield every layer with kohya's name of its module."""
    unet: LoraLayers = lora.unet
    if base.family.is_xl:
        unet = rename(unet, to_ldm_modules(base.layout, unet))
    parts = [(_UNET_PREFIX, unet)]
    for number, layers in enumerate(lora.text_encoders, start=1):
        parts.append((f"lora_te{number if base.family.is_xl else ''}_", layers))
    for prefix, layers in parts:
        for module, layer in layers.items():
            yield prefix + module.replace(".", "_"), layer


def _factors(name: str, layer: LoraLayer, dtype: torch.dtype) -> LoraStateDict:
    alpha = torch.tensor(layer.alpha)
    rounded = alpha.to(dtype)
    state = {
        f"{name}.lora_down.weight": _saved(layer.down, dtype),
        f"{name}.lora_up.weight": _saved(layer.up, dtype),
        f"{name}.alpha": rounded if rounded.float() == alpha else alpha,
    }
    if layer.magnitude is not None and layer.weight is not None:
        scale = host_dora_scale(layer.magnitude, layer.weight, layer.change())
        state[f"{name}.dora_scale"] = _saved(scale, torch.float32)
    return state


def _saved(factor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    with torch.inference_mode(False):
        return factor.detach().to("cpu", dtype, copy=True).contiguous()
