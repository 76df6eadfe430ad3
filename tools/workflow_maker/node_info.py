"""What the host says about a node class: its sockets, widgets and outputs, in order."""

from __future__ import annotations

import dataclasses
from typing import Any

from glitch_train.comfyui.node_info import InputInfo, described_inputs

WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
PACK_MODULE = "custom_nodes."


class WorkflowError(Exception):
    """A description names what the host does not have."""


@dataclasses.dataclass(frozen=True)
class Input:
    """One input: a socket, or a widget with its default."""

    name: str
    type: str
    default: Any = None
    is_widget: bool = False
    is_optional: bool = False
    is_text: bool = False
    is_seed: bool = False  # the frontend adds a widget that says what becomes of it after a run


@dataclasses.dataclass(frozen=True)
class NodeInfo:
    """One node class."""

    class_type: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]  # name, type
    is_ours: bool = False

    @property
    def sockets(self) -> list[Input]:
        """The inputs without a widget."""
        return [one for one in self.inputs if not one.is_widget]

    @property
    def widgets(self) -> list[Input]:
        """The inputs with a widget, in the order in which a file keeps their values."""
        return [one for one in self.inputs if one.is_widget]

    def output_number(self, name: str) -> int:
        """Return the place of an output.

        Args:
            name: Its name.

        Raises:
            WorkflowError: There is none of that name.
        """
        names = [known for known, _ in self.outputs]
        if name not in names:
            raise WorkflowError(f"{self.class_type} has no output {name!r}, only {names}.")
        return names.index(name)


NOTE = NodeInfo("MarkdownNote", (Input("text", "STRING", "", is_widget=True, is_text=True),), ())
"""Known to the frontend alone."""


def read_object_info(answer: dict[str, Any]) -> dict[str, NodeInfo]:
    """Return every node class by name.

    Args:
        answer: The host's ``/object_info``.
    """
    classes = {name: _read(name, answer) for name in answer}
    return classes | {NOTE.class_type: NOTE}


def _read(name: str, answer: dict[str, Any]) -> NodeInfo:
    entry = answer[name]
    inputs = (_input(key, one) for key, one in described_inputs(answer, name).items())
    outputs = zip(entry["output_name"], map(str, entry["output"]), strict=True)
    module = str(entry.get("python_module", ""))
    return NodeInfo(name, tuple(inputs), tuple(outputs), module.startswith(PACK_MODULE))


def _input(name: str, described: InputInfo) -> Input:
    kind, about = described.kind, described.about
    is_widget = kind in WIDGET_TYPES and not about.get("forceInput")
    default = about.get("default", next(iter(described.options), None))
    if default is None and is_widget:
        default = {"STRING": "", "BOOLEAN": False}.get(kind, 0)
    seed = about.get("control_after_generate", name in ("seed", "noise_seed"))
    return Input(
        name,
        kind,
        default,
        is_widget,
        described.is_optional,
        is_text=kind == "STRING" and bool(about.get("multiline")),
        is_seed=kind == "INT" and bool(seed),
    )
