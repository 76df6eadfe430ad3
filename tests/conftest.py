"""For every test: torchvision's CUDA wheel must not stop a CPU build of torch."""

import importlib.util
from pathlib import Path

import glitch_demo

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
