"""The values of one SMTP transaction, with what the sender asked to be told (RFC 3461)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, NamedTuple

_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", re.ASCII)  # printable except + and =, or +hex
_HEX: Final = re.compile(r"\+([0-9A-F]{2})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipient:
    address: str
    notify: frozenset[str] = frozenset()  #: NEVER or some of SUCCESS, FAILURE, DELAY; empty when not stated
    original: str | None = None  #: ORCPT as ``type;address``, xtext decoded

    def wants(self, event: str) -> bool:
        """Say whether a report about ``event`` may be sent; not stated means failures and delays (section 4.1)."""
        return event in (self.notify or {"FAILURE", "DELAY"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """One mail as it was handed over: envelope, wishes and bytes."""

    at: datetime
    envelope_from: str  #: "" for the null sender
    recipients: tuple[Recipient, ...]
    raw: bytes
    envelope_id: str | None = None  #: ENVID, xtext decoded
    returns: str | None = None  #: RET: FULL or HDRS
    helo: str = field(default="localhost")


class Ending(Enum):
    """What the server does after the final dot."""

    ANSWER = "answer"
    HANG_UP = "hang up"  #: closes without an answer
    SILENCE = "silence"  #: keeps the connection and says nothing


class Verdict(NamedTuple):
    """The answer to one RCPT. ``reply`` None means that none comes at all."""

    reply: str | None
    is_taken: bool = False


class Accepted(NamedTuple):
    """One recipient of one mail for which this server took responsibility: the truth for oracles."""

    message_id: str
    recipient: str
    at: datetime


def from_xtext(text: str) -> str:
    """Decode RFC 3461 section 4 xtext; raise ValueError when it is not, or hides anything but printable ASCII."""
    decoded = _HEX.sub(lambda match: chr(int(match[1], 16)), text) if _XTEXT.fullmatch(text) else ""
    if decoded.isascii() and decoded.isprintable() and bool(decoded) == bool(text):
        return decoded
    raise ValueError(f"not xtext: {text!r}")
