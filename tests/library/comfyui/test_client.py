"""The API client where no host is needed; tests/host/test_client.py has the rest."""

import json
import socket
import struct
from typing import Any

import pytest

from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import ServerUnreachable, node_name, rejection
from glitch_train.comfyui.events import (
    Event,
    EventReader,
    Executed,
    Failed,
    Finished,
    Preview,
    Progress,
    ProgressText,
    Started,
)
from glitch_train.errors import GlitchTrainError

OURS, THEIRS = "ours", "theirs"


def _text(name: str, prompt_id: str = OURS, **data: Any) -> str:
    return json.dumps({"type": name, "data": {"prompt_id": prompt_id, **data}})


def _read(*messages: str | bytes) -> list[Event]:
    reader = EventReader(OURS)
    return [event for message in messages for event in reader.read(message)]


def test_nothing_answers() -> None:
    """Catches a bare socket error, or one that does not say where and what to do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    wanted = rf"No ComfyUI answers at http://{address} \(Connection refused\): start it"
    with pytest.raises(ServerUnreachable, match=wanted):
        ComfyClient(address).system_stats()
    with pytest.raises(ServerUnreachable, match=wanted):
        ComfyClient(address).queue({})


def test_only_http_is_spoken() -> None:
    """Catches an address that reads local files."""
    with pytest.raises(GlitchTrainError, match="host:port or an http or https URL, got 'file:"):
        ComfyClient("file:///etc/passwd")


@pytest.mark.parametrize("address", ["[::1", "127.0.0.1:abc", "", "a:1\nb", "http://", "h:99999"])
def test_an_address_that_is_none(address: str) -> None:
    """Catches a traceback, or a sentence over two lines."""
    with pytest.raises(GlitchTrainError, match="must be host:port") as caught:
        ComfyClient(address)
    assert "\n" not in str(caught.value)


def test_messages_of_other_workflows_are_left_out() -> None:
    """Catches another client's interrupt, which the host tells everyone, taken for ours."""
    reader = EventReader(OURS)
    messages = [
        json.dumps({"type": "status", "data": {"status": {}}}),
        _text("execution_interrupted", THEIRS, node_id="1"),
        _text("executed", THEIRS, node="1", output={}),
    ]
    assert [event for message in messages for event in reader.read(message)] == []
    assert not reader.is_over


def test_progress_is_told_once() -> None:
    """Catches every step counted twice: the host tells it in two kinds of message."""
    state = {"7": {"value": 1, "max": 4, "state": "running", "display_node_id": "3"}}
    step = _text("progress", node="7", value=1, max=4)
    events = _read(_text("progress_state", nodes=state), step, _text("progress_state", nodes=state))
    assert events == [Progress("3", 1, 4)]
    assert _read(step, step) == [Progress("7", 1, 4)], "an older host has only this kind"


def test_a_finished_node_makes_no_progress() -> None:
    """Catches a run that stopped early shown as complete."""
    state = {"3": {"value": 100, "max": 100, "state": "finished"}}
    assert _read(_text("progress_state", nodes=state)) == []


def test_previews_that_name_their_node() -> None:
    """Catches a wrong offset in the newer binary format, and pictures of other workflows."""
    events = []
    for prompt_id in (THEIRS, OURS):
        metadata = {"prompt_id": prompt_id, "display_node_id": "3", "image_type": "image/png"}
        head = json.dumps(metadata).encode()
        message = struct.pack(">II", 4, len(head)) + head + b"\x89PNG picture"
        events += _read(message)
    assert events == [Preview("3", b"\x89PNG picture", "PNG")]


def test_previews_and_text_without_a_workflow() -> None:
    """Catches pictures and lines shown before our workflow runs, or after its end."""
    preview = struct.pack(">II", 1, 2) + b"picture"
    text = struct.pack(">II", 3, 2) + b"42" + "step 1/9 · loss 0.1".encode()
    start, end = _text("execution_start"), _text("execution_success")
    assert _read(preview, text, start, preview, text, end, preview, text) == [
        Started(),
        Preview(None, b"picture", "PNG"),
        ProgressText("42", "step 1/9 · loss 0.1"),
        Finished(),
    ]


def test_a_node_without_output() -> None:
    """Catches a crash on the null that the host sends for a cached node without output."""
    assert _read(_text("executed", node="1", display_node="9", output=None)) == [Executed("9", {})]


def test_a_failure_keeps_the_nodes_words() -> None:
    """Catches a message with the host's trailing tips line, or without its parts."""
    message = _text(
        "execution_error",
        node_id="5",
        node_type="GlitchLoraTrainer",
        exception_message="network_dim must be 1 to 512, got 0.\n",
        exception_type="ValueError",
    )
    words = "network_dim must be 1 to 512, got 0."
    assert _read(message) == [Failed(words, "5", "GlitchLoraTrainer", "ValueError")]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        pytest.param(
            {
                "message": "Value not in list",
                "details": "folder: 'x' not in ['a']",
                "extra_info": {"input_name": "folder"},
            },
            "node 2 \"Loader\", input folder: value not in list ('x' not in ['a']).",
            id="a value",
        ),
        pytest.param(
            {
                "message": "Custom validation failed for node",
                "details": "steps - steps must be 1 or more.",
                "extra_info": {"input_name": "steps"},
            },
            'node 2 "Loader", input steps: custom validation failed for node '
            "(steps must be 1 or more).",
            id="the node's own check",
        ),
        pytest.param(
            {"message": "Exception when validating node", "details": "'99'"},
            "node 2 \"Loader\", exception when validating node ('99').",
            id="no input",
        ),
    ],
)
def test_the_sentence_of_a_rejection(error: dict[str, Any], sentence: str) -> None:
    """Catches a rejection that names no node or input, or says one thing twice."""
    answer = {"error": {"message": "x"}, "node_errors": {"2": {"errors": [error]}}}
    graph = {"2": {"class_type": "Loader", "inputs": {}}}
    text = str(rejection(graph, answer))
    assert text == f"ComfyUI does not accept the workflow: {sentence}"


def test_a_sentence_is_told_once_for_all_inputs_it_blames() -> None:
    """Catches "(and 5 more)" after the one thing that is wrong."""
    errors = [
        {
            "message": "Custom validation failed for node",
            "details": f"{name} - there is no folder x",
            "extra_info": {"input_name": name},
        }
        for name in ("folder", "framing_mix", "corruption")
    ]
    graph = {"2": {"class_type": "Loader", "inputs": {}}}
    text = str(rejection(graph, {"node_errors": {"2": {"errors": errors}}}))
    assert "input folder:" in text
    assert "more" not in text


def test_the_name_of_a_node() -> None:
    """Catches a node inside a subgraph, which the graph does not list, breaking the message."""
    graph = {"1": {"class_type": "KSampler", "_meta": {"title": "Draw"}}}
    assert node_name(graph, "1") == 'node 1 "Draw"'
    assert node_name(graph, "1:2") == "node 1:2"
