"""The pocket SDXL with fewer text encoder layers, for tests that need no full depth.

The 32 layers of its bigG alone are 1.3 GB on disk, twice that in a host that encodes, and most of
the time that small pictures take.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from glitch_demo.host import Host, link_or_copy

if TYPE_CHECKING:
    from torch import Tensor

SMALLER_SDXL = "smaller_sdxl.safetensors"
_KEPT = {"0.transformer": 4, "1.model": 11}
"""Layers of CLIP-L and of bigG; the last one of bigG has two digits, as in the whole."""
_LAYER = re.compile(r"conditioner\.embedders\.(0\.transformer|1\.model)\..*\.(\d+)\.")
_RECIPE = 1  # raise it when other layers are kept


def smaller_sdxl() -> Path:
    """Return the checkpoint, made from the pocket SDXL if the cache folder has none."""
    from glitch_demo.pocket import SDXL_RECIPE, cached_checkpoint  # imports torch

    return cached_checkpoint(Path(SMALLER_SDXL).stem, 100 * SDXL_RECIPE + _RECIPE, _build)


def place_smaller_sdxl(host: Host) -> None:
    """Put the checkpoint among a host's models, and make the host take it; before it starts."""
    link_or_copy(smaller_sdxl(), host.base_dir / "models" / "checkpoints" / SMALLER_SDXL)
    loader = Path(__file__).with_name("load_fewer_layers.py")
    link_or_copy(loader, host.base_dir / "custom_nodes" / loader.name)


def _build(on_progress: object) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    from glitch_demo.pocket import pocket_sdxl

    return {name: value for name, value in load_file(pocket_sdxl()).items() if _is_kept(name)}


def _is_kept(name: str) -> bool:
    layer = _LAYER.match(name)
    return layer is None or int(layer[2]) < _KEPT[layer[1]]
