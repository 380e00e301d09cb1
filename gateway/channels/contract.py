"""What a channel adapter is, and the values that pass between it and the gateway.

An adapter is a module. A pull adapter (IMAP) gives ``listen``; a push adapter (webhooks) gives ``verify`` and
``parse``; a sender gives ``send`` (SMTP) or ``render`` and ``interpret`` (HTTP). No adapter imports another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a channel can do; the composer obeys (R4.7)."""

    html: bool = False
    attachments: bool = False
    max_attachment_bytes: int = 0
    max_text_chars: int | None = None
    receipts: bool = False  #: the peer reports what became of a message
    several_recipients: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where UIDs mean something: a folder in one incarnation (RFC 3501 section 2.3.1.1)."""

    folder: str
    uidvalidity: int


class Trouble(StrEnum):
    """Why a listed item came without its bytes."""

    COULD_NOT_FETCH = "could_not_fetch"  #: retried by the adapter on later cycles, quarantined after 3 tries
    TOO_LARGE = "too_large"  #: beyond the raw limit: only the head was fetched, the rest stays on the server
    GONE = "gone"  #: expunged or moved away between listing and fetching


@dataclass(frozen=True, kw_only=True, slots=True)
class Offered:
    """One item that the source showed us. With ``trouble`` the bytes are absent or only the head."""

    place: Place
    uid: int
    raw: bytes | None
    size_bytes: int
    internal_at: datetime | None = None  #: INTERNALDATE
    trouble: Trouble | None = None
    excerpt: str = ""  #: what the server said, cut and cleaned, for the quarantine page


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the ledger holds of one place."""

    uids: frozenset[int]  #: every UID with a final ledger row: never fetch these again
    gaps: dict[int, int] = field(default_factory=dict)  #: UID that could not be fetched -> tries so far (below 3)


class Journal(Protocol):
    """The journal as a pull adapter sees it, bound to one channel, account and fence.

    Every method raises ``LeaseLost`` when another node owns the channel by now: let it pass.
    """

    async def known(self, place: Place) -> Known: ...

    async def take(self, items: Sequence[Offered]) -> None:
        """Make the items durable. When this returns they are *taken* (P1), and only then may the server be told.

        Repeats (same place and UID) are ignored. Items with COULD_NOT_FETCH count one try each.
        """

    async def unmarked(self, place: Place) -> list[int]:
        """UIDs taken but not yet marked, moved or deleted on the server as configured (I6)."""

    async def marked(self, place: Place, uids: Sequence[int]) -> None: ...

    async def proven(self) -> None:
        """The connection works: login and SELECT succeeded, or a poll found nothing new."""

    async def trouble(self, code: str, text: str) -> None:
        """Something that an admin should see but that does not stop the channel (e.g. ``folder``: MOVE fails)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """One try at handing one message over: fixed bytes, an envelope, the recipients that are still open."""

    envelope_sender: str  #: with the signed return token
    recipients: tuple[str, ...]  #: bare addresses
    content: bytes  #: the whole mail, CRLF line ends, no line above 998 bytes, not dot-stuffed
    envelope_id: str  #: ENVID for DSNs, at most 100 characters, plain ASCII
    notify: str = "FAILURE,DELAY"  #: DSN NOTIFY (RFC 3461)


class OutcomeKind(StrEnum):
    ACCEPTED = "accepted"  #: 2xx to the final dot for this recipient
    REFUSED = "refused"  #: 5xx for this recipient or this message: never try again
    DEFERRED = "deferred"  #: 4xx for this recipient or this message: try later
    UNREACHABLE = "unreachable"  #: connection trouble, provably before the final dot
    CHANNEL_FAULT = "channel_fault"  #: our own login, TLS or sender: pause the channel, blame no message
    IN_DOUBT = "in_doubt"  #: the line broke after the final dot was sent


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one try brought for one recipient. ``text`` is the peer's own words, cut and cleaned (F-S05)."""

    kind: OutcomeKind
    code: int | None = None
    enhanced: str | None = None
    text: str = ""
    server: str = ""
    queue_id: str = ""
    retry_after: timedelta | None = None
    fault: str = ""  #: with CHANNEL_FAULT: login | tls | sender | relay


BeforeFinalDot = Callable[[Sequence[str]], Awaitable[None]]
"""Commits "final dot pending" (O4) for the recipients that the peer takes, and checks the lease.

If it raises, the dot must not be sent.
"""


class Sender(Protocol):
    """Open connections to one account's server. Made once per channel configuration, closed with it."""

    async def send(self, handover: Handover, before_final_dot: BeforeFinalDot) -> dict[str, Outcome]:
        """Return one outcome per recipient; raises only what ``before_final_dot`` raised, or CancelledError."""

    async def close(self) -> None: ...
