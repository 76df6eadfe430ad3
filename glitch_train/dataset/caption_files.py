"""Where captions come from: files beside the pictures, metadata.jsonl, or one for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..plain_json import parse_json
from .pictures import PICTURE_SUFFIXES

SIDECAR_SUFFIXES = (".txt", ".caption")
"""In order of preference."""

METADATA_NAME = "metadata.jsonl"
"""The convention of the ``datasets`` library's imagefolder: one JSON object per line."""

CAPTION_FIELDS = ("text", "caption", "prompt")


@dataclasses.dataclass
class Captions:
    """The captions of a folder, and what became of each caption file.

    Attributes:
        source: the recipe's ``caption_source``.
        fixed: the caption of all pictures, for ``fixed``.
        sidecars: picture stem to names of caption files, best first.
        metadata: file name to caption out of :data:`METADATA_NAME`.
        reasons: caption file to why it is not used, or what is odd about it.
        used: caption files that gave a picture its caption, and the first such picture.
    """

    source: str
    fixed: str = ""
    sidecars: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    used: dict[str, str] = dataclasses.field(default_factory=dict)

    def of(self, folder: Path, picture: str) -> tuple[str, str]:
        """Return (caption, note) of a picture; the note is empty when all is well.

        Args:
            folder: where the caption files are.
            picture: the picture's file name.
        """
        if self.source == "fixed":
            return self.fixed.strip(), ""
        for name in self.sidecars.get(Path(picture).stem, ()):
            try:
                caption, note = decode_caption((folder / name).read_bytes())
            except OSError as error:
                self.reasons[name] = f"cannot be read: {error.strerror}"
                continue
            if note:
                self.reasons[name] = note
            first = self.used.setdefault(name, picture)
            shared = "" if first == picture else f"shares {name} with {first}"
            return caption, shared if caption else f"its caption {name} is empty"
        if picture in self.metadata:
            self.used.setdefault(METADATA_NAME, picture)
            return self.metadata[picture], ""
        return "", "no caption: trained with an empty one"

    def why_unused(self, name: str, pictures: set[str]) -> str:
        """Return the reason for a caption file that no picture took.

        Args:
            name: the file.
            pictures: names of all pictures, readable or not.
        """
        if name in self.reasons:
            return self.reasons[name]
        if self.source == "fixed":
            return "not read, because caption_source is fixed"
        if name == METADATA_NAME:
            if self.source == "sidecar":
                return "not read, because caption_source is sidecar"
            return "no picture takes its caption from it"
        if self.source == "metadata":
            return "not read, because caption_source is metadata"
        owners = [picture for picture in pictures if Path(picture).stem == Path(name).stem]
        if not owners:
            return "caption without a picture"
        better = [other for other in self.sidecars.get(Path(name).stem, ()) if other in self.used]
        return f"{better[0]} is used instead" if better else f"its picture {owners[0]} is skipped"


def is_caption(name: str) -> bool:
    """Say whether a file is a caption file by its name."""
    return name == METADATA_NAME or Path(name).suffix.lower() in SIDECAR_SUFFIXES


def find_captions(folder: Path, names: Sequence[str], source: str, fixed: str) -> Captions:
    """Find the caption files of a folder; ``metadata.jsonl`` is read at once.

    Args:
        folder: the folder.
        names: its files.
        source: the recipe's ``caption_source``.
        fixed: the recipe's ``fixed_caption``.
    """
    captions = Captions(source, fixed)
    if source in ("auto", "sidecar"):
        for name in sorted(filter(is_caption, names), key=_preference):
            if name != METADATA_NAME:
                captions.sidecars.setdefault(Path(name).stem, []).append(name)
    if source in ("auto", "metadata") and METADATA_NAME in names:
        _read_metadata(folder, captions, set(names))
    return captions


def decode_caption(raw: bytes) -> tuple[str, str]:
    """Return (text, note) of a caption file's bytes; the text is stripped.

    UTF-8, UTF-16 with a byte order mark, else Windows-1252, which older caption tools write.
    """
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _cleaned(raw.decode("utf-16", errors="replace")), "UTF-16"
    try:
        return _cleaned(raw.decode("utf-8-sig")), ""
    except UnicodeDecodeError:
        return _cleaned(raw.decode("cp1252", errors="replace")), "not UTF-8, read as Windows-1252"


def _cleaned(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\0", "").strip()


def _preference(name: str) -> tuple[int, str]:
    return SIDECAR_SUFFIXES.index(Path(name).suffix.lower()) if name != METADATA_NAME else 9, name


def _read_metadata(folder: Path, captions: Captions, names: set[str]) -> None:
    try:
        text, note = decode_caption((folder / METADATA_NAME).read_bytes())
    except OSError as error:
        captions.reasons[METADATA_NAME] = f"cannot be read: {error.strerror}"
        return
    odd = [note] if note else []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            problem = _read_entry(line, captions, names)
            odd += [f"line {number}: {problem}"] if problem else []
    if odd:
        more = f", and {len(odd) - 3} more" if len(odd) > 3 else ""
        captions.reasons[METADATA_NAME] = "; ".join(odd[:3]) + more


def _read_entry(line: str, captions: Captions, names: set[str]) -> str:
    """Take one line of metadata.jsonl; returns what is wrong with it, or an empty string."""
    try:
        entry = parse_json(line)
    except ValueError:
        return "not valid JSON"
    name = entry.get("file_name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        return "no file_name"
    caption = next((entry[key] for key in CAPTION_FIELDS if isinstance(entry.get(key), str)), None)
    if caption is None:
        return f"{name} has no text"
    if name not in names or Path(name).suffix.lower() not in PICTURE_SUFFIXES:
        return f"there is no picture {_whole(name)}"
    captions.metadata[name] = _whole(caption).strip()
    return "" if caption == _whole(caption) else "half a character, read as ?"


def _whole(text: str) -> str:
    """Return a text without halves of characters, which JSON can spell and UTF-8 cannot hold."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
