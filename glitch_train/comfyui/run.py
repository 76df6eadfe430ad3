"""One workflow from the queue to its end on a running ComfyUI, stopped by Ctrl-C without loss."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn

from ..errors import GlitchTrainError
from .client import ComfyClient
from .errors import Graph, PromptRejected, RunInterrupted, run_failed, with_nearest_choice
from .events import Cached, Event, Executed, Failed, Interrupted

Listener = Callable[[Event], None]
_ENDS = ("SIGTERM", "SIGBREAK")


@dataclasses.dataclass
class WorkflowRun:
    """What became of a workflow.

    Attributes:
        prompt_id: the host's name for it.
        outputs: node id to what the node showed.
        cached: nodes whose results the host had already.
        error: why it did not come to its end, in the node's own words; None when it did.
        interrupted: whether Ctrl-C here stopped it.
    """

    prompt_id: str
    outputs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    cached: tuple[str, ...] = ()
    error: GlitchTrainError | None = None
    interrupted: bool = False


def run_workflow(
    client: ComfyClient,
    graph: Graph,
    on_event: Listener,
    *,
    on_stop: Callable[[], None] = lambda: None,
    stop_wait_s: float = float("inf"),
    object_info: Mapping[str, Any] | None = None,
) -> WorkflowRun:
    """Queue a workflow and follow it to its end.

    Ctrl-C stops this workflow on the host, and no other, and waits until what it has is saved;
    a second one leaves at once.

    Args:
        client: of the host.
        graph: in API format.
        on_event: called with every event as it comes.
        on_stop: called when Ctrl-C was pressed, before the wait.
        stop_wait_s: how long to wait for the host then, in seconds.
        object_info: the host's description of its nodes, for a better sentence on a wrong name.

    Raises:
        PromptRejected: the host does not accept the workflow.
        ServerLost: the host went away.
    """
    try:
        run = WorkflowRun(client.queue(graph))
    except PromptRejected as error:
        raise with_nearest_choice(error, graph, object_info or {}) from None
    try:
        with contextlib.closing(client.events(run.prompt_id)) as events:
            for event in events:
                _take(run, graph, event)
                on_event(event)
    except KeyboardInterrupt:
        on_stop()
        client.interrupt(run.prompt_id)
        _wait_for_end(client, run, graph, stop_wait_s)
        run.interrupted = True
    return run


def _wait_for_end(client: ComfyClient, run: WorkflowRun, graph: Graph, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while client.is_queued(run.prompt_id) and time.monotonic() < deadline:
        time.sleep(0.2)
    if not client.is_queued(run.prompt_id):  # the host's record has the outputs now
        for event in client.events(run.prompt_id):
            _take(run, graph, event)


def _take(run: WorkflowRun, graph: Graph, event: Event) -> None:
    """Note an event that changes what became of the run."""
    match event:
        case Cached(nodes):
            run.cached = nodes
        case Executed(node, output):
            run.outputs[node] = output
        case Failed():
            run.error = run_failed(graph, event)
        case Interrupted():
            run.error = RunInterrupted("The workflow was interrupted on the host before its end.")


@contextlib.contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Let Ctrl-C, and a request to end, wait for the end of the block.

    It would leave files that nobody counts, and packages that are imported by half.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    pressed: list[int] = []
    with _signals_to(lambda number, _: pressed.append(number), "SIGINT", *_ENDS):
        yield
    if pressed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def terminate_as_ctrl_c() -> Iterator[None]:
    """Treat a request to end as Ctrl-C inside the block: the host is told, part files removed.

    It comes as SIGTERM, on Windows as SIGBREAK.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    with _signals_to(interrupt, *_ENDS):
        yield


@contextlib.contextmanager
def _signals_to(take: Callable[[int, FrameType | None], object], *names: str) -> Iterator[None]:
    """Let signals, as far as the system has them, reach a function inside the block."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, take) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
