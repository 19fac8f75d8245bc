"""Find the legacy encoding of a source file: the file declares it, or the decoded letters make it plausible.

    find_declaration(b"# -*- coding: latin-1 -*-")     "iso8859-1"
    recognize_encoding("# Größe\\n".encode("latin-1"))            ("# Größe\\n", "latin-1")

An encoding is accepted only if all bytes are valid in it and the decoded letters are plausible for its languages. For alphabets,
words must not contain foreign letters or symbols; for East Asian scripts, the characters must be common ones. If several encodings
are accepted, the one with the largest share of common letters is used.
"""

# ruff: noqa: RUF001 (this file consists of letters of other alphabets)

import codecs
import re
from collections.abc import Callable

DECLARATION = re.compile(rb"(?:coding|charset|encoding)[ \t]*[:=][ \t]*[\"']?([A-Za-z][\w.-]*)")
DECLARATION_BYTES = 2_048
"""Number of bytes at the start of a file that are searched for a declared encoding. Editors search the first lines."""
NOT_FILE_ENCODINGS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined"}
EXAMINED_CHARACTERS = 2**16
"""Maximum number of characters that are examined. They are taken from the lines with characters beyond ASCII."""
MIN_SHARE = 0.3
SHIFTED = re.compile(rb"\x1b\$(?:[@AB]|[()*+./-][0-~])")
"""An escape sequence of ISO 2022 that selects a set of two-byte characters."""
SHIFTED_HZ = re.compile(rb"~\{(?:[!-w][!-~])+~\}")
ISO_2022 = ("iso2022_jp", "iso2022_jp_ext", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_kr")
DECLARED_SEVEN_BIT = {"utf-7", "hz"}
"""Encodings that a file must declare, since plain ASCII such as `x+AOA-1` is valid UTF-7. HZ is also used for Chinese text."""

LETTER = r"[^\W\d_\x00-\x7fªºµ]"
WORD = re.compile(rf"(?:[a-zA-Z]|{LETTER})*{LETTER}(?:[a-zA-Z]|{LETTER})*")
SYMBOL_IN_WORD = re.compile(rf"(?:[a-zA-Z]|{LETTER})(?:(?![’´·\xad]|{LETTER})[^\x00-\x7f])+(?:[a-zA-Z]|{LETTER})")
SYMBOL_BEFORE_WORD = re.compile(rf"[¶¦¬¸¨¹\u2500-\u259f](?:[a-zA-Z]|{LETTER})")
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
CONTROL = re.compile(r"[\x80-\x9f]")

WESTERN = (
    *("äöüß", "àâæçéèêëîïôœùûüÿ", "áéíóúüñ", "àçèéíïòóúü", "àáâãçéêíóôõúü", "àèéìíîòóùú"),
    *("åäöé", "æøåéòôü", "áéíóúýþæöð", "éèëïöüáóú"),
)
"""Lower-case letters beyond ASCII of Western European languages, one string per language."""
SYMBOLS = frozenset("“”‘’„‚–—…©®™°±µ§«»·•€£¥¢×÷¿¡½¼¾²³¹ªº¬´\xa0\xad")
CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čšžćđ", "ăâîşţșț")
CYRILLIC = frozenset("абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґў")
CYRILLIC_COMMON = frozenset("оеаинтсрвлк")
HAN_COMMON = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经"
    "么去法如都同现当没动面起看定天分还进好小部其些主样理本前开但因只从想实日意无力它与长把机第公此已工使情明性知全三又关点正业外将"
    "两高间由问最重并物手应向头文体相见被利等产或新己制身果加月话合回特代内信表化给位次度门任常先通原提立及比员解名真处入几口认条平"
    "系题更别打变总何电数安少报结反受目量再建务做接必场件计管期直资指统区保至形便空则达放即且象完设式色路记品告类求据程该交规取格确"
    "传获返函值参类型字符串初始缓存标记录错误检查测试文件删除添加更新列表线程异步配置接口默认状态请输号码称包含模块图像"
    "這個們來為國說時會對於過發後裡經麼現當沒動面還進樣開從實無與長機關點業將兩間問應頭見產給員處認條題別變總電數報結務場計資統"
    "區達則設記類據該規確傳獲參誤檢測檔刪執緒連線庫錯設定狀態預輸號稱塊圖"
)
"""Frequent characters of Chinese texts and of comments in code, simplified and traditional."""
HANGUL_COMMON = frozenset(
    "이다는을를에의가한하기사지로고도서시수있정인어자리스대해동일그만보부들아전원나여라트데장은주성용오제구비소공간입할값문함되"
    "경결과합니까반환초화연류파찾없습관클생출력설변확"
)


def find_declaration(content: bytes) -> str | None:
    """Return the codec that the first lines declare, as in Python, Ruby, Emacs, Vim, HTML and XML; None without a declaration."""
    found = DECLARATION.search(content, 0, DECLARATION_BYTES)
    if found is None:
        return None
    name = re.sub(r"-(?:unix|dos|mac)$", "", found[1].decode("ascii").lower())
    try:
        # encode raises LookupError for codecs that do not encode text; the declaration in ASCII excludes UTF-16, UTF-32 and EBCDIC
        is_ascii_compatible = "a".encode(name) == b"a"
        codec = codecs.lookup(name).name
    except (LookupError, UnicodeError):
        return None
    return codec if is_ascii_compatible and codec not in NOT_FILE_ENCODINGS else None


def decode_seven_bit(content: bytes, declared: str | None) -> tuple[str, str] | None:
    """Decode a 7-bit encoding such as ISO-2022-JP. Return text and encoding; None if the bytes are plain ASCII text.

    >>> decode_seven_bit("# 値\\n".encode("iso2022_jp"), None), decode_seven_bit(b"x = 1", None)
    (('# 値\\n', 'iso2022_jp'), None)
    """
    codecs_tried: tuple[str, ...] = ISO_2022 if has_iso_2022_escapes(content) else ()
    if declared in DECLARED_SEVEN_BIT:
        codecs_tried += (declared,)
    is_certain = bool(codecs_tried)
    if not codecs_tried and b"~{" in content and SHIFTED_HZ.search(content):
        codecs_tried = ("hz",)
    for codec in codecs_tried:
        try:
            text = content.decode(codec)
            text.encode("utf-8")  # UTF-7 may have lone surrogates
        except UnicodeError:
            continue
        # Python's codecs leave an unknown escape sequence and the text after it unchanged
        if not text.isascii() and "\x1b$" not in text and (is_certain or CANDIDATES["gb18030"](text) >= MIN_SHARE):
            return text, codec
    return None


def has_iso_2022_escapes(content: bytes) -> bool:
    return b"\x1b$" in content and SHIFTED.search(content) is not None


def recognize_encoding(content: bytes) -> tuple[str, str] | None:
    """Return the text and the name of its encoding; None if no encoding fits."""
    shares: dict[str, float] = {}
    texts: dict[str, str] = {}
    for codec, share in CANDIDATES.items():
        try:
            texts[codec] = content.decode(codec)
        except UnicodeDecodeError:
            continue
        lines = [line for line in texts[codec].splitlines() if not line.isascii()]
        shares[codec] = share("\n".join(lines)[:EXAMINED_CHARACTERS])
    best = max(shares, key=shares.__getitem__, default=None)
    if best is None or shares[best] < MIN_SHARE:
        return None
    is_latin_1 = best == "cp1252" and not any(0x80 <= byte < 0xA0 for byte in content)
    return texts[best], "latin-1" if is_latin_1 else best


def compute_western_share(text: str) -> float:
    """Return 1 if the letters are of one Western language or all are common symbols, 0.6 for several languages, else 0."""
    letters = find_letters(text)
    if is_implausible(text) or has_letter_run(text, 3) or not (letters or SYMBOLS.issuperset("".join(NOT_ASCII.findall(text)))):
        return 0.0
    return 1.0 if fits_one_alphabet(WESTERN, letters) else 0.6 * letters.issubset("".join(WESTERN))


def compute_central_european_share(text: str) -> float:
    """Return 1 if the letters of the text belong to one Central European language, else 0."""
    letters = find_letters(text)
    return float(bool(letters) and not is_implausible(text) and not has_letter_run(text, 5) and fits_one_alphabet(CENTRAL, letters))


def find_letters(text: str) -> set[str]:
    """Return the letters beyond ASCII, in lower case."""
    return {letter for word in WORD.findall(text) for letter in word.lower() if letter > "\x7f"}


def fits_one_alphabet(alphabets: tuple[str, ...], letters: set[str]) -> bool:
    return any(letters.issubset(alphabet) for alphabet in alphabets)


def has_letter_run(text: str, length: int) -> bool:
    return re.search(rf"{LETTER}{{{length}}}", text) is not None


def is_implausible(text: str) -> bool:
    """Return True for a text with signs of a wrong encoding: control characters, symbols in words, many words in mixed case."""
    return any(pattern.search(text) for pattern in (CONTROL, SYMBOL_IN_WORD, SYMBOL_BEFORE_WORD)) or mixes_cases(text)


def mixes_cases(text: str) -> bool:
    """Return True if more than a quarter of the words with letters beyond ASCII have a capital after a small letter."""
    words = WORD.findall(text)
    return 4 * sum(word[1:] not in (word[1:].lower(), word[1:].upper()) for word in words) > len(words)


def compute_cyrillic_share(text: str) -> float:
    """Return the share of letters that are common in Cyrillic; 0 if the text has other letters or implausible characters."""
    letters = [letter for word in WORD.findall(text) for letter in word.lower() if letter > "\x7f"]
    if not letters or is_implausible(text) or not CYRILLIC.issuperset(letters):
        return 0.0
    return sum(map(CYRILLIC_COMMON.__contains__, letters)) / len(letters)


def make_share_function(common: frozenset[str]) -> Callable[[str], float]:
    def compute_share(text: str) -> float:
        letters = find_east_asian_letters(text)
        return sum(map(common.__contains__, letters)) / len(letters) if letters else 0.0

    return compute_share


def compute_kana_share(text: str) -> float:
    """Return the share of characters that are Hiragana or Katakana. Every Japanese text contains some."""
    letters = find_east_asian_letters(text)
    return sum("\u3040" < letter < "\u3100" for letter in letters) / len(letters) if letters else 0.0


def find_east_asian_letters(text: str) -> list[str]:
    return [letter for letter in text if letter > "\x7f" and letter.isalpha()]


CANDIDATES: dict[str, Callable[[str], float]] = {
    "cp1252": compute_western_share,
    "cp1250": compute_central_european_share,
    "iso8859-2": compute_central_european_share,
    "cp1251": compute_cyrillic_share,
    "koi8-r": compute_cyrillic_share,
    "cp866": compute_cyrillic_share,
    "gb18030": make_share_function(HAN_COMMON),
    "big5": make_share_function(HAN_COMMON),
    "cp932": compute_kana_share,
    "euc-jp": compute_kana_share,
    "cp949": make_share_function(HANGUL_COMMON),
}
"""Codec -> function that computes the share of common letters in the decoded text. If shares are equal, the first codec is used."""
