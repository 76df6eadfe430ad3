"""A host's description of its nodes, as far as it can be understood.

Custom nodes write parts of it, so anything may be in it; what is odd counts as not described.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class InputInfo:
    """One input of a node.

    Attributes:
        kind: the host's word, such as INT or MODEL; COMBO for a choice, however it is written.
        options: what may be chosen.
        about: what else the host says of it, such as its default.
        is_optional: whether a workflow may leave it out.
    """

    kind: str
    options: tuple[Any, ...] = ()
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_optional: bool = False


def described_inputs(object_info: Mapping[str, Any], class_type: str) -> dict[str, InputInfo]:
    """Return what a node's inputs are, by name.

    Args:
        object_info: the host's description of its nodes.
        class_type: the node class; one that is not described has no inputs.
    """
    parts = _object(_object(object_info.get(class_type)).get("input"))
    return {
        name: found
        for part in ("required", "optional")
        for name, description in _object(parts.get(part)).items()
        for found in _read(description, part == "optional")
    }


def describes_nodes(object_info: Mapping[str, Any]) -> bool:
    """Return whether this is a host's description of its nodes, of which there may be none."""
    nodes = [_object(node) for node in object_info.values()]
    return not nodes or any(isinstance(node.get("input"), dict) for node in nodes)


def _read(description: Any, is_optional: bool) -> Iterator[InputInfo]:
    """Yield the input that is described, if one is: ``[kind, about]`` or ``[options, about]``."""
    match description:
        case [list(options), *more]:
            yield InputInfo("COMBO", tuple(options), _about(more), is_optional)
        case [str(kind), *more]:
            about = _about(more)
            choices = about.get("options")
            offered = tuple(choices) if isinstance(choices, list) else ()
            yield InputInfo(kind, offered, about, is_optional)


def _about(more: Sequence[Any]) -> Mapping[str, Any]:
    return _object(more[0]) if more else {}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
