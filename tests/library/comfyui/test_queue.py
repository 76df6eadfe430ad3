"""``glitch_train queue`` where no host is needed; tests/host/test_queue.py has the rest."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from glitch_train.cli.command import main
from glitch_train.comfyui.bar import WorkflowBar
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import ServerUnreachable, rejection, with_nearest_choice
from glitch_train.comfyui.events import Event, Executing, Progress, ProgressText
from glitch_train.comfyui.fetch import fetch_outputs

GRAPH = {"3": {"class_type": "GlitchLoraTrainer", "inputs": {"steps": 9}, "_meta": {"title": "T"}}}


class _NoComfyUI(BaseHTTPRequestHandler):
    """Something else that answers."""

    content = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Answers(BaseHTTPRequestHandler):
    """A ComfyUI that has files and nodes and runs nothing."""

    posted: list[str] = []

    def do_GET(self) -> None:
        content = b"{}" if self.path.startswith("/object_info") else self.path.encode()
        self.send_response(404 if "gone" in self.path else 200)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.posted.append(self.path)
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def address() -> Iterator[str]:
    """Where the server is."""
    _Answers.posted.clear()
    with _served(_Answers) as address:
        yield address


def _nobodys_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "a.json is missing: give the path"),
        ('{"nodes": [], "links": []}', "must be in API format (File, Export (API)), got the ed"),
        ("{", "is not readable JSON"),
        ("[1]", "is other JSON"),
        ('{"train": {"steps": 3}}', "is other JSON"),
        (json.dumps(GRAPH), "No ComfyUI answers at http://"),
    ],
    ids=["no file", "the editor's", "broken", "a list", "a recipe", "no host"],
)
def test_bad_input_is_one_sentence(
    content: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a traceback or exit code 0, and a folder made for nothing."""
    file = tmp_path / "a.json"
    if content is not None:
        file.write_text(content)
    out = tmp_path / "out"
    assert main(["queue", str(file), "--server", _nobodys_address(), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b'{"a":',
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"",
        pytest.param(b"[" * 10**5, id="deep"),
        b'{"error": "x"}',
    ],
)
def test_something_else_answers(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Catches a traceback on the port of another program."""
    monkeypatch.setattr(_NoComfyUI, "content", content)
    (tmp_path / "a.json").write_text(json.dumps(GRAPH))
    with _served(_NoComfyUI) as address:
        assert main(["queue", str(tmp_path / "a.json"), "--server", address]) == 1
    said = capsys.readouterr().err
    assert said == f"What answers at http://{address} is no ComfyUI: correct the address.\n"


def test_no_socket_where_a_comfyui_should_be(address: str) -> None:
    """Catches a whole web page in the sentence."""
    with ComfyClient(address) as client, pytest.raises(ServerUnreachable) as caught:
        client.queue(GRAPH)
    assert "(Handshake status 200 OK): start it" in str(caught.value)


def test_a_wrong_name_queues_nothing(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a run that trains for hours without the setting that was asked for."""
    file = tmp_path / "a.json"
    file.write_text(json.dumps(GRAPH))
    assert main(["queue", str(file), "--server", address, "--set", "stepz=3"]) == 1
    assert "no input 'stepz' in the workflow; did you mean 'steps'?" in capsys.readouterr().err
    assert _Answers.posted == []


def test_a_character_that_no_file_holds(address: str, tmp_path: Path, capsys) -> None:
    """Catches a traceback over half a character in a workflow, or in the name of a file."""
    text = "half \udcff"
    graph = {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": text}}}
    file = tmp_path / "\udcff.json"
    file.write_text(json.dumps(graph))
    out = tmp_path / "\udcff"
    assert main(["queue", str(file), "--server", address, "--out", str(out)]) == 1
    assert "Handshake status" in capsys.readouterr().err
    assert json.loads((out / "workflow_api.json").read_text("utf-8")) == graph


def test_outputs_come_under_plain_names(address: str, tmp_path: Path) -> None:
    """Catches one file over another, texts left behind, and a lost file that ends it all."""
    graph = {
        "3": GRAPH["3"],
        "4": {"class_type": "GlitchReport", "inputs": {}, "_meta": {"title": "How it / glitched"}},
        "5": {"class_type": "SaveImage", "inputs": {}},
    }
    picture = {"filename": "r.png", "subfolder": "glitch", "type": "output"}
    outputs: dict[str, dict[str, Any]] = {
        "3": {"text": ["/models/loras/a.safetensors", "ended"], "images": [
            {"filename": "r.png", "subfolder": "", "type": "temp"}]},
        "4": {"images": [picture], "text": ["one", "two"]},
        "5": {"images": [{**picture, "subfolder": ""}, {**picture, "filename": "gone.png"}],
              "animated": [False]},
    }  # fmt: skip
    with ComfyClient(address) as client:
        fetched = fetch_outputs(client, graph, outputs, tmp_path)
    names = {
        node: [str(path.relative_to(tmp_path)) for path in paths]
        for node, paths in fetched.files.items()
    }
    assert names == {
        "3": ["previews/r.png", "3_T.txt"],
        "4": ["r.png", "r.md", "r.json", "r.csv", "4_How_it_glitched.txt"],
        "5": ["5_r.png"],
    }
    assert b"subfolder=glitch&type=output" in (tmp_path / "r.csv").read_bytes()
    assert (tmp_path / "4_How_it_glitched.txt").read_text("utf-8") == "one\ntwo\n"
    assert fetched.loras == ["/models/loras/a.safetensors"]
    assert fetched.missing == ["gone.png"]


def test_a_name_that_the_host_does_not_have() -> None:
    """Catches a list of five hundred files, or none, where the nearest name was wanted."""
    graph = {"6": {"class_type": "Loader", "inputs": {}, "_meta": {"title": "Base model"}}}
    problem = {
        "type": "value_not_in_list", "message": "Value not in list", "details": "",
        "extra_info": {"input_name": "ckpt_name", "received_value": "sd15.safetensor"},
    }  # fmt: skip
    answer = {"node_errors": {"6": {"class_type": "Loader", "errors": [problem]}}}

    def said(*names: str) -> str:
        info = {"Loader": {"input": {"required": {"ckpt_name": [list(names), {}]}}}}
        return str(with_nearest_choice(rejection(graph, answer), graph, info))

    start = "Node 6 \"Base model\", input ckpt_name: this ComfyUI has no 'sd15.safetensor'"
    assert said("sd15.safetensors", "xl") == f"{start}; did you mean 'sd15.safetensors'?"
    assert said("xl") == f"{start}; it has 'xl'."
    assert said(*"abcdefg") == f"{start}; it has 'a', 'b', 'c', 'd', 'e' and 2 more."
    assert said().startswith(f"{start}, and nothing else to choose: put the file")


def _shown(monkeypatch: pytest.MonkeyPatch, *events: Event, quiet: bool = False) -> str:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    with WorkflowBar(lambda node, _: (f"node {node}", True), refresh_s=0, quiet=quiet) as bar:
        for event in events:
            bar(event)
    return screen.getvalue()


def test_the_bar_has_title_step_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches yesterday's loss on the next node, a bar without its loss, and noise in log files."""
    text = ProgressText("3", "step 1/9 · loss 0.1234 · 0:10 left")
    events: list[Event] = [Executing("3"), text, Progress("3", 8, 9), Progress("3", 9, 9)]
    events += [Executing("4"), Progress("4", 1, 2)]
    first, second = _shown(monkeypatch, *events).split("node 4", 1)
    assert "node 3 100%" in first
    assert "9/9" in first
    assert "loss 0.1234" in first
    assert "loss" not in second
    assert _shown(monkeypatch, *events, quiet=True) == ""
