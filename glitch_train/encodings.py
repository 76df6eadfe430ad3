"""Bytes that a person's programs wrote as text: which encoding they are in, told or guessed."""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

from .languages import BROKEN, CODE_PAGES, UNICODE, UNLIKELY, alphabets

# Longest first: UTF-32's begins with UTF-16's. Source: Unicode Standard, 23.8, "Byte Order Mark".
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ALL = CODE_PAGES | UNICODE
_SEVEN_BITS = {
    "iso2022_jp": (b"\x1b$", "ISO-2022-JP (Japanese)"),
    "hz": (b"~{", "HZ (Chinese)"),
}
"""Codecs that write other letters as ASCII, each behind a sign. Source: RFC 1468, RFC 1843."""

_NO_LETTERS = "\ufeff\x1a"
"""A second byte order mark, and what DOS ended a text with."""
_CONTROLS = re.compile(r"[\0-\x08\x0e-\x19\x1b-\x1f]")

_ASCII = math.log(1 / 60)
_BROKEN_WORD = -4.0
"""What counts against an encoding for each place where a word is no word: it changes its alphabet
or goes from small to capital letters in the middle, has a sign inside, or four accents in a row."""

_AS_THE_OTHERS = 6.0
"""What counts for the encoding of the texts beside: one or two letters' worth."""

_MOST_STRANGERS = 0.2
"""So many of the characters beyond ASCII may be none that the encoding's languages have, and so
many of them may break a word."""

_SAMPLE_BYTES = 20_000
"""Enough of a text to guess from."""


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A text out of bytes.

    Attributes:
        text: without a byte order mark; lines end in a line feed.
        encoding: what it was written in, as words for a person.
        guessed: whether the bytes could mean another text as well.
    """

    text: str
    encoding: str
    guessed: bool


def decode(raw: bytes, beside: str = "", otherwise: str = "") -> Decoded:
    """Return the text that a file's bytes hold.

    In this order: ASCII that stands for other letters; what a byte order mark says; UTF-32 and
    UTF-16 without one, by their zeros; UTF-8; else the encoding of which the bytes are most likely
    to be letters.

    Args:
        raw: the whole file.
        beside: how the texts that came with it are written, from :func:`common_encoding`.
        otherwise: codec for bytes in no encoding that can be told, where only ASCII matters.

    Raises:
        ValueError: says why it is no text, or none that can be told.
    """
    if raw.isascii() and (decoded := _seven_bits(raw)):
        return decoded
    told = _told(raw)
    if not told and (damaged := _damaged(raw)):
        return Decoded(damaged, "UTF-8 with damaged characters left out", guessed=True)
    if told == "utf-8" and beside and not raw.isascii():  # a few signs of GBK can look like UTF-8
        either = {codec: _ALL[codec] for codec in ("utf-8", beside)}
        told = told if _most_likely(raw, either, beside) == "utf-8" else ""
    codec = told or _most_likely(raw, _ALL, beside) or otherwise
    if not codec:
        _text(raw, "latin-1")  # raises where it is no text at all
        raise ValueError("it is in no encoding that can be told")
    try:
        text = _text(raw, codec)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is cut off or damaged, as {codec.upper()} it ends nowhere") from error
    name = told.upper().removesuffix("-SIG") or _ALL.get(codec, (codec,))[0]
    return Decoded(text, name, guessed=not told)


def common_encoding(texts: Iterable[bytes]) -> str:
    """Return the codec in which texts that do not tell it are most likely written; "" for none."""
    told = {raw: _told(raw) for raw in texts}
    wide = [codec for codec in told.values() if codec.startswith("utf-16-")]
    if wide:
        return wide[0]
    uncertain = [
        raw for raw, codec in told.items() if not (codec or raw.isascii() or _damaged(raw))
    ]
    return _most_likely(b"\n".join(uncertain), CODE_PAGES) if uncertain else ""


def _seven_bits(raw: bytes) -> Decoded | None:
    for codec, (sign, name) in _SEVEN_BITS.items():
        with contextlib.suppress(ValueError):
            if sign in raw and not (text := _text(raw, codec)).isascii():
                return Decoded(text, name, guessed=True)
    return None


def _told(raw: bytes) -> str:
    """Name the codec of bytes that can hardly be another's."""
    marked = next((codec for mark, codec in _MARKS.items() if raw.startswith(mark)), "")
    if marked or 0 in raw:
        return marked or _by_zeros(raw)
    with contextlib.suppress(ValueError):
        _text(raw, "utf-8")
        return "utf-8"
    return ""


def _damaged(raw: bytes) -> str:
    """Return the text of bytes that are UTF-8 but for a few, such as one cut within a character."""
    text = raw.decode("utf-8", errors="replace")
    whole = sum(char > "\x7f" and char != "\ufffd" for char in text)
    broken = text.count("\ufffd")
    is_cut = broken == 1 and text.endswith("\ufffd")
    if 0 in raw or not whole or not (is_cut or broken <= _MOST_STRANGERS * whole):
        return ""
    with contextlib.suppress(ValueError):
        return _checked(text.replace("\ufffd", ""))
    return ""


def _text(raw: bytes, codec: str) -> str:
    return _checked(raw.decode(codec))


def _checked(text: str) -> str:
    if _CONTROLS.search(text):
        raise ValueError("it has control characters, which no text has")
    return text.replace("\r\n", "\n").replace("\r", "\n").strip(_NO_LETTERS)


def _by_zeros(raw: bytes) -> str:
    """Name UTF-32 or UTF-16: no text in another encoding has bytes of zero."""
    for codec in ("utf-32-le", "utf-32-be"):
        with contextlib.suppress(ValueError):
            if _text(raw, codec):
                return codec
    return _most_likely(raw, UNICODE)


def _most_likely(raw: bytes, among: Mapping[str, tuple[str, float]], beside: str = "") -> str:
    scores = {codec: _likelihood(raw, codec) for codec in among}
    if beside in scores:
        scores[beside] += _AS_THE_OTHERS
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] > -math.inf else ""


def _likelihood(raw: bytes, codec: str) -> float:
    """Return the logarithm of how likely a text is that reads like this in one encoding."""
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        text = decoder.decode(raw[:_SAMPLE_BYTES], final=len(raw) <= _SAMPLE_BYTES)
    except UnicodeDecodeError:
        return -math.inf
    if _CONTROLS.search(text):
        return -math.inf
    beyond = [char for char in text if char > "\x7f"]
    known = [[one.get(char, UNLIKELY) for char in beyond] for one in alphabets(codec)]
    letters = max(known, key=sum)
    if codec != "utf-8" and letters.count(UNLIKELY) > _MOST_STRANGERS * len(beyond):
        return -math.inf
    broken = len(BROKEN.findall(text))
    if broken > max(1, _MOST_STRANGERS * len(beyond)):
        return -math.inf
    rest = _ASCII * (len(text) - len(beyond)) + _BROKEN_WORD * broken
    return _ALL[codec][1] + sum(letters) + rest
