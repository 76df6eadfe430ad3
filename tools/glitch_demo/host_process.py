"""Runs ComfyUI's main.py in a process that ends when the one that started it does.

    python host_process.py /path/to/main.py ARGUMENTS

A process that is killed cannot stop what it started. But it holds the other end of this one's
standard input, and the system closes that end with it, on every platform. Imports nothing but the
standard library: ComfyUI's Python need not have this package.
"""

import contextlib
import ctypes
import gc
import os
import runpy
import signal
import sys
import threading


def end_with_starter() -> None:
    """Watch standard input, and end this process and its children when it is closed.

    ComfyUI and what it starts get an empty standard input instead.
    """
    watched = os.dup(0)  # not inherited by child processes
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_at_close, args=(watched,), daemon=True).start()


def _end_at_close(watched: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(watched, 1):
            pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():  # its own session, see `Host.start`
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def give_back_after_collection() -> None:
    """Return freed memory to the system after each full search for garbage, as after a prompt.

    glibc alone keeps what was freed below what is in use: gigabytes of a model that was let go.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # no glibc
        return

    def give_back(phase: str, collection: dict[str, int]) -> None:
        if phase == "stop" and collection["generation"] == 2:
            trim(0)

    gc.callbacks.append(give_back)


if __name__ == "__main__":
    end_with_starter()
    give_back_after_collection()
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
