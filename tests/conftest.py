"""For every test: what torch needs on a CPU, freed memory, which tests stay in one process."""

import contextlib
import ctypes
import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import glitch_demo
from glitch_demo.host_process import give_back_after_collection

_SHIM = Path(glitch_demo.__file__).parent / "torchvision_shim" / "sitecustomize.py"


def _declare_torchvision_operators() -> None:
    import torch

    if torch.version.cuda is None:
        spec = importlib.util.spec_from_file_location("glitch_torchvision_shim", _SHIM)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_declare_torchvision_operators()


def _give_freed_weights_back() -> None:
    """Have glibc return a freed weight to the system, here and in processes started here.

    Left alone, it keeps freed blocks of up to 32 MB for itself: gigabytes after a text encoder.
    Large ones go back at once, small ones after each search for garbage.
    """
    smallest = 4 << 20
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(smallest))
    with contextlib.suppress(OSError, TypeError, AttributeError):  # no glibc
        ctypes.CDLL(None).mallopt(-3, smallest)  # M_MMAP_THRESHOLD
    give_back_after_collection()


_give_freed_weights_back()


def _same_examples_each_time() -> None:
    """Draw the same inputs in every run; ``--hypothesis-profile=default`` draws new ones."""
    from hypothesis import settings

    settings.register_profile("suite", deadline=None, derandomize=True)
    settings.load_profile("suite")


_same_examples_each_time()


def pytest_collection_finish() -> None:
    """Let no later search for garbage go through what was imported: trainings make one each."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option that applies Windows' rules; see helpers/windows_rules.py."""
    parser.addoption(
        "--windows-rules",
        choices=("on", "off"),
        default="on" if sys.platform == "linux" else "off",  # Linux' own /proc says what is held
        help="apply Windows' rules to the tests of the library, the nodes and the host",
    )


@pytest.fixture(autouse=True)
def _windows_rules(request: pytest.FixtureRequest) -> Iterator[None]:
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    if (
        request.config.getoption("--windows-rules") == "off"
        or folder not in ("library", "nodes", "host")
        or request.node.get_closest_marker("not_on_windows")
    ):
        yield
        return
    from windows_rules import windows_rules

    with windows_rules():
        yield


_FIRST = ("host", "browser", "nodes")
"""Folders whose tests begin first, as they take longest. The nodes' come after the browser's: their
process keeps gigabytes of its own ComfyUI, which would lie beside the browser."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first, so that no process is left alone with it at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> tuple[int, bool]:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in _FIRST:
            return _FIRST.index(folder), False
        return len(_FIRST), item.path not in slow

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Keep a folder's tests in one process, for they share a ComfyUI; elsewhere a file's."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            folder = Path(file).relative_to("tests").parts[0]
            return file if folder in ("library", "tools") else folder

    config.option.loadscopereorder = False  # by the number of their tests, which says little
    return ByFolder(config, log)
