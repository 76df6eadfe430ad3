"""What a workflow showed, brought from the host into a folder."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..file_names import check_path_lengths, name_fault
from ..files import atomic_path, disk_errors_said, write_text
from .client import ComfyClient
from .errors import RequestRefused
from .graph import Graph, is_link, natural_order, title
from .our_nodes import LOSS_GRAPH, MORE_LOSSES, OUR_NODES, SAVE_SVG, TRAINER

GRAPH_FILE = "workflow_api.json"
PREVIEWS = "previews"  # what the host itself throws away when it ends
TEXT = ".txt"  # of a text that a node shows
_BESIDE = {node.node_id: node.files[1:] for node in OUR_NODES}
"""What a node of ours writes beside the picture that it tells of."""


@dataclasses.dataclass
class Fetched:
    """The files of one run.

    Attributes:
        files: node id to its files, pictures before texts.
        loras: where the host saved LoRAs, as it says it; on the host's own disk.
        missing: files that the host told of and does not have any more.
    """

    files: dict[str, list[Path]] = dataclasses.field(default_factory=dict)
    loras: list[str] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)

    def all(self) -> list[Path]:
        """Return every file."""
        return [path for paths in self.files.values() for path in paths]


def check_room_for_names(*folders: Path) -> None:
    """Refuse folders below which files that are fetched would have too long a path.

    Raises:
        DiskError: names the path.
    """
    check_path_lengths(*(folder / PREVIEWS / GRAPH_FILE for folder in folders))


def save_graph(graph: Mapping[str, Any], folder: Path) -> Path:
    """Write a workflow as it is queued.

    Raises:
        DiskError: when the disk does not take it.
    """
    path = folder / GRAPH_FILE
    with disk_errors_said(path):
        write_text(path, json.dumps(graph, indent=1, ensure_ascii=False) + "\n")
    return path


def fetch_outputs(
    client: ComfyClient, graph: Graph, outputs: Mapping[str, Mapping[str, Any]], folder: Path
) -> Fetched:
    """Bring pictures, other files and texts from the host.

    Pictures keep the host's names; those of previews go into a folder of their own. A text goes
    into a file named after its node.

    Args:
        client: of the host.
        graph: the workflow that ran.
        outputs: node id to what the node showed.
        folder: where the files go; created.

    Raises:
        ServerUnreachable: the host went away.
        DiskError: the disk does not take a file.
    """
    fetched = Fetched()
    for node in sorted(outputs, key=natural_order):
        shown = outputs[node]
        found = fetched.files.setdefault(node, [])
        for file in _files(graph, node, shown):
            called = re.split(r"[\\/]", file["filename"])[-1]
            if name_fault(called):  # the host's system may take what ours does not
                called = f"{_plain(node)}_{_plain(called)}"
            target = folder / (PREVIEWS if file["type"] != "output" else "") / called
            if _spelling(target) in map(_spelling, fetched.all()):  # of nodes in different folders
                target = target.with_name(f"{_plain(node)}_{target.name}")
            try:
                content = client.download(**file)
            except RequestRefused:
                fetched.missing.append(file["filename"])
                continue
            with disk_errors_said(target), atomic_path(target) as part:
                part.write_bytes(content)
            found.append(target)
        texts = _texts(shown)
        if texts:
            target = folder / f"{_plain(node)}_{_plain(title(graph, node))}{TEXT}"
            with disk_errors_said(target):
                write_text(target, "\n".join(texts) + "\n")
            found.append(target)
        if texts and graph.get(node, {}).get("class_type") == TRAINER.node_id:
            fetched.loras.append(texts[0])
    return fetched


def _files(graph: Graph, node: str, shown: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield every file that a node tells of, and what it wrote beside it."""
    entry = graph.get(node, {})
    for told in shown.values():
        for file in told if isinstance(told, (list, tuple)) else ():
            if not isinstance(file, Mapping) or "filename" not in file:
                continue
            name = Path(str(file["filename"])).name
            where = {
                "subfolder": str(file.get("subfolder", "")),
                "type": str(file.get("type", "output")),
            }
            yield {"filename": name, **where}
            for ending in _beside(entry):
                yield {"filename": f"{Path(name).stem}{ending}", **where}


def _beside(entry: Mapping[str, Any]) -> list[str]:
    endings = list(_BESIDE.get(entry.get("class_type", ""), ()))
    if entry.get("class_type") == LOSS_GRAPH.node_id:
        others = [name for name, value in entry["inputs"].items()
                  if name.startswith(MORE_LOSSES) and is_link(value)]  # fmt: skip
        endings += [f"_{number}.csv" for number in range(1, len(others) + 1)]
        endings += [".svg"] if entry["inputs"].get(SAVE_SVG) is True else []
    return endings


def _texts(shown: Mapping[str, Any]) -> list[str]:
    texts = shown.get("text")
    return [text for text in texts if isinstance(text, str)] if texts else []


def _spelling(path: Path) -> str:
    """Return what names have in common that are one on Windows and macOS."""
    return str(path).casefold()


def _plain(name: str) -> str:
    """Return a name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.")[:60] or "node"
