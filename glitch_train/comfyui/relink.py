"""Links of a workflow by type, where a host numbers a node's outputs in another way.

ComfyUI 0.3.75's Train LoRA has four outputs, the patched model first; later ones leave it out.
A link names its output by number, so that a workflow of the one would not run in the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graph import Graph, is_link
from .node_info import described_inputs

TYPES = frozenset({"LORA_MODEL", "LOSS_MAP"})
"""Looked after: a node has one output of each at most."""


def relink(graph: Graph, object_info: Mapping[str, Any]) -> None:
    """Point each link at the output that has its input's type on this host, in place.

    Args:
        graph: the workflow in API format.
        object_info: the host's description of its nodes.
    """
    for entry in graph.values():
        inputs = described_inputs(object_info, entry["class_type"])
        for name, value in entry["inputs"].items():
            if not is_link(value) or name not in inputs or inputs[name].kind not in TYPES:
                continue
            source = graph.get(value[0], {}).get("class_type", "")
            outputs = object_info.get(source, {}).get("output", [])
            if inputs[name].kind in outputs:
                entry["inputs"][name] = [value[0], outputs.index(inputs[name].kind)]
