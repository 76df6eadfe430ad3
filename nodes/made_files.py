"""Files that the cached result of a node names: a node whose files are gone runs again.

The host runs a node again when its fingerprint changes. That of a node here is how often its files
were found missing; it is told the node by the host's context, for it knows no hidden inputs then.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from comfy_execution.utils import get_executing_context

_Key = tuple[str | None, str]

_asked: dict[str | None, str] = {}
"""Node to its widgets, as they were when it was last asked for its fingerprint."""
_made: dict[_Key, list[Path]] = {}
"""Node and widgets to the files of its last run."""
_lost: dict[_Key, int] = {}
"""Node and widgets to how often some of them were missing."""


def fingerprint(inputs: dict[str, Any]) -> int:
    """Return another number than last time when a file is gone that the node made then.

    Args:
        inputs: the widgets, as ``fingerprint_inputs`` gets them.
    """
    node = _node()
    _asked[node] = repr(sorted(inputs.items()))
    key = (node, _asked[node])
    if not all(path.is_file() for path in _made.get(key, ())):
        del _made[key]
        _lost[key] = _lost.get(key, 0) + 1
    return _lost.get(key, 0)


def remember(files: Iterable[Path]) -> None:
    """Note what the node that runs has made and its result names."""
    node = _node()
    _made[node, _asked.get(node, "")] = list(files)


def _node() -> str | None:
    context = get_executing_context()
    return context.node_id if context else None
