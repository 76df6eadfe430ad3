"""Look through a folder: every file once, as a readable picture or with a reason against it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..drawing.sizes import Size
from ..errors import DatasetError
from ..file_names import foreign_path
from ..workers import in_order
from .caption_files import is_caption
from .pictures import PICTURE_SUFFIXES, open_picture

THUMBNAIL = (1, 1)
"""Size asked of the decoder while checking: all of a JPEG's data is read, few pixels are made."""


@dataclasses.dataclass(frozen=True)
class Entries:
    """The names in a folder.

    Attributes:
        files: regular files that may be read, sorted.
        odd: other names, with the reason why they are not read.
        subfolders: folders in it, which are not looked into.
    """

    files: tuple[str, ...]
    odd: dict[str, str]
    subfolders: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ScannedPicture:
    """What checking a picture file found out.

    Attributes:
        name: the file's name.
        size: (width, height) of the upright picture; None when it cannot be used.
        content: SHA-256 of the file's bytes, hexadecimal.
        note: why it cannot be used, or what is odd about it.
    """

    name: str
    size: Size | None
    content: str
    note: str


def list_folder(folder: Path) -> Entries:
    """Return what is directly in a folder.

    Raises:
        DatasetError: when the folder is missing or cannot be read.
    """
    if not os.path.isdir(folder):  # also of a name that no file system takes
        named = f"{folder}{foreign_path(str(folder))}"
        raise DatasetError(f"There is no folder {named}; choose one that holds your pictures.")
    files: list[str] = []
    subfolders: list[str] = []
    odd: dict[str, str] = {}
    try:
        root = folder.resolve()
        for entry in os.scandir(folder):
            reason = _reason_against(entry, root)
            if reason:
                odd[entry.name] = reason
            elif entry.is_dir():
                subfolders.append(entry.name)
            else:
                files.append(entry.name)
    except OSError as error:
        raise DatasetError(f"Cannot read the folder {folder}: {error.strerror}.") from error
    return Entries(tuple(sorted(files)), odd, tuple(sorted(subfolders)))


def list_files(folder: Path) -> list[str]:
    """Return the names of the readable files directly in a folder, sorted.

    Raises:
        DatasetError: as :func:`list_folder`.
    """
    return list(list_folder(folder).files)


def folder_fingerprint(folder: Path) -> str:
    """Return a value that changes when a file of the folder is added, removed or edited."""
    digest = hashlib.sha256()
    for name in list_files(folder):
        try:
            state = (folder / name).stat()
        except OSError:  # removed this moment
            continue
        line = f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def scan_pictures(
    folder: Path, names: tuple[str, ...], workers: int | None = None
) -> Iterator[ScannedPicture]:
    """Check each picture file by decoding it, in order.

    Args:
        folder: the folder.
        names: files of it; captions and files of other kinds are passed over.
        workers: number of threads.
    """
    pictures = (name for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES)
    return in_order(lambda name: _scan(folder, name), pictures, workers)


def other_files(names: tuple[str, ...]) -> dict[str, str]:
    """Return the files that are neither pictures nor captions, with the reason."""
    return {
        name: f"not a picture or caption ({Path(name).suffix.lower() or 'no suffix'})"
        for name in names
        if Path(name).suffix.lower() not in PICTURE_SUFFIXES and not is_caption(name)
    }


def read_file(folder: Path, name: str) -> bytes:
    """Return a file's bytes.

    Raises:
        DatasetError: says why it cannot be read, without its name.
    """
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise DatasetError("it disappeared while the folder was read") from error
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}") from error


def content_of(raw: bytes) -> str:
    """Return the name of a file's content."""
    return hashlib.sha256(raw).hexdigest()


def _scan(folder: Path, name: str) -> ScannedPicture:
    try:
        raw = read_file(folder, name)
        picture = open_picture(raw, name, needed=THUMBNAIL)
    except DatasetError as error:
        return ScannedPicture(name, None, "", str(error))
    return ScannedPicture(name, picture.size, content_of(raw), picture.note)


def _reason_against(entry: os.DirEntry[str], root: Path) -> str:
    if entry.is_symlink():
        target = Path(entry.path).resolve()
        if not target.exists():
            return "a link to nothing"
        if root not in target.parents:
            return "a link that leads out of the folder"
    if entry.is_dir():
        return ""
    if not entry.is_file():
        return "not a regular file"
    return "a hidden file" if entry.name.startswith(".") else ""
