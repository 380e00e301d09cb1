"""The text of one header field: raw 8-bit, folding, and RFC 2047 encoded words as they are really written.

Words of one charset that stand next to each other are joined as bytes *before* decoding, because mailers split
inside a character; words glued to text, in quotes, over-long or with spaces inside are read as well. Linear time.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from gateway.normalize import charset

_WORD: Final = re.compile(r"=\?([A-Za-z0-9_.:+\-]{1,50})(?:\*[A-Za-z0-9\-]{0,20})?\?([bBqQ])\?")
_FOLD: Final = re.compile(r"[\r\n]+(?=[ \t])")
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_COMMENT: Final = re.compile(r"\([^()]*\)")
_HEX: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]")


def to_text(raw: bytes) -> str:
    """Return the field's characters, clean and unfolded, encoded words as they are."""
    is_plain = raw.isascii() and b"\x1b" not in raw
    text = raw.decode("ascii") if is_plain else charset.decode(raw)[0]
    if "\n" in text or "\r" in text:
        text = _FOLD.sub("", text)
    return charset.clean(text)


def decode_field(raw: bytes) -> str:
    """Return an unstructured field as a person should read it: decoded, unfolded, one line."""
    return tidy(decode_words(to_text(raw)))


def tidy(text: str) -> str:
    """Turn control characters (an encoded CR LF, T-C01) into single spaces and trim."""
    if not text.isprintable():
        text = _CONTROLS.sub(" ", text)
    return charset.clean(text).strip()


def drop_comments(text: str) -> str:
    """Remove RFC 5322 comments, two levels deep; deeper ones stay as text."""
    if "(" not in text:
        return text
    return _COMMENT.sub("", _COMMENT.sub("", text))


def decode_words(text: str) -> str:
    """Decode every encoded word in ``text``; what is no legible word stays as it is."""
    if "=?" not in text:
        return text
    out: list[str] = []
    pending: list[tuple[str, str, str]] = []  # label, encoding, encoded text: one run of adjacent words
    at = 0
    while True:
        begin = text.find("=?", at)
        match = _WORD.match(text, begin) if begin >= 0 else None
        if begin >= 0 and match is None:
            if pending:
                out.append(_decode_run(pending))
                pending = []
            out.append(text[at : begin + 2])
            at = begin + 2
            continue
        end = text.find("?=", match.end()) if match else -1
        if match is None or end < 0:
            break
        gap = text[at:begin]
        if pending and gap.strip(" \t\r\n"):
            out.append(_decode_run(pending))
            pending = []
            out.append(gap)
        elif not pending:
            out.append(gap)
        pending.append((match[1], match[2].lower(), text[match.end() : end]))
        at = end + 2
    if pending:
        out.append(_decode_run(pending))
    out.append(text[at:])
    return "".join(out)


def _decode_run(run: list[tuple[str, str, str]]) -> str:
    """Decode adjacent words: bytes are joined first, base64 cut inside a group of four too."""
    text: list[str] = []
    data, label, open_base64 = b"", run[0][0], ""
    for name, encoding, encoded in run:
        if name.lower() != label.lower():
            text.append(charset.decode(data + _from_base64(open_base64), label)[0])
            data, label, open_base64 = b"", name, ""
        if encoding == "q":
            data += _from_base64(open_base64) + _from_q(encoded)
            open_base64 = ""
            continue
        digits = open_base64 + _NOT_BASE64.sub("", encoded)
        if len(digits) % 4 and "=" not in encoded:
            open_base64 = digits
        else:
            data += _from_base64(digits)
            open_base64 = ""
    text.append(charset.decode(data + _from_base64(open_base64), label)[0])
    return "".join(text)


def _from_base64(digits: str) -> bytes:
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4))
    except (binascii.Error, ValueError):
        return b""


def _from_q(encoded: str) -> bytes:
    raw = encoded.replace("_", " ").encode("utf-8", "surrogatepass")
    return _HEX.sub(lambda hit: bytes([int(hit[1], 16)]), raw)
