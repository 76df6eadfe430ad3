"""The runs of a sweep: every experiment's workflow with every training seed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..comfyui.fetch import check_room_for_names
from ..comfyui.graph import Graph, GraphError, load_graph, nodes_of
from ..comfyui.our_nodes import FILENAME_PREFIX, GRID, LOSS_GRAPH, OUTPUT_NAME, TRAINER
from ..comfyui.overrides import with_overrides
from ..errors import RecipeError
from ..recipe.experiments import EXPERIMENTS, experiment, in_order, slug_of
from ..settings import nearest
from .doses import Dose, each_run, read_doses, run_folder, run_name

_WATCHED = {
    "base": (GRID, "base", "SaveImage", "images"),
    "glitched": (GRID, "glitched", "SaveImage", "images"),
    "grid_settings": (GRID, "settings_json", "PreviewAny", "source"),
    "verdict": (LOSS_GRAPH, "verdict_json", "PreviewAny", "source"),
}
"""Role to (node, output, node that shows it, its input): results that nodes keep to themselves."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        slug: the experiment's name, as that of its workflow.
        seed: of the training.
        graph: the workflow to queue.
        folder: where the results go.
        key: what identifies the workflow with its settings.
        roles: what is fetched for the matrix → the node that shows it.
        dose: the strength that it is run with, where it tells a dose's response.
    """

    slug: str
    seed: int
    graph: Graph
    folder: Path
    key: str
    roles: Mapping[str, str]
    dose: Dose | None = None

    @property
    def name(self) -> str:
        """How the run is called."""
        return run_name(self.slug, self.dose, self.seed)


def find_workflows(folder: Path, names: Sequence[str] = ()) -> dict[str, Path]:
    """Return the workflows of experiments, by slug.

    Args:
        folder: of API twins, such as workflows/api.
        names: which ones; by default those of the log's experiments and techniques.

    Raises:
        GraphError: one is not there.
    """
    there = {path.stem: path for path in sorted(folder.glob("*.json"))}
    called = [name if name in there else slug_of(name) for name in names]
    for name in called:
        if name not in there:
            raise GraphError(f"{folder} has no workflow {name}.json{nearest(name, there)}")
    wanted = set(called) or set(there) & set(EXPERIMENTS)
    if not wanted:
        raise GraphError(
            f"{folder} has no workflow of an experiment: name the folder with --workflows."
        )
    return {slug: there[slug] for slug in in_order(wanted)}


def plan_sweep(
    workflows: Mapping[str, Path],
    seeds: Iterable[int],
    out: Path,
    assignments: Sequence[str] = (),
    object_info: Mapping[str, Any] | None = None,
    doses: Sequence[str] = (),
) -> list[Job]:
    """Return every run: the first seed of all experiments and doses, then the second.

    Args:
        workflows: slug to API twin.
        seeds: of the training; sampling seeds stay, so that all runs draw the same pictures.
        out: the sweep's folder.
        assignments: as ``--set`` takes them; ``SLUG.NAME=VALUE`` is for one experiment and wins.
        object_info: the host's description of its nodes.
        doses: as ``--dose`` takes them.

    Raises:
        GraphError: a workflow is no experiment, or has nothing of a name that is to be set.
        RecipeError: a value or a dose does not fit.
        DiskError: the paths of what it makes would be too long.
    """
    jobs = []
    graphs = {slug: load_graph(path) for slug, path in workflows.items()}
    for slug, graph in graphs.items():
        for needed in (TRAINER, GRID, LOSS_GRAPH):
            if not nodes_of(graph, needed.node_id):
                raise GraphError(f"{workflows[slug]} is no experiment: it has no {needed.node_id}.")
    given = placed_doses(doses, graphs, assignments)
    for slug, dose, seed in each_run(list(graphs), given, seeds):
        own = [*settings_of(slug, assignments, dose), f"seed={seed}"]
        which = f"{dose.tag}_seed{seed}" if dose else f"seed{seed}"
        set_up = _set_up(graphs[slug], slug, which, own, object_info)
        roles = _watch(set_up, f"{slug}_{which}", object_info or {})
        folder = run_folder(out, slug, dose, seed)
        jobs.append(Job(slug, seed, set_up, folder, graph_key(set_up), roles, dose))
    check_room_for_names(*(job.folder for job in jobs))
    return jobs


def settings_of(slug: str, assignments: Sequence[str], dose: Dose | None = None) -> list[str]:
    """Return the assignments for one experiment: those for all, then its own, then the dose."""
    general, own = [], []
    for assignment in assignments:
        where, dot, rest = assignment.partition(".")
        if dot and where == slug:
            own.append(rest)
        elif not dot or where not in EXPERIMENTS:
            general.append(assignment)
    return general + own + ([dose.assignment] if dose else [])


def placed_doses(
    texts: Iterable[str], slugs: Collection[str], assignments: Sequence[str]
) -> list[Dose]:
    """Return doses beside the strengths that their experiments and standard runs have anyway.

    Args:
        texts: as ``--dose`` takes them.
        slugs: the experiments of the sweep.
        assignments: as ``--set`` takes them.

    Raises:
        RecipeError: as :func:`.doses.read_doses`, or a setting is for an experiment that
            is not run.
    """
    for assignment in assignments:
        where, dot, _ = assignment.partition(".")
        if dot and where in EXPERIMENTS and where not in slugs:
            raise RecipeError(
                f"--set {assignment}: this sweep does not run {where!r}; name it too, or leave "
                "the setting out."
            )
    return [
        dataclasses.replace(
            dose,
            own=_strength(dose.slug, dose.setting, assignments),
            standard=_strength(experiment(dose.slug).against, dose.setting, assignments),
        )
        for dose in read_doses(texts, slugs)
    ]


def _strength(slug: str, setting: str, assignments: Sequence[str]) -> str:
    """Return the value that an experiment has for a setting, or empty where nobody names it."""
    named = [one.partition("=") for one in settings_of(slug, assignments)]
    values = [value for name, _, value in named if name == setting]
    known = experiment(slug).settings.get(setting, "")
    return values[-1] if values else str(known)


def graph_key(graph: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what identifies a workflow by what it does; titles do not matter."""
    does = {node: {k: v for k, v in entry.items() if k != "_meta"} for node, entry in graph.items()}
    return hashlib.sha256(json.dumps(does, sort_keys=True).encode()).hexdigest()[:32]


def _set_up(
    graph: Graph, slug: str, which: str, own: Sequence[str], info: Mapping[str, Any] | None
) -> Graph:
    """Return the workflow with its settings, and names of files that tell the runs apart."""
    inputs = {node: entry["inputs"] for node, entry in with_overrides(graph, own, info).items()}
    trainers = nodes_of(graph, TRAINER.node_id)
    names = {node: inputs[node].get(OUTPUT_NAME, slug) for node in trainers}
    renamed = [f"{node}.{OUTPUT_NAME}={name}_{which}" for node, name in names.items()]
    graph = with_overrides(graph, [*own, *renamed], info)
    for entry in graph.values():
        prefix = entry["inputs"].get(FILENAME_PREFIX)
        if isinstance(prefix, str):
            entry["inputs"][FILENAME_PREFIX] = f"{prefix}_{which}"
    return graph


def _watch(graph: Graph, run: str, info: Mapping[str, Any]) -> dict[str, str]:
    """Add nodes that show what the matrix needs; return role to node."""
    roles = {}
    for role, (source, output, shower, name) in _WATCHED.items():
        if info and shower not in info:  # an older host: the matrix does without
            continue
        node = nodes_of(graph, source.node_id)[0]
        inputs: dict[str, Any] = {name: [node, source.output(output)]}
        if shower == "SaveImage":
            inputs[FILENAME_PREFIX] = f"glitch/{run}_{role}"
        roles[role] = str(1 + max((int(node) for node in graph if node.isdigit()), default=0))
        title = {"title": f"For the matrix: {role.replace('_', ' ')}"}
        graph[roles[role]] = {"class_type": shower, "inputs": inputs, "_meta": title}
    return roles
