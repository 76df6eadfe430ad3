"""`python -m workflow_maker`: writes workflows/*.json and their API twins from their description.

Needs Chromium: the twins are made by ComfyUI's own frontend.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glitch_demo.host import REPO_ROOT, Host
from glitch_demo.matrix import EXPERIMENTS
from glitch_train.comfyui.client import ComfyClient
from glitch_train.errors import GlitchTrainError

from .frontend import VIEWPORT, api_twin, chromium, chromium_path, open_frontend, screenshot
from .node_info import NodeInfo, WorkflowError, read_object_info
from .shipped import shipped
from .thumbnail import pairs_thumbnail, thumbnail
from .ui_file import CORE_ID, PACK_ID, ui_file

WORKFLOWS = REPO_ROOT / "workflows"
OWN_THUMBNAILS = frozenset({"demo", *EXPERIMENTS})
"""Workflows whose thumbnail shows what they make, by the demo and by the measured matrix."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write every workflow, or those named.

    Args:
        arguments: The command line without the program's name; `sys.argv` by default.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow_maker", description=__doc__)
    parser.add_argument("names", nargs="*", help="workflows to write (default: all)")
    parser.add_argument("--pictures", type=Path, help="folder for a screenshot of each")
    parser.add_argument("--vue-nodes", action="store_true", help="nodes as HTML on screenshots")
    parser.add_argument(
        "--matrix", type=Path, help="only thumbnails, from the pictures of this sweep's folder"
    )
    options = parser.parse_args(arguments)
    if options.matrix:
        return _thumbnails_from(options.matrix)
    path = chromium_path()
    if path is None:
        sys.stderr.write("There is no Chromium here, which makes the API twins: install it.\n")
        return 1
    try:
        with tempfile.TemporaryDirectory() as folder, Host(Path(folder)) as host:
            place_models(host)
            flows = described(host, options.names)
            with chromium(path) as browser:
                page = browser.new_page(viewport=VIEWPORT)
                open_frontend(page, host.url, vue_nodes=options.vue_nodes)
                for name, workflow in flows.items():
                    _write(WORKFLOWS / f"{name}.json", workflow)
                    _write(WORKFLOWS / "api" / f"{name}.json", api_twin(page, workflow))
                    _pictures(page, name, options.pictures)
                    sys.stdout.write(f"{name}\n")
    except (GlitchTrainError, WorkflowError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def described(host: Host, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the shipped workflows in the frontend's format, as the description has them.

    Args:
        host: A running host with the pack.
        names: Some of them; all by default.

    Raises:
        WorkflowError: An unknown name, node, input or output.
    """
    with ComfyClient(host.address) as client:
        info: dict[str, NodeInfo] = read_object_info(client.object_info())
        core = client.system_stats()["system"]["comfyui_version"]
    versions = {CORE_ID: core, PACK_ID: _pack_version()}
    flows = {flow.name: flow for flow in shipped()}
    if unknown := set(names) - set(flows):
        raise WorkflowError(f"There is no workflow {sorted(unknown)[0]!r}, only {list(flows)}.")
    return {name: ui_file(flows[name], info, versions) for name in names or flows}


def place_models(host: Host) -> None:
    """Put an empty file in the place of each model that a workflow names: none is missing then.

    Args:
        host: A host whose frontend is not open yet.
    """
    for flow in shipped():
        for node in flow.nodes:
            for model in node.models:
                (host.base_dir / "models" / model["directory"] / model["name"]).touch()


def _thumbnails_from(matrix: Path) -> int:
    for name in EXPERIMENTS:
        for run in sorted((matrix / name).glob("seed*"))[:1]:
            if pairs_thumbnail(run, name.replace("_", " "), WORKFLOWS / f"{name}.jpg"):
                sys.stdout.write(f"{name}\n")
    return 0


def _pictures(page: Any, name: str, folder: Path | None) -> None:
    """Make the thumbnail, unless the workflow has a better one, and the screenshot."""
    with tempfile.TemporaryDirectory() as scratch:
        picture = (folder or Path(scratch)) / f"{name}.png"
        screenshot(page, picture)
        if name not in OWN_THUMBNAILS:
            thumbnail(picture, name.replace("_", " "), WORKFLOWS / f"{name}.jpg")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _pack_version() -> str:
    text = (REPO_ROOT / "pyproject.toml").read_text("utf-8")
    found = re.search(r'^version = "([^"]+)"', text, re.MULTILINE)
    if not found:
        raise WorkflowError("pyproject.toml names no version.")
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
