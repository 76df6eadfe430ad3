"""The host's own modules in this process, and the pack loaded the way the host loads it."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from glitch_demo.host_tree import host_tree
from glitch_demo.pocket import pocket_sd15

sys.path.insert(0, str(Path(__file__).parents[1]))  # for ``fewer_layers`` and its loader

from fewer_layers import smaller_sdxl  # noqa: E402

REPO = Path(__file__).parents[2]


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


@pytest.fixture(scope="package", params=["sd15", "sdxl"])
def checkpoint(request: pytest.FixtureRequest) -> Path:
    """A seeded checkpoint of each family in turn."""
    return {"sd15": pocket_sd15, "sdxl": smaller_sdxl}[request.param]()


@pytest.fixture(scope="package")
def loaded(checkpoint: Path, host_modules: None) -> Iterator[tuple]:
    """Return MODEL, CLIP and VAE of a checkpoint, as Load Checkpoint gives them."""
    import comfy.model_management
    import comfy.sd
    import load_fewer_layers  # noqa: F401  changes the host's loader

    with torch.inference_mode():  # as the host's executor does
        made = comfy.sd.load_checkpoint_guess_config(str(checkpoint))[:3]
    yield made
    del made
    comfy.model_management.unload_all_models()


@pytest.fixture(scope="module", autouse=True)
def weights_let_go() -> Iterator[None]:
    """Free what a file's tests left in cycles."""
    yield
    gc.collect()
