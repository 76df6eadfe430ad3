"""How a workflow ended, and stopping one, at hosts with jobs, with half of them, and without."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.events import Executed, Failed, Finished, Interrupted

SHOWN = {"9": {"images": [{"filename": "a.png"}]}}
STATUS = {"status_str": "success", "messages": [["execution_success", {"prompt_id": "done"}]]}
WITHOUT_MESSAGES = {"status_str": "error", "messages": []}
NO_SUCH_JOB = {"error": "Job not found"}
JOBS: dict[str, Any] = {
    "done": {"status": "completed", "outputs": SHOWN, "execution_status": STATUS},
    "failed": {"status": "failed", "outputs": {}, "execution_status": WITHOUT_MESSAGES},
    "runs": {"status": "in_progress"},
}
HISTORY: dict[str, Any] = {
    "done": {"outputs": SHOWN, "status": STATUS},
    "failed": {"outputs": {}, "status": WITHOUT_MESSAGES},
}
QUEUE = {"queue_running": [[0, "runs", {}, {}, []]], "queue_pending": []}


class _Host(BaseHTTPRequestHandler):
    """A ComfyUI of August 2026; those below lack what older ones do."""

    posted: list[str] = []
    has_jobs = True
    has_cancel = True

    def do_GET(self) -> None:
        _, *parts = self.path.split("/")
        if parts[:2] == ["api", "jobs"] and self.has_jobs:
            job = JOBS.get(parts[2])
            return self._answer(job or NO_SUCH_JOB, 200 if job else 404)
        if parts[0] == "history":
            return self._answer({k: v for k, v in HISTORY.items() if k == parts[1]})
        return self._answer(QUEUE) if parts == ["queue"] else self._answer(None, 404)

    def do_POST(self) -> None:
        self.posted.append(self.path)
        cancels = self.path.startswith("/api/jobs")
        missing = cancels and not (self.has_jobs and self.has_cancel)
        self._answer({}, (405 if self.has_jobs else 404) if missing else 200)

    def _answer(self, content: Any, status: int = 200) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode() if content is not None else b"Not Found")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _WithoutCancel(_Host):
    has_cancel = False


class _WithoutJobs(_Host):
    has_jobs = False


@pytest.fixture(params=[_Host, _WithoutCancel, _WithoutJobs])
def kind(request: pytest.FixtureRequest) -> type[_Host]:
    """Each kind of host in turn."""
    return request.param


@pytest.fixture
def client(kind: type[_Host]) -> Iterator[ComfyClient]:
    """A client of that host."""
    _Host.posted.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with ComfyClient(f"127.0.0.1:{server.server_port}") as client:
        yield client
    server.shutdown()
    server.server_close()


def test_every_end_is_told(client: ComfyClient) -> None:
    """Catches outputs lost, a failure told as success, a wait without end for what is gone."""
    assert list(client.events("done")) == [Executed("9", SHOWN["9"]), Finished()]
    assert [type(event) for event in client.events("failed")] == [Failed]
    assert list(client.events("gone")) == [Interrupted()]


def test_what_runs_has_no_end_yet(client: ComfyClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a workflow that is given up while it runs."""

    def waited(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("glitch_train.comfyui.client.time.sleep", waited)
    with pytest.raises(KeyboardInterrupt):
        list(client.events("runs"))


def test_it_is_stopped_in_the_way_that_the_host_knows(
    client: ComfyClient, kind: type[_Host]
) -> None:
    """Catches a workflow that runs on where a host has jobs and no way to cancel one."""
    client.interrupt("runs")
    by_hand = [] if kind is _Host else ["/queue", "/interrupt"]
    assert _Host.posted == ["/api/jobs/runs/cancel", *by_hand]
