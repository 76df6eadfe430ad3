"""The base models of a transfer: published networks, or checkpoints with their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from ..errors import CheckpointError, LoraFileError
from ..model.families import SD2, SD15, SDXL, SSD1B, VEGA
from ..model.network import UNET, Module, Network, read_network, reference_network
from ..model.quantised import whole_weights
from ..model.tensor_file import TensorFile
from ..model.weight_places import IN_CHECKPOINTS, WeightPlaces, find_towers
from .loudness import NormOf

FAMILIES = {"sd15": SD15, "sd21": SD2, "sdxl": SDXL, "ssd1b": SSD1B, "vega": VEGA}
"""Short name, as on the command line, to family."""


@dataclasses.dataclass(frozen=True)
class Base:
    """A network, and the norms of its weights where they are at hand.

    Attributes:
        network: its modules.
        measured: ‖W‖ of a module, or None when no weights are at hand.
        weight: W of a module, (out, in, …), or None when no weights are at hand.
    """

    network: Network
    measured: NormOf | None = None
    weight: Callable[[Module], torch.Tensor] | None = None


def find_base(name: str) -> Base:
    """Return the base model of a short family name or of a checkpoint's path.

    Args:
        name: a key of :data:`FAMILIES`, or a .safetensors checkpoint.

    Raises:
        CheckpointError: when it is neither.
    """
    if name in FAMILIES:
        return Base(reference_network(FAMILIES[name]))
    if not Path(name).is_file():
        raise CheckpointError(
            f"There is no checkpoint {name}; give one of {', '.join(FAMILIES)} or the path of a "
            ".safetensors checkpoint."
        )
    return read_base(Path(name))


def read_base(path: Path) -> Base:
    """Read a checkpoint's layout; weights are read one by one when they are measured.

    Args:
        path: a checkpoint, or the UNet of one, in the original format, as safetensors.

    Raises:
        CheckpointError: for a file that is no Stable Diffusion checkpoint in this format.
    """
    try:
        file = TensorFile(path)
    except LoraFileError as error:
        raise CheckpointError(str(error)) from error
    return base_of_weights(file.shapes, whole_weights(file), IN_CHECKPOINTS)


def base_of_weights(
    shapes: Mapping[str, Sequence[int]],
    weights: Mapping[str, torch.Tensor],
    places: WeightPlaces,
    called: str = "",
) -> Base:
    """Return the network of a model; weights are looked up when they are measured.

    Args:
        shapes: the names of the model's parameters to their shapes.
        weights: the same names to the parameters.
        places: where its parts lie; a UNet by itself may do without its prefix.
        called: what the loader calls the model, for the error of an unknown family.

    Raises:
        CheckpointError: for a model outside the Stable Diffusion families.
    """
    prefix = places.unet if any(name.startswith(places.unet) for name in shapes) else ""
    unet = {name[len(prefix) :]: s for name, s in shapes.items() if name.startswith(prefix)}
    towers = find_towers(shapes, places)
    network = read_network(unet, [tower for tower, _ in towers], called)
    place_of = {tower.part: place for tower, place in towers}

    def weight(module: Module) -> torch.Tensor:
        part = module.role.part
        if part == UNET:
            return weights[f"{prefix}{module.ldm}.weight"]
        return place_of[part].weight(weights, module)

    def measured(module: Module) -> float:
        return float(torch.linalg.vector_norm(weight(module).float()))  # torch has no norm of fp8

    return Base(network, measured, weight)
