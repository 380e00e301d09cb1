"""The files inside a ``winmail.dat``: what Outlook sends to people who do not use Outlook.

Source: MS-OXTNEF. Only attachments are listed; the message properties beside them repeat the mail. Bounded and
linear: every length is checked against what is left, damaged streams give what was read before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from gateway.normalize import charset

MAX_FILES: Final = 200
MAX_PROPERTIES: Final = 2000
_SIGNATURE: Final = 0x223E9F78
_ATTACHMENT_LEVEL: Final = 2
_REND_DATA, _TITLE, _DATA, _PROPERTIES = 0x00069002, 0x00018010, 0x0006800F, 0x00069005
_LONG_NAME, _MIME_TYPE, _CONTENT_ID = 0x3707, 0x370E, 0x3712
_STRING8, _UNICODE, _BINARY, _OBJECT = 0x001E, 0x001F, 0x0102, 0x000D
_MULTIPLE: Final = 0x1000
_FIXED_BYTES: Final = {0x0002: 4, 0x0003: 4, 0x0004: 4, 0x0005: 8, 0x0006: 8, 0x0007: 8, 0x000A: 4, 0x000B: 4}
_LONG_FIXED_BYTES: Final = {0x0014: 8, 0x0040: 8, 0x0048: 16}


def read_files(data: bytes) -> list[tuple[str, str, bytes]]:
    """Return ``(name, content type or "", content)`` of each file; an empty list when it is no TNEF. Never raises."""
    files: list[tuple[str, str, bytes]] = []
    name, kind, content = "", "", None
    for attribute, value in _attributes(data):
        if attribute == _REND_DATA:
            if content is not None:
                files.append((name, kind, content))
            name, kind, content = "", "", None
        elif attribute == _TITLE:
            name = name or charset.decode(value.partition(b"\x00")[0])[0]
        elif attribute == _DATA:
            content = value
        elif attribute == _PROPERTIES:
            properties = dict(_properties(value))
            name = properties.get(_LONG_NAME) or name
            kind = properties.get(_MIME_TYPE, "")
        if len(files) >= MAX_FILES:
            return files
    if content is not None:
        files.append((name, kind, content))
    return files


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    if len(data) < 6 or struct.unpack_from("<I", data)[0] != _SIGNATURE:
        return
    at = 6  # signature and key
    while at + 9 <= len(data):
        level, attribute, length = struct.unpack_from("<BII", data, at)
        at += 9
        if at + length > len(data):
            return
        if level == _ATTACHMENT_LEVEL:
            yield attribute, data[at : at + length]
        at += length + 2  # checksum


def _properties(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield the text properties of a MAPI property list, until something is not understood."""
    if len(data) < 4:
        return
    count = min(struct.unpack_from("<I", data)[0], MAX_PROPERTIES)
    at = 4
    for _ in range(count):
        if at + 4 > len(data):
            return
        kind, tag = struct.unpack_from("<HH", data, at)
        at += 4
        if tag >= 0x8000:
            at = _skip_name(data, at)
        fixed = _FIXED_BYTES.get(kind) or _LONG_FIXED_BYTES.get(kind)
        if fixed:
            at += fixed
            continue
        if kind & ~_MULTIPLE not in {_STRING8, _UNICODE, _BINARY, _OBJECT} or at + 4 > len(data):
            return
        values = struct.unpack_from("<I", data, at)[0]
        at += 4
        for _ in range(min(values, MAX_PROPERTIES)):
            if at + 4 > len(data):
                return
            length = struct.unpack_from("<I", data, at)[0]
            raw = data[at + 4 : at + 4 + length]
            at += 4 + length + (-length % 4)
            if kind == _UNICODE:
                yield tag, charset.clean(raw.decode("utf-16-le", "ignore").partition("\x00")[0])
            elif kind == _STRING8:
                yield tag, charset.decode(raw.partition(b"\x00")[0])[0]


def _skip_name(data: bytes, at: int) -> int:
    """A named property carries a GUID and a number, or a GUID and its name, before its value."""
    if at + 24 > len(data):
        return len(data)
    is_text, number = struct.unpack_from("<II", data, at + 16)
    return at + 24 if not is_text else at + 24 + number + (-number % 4)
