"""JSON of a person, a file or a server, read so that nothing in it ends in a traceback."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100
"""How deep lists and objects may stand in each other: what walks through them is recursive."""


def parse_json(text: str | bytes, *, once: bool = False) -> Any:
    """Return what a JSON text says.

    Args:
        text: the JSON; bytes are UTF-8, UTF-16 or UTF-32.
        once: refuse a name that stands twice in an object, of which the first would be lost.

    Raises:
        ValueError: it is no JSON, or is nested deeper than :data:`MAX_DEPTH`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_each_once if once else None)
    except RecursionError:
        raise _too_deep() from None
    level = _holders([value])
    for _ in range(MAX_DEPTH):
        level = [holder for one in level for holder in _holders(one)]
        if not level:
            return value
    raise _too_deep()


def json_object(text: str | bytes) -> dict[str, Any]:
    """Return what a JSON text says, and nothing where it is no JSON or no object."""
    try:
        value = parse_json(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"{twice[:80]!r} stands twice in one object")
    return values


def _holders(value: Any) -> list[Any]:
    """Return the lists and objects directly in a list or object."""
    entries = value.values() if isinstance(value, dict) else value
    return [entry for entry in entries if isinstance(entry, (list, dict))]


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {MAX_DEPTH} deep")
