"""What loading the pack costs the start of a ComfyUI, in modules rather than in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from glitch_demo.host import host_environment, host_tree

pytestmark = pytest.mark.host

REPO = Path(__file__).parents[2]
_PROBE = """
import asyncio, importlib.util, json, sys
tree, repo = sys.argv[1:3]
sys.argv = sys.argv[:1]
sys.path.insert(0, tree)
import comfy.cli_args
comfy.cli_args.args.cpu = True
import utils.install_util  # before the host puts its own utils.py in front, as its main.py does
import nodes, server
import comfy_api.latest
before = set(sys.modules)
spec = importlib.util.spec_from_file_location(
    "the_pack", repo + "/__init__.py", submodule_search_locations=[repo]
)
pack = sys.modules["the_pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
at_import = set(sys.modules) - before - {"the_pack"}

async def load():
    extension = await pack.comfy_entrypoint()
    return [node.GET_SCHEMA().node_id for node in await extension.get_node_list()]

ids = asyncio.run(load())
known = {name.split(".")[0] for name in before} | {"the_pack"} | set(sys.stdlib_module_names)
foreign = sorted({name.split(".")[0] for name in sys.modules} - known)
print(json.dumps({"at_import": sorted(at_import), "foreign": foreign, "ids": ids}))
"""


@pytest.fixture(scope="module")
def loaded_modules() -> dict[str, list[str]]:
    """Load the pack as the host does, in a process that has the host's modules already."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(host_tree()), str(REPO)],
        capture_output=True,
        text=True,
        cwd=host_tree(),
        env=host_environment(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_pack_imports_nothing(loaded_modules: dict[str, list[str]]) -> None:
    """Catches an eager import in the pack's root, which every ComfyUI start would pay for."""
    assert loaded_modules["at_import"] == []


def test_listing_the_nodes_imports_no_package(loaded_modules: dict[str, list[str]]) -> None:
    """Catches a node module that imports diffusers, matplotlib and the like before it runs."""
    assert "GlitchLoraTrainer" in loaded_modules["ids"]
    assert loaded_modules["foreign"] == []
