"""Where the nodes, groups and bends of a workflow lie on the canvas."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .flow import COLUMN_GAP, GAP, Flow, Group, Node, Output
from .node_info import Input, NodeInfo

TITLE_PX = 30  # LiteGraph draws a title above a node's position
SLOT_PX = 20
FIRST_SLOT_PX = 14  # from a node's position to its first socket
WIDGET_PX = 24
# A text field, as web/glitch.js has it: a line, a letter, its edges, and how many lines are shown.
LINE_PX = 15
LETTER_PX = 6
EDGES_PX = 30
LINES = (3, 12)
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
    """A rectangle; y grows downwards and excludes a node's title.

    Attributes:
        x: of its left edge.
        y: of its upper edge.
        width: of the node.
        height: that is kept free for it: for every widget and for the picture that it will show.
        shown: the height that it opens with.
    """

    x: int
    y: int
    width: int
    height: int
    shown: int

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
                shown, height = heights(node, info[node.class_type], column.width)
                boxes[node] = Box(x, y, column.width, height, shown)
                y += height + GAP
            x += column.width + COLUMN_GAP
        x += GROUP_PADDING + GROUP_GAP - COLUMN_GAP
    return boxes


def heights(node: Node, info: NodeInfo, width: int) -> tuple[int, int]:
    """Return the height that a node opens with, and the one that is kept free for it.

    It opens with its sockets and widgets, the advanced ones folded, and with room for a picture
    unless a text field would fill that. Advanced widgets are shown when asked for, and always by
    older frontends that draw nodes as HTML.

    Args:
        node: The node.
        info: What the host says about its class.
        width: Of the node, in pixels.
    """
    if node.tall:
        return node.tall, node.tall
    slots = 20 + SLOT_PX * max(len(info.sockets), len(info.outputs))
    rows = [(one, _row(one, node.inputs.get(one.name), width)) for one in info.widgets]
    advanced = sum(height for one, height in rows if one.is_advanced)
    button = WIDGET_PX if advanced else 0
    shown = slots + button + sum(height for one, height in rows if not one.is_advanced)
    preview = PREVIEW_PX if info.class_type in WITH_PREVIEW else 0
    has_text = any(one.is_text and not one.is_advanced for one, _ in rows)
    return shown + (0 if has_text else preview), shown + advanced + preview


def _row(widget: Input, value: object, width: int) -> int:
    """Return the height of a widget, with the one below a seed that says what becomes of it."""
    if not widget.is_text:
        return WIDGET_PX * (2 if widget.is_seed else 1)
    letters = max(1, (width - EDGES_PX) // LETTER_PX)
    text = value if isinstance(value, str) else str(widget.default or "")
    lines = sum(max(1, -(-len(line) // letters)) for line in text.split("\n"))
    least, most = LINES
    return LINE_PX * min(most, max(least, lines)) + EDGES_PX


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
