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
from .names import is_system_folder, masked_stem, stem_of
from .pictures import CHECK_ONLY, PICTURE_SUFFIXES, open_picture

LEADS_OUT = "a link that leads out of the folder"
"""Reason against a link: who may choose a folder must not read the whole disk through it."""


@dataclasses.dataclass(frozen=True)
class Entries:
    """The names in a folder.

    Attributes:
        files: regular files that may be read, sorted.
        odd: other names, with the reason why they are not read.
        subfolders: folders in it, which are not looked into; a system's own are left out.
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
            elif not entry.is_dir():
                files.append(entry.name)
            elif not is_system_folder(entry.name):
                subfolders.append(entry.name)
    except OSError as error:
        raise DatasetError(f"Cannot read the folder {folder}: {error.strerror}.") from error
    odd |= _masks(files)
    files = [name for name in files if name not in odd]
    return Entries(tuple(sorted(files)), odd, tuple(sorted(subfolders)))


def list_files(folder: Path) -> list[str]:
    """Return the names of the readable files directly in a folder, sorted.

    Raises:
        DatasetError: as :func:`list_folder`.
    """
    return list(list_folder(folder).files)


def is_picture(name: str) -> bool:
    """Say whether a file is a picture by its name."""
    return Path(name).suffix.lower() in PICTURE_SUFFIXES


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
    pictures = filter(is_picture, names)
    return in_order(lambda name: _scan(folder, name), pictures, workers)


def other_files(names: tuple[str, ...]) -> dict[str, str]:
    """Return the files that are neither pictures nor captions, with the reason."""
    return {
        name: f"not a picture or caption ({Path(name).suffix.lower() or 'no suffix'})"
        for name in names
        if not is_picture(name) and not is_caption(name)
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
        picture = open_picture(raw, name, needed=CHECK_ONLY)
    except DatasetError as error:
        return ScannedPicture(name, None, "", str(error))
    return ScannedPicture(name, picture.size, content_of(raw), picture.note)


def _reason_against(entry: os.DirEntry[str], root: Path) -> str:
    if entry.is_symlink():
        try:
            target = Path(entry.path).resolve(strict=True)
        except FileNotFoundError:
            return "a link to nothing"
        except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.12 and older, of a loop
            denied = isinstance(error, PermissionError)
            return (
                "a link into a folder that may not be read"
                if denied
                else "a link that leads to itself"
            )
        if target == root:
            return "a link that leads back to the folder"
        if root not in target.parents:
            return LEADS_OUT
    if entry.is_dir():
        return ""
    if not entry.is_file():
        return "not a regular file"
    return "a hidden file" if entry.name.startswith(".") else ""


def _masks(names: list[str]) -> dict[str, str]:
    """Return the files that other tools put beside pictures, with the reason against them."""
    pictures = list(filter(is_picture, names))
    stems = set(map(stem_of, pictures))
    owners = {name: masked_stem(name, stems) for name in pictures}
    return {
        name: f"a mask or conditioning picture of {owner}, by its name: not trained as a picture"
        for name, owner in owners.items()
        if owner is not None
    }
