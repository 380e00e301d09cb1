"""What reached people outside: the newest mails of each person, in memory."""

from __future__ import annotations

import email
import email.policy
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import getaddresses
from functools import cached_property
from typing import Final

from gateway.normalize import charset, headers

KEPT_MAILS: Final = 200  #: of each person


@dataclass(frozen=True, kw_only=True)
class Received:
    """One mail in a person's postbox. ``raw`` is byte for byte what SMTP brought, without trace headers."""

    at: datetime
    recipient: str  #: the address that the envelope named
    envelope_from: str  #: "" for the null sender
    raw: bytes

    @cached_property
    def head(self) -> headers.Head:
        return headers.read_head(self.raw)[0]

    @property
    def subject(self) -> str:
        return self.head.first("subject") or ""

    @property
    def sender(self) -> str:
        """The From header as a person reads it."""
        return self.head.first("from") or ""

    @property
    def message_id(self) -> str:
        """With its angle brackets; "" when the mail has none."""
        return (self.head.first("message-id") or "").strip()

    @property
    def references(self) -> tuple[str, ...]:
        return tuple((self.head.first("references") or "").split())

    @property
    def reply_address(self) -> str:
        """Where an answer goes: Reply-To, else From, else the envelope sender."""
        for field in ("reply-to", "from"):
            for _, address in getaddresses([self.head.first(field) or ""]):
                if "@" in address:
                    return address
        return self.envelope_from

    @property
    def is_automatic(self) -> bool:
        return self.envelope_from == "" or (self.head.first("auto-submitted") or "no").lower() != "no"

    @cached_property
    def text(self) -> str:
        """The plain-text body, or the HTML source when there is none; for quoting and for the demo page."""
        return self._body("plain", "html")

    @cached_property
    def html(self) -> str | None:
        return self._body("html") or None

    def _body(self, *kinds: str) -> str:
        message = email.message_from_bytes(self.raw, policy=email.policy.default)
        body = message.get_body(preferencelist=kinds) if isinstance(message, EmailMessage) else None
        if body is None:
            return ""
        payload = body.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        return charset.decode(content, body.get_content_charset())[0].replace("\r\n", "\n")


class Postboxes:
    def __init__(self) -> None:
        self._boxes: dict[str, deque[Received]] = {}

    def put(self, mail: Received) -> None:
        self._boxes.setdefault(mail.recipient.lower(), deque(maxlen=KEPT_MAILS)).append(mail)

    def of(self, address: str) -> list[Received]:
        """Return that person's mails, oldest first."""
        return list(self._boxes.get(address.lower(), ()))

    def people(self) -> list[str]:
        return sorted(self._boxes)
