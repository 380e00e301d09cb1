"""The fields of reports: RFC 3464 blocks, RFC 8098 and RFC 5965 parts, as they are really written.

Read by own code over the decoded payload, because real ones have blank lines inside blocks, blocks without blank
lines between them, folded and missing fields. What the fields mean is said in ``dsn`` and ``receipts``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.normalize import charset, legacy_bounce
from gateway.normalize.headers import Head, Leaf, read_head

MAX_FORM_BYTES: Final = 512 * 1024
_RETURNED_TYPES: Final = frozenset(
    {"message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers", "message/rfc822-headers"}
)
RECIPIENT_FIELDS: Final = frozenset(
    [
        "original-recipient",
        "final-recipient",
        "action",
        "status",
        "remote-mta",
        "diagnostic-code",
        "last-attempt-date",
        "final-log-id",
        "will-retry-until",
        "x-actual-recipient",
        "x-display-name",
        "x-supplementary-info",
        "x400-supplementary-info",
        "x-outbound-ip",
    ]
)
_FIELD = re.compile(r"^[ \t]?([A-Za-z][A-Za-z0-9-]{1,60})[ \t]*:[ \t]*(.*)$")
_TYPED = re.compile(r"^\s*([A-Za-z][A-Za-z0-9-]{0,40})\s*;\s*(.*)$", re.DOTALL)
_ADDRESS_XTEXT = re.compile(r"\+(2B|3D)")
_UTF8_XTEXT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def find(parts: Iterable[Leaf], types: frozenset[str]) -> Leaf | None:
    """Return the first part of one of the content types."""
    return next((leaf for leaf in parts if leaf.content_type in types), None)


def fields(payload: bytes) -> list[tuple[str, str, bool]]:
    """Return ``(name, value, after_blank)`` for every field, unfolded. Lines that are no fields are dropped."""
    text = charset.decode(payload[:MAX_FORM_BYTES], "utf-8")[0]
    found: list[tuple[str, list[str], bool]] = []
    after_blank = False
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line.strip():
            after_blank = True
            continue
        match = _FIELD.match(line[:4000])
        is_folded = line[0] in " \t"
        if match is not None and (not is_folded or match[1].lower() in RECIPIENT_FIELDS):
            found.append((match[1].lower(), [match[2].strip()], after_blank))
            after_blank = False
        elif is_folded and found and not after_blank and len(found[-1][1]) < 60:
            found[-1][1].append(line.strip()[:4000])
    return [(name, " ".join(value).strip(), blank) for name, value, blank in found]


def flat(payload: bytes) -> dict[str, str]:
    """Return the first value of each field of a part that has one block only."""
    found: dict[str, str] = {}
    for name, value, _ in fields(payload):
        found.setdefault(name, value)
    return found


def untyped(value: str) -> str:
    """Drop the ``rfc822;``, ``smtp;`` or ``dns;`` in front of a value."""
    match = _TYPED.match(value)
    return (match[2] if match else value).strip()


def read_address(value: str) -> str | None:
    """Return the mailbox of an address field, or None when it names none (X.400, "unknown")."""
    match = _TYPED.match(value)
    kind, rest = (match[1].lower(), match[2]) if match else ("rfc822", value)
    rest = rest.removeprefix("rfc822;")  # written twice by some
    begin, end = rest.find("<"), rest.rfind(">")
    if 0 <= begin < end and "@" in rest[begin:end]:
        rest = rest[begin + 1 : end]
    rest = rest.strip(" \t<>\"'()")
    if kind == "utf-8":
        rest = _UTF8_XTEXT.sub(_from_code_point, rest)
    elif kind in ("x400", "x-ex", "ex"):
        return None
    rest = _ADDRESS_XTEXT.sub(from_hex, rest)
    if "@" not in rest:
        return None
    words = [word for word in rest.split() if "@" in word]
    address = charset.clean(words[0].strip("<>,;:")) if words else ""
    return address[:400] or None


def _from_code_point(match: re.Match[str]) -> str:
    point = int(match[1], 16)
    return chr(point) if 0x20 < point < 0xD800 or 0xDFFF < point < 0x110000 else match[0]


def from_hex(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    return char if char.isprintable() else match[0]


def original_id(parts: Sequence[Leaf], message: dict[str, str], head: Head, text: str) -> str | None:
    """Return the Message-ID of the mail that the report is about: from the returned part first."""
    for leaf in parts:
        if leaf.content_type in _RETURNED_TYPES:
            found = first_id(read_head(leaf.payload)[0].first("message-id")) or legacy_bounce.find_message_id(
                charset.decode(leaf.payload[:MAX_FORM_BYTES], "utf-8")[0]
            )
            if found:
                return found
    return (
        first_id(message.get("x-original-message-id"))
        or first_id(message.get("original-message-id"))
        or legacy_bounce.find_message_id(text)
        or first_id(head.first("x-original-message-id"))
        or first_id(head.first("in-reply-to"))
        or _last_id(head.first("references"))
    )


def first_id(value: str | None) -> str | None:
    ids = legacy_bounce.read_ids(value or "")
    return ids[0] if ids else None


def _last_id(value: str | None) -> str | None:
    ids = legacy_bounce.read_ids(value or "")
    return ids[-1] if ids else None
