"""Reads and changes a workflow in API format: inputs by node class, what feeds a node."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import GlitchTrainError
from ..files import read_text
from ..plain_json import parse_json

Graph = dict[str, dict[str, Any]]


class GraphError(GlitchTrainError):
    """A workflow lacks the node or input that was asked for."""


def load_graph(path: Path) -> Graph:
    """Read a workflow in API format.

    Args:
        path: The JSON file.

    Raises:
        GraphError: There is no such file, or it is something else, such as a workflow in the
            editor's format.
    """
    if not path.is_file():
        raise GraphError(f"The workflow {path} is missing: give the path of a .json file.")
    try:
        graph = parse_json(read_text(path), once=True)
    except (OSError, ValueError) as error:
        raise GraphError(f"The workflow {path} is not readable JSON: {error}.") from error
    if isinstance(graph, dict) and "nodes" in graph:
        raise GraphError(f"{path} must be in API format (File, Export (API)), got the editor's.")
    nodes = graph.values() if isinstance(graph, dict) and graph else [None]
    if not all(isinstance(node, dict) and {"class_type", "inputs"} <= set(node) for node in nodes):
        raise GraphError(
            f"{path} must be a workflow in API format, nodes with class_type and inputs by id, and "
            "is other JSON."
        )
    return graph


def nodes_of(graph: Mapping[str, Mapping[str, Any]], class_type: str) -> list[str]:
    """Return the ids of all nodes of a class, in the order of their numbers.

    Args:
        graph: The workflow.
        class_type: The node class.
    """
    found = [node for node, entry in graph.items() if entry["class_type"] == class_type]
    return sorted(found, key=natural_order)


def natural_order(node: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a sort key that puts node 9 before node 10, and "9:2" after "9:1".

    Args:
        node: A node id.
    """
    return tuple((not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in node.split(":"))


def set_input(graph: Graph, class_type: str, name: str, value: Any) -> Graph:
    """Return the workflow with one input set in every node of a class.

    Args:
        graph: The workflow; it is not changed.
        class_type: The node class.
        name: The input, which must be there already.
        value: A widget's value.

    Raises:
        GraphError: There is no such node, or it has no such input.
    """
    changed = copy.deepcopy(graph)
    found = nodes_of(changed, class_type)
    if not found:
        classes = ", ".join(sorted({entry["class_type"] for entry in graph.values()}))
        raise GraphError(f"The workflow must have a node {class_type}, got {classes}.")
    for node in found:
        inputs = changed[node]["inputs"]
        if name not in inputs:
            allowed = ", ".join(inputs)
            raise GraphError(f"{class_type} has no input {name!r} in the workflow, only {allowed}.")
        inputs[name] = value
    return changed


def replace_texts(graph: Graph, texts: list[str]) -> Graph:
    """Return the workflow with its different prompts replaced in order; an empty one stays empty.

    Args:
        graph: The workflow.
        texts: The new prompts; repeated when there are fewer than the workflow has.
    """
    changed = copy.deepcopy(graph)
    prompts = [changed[node]["inputs"] for node in nodes_of(changed, "CLIPTextEncode")]
    old = list(dict.fromkeys(inputs["text"] for inputs in prompts if inputs["text"]))
    for inputs in prompts:
        if inputs["text"] and texts:
            inputs["text"] = texts[old.index(inputs["text"]) % len(texts)]
    return changed


def title(graph: Mapping[str, Mapping[str, Any]], node: str) -> str:
    """Return a node's title, or its class where it has none.

    Args:
        graph: The workflow.
        node: The node's id.
    """
    entry = graph.get(node, {})
    return str((entry.get("_meta") or {}).get("title") or entry.get("class_type") or node)


def is_link(value: Any) -> bool:
    """Return whether an input's value is another node's output, rather than a widget's value."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def upstream(graph: Mapping[str, Mapping[str, Any]], node: str, *inputs: str) -> Iterator[str]:
    """Yield a node and what feeds it, nearest first.

    Args:
        graph: The workflow.
        node: Where to begin.
        *inputs: Follow only inputs of these names from the first node; all of them by default.
    """
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop(0)
        if current in seen or current not in graph:
            continue
        seen.add(current)
        yield current
        for name, value in graph[current]["inputs"].items():
            if is_link(value) and (current != node or not inputs or name in inputs):
                waiting.append(value[0])


def picture_caption(graph: Mapping[str, Mapping[str, Any]], save_node: str) -> str:
    """Return the seed and the prompt of the pictures that a node saves, as far as they are known.

    Args:
        graph: The workflow.
        save_node: A SaveImage node.
    """
    for node in upstream(graph, save_node):
        inputs = graph[node]["inputs"]
        seed = inputs.get("seed", inputs.get("noise_seed"))
        if not isinstance(seed, int) or "positive" not in inputs:
            continue
        for source in upstream(graph, node, "positive"):
            text = graph[source]["inputs"].get("text")
            if isinstance(text, str):
                return f"seed {seed}: {text}"
        return f"seed {seed}"
    return title(graph, save_node)
