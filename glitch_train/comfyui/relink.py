"""Train LoRA of one ComfyUI in another, which numbers its outputs in another way and asks for more.

ComfyUI 0.3.75's has four outputs, the patched model first; later ones leave it out, and have more
required inputs. A link names its output by number: a workflow of the one is refused by the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graph import Graph, is_link
from .node_info import described_inputs

TYPES = frozenset({"LORA_MODEL", "LOSS_MAP"})
"""Looked after: a node has one output of each at most."""

TRAINER = "TrainLoraNode"


def relink(graph: Graph, object_info: Mapping[str, Any]) -> None:
    """Fit Train LoRA to this host, in place: its links by type, what it lacks by the default.

    Args:
        graph: the workflow in API format.
        object_info: the host's description of its nodes.
    """
    for entry in graph.values():
        inputs = described_inputs(object_info, entry["class_type"])
        if entry["class_type"] == TRAINER:
            known = {
                name: one.about["default"] for name, one in inputs.items() if "default" in one.about
            }
            entry["inputs"] = known | entry["inputs"]
        for name, value in entry["inputs"].items():
            if not is_link(value) or name not in inputs or inputs[name].kind not in TYPES:
                continue
            source = graph.get(value[0], {}).get("class_type", "")
            outputs = object_info.get(source, {}).get("output", [])
            if inputs[name].kind in outputs:
                entry["inputs"][name] = [value[0], outputs.index(inputs[name].kind)]
