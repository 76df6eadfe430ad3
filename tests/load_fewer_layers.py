"""For a host's custom_nodes: Load Checkpoint builds as many text encoder layers as the file has.

A host takes for granted that SDXL's encoders are whole; how deep they are is an option of its
loader, which no node hands on.
"""

import functools
import inspect
import re
from typing import Any

import comfy.sd
from safetensors import safe_open

_TOWERS = {
    "clip_l": re.compile(r"conditioner\.embedders\.0\.transformer\..*\.layers\.(\d+)\."),
    "clip_g": re.compile(r"conditioner\.embedders\.1\.model\..*\.resblocks\.(\d+)\."),
}
_load = comfy.sd.load_checkpoint_guess_config


@functools.wraps(_load)
def load_as_deep_as_it_is(ckpt_path: str, *more: Any, **options: Any) -> Any:
    """Load a checkpoint, SDXL's encoders with the layers that are in the file."""
    with safe_open(ckpt_path, "pt") as file:
        names = list(file.keys())
    depths = {}
    for tower, layer in _TOWERS.items():
        numbers = [int(found[1]) for name in names if (found := layer.match(name))]
        if numbers:
            depths[f"{tower}_model_config"] = {"num_hidden_layers": max(numbers) + 1}
    given = inspect.signature(_load).bind(ckpt_path, *more, **options)
    given.arguments["te_model_options"] = given.arguments.get("te_model_options", {}) | depths
    return _load(*given.args, **given.kwargs)


comfy.sd.load_checkpoint_guess_config = load_as_deep_as_it_is
NODE_CLASS_MAPPINGS: dict[str, type] = {}
