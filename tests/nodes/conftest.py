"""The host's own modules in this process, and the pack loaded the way the host loads it."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from glitch_demo.host_tree import host_tree
from glitch_demo.pocket import pocket_sd15, pocket_sdxl

REPO = Path(__file__).parents[2]
FEWER_LAYERS = {"clip_l": 4, "clip_g": 11}
"""Of SDXL's 12 and 32 layers, most of its memory; the last one of bigG has two digits."""


@pytest.fixture(scope="session")
def host_modules() -> Iterator[None]:
    """Make the host's modules importable, on the CPU where there is no GPU."""
    tree = str(host_tree())
    before = Path.cwd()
    sys.path.insert(0, tree)
    os.chdir(tree)
    import comfy.cli_args

    comfy.cli_args.args.cpu = not torch.cuda.is_available()
    import nodes  # noqa: F401  the host's own

    yield
    os.chdir(before)
    sys.path.remove(tree)


@pytest.fixture(scope="session")
def pack(host_modules: None) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of the pack, loaded under the host's name for it."""
    name = str(REPO.parent / "custom_nodes" / REPO.name)  # the host uses the path as the name
    spec = importlib.util.spec_from_file_location(
        name, REPO / "__init__.py", submodule_search_locations=[str(REPO)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return lambda inner: importlib.import_module(f"{name}.{inner}")


def is_kept(name: str) -> bool:
    """Return whether a tensor of the pocket SDXL is among the layers that stay."""
    clip_l = re.search(r"\.embedders\.0\..*\.layers\.(\d+)\.", name)
    clip_g = re.search(r"\.embedders\.1\..*\.resblocks\.(\d+)\.", name)
    return not (
        (clip_l and int(clip_l[1]) >= FEWER_LAYERS["clip_l"])
        or (clip_g and int(clip_g[1]) >= FEWER_LAYERS["clip_g"])
    )


@pytest.fixture(scope="session")
def smaller_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The pocket SDXL with fewer layers in its text encoders."""
    path = tmp_path_factory.mktemp("checkpoints") / "smaller_sdxl.safetensors"
    with safe_open(pocket_sdxl(), "pt") as whole:
        kept = filter(is_kept, whole.keys())
        save_file({name: whole.get_tensor(name) for name in kept}, path)
    yield path
    path.unlink()  # a gigabyte


@pytest.fixture(scope="session", params=["sd15", "sdxl"])
def checkpoint(request: pytest.FixtureRequest) -> Path:
    """A seeded checkpoint of each family in turn."""
    return pocket_sd15() if request.param == "sd15" else request.getfixturevalue("smaller_sdxl")


@pytest.fixture(scope="session")
def loaded(checkpoint: Path, host_modules: None) -> Iterator[tuple]:
    """Return MODEL, CLIP and VAE of a checkpoint, as Load Checkpoint gives them."""
    import comfy.model_management
    import comfy.sd

    fewer: dict[str, Any] = {}
    if checkpoint.stem == "smaller_sdxl":
        fewer = {
            f"{name}_model_config": {"num_hidden_layers": n} for name, n in FEWER_LAYERS.items()
        }
    with torch.inference_mode():  # as the host's executor does
        made = comfy.sd.load_checkpoint_guess_config(str(checkpoint), te_model_options=fewer)[:3]
    yield made
    del made
    comfy.model_management.unload_all_models()


@pytest.fixture(scope="module", autouse=True)
def weights_let_go() -> Iterator[None]:
    """Free what a file's tests left in cycles: modules and the host's patchers."""
    yield
    gc.collect()
