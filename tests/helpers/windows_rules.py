"""Windows' rules, applied on Linux: what fails there fails here.

Names are pages of learn.microsoft.com unless another place is given. Held files and names are asked
of Python's audit events ("Audit events table" in Python's documentation), which every way to open,
rename or remove a file raises, whoever calls it; what C++ and Rust libraries do by themselves is
not seen.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import functools
import importlib
import io
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

fcntl = importlib.import_module("fcntl") if sys.platform == "linux" else None

RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"]
)
"""Not to be used as a file's name, nor followed by any ending. Source: "Naming Files, Paths, and
Namespaces"."""

FORBIDDEN = '<>:"|?*'
"""Source: the same page; a colon begins the name of an alternate stream ("File Streams")."""

LONGEST_FILE, LONGEST_FOLDER = 259, 247
"""MAX_PATH is 260 with the ending NUL, for a folder less the 12 characters of a name in it. Source:
"Maximum Path Length Limitation"."""

MISSING_MODULES = ("resource", "fcntl", "pwd", "grp")
"""Availability: Unix. Source: docs.python.org, "Unix Specific Services"."""

MISSING = (
    (os, ("fork", "killpg", "getpgrp", "getpgid", "setsid", "mkfifo")),
    (signal, ("SIGKILL", "SIGHUP")),  # and SIGALRM, by which pytest-timeout ends a test
)
"""Availability: Unix. Source: docs.python.org, os and signal.

Both are missing for what lies in this repository; other libraries ask ``sys.platform`` which system
it is, and get what they then expect.
"""

_REPOSITORY = Path(__file__).resolve().parents[2]
_OURS = ("glitch_train", "nodes", "tests", "tools")
_STANDARD_LIBRARY = os.path.dirname(os.__file__)

_applied = False


def is_bad_name(name: str) -> bool:
    """Say whether Windows refuses a name, or takes it for another one."""
    stem = name.split(".")[0].rstrip(" ").upper()
    ends = name != name.rstrip(" .") and name.strip(".") != ""
    odd = any(letter in FORBIDDEN or letter < " " for letter in name)
    return stem in RESERVED or ends or odd


@contextlib.contextmanager
def windows_rules(*, longest_file: int | None = None) -> Iterator[None]:
    """Apply the rules within the block.

    Args:
        longest_file: :data:`LONGEST_FILE` for a system that has not enabled long paths; none by
            default, since the folders of tests alone are long.
    """
    global _applied
    if fcntl is None:
        pytest.skip("only Linux' /proc says what a process holds")
    _listen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "__import__", functools.partial(_import, builtins.__import__))
        for place, names in MISSING:
            _take_away(patch, place, names)
        # TerminateProcess, and nothing gentler. Source: docs.python.org, subprocess, Popen.kill.
        patch.setattr(subprocess.Popen, "kill", subprocess.Popen.terminate)
        patch.setattr(os, "fsync", functools.partial(_fsync, os.fsync))
        opener = functools.partial(_open, open)
        patch.setattr(io, "open", opener)
        patch.setattr(builtins, "open", opener)
        _Limit.file = longest_file
        if longest_file is not None:
            patch.setitem(sys.modules, "winreg", registry(long_paths=0))
        before, _applied = _applied, True
        try:
            yield
        finally:
            _applied = before


def registry(*, long_paths: int) -> Any:
    """Return a ``winreg`` whose LongPathsEnabled is 0 or 1.

    Source: "Maximum Path Length Limitation"; docs.python.org, winreg.
    """

    def value(_key: object, name: str) -> tuple[int, int]:
        assert name == "LongPathsEnabled"
        return long_paths, 4  # REG_DWORD

    return types.SimpleNamespace(
        HKEY_LOCAL_MACHINE=0,
        OpenKey=lambda *_: contextlib.nullcontext(),
        QueryValueEx=value,
    )


class _Limit:
    file: int | None = None


def _fsync(fsync: Any, handle: int) -> None:
    """FlushFileBuffers wants a handle with GENERIC_WRITE; ``_commit`` answers EBADF without.

    Source: "FlushFileBuffers function", "_commit", docs.python.org os.fsync.
    """
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    fsync(handle)


def _open(opened: Any, file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
    """Texts without an encoding are in the code page, 1252 in the west. Source: "Code Pages".

    The pack itself always names one, as with Python's ``-X warn_default_encoding`` and its warning
    made an error. Source: docs.python.org, "Opt-in EncodingWarning".
    """
    encoding = rest[1] if len(rest) > 1 else more.get("encoding")
    if "b" not in mode and encoding in (None, "locale"):
        if _is_below(_caller(), "glitch_train", "nodes"):
            raise EncodingWarning(f"{file} is opened as text in the code page.")
        if len(rest) > 1:
            rest = (rest[0], "cp1252", *rest[2:])
        else:
            more["encoding"] = "cp1252"
    return opened(file, mode, *rest, **more)


def _caller() -> str:
    """Return the file of the code that asks the standard library to open something."""
    frame = sys._getframe(2)
    while frame.f_back and os.path.dirname(frame.f_code.co_filename) == _STANDARD_LIBRARY:
        frame = frame.f_back
    return frame.f_code.co_filename


@functools.cache
def _is_below(file: str, *folders: str) -> bool:
    """Say whether code lies in some of the repository's folders; a host reaches it by a link."""
    real = os.path.realpath(file)
    return any(real.startswith(f"{_REPOSITORY / folder}{os.sep}") for folder in folders)


def _import(imported: Any, name: str, scope: Any = None, *rest: Any, **more: Any) -> Any:
    if name in MISSING_MODULES and _is_below((scope or {}).get("__file__", ""), *_OURS):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return imported(name, scope, *rest, **more)


def _take_away(patch: pytest.MonkeyPatch, place: Any, names: tuple[str, ...]) -> None:
    taken = {name: getattr(place, name) for name in names if hasattr(place, name)}

    def kept(name: str) -> Any:  # asked for what a module lacks. Source: PEP 562
        if name not in taken or _is_below(sys._getframe(1).f_code.co_filename, *_OURS):
            raise AttributeError(f"module {place.__name__!r} has no attribute {name!r}")
        return taken[name]

    for name in taken:
        patch.delattr(place, name)
    patch.setattr(place, "__getattr__", kept, raising=False)


@functools.cache
def _listen() -> None:
    sys.addaudithook(_heard)  # for good: it cannot be taken away


def _heard(event: str, given: tuple[Any, ...]) -> None:
    global _applied
    check = _CHECKS.get(event)
    if check is None or not _applied:
        return
    _applied = False  # the check itself opens files
    try:
        check(*given)
    finally:
        _applied = True


def _check_open(path: Any, _mode: Any, flags: int) -> None:
    if isinstance(path, (str, bytes)) and flags & os.O_CREAT:
        _check_new(path)


def _check_mkdir(path: Any, *_: Any) -> None:
    _check_new(path, 12)


def _check_rename(source: Any, target: Any, *_: Any) -> None:
    """A file can be renamed or replaced only when no handle is open without FILE_SHARE_DELETE.

    Python opens without it, and a mapped one cannot be deleted whatever its handle shared. Source:
    "MoveFileExA function", "CreateFileA function", "FILE_DISPOSITION_INFORMATION_EX" (which says
    STATUS_CANNOT_DELETE of a file with a user-mapped section).
    """
    _check_not_held(source)
    _check_not_held(target)
    _check_new(target)


def _check_not_held(path: Any, *_: Any) -> None:
    real = os.path.realpath(os.fsdecode(path))
    if os.path.isfile(real) and real in _held():
        raise PermissionError(errno.EACCES, "The process cannot access the file", real)


def _held() -> set[str]:
    """Return the files that this process has open or mapped."""
    held = set()
    for handle in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            held.add(os.readlink(f"/proc/self/fd/{handle}"))
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        held |= {line.split(None, 5)[5].rstrip("\n") for line in maps if line.count("/")}
    return held


def _check_new(path: Any, room: int = 0) -> None:
    """Refuse a name that cannot be made.

    A name that differs only in case is another file here and the same one there ("Naming Files,
    Paths, and Namespaces": do not assume case sensitivity): what writes both loses one.
    """
    whole = Path(os.path.abspath(os.fsdecode(path)))
    if str(whole).startswith(("/dev/", "/proc/")):
        return
    if is_bad_name(whole.name):
        raise OSError(errno.EINVAL, "The filename, directory name, or volume label syntax is "
                      "incorrect", str(whole))  # fmt: skip
    if _Limit.file is not None and len(str(whole)) > _Limit.file - room:
        raise FileNotFoundError(errno.ENOENT, "The filename or extension is too long", str(whole))
    with contextlib.suppress(OSError):
        for name in os.listdir(whole.parent):
            if name != whole.name and name.casefold() == whole.name.casefold():
                raise AssertionError(f"{whole} is the file {name} on Windows.")


def _check_symlink(*_: Any) -> None:
    """Source: docs.python.org, os.symlink: needs the privilege or developer mode."""
    raise OSError(errno.EPERM, "A required privilege is not held by the client")


_CHECKS = {
    "open": _check_open,
    "os.mkdir": _check_mkdir,
    "os.rename": _check_rename,
    "os.remove": _check_not_held,
    "os.symlink": _check_symlink,
}
