"""What a file is that is called .safetensors and is none, told by how it begins."""

from __future__ import annotations

import zipfile
from pathlib import Path

# Bare pickle streams of the protocols that torch.save has used.
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLE = (
    "a pickle, which can run code when it is opened, so it is never opened here; get the same LoRA "
    "or checkpoint as .safetensors"
)
# Source: git-lfs, docs/spec.md.
_LFS = b"version https://git-lfs.github.com/spec/"


def _archive(kind: str) -> str:
    return f"a {kind} archive; unpack it and choose the .safetensors file in it"


_STARTS = (
    (b"GGUF", "a GGUF file; get it as .safetensors"),
    (b"\x89PNG", "a PNG picture; choose the LoRA or checkpoint itself"),
    (b"\xff\xd8\xff", "a JPEG picture; choose the LoRA or checkpoint itself"),
    (b"\x1f\x8b", _archive("gzip")),
    (b"7z\xbc\xaf", _archive("7z")),
    (b"Rar!", _archive("RAR")),
)  # fmt: skip
_SHOWN_CHARACTERS = 60


def what_it_is(path: Path, start: bytes) -> str:
    """Say what a file is, and what to do, as the end of a sentence.

    Args:
        path: the file.
        start: its first bytes, a few hundred.
    """
    if not start:
        return "empty; download or copy it again"
    if start.startswith(b"PK\x03\x04"):
        return _PICKLE if _is_torch_archive(path) else _archive("zip")
    if start.startswith(_PICKLES):
        return _PICKLE
    for begins, what in _STARTS:
        if start.startswith(begins):
            return what
    return what_came_instead(start) or (
        "not a safetensors file; choose a .safetensors file, or download it again"
    )


def what_came_instead(start: bytes) -> str:
    """Say what text a download left in a file's place, as :func:`what_it_is`; empty for none.

    Args:
        start: the file's first bytes, a few hundred.
    """
    if start.startswith(_LFS):
        return (
            "a Git LFS pointer, which only names the file; fetch it with git lfs pull, or download "
            "it from its page"
        )
    text = start.decode("utf-8-sig", errors="replace").strip()
    shown = " ".join(text[:_SHOWN_CHARACTERS].split())
    if text.startswith("<"):
        return "a saved web page, as a site answers that asks for a login; download the file again"
    if text.startswith(("{", "[")):
        return f"JSON text ({shown!r}), as a server answers an error; download the file again"
    if shown and shown.isprintable() and "\ufffd" not in shown:
        return f"text that begins with {shown!r}; download the file again"
    return ""


def _is_torch_archive(path: Path) -> bool:
    """Say whether a zip archive is one of torch.save, or cannot be told."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return True
