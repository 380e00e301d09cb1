"""One scripted mail and how its bytes are made; every writer keeps its charset and its mail program's habits."""

from __future__ import annotations

import email.policy
from collections.abc import Callable
from dataclasses import dataclass, field
from email.charset import BASE64, QP, Charset
from email.header import Header
from email.message import Message
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formataddr
from typing import Final

from gateway.sandbox.compose import message_id
from gateway.sandbox.reports import Stamp

_POLICY: Final = email.policy.compat32.clone(linesep="\r\n", max_line_length=78)
_BODY_ENCODINGS: Final[dict[str, int | None]] = {"quoted-printable": QP, "base64": BASE64, "as it is": None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """What a mail is written on: who, to whom, when."""

    name: str
    address: str
    to: str
    stamp: Stamp

    @property
    def message_id(self) -> str:
        return message_id(self.address, self.stamp)


Build = Callable[[Sheet], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A first mail and what its writer says later. ``envelope_from`` None means their own address."""

    name: str
    person: str
    address: str
    build: Build
    to: str = "support@desk.test"
    envelope_from: str | None = None
    follow_up: str = ""  #: a second mail of their own accord, while nobody has answered yet
    replies: tuple[str, ...] = field(default=())  #: to the first answer that they get, to the second, ...


def text_mail(
    subject: str, text: str, *, charset: str = "utf-8", encoding: str = "quoted-printable", mailer: str = ""
) -> Build:
    """Return a writer of a plain-text mail, subject and name in the same charset."""

    def build(sheet: Sheet) -> bytes:
        return finished(text_part(text, "plain", charset=charset, encoding=encoding), sheet, subject, charset, mailer)

    return build


def html_mail(subject: str, text: str, html: str, *, charset: str = "utf-8", mailer: str = "") -> Build:
    """Return a writer of a mail with both forms (multipart/alternative)."""

    def build(sheet: Sheet) -> bytes:
        message = MIMEMultipart("alternative", boundary=boundary(sheet, "alt"))
        message.attach(text_part(text, "plain", charset=charset))
        message.attach(text_part(html, "html", charset=charset))
        return finished(message, sheet, subject, charset, mailer)

    return build


def text_part(text: str, subtype: str, *, charset: str = "utf-8", encoding: str = "quoted-printable") -> MIMEText:
    label = Charset(charset)
    if charset != "iso-2022-jp":  # which is seven bits wide by design
        label.body_encoding = _BODY_ENCODINGS[encoding]  # type: ignore[assignment]  # None means as it is
    return MIMEText(text.strip("\n") + "\n", subtype, label)  # type: ignore[arg-type]  # a Charset is taken too


def file_part(content: bytes, content_type: str, name: str) -> Message:
    part = MIMEApplication(content)
    part.replace_header("Content-Type", content_type)
    part.set_param("name", name)
    part.add_header("Content-Disposition", "attachment", filename=name)
    return part


def boundary(sheet: Sheet, name: str) -> str:
    return f"----=_{name}_{sheet.stamp.token}"


def finished(message: Message, sheet: Sheet, subject: str, charset: str = "utf-8", mailer: str = "") -> bytes:
    """Put the usual fields on ``message`` and return its bytes with CRLF."""
    message["From"] = formataddr((sheet.name, sheet.address), "utf-8" if sheet.name.isascii() else charset)
    message["To"] = sheet.to
    message["Subject"] = Header(subject, None if subject.isascii() else charset, header_name="Subject").encode()
    message["Date"] = sheet.stamp.date
    message["Message-ID"] = sheet.message_id
    if mailer:
        message["X-Mailer"] = mailer
    return message.as_bytes(policy=_POLICY)
