"""What a mail says, once it has been read: the values that the rest of the gateway works with.

Every text in here is valid Unicode without NUL and without lone surrogates, so that both stores take it (T-D05);
``clean`` in ``gateway.normalize.charset`` is the one gate. Unknown is ``None`` or empty, never invented.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What sort of mail it is: decides whether it may ever become a ticket."""

    MESSAGE = "message"  #: somebody wrote it
    BOUNCE = "bounce"  #: a delivery report of any dialect that names a recipient or a failure
    REPORT = "report"  #: MDN or ARF complaint: evidence too, but not about delivery by a server
    AUTO_REPLY = "auto_reply"  #: written by a machine in answer to a mail


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """One mailbox of an address header. ``address`` is as written, trimmed; compare by ``addresses.identity_key``."""

    name: str = ""
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A part that is kept as a file. ``content`` is the decoded payload; ``name`` is safe to show (T-D08)."""

    name: str
    content_type: str  #: as declared, lower case, without parameters
    content: bytes
    sha256: str  #: hex, of ``content``
    is_inline: bool = False  #: shown in the HTML by its Content-ID
    content_id: str | None = None  #: without angle brackets

    @property
    def size_bytes(self) -> int:
        return len(self.content)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A body told apart: words written now, quoted from before, and the signature. Nothing is deleted."""

    text: str = ""  #: the new words, in order (answers between quotes included)
    quoted: str = ""
    signature: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Automatic:
    """Whether a machine wrote it, which sign says so, and whether an automatic answer to it is allowed (RFC 3834)."""

    is_automatic: bool = False
    reason: str = ""  #: the sign, e.g. ``Auto-Submitted: auto-replied``
    may_answer: bool = True  #: False for machines, lists, bulk, null senders, no-reply addresses


@dataclass(frozen=True, kw_only=True, slots=True)
class BouncedRecipient:
    """What a report says of one recipient (RFC 3464 section 2.3, or read out of a legacy bounce)."""

    address: str | None
    action: str  #: failed | delayed | delivered | relayed | expanded
    status: str | None = None  #: enhanced code, e.g. ``5.1.1``
    code: int | None = None  #: three-digit SMTP reply code
    diagnostic: str = ""
    reason: str = ""  #: a word of ``dsn.REASONS``: no_such_mailbox, mailbox_full, too_big, policy, ...
    is_permanent: bool = False
    original_address: str | None = None  #: Original-Recipient, as we gave it in ORCPT


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounce:
    """A delivery report. ``tokens`` in addresses and ids are checked by ``tokens``, not here."""

    recipients: tuple[BouncedRecipient, ...] = ()
    original_message_id: str | None = None  #: without angle brackets
    envelope_id: str | None = None  #: Original-Envelope-Id, xtext decoded
    reporting_mta: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """MDN (RFC 8098) or ARF complaint (RFC 5965)."""

    kind: str  #: mdn | complaint
    disposition: str | None = None  #: displayed | deleted | ... (MDN) or the Feedback-Type (ARF)
    recipient: str | None = None
    original_message_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """One mail, read. Message-IDs stand without angle brackets, lists in the order of the header."""

    kind: Kind = Kind.MESSAGE
    sender: Address | None = None  #: From; None when absent or illegible
    is_sender_unclear: bool = False  #: several Froms, parsers may disagree (T-A07): no trust, no automatic answer
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    delivered_to: tuple[str, ...] = ()  #: Delivered-To, X-Original-To, Envelope-To: where it really came to
    return_path: str | None = None  #: "" for the null sender, None when the header is absent
    subject: str = ""
    date: datetime | None = None  #: the Date header, aware, UTC; display only (T-D11)
    message_id: str | None = None
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()  #: the newest 50 at most
    thread_index: str | None = None  #: first 22 bytes, hex (Outlook)
    text: str = ""  #: readable text of the whole body, whatever it was written in
    html: str | None = None  #: sanitised; None when the mail has no HTML part or it was too deep
    reply: Reply = field(default_factory=Reply)
    reply_html: str | None = None  #: the part of ``html`` written now; None when it could not be told apart
    attachments: tuple[Attachment, ...] = ()
    automatic: Automatic = field(default_factory=Automatic)
    bounce: Bounce | None = None
    report: Report | None = None
    language: str | None = None  #: ISO 639-1
    authentication: dict[str, str] = field(default_factory=dict)  #: authserv-id -> raw value of the topmost header
    loop_marker: str | None = None  #: value of our own X-Gatehouse-Loop header, unchecked
    received_count: int = 0  #: Received headers; above 50 means a loop (T-B08)
    canonical_digest: str = ""  #: FAULTS section 2, hex SHA-256
    warnings: tuple[str, ...] = ()  #: codes, e.g. ``base64-damaged``; each once
