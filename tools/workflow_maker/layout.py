"""Where the nodes, groups and bends of a workflow lie on the canvas."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .flow import COLUMN_GAP, GAP, Flow, Group, Node, Output
from .node_info import NodeInfo

TITLE_PX = 30  # LiteGraph draws a title above a node's position
SLOT_PX = 20
FIRST_SLOT_PX = 14  # from a node's position to its first socket
WIDGET_PX = 24
TEXT_PX = 90  # a text field of some lines
PREVIEW_PX = 300
GROUP_PADDING = 20
GROUP_TITLE_PX = 50
GROUP_GAP = 60
BEND_PX = 35  # a wire passes this far below a node
OVER_PX = 16  # and this far above its title
LANE_PX = 25
WITH_PREVIEW = frozenset(
    {
        "PreviewImage",
        "SaveImage",
        "GlitchContactSheet",
        "GlitchCrossModelLoraApplier",
        "GlitchGrid",
        "GlitchLossGraph",
        "GlitchLoraTrainer",
        "GlitchReport",
    }
)


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle; y grows downwards and excludes a node's title."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The x of its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The y of its lower edge."""
        return self.y + self.height


def place(flow: Flow, info: Mapping[str, NodeInfo]) -> dict[Node, Box]:
    """Return where every node of a workflow stands.

    Args:
        flow: The workflow.
        info: What the host says about each node class.
    """
    boxes: dict[Node, Box] = {}
    x = 0
    for group in flow.groups:
        x += GROUP_PADDING
        for column in group.columns:
            y = 0
            for node in column.nodes:
                y = (y if node.top is None else node.top) + TITLE_PX
                height = node.tall or natural_height(info[node.class_type])
                boxes[node] = Box(x, y, column.width, height)
                y += height + GAP
            x += column.width + COLUMN_GAP
        x += GROUP_PADDING + GROUP_GAP - COLUMN_GAP
    return boxes


def natural_height(info: NodeInfo) -> int:
    """Return the height that a node's sockets, widgets and preview need.

    Advanced widgets count: older frontends show them always, newer ones when asked to.

    Args:
        info: What the host says about its class.
    """
    slots = max(len(info.sockets), len(info.outputs))
    widgets = sum(TEXT_PX if widget.is_text else WIDGET_PX for widget in info.widgets)
    widgets += sum(WIDGET_PX for widget in info.widgets if widget.is_seed)
    preview = PREVIEW_PX if info.class_type in WITH_PREVIEW else 0
    return 20 + slots * SLOT_PX + widgets + preview


def around(group: Group, boxes: Mapping[Node, Box]) -> list[int]:
    """Return a group's box as the file has it: x, y, width, height.

    Args:
        group: The group.
        boxes: Where the nodes stand.
    """
    inside = [boxes[node] for column in group.columns for node in column.nodes]
    left = min(box.x for box in inside) - GROUP_PADDING
    top = min(box.y for box in inside) - TITLE_PX - GROUP_TITLE_PX
    right = max(box.right for box in inside) + GROUP_PADDING
    bottom = max(box.bottom for box in inside) + GROUP_PADDING
    bends = max(box.bottom for box in inside) + BEND_PX + GROUP_PADDING
    return [left, top, right - left, max(bottom, bends) - top]


def slot_y(box: Box, slot: int) -> int:
    """Return the height at which a wire meets a node.

    Args:
        box: Where the node stands.
        slot: The place among its inputs, or among its outputs.
    """
    return box.y + FIRST_SLOT_PX + SLOT_PX * slot


def bends(
    wire: Output, boxes: Mapping[Node, Box], lane: int, ends: tuple[int, int]
) -> list[list[int]]:
    """Return the points through which a wire passes by other nodes.

    Args:
        wire: What says which nodes it passes above and below.
        boxes: Where the nodes stand.
        lane: How many wires pass there already; each goes a little further out.
        ends: The y at which it begins and ends.
    """
    points = []
    for node in wire.over:
        box = boxes[node]
        y = box.y - TITLE_PX - OVER_PX - LANE_PX * lane
        points += [[box.x, y], [box.right, y]]
    for node in wire.under:
        box = boxes[node]
        y = box.bottom + BEND_PX + LANE_PX * lane
        points += [[box.x, y], [box.right, y]]
    if wire.turn:
        x = boxes[wire.node].right + wire.turn
        points = [[x, ends[0]], [x, points[0][1] if points else ends[1]], *points]
    if wire.end_turn:
        x = points[-1][0] + wire.end_turn
        points += [[x, points[-1][1]], [x, ends[1]]]
    return points
