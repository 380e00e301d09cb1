"""The envelope of one handover, checked: nothing unsafe gets as far as a socket (THREATS T-C02). Pure.

Source: RFC 5321 section 4.1.2, RFC 6531 (UTF-8 in addresses), RFC 5891 (domains in ASCII), RFC 3461 (xtext).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import idna

from gateway.channels.contract import Handover, Outcome, OutcomeKind

MAX_ENVID_CHARS = 100

#: RFC 5321 section 4.1.2, and UTF-8 in it (RFC 6531). No white space, no brackets, no control characters, no quotes.
LOCAL_PART = re.compile(r"[^\x00-\x20\x7f-\x9f()<>@,;:\\\"\[\]\u2028\u2029\ud800-\udfff]{1,64}")
QUOTED_LOCAL_PART = re.compile(r'"(?:[!#-;=?-\[\]-~]|\\[!-;=?-~]){1,62}"')
DOMAIN = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*")
ADDRESS_LITERAL = re.compile(r"\[[0-9A-Za-z.:]{1,60}\]")
ENVELOPE_ID = re.compile(rf"[!-;=?-~]{{0,{MAX_ENVID_CHARS}}}")
NOTIFY = re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}")


class BadAddress(ValueError):
    """Not an address that may be put on a command line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """What goes over the wire of a handover: addresses as they are said, checked (T-C02)."""

    sender: str
    recipients: Mapping[str, str]  #: as asked for -> as said
    envelope_id: str
    notify: str
    size_bytes: int
    is_8bit: bool  #: the mail itself is not all ASCII: addresses in its header need UTF-8

    @property
    def is_ascii(self) -> bool:
        return self.sender.isascii() and all(map(str.isascii, self.recipients.values()))


def envelope_of(handover: Handover, *, server: str) -> tuple[Envelope, dict[str, Outcome]]:
    """Return what may be said, and outcomes for recipients that may not be: nothing unsafe reaches a socket."""
    said: dict[str, str] = {}
    outcomes: dict[str, Outcome] = {}
    for recipient in handover.recipients:
        try:
            said[recipient] = spoken(recipient)
        except BadAddress as error:
            outcomes[recipient] = Outcome(kind=OutcomeKind.REFUSED, enhanced="5.1.3", text=str(error), server=server)
    sender = ""
    fault: Outcome | None = None
    try:
        sender = spoken(handover.envelope_sender) if handover.envelope_sender else ""
    except BadAddress as error:
        fault = Outcome(
            kind=OutcomeKind.CHANNEL_FAULT,
            enhanced="5.1.7",
            text=f"our sender: {error}",
            server=server,
            fault="sender",
        )
    if not ENVELOPE_ID.fullmatch(handover.envelope_id) or not NOTIFY.fullmatch(handover.notify):
        fault = Outcome(kind=OutcomeKind.REFUSED, enhanced="5.1.3", text="unsafe envelope options", server=server)
    if fault is not None:
        outcomes |= dict.fromkeys(said, fault)
        said = {}
    return Envelope(
        sender=sender,
        recipients=said,
        envelope_id=handover.envelope_id,
        notify=handover.notify,
        size_bytes=len(handover.content),
        is_8bit=not handover.content.isascii(),
    ), outcomes


def spoken(text: str) -> str:
    """Return an address as it goes on a command line, its domain in ASCII. Raises BadAddress."""
    local, at, domain = text.rpartition("@")
    if not at or not (LOCAL_PART.fullmatch(local) or QUOTED_LOCAL_PART.fullmatch(local)):
        raise BadAddress("not an address that can be written to")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise BadAddress("the domain is not one that can exist") from None
    if not (DOMAIN.fullmatch(domain) or ADDRESS_LITERAL.fullmatch(domain)):
        raise BadAddress("the domain is not one that can exist")
    return f"{local}@{domain}"


def xtext(text: str) -> str:
    """RFC 3461 section 4: printable ASCII stands, the rest (and ``+`` and ``=``) as ``+`` and two hex digits."""
    return "".join([chr(b) if 33 <= b <= 126 and b not in b"+=" else f"+{b:02X}" for b in text.encode()])
