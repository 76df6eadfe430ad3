"""Captions and logs in the encodings that people's programs write, told apart or named as a guess.

What a text says is known here, because Python's own codecs wrote it.
"""

from __future__ import annotations

import codecs
import re

import pytest

from glitch_train.encodings import common_encoding, decode

CHINESE = (
    "一个女孩站在雨中的街道上",
    "红色的外套，柔和的灯光",
    "特写，她的眼睛是蓝色的",
    "a photo of 一只猫, masterpiece",
)
TAIWANESE = ("一個女孩站在雨中的街道上", "紅色的外套，柔和的燈光", "海邊日落，天空呈現橙色和紫色")
JAPANESE = (
    "雨の街に立つ少女",
    "赤いコート、柔らかい光、ぼやけた夜景",
    "窓の外を見ている老人",
    "1girl, solo, アニメ風、長い髪",
)
KOREAN = ("비 오는 거리에 서 있는 소녀", "빨간 코트, 부드러운 조명", "창밖을 바라보는 노인")
RUSSIAN = (
    "девушка стоит на улице под дождём",
    "красное пальто, мягкий свет",
    "Масляная живопись, Москва, зима",
    "вид сверху",
)
CAPTIONS = {
    "gb18030": CHINESE,
    "big5": TAIWANESE,
    "cp932": JAPANESE,
    "euc_jp": JAPANESE,
    "cp949": KOREAN,
    "cp1251": RUSSIAN,
    "koi8-r": RUSSIAN,
    "cp1250": (
        "czerwony płaszcz, miękkie światło, rozmyte tło",
        "dziewczyna stojąca na ulicy",
        "dívka stojící na ulici v dešti, žluté květiny",
        "lány áll az utcán az őszi esőben, hosszú szőke haj",
    ),
    "cp1252": (
        "une fille debout dans la rue, éclairage doux, à côté",
        "ein Mädchen auf der Straße, Körper, schöne Möbel",
        "una niña bajo la lluvia, iluminación suave",
        "coração, iluminação, mulher à praia",
        "en flicka på gatan, rød frakke, sløret baggrund",
        "perché è così, città",
        "café",
        "“quoted” – it’s at 45°",
    ),
    "cp1253": ("κορίτσι στέκεται στο δρόμο στη βροχή", "τοπίο με θάλασσα"),
    "cp1254": ("yağmurda sokakta duran kız", "kırmızı palto, yumuşak ışık"),
}
WESTERN = CAPTIONS["cp1252"][:6]
CENTRAL = CAPTIONS["cp1250"]
RARE = {
    "cp850": WESTERN,
    "cp437": WESTERN[:3],
    "mac_roman": WESTERN,
    "iso8859_15": ("une tête, 5 €", "œil et cœur, café", "prix: 20 €"),
    "iso8859_2": CENTRAL,
    "cp852": CENTRAL,
    "cp866": RUSSIAN,
    "mac_cyrillic": RUSSIAN,
    "cp874": ("ภาพถ่ายหญิงสาว", "เสื้อโค้ทสีแดง แสงนุ่มนวล", "แมวบนหลังคา"),
    "cp1255": ("ילדה עומדת ברחוב בגשם", "מעיל אדום, אור רך", "נוף הרים, זריחה"),
    "cp1256": ("فتاة تقف في الشارع تحت المطر", "معطف أحمر، إضاءة ناعمة", "قطة على السطح"),
    "cp1257": (
        "mergina stovi gatvėje lyjant",
        "senas žmogus žiūri pro langą",
        "geltonos gėlės, ąžuolas",
    ),
    "cp932": ("ｱｶｲｺｰﾄ, ﾔﾜﾗｶｲﾋｶﾘ", "1girl, ﾈｺﾐﾐ", "ｼﾛｸﾛｼｬｼﾝ, ｹﾑﾘ"),
}
"""What old systems and rarer languages write: told by a folder's captions together."""
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
ALL_CAPTIONS = [caption for captions in CAPTIONS.values() for caption in captions]


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "bare"])
@pytest.mark.parametrize("codec", MARKS)
def test_unicode_is_told_with_and_without_a_mark(codec: str, marked: bool) -> None:
    """Catches a mark left in a caption, and Notepad's or PowerShell's text read as another's."""
    for caption in (*ALL_CAPTIONS, "a girl, red coat", "x"):
        if codec.startswith("utf-16") and not marked and not re.search("[\0-\x7f]", caption):
            continue  # without a zero byte it is a guess: below
        decoded = decode((MARKS[codec] if marked else b"") + f"{caption}\r\nb".encode(codec))
        assert (decoded.text, decoded.guessed) == (f"{caption}\nb", False)


@pytest.mark.parametrize("codec", MARKS)
def test_emoji_are_no_strangers(codec: str) -> None:
    """Catches a caption without a mark refused for what phones put into every text."""
    caption = "a girl, café \U0001f600 ❤️ \U0001f469\u200d\U0001f3a8"
    decoded = decode(caption.encode(codec))
    assert (decoded.text, decoded.guessed) == (caption, False)


@pytest.mark.parametrize(
    "raw", [b"\xef\xbb\xbf\xef\xbb\xbftext", b"text\x1a", b"\xff\xfe\xff\xfet\0e\0x\0t\0"]
)
def test_what_is_no_letter_around_a_text_is_not_trained(raw: bytes) -> None:
    """Catches a second byte order mark and DOS' end of a file, each a token of its own."""
    assert decode(raw).text == "text"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["Linux", "Windows", "old Mac"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "cp1252"])
def test_lines_end_in_one_way(codec: str, end: str) -> None:
    """Catches an old Mac's return within a caption, which takes two lines for one."""
    assert decode(f"été, forêt{end}deux{end}".encode(codec)).text == "été, forêt\ndeux\n"


@pytest.mark.parametrize("codec", CAPTIONS)
def test_captions_of_one_folder_are_read_as_written(codec: str) -> None:
    """Catches mojibake in training: all captions of a folder together tell how they are written."""
    raws = [caption.encode(codec) for caption in CAPTIONS[codec]]
    beside = common_encoding(raws)
    assert codecs.lookup(beside).name == codecs.lookup(codec).name
    for raw, caption in zip(raws, CAPTIONS[codec], strict=True):
        decoded = decode(raw, beside)
        assert (decoded.text, decoded.guessed) == (caption, True)


@pytest.mark.parametrize("codec", RARE)
def test_rarer_encodings_are_read_by_the_folder(codec: str) -> None:
    """Catches captions of DOS, old Macs and smaller languages trained empty or as mojibake."""
    raws = [caption.encode(codec) for caption in RARE[codec]]
    beside = common_encoding(raws)
    decoded = [decode(raw, beside) for raw in raws]
    assert [one.text for one in decoded] == list(RARE[codec])
    assert all(one.guessed for one in decoded)


def test_a_single_caption_is_mostly_read_as_written() -> None:
    """Catches a guess that needs a page of text: captions have three to sixty words."""
    tries = [(codec, caption) for codec, captions in CAPTIONS.items() for caption in captions]
    right = [caption for codec, caption in tries if decode(caption.encode(codec)).text == caption]
    assert len(right) >= 0.95 * len(tries)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_or_a_zero_is_a_guess(codec: str) -> None:
    """Catches Chinese and Japanese in UTF-16 read as letters of a code page."""
    for caption in ("红色的外套，柔和的灯光", "雨の街に立つ少女"):
        decoded = decode(caption.encode(codec))
        assert (decoded.text, decoded.guessed) == (caption, True)


def test_one_other_caption_among_many_keeps_its_own_encoding() -> None:
    """Catches a folder's encoding forced on the one caption that came from elsewhere."""
    french = [caption.encode("cp1252") for caption in CAPTIONS["cp1252"]]
    chinese = CHINESE[1].encode("gb18030")
    assert decode(chinese, common_encoding([*french, chinese])).text == CHINESE[1]


@pytest.mark.parametrize("codec", ["iso2022_jp", "hz"])
def test_letters_written_in_seven_bits_are_read(codec: str) -> None:
    """Catches Japanese refused as control characters, Chinese trained as a row of ASCII signs."""
    caption = {"iso2022_jp": "1girl, 赤いコート", "hz": "1girl, 红色大衣"}[codec]
    raw = caption.encode(codec)
    decoded = decode(raw)
    assert (decoded.text, decoded.guessed) == (caption, True)
    for plain in ("a cat ~{ or not", "~{a cat~}, ~ 1 + 1", "cat \\o/ ~~"):
        assert (decode(plain.encode()).text, decode(plain.encode()).guessed) == (plain, False)
    french = [text.encode("cp1252") for text in CAPTIONS["cp1252"]]
    assert common_encoding([*french, raw]) == common_encoding(french)


def test_odd_signs_in_utf_8_are_not_read_as_the_others_are_written() -> None:
    """Catches what web pages put between words, read as three signs each of Western Europe."""
    french = common_encoding([caption.encode("cp1252") for caption in CAPTIONS["cp1252"]])
    caption = "a\u2028girl\u200b, red\ufeff coat"
    decoded = decode(caption.encode(), french)
    assert (decoded.text, decoded.guessed) == (caption, False)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "control characters"),
        (bytes(range(256)), "control characters"),
        ("a caf\u00e9\1".encode(), "control characters"),
        (b"\xff\xfea", "cut off"),
        (b"\xb2\xb1\xfe\xff \xb3\xba\xd0\xb9", "no encoding that can be told"),
    ],
    ids=["picture", "bytes", "UTF-8 with a control character", "half a character", "no letters"],
)
def test_what_cannot_be_told_is_named(raw: bytes, said: str) -> None:
    """Catches a picture or a text of an unknown encoding that is trained as letters."""
    with pytest.raises(ValueError, match=said):
        decode(raw)


@pytest.mark.parametrize("caption", ["une fille, été", "девушка", "ภาพถ่าย", "a cat, 猫"])
def test_utf_8_that_is_cut_within_a_character(caption: str) -> None:
    """Catches a caption that was cut at so many bytes, read as another code page's letters."""
    decoded = decode(f"{caption}é".encode()[:-1])
    assert (decoded.text, decoded.guessed) == (caption, True)
    assert "damaged" in decoded.encoding


def test_where_only_ascii_matters_anything_is_read() -> None:
    """Catches a log that is refused for the letters of its user's name."""
    text = "user;ภาพ\nstep;loss\n1;0,5\n"
    assert decode(text.encode("cp874"), otherwise="latin-1").text.endswith("1;0,5\n")
