"""Where the nodes, groups and wires of a workflow lie on the canvas."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from .flow import COLUMN_GAP, GAP, Flow, Group, Node
from .node_info import Input, NodeInfo
from .routes import Bus, End, Span, gap_width, is_straight, tracks, with_lanes

TITLE_PX = 30  # LiteGraph draws a title above a node's position
SLOT_PX = 20
FIRST_SLOT_PX = 14  # from a node's position to its first socket
WIDGET_PX = 24
# A text field, as web/glitch.js has it: a line, a letter, its edges, and how many lines it shows.
LINE_PX = 15
LETTER_PX = 6
EDGES_PX = 30
MOST_LINES = 12
HTML_TEXT_PX = 75  # an HTML node's text field is no lower, its name above it
PREVIEW_PX = 300
HTML_ROW_PX, HTML_FOOT_PX = 5, 44  # an HTML node's rows are so much higher, and it has a foot
GROUP_PADDING = 20
GROUP_TITLE_PX = 50
GROUP_GAP = 60
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


@dataclasses.dataclass(frozen=True)
class Link:
    """One wire.

    Attributes:
        number: its id.
        source: the node that gives.
        output: the place among its outputs.
        target: the node that takes.
        slot: the place among its inputs.
    """

    number: int
    source: Node
    output: int
    target: Node
    slot: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where everything of a workflow lies.

    Attributes:
        boxes: of the nodes.
        buses: the wires that are not drawn straight.
        rights: the x of each column's right edge.
        groups: each group's x, y, width and height.
    """

    boxes: Mapping[Node, Box]
    buses: Sequence[Bus]
    rights: Mapping[int, int]
    groups: Sequence[list[int]]


def place(flow: Flow, info: Mapping[str, NodeInfo], links: Sequence[Link]) -> Layout:
    """Return where everything of a workflow lies.

    Args:
        flow: The workflow.
        info: What the host says about each node class.
        links: Its wires.
    """
    boxes = _stacked(flow, info)
    column_of = {node: place for place, one in enumerate(flow.columns) for node in one.nodes}
    spans = [Span(column_of[node], box.y - TITLE_PX, box.bottom) for node, box in boxes.items()]
    buses = with_lanes(_buses(links, boxes, column_of), spans)
    inside = {gap: gap_width(len(one)) for gap, one in tracks(buses).items()}
    x, place, rights = 0, 0, {}
    for group in flow.groups:
        x += GROUP_PADDING
        for column in group.columns:
            for node in column.nodes:
                boxes[node] = dataclasses.replace(boxes[node], x=x)
            is_last = column is group.columns[-1]
            rights[place] = x + column.width
            usual = 2 * GROUP_PADDING + GROUP_GAP if is_last else COLUMN_GAP
            x = rights[place] + max(usual, inside.get(place, 0))
            place += 1
        x -= GROUP_PADDING
    lanes = [(bus.column, bus.last, bus.lane) for bus in buses if bus.lane is not None]
    groups = []
    for group in flow.groups:
        own = {column_of[node] for column in group.columns for node in column.nodes}
        over = [y for start, end, y in lanes if own & set(range(start, end + 1))]
        groups.append(_around(group, boxes, over))
    return Layout(boxes, buses, rights, groups)


def _stacked(flow: Flow, info: Mapping[str, NodeInfo]) -> dict[Node, Box]:
    """Return each node's box in its column, all at the left edge."""
    boxes: dict[Node, Box] = {}
    for column in flow.columns:
        y = 0
        for node in column.nodes:
            y = (y if node.top is None else node.top) + TITLE_PX
            shown, height = heights(node, info[node.class_type], column.width)
            boxes[node] = Box(0, y, column.width, height, shown)
            y += height + GAP
    return boxes


def _buses(
    links: Sequence[Link], boxes: Mapping[Node, Box], column_of: Mapping[Node, int]
) -> list[Bus]:
    """Return the wires that need a way of their own, by output: a node's first output last.

    The last gets the outermost lane, so that wires of one node lie in the order of its outputs.
    """
    ends: dict[tuple[Node, int], list[End]] = {}
    for link in links:
        end = End(column_of[link.target], slot_y(boxes[link.target], link.slot), link.number)
        start = column_of[link.source], slot_y(boxes[link.source], link.output)
        if not is_straight(*start, end):
            ends.setdefault((link.source, link.output), []).append(end)
    order = sorted(ends, key=lambda one: (column_of[one[0]], boxes[one[0]].y, -one[1]))
    return [
        Bus(column_of[node], slot_y(boxes[node], output), tuple(ends[node, output]))
        for node, output in order
    ]


def heights(node: Node, info: NodeInfo, width: int) -> tuple[int, int]:
    """Return the height that a node opens with, and the one that is kept free for it.

    It opens with its sockets and widgets, and with room for a picture unless a text field would
    fill that.

    Args:
        node: The node.
        info: What the host says about its class.
        width: Of the node, in pixels.
    """
    if node.tall:
        return node.tall, node.tall
    slots = 20 + SLOT_PX * max(len(info.sockets), len(info.outputs))
    rows = [_row(one, node.inputs.get(one.name), width) for one in info.widgets]
    shown = slots + sum(rows)
    fields = [row for row, one in zip(rows, info.widgets, strict=True) if one.is_text]
    preview = PREVIEW_PX if info.class_type in WITH_PREVIEW else 0
    html = HTML_ROW_PX * len(rows) + HTML_FOOT_PX
    html += sum(max(0, HTML_TEXT_PX - field) for field in fields)
    return shown + (0 if fields else preview), shown + preview + html


def _row(widget: Input, value: object, width: int) -> int:
    """Return the height of a widget, with the one below a seed that says what becomes of it."""
    if not widget.is_text:
        return WIDGET_PX * (2 if widget.is_seed else 1)
    letters = max(1, (width - EDGES_PX) // LETTER_PX)
    text = value if isinstance(value, str) else str(widget.default or "")
    lines = sum(max(1, -(-len(line) // letters)) for line in text.split("\n"))
    return LINE_PX * min(MOST_LINES, lines) + EDGES_PX


def _around(group: Group, boxes: Mapping[Node, Box], lanes: Sequence[int]) -> list[int]:
    """Return a group's box, around its nodes and the lanes that pass them."""
    inside = [boxes[node] for column in group.columns for node in column.nodes]
    left = min(box.x for box in inside) - GROUP_PADDING
    top = min([*(box.y - TITLE_PX for box in inside), *lanes]) - GROUP_TITLE_PX
    right = max(box.right for box in inside) + GROUP_PADDING
    bottom = max([*(box.bottom for box in inside), *lanes]) + GROUP_PADDING
    return [left, top, right - left, bottom - top]


def slot_y(box: Box, slot: int) -> int:
    """Return the height at which a wire meets a node.

    Args:
        box: Where the node stands.
        slot: The place among its inputs, or among its outputs.
    """
    return box.y + FIRST_SLOT_PX + SLOT_PX * slot
