"""What an answer looks like on the wire: values in, the bytes of one mail out (RFC 5322, 2045-2047, 2231).

Written by hand because an outbox renders thousands a minute and because building may never fail: whatever a customer
put into a subject, a name or a file name, the header lines of the result are exactly the planned ones (T-C01). The
same values always give the same bytes, so that a second try is the same mail. Every line ends in CRLF, none is longer
than 998 bytes, no CR or LF stands alone (T-C03). Dot-stuffing belongs to the socket and is done there.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import quote

import idna

from gateway.normalize.values import Address

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LINE_CHARS = 76  #: what we fold at; the standard allows 998 and recommends 78
MAX_ID_CHARS = 900  #: a Message-ID cannot be folded, so a longer one does not fit into a legal line
MAX_ADDRESS_CHARS = 240  #: what is longer, no server takes (RFC 5321 section 4.5.3.1)
MAX_FILE_NAME_CHARS = 200
FOLD = "\r\n "
REFERENCES_BYTES = 1500

#: What no header may carry: C0, DEL, C1, and the two separators that some parsers take for line ends.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
BODY_BYTES = bytes(b if b in (0x09, 0x0A) or (b >= 0x20 and b != 0x7F) else 0x20 for b in range(256))
ASCII = bytes(range(128))
SURROGATES = re.compile(r"[\ud800-\udfff]")
NOT_A_TOKEN = re.compile(r"[^!-~]+")
#: ASCII that may stand as it is and be folded at its single spaces.
PLAIN_TEXT = re.compile(r"(?!.*=\?)[!-~]{1,70}(?: [!-~]{1,70})*")
PLAIN_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=^_`{|}~-]+)*")
QUOTABLE = re.compile(r"(?!.*=\?)[ -~]{1,60}")
ADDRESS = re.compile(
    r"""(?: [^\x00-\x20\x7f-\x9f()<>@,;:\\".\[\]]+ (?:\.[^\x00-\x20\x7f-\x9f()<>@,;:\\".\[\]]+)*
          | "(?:[^"\\\x00-\x1f\x7f-\x9f]|\\[ -~])*" )
        @ (?: [^\x00-\x20\x7f-\x9f()<>@,;:\\".\[\]]+ (?:\.[^\x00-\x20\x7f-\x9f()<>@,;:\\".\[\]]+)*
          | \[[0-9A-Za-z.:]+\] )""",
    re.VERBOSE,
)
NOT_IN_AN_ADDRESS = re.compile(r"""[\x00-\x20\x7f-\x9f()<>,;:\\"\[\]\u2028\u2029]+""")
MESSAGE_ID = re.compile(rf"[!-;=?-~]{{1,{MAX_ID_CHARS}}}")
CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,60}/[a-z0-9][a-z0-9!#$&^_.+-]{0,60}")
PLAIN_FILE_NAME = re.compile(r"(?!.*=\?)[A-Za-z0-9 !#$&()+,.=@^_`{}~'-]{1,50}")
Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
Q_TABLE = tuple(chr(b) if b in Q_SAFE else "_" if b == 0x20 else f"={b:02X}" for b in range(256))
#: protocols/email-inbound section 4, and the same words of the console's other languages.
REPLY_PREFIXES = re.compile(
    r"""(?:\s*(?:re|fwd?|aw|wg|sv|vs|vb|tr|res|enc|rv|r|i|antw|doorst|odp|pd|ynt|ilt|rif|ref|vá|atb|ats|na|bls|hvs
        |отг|отв|ответ|на|απ|πρθ|回复|答复|回覆|轉寄|转发|返信|转寄|답장|전달)
        (?:\s?[\[(]\d{1,4}[\])]|\^\d{1,4})?\s?[:：])+""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutgoingFile:
    """A file to send. ``is_inline`` with a ``content_id`` that the HTML uses makes it part of the HTML."""

    name: str
    content_type: str
    content: bytes
    content_id: str | None = None
    is_inline: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OutgoingMail:
    """Everything that one mail says. Blind copies are envelope only and do not occur here.

    Ids may come with or without angle brackets. ``auto_submitted`` only for mail that no person wrote (RFC 3834).
    """

    sender_name: str = ""
    sender_address: str
    reply_to: str | None = None
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    subject: str = ""
    text: str = ""
    html: str | None = None
    message_id: str
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()
    date: datetime
    attachments: tuple[OutgoingFile, ...] = ()
    loop_marker: str = ""
    auto_submitted: str | None = None


def compose(mail: OutgoingMail) -> bytes:
    """Return the whole mail, ASCII but for addresses whose local part is not. Raises nothing for any content."""
    head = [
        f"From: {_mailbox(mail.sender_name, mail.sender_address)}",
        _address_header("To", mail.to) or "To: undisclosed-recipients:;",
        _address_header("Cc", mail.cc),
        f"Reply-To: {_mailbox(mail.sender_name, mail.reply_to)}" if mail.reply_to else "",
        f"Subject: {_unstructured(mail.subject, used=9)}",
        f"Date: {_date(mail.date)}",
        f"Message-ID: {_ids(_legible([mail.message_id]))}",
    ]
    if mail.in_reply_to and (replied := _ids(_legible([mail.in_reply_to]))):
        head.append(f"In-Reply-To: {replied}")
    if references := _ids(trim_references(_legible(mail.references))):
        head.append(f"References: {references}")
    if mail.loop_marker:
        head.append(f"X-Gatehouse-Loop: {_token(mail.loop_marker)}")
    if mail.auto_submitted:
        head.append(f"Auto-Submitted: {_token(mail.auto_submitted)}")
    head.append("MIME-Version: 1.0")
    lines = "\r\n".join(filter(None, head)).encode("utf-8", "replace")
    return b"%b\r\n%b" % (lines, _body(mail))


def trim_references(references: Sequence[str], limit_bytes: int = REFERENCES_BYTES) -> tuple[str, ...]:
    """Keep the first id, which is the thread's root, and as many of the newest as fit (RFC 5322 section 3.6.4)."""
    if not references:
        return ()
    first, rest = references[0], references[1:]
    left = limit_bytes - len(first) - 3
    kept: list[str] = []
    for reference in reversed(rest):
        left -= len(reference) + 3
        if left < 0:
            break
        kept.append(reference)
    return (first, *reversed(kept))


def reply_subject(subject: str) -> str:
    """Return ``Re: `` and the subject without the marks that mail programs of many languages put before it."""
    whole = _clean(subject)
    marks = REPLY_PREFIXES.match(whole)
    return f"Re: {whole[marks.end() if marks else 0 :].strip()}".rstrip()


@lru_cache(maxsize=4096)
def _mailbox(name: str, address: str) -> str:
    """``name <address>``, folded; nothing when nothing of the address can stand in a header."""
    spec = _address(address)
    phrase = " ".join(_clean(name).split())
    if not phrase or not spec:
        return spec
    if not (len(phrase) <= 60 and PLAIN_PHRASE.fullmatch(phrase)):
        if QUOTABLE.fullmatch(phrase):
            phrase = '"' + phrase.replace("\\", "\\\\").replace('"', '\\"') + '"'
        else:
            phrase = _encoded_words(phrase, used=10)
    last_line_chars = len(phrase) - phrase.rfind("\n")
    return f"{phrase}{' ' if last_line_chars + len(spec) < 64 else FOLD}<{spec}>"


def _address(address: str) -> str:
    """An addr-spec that can stand in a header; the envelope, not this, decides where a mail goes."""
    spec = SURROGATES.sub("\ufffd", address.strip())[:MAX_ADDRESS_CHARS]
    if not ADDRESS.fullmatch(spec):
        spec = NOT_IN_AN_ADDRESS.sub("", spec)
    if spec.isascii():
        return spec
    local, at, domain = spec.rpartition("@")
    return f"{local}{at}{_ascii_domain(domain)}"


def _ascii_domain(domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return domain.encode("ascii", "replace").decode("ascii")


def _clean(value: str) -> str:
    """One line of valid Unicode: control characters become a space, lone surrogates the replacement character."""
    if value.isprintable():  # the usual case; neither controls nor surrogates are printable
        return value
    return SURROGATES.sub("\ufffd", CONTROLS.sub(" ", value))


def _encoded_words(value: str, *, used: int) -> str:
    """RFC 2047 words of at most 75 characters, one a line, none of which splits a character.

    ``used`` characters stand before the first word. Q or B, whichever is shorter.
    """
    raw = value.encode("utf-8")
    if sum(map(len, map(Q_TABLE.__getitem__, raw))) <= len(raw) * 4 // 3 + 2:
        return _q_words(value, used)
    words = []
    start, room = 0, (63 - used) // 4 * 3
    while start < len(raw):
        end = start + room
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{binascii.b2a_base64(raw[start:end], newline=False).decode()}?=")
        start, room = end, 45
    return FOLD.join(words)


def _q_words(value: str, used: int) -> str:
    words, word, room = [], "", 63 - used
    for character in value:
        piece = "".join([Q_TABLE[byte] for byte in character.encode()])
        if len(word) + len(piece) > room:
            words.append(word)
            word, room = "", 63
        word += piece
    words.append(word)
    return FOLD.join([f"=?utf-8?q?{word}?=" for word in words])


def _address_header(name: str, addresses: Iterable[Address]) -> str:
    """One mailbox a line; nothing when none is left."""
    mailboxes = [mailbox for one in addresses if (mailbox := _mailbox(one.name, one.address))]
    return f"{name}: {f',{FOLD}'.join(mailboxes)}" if mailboxes else ""


def _unstructured(value: str, *, used: int) -> str:
    text = _clean(value).strip()
    if not text:
        return ""
    if PLAIN_TEXT.fullmatch(text):
        return text if used + len(text) <= LINE_CHARS else _folded(text, used)
    return _encoded_words(text, used=used)


def _folded(text: str, used: int) -> str:
    lines, line, room = [], "", LINE_CHARS - used
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > room:
            lines.append(line)
            line, room = word, LINE_CHARS
        else:
            line = f"{line} {word}" if line else word
    return FOLD.join([*lines, line])


def _date(moment: datetime) -> str:
    """RFC 5322 section 3.3 in UTC, without the locale that ``strftime`` obeys; naive means UTC."""
    at = moment.astimezone(UTC) if moment.tzinfo else moment
    return (
        f"{DAYS[at.weekday()]}, {at.day:02} {MONTHS[at.month - 1]} {at.year:04} "
        f"{at.hour:02}:{at.minute:02}:{at.second:02} +0000"
    )


def _legible(ids: Iterable[str]) -> list[str]:
    """Ids without brackets; one that cannot stand on one ASCII line names nothing that a server could know."""
    stripped = (one.strip().removeprefix("<").removesuffix(">") for one in ids)
    return [one for one in stripped if MESSAGE_ID.fullmatch(one)]


def _ids(ids: Iterable[str]) -> str:
    return FOLD.join([f"<{one}>" for one in ids])


def _token(value: str) -> str:
    """A machine's word: printable ASCII on one line."""
    return NOT_A_TOKEN.sub("", value)[:MAX_ID_CHARS]


def _body(mail: OutgoingMail) -> bytes:
    """Everything from the first Content- header on: text, beside it HTML with its images, around both the files."""
    seed = blake2b(mail.message_id.encode("utf-8", "replace"), digest_size=12).hexdigest()
    body = _text_part(b"plain", mail.text)
    is_inline = [one.is_inline and mail.html is not None and _content_id(one) != "" for one in mail.attachments]
    if mail.html is not None:
        shown = _text_part(b"html", mail.html)
        images = [_file_part(one) for one, inline in zip(mail.attachments, is_inline, strict=True) if inline]
        if images:
            shown = _multipart(b'related; type="text/html"', f"{seed}-r", [shown, *images])
        body = _multipart(b"alternative", f"{seed}-a", [body, shown])
    files = [_file_part(one) for one, inline in zip(mail.attachments, is_inline, strict=True) if not inline]
    return _multipart(b"mixed", f"{seed}-m", [body, *files]) if files else body


def _multipart(kind: bytes, seed: str, parts: Sequence[bytes]) -> bytes:
    """``=_`` can occur in no base64 or quoted-printable line, and 7bit text that has it is not sent as 7bit."""
    boundary = f"=_gh-{seed}".encode()
    inner = (b"\r\n--%b\r\n" % boundary).join(parts)
    head = b'Content-Type: multipart/%b;\r\n boundary="%b"\r\n\r\n' % (kind, boundary)
    return b"%b--%b\r\n%b\r\n--%b--\r\n" % (head, boundary, inner, boundary)


def _text_part(subtype: bytes, text: str) -> bytes:
    """A body ends in one CRLF at least; in 7bit, quoted-printable or base64, whichever is the shortest."""
    data = text.encode("utf-8", "replace").replace(b"\r\n", b"\n").replace(b"\r", b"\n").translate(BODY_BYTES)
    if not data.endswith(b"\n"):
        data += b"\n"
    lines = data.split(b"\n")
    crlf = b"\r\n".join(lines)
    if data.isascii() and max(map(len, lines)) <= 78 and b"--=_" not in data:
        encoding = b"7bit"
    elif 6 * len(data.translate(None, ASCII)) > len(data):
        encoding, crlf = b"base64", _base64(crlf)
    else:
        encoding, crlf = b"quoted-printable", binascii.b2a_qp(crlf, istext=True)
    return b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        subtype,
        encoding,
        crlf,
    )


def _base64(data: bytes) -> bytes:
    """RFC 2045 section 6.8: lines of 76 characters, each ended by CRLF."""
    line = binascii.b2a_base64(data, newline=False)
    return b"".join([line[start : start + 76] + b"\r\n" for start in range(0, len(line), 76)])


def _file_part(file: OutgoingFile) -> bytes:
    kind = file.content_type.strip().lower()
    if not CONTENT_TYPE.fullmatch(kind) or kind.startswith(("multipart/", "message/")):
        kind = "application/octet-stream"  # containers may not be base64 (RFC 2045 section 6.4)
    name = _file_name(file.name)
    content_id = _content_id(file)
    head = [
        f"Content-Type: {kind}" + (f";{FOLD}name={_name_parameter(name)}" if name else ""),
        "Content-Transfer-Encoding: base64",
        f"Content-Disposition: {'inline' if file.is_inline and content_id else 'attachment'}"
        + (f";{FOLD}{_file_name_parameter(name)}" if name else ""),
    ]
    if content_id:
        head.append(f"Content-ID: <{content_id}>")
    return b"%b\r\n\r\n%b" % ("\r\n".join(head).encode("ascii"), _base64(file.content))


def _file_name(name: str) -> str:
    """One line, no longer than every file system takes; the ending stays."""
    whole = _clean(name).strip()
    if len(whole) <= MAX_FILE_NAME_CHARS:
        return whole
    stem, dot, suffix = whole.rpartition(".")
    kept = f"{dot}{suffix}" if stem and len(suffix) <= 12 else ""
    return whole[: MAX_FILE_NAME_CHARS - len(kept)] + kept


def _name_parameter(name: str) -> str:
    """For programs that know no RFC 2231 (Outlook before 2010): encoded words in quotes, illegal and understood."""
    return f'"{name}"' if PLAIN_FILE_NAME.fullmatch(name) else f'"{_encoded_words(name, used=8)}"'


def _file_name_parameter(name: str) -> str:
    """RFC 2231, in numbered pieces when it does not fit one line."""
    if PLAIN_FILE_NAME.fullmatch(name):
        return f'filename="{name}"'
    pieces = [""]
    for character in name:
        quoted = quote(character, safe="")
        if len(pieces[-1]) + len(quoted) > 54:
            pieces.append("")
        pieces[-1] += quoted
    if len(pieces) == 1:
        return f"filename*=utf-8''{pieces[0]}"
    pieces[0] = f"utf-8''{pieces[0]}"
    return f";{FOLD}".join([f"filename*{number}*={piece}" for number, piece in enumerate(pieces)])


def _content_id(file: OutgoingFile) -> str:
    return "".join(_legible([file.content_id])[:1]) if file.content_id else ""
