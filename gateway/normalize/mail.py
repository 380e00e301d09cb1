"""A mail, read: raw bytes in, one ``values.Mail`` out. No I/O, never raises, never loses text (R2.1).

Order: header block, tree of parts, words and files, then what sort of mail it is. Each step has its own module
and its own limits; this one only puts the results together.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html as entities
import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

from gateway.normalize import (
    addresses,
    autoreply,
    bodies,
    charset,
    dsn,
    filenames,
    html,
    language,
    mime,
    quotes,
)
from gateway.normalize.headers import Head, Leaf, read_head
from gateway.normalize.values import Address, Attachment, Automatic, Bounce, Kind, Mail, Reply, Report

MAX_REFERENCES: Final = 50
MAX_TEXT_CHARS: Final = bodies.MAX_TEXT_CHARS
MAX_SUBJECT_CHARS: Final = 1000
MAX_ID_CHARS: Final = 998
FEW_CHARS: Final = 400
LANGUAGE_CHARS: Final = 1000  # more does not change the verdict
_DAY_SECONDS: Final = 86_400
_DELIVERED: Final = ("delivered-to", "x-original-to", "envelope-to")
_CUT_NOTICE: Final = "\n[…]"
_MSG_ID: Final = re.compile(r"<([^<>]{1,998})>")
_CID: Final = re.compile(r'src="cid:([^"]{1,500})"')
_PART_LINE: Final = re.compile(r"content-[a-z-]{2,40}:", re.IGNORECASE)
_NAMED_OFFSET: Final = re.compile(r"(?:GMT|UTC)([+-])(\d\d):?(\d\d)\s*$")  # "GMT+01:00", of Java programs
_TOKEN: Final = re.compile(r"\w+")
_WORD: Final = re.compile(r"\w{5,30}")
_MARKUP: Final = re.compile(r"\s*<(?:!doctype html|html|body|head)\b", re.IGNORECASE)
_STUB: Final = re.compile(
    r"(?:does ?n[o']t|not|cannot|can't|unable to) (?:support|display|view|show|render)[^.\n]{0,40}(?:html|mime)|"
    r"html[- ]?(?:e-?mail|message|version|enabled|capable|compatible|format|only)|"
    r"view (?:this|the|it)[^.\n]{0,60}browser|"
    r"(?:e-?mail|mail|browser|client)[^.\n]{0,40}\bhtml\b|html[^.\n]{0,40}(?:unterstützt|anzeigen|darstell)|"
    r"(?:im|in einem) browser|dans (?:votre|un) navigateur|en (?:tu|su|el) navegador|nel (?:tuo )?browser|"
    r"in (?:je|uw) browser|в браузере|no plain[- ]text version|multi-?part message in mime format",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Words:
    """The body in the views that ``Mail`` has."""

    text: str
    safe_html: str | None
    is_text_from_html: bool


def read_mail(raw: bytes, *, parent_text: str | None = None) -> Mail:
    """Read a whole mail. ``parent_text`` is what we wrote in the message that it answers, when that is known."""
    data = _with_line_feeds(raw)
    head, body_at, warnings = read_head(data)
    try:
        said, leaves = _read(head, data, body_at, warnings, parent_text)
    except Exception:  # noqa: BLE001  the promise of this module; the fuzz tests fail on the code it leaves
        text = _as_it_stands(data[body_at:])
        noted = (*warnings, "reader-failed")
        return Mail(**_read_fields(head), text=text, reply=Reply(text=text), warnings=noted)
    try:
        verdict = _judge(said, leaves, head)
    except Exception:  # noqa: BLE001  the same; the words and files are not lost with the verdict
        verdict = {"warnings": (*said["warnings"], "reader-failed")}
    return Mail(**said | verdict)


def read_head_only(raw: bytes) -> Mail:
    """Read only the header fields: a cheap look at a mail whose body may not even be here."""
    head, _, warnings = read_head(_with_line_feeds(raw))
    return Mail(**_read_fields(head), warnings=tuple(warnings))


def _as_it_stands(body: bytes) -> str:
    return charset.decode(body[:MAX_TEXT_CHARS])[0].replace("\r\n", "\n").strip()


def _outside_parts(body: bytes) -> str:
    """What a body without a legible part says: everything but boundaries and part headers."""
    if not body.strip():
        return ""
    lines = _as_it_stands(body).split("\n")
    return "\n".join(line for line in lines if not line.startswith("--") and not _PART_LINE.match(line)).strip()


def _with_line_feeds(raw: bytes) -> bytes:
    """Mail of old systems ends its lines with CR alone; everything after this expects a line feed."""
    if raw.find(b"\n", 0, 64 * 1024) < 0 and b"\r" in raw[: 64 * 1024] and b"\n" not in raw:
        return raw.replace(b"\r", b"\n")
    return raw


def _read(
    head: Head, data: bytes, body_at: int, warnings: list[str], parent_text: str | None
) -> tuple[dict[str, Any], list[Leaf]]:
    """Return the fields of what the mail says, not yet what sort it is, and its parts."""
    root, mime_warnings = mime.read_tree(head, data, body_at)
    body = bodies.read_body(root)
    noted = dict.fromkeys([*warnings, *mime_warnings, *body.warnings])
    spoken = _read_words(body.pieces, noted)
    if not body.pieces and not body.files and (left := _outside_parts(data[body_at:])):
        spoken = _Words(left, None, is_text_from_html=False)
        noted["structure-broken"] = None
    reply, reply_html = _read_reply(spoken, parent_text)
    if reply.text == spoken.text:
        reply = replace(reply, text=spoken.text)  # one string: it goes through the parser's pipe once
    said = _read_fields(head) | {
        "text": spoken.text,
        "html": spoken.safe_html,
        "reply": reply,
        "reply_html": reply_html,
        "attachments": _read_files(body.files, spoken.safe_html, noted),
        "canonical_digest": canonical_digest(head, data[body_at:]),
        "warnings": tuple(noted),
    }
    return said, list(mime.leaves(root))


def _judge(said: dict[str, Any], leaves: list[Leaf], head: Head) -> dict[str, Any]:
    text, subject, reply = said["text"], said["subject"], said["reply"]
    report = dsn.read_report(leaves, head, text)
    automatic = autoreply.judge(head, sender=said["sender"], subject=subject, is_report=report is not None)
    return {
        "kind": _kind(report, automatic, is_answer=autoreply.is_reply_like(head, subject)),
        "automatic": automatic,
        "bounce": report if isinstance(report, Bounce) else None,
        "report": report if isinstance(report, Report) else None,
        "language": _language(reply.text or text),
    }


def _language(text: str) -> str | None:
    """The language of the first words; of more of them where those do not tell."""
    told = language.detect(text[:FEW_CHARS])
    return told if told or len(text) <= FEW_CHARS else language.detect(text[:LANGUAGE_CHARS])


def _kind(report: Bounce | Report | None, automatic: Automatic, *, is_answer: bool) -> Kind:
    """A machine's news (a shop, a monitor) is a message like any other; only its answers are set apart."""
    if isinstance(report, Bounce):
        return Kind.BOUNCE
    if isinstance(report, Report):
        return Kind.REPORT
    return Kind.AUTO_REPLY if automatic.is_automatic and is_answer else Kind.MESSAGE


def _read_words(pieces: list[bodies.Piece], noted: dict[str, None]) -> _Words:
    """Make each HTML piece safe once, and choose per piece whether its plain view or the HTML speaks."""
    texts: list[str] = []
    views: list[str] = []
    is_from_html = False
    any_html = any(piece.html is not None for piece in pieces)
    for piece in pieces:
        plain = html.tidy_text(piece.plain) if piece.plain else ""
        if piece.html is None:
            texts.append(plain)
            if any_html:
                views.append(html.from_text(plain))
            continue
        if html.is_buildable(piece.html):
            safe = html.sanitise(piece.html)
            views.append(safe)
            if _is_stub(plain):
                plain = html.to_text(safe) or plain
                is_from_html = True
            elif _differs(plain, safe):
                noted["alternatives-differ"] = None
        else:
            noted["html-too-complex"] = None
            if _is_stub(plain):
                plain = html.strip_tags(piece.html) or plain
            views.append(html.from_text(plain[:MAX_TEXT_CHARS]))
        texts.append(plain)
    text = "\n\n".join(filter(None, texts))
    if len(text) > MAX_TEXT_CHARS:
        text = text[:MAX_TEXT_CHARS] + _CUT_NOTICE
        noted["text-cut"] = None
    has_html = any_html and "html-too-complex" not in noted
    return _Words(text, "\n".join(views) if has_html else None, is_text_from_html=is_from_html)


def _is_stub(plain: str) -> bool:
    """Whether the plain view says nothing but that one should look at the other."""
    if not plain.strip():
        return True
    return (len(plain) < 600 and _STUB.search(plain) is not None) or _MARKUP.match(plain) is not None


def _differs(plain: str, safe: str) -> bool:
    """Whether most longer words of the plain view are missing in the HTML (T-D09)."""
    spoken = {match[0] for match in islice(_WORD.finditer(plain, 0, 4000), 60)}
    return len(spoken) >= 5 and sum(word in safe for word in spoken) * 3 < len(spoken)


def _read_reply(spoken: _Words, parent_text: str | None) -> tuple[Reply, str | None]:
    """Split both views. The plain one speaks unless only the HTML shows where the quote begins."""
    of_text: Reply | None = None
    if not spoken.is_text_from_html:
        of_text = quotes.split_text(spoken.text, parent_text)
        if not of_text.quoted and not of_text.signature and not html.has_quote_marks(spoken.safe_html or ""):
            return of_text, None
    as_text = html.to_text if of_text is None else _later
    split = quotes.split_html(spoken.safe_html, as_text, parent_text) if spoken.safe_html else None
    if split is None or not split.is_split:
        return of_text or quotes.split_text(spoken.text, parent_text), None
    if of_text is None:
        return Reply(text=split.new_text, quoted=split.quoted_text, signature=split.signature_text), split.new_html
    if of_text.quoted or not split.quoted_html:
        return of_text, split.new_html
    parts = (split.new_html, split.quoted_html, split.signature_html)
    text, quoted, signature = (html.to_text(part) if part else "" for part in parts)
    if not quoted:
        return of_text, split.new_html
    if _lacks_words(spoken.text, (text, quoted, signature)):  # the views differ: no word of the plain one may go
        return quotes.split_text(spoken.text, quoted), split.new_html
    return Reply(text=text, quoted=quoted, signature=signature), split.new_html


def _lacks_words(text: str, parts: tuple[str, ...]) -> bool:
    words = Counter(_TOKEN.findall(text))
    words.subtract(_TOKEN.findall("\n".join(parts)))
    return any(count > 0 for count in words.values())


def _later(_html: str) -> str:
    """The text of the HTML parts costs more than finding them, and is seldom asked for."""
    return ""


def _read_files(files: list[Leaf], safe_html: str | None, noted: dict[str, None]) -> tuple[Attachment, ...]:
    if not files:
        return ()
    shown = {unquote(entities.unescape(cid)).strip("<>") for cid in _CID.findall(safe_html or "")}
    attachments: list[Attachment] = []
    for number, leaf in enumerate(files, start=1):
        name, is_changed = filenames.shown_name(leaf, number)
        if is_changed:
            noted["file-name-changed"] = None
        attachments.append(
            Attachment(
                name=name,
                content_type=leaf.content_type[:200],
                content=leaf.payload,
                sha256=hashlib.sha256(leaf.payload).hexdigest(),
                is_inline=leaf.content_id is not None and leaf.content_id in shown,
                content_id=leaf.content_id[:MAX_ID_CHARS] if leaf.content_id else None,
            )
        )
    return tuple(attachments)


def _read_fields(head: Head) -> dict[str, Any]:
    """Return what the header says, as fields of ``Mail``; it is built once, when the words are known too."""
    sender, is_unclear = addresses.parse_sender(head.raws("from"))
    delivered = [value for name in _DELIVERED for value in head.all(name)][: addresses.MAX_ADDRESSES]
    return {
        "sender": sender,
        "is_sender_unclear": is_unclear,
        "to": _addresses(head, "to"),
        "cc": _addresses(head, "cc"),
        "reply_to": _addresses(head, "reply-to"),
        "delivered_to": tuple(dict.fromkeys(value.strip("<> ") for value in delivered if value)),
        "return_path": _return_path(head),
        "subject": (head.first("subject") or "")[:MAX_SUBJECT_CHARS],
        "date": _read_date(head.first("date")),
        "message_id": next(iter(_ids(head.first("message-id"))), None),
        "in_reply_to": tuple(_ids(" ".join(head.all("in-reply-to")))[:MAX_REFERENCES]),
        "references": tuple(_ids(" ".join(head.all("references")))[-MAX_REFERENCES:]),
        "thread_index": _thread_index(head.first("thread-index")),
        "authentication": _authentication(head),
        "loop_marker": head.first("x-gatehouse-loop"),
        "received_count": len(head.raws("received")),
    }


def _addresses(head: Head, name: str) -> tuple[Address, ...]:
    """All fields of the name: several To fields are wrong and are seen."""
    found = [one for raw in head.raws(name)[:10] for one in addresses.parse_field(raw)]
    return tuple(found[: addresses.MAX_ADDRESSES])


def _return_path(head: Head) -> str | None:
    raw = head.raw("return-path")
    if raw is None:
        return None
    found = addresses.parse_field(raw, limit=1)
    return found[0].address if found else ""


def _read_date(value: str | None) -> datetime | None:
    """Return the Date field in UTC; None when it is absent, illegible or outside the calendar."""
    if not value:
        return None
    try:
        parsed = parsedate_tz(_NAMED_OFFSET.sub(r"\1\2\3", value[:200]))
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    try:
        if parsed is None:
            read = datetime.fromisoformat(value[:40].strip())
            return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
        offset = parsed[9] or 0
        zone = timezone(timedelta(seconds=offset)) if abs(offset) < _DAY_SECONDS else UTC
        return datetime(*parsed[:6], tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _ids(value: str | None) -> list[str]:
    """Return the ids of a field in order, each once, without brackets; a bare ``left@right`` counts alone."""
    if not value:
        return []
    found = ["".join(one.split()) for one in _MSG_ID.findall(value)]
    if not found and "@" in value:
        found = [one.strip("<>,;\"'") for one in value.split() if "@" in one]
    return list(dict.fromkeys(one[:MAX_ID_CHARS] for one in found if one))


def _thread_index(value: str | None) -> str | None:
    try:
        decoded = base64.b64decode("".join((value or "").split()))
    except (binascii.Error, ValueError):
        return None
    return decoded[:22].hex() if len(decoded) >= 22 else None


def _authentication(head: Head) -> dict[str, str]:
    """The topmost field of each server: only that one can be its own (the reader decides whom to believe)."""
    topmost: dict[str, str] = {}
    for value in head.all("authentication-results")[:50]:
        server = value.partition(";")[0].split(" ")[0].strip().lower()
        if server:
            topmost.setdefault(server, value[:4000])
    return topmost


def canonical_digest(head: Head, body: bytes) -> str:
    """Return the SHA-256 by which a mail is known again in another folder or after a server's move.

    Message-ID, From, Date, Subject, To, Cc and the body; white space of folding and line ends do not count, because
    servers change them.
    """
    digest = hashlib.sha256()
    for name in ("message-id", "from", "date", "subject", "to", "cc"):
        for raw in head.raws(name)[:10]:
            digest.update(name.encode() + b":" + b" ".join(raw.split()) + b"\n")
    digest.update(b"\n")
    digest.update(body.translate(None, b"\r\n"))
    return digest.hexdigest()
