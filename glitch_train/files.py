"""Write files so that a reader never sees half of one, and read what was noted in one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .encodings import decode
from .environment import system_advice
from .errors import DiskError, FileHeldError
from .plain_json import json_object
from .wording import size_text

# A virus scanner or an indexer lets go of a new file within a second. Source: pip,
# src/pip/_internal/utils/filesystem.py, which tries to replace a file for one second.
_WAITS_S = (0.05, 0.1, 0.25, 0.6)

# ERROR_USER_MAPPED_FILE: Python knows no errno for it, so that it is no PermissionError.
# Source: learn.microsoft.com, System Error Codes (1000-1299).
_USER_MAPPED_FILE = 1224


MOST_BYTES = 256 << 20
"""A recipe, caption list or loss log of more is none: a step takes some 100 bytes in a log."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends without an error.

    The file is flushed to disk before it is renamed, so after a crash either the old or the new
    content is there, whole. Where another program holds the old one, which only Windows minds, it
    is tried for a second.

    Args:
        path: the final path; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:60]}.{secrets.token_hex(8)}.part")
    # The system gives it the mode of new files: reading the umask would change it for all threads.
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        with part.open("r+b") as written:  # Windows flushes only what could be written to
            os.fsync(written.fileno())
        _replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # a scanner holds it: the error above says more
            part.unlink(missing_ok=True)


def _replace(part: Path, path: Path) -> None:
    for wait_s in _WAITS_S:
        try:
            part.replace(path)
            return
        except OSError as error:
            if not is_held(error):
                raise
        time.sleep(wait_s)
    part.replace(path)


def is_held(error: BaseException) -> bool:
    """Say whether an error is Windows' for a file that is open or mapped somewhere."""
    mapped = getattr(error, "winerror", None) == _USER_MAPPED_FILE
    return mapped or isinstance(error, PermissionError)


def free_beside(path: Path) -> Path:
    """Return the next free name beside a file: ``name_2.ending``, ``name_3.ending`` …"""
    number = 2
    while (beside := path.with_name(f"{path.stem}_{number}{path.suffix}")).exists():
        number += 1
    return beside


@contextlib.contextmanager
def disk_errors_said(path: Path) -> Iterator[None]:
    """Turn what the system says about writing a file into a sentence.

    Args:
        path: what is written in the block.

    Raises:
        FileHeldError: when it is there and cannot be replaced, as Windows does while it is open.
        DiskError: when the disk is full, or does not take the file for another reason.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if is_held(error) and path.is_file():
            raise FileHeldError(
                f"Cannot write {path}: {reason}; close the program that has it open, or choose "
                "another place. The file as it was before is whole."
            ) from error
        advice = system_advice(error) or "free space there, or choose another place"
        whole = " The file as it was before is whole." if path.is_file() else ""
        raise DiskError(f"Cannot write {path}: {reason}; {advice}.{whole}") from error


def write_text(path: Path, text: str) -> None:
    r"""Write a text file in one piece; a character that UTF-8 cannot hold becomes ``\udcff``.

    Raises:
        DiskError: when the disk does not take it.
    """
    with disk_errors_said(path), atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_text(path: Path) -> str:
    r"""Return a settings' or workflow's text: UTF-8, UTF-16 or UTF-32; lines end in \n.

    Windows' editors write byte order marks, its PowerShell UTF-16 for ``>``, both of them lines in
    \r\n.

    Raises:
        OSError: when it cannot be read.
        ValueError: says why it is no text, or that its encoding would have to be guessed.
    """
    decoded = decode(read_bounded(path))
    if decoded.guessed:
        raise ValueError(f"it is no UTF-8 but perhaps {decoded.encoding}; save it as UTF-8")
    return decoded.text


def read_bounded(path: Path) -> bytes:
    """Return the content of a file that people write by hand, or programs line by line.

    Raises:
        OSError: when it cannot be read.
        ValueError: it is larger than any of those, as a checkpoint is that was given by mistake.
    """
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
    return content


def read_object(path: Path) -> dict[str, Any]:
    """Return what a JSON file says, and nothing where it is not there or no JSON object.

    Raises:
        DiskError: when it is there and cannot be read: it may well say something.
    """
    try:
        return json_object(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DiskError(f"Cannot read {path}: {error.strerror or error}.") from error


def check_space(needs: Mapping[Path, int], advice: str) -> None:
    """Compare what would be written with what is free, disk by disk.

    Args:
        needs: folder to bytes that would be written below it; folders may not exist yet.
        advice: what to do when there is too little, in the imperative.

    Raises:
        DiskError: one sentence with both figures.
    """
    disks: dict[int, list[Path]] = {}
    for folder in needs:
        disks.setdefault(os.stat(nearest_existing(folder)).st_dev, []).append(folder)
    for folders in disks.values():
        needed = sum(needs[folder] for folder in folders)
        free = shutil.disk_usage(nearest_existing(folders[0])).free
        if needed > free:
            places = " and ".join(map(str, folders))
            raise DiskError(
                f"This run would write {size_text(needed)} to {places}, where {size_text(free)} "
                f"are free; {advice}."
            )


def nearest_existing(folder: Path) -> Path:
    """Return a folder, or what there is of the way to it."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
