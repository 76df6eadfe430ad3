"""The WebSocket half of ComfyUI's API: a connection that tells what a workflow does."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from ..errors import GlitchTrainError
from .http import ComfyHttp

if TYPE_CHECKING:
    from websocket import WebSocket

_SILENCE_S = 5.0  # after this long without a message, ask whether the workflow is still there


def connect(http: ComfyHttp, client_id: str) -> WebSocket:
    """Open a connection on which the host tells one client of its workflows.

    Args:
        http: the host.
        client_id: the name under which the workflow will be queued.

    Raises:
        ServerUnreachable: nothing answers.
        GlitchTrainError: the package websocket-client is missing.
    """
    try:
        import websocket
    except ImportError:
        raise GlitchTrainError(
            "Following a workflow needs websocket-client: pip install websocket-client."
        ) from None
    url = f"ws{http.url.removeprefix('http')}/ws?clientId={client_id}"
    try:
        socket = websocket.create_connection(url, timeout=http.timeout_s)
    except (websocket.WebSocketException, OSError) as error:
        raise http.unreachable(error) from error
    # Asks for previews that name their node; a host that does not know this ignores it.
    flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
    socket.send(json.dumps(flags))
    socket.settimeout(_SILENCE_S)
    return socket


def close_socket(socket: WebSocket | None) -> None:
    """Close a connection, whatever state it is in."""
    if socket is not None:
        with contextlib.suppress(Exception):
            socket.close(timeout=1)
