"""Inputs of a workflow set by name: what ``--set`` of ``queue`` and ``sweep`` means.

``NAME=VALUE`` sets an input wherever the workflow has it. A setting of a recipe (``steps``,
``width``, ``seed`` …) is the exception: it is meant for the Glitch Dataset Loader and the Glitch
LoRA Trainer, whether it is a widget of theirs or of a setting node, and a sampler's ``steps`` or a
graph's ``width`` stay. ``WHERE.NAME=VALUE`` sets it in
the nodes of that title, class or id, and ``*.NAME=VALUE`` in every node without exception.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..dataset.handling import DatasetHandling
from ..dataset.recipe import DatasetRecipe
from ..grid.plan import GridRecipe
from ..recipe.assignments import read_value
from ..recipe.partial import LEFT_TO_THE_LOADER, NO_PRESET
from ..recipe.train import TrainRecipe
from ..settings import Setting, check_setting, declared, nearest
from .errors import node_name
from .graph import Graph, GraphError, is_link, natural_order, title
from .node_info import InputInfo, described_inputs
from .our_nodes import (
    DATASET_LOADER,
    GRID,
    IMAGE_DATASET,
    PRESET,
    RECIPE,
    RECIPE_SOCKET,
    SETTINGS,
    TRAINER,
)
from .relink import relink

OWNERS: dict[str, tuple[type, ...]] = {
    DATASET_LOADER.node_id: (DatasetRecipe, DatasetHandling),
    IMAGE_DATASET.node_id: (DatasetRecipe, DatasetHandling),
    TRAINER.node_id: (TrainRecipe,),
}
"""Node class to the parts of a recipe that it reads: from its widgets, or from setting nodes."""

ALIASES = {"ckpt": "ckpt_name", "checkpoint": "ckpt_name"}
EVERY_NODE = "*"
RECIPE_TITLE = "What was set beside the recipe"

_KINDS = {"INT": int, "FLOAT": float, "BOOLEAN": bool, "STRING": str}  # the host's words


def with_overrides(
    graph: Mapping[str, Mapping[str, Any]],
    assignments: Iterable[str],
    object_info: Mapping[str, Any] | None = None,
) -> Graph:
    """Return a workflow with some inputs set.

    A setting that a recipe could name wins over connected recipes too: a Glitch Recipe node with it
    is put between the recipe and the loader or trainer. So it is where they have no widget for it,
    with or without a recipe. Later assignments win over earlier ones.
    A chosen file is spelt as the host does, whichever system the workflow was made on.

    Args:
        graph: The workflow in API format; it is not changed.
        assignments: ``NAME=VALUE`` or ``WHERE.NAME=VALUE`` each, see the module. ``ckpt`` stands
            for ``ckpt_name``.
        object_info: The host's description of its nodes: types of inputs, and inputs that the
            workflow leaves out. Without it a value is of the type that is there.

    Raises:
        GraphError: Nothing of that name can be set (the nearest names are offered).
        RecipeError: A value does not fit.
    """
    changed: Graph = copy.deepcopy({node: dict(entry) for node, entry in graph.items()})
    relink(changed, object_info or {})
    over_recipes: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise GraphError(f"--set takes NAME=VALUE, got {assignment!r}.")
        where, name = _split(changed, name.strip(), object_info or {})
        nodes = _find(changed, where, name, object_info or {})
        for node in nodes:
            value = _typed(changed[node], name, text, object_info or {})
            if _is_widget(changed[node], name):
                changed[node]["inputs"][name] = value
            if _owns(changed[node], name) and name != LEFT_TO_THE_LOADER:
                # Loader and trainer hear of it both: a trainer says where its recipe and the
                # dataset's disagree.
                for reader in [node] if where else _of_classes(changed, OWNERS):
                    over_recipes.setdefault(reader, {})[name] = value
    _lay_over_recipes(changed, over_recipes)
    _spell_as_the_host(changed, object_info or {})
    return changed


def _spell_as_the_host(graph: Graph, info: Mapping[str, Any]) -> None:
    """Write chosen files as the host lists them: with its own system's separator."""
    for entry in graph.values():
        for name, described in described_inputs(info, entry["class_type"]).items():
            value = entry["inputs"].get(name)
            if isinstance(value, str) and value not in described.options:
                spellings = (value.replace("\\", "/"), value.replace("/", "\\"))
                known = [spelling for spelling in spellings if spelling in described.options]
                entry["inputs"][name] = known[0] if known else value


def _split(graph: Graph, wanted: str, info: Mapping[str, Any]) -> tuple[str, str]:
    """Return where an assignment goes, empty for everywhere, and the name of the input."""
    known = {name for entry in graph.values() for name in _inputs(entry, info)}
    where, dot, name = wanted.rpartition(".")
    if not dot or wanted in known:  # an input's own name may have a dot
        where, name = "", wanted
    return where, name if name in known else ALIASES.get(name, name)


def _find(graph: Graph, where: str, name: str, info: Mapping[str, Any]) -> list[str]:
    """Return the nodes whose input is to be set."""
    among = _nodes_called(graph, where) if where else list(graph)
    having = [node for node in among if name in _inputs(graph[node], info)]
    if not having:
        known = {name for node in among for name in _inputs(graph[node], info)}
        place = f"in {where}" if where else "in the workflow"
        raise GraphError(f"There is no input {name!r} {place}{nearest(name, known)}")
    if not where:
        having = [node for node in having if _owns(graph[node], name)] or having
    free = [node for node in having if not is_link(graph[node]["inputs"].get(name))]
    if not free:
        source = node_name(graph, graph[having[0]]["inputs"][name][0])
        raise GraphError(
            f"The input {name!r} of {node_name(graph, having[0])} is connected: set it in {source}."
        )
    return sorted(free, key=natural_order)


def _nodes_called(graph: Graph, where: str) -> list[str]:
    """Return the nodes of an id, a class or a title, whichever there is first."""
    if where == EVERY_NODE:
        return list(graph)
    if where in graph:
        return [where]
    found = _of_classes(graph, (where,)) or [n for n in graph if title(graph, n) == where]
    if found:
        return found
    known = {words for node in graph for words in (graph[node]["class_type"], title(graph, node))}
    raise GraphError(
        f"No node of the workflow has the title, class or id {where!r}{nearest(where, known)}"
    )


def _of_classes(graph: Graph, classes: Collection[str]) -> list[str]:
    return [node for node, entry in graph.items() if entry["class_type"] in classes]


def _declared(entry: Mapping[str, Any]) -> dict[str, tuple[type, Setting]]:
    """Return the settings of a recipe that a node reads, with who declares them."""
    kind = entry["class_type"]
    return {
        name: (part, setting)
        for part in OWNERS.get(kind, ())
        for name, (_, setting) in declared(part).items()
        if name != LEFT_TO_THE_LOADER or kind == DATASET_LOADER.node_id
    }


def _owns(entry: Mapping[str, Any], name: str) -> bool:
    return name in _declared(entry)


def _is_widget(entry: Mapping[str, Any], name: str) -> bool:
    """Say whether a value can be put into a node: a graph of an older pack may have it there."""
    return name in entry["inputs"] or not (_owns(entry, name) and _declared(entry)[name][1].group)


def _inputs(entry: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, InputInfo | None]:
    """Return what each input of a node is described as, by name; None where nothing is known."""
    described = {
        name: found
        for name, found in described_inputs(info, entry["class_type"]).items()
        if found.kind in (*_KINDS, "COMBO")
    }
    # A grid takes what Glitch Grid Settings would say, too.
    besides = declared(GridRecipe) if entry["class_type"] == GRID.node_id else ()
    declared_here = dict.fromkeys((*_declared(entry), *besides))
    return {**dict.fromkeys(entry["inputs"]), **declared_here, **described}


def _typed(entry: Mapping[str, Any], name: str, text: str, info: Mapping[str, Any]) -> Any:
    """Return a value of the type that the input has."""
    declares = _declared(entry).get(name, (None,))[0]
    if declares is None and entry["class_type"] == GRID.node_id and name in declared(GridRecipe):
        declares = GridRecipe
    if declares is not None:
        value = read_value(name, text, type(declared(declares)[name][0].default))
        if name != LEFT_TO_THE_LOADER:
            check_setting(declares, name, value)
        return value
    described = _inputs(entry, info)[name]
    if described and described.kind == "COMBO":
        return next((option for option in described.options if str(option) == text), text)
    if described:
        return read_value(name, text, _KINDS[described.kind])
    current = entry["inputs"].get(name)
    if isinstance(current, int) and not isinstance(current, bool):
        # JSON does not tell 1 from 1.0, so a whole number here may stand for a fraction.
        return read_value(name, text, int if text.lstrip("+-").isdigit() else float)
    return read_value(name, text, type(current) if isinstance(current, (bool, float)) else str)


def _lay_over_recipes(graph: Graph, over_recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a recipe with the settings between each loader or trainer and the recipe it is given."""
    added: dict[str, str] = {}
    for node, settings in over_recipes.items():
        link = graph[node]["inputs"].get(RECIPE_SOCKET)
        before = {RECIPE_SOCKET: link} if is_link(link) else {}
        if not before:
            settings = {
                name: value
                for name, value in settings.items()
                if _owns(graph[node], name) and not _is_widget(graph[node], name)
            }
            if not settings:
                continue
        lines = "\n".join(f"{name} = {_as_toml(value)}" for name, value in settings.items())
        key = json.dumps([before, lines])
        if key not in added:
            added[key] = str(1 + max((int(n) for n in graph if n.isdigit()), default=0))
            graph[added[key]] = {
                "class_type": RECIPE.node_id,
                "inputs": {PRESET: NO_PRESET, SETTINGS: lines, **before},
                "_meta": {"title": RECIPE_TITLE},
            }
        graph[node]["inputs"][RECIPE_SOCKET] = [added[key], RECIPE.output("recipe")]


def _as_toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
