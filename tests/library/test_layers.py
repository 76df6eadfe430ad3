"""The layering: the library stands without the host, and importing it costs nothing."""

import pkgutil
import subprocess
import sys

import pytest

import glitch_train

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(glitch_train.__path__, "glitch_train.")
    if not module.name.endswith("__main__")
)
HOST_MODULES = ("comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "server")


@pytest.mark.slow
def test_no_library_module_imports_the_host() -> None:
    """Catches a library module that reaches into ComfyUI: it would not run on its own."""
    imports = ";".join(f"import {name}" for name in MODULES)
    probe = f"{imports};import sys;print([m for m in {HOST_MODULES!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("heavy", ["diffusers", "peft", "transformers", "matplotlib"])
def test_no_library_module_imports_heavy_packages_at_once(heavy: str) -> None:
    """Catches an import at module level that would slow the start of every ComfyUI."""
    imports = ";".join(f"import {name}" for name in MODULES)
    probe = f"{imports};import sys;print({heavy!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_the_command_line_starts_without_torch() -> None:
    """Catches a verb that imports torch to print its help."""
    start = "import sys; from glitch_train.cli.command import build_parser; build_parser()"
    probe = f"{start}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
