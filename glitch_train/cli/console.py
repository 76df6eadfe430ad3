"""What is printed on a console that lacks characters, as Windows' code pages 437 and 1252 do."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import io
import json
import os
import sys
from collections.abc import Iterator

_PLAIN = {
    "→": "->",
    "←": "<-",
    "×": "x",
    "·": "-",
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "±": "+-",
    "¦": "|",
    "\u00a0": " ",
}
"""What stands for a character of ours that the console lacks; others are escaped."""

_HANDLER = "glitch_train.plain"

_STDOUT, _STDERR = 1, 2
"""Descriptors, as C and processes started here know them."""


def let_consoles_print_all() -> None:
    """Have stdout and stderr write what they have no character for in others, and never raise.

    One that was closed from the start, as a service's may be, takes everything and keeps nothing.
    """
    codecs.register_error(_HANDLER, _in_others)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


@contextlib.contextmanager
def stdout_kept() -> Iterator[None]:
    """Keep stdout for the result: what libraries print meanwhile, in C too, goes to stderr."""
    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        with contextlib.suppress(OSError):  # closed from the start
            kept = os.dup(_STDOUT)
            stack.callback(os.close, kept)
            os.dup2(_STDERR, _STDOUT)
            stack.callback(os.dup2, kept, _STDOUT)
            stack.callback(_flush_c)
        yield


def _flush_c() -> None:
    """Have C's own buffer written out where it belongs, which it is not before it is full."""
    with contextlib.suppress(OSError, TypeError, AttributeError):  # Windows: no such library
        ctypes.CDLL(None).fflush(None)


def json_for_stdout(values: object) -> str:
    """Return JSON, with escapes where stdout is no UTF-8: its reader gets every character."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    is_utf_8 = codecs.lookup(encoding).name == "utf-8"
    return json.dumps(values, indent=2, ensure_ascii=not is_utf_8)


def _in_others(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(one) or _escaped(one) for one in lacking), error.end


def _escaped(letter: str) -> str:
    return letter.encode("ascii", errors="backslashreplace").decode("ascii")
