"""For every test: what a CPU build of torch needs, and which tests stay in one process."""

import importlib.util
from pathlib import Path

import pytest

import glitch_demo

TESTS = Path(__file__).parent

_SHIM = Path(glitch_demo.__file__).parent / "torchvision_shim" / "sitecustomize.py"


def _declare_torchvision_operators() -> None:
    import torch

    if torch.version.cuda is None:
        spec = importlib.util.spec_from_file_location("glitch_torchvision_shim", _SHIM)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_declare_torchvision_operators()


def _let_slow_machines_pass() -> None:
    from hypothesis import settings

    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


_let_slow_machines_pass()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a folder's tests in one process, for they share a ComfyUI; of the library, a file's."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        group = item.path.stem if folder == "library" else folder
        item.add_marker(pytest.mark.xdist_group(group))
