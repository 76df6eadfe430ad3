"""A client of ComfyUI's HTTP and WebSocket API, for scripts that run workflows.

with ComfyClient("127.0.0.1:8188") as client:
    outputs = client.run(graph, on_event=show)
"""

import contextlib
import time
import urllib.parse
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from . import jobs
from .errors import (
    Graph,
    RequestRefused,
    RunInterrupted,
    ServerBusy,
    ServerLost,
    ServerUnreachable,
    rejection,
    run_failed,
)
from .events import TERMINAL_EVENTS, Event, EventReader, Executed, Failed, Finished, Interrupted
from .http import ComfyHttp
from .node_info import describes_nodes
from .socket import close_socket, connect

if TYPE_CHECKING:
    from websocket import WebSocket

_POLL_S = 1.0


class ComfyClient:
    """Queues workflows on one ComfyUI and follows them.

    Every queued workflow has a connection of its own, opened before it is queued: no message is
    missed, and none of another workflow is mistaken for its own.
    """

    def __init__(self, address: str = "127.0.0.1:8188", *, timeout_s: float = 30.0) -> None:
        """Remember the address; nothing is sent yet.

        Args:
            address: `host:port`, or a URL with http or https.
            timeout_s: How long one answer may take, in seconds.
        """
        self._http = ComfyHttp(address, timeout_s)
        self._sockets: dict[str, WebSocket] = {}

    def __enter__(self) -> "ComfyClient":
        """Return the client itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connections."""
        self.close()

    @property
    def url(self) -> str:
        """Where the host is, without a slash at the end."""
        return self._http.url

    def close(self) -> None:
        """Close the connections of workflows that were queued and not followed."""
        while self._sockets:
            close_socket(self._sockets.popitem()[1])

    def system_stats(self) -> dict[str, Any]:
        """Return the host's versions and devices."""
        return self._http.get_json("/system_stats")

    def object_info(self) -> dict[str, Any]:
        """Return the description of every node, by class name.

        Raises:
            ServerUnreachable: The answer is another object, so whatever answers is no ComfyUI.
        """
        found = self._http.get_json("/object_info")
        if not describes_nodes(found):
            raise self._http.no_comfyui()
        return found

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """Return the record of a workflow that has ended, or None when it has not.

        Args:
            prompt_id: As `queue` returned it.
        """
        return jobs.history(self._http, prompt_id)

    def is_queued(self, prompt_id: str | None = None) -> bool:
        """Return whether a workflow waits or runs.

        Args:
            prompt_id: As `queue` returned it; None for any workflow at all.
        """
        return jobs.is_queued(self._http, prompt_id)

    def download(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """Return the content of a file that the host made, as its `executed` events name it.

        Args:
            filename: Name without folders.
            subfolder: Folder under the one that `type` stands for.
            type: "output", "temp" or "input".

        Raises:
            RequestRefused: There is no such file.
        """
        query = {"filename": filename, "subfolder": subfolder, "type": type}
        return self._http.request(f"/view?{urllib.parse.urlencode(query)}")

    def queue(self, graph: Graph, *, follow: bool = True) -> str:
        """Queue a workflow.

        Args:
            graph: The workflow in API format.
            follow: Keep a connection open, so that `events` can tell everything.

        Returns:
            The id that the other methods take.

        Raises:
            PromptRejected: The host does not accept it; the message says which input of which node.
            ServerUnreachable: Nothing answers.
        """
        client_id = uuid.uuid4().hex
        socket = connect(self._http, client_id) if follow else None
        try:
            prompt_id = self._post(graph, client_id)
        except BaseException:
            close_socket(socket)
            raise
        if socket is not None:
            self._sockets[prompt_id] = socket
        return prompt_id

    def _post(self, graph: Graph, client_id: str) -> str:
        try:
            body = self._http.post_json("/prompt", {"prompt": graph, "client_id": client_id})
        except RequestRefused as error:
            if error.status == 400:
                raise rejection(graph, self._http.read_json(error.body)) from None
            raise
        answer = self._http.read_json(body)
        if answer.get("node_errors"):  # the host would run the rest and call it a success
            self.interrupt(answer["prompt_id"])
            raise rejection(graph, answer)
        return str(answer["prompt_id"])

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Stop a workflow, or whatever runs now.

        Args:
            prompt_id: The workflow to stop, also when it still waits; None for the running one.
        """
        if prompt_id is None:
            self._http.post_json("/interrupt", {})
            return
        jobs.cancel(self._http, prompt_id)

    def run(
        self, graph: Graph, on_event: Callable[[Event], None] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Queue a workflow and wait for its end.

        Args:
            graph: The workflow in API format.
            on_event: Called with every event as it comes.

        Returns:
            What each node showed, by node id.

        Raises:
            PromptRejected: The host does not accept the workflow.
            RunFailed: A node raised an error; the message holds its own words.
            RunInterrupted: Someone stopped it.
            ServerLost: The host went away.
        """
        outputs: dict[str, dict[str, Any]] = {}
        with contextlib.closing(self.events(self.queue(graph))) as events:
            for event in events:
                if on_event is not None:
                    on_event(event)
                match event:
                    case Executed(node, output):
                        outputs[node] = output
                    case Failed():
                        raise run_failed(graph, event)
                    case Interrupted():
                        raise RunInterrupted("The workflow was interrupted before its end.")
        return outputs

    def events(self, prompt_id: str) -> Generator[Event, None, None]:
        """Yield what happens to a queued workflow, up to its end.

        The last event is `Finished`, `Failed` or `Interrupted`. Where there is no connection, or it
        broke while the host lives on, only outputs and the end are told, some perhaps again.

        Args:
            prompt_id: As `queue` returned it.

        Raises:
            ServerLost: The host went away.
        """
        reader = EventReader(prompt_id)
        socket = self._sockets.pop(prompt_id, None)
        try:
            if socket is not None:
                yield from self._follow(socket, reader)
            while not reader.is_over:
                yield from self._look_up(reader)
                if not reader.is_over:
                    time.sleep(_POLL_S)
        except ServerUnreachable as error:
            raise ServerLost(
                f"ComfyUI at {self.url} went away while the workflow was running: read the end of "
                "its log, start it again, and queue the workflow again."
            ) from error
        finally:
            close_socket(socket)

    def _follow(self, socket: "WebSocket", reader: EventReader) -> Iterator[Event]:
        """Yield what comes over the connection, until the end or until the connection breaks."""
        from websocket import WebSocketException, WebSocketTimeoutException

        while not reader.is_over:
            try:
                message = socket.recv()
            except WebSocketTimeoutException:
                yield from self._look_up(reader)
                continue
            except (WebSocketException, OSError):
                return
            if not message:  # the library's word for an orderly close
                return
            yield from reader.read(message)

    def _look_up(self, reader: EventReader) -> Iterator[Event]:
        """Yield the end of a workflow, if it has come unheard."""
        try:
            ending = jobs.ending(self._http, reader.prompt_id)
        except ServerBusy:
            return
        if ending is None:
            return
        if not ending.is_known:
            reader.is_over = True
            yield Interrupted()
            return
        for node, output in ending.outputs.items():
            yield Executed(node, output)
        for name, data in ending.messages:
            yield from (e for e in reader.read_named(name, data) if isinstance(e, TERMINAL_EVENTS))
        if not reader.is_over:  # a host that keeps no messages
            reader.is_over = True
            yield (
                Failed("ComfyUI's log has the reason", "unknown")
                if ending.has_failed
                else Finished()
            )
