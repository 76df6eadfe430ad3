"""Turns a described workflow into the file that the frontend opens."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from .flow import GROUP_COLORS, Flow, Node, Output
from .layout import Box, Link, place
from .node_info import Input, NodeInfo, WorkflowError
from .routes import reroutes

PACK_ID = "glitching-the-gaze"
CORE_ID = "comfy-core"
FORMAT_VERSION = 0.4
FIRST_SCALE = 0.8  # smaller, and the frontend leaves out the words on nodes
FIRST_CORNER_PX = (100, 150)  # of the window: right of the side bar, below tabs and a notice
SEED_AFTER_RUN = "fixed"
OPTIONAL_SOCKET_SHAPE = 7  # a hollow circle


def ui_file(
    flow: Flow, info: Mapping[str, NodeInfo], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the workflow in the frontend's own format.

    Args:
        flow: The workflow.
        info: What the host says about each node class.
        versions: Of the host and of the pack, by their registry ids.

    Raises:
        WorkflowError: A node, input or output that the host does not have.
    """
    for node in flow.nodes:
        _check(node, info)
    for node, name in flow.chosen:
        if name not in [one.name for one in info[node.class_type].widgets]:
            raise WorkflowError(f"{node.title} has no widget {name!r} for the app view.")
    ids = {node: number for number, node in enumerate(flow.nodes, start=1)}
    links = _links(flow, info)
    layout = place(flow, info, links)
    written = [_written(link, info, ids) for link in links]
    nodes = [_node(node, info, versions, ids, layout.boxes[node], written) for node in flow.nodes]
    extra: dict[str, Any] = {
        "ds": _first_view(layout.groups),
        "glitchOpensAtView": True,  # for web/opening.js, where a frontend fits templates
        "linearData": {  # the frontend's app view: a form in place of the graph
            "inputs": [[ids[node], name] for node, name in flow.chosen],
            "outputs": [ids[node] for node in flow.shown],
        },
    }
    points, lasts = reroutes(layout.buses, layout.rights)
    if points:
        extra |= {"reroutes": points, "linkExtensions": lasts}
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK_ID}/{flow.name}")),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": written,
        "groups": [
            {
                "id": number + 1,
                "title": group.title,
                "bounding": bounding,
                "color": GROUP_COLORS[number % len(GROUP_COLORS)],
                "font_size": 24,
                "flags": {},
            }
            for number, (group, bounding) in enumerate(zip(flow.groups, layout.groups, strict=True))
        ],
        "config": {},
        "extra": extra,
        "version": FORMAT_VERSION,
    }


def _first_view(groups: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return scale and offset with the upper left corner in sight, beside the frontend's bars."""
    left, top = (min(group[side] for group in groups) for side in (0, 1))
    x, y = FIRST_CORNER_PX
    return {"scale": FIRST_SCALE, "offset": [x / FIRST_SCALE - left, y / FIRST_SCALE - top]}


def _check(node: Node, info: Mapping[str, NodeInfo]) -> None:
    if node.class_type not in info:
        raise WorkflowError(f"The host has no node {node.class_type}.")
    known = {one.name: one for one in info[node.class_type].inputs}
    for name, value in node.inputs.items():
        if name not in known:
            raise WorkflowError(f"{node.class_type} has no input {name!r}, only {list(known)}.")
        if isinstance(value, Output):
            source = info[value.node.class_type]
            kind = source.outputs[source.output_number(value.name)][1]
            if known[name].type not in (kind, "*"):
                raise WorkflowError(
                    f"{node.title}: {name} takes {known[name].type}, got {kind} from "
                    f"{value.node.title}."
                )
    for one in info[node.class_type].sockets:
        if not one.is_optional and one.name not in node.inputs:
            raise WorkflowError(f"{node.title}: {one.name} is not connected.")


def _links(flow: Flow, info: Mapping[str, NodeInfo]) -> list[Link]:
    links: list[Link] = []
    for node in flow.nodes:
        for slot, one in enumerate(_slots(info[node.class_type])):
            value = node.inputs.get(one.name)
            if isinstance(value, Output):
                output = info[value.node.class_type].output_number(value.name)
                links.append(Link(len(links) + 1, value.node, output, node, slot))
    return links


def _written(link: Link, info: Mapping[str, NodeInfo], ids: Mapping[Node, int]) -> list[Any]:
    kind = info[link.source.class_type].outputs[link.output][1]
    return [link.number, ids[link.source], link.output, ids[link.target], link.slot, kind]


def _slots(info: NodeInfo) -> list[Input]:
    """Return the inputs in the order in which the frontend keeps them: sockets, then widgets."""
    return [*info.sockets, *info.widgets]


def _node(
    node: Node,
    info: Mapping[str, NodeInfo],
    versions: Mapping[str, str],
    ids: Mapping[Node, int],
    box: Box,
    links: list[list[Any]],
) -> dict[str, Any]:
    known = info[node.class_type]
    mine = ids[node]
    by_slot = {link[4]: link[0] for link in links if link[3] == mine}
    written: dict[str, Any] = {
        "id": mine,
        "type": node.class_type,
        "pos": [box.x, box.y],
        "size": [box.width, box.shown],
        "flags": {},
        "order": mine - 1,
        "mode": 0,
        "inputs": [
            _input_entry(one, by_slot.get(slot))
            for slot, one in enumerate(_slots(known))
            if known.class_type != "MarkdownNote"
        ],
        "outputs": [
            {
                "name": name,
                "type": kind,
                "links": [link[0] for link in links if link[1] == mine and link[2] == number],
            }
            for number, (name, kind) in enumerate(known.outputs)
        ],
        "title": node.title,
        "properties": _properties(node, known, versions),
        "widgets_values": _widget_values(node, known),
    }
    if node.color:
        written |= {"color": node.color[0], "bgcolor": node.color[1]}
    return written


def _input_entry(one: Input, link: int | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": one.name, "type": one.type}
    if one.is_widget:
        entry["widget"] = {"name": one.name}
    elif one.is_optional:
        entry["shape"] = OPTIONAL_SOCKET_SHAPE
    return entry | {"link": link}


def _properties(node: Node, info: NodeInfo, versions: Mapping[str, str]) -> dict[str, Any]:
    if info.class_type == "MarkdownNote":
        return {}
    pack = PACK_ID if info.is_ours else CORE_ID
    properties: dict[str, Any] = {
        "Node name for S&R": node.class_type,
        "cnr_id": pack,
        "ver": versions[pack],
    }
    return properties | ({"models": list(node.models)} if node.models else {})


def _widget_values(node: Node, info: NodeInfo) -> list[Any]:
    values: list[Any] = []
    for one in info.widgets:
        value = node.inputs.get(one.name, one.default)
        values.append(one.default if isinstance(value, Output) else value)
        if one.is_seed:
            values.append(SEED_AFTER_RUN)
    return values
