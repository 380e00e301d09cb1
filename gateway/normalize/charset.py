"""Bytes to text: which codec a label means, what to try when it lies, and the gate of every stored text.

Labels in mail are wrong as a matter of routine, and some name Python codecs that are no charsets at all
(``idna``, ``hex``, ``utf-7``). So: a fixed list, the declared charset strictly, then what the bytes
themselves say (T-D05).
Source: WHATWG Encoding labels; RFC 2978; RFC 1468 for the escape sequences of ISO-2022-JP.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

import cchardet

DETECTION_BYTES: Final = 64 * 1024  # more does not change the verdict
SURE_BYTES: Final = 40  # a detector given less guesses at random
_SPOKEN: Final = (
    *(
        "utf-8",
        "ascii",
        "latin-1",
        "cp1252",
        "gb18030",
        "big5hkscs",
        "cp950",
        "euc_jp",
        "cp932",
        "cp949",
        "johab",
    ),
    *("iso2022_jp_2", "iso2022_jp_3", "iso2022_kr", "hz", "koi8_r", "koi8_u", "koi8_t", "kz1048", "ptcp154"),
    *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "tis_620", "mac_roman"),
    *("mac_cyrillic", "mac_greek", "mac_latin2", "mac_turkish", "mac_iceland", "hp_roman8"),
    *(f"cp{page}" for page in (437, 720, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 864, 865)),
    *(f"cp{page}" for page in (866, 869, 874, 1125, 1250, 1251, 1253, 1254, 1255, 1256, 1257, 1258)),
    *(f"iso8859_{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
)
_ALLOWED: Final = frozenset(codecs.lookup(name).name for name in _SPOKEN)
# What writers of these labels really mean: the superset that their system uses.
_MEANT: Final = {
    **dict.fromkeys(("ascii", "latin-1", "us", "ansi", "unknown", "8bit", "7bit", "binary", "x-ansi"), "cp1252"),
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "iso8859_1", "iso_8859-1", "us-ascii", "ansi_x3.4-1968"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk", "x-gbk", "cp936", "ms936", "windows-936", "gb_2312-80", "euc-cn"), "gb18030"),
    **dict.fromkeys(("ks_c_5601-1987", "ks_c_5601", "ksc5601", "ksc_5601", "euc-kr", "euckr", "cp949"), "cp949"),
    **dict.fromkeys(("korean", "windows-949", "ms949", "uhc"), "cp949"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j", "ms932"), "cp932"),
    **dict.fromkeys(("big5", "big5-hkscs", "x-x-big5", "big5-eten", "csbig5"), "big5hkscs"),
    **dict.fromkeys(("iso-2022-jp", "iso2022-jp", "csiso2022jp", "cp50220", "cp50221", "cp50222"), "iso2022_jp_3"),
    **dict.fromkeys(("utf8", "utf-8", "utf8mb4", "unicode-1-1-utf-8", "cp65001", "x-utf-8", "utf"), "utf-8"),
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8-e", "logical", "visual", "hebrew"), "iso8859_8"),
    **dict.fromkeys(("iso-8859-9", "latin5", "iso8859-9"), "cp1254"),
    **dict.fromkeys(("iso-8859-11", "tis-620", "windows-874", "thai"), "cp874"),
    **dict.fromkeys(("koi8", "cskoi8r", "koi"), "koi8_r"),
    **dict.fromkeys(("x-mac-cyrillic", "x-mac-ukrainian"), "mac_cyrillic"),
    **dict.fromkeys(("macintosh", "x-mac-roman", "mac"), "mac_roman"),
    **dict.fromkeys(("x-cp1250", "windows1250"), "cp1250"),
    **dict.fromkeys(("x-cp1251", "windows1251", "win-1251", "win1251"), "cp1251"),
    **dict.fromkeys(("x-cp1252", "windows1252"), "cp1252"),
    "hz-gb-2312": "hz",
    "unicode": "utf-16",
    "ucs-2": "utf-16",
}
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MULTIBYTE_UNITS: Final = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"})
_FEW_LINES: Final = 10_000
_ASCII_BYTES: Final = bytes(range(0x80))
_LONE: Final = re.compile("[\x00\ud800-\udfff]")
_ESCAPES: Final = re.compile(rb"\x1b(?:\$[@B]|\$\([CDOPQ]|\$\)C|\([BIJ]|\.A)|~\{")


def clean(text: str) -> str:
    """Return ``text`` without NUL and lone surrogates, so that every store and every encoder takes it."""
    if text.isascii():
        return without_nul(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        # A pair of surrogates written apart is one character; what is left alone after joining is dropped.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
        return _LONE.sub("", text)
    return without_nul(text)


def without_nul(text: str) -> str:
    """``clean`` for what a strict decoder or a Rust library made: no lone surrogates can be in there."""
    return text.replace("\x00", "") if "\x00" in text else text


def with_line_feeds(text: str) -> str:
    """Return ``text`` with ``\\n`` for every line end."""
    if "\r" not in text:
        return text
    pieces = text.split("\r", _FEW_LINES)
    if len(pieces) <= _FEW_LINES and all(piece[:1] == "\n" for piece in pieces[1:]):
        return "".join(pieces)  # CR LF throughout: three times as fast as looking for the pair
    return text.replace("\r\n", "\n").replace("\r", "\n")


def codec_for(label: str | None) -> str | None:
    """Return the Python codec that a mail's charset label means; None when unknown or not allowed."""
    if not label:
        return None
    name = label.strip(" \t\r\n\"'<>;,").lower().partition("*")[0]
    if meant := _MEANT.get(name):
        return meant
    if not name or len(name) > 40 or not name.isascii() or "\x00" in name:
        return None
    for prefix in ("", "cs", "x-", "charset="):
        if prefix and not name.startswith(prefix):
            continue
        known = _lookup(name[len(prefix) :])
        if known is not None:
            return _MEANT.get(known, known)
    return None


def _lookup(name: str) -> str | None:
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return found if found in _ALLOWED else None


def decode(data: bytes, label: str | None = None) -> tuple[str, bool]:
    """Decode bytes whose charset is said to be ``label``; also return whether they were legible as declared.

    Never raises. The text is clean. An absent label with UTF-8 bytes counts as legible.
    """
    codec = codec_for(label)
    if not data:
        return "", True
    for mark, codec_of_mark in _BOMS:
        if data.startswith(mark) and (mark != codecs.BOM_UTF16_LE or len(data) % 2 == 0 or data[-1:] == b"\n"):
            is_cut = mark == codecs.BOM_UTF16_LE and len(data) % 2  # a line feed of one byte was added on the way
            return clean((data[:-1] if is_cut else data).decode(codec_of_mark, "replace")), True
    is_plain = data.isascii()
    if is_plain and (codec is None or codec not in _MULTIBYTE_UNITS):
        return _decode_ascii(data, codec), codec is not None or not label
    if codec is not None and codec not in {"cp1252", "ascii"}:
        text = _strictly(data, codec)
        if text is not None and not _is_wrong_width(text, codec):
            return without_nul(text), True
    text = _strictly(data, "utf-8")
    if text is not None:
        return without_nul(text), codec in {None, "utf-8"} and (codec is not None or not label)
    if codec == "cp1252" and label and "ascii" not in label.lower() and _is_latin(data):
        return clean(data.decode("cp1252", "replace")), True
    return _guess(data, codec)


def _decode_ascii(data: bytes, codec: str | None) -> str:
    """Seven-bit bytes can still be ISO-2022 or HZ, told by their escapes, whatever the label says."""
    if codec in {"iso2022_kr", "hz"} or (b"\x1b" in data and _ESCAPES.search(data)):
        kr = b"\x1b$)C" in data
        for name in ("iso2022_kr",) if kr else (codec or "iso2022_jp_3", "iso2022_jp_3", "iso2022_jp_ext"):
            text = _strictly(data, name)
            if text is not None and "\x1b" not in text:
                return clean(text)
        if kr or b"\x1b$" in data:
            return clean(data.decode("iso2022_kr" if kr else "iso2022_jp_ext", "replace"))
    return clean(data.decode("ascii"))


def _strictly(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except (UnicodeError, ValueError, LookupError):
        return None


def _is_wrong_width(text: str, codec: str) -> bool:
    """UTF-16 and UTF-32 decode nearly anything: much of it outside any script means that the label lies."""
    if codec not in _MULTIBYTE_UNITS:
        return False
    sample = text[:2000]
    return "\x00" in sample or sum(not char.isprintable() and char not in "\r\n\t" for char in sample) * 4 > len(sample)


def _is_latin(data: bytes) -> bool:
    """Whether bytes labelled Latin-1 look like it: letters and signs sparse among ASCII, or few ones again and again.

    Text in another script needs most of its alphabet, and nearly nothing else.
    """
    high = data[:DETECTION_BYTES].translate(None, _ASCII_BYTES)
    return len(high) * 3 <= len(data[:DETECTION_BYTES]) or len(high) < 8 or 4 * len(set(high)) <= len(high) <= 64


def _guess(data: bytes, codec: str | None) -> tuple[str, bool]:
    if len(data) < SURE_BYTES and codec in {None, "cp1252", "utf-8"} and _is_latin(data):
        text = _strictly(data, "cp1252")
        if text is not None and not _mostly_utf8(data):
            return clean(text), False
    found = cchardet.detect(data[:DETECTION_BYTES])
    guessed = codec_for(found["encoding"]) if (found["confidence"] or 0) >= 0.4 else None
    for name in (guessed, "cp1252" if codec in {None, "cp1252", "utf-8"} else None):
        if name is not None and (text := _strictly(data, name)) is not None:
            return clean(text), False
    # A label with a few damaged bytes still knows best; else Western, as most unlabelled mail is.
    if codec in {"utf-8", None} and _mostly_utf8(data):
        return clean(data.decode("utf-8", "replace")), False
    return clean(data.decode(codec or guessed or "cp1252", "replace")), False


def _mostly_utf8(data: bytes) -> bool:
    text = data[:DETECTION_BYTES].decode("utf-8", "replace")
    good = sum(char > "\x7f" and char != "\ufffd" for char in text)
    return good > 2 * text.count("\ufffd")
