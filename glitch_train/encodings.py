"""Bytes that a person's programs wrote as text: which encoding they are in, told or guessed."""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Mapping

# Longest first: UTF-32's begins with UTF-16's. Source: Unicode Standard, 23.8, "Byte Order Mark".
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONTROLS = re.compile(r"[\0-\x08\x0e-\x19\x1b-\x1f]")

# What each code page is called, and how likely it is before anything was read, as a logarithm:
# what Windows writes by itself comes first.
_CODE_PAGES = {
    "cp1252": ("Windows-1252 (Western Europe)", 0.0),
    "gb18030": ("GB18030 (Chinese)", -0.5),
    "cp932": ("Shift-JIS (Japanese)", -1.0),
    "cp1251": ("Windows-1251 (Cyrillic)", -1.0),
    "cp1250": ("Windows-1250 (Central Europe)", -1.5),
    "big5": ("Big5 (Chinese)", -2.0),
    "cp949": ("EUC-KR (Korean)", -2.0),
    "cp1254": ("Windows-1254 (Turkish)", -3.0),
    "cp1253": ("Windows-1253 (Greek)", -3.0),
    "euc_jp": ("EUC-JP (Japanese)", -3.0),
    "koi8-r": ("KOI8-R (Cyrillic)", -5.0),
}
_UNICODE = {
    "utf-8": ("UTF-8", 10.0),
    "utf-16-le": ("UTF-16 without a byte order mark", -3.0),
    "utf-16-be": ("UTF-16 without a byte order mark", -3.0),
}
_ALL = _CODE_PAGES | _UNICODE

# The letters beyond ASCII of each language that is written in a code page, language by language.
_LETTERS = {
    "cp1252": "éèàçêâîôûùœëï äöüß áéíóúñü ãõçáéíóúâêôà àèéìòù åäöøæé ëïéèü",
    "cp1250": "ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíľĺňóôŕšťúýž áéíóöőúüű čćđšž ăâîşţ",
    "cp1254": "çğıöşüâ",
    "cp1251": "абвгдежзийклмнопрстуфхцчшщъыьэюяё абвгґдежзийклмнопрстуфхцчшщьюяєії",
    "cp1253": "αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋ",
    "koi8-r": "абвгдежзийклмнопрстуфхцчшщъыьэюяё",
}
_QUOTES = "“”‘’–—"
_SIGNS = "„…«»•°ºª©®™€½×·¿¡\u00a0"
_WIDE_SIGNS = "、。，．・「」『』（）！？：；“”‘’—…《》【】～〜ー０１２３４５６７８９"
_KANA = "".join(map(chr, (*range(0x3041, 0x3097), *range(0x30A1, 0x30FF))))
# What a caption in Chinese is likely to hold: particles, colours, people, places.
_COMMON_CHINESE = (
    "的一是不了在有人和上下大小中白黑红蓝绿黄紫色发长短眼睛女男孩头手身衣服裙帽站坐着看笑光影"
    "照片风景背天空城市街道海山水树花草房间窗桌椅动漫画质高杰作"
)

_ASCII = math.log(1 / 60)
_OTHER_LETTER = math.log(1 / 20_000)
_UNLIKELY = math.log(1e-8)
_BROKEN_WORD = -4.0
"""What counts against an encoding for each place where a word is no word: it changes its alphabet
or goes from small to capital letters in the middle, has a sign inside, or four accents in a row."""

_BROKEN = re.compile(
    r"[A-Za-z](?=[\u0370-\u04ff])|[\u0370-\u04ff](?=[A-Za-z])"
    r"|[^\W\d_](?=[„«»•°ºª¹²³©®™€½×¿¡][^\W\d_])"
    r"|[a-zß-ÿ](?=[À-Þ])|[а-яё](?=[А-ЯЁ])|[À-ž](?=[À-ž]{3})"
)

_AS_THE_OTHERS = 6.0
"""What counts for the encoding of the texts beside: one or two letters' worth."""

_MOST_STRANGERS = 0.2
"""So many of the characters beyond ASCII may be none that the encoding's languages have."""

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

    In this order: what a byte order mark says; UTF-32 and UTF-16 without one, by their zeros;
    UTF-8; else the encoding of which the bytes are most likely to be letters.

    Args:
        raw: the whole file.
        beside: how the texts that came with it are written, from :func:`common_encoding`.
        otherwise: codec for bytes in no encoding that can be told, where only ASCII matters.

    Raises:
        ValueError: says why it is no text, or none that can be told.
    """
    told = _told(raw)
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
    uncertain = [raw for raw, codec in told.items() if not codec]
    return _most_likely(b"\n".join(uncertain), _CODE_PAGES) if uncertain else ""


def _told(raw: bytes) -> str:
    """Name the codec of bytes that can hardly be another's."""
    marked = next((codec for mark, codec in _MARKS.items() if raw.startswith(mark)), "")
    if marked or 0 in raw:
        return marked or _by_zeros(raw)
    with contextlib.suppress(ValueError):
        _text(raw, "utf-8")
        return "utf-8"
    return ""


def _text(raw: bytes, codec: str) -> str:
    text = raw.decode(codec)
    if _CONTROLS.search(text):
        raise ValueError("it has control characters, which no text has")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _by_zeros(raw: bytes) -> str:
    """Name UTF-32 or UTF-16: no text in another encoding has bytes of zero."""
    for codec in ("utf-32-le", "utf-32-be"):
        with contextlib.suppress(ValueError):
            if _text(raw, codec):
                return codec
    return _most_likely(raw, _UNICODE)


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
    known = [[one.get(char, _UNLIKELY) for char in beyond] for one in _alphabets(codec)]
    letters = max(known, key=sum)
    if letters.count(_UNLIKELY) > _MOST_STRANGERS * len(beyond):
        return -math.inf
    broken = _BROKEN_WORD * len(_BROKEN.findall(text))
    return _ALL[codec][1] + sum(letters) + _ASCII * (len(text) - len(beyond)) + broken


@functools.cache
def _alphabets(codec: str) -> tuple[dict[str, float], ...]:
    """Return what an encoding's languages are written with: character to logarithm of its share."""
    if codec in _UNICODE:
        every = [one for name in _CODE_PAGES for one in _alphabets(name)]
        rest = [chr(code) for code in range(0x80, 0x1000) if chr(code).isalpha()]
        known = {
            char: max(one.get(char, _UNLIKELY) for one in every) for one in every for char in one
        }
        return (dict.fromkeys(rest, _OTHER_LETTER) | known,)
    if codec not in _LETTERS:
        return (_logarithms(_wide_shares(codec)),)
    letters = "".join(_LETTERS[codec].split())
    beside = {_QUOTES: 0.08, _SIGNS: 0.05, letters + letters.upper(): 0.02}
    languages = _LETTERS[codec].split()
    return tuple(_logarithms({one: 0.75, one.upper(): 0.1} | beside) for one in languages)


def _logarithms(shares: Mapping[str, float]) -> dict[str, float]:
    """Return each character's share: those of one string have theirs together."""
    found: dict[str, float] = {}
    for chars, share in shares.items():
        for char in chars:
            found.setdefault(char, math.log(share / len(chars)))
    return found


def _wide_shares(codec: str) -> dict[str, float]:
    """Return what captions in Chinese, Japanese and Korean are made of, with its share.

    The blocks are those of the common characters. Source: GB 2312 level 1, Big5 level 1, JIS X 0208
    level 1, KS X 1001 Hangul.
    """
    if codec == "gb18030":
        return {_COMMON_CHINESE: 0.3, _block("gb2312", 0xB0, 0xD7): 0.6, _WIDE_SIGNS: 0.1}
    if codec == "big5":
        return {_block("big5", 0xA4, 0xC6): 0.9, _WIDE_SIGNS: 0.1}
    if codec == "cp949":
        return {_block("euc_kr", 0xB0, 0xC8): 0.95, _WIDE_SIGNS: 0.05}
    return {_KANA: 0.55, _block("euc_jp", 0xB0, 0xCF): 0.35, _WIDE_SIGNS: 0.1}


def _block(codec: str, first: int, last: int) -> str:
    """Return the characters of two bytes whose first byte lies in a range."""
    trails = [*(range(0x40, 0x7F) if codec == "big5" else ()), *range(0xA1, 0xFF)]
    pairs = (bytes((lead, trail)) for lead in range(first, last + 1) for trail in trails)
    return "".join(pair.decode(codec, errors="ignore") for pair in pairs)
