"""What ComfyUI says while it runs a workflow, as typed events."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..plain_json import json_object

# ComfyUI's protocol.py: the kinds of binary message.
_PREVIEW_IMAGE = 1
_TEXT = 3
_PREVIEW_IMAGE_WITH_METADATA = 4
# server.py, send_image: the picture formats of a plain preview.
_PREVIEW_FORMATS = {1: "JPEG", 2: "PNG"}


@dataclass(frozen=True)
class Started:
    """The host began with this workflow; others were before it in the queue until now."""


@dataclass(frozen=True)
class Cached:
    """These nodes have results from an earlier run and will not run again."""

    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Executing:
    """A node began."""

    node: str


@dataclass(frozen=True)
class Progress:
    """A running node got from 0 to `value` of `maximum`."""

    node: str
    value: float
    maximum: float


@dataclass(frozen=True)
class ProgressText:
    """A running node shows a line of text."""

    node: str
    text: str


@dataclass(frozen=True)
class Preview:
    """A running node shows a picture."""

    node: str | None  # None where the host does not say which
    image_bytes: bytes = field(repr=False)
    format: str  # "JPEG" or "PNG"


@dataclass(frozen=True)
class Executed:
    """A node has ended, and this is what it shows under itself."""

    node: str
    output: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """The workflow has ended well. Nothing follows."""


@dataclass(frozen=True)
class Failed:
    """A node raised an error. Nothing follows."""

    message: str  # the node's own words
    node: str
    node_type: str = ""
    exception_type: str = ""


@dataclass(frozen=True)
class Interrupted:
    """The workflow was stopped, or taken out of the queue, by someone. Nothing follows."""


Event = (
    Started
    | Cached
    | Executing
    | Progress
    | ProgressText
    | Preview
    | Executed
    | Finished
    | Failed
    | Interrupted
)
TERMINAL_EVENTS = (Finished, Failed, Interrupted)


class EventReader:
    """Turns one connection's messages into the events of one workflow.

    Messages of other workflows are left out. Previews in the old format and lines of text do not
    say which workflow they belong to, so they count only while this one runs.
    """

    def __init__(self, prompt_id: str) -> None:
        """Args: prompt_id: The workflow whose events are wanted."""
        self.prompt_id = prompt_id
        self.is_running = False
        self.is_over = False
        self._progress: dict[str, tuple[float, float]] = {}
        self._has_progress_state = False

    def read(self, message: str | bytes) -> Iterator[Event]:
        """Yield the events in one message.

        Args:
            message: A text (JSON) or binary message as it came from the socket.
        """
        if isinstance(message, bytes):
            yield from self._read_binary(message)
            return
        content = json_object(message)
        data = content.get("data")
        if isinstance(data, dict):
            yield from self.read_named(str(content.get("type")), data)

    def read_named(self, name: str, data: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events in one message of a known name; a run's history holds the same.

        Args:
            name: The host's name for the kind of message.
            data: Its content.
        """
        if data.get("prompt_id") != self.prompt_id:
            return
        if name == "progress_state":
            self._has_progress_state = True
            yield from self._progress_of_nodes(data.get("nodes", {}))
        elif name == "progress" and not self._has_progress_state:  # the same news, in older words
            yield from self._progress_of(str(data.get("node")), data)
        elif (event := _event_of(name, data)) is not None:
            self.is_running = not isinstance(event, TERMINAL_EVENTS)
            self.is_over = not self.is_running
            yield event

    def _progress_of_nodes(self, nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Event]:
        for name, state in nodes.items():
            # A node that is done is set to its maximum, also when it stopped early: not news.
            if state.get("state") == "running":
                yield from self._progress_of(str(state.get("display_node_id") or name), state)

    def _progress_of(self, node: str, state: Mapping[str, Any]) -> Iterator[Event]:
        progress = (float(state.get("value", 0)), float(state.get("max", 1)))
        if self._progress.get(node) != progress:
            self._progress[node] = progress
            yield Progress(node, *progress)

    def _read_binary(self, message: bytes) -> Iterator[Event]:
        if len(message) < 8:
            return
        kind, number = struct.unpack(">II", message[:8])
        rest = message[8:]
        if kind == _PREVIEW_IMAGE_WITH_METADATA:
            metadata = json_object(rest[:number])
            if metadata.get("prompt_id") == self.prompt_id:
                node = metadata.get("display_node_id") or metadata.get("node_id")
                mime_type = str(metadata.get("image_type", "image/jpeg"))
                yield Preview(node, rest[number:], mime_type.removeprefix("image/").upper())
        elif self.is_running and kind == _PREVIEW_IMAGE:
            yield Preview(None, rest, _PREVIEW_FORMATS.get(number, "JPEG"))
        elif self.is_running and kind == _TEXT:
            yield ProgressText(rest[:number].decode(), rest[number:].decode(errors="replace"))


def _event_of(name: str, data: Mapping[str, Any]) -> Event | None:
    """Return the event for a message that has exactly one, or None."""
    node = data.get("display_node") or data.get("node")
    match name:
        case "execution_start":
            return Started()
        case "execution_cached":
            return Cached(tuple(data.get("nodes", ())))
        case "executing" if node is not None:
            return Executing(str(node))
        case "executed":
            return Executed(str(node), dict(data.get("output") or {}))
        case "execution_success":
            return Finished()
        case "execution_interrupted":
            return Interrupted()
        case "execution_error":
            return Failed(
                message=str(data.get("exception_message", "")).strip(),
                node=str(data.get("node_id")),
                node_type=str(data.get("node_type", "")),
                exception_type=str(data.get("exception_type", "")),
            )
    return None
