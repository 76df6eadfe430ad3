"""Where captions come from: files beside the pictures, metadata.jsonl, or one for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..encodings import Decoded, common_encoding, decode
from ..plain_json import parse_json
from ..wording import size_text
from .names import by_letters, callings, same_name, stem_of
from .pictures import PICTURE_SUFFIXES

SIDECAR_SUFFIXES = (".txt", ".caption")
"""In order of preference."""

METADATA_NAME = "metadata.jsonl"
"""The convention of the ``datasets`` library's imagefolder: one JSON object per line."""

CAPTION_FIELDS = ("text", "caption", "prompt")

MAX_CAPTION_BYTES = 100_000
MAX_METADATA_BYTES = 50_000_000
"""What is larger is something else under a caption's name, and is not read into memory."""

_MARKUP = {"{\\rtf": "RTF", "<html": "a web page", "<!doctype": "a web page"}
"""How a caption begins that a word processor or browser saved."""

SHOWN_CHARACTERS = 60
"""So much of a caption shows whether it was guessed right."""


@dataclasses.dataclass
class Captions:
    """The captions of a folder, and what became of each caption file.

    Attributes:
        source: the recipe's ``caption_source``.
        fixed: the caption of all pictures, for ``fixed``.
        sidecars: their stem, as :func:`.names.stem_of` has it, to names of caption files, best
            first: a picture's stem or its whole name, as in ``cat.txt`` and ``cat.png.txt``.
        respelt: stem of caption files to the picture's, where they differ in capitals.
        texts: caption file to what it says; what cannot be read is in ``reasons`` alone.
        metadata: file name, as :func:`.names.same_name` has it, to caption out of
            :data:`METADATA_NAME`.
        reasons: caption file to why it is not used, or what is odd about it.
        used: caption files that gave a picture its caption, and the first such picture.
        otherwise: the caption of a picture that has none: its folder's name, in kohya's layout.
    """

    source: str
    fixed: str = ""
    sidecars: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    respelt: dict[str, str] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    used: dict[str, str] = dataclasses.field(default_factory=dict)
    otherwise: str = ""

    def of(self, picture: str) -> tuple[str, str]:
        """Return (caption, note) of a picture; the note is empty when all is well.

        Args:
            picture: the picture's file name.
        """
        if self.source == "fixed":
            return self.fixed.strip(), ""
        readable = [name for name in self._sidecars_of(picture) if name in self.texts]
        if readable:
            name = readable[0]
            first = self.used.setdefault(name, picture)
            note = "" if first == picture else f"shares {name} with {first}"
            if not note and stem_of(name) not in callings(picture):
                note = f"its caption is {name}, which is spelt with other capitals"
            return self.texts[name], note if self.texts[name] else f"its caption {name} is empty"
        if same_name(picture) in self.metadata:
            self.used.setdefault(METADATA_NAME, picture)
            text = self.metadata[same_name(picture)]
            return text, "" if text else f"its caption in {METADATA_NAME} is empty"
        if self.otherwise:
            return self.otherwise, "no caption: the folder's name is its caption"
        return "", "no caption: trained with an empty one"

    def _sidecars_of(self, picture: str) -> list[str]:
        """Return a picture's caption files, best first: those of its own spelling first."""
        found = [name for called in callings(picture) for name in self.sidecars.get(called, ())]
        return sorted(found, key=lambda name: Path(name).stem not in (Path(picture).stem, picture))

    def why_unused(self, name: str, owners: Mapping[str, str]) -> str:
        """Return the reason for a caption file that no picture took.

        Args:
            name: the file.
            owners: as :func:`.names.by_calling` has them.
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
        owner = owners.get(self.respelt.get(stem_of(name), stem_of(name)))
        if owner is None:
            return "caption without a picture"
        better = [other for other in self._sidecars_of(owner) if other in self.used]
        return f"{better[0]} is used instead" if better else f"its picture {owner} is skipped"


def is_caption(name: str) -> bool:
    """Say whether a file is a caption file by its name."""
    return name == METADATA_NAME or Path(name).suffix.lower() in SIDECAR_SUFFIXES


def find_captions(folder: Path, names: Sequence[str], source: str, fixed: str) -> Captions:
    """Find and read the caption files of a folder.

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
                captions.sidecars.setdefault(stem_of(name), []).append(name)
        _give_by_letters(captions, names)
        _read_sidecars(folder, captions)
    if source in ("auto", "metadata") and METADATA_NAME in names:
        _read_metadata(folder, captions, names)
    return captions


def _give_by_letters(captions: Captions, names: Sequence[str]) -> None:
    """Give captions whose name is no picture's to the one that differs in capitals alone."""
    pictures = (name for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES)
    stems = {called for picture in pictures for called in callings(picture)}
    without = by_letters(stems - captions.sidecars.keys())
    for letters, stem in by_letters(captions.sidecars.keys() - stems).items():
        if letters in without:
            captions.respelt[stem] = without[letters]
            captions.sidecars[without[letters]] = captions.sidecars.pop(stem)


def _read_sidecars(folder: Path, captions: Captions) -> None:
    """Read all caption files: those of one folder are mostly written by one program, one way."""
    raws: dict[str, bytes] = {}
    for name in (name for names in captions.sidecars.values() for name in names):
        try:
            raws[name] = _read_bytes(folder / name, MAX_CAPTION_BYTES)
        except ValueError as error:
            captions.reasons[name] = f"cannot be read: {error}"
    beside = common_encoding(raws.values())
    for name, raw in raws.items():
        try:
            decoded = decode(raw, beside)
            if markup := next((one for one in _MARKUP if decoded.text.lower().startswith(one)), ""):
                raise ValueError(f"it is {_MARKUP[markup]}, not plain text")
        except ValueError as error:
            captions.reasons[name] = f"cannot be read: {error}; save it as UTF-8"
            continue
        captions.texts[name] = decoded.text.strip()
        if decoded.guessed:
            captions.reasons[name] = _guess(decoded, captions.texts[name])


def _guess(decoded: Decoded, text: str) -> str:
    """Say what was read, on one line, so that a person sees whether it is right."""
    read = " ".join(text.split())
    shown = read[:SHOWN_CHARACTERS] + ("…" if len(read) > SHOWN_CHARACTERS else "")
    return (
        f"not UTF-8, read as {decoded.encoding}, which is a guess: “{shown}”; if that is wrong, "
        "save it as UTF-8"
    )


def _read_bytes(path: Path, most: int) -> bytes:
    """Return a file's bytes.

    Raises:
        ValueError: says why it cannot be read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    if len(raw) > most:
        raise ValueError(f"it is larger than {size_text(most)}, so it is no caption")
    return raw


def _preference(name: str) -> tuple[int, str]:
    return SIDECAR_SUFFIXES.index(Path(name).suffix.lower()) if name != METADATA_NAME else 9, name


def _read_metadata(folder: Path, captions: Captions, names: Sequence[str]) -> None:
    try:
        decoded = decode(_read_bytes(folder / METADATA_NAME, MAX_METADATA_BYTES))
    except ValueError as error:
        captions.reasons[METADATA_NAME] = f"cannot be read: {error}"
        return
    pictures = {same_name(name) for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES}
    letters = by_letters(pictures)
    odd: list[str] = []
    for number, line in enumerate(decoded.text.split("\n"), start=1):
        if line.strip():
            problem = _read_entry(line, captions, pictures, letters)
            odd += [f"line {number}: {problem}"] if problem else []
    if decoded.guessed:
        telling = (text for text in captions.metadata.values() if not text.isascii())
        odd.insert(0, _guess(decoded, next(telling, "")))
    if odd:
        more = f", and {len(odd) - 3} more" if len(odd) > 3 else ""
        captions.reasons[METADATA_NAME] = "; ".join(odd[:3]) + more


def _read_entry(
    line: str, captions: Captions, pictures: set[str], letters: Mapping[str, str]
) -> str:
    """Take one line of metadata.jsonl; returns what is wrong with it, or an empty string.

    Args:
        line: the line.
        captions: where its caption goes.
        pictures: the folder's.
        letters: the same, from :func:`.names.by_letters`.
    """
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
    called = same_name(name.removeprefix("./"))
    picture = called if called in pictures else letters.get(called.casefold(), "")
    if not picture:
        return f"there is no picture {_whole(name)}"
    if picture in captions.metadata:
        return f"{name} comes a second time, the first one counts"
    captions.metadata[picture] = _whole(caption).strip()
    if caption != _whole(caption):
        return "half a character, read as ?"
    return "" if picture == called else f"{name} is {picture}, with other capitals"


def _whole(text: str) -> str:
    """Return a text without halves of characters, which JSON can spell and UTF-8 cannot hold."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
