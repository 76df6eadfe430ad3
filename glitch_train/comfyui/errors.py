"""What can go wrong between a script and ComfyUI, each as one sentence."""

from collections.abc import Mapping
from typing import Any

from ..errors import GlitchTrainError
from ..settings import nearest
from .events import Failed
from .node_info import described_inputs

Graph = Mapping[str, Mapping[str, Any]]
"""A workflow in API format: node id to `{"class_type": …, "inputs": {…}}`."""

_OFFERED = 5  # names in a sentence; a longer list is not read


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
    # A node that checks several inputs at once blames each of them with one sentence.
    told: dict[tuple[str, str], str] = {}
    for node, entry in node_errors.items():
        for error in entry.get("errors", ()):
            name = (error.get("extra_info") or {}).get("input_name")
            words = _words(error, name)
            where = f"input {name}: " if name else ""
            told.setdefault((node, words), f"{node_name(graph, node)}, {where}{words}")
    problems = list(told.values())
    if not problems:
        problems = [_words_of_all(graph, answer.get("error") or {})]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    text = f"ComfyUI does not accept the workflow: {problems[0].rstrip('.')}{more}."
    return PromptRejected(text, node_errors)


def run_failed(graph: Graph, failure: Failed) -> RunFailed:
    """Return the error for a node that failed while the workflow ran.

    Args:
        graph: The workflow.
        failure: The host's message.
    """
    name = node_name(graph, failure.node)
    return RunFailed(f"{name[:1].upper()}{name[1:]} failed: {failure.message}", failure)


def with_nearest_choice(
    error: PromptRejected, graph: Graph, object_info: Mapping[str, Any]
) -> PromptRejected:
    """Return a rejection that offers names, where a file or word is not one that the host has.

    Args:
        error: As :func:`rejection` made it.
        graph: The workflow.
        object_info: The host's description of its nodes, with what it has.

    Returns:
        The same error where the reason is another.
    """
    for node, entry in error.node_errors.items():
        for problem in entry.get("errors", ()):
            if problem.get("type") == "value_not_in_list":
                about = problem.get("extra_info") or {}
                name, wanted = about.get("input_name"), str(about.get("received_value"))
                choices = _choices(object_info, str(entry.get("class_type")), str(name))
                text = f"{node_name(graph, node)}, input {name}: this ComfyUI has no {wanted!r}"
                text = f"{text}{_offer(wanted, choices)}"
                return PromptRejected(f"{text[:1].upper()}{text[1:]}", error.node_errors)
    return error


def _choices(object_info: Mapping[str, Any], class_type: str, name: str) -> list[str]:
    """Return what a combo of a node offers."""
    found = described_inputs(object_info, class_type).get(name)
    return [str(option) for option in found.options] if found else []


def _offer(wanted: str, choices: list[str]) -> str:
    if not choices:
        return ", and nothing else to choose: put the file where ComfyUI looks for it."
    more = f" and {len(choices) - _OFFERED} more" if len(choices) > _OFFERED else ""
    listed = f"; it has {', '.join(map(repr, choices[:_OFFERED]))}{more}."
    return nearest(wanted, choices, listed)


def node_name(graph: Graph, node: str) -> str:
    """Return how to speak of a node: its id, and its title or class.

    Args:
        graph: The workflow it may be in.
        node: Its id.
    """
    entry = graph.get(node, {})
    title = (entry.get("_meta") or {}).get("title") or entry.get("class_type")
    return f'node {node} "{title}"' if title else f"node {node}"


def _words_of_all(graph: Graph, error: Any) -> str:
    """Return what is wrong with a workflow as a whole."""
    if not isinstance(error, Mapping):
        return str(error)
    about = error.get("extra_info") or {}
    if error.get("type") == "missing_node_type" and about.get("class_type"):
        # Newer hosts speak of its title alone, which says nothing of whose node it is.
        node = node_name(graph, str(about.get("node_id")))
        return f"{node}: there is no node {about['class_type']}; install the pack that it is of"
    return _words(error)


def _words(error: Mapping[str, Any], name: str | None = None) -> str:
    """Return the host's message and details, without what would be said twice."""
    message = str(error.get("message", "no reason given")).strip().rstrip(".")
    details = str(error.get("details") or "").strip().rstrip(".")
    if name is not None and details.startswith(name):
        details = details.removeprefix(name).lstrip(":, -")
    message = message[:1].lower() + message[1:]
    return f"{message} ({details})" if details else message
