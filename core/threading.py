"""Where an inbound message belongs: the order of evidence, and how sure each makes us (R3.1, R3.2).

Pure: the caller looks up what the signs point to and hands the findings in. A reply token is proof that the writer had
our mail; a header alone can be copied by anybody. Neither makes somebody take part who did not: a stranger with a token
is held aside in the ticket, a stranger with mere headers gets a ticket of their own with a hint (T-A01, T-A03).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Sign(StrEnum):
    """What points to a ticket, strongest first."""

    REPLY_ADDRESS = "reply_address"  #: our signed token in the address it came to
    RETURN_ADDRESS = "return_address"  #: the signed envelope sender of a mail of ours: where robots answer to
    OUR_MESSAGE_ID = "our_message_id"  #: our signed Message-ID in In-Reply-To or References
    IN_REPLY_TO = "in_reply_to"
    REFERENCES = "references"
    THREAD_INDEX = "thread_index"
    SUBJECT_CODE = "subject_code"  #: a ticket code in the subject: only ever a hint (T-A02)


SIGNED = frozenset({Sign.REPLY_ADDRESS, Sign.RETURN_ADDRESS, Sign.OUR_MESSAGE_ID})


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One sign that led to an existing ticket of this mailbox."""

    sign: Sign
    ticket_id: int
    detail: str  #: the id or address, for the explanation
    is_participant: bool  #: whether the sender takes part in that ticket


class Place(StrEnum):
    JOIN = "join"
    HOLD_ASIDE = "hold_aside"  #: stored in the ticket, agents only, the sender takes no part
    NEW = "new"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    place: Place
    ticket_id: int | None  #: of JOIN and HOLD_ASIDE
    hint_ticket_id: int | None  #: of NEW: "may belong to"
    sign: Sign | None
    sureness: str  #: certain | likely | hint | none
    words: str  #: for the agent


WORDS = {
    Sign.REPLY_ADDRESS: "It came to the signed reply address of this ticket",
    Sign.RETURN_ADDRESS: "It came to the signed return address of a mail of this ticket",
    Sign.OUR_MESSAGE_ID: "It answers a mail of ours that carries this ticket's signature",
    Sign.IN_REPLY_TO: "Its In-Reply-To header names a mail of this ticket",
    Sign.REFERENCES: "Its References header names a mail of this ticket",
    Sign.THREAD_INDEX: "Its Outlook thread index is that of a mail of this ticket",
    Sign.SUBJECT_CODE: "Its subject contains this ticket's code",
}
_ORDER = {sign: number for number, sign in enumerate(Sign)}


def decide(findings: Sequence[Finding], *, is_sender_unclear: bool) -> Decision:
    """Return where the message goes. The strongest sign wins; weaker ones that disagree are named in the words.

    Anybody can use a Message-ID again: where one sign leads to several tickets, that of the sender counts.
    """
    ranked = sorted(findings, key=lambda finding: (_ORDER[finding.sign], not finding.is_participant))
    if not ranked:
        return Decision(
            place=Place.NEW, ticket_id=None, hint_ticket_id=None, sign=None, sureness="none",
            words="Nothing in it points to an earlier ticket",
        )  # fmt: skip
    best = ranked[0]
    words = f"{WORDS[best.sign]} ({best.detail})"
    others = {finding.ticket_id for finding in ranked} - {best.ticket_id}
    if others:
        words += f"; other signs point to {len(others)} other ticket{'s' if len(others) > 1 else ''}"
    is_trusted = best.is_participant and not is_sender_unclear
    if best.sign is Sign.SUBJECT_CODE:
        return _new(best, f"{words}: a subject proves nothing")
    if is_trusted:
        sureness = "certain" if best.sign in SIGNED else "likely"
        return Decision(
            place=Place.JOIN,
            ticket_id=best.ticket_id,
            hint_ticket_id=None,
            sign=best.sign,
            sureness=sureness,
            words=words,
        )
    if best.sign in SIGNED:
        words += ", but the sender takes no part in it: held aside, and not shown to the customer"
        return Decision(
            place=Place.HOLD_ASIDE, ticket_id=best.ticket_id, hint_ticket_id=None, sign=best.sign,
            sureness="hint", words=words,
        )  # fmt: skip
    return _new(best, f"{words}, but the sender takes no part in it")


def _new(best: Finding, words: str) -> Decision:
    return Decision(
        place=Place.NEW, ticket_id=None, hint_ticket_id=best.ticket_id, sign=best.sign, sureness="hint", words=words
    )
