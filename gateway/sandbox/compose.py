"""How customers' mail programs write: a new mail, and an answer that quotes. Values in, bytes out."""

from __future__ import annotations

import email.policy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Final

from gateway.sandbox.postbox import Received
from gateway.sandbox.reports import Stamp

_POLICY: Final = email.policy.SMTP.clone(max_line_length=78)
_TAG: Final = re.compile(r"<[^>]{0,500}>")
_RE: Final = re.compile(r"^\s*(re|aw|antw|sv)\s*:", re.IGNORECASE)
_KEPT_REFERENCES: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """An attachment."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """A mail as its writer sees it. ``references`` holds Message-IDs with brackets, the answered one last."""

    from_name: str
    from_address: str
    to: str
    subject: str
    text: str
    html: str | None = None
    files: Sequence[File] = ()
    references: tuple[str, ...] = ()


def write(letter: Letter, stamp: Stamp) -> bytes:
    """Return the mail with CRLF line ends."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = mailbox(letter.from_name, letter.from_address)
    message["To"] = letter.to
    message["Subject"] = " ".join(letter.subject.split())
    message["Date"] = stamp.at
    message["Message-ID"] = message_id(letter.from_address, stamp)
    if letter.references:
        message["In-Reply-To"] = letter.references[-1]
        message["References"] = " ".join(letter.references[-_KEPT_REFERENCES:])
    message["User-Agent"] = "Parchment 4.2"
    message.set_content(letter.text)
    if letter.html is not None:
        message.add_alternative(letter.html, subtype="html")
    for file in letter.files:
        main, _, sub = file.content_type.partition("/")
        message.add_attachment(file.content, maintype=main, subtype=sub, filename=file.name)
    return message.as_bytes()


def mailbox(name: str, address: str) -> Address:
    local, _, domain = address.rpartition("@")
    return Address(name, username=local, domain=domain)


def message_id(address: str, stamp: Stamp) -> str:
    return f"<{stamp.token}@mail.{address.rpartition('@')[2]}>"


def answer(received: Received, *, from_name: str, text: str) -> Letter:
    """Return a customer's answer: to the Reply-To, below the same subject, with the mail quoted under the new words."""
    subject = received.subject
    references = (*received.references, received.message_id) if received.message_id else received.references
    when = received.at.strftime("%a, %d %b %Y at %H:%M")
    return Letter(
        from_name=from_name,
        from_address=received.recipient,
        to=received.reply_address,
        subject=subject if _RE.match(subject) else f"Re: {subject}",
        text=f"{text.rstrip()}\n\nOn {when}, {received.sender} wrote:\n{_quote(received)}\n",
        references=references,
    )


def _quote(received: Received) -> str:
    text = _TAG.sub("", received.text) if received.text == received.html else received.text
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())
