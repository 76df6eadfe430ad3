"""A workflow as it is described: nodes in columns, columns in groups, links by name."""

from __future__ import annotations

import dataclasses
from typing import Any

GAP = 40
"""Between two nodes of a column, in pixels of the canvas."""
COLUMN_GAP = 90
"""Between two columns, at least: room for the wires to bend."""
GROUP_COLORS = ("#3f789e", "#a1309b", "#b58b2a", "#3f9e5d")


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a node, to give to another node's input.

    Attributes:
        node: the node it belongs to.
        name: its name in the host's node list.
    """

    node: Node
    name: str


@dataclasses.dataclass(eq=False)
class Node:
    """One node: its class, title, the inputs that are not at their defaults, and its place.

    Attributes:
        class_type: the host's name of the class.
        title: what stands on it.
        inputs: widget values and :class:`Output`\\ s by input name.
        column: the column it stands in.
        top: y of its title, in pixels; None for below the node before.
        tall: its height, or None for what its widgets need.
        models: files that the missing-model dialog offers: name, url, directory.
        color: of its title bar and body, as the frontend writes them; None for the usual.
    """

    class_type: str
    title: str
    inputs: dict[str, Any]
    column: Column
    top: int | None = None
    tall: int | None = None
    models: tuple[dict[str, str], ...] = ()
    color: tuple[str, str] | None = None

    def __getitem__(self, name: str) -> Output:
        """Return an output by name."""
        return Output(self, name)


@dataclasses.dataclass(eq=False)
class Column:
    """Nodes below each other."""

    group: Group
    width: int
    nodes: list[Node] = dataclasses.field(default_factory=list)

    def add(
        self,
        class_type: str,
        title: str,
        /,
        *,
        top: int | None = None,
        tall: int | None = None,
        models: tuple[dict[str, str], ...] = (),
        color: tuple[str, str] | None = None,
        **inputs: Any,
    ) -> Node:
        """Add a node below the others.

        Args:
            class_type: The host's name of the class.
            title: What stands on it.
            top: The y of its title, in pixels; by default it stands below the node before.
            tall: Its height in pixels; by default what its widgets need.
            models: Files that the missing-model dialog offers.
            color: Title bar and body.
            **inputs: Widget values and outputs of other nodes, by input name.
        """
        node = Node(class_type, title, inputs, self, top, tall, models, color)
        self.nodes.append(node)
        return node

    def note(
        self, text: str, title: str = "What to look for", *, top: int = 0, tall: int = 400
    ) -> Node:
        """Add a note in Markdown.

        Args:
            text: What it says.
            title: What stands on it.
            top: The y of its title, in pixels.
            tall: Its height in pixels.
        """
        return self.add("MarkdownNote", title, top=top, tall=tall, text=text)


@dataclasses.dataclass(eq=False)
class Group:
    """A titled box around columns."""

    title: str
    columns: list[Column] = dataclasses.field(default_factory=list)

    def column(self, width: int = 360) -> Column:
        """Open a column to the right of the others.

        Args:
            width: Of its nodes, in pixels.
        """
        column = Column(self, width)
        self.columns.append(column)
        return column


@dataclasses.dataclass(eq=False)
class Flow:
    """One workflow, from left to right.

    Attributes:
        name: of its file.
        groups: its boxes.
        chosen: what its app view asks for: a node and one of its widgets.
        shown: nodes whose results the app view shows.
    """

    name: str
    groups: list[Group] = dataclasses.field(default_factory=list)
    chosen: list[tuple[Node, str]] = dataclasses.field(default_factory=list)
    shown: list[Node] = dataclasses.field(default_factory=list)

    def group(self, title: str) -> Group:
        """Open a group to the right of the others.

        Args:
            title: What stands above it.
        """
        group = Group(title)
        self.groups.append(group)
        return group

    def choose(self, node: Node, *names: str) -> None:
        """Ask for widgets of a node in the app view.

        Args:
            node: The node.
            *names: Of its widgets.
        """
        self.chosen += [(node, name) for name in names]

    def show(self, *nodes: Node) -> None:
        """Show what nodes make in the app view.

        Args:
            *nodes: The nodes.
        """
        self.shown += nodes

    @property
    def columns(self) -> list[Column]:
        """Every column, from left to right."""
        return [column for group in self.groups for column in group.columns]

    @property
    def nodes(self) -> list[Node]:
        """Every node, in the order of its column."""
        return [node for column in self.columns for node in column.nodes]
