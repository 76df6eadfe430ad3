"""What can go wrong between a script and ComfyUI, each as one sentence."""

from collections.abc import Mapping
from typing import Any

from .comfy_events import Failed
from .errors import GlitchTrainError

Graph = Mapping[str, Mapping[str, Any]]
"""A workflow in API format: node id to `{"class_type": …, "inputs": {…}}`."""


class ServerUnreachable(GlitchTrainError):
    """No ComfyUI answers at the address."""


class ServerBusy(ServerUnreachable):
    """ComfyUI is there, but an answer took too long."""


class ServerLost(GlitchTrainError):
    """ComfyUI went away while a workflow was running."""


class RequestRefused(GlitchTrainError):
    """ComfyUI answered a request with an error."""

    def __init__(self, message: str, status: int, body: bytes = b"") -> None:
        """Keep the answer beside the sentence.

        Args:
            message: One sentence.
            status: The HTTP status.
            body: What the host sent with it.
        """
        super().__init__(message)
        self.status = status
        self.body = body


class PromptRejected(GlitchTrainError):
    """ComfyUI does not accept the workflow."""

    def __init__(self, message: str, node_errors: Mapping[str, Any]) -> None:
        """Keep the host's own list beside the sentence.

        Args:
            message: One sentence.
            node_errors: What the host says, by node id.
        """
        super().__init__(message)
        self.node_errors = dict(node_errors)


class RunFailed(GlitchTrainError):
    """A node of the workflow raised an error."""

    def __init__(self, message: str, failure: Failed) -> None:
        """Keep the event beside the sentence.

        Args:
            message: One sentence with the node's own words.
            failure: The event.
        """
        super().__init__(message)
        self.failure = failure


class RunInterrupted(GlitchTrainError):
    """The workflow was stopped before its end."""


def rejection(graph: Graph, answer: Mapping[str, Any]) -> PromptRejected:
    """Return the error for a workflow that the host did not accept.

    Args:
        graph: The workflow.
        answer: The host's answer, with `error` and `node_errors`.
    """
    node_errors: Mapping[str, Any] = answer.get("node_errors") or {}
    problems = [
        f"{node_name(graph, node)}, {_problem(error)}"
        for node, entry in node_errors.items()
        for error in entry.get("errors", ())
    ]
    if not problems:
        error = answer.get("error") or {}
        problems = [_words(error) if isinstance(error, Mapping) else str(error)]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    text = f"ComfyUI does not accept the workflow: {problems[0].rstrip('.')}{more}."
    return PromptRejected(text, node_errors)


def node_name(graph: Graph, node: str) -> str:
    """Return how to speak of a node: its id, and its title or class.

    Args:
        graph: The workflow it may be in.
        node: Its id.
    """
    entry = graph.get(node, {})
    title = (entry.get("_meta") or {}).get("title") or entry.get("class_type")
    return f'node {node} "{title}"' if title else f"node {node}"


def _problem(error: Mapping[str, Any]) -> str:
    """Return `input NAME: what is wrong with it`, from one entry of the host's list."""
    name = (error.get("extra_info") or {}).get("input_name")
    return f"input {name}: {_words(error, name)}" if name else _words(error)


def _words(error: Mapping[str, Any], name: str | None = None) -> str:
    """Return the host's message and details, without what would be said twice."""
    message = str(error.get("message", "no reason given")).strip().rstrip(".")
    details = str(error.get("details") or "").strip().rstrip(".")
    if name is not None and details.startswith(name):
        details = details.removeprefix(name).lstrip(":, -")
    message = message[:1].lower() + message[1:]
    return f"{message} ({details})" if details else message
