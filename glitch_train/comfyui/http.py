"""The HTTP half of ComfyUI's API: requests, answers, and errors that say where."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from ..errors import GlitchTrainError
from ..plain_json import parse_json
from .errors import RequestRefused, ServerBusy, ServerUnreachable

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class ComfyHttp:
    """Sends requests to one ComfyUI."""

    def __init__(self, address: str, timeout_s: float) -> None:
        """Remember the address; nothing is sent yet.

        Args:
            address: `host:port`, or a URL with http or https.
            timeout_s: How long one answer may take, in seconds.

        Raises:
            GlitchTrainError: The address has another scheme.
        """
        url = address if "://" in address else f"http://{address}"
        try:
            parts = urllib.parse.urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            usable = usable and parts.port != 0 and url.isprintable()
        except ValueError:  # a bracket without its partner, a port that is no number
            usable = False
        if not usable:
            raise GlitchTrainError(
                f"ComfyUI's address must be host:port or an http or https URL, got {address!r}."
            )
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        is_local = parts.hostname in _LOOPBACK
        proxies = [urllib.request.ProxyHandler({})] if is_local else []
        self._opener = urllib.request.build_opener(*proxies)

    def get_json(self, path: str) -> dict[str, Any]:
        """Return the JSON object at a path.

        Args:
            path: With the leading slash.
        """
        return self.read_json(self.request(path))

    def read_json(self, body: bytes) -> dict[str, Any]:
        """Return the JSON object of an answer.

        Args:
            body: The answer.

        Raises:
            ServerUnreachable: It is something else, so whatever answers is no ComfyUI.
        """
        try:
            answer = parse_json(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self.no_comfyui()
        return answer

    def post_json(self, path: str, content: Mapping[str, Any]) -> bytes:
        """Send a JSON object and return the answer.

        Args:
            path: With the leading slash.
            content: What to send.
        """
        return self.request(path, json.dumps(content).encode())

    def request(
        self, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> bytes:
        """Send one request and return the answer.

        Args:
            path: With the leading slash.
            body: What to POST; None for a GET.
            content_type: Of the body.

        Raises:
            ServerUnreachable: Nothing answers, or (`ServerBusy`) not in time.
            RequestRefused: The answer is an error.
        """
        headers = {"Content-Type": content_type} if body is not None else {}
        url = self.url + path  # its scheme was checked on construction
        request = urllib.request.Request(url, body, headers)  # noqa: S310
        try:
            with self._opener.open(request, timeout=self.timeout_s) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                text = f"ComfyUI at {self.url} answered {error.code} to {request.get_method()}"
                raise RequestRefused(f"{text} {path}.", error.code, error.read()) from None
        except TimeoutError:
            text = f"ComfyUI at {self.url} took longer than {self.timeout_s:g} s to answer {path}."
            raise ServerBusy(text) from None
        except (OSError, HTTPException, UnicodeError) as error:  # the last of no host's name
            raise self.unreachable(error) from error

    def no_comfyui(self) -> ServerUnreachable:
        """Return the error for an answer that no ComfyUI gives."""
        return ServerUnreachable(f"What answers at {self.url} is no ComfyUI: correct the address.")

    def unreachable(self, error: Exception) -> ServerUnreachable:
        """Return the error that says so.

        Args:
            error: What the connection attempt raised.
        """
        reason = getattr(error, "reason", None) or error
        reason = getattr(reason, "strerror", None) or reason
        reason = str(reason).partition(" -+-+- ")[0]  # websocket-client adds the whole answer
        return ServerUnreachable(
            f"No ComfyUI answers at {self.url} ({reason}): start it, or correct the address."
        )
