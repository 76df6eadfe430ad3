"""What texts in the encodings of the world are made of: their letters, and how frequent each is."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Mapping

# What each code page is called, and how likely it is before anything was read, as a logarithm:
# what Windows writes by itself comes first.
CODE_PAGES = {
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
    "cp874": ("Windows-874 (Thai)", -3.0),
    "cp1255": ("Windows-1255 (Hebrew)", -3.0),
    "cp1256": ("Windows-1256 (Arabic)", -3.0),
    "cp1257": ("Windows-1257 (Baltic)", -3.0),
    "iso8859_2": ("ISO 8859-2 (Central Europe)", -3.0),
    "iso8859_15": ("ISO 8859-15 (Western Europe)", -3.0),
    "cp866": ("code page 866 (Cyrillic, DOS)", -5.0),
    "cp850": ("code page 850 or 437 (Western Europe, DOS)", -6.0),
    "cp852": ("code page 852 (Central Europe, DOS)", -6.0),
    "mac_roman": ("Mac Roman (Western Europe)", -6.0),
    "mac_cyrillic": ("Mac Cyrillic", -6.0),
}
UNICODE = {
    "utf-8": ("UTF-8", 10.0),
    "utf-16-le": ("UTF-16 without a byte order mark", -3.0),
    "utf-16-be": ("UTF-16 without a byte order mark", -3.0),
}

# The letters beyond ASCII of each language, language by language, roughly the most frequent first.
_WESTERN = "éèàêçôâîûùëœïü äüöß óáíéñúü ãçáéíóêõúâôà èàòùìé äöåøæé ëïéèü"
_CENTRAL = "łąęóśżćńź íáěéřýžčšůúťďňó íáéčýžšľúťňôäďóĺŕ áéöőóüíúű čšžćđ ăîşţâ"
_CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё оаинвтеірслкмдупяьгзбчйхжїюцшєщґф"
_LETTERS = {
    **dict.fromkeys(("cp1252", "iso8859_15", "cp850", "mac_roman"), _WESTERN),
    **dict.fromkeys(("cp1250", "iso8859_2", "cp852"), _CENTRAL),
    **dict.fromkeys(("cp1251", "koi8-r", "cp866", "mac_cyrillic"), _CYRILLIC),
    "cp1253": "αοιετσνηυρπκμλςωδγθχφβξζψάόίέήύώϊϋ",
    "cp1254": "ışüğçöâ",
    "cp1255": "יוהלאתרבםנמשדחכפעקגטצסןךזףץ",
    "cp1256": "الينمرتوبدهعفسقكحجةشصطخىأءذزضإثغظئؤآ",
    "cp1257": "ėšąųžįčūę āīēšņūļžčģķ äõüöšž",
    "cp874": "านรก่อเง้มิยลวัดทสีตะปบคุห์แจำพชืใขูไึซธโผณภ็ศถญษฉฝฐฟฮฤฆ๊๋ฎฏๆฑฒฌฯฬ",
}
# Source: Unicode Standard, blocks 2600, 2700 and 1F300 to 1FAFF; what joins and colours them.
_EMOJI = (range(0x2600, 0x27C0), range(0x1F300, 0x1FB00), (0x200D, 0xFE0F))
_QUOTES = "“”‘’–—€"
_SIGNS = "„…«»•°ºª©®™½×·¿¡،؟\u00a0"
_WIDE_SIGNS = "、。，．・「」『』（）！？：；“”‘’—…《》【】～〜ー０１２３４５６７８９"
_KANA = "".join(map(chr, (*range(0x3041, 0x3097), *range(0x30A1, 0x30FF))))
# As old devices and programs write it, a byte each.
_NARROW_KANA = "ﾞｲﾝｶｰｼﾄｸｱｽﾀﾃｺｯｭｮﾉﾗﾘﾙﾆﾅﾊﾟｷﾏﾓｾｹﾂｵﾐﾔﾁﾒﾛﾚﾌﾎﾑﾋﾜｴｻｿﾇﾈﾍﾕﾖｬｩｫｧｨｪｦ･｡､｢｣"
# What a caption in Chinese is likely to hold: particles, colours, people, places; then the most
# frequent characters of the language.
_COMMON_CHINESE = (
    "的一是不了在有人和上下大小中白黑红蓝绿黄紫色发长短眼睛女男孩头手身衣服裙帽站坐着看笑光影照片"
    "风景背天空城市街道海山水树花草房间窗桌椅动漫画质高杰作我他这个们来为国地到以说时要就出会可也"
    "你对生能而子那得于自之年过后里用行所然家种事成方多经么去法学如都同现当没面起定分还进好部其些"
    "主样理心她本前开但因只从想实日军者意无力它与把机十民第公此已工使情明性知全三又关点正业外将两"
    "由问很最重并物应战向文体政美相见被利什二等产或新己制果加西斯月话合回特代内信表化老给世位次度"
    "门任常先通教儿原东声提立及比员解名真论处走义各入几口认条平系气题活尔更别打变四神总何电数安少"
    "报才结反受目太量再感建务做接必场件计管期直德资命金指克许统区保至队形社便决治展马科司五基书非"
    "则听却界达放强即像难且权思王象完设式路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传"
    "师观清今切院让识候带导争运"
)

_OTHER_LETTER = math.log(1 / 20_000)
UNLIKELY = math.log(1e-8)
_LATIN = "".join(map(chr, range(0xC0, 0x180)))
_SMALL = "".join(filter(str.islower, _LATIN))
_CAPITAL = "".join(filter(str.isupper, _LATIN))
_OTHERS = "\u0370-\u06ff\u0e00-\u0e7f\uff66-\uff9f"
BROKEN = re.compile(
    rf"[A-Za-z](?=[{_OTHERS}])|[{_OTHERS}](?=[A-Za-z])|(?<=[a-z])[\u4e00-\u9fff](?=[a-z])"
    r"|[^\W\d_](?=[„“”‘«»•°ºª¹²³©®™€½×¿¡§¶¢£¥ƒ†‡ˆ‰‹›¤¦¬±][^\W\d_])"
    rf"|[a-z{_SMALL}](?=[{_CAPITAL}])|[а-яё](?=[А-ЯЁ])|[{_LATIN}](?=[{_LATIN}]{{3}})"
    r"|[םןךףץ](?=[א-ת])|ς(?=[α-ω])"
)

_FLATNESS = 2
"""The first of a language's letters is half as frequent again as the second."""


@functools.cache
def alphabets(codec: str) -> tuple[dict[str, float], ...]:
    """Return what an encoding's languages are written with: character to logarithm of its share."""
    if codec in UNICODE:
        every = [one for name in CODE_PAGES for one in alphabets(name)]
        rest = [chr(code) for code in range(0x80, 0x1000) if chr(code).isalpha()]
        rest += map(chr, itertools.chain(*_EMOJI))
        known = {
            char: max(one.get(char, UNLIKELY) for one in every) for one in every for char in one
        }
        return (dict.fromkeys(rest, _OTHER_LETTER) | known,)
    if codec not in _LETTERS:
        wide = _logarithms(_wide_shares(codec))
        return (wide, _ranked(_NARROW_KANA, 0.9)) if codec == "cp932" else (wide,)
    letters = "".join(_LETTERS[codec].split())
    beside = _logarithms({_QUOTES: 0.08, _SIGNS: 0.05, letters + letters.upper(): 0.02})
    languages = _LETTERS[codec].split()
    return tuple(beside | _ranked(one.upper(), 0.1) | _ranked(one, 0.75) for one in languages)


def _ranked(letters: str, share: float) -> dict[str, float]:
    """Return the logarithm of each letter's share: by Zipf's law, the first ones are frequent."""
    weights = [1 / (place + _FLATNESS) for place in range(len(letters))]
    shares = (share * weight / sum(weights) for weight in weights)
    return dict(zip(letters, map(math.log, shares), strict=True))


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
        return {_COMMON_CHINESE: 0.6, _block("gb2312", 0xB0, 0xD7): 0.3, _WIDE_SIGNS: 0.1}
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
