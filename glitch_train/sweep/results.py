"""The folder of one run of a sweep: plain names, and a note that it is complete."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..comfyui.client import ComfyClient
from ..comfyui.fetch import TEXT, Fetched, fetch_outputs, save_graph
from ..comfyui.our_nodes import GRID, LOSS_GRAPH, REPORT
from ..errors import ReportError
from ..files import read_object, write_text
from .doses import Dose
from .plan import Job

DONE = "done.json"
MORE = "more"  # what the matrix does not need: previews, contact sheets, texts


class Planned(Protocol):
    """A run of any engine, whose results may be there already."""

    @property
    def name(self) -> str:
        """How the run is called."""

    @property
    def slug(self) -> str:
        """The experiment's name."""

    @property
    def seed(self) -> int:
        """Of the training."""

    @property
    def key(self) -> str:
        """What identifies what is done."""

    @property
    def dose(self) -> Dose | None:
        """The strength that it is run with, if it is one."""

    @property
    def folder(self) -> Path:
        """Where the results go."""


_PLAIN = {
    (LOSS_GRAPH.node_id, ".png"): "loss.png",
    (LOSS_GRAPH.node_id, ".csv"): "losses.csv",
    (LOSS_GRAPH.node_id, TEXT): "verdict.md",
    (GRID.node_id, ".png"): "grid.png",
    (REPORT.node_id, ".png"): "radar.png",
    (REPORT.node_id, ".md"): "report.md",
    (REPORT.node_id, ".json"): "report.json",
    (REPORT.node_id, ".csv"): "report.csv",
}
_TEXTS = {"verdict": "verdict.json", "grid_settings": "grid.json"}
_NOTED = {"experiment": str, "seed": int, "key": str, "files": list}
NEEDED = ("losses.csv", "report.json", "grid.png")
"""Without these a run is not complete."""


def read_done(folder: Path) -> dict[str, Any] | None:
    """Return the note of a complete run, or None; a file of it that is gone makes it incomplete.

    Raises:
        DiskError: when the note cannot be read; a run without one would be done again.
    """
    done = read_object(folder / DONE)
    told = all(isinstance(done.get(name), kind) for name, kind in _NOTED.items())
    return done if told and all((folder / str(name)).is_file() for name in done["files"]) else None


def collect(
    client: ComfyClient, job: Job, outputs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Fetch what a run made into its folder, which is there whole or not at all.

    Args:
        client: of the host.
        job: the run.
        outputs: node id to what the node showed.

    Returns:
        The note, as it is in the folder.

    Raises:
        ReportError: something that the matrix needs was not made.
    """
    part = job.folder.with_name(f".{job.folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    fetched = fetch_outputs(client, job.graph, outputs, part / MORE)
    save_graph(job.graph, part)
    _rename(job, fetched, part)
    missing = [name for name in NEEDED if not (part / name).is_file()]
    if missing:
        raise ReportError(f"{job.name} ended without {', '.join(missing)}: see the host's log.")
    done = {
        **about_run(job),
        "loras": fetched.loras,
        "files": sorted(p.relative_to(part).as_posix() for p in part.rglob("*") if p.is_file()),
    }
    finish(part, job.folder, done)
    return done


def about_run(job: Planned) -> dict[str, Any]:
    """Return what the note of a complete run says it is."""
    about: dict[str, Any] = {"experiment": job.slug, "seed": job.seed, "key": job.key}
    return {**about, "dose": dataclasses.asdict(job.dose)} if job.dose else about


def finish(part: Path, folder: Path, done: Mapping[str, Any]) -> None:
    """Write the note and put a complete folder into its place, over an older one."""
    write_text(part / DONE, json.dumps(done, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _rename(job: Job, fetched: Fetched, part: Path) -> None:
    """Give the files that the matrix needs plain names; the first of a kind gets it."""
    by_node = {node: role for role, node in job.roles.items()}
    for node, paths in fetched.files.items():
        role = by_node.get(node)
        for number, path in enumerate(paths, 1):
            if role in _TEXTS:
                name = _TEXTS[role]
            elif role:
                name = f"{role}/{number:02}{path.suffix}"
            else:
                name = _PLAIN.get((job.graph[node]["class_type"], path.suffix), "")
            if name and not (part / name).exists():
                (part / name).parent.mkdir(exist_ok=True)
                path.rename(part / name)
