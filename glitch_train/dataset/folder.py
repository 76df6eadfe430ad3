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
from ..wording import shown_name, size_text
from ..workers import in_order
from .caption_files import METADATA_NAME, SIDECAR_SUFFIXES, is_caption
from .masks import FolderMasks, SampleMask, check_mask, open_mask
from .names import is_system_folder, masked_stem, stem_of
from .numbered import numbered_folders
from .pictures import CHECK_ONLY, PICTURE_SUFFIXES, open_picture

MOST_BYTES = 400_000_000
"""A larger picture is not read into memory; the largest that is decoded has less as JPEG or PNG."""

_OTHER_KINDS = {
    **dict.fromkeys(
        (".arw", ".cr2", ".cr3", ".dng", ".exr", ".ico", ".jp2", ".jxl", ".kra", ".nef", ".pcx",
         ".ppm", ".psd", ".raf", ".svg", ".tga", ".xcf"),
        "a kind of picture that is not read; save it as PNG or JPEG",
    ),
    **dict.fromkeys(
        (".7z", ".gz", ".rar", ".tar", ".tgz", ".zip"),
        "an archive, which is not looked into; unpack it",
    ),
    **dict.fromkeys(
        (".csv", ".json", ".jsonl", ".parquet", ".tags", ".tsv", ".yaml", ".yml"),
        f"not read, if it holds captions: they come from {' or '.join(SIDECAR_SUFFIXES)} files "
        f"beside the pictures, or from {METADATA_NAME}",
    ),
}  # fmt: skip
"""Endings of files that people look for in vain among the pictures, to what is said of them."""

LEADS_OUT = "a link that leads out of the folder"
"""Reason against a link: who may choose a folder must not read the whole disk through it."""


@dataclasses.dataclass(frozen=True)
class Entries:
    """The names in a folder.

    Attributes:
        files: regular files that may be read, sorted.
        masks: what other tools put beside pictures, to the stem of the picture.
        odd: other names, with the reason why they are not read.
        subfolders: folders in it, which are not looked into; a system's own are left out.
    """

    files: tuple[str, ...]
    masks: dict[str, str]
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
        mask: which part of it counts; None for all of it.
    """

    name: str
    size: Size | None
    content: str
    note: str
    mask: SampleMask | None = None


def list_folder(folder: Path) -> Entries:
    """Return what is directly in a folder.

    Raises:
        DatasetError: when the folder is missing or cannot be read.
    """
    if not os.path.isdir(folder):  # also of a name that no file system takes
        if os.path.exists(folder):
            raise DatasetError(
                f"{folder} is a file; choose the folder that your pictures lie in, and unpack them "
                "where it is an archive."
            )
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
    masks = _masks(files)
    files = [name for name in files if name not in masks]
    return Entries(tuple(sorted(files)), masks, odd, tuple(sorted(subfolders)))


def list_files(folder: Path) -> list[str]:
    """Return the names of the readable files directly in a folder, sorted.

    Raises:
        DatasetError: as :func:`list_folder`.
    """
    return list(list_folder(folder).files)


def is_picture(name: str) -> bool:
    """Say whether a file is a picture by its name."""
    return Path(name).suffix.lower() in PICTURE_SUFFIXES


def has_pictures(entries: Entries) -> bool:
    """Say whether a folder holds a picture by its name."""
    return any(map(is_picture, entries.files))


def folder_fingerprint(folder: Path) -> str:
    """Return a value that changes when a file that is read is added, removed or edited."""
    digest = hashlib.sha256()
    entries = list_folder(folder)
    for one in [] if has_pictures(entries) else numbered_folders(entries.subfolders):
        digest.update(f"{one.name}\0{folder_fingerprint(folder / one.name)}\n".encode())
    for name in sorted((*entries.files, *entries.masks)):
        try:
            state = (folder / name).stat()
        except OSError:  # removed this moment
            continue
        line = f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def scan_pictures(
    folder: Path, names: tuple[str, ...], masks: FolderMasks, workers: int | None = None
) -> Iterator[ScannedPicture]:
    """Check each picture file, and its mask, by decoding it, in order.

    Args:
        folder: the folder.
        names: files of it; captions and files of other kinds are passed over.
        masks: the folder's.
        workers: number of threads.
    """
    pictures = filter(is_picture, names)
    return in_order(lambda name: _scan(folder, name, masks), pictures, workers)


def other_files(names: tuple[str, ...]) -> dict[str, str]:
    """Return the files that are neither pictures nor captions, with the reason."""
    others = (name for name in names if not is_picture(name) and not is_caption(name))
    suffixes = ((name, Path(name).suffix.lower()) for name in others)
    return {
        name: _OTHER_KINDS.get(suffix, f"not a picture or caption ({suffix or 'no suffix'})")
        for name, suffix in suffixes
    }


def read_file(folder: Path, name: str) -> bytes:
    """Return a file's bytes.

    Raises:
        DatasetError: says why it cannot be read, without its name.
    """
    try:
        with open(folder / name, "rb") as file:
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise DatasetError(f"it has more than {size_text(MOST_BYTES)}; save it smaller")
            return file.read()
    except FileNotFoundError as error:
        raise DatasetError("it disappeared while the folder was read") from error
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}") from error


def content_of(raw: bytes) -> str:
    """Return the name of a file's content."""
    return hashlib.sha256(raw).hexdigest()


def _scan(folder: Path, name: str, masks: FolderMasks) -> ScannedPicture:
    try:
        raw = read_file(folder, name)
        picture = open_picture(raw, name, needed=CHECK_ONLY)
        mask = _scan_mask(folder, masks.file_of(name), raw, name, picture.size)
    except DatasetError as error:
        return ScannedPicture(name, None, "", str(error))
    note = "; ".join(filter(None, (picture.note, "" if mask else masks.remark_without)))
    return ScannedPicture(name, picture.size, content_of(raw), note, mask)


def _scan_mask(
    folder: Path, name: str, picture_raw: bytes, picture: str, size: Size
) -> SampleMask | None:
    if not name:
        return None
    if name == picture:
        raw, mask = picture_raw, open_mask(picture_raw, name, alpha=True)
    else:
        try:
            raw = read_file(folder, name)
            mask = open_mask(raw, name, alpha=False)
        except DatasetError as error:
            raise DatasetError(f"its mask {shown_name(name)}: {error}") from error
    if mask is None:
        return None
    check_mask(mask, name, size)
    return SampleMask(name, content_of(raw))


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
    """Return the files that other tools put beside pictures, to the stem of the picture."""
    pictures = list(filter(is_picture, names))
    stems = set(map(stem_of, pictures))
    owners = {name: masked_stem(name, stems) for name in pictures}
    return {name: owner for name, owner in owners.items() if owner is not None}
