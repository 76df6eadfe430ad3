"""Names and paths that some system does not take, found before anything is written."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
from pathlib import Path
from typing import Any

from .errors import DiskError

_LONGEST_NAME = 220
"""Of 255 that file systems take, less an ending, a number, and what other programs add."""

_PART_LENGTH = 76
"""A separator and the name under which :func:`.files.atomic_path` writes first."""

# With any ending, and whatever the case. Source: learn.microsoft.com, "Naming Files, Paths, and
# Namespaces".
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def name_fault(name: str) -> str:
    """Return why Windows does not take a name of a file or folder, or nothing where it does.

    What is made on one system is used on another, so a name is asked on all of them.
    """
    if _DEVICE.match(name):
        return "is the name of a device on Windows, with any ending"
    if name.endswith((" ", ".")):
        return "ends in a space or a dot, which Windows drops"
    if len(name.encode("utf-8", errors="replace")) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} bytes"
    if re.search(r"[\ud800-\udfff]", name):
        return "has a half of a character, which no file system takes"
    if re.search(r'[<>:"|?*\x00-\x1f]', name):
        return 'has one of < > : " | ? *, which Windows does not allow'
    return ""


def longest_path() -> int | None:
    """Return how many characters a file's path may have here; None where only names are limited.

    Windows takes 259 until a person enables long paths; Python says of itself that it knows them.

    Source: learn.microsoft.com, "Maximum Path Length Limitation".
    """
    try:
        winreg: Any = importlib.import_module("winreg")
    except ImportError:  # another system
        return None
    place = r"SYSTEM\CurrentControlSet\Control\FileSystem"
    with (
        contextlib.suppress(OSError),
        winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as settings,
    ):
        if winreg.QueryValueEx(settings, "LongPathsEnabled")[0] == 1:
            return None
    return 259


def check_path_lengths(*paths: Path) -> None:
    """Refuse, before any work, what Windows could not write.

    Args:
        paths: the longest files that will be written, however far their folders exist.

    Raises:
        DiskError: names the path and what to do.
    """
    limit = longest_path()
    for path in paths:
        whole = os.path.abspath(path)
        written = max(len(whole), len(os.path.dirname(whole)) + _PART_LENGTH)
        if limit is not None and written > limit:
            raise DiskError(
                f"The path {whole} would have {written} characters, and this Windows takes "
                f"{limit}: choose a folder nearer to the drive's root or shorter names, or enable "
                "long paths in Windows."
            )


def foreign_path(path: str) -> str:
    """Return what to add to the sentence about a missing path that another system wrote."""
    if os.name == "nt" and path.startswith("/"):
        return " (a path of Linux or macOS)"
    if os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", path):
        return " (a path of Windows)"
    return ""
