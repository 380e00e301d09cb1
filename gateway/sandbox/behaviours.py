"""Recipients that do something: the table that the demo page shows, and what each of them does.

The local part before the first ``+`` decides. Everybody else simply receives their mail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import Final

from gateway.normalize import headers
from gateway.sandbox import reports
from gateway.sandbox.handover import Ending, Handover, Recipient
from gateway.sandbox.reports import Outcome, Stamp

SOON: Final = 2.0  #: seconds until a report comes back
LATE: Final = 60.0  #: seconds until a delayed mail arrives after all
RETRY_SPAN: Final = timedelta(days=4)

Writer = Callable[[Handover, Recipient, Stamp], bytes | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Consequence:
    """A mail that comes back ``after`` seconds; ``write`` returns None when none is due."""

    after: float
    write: Writer
    event: str | None = None  #: SUCCESS, FAILURE or DELAY: only for those who asked to be told (RFC 3461)
    envelope_from: str = ""
    goes_to: Callable[[Handover], str] = attrgetter("envelope_from")


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """``refusal`` is the answer at RCPT, always or for the first tries; ``arrives_after`` None means never."""

    address: str
    what_happens: str
    refusal: str | None = None
    is_greylisted: bool = False  #: ``refusal`` only for the first tries
    is_mute: bool = False  #: no answer at RCPT at all
    ending: Ending = Ending.ANSWER
    is_thrown_away: bool = False  #: the server read the mail and did not keep it
    arrives_after: float | None = 0.0
    consequences: tuple[Consequence, ...] = ()


def _report(action: str, diagnostic: str, *, event: str, after: float = SOON) -> Consequence:
    """A delivery report; ``diagnostic`` is an SMTP reply with its enhanced code."""

    def write(handover: Handover, recipient: Recipient, stamp: Stamp) -> bytes:
        until = handover.at + RETRY_SPAN if action == "delayed" else None
        outcome = Outcome(action=action, status=diagnostic.split()[1], diagnostic=diagnostic, retry_until=until)
        return reports.dsn(handover, recipient, outcome, stamp)

    return Consequence(after=after, write=write, event=event)


def _old_bounce(handover: Handover, recipient: Recipient, stamp: Stamp) -> bytes:
    outcome = Outcome(action="failed", status="5.1.1", diagnostic="Sorry, no mailbox here by that name.")
    return reports.qmail_bounce(handover, recipient, outcome, stamp)


def _holiday_note(handover: Handover, recipient: Recipient, stamp: Stamp) -> bytes | None:
    """RFC 3834 section 2: never in answer to a machine."""
    automatic = headers.read_head(handover.raw)[0].first("auto-submitted") or "no"
    return reports.out_of_office(handover, recipient, stamp) if automatic.lower() == "no" else None


#: RFC 3461 section 5.2.2: whoever asked for success is told of it.
DELIVERED: Final = _report("delivered", "250 2.1.5 delivered to mailbox", event="SUCCESS")

BEHAVIOURS: Final[tuple[Behaviour, ...]] = (
    Behaviour(
        address="nobody@bounce.test",
        what_happens="Refused at once: 550 5.1.1, no such person.",
        refusal="550 5.1.1 <{address}>: Recipient address rejected: no such person here",
    ),
    Behaviour(
        address="gone@bounce.test",
        what_happens="Accepted; two seconds later a delivery report says that the mailbox does not exist (5.1.1).",
        arrives_after=None,
        consequences=(_report("failed", "550 5.1.1 mailbox does not exist", event="FAILURE"),),
    ),
    Behaviour(
        address="full@bounce.test",
        what_happens="Accepted; two seconds later a delivery report says that the mailbox is full (5.2.2).",
        arrives_after=None,
        consequences=(_report("failed", "552 5.2.2 mailbox is full", event="FAILURE"),),
    ),
    Behaviour(
        address="legacy@bounce.test",
        what_happens="Accepted; two seconds later an old-fashioned bounce in plain text comes back.",
        arrives_after=None,
        consequences=(Consequence(after=SOON, write=_old_bounce),),
    ),
    Behaviour(
        address="slow@slow.test",
        what_happens="Greylisted: 451 4.7.1 for the first three tries of each sender, then accepted.",
        refusal="451 4.7.1 <{address}>: Greylisted, please try again later",
        is_greylisted=True,
        consequences=(DELIVERED,),
    ),
    Behaviour(
        address="late@slow.test",
        what_happens="Accepted; a report says delayed after two seconds; the mail arrives after a minute, "
        "and a second report says delivered.",
        arrives_after=LATE,
        consequences=(
            _report("delayed", "451 4.4.1 no answer from host", event="DELAY"),
            # Beyond RFC 3461: whoever heard of the delay also hears of its end, so that the demo shows both.
            _report("delivered", "250 2.1.5 delivered to mailbox", event="DELAY", after=LATE),
        ),
    ),
    Behaviour(
        address="never@slow.test",
        what_happens="Refused for now, every time: 450 4.2.0.",
        refusal="450 4.2.0 <{address}>: Mailbox temporarily unavailable",
    ),
    Behaviour(
        address="stall@slow.test",
        what_happens="Never answers RCPT: the connection stalls until the sender gives up. Nothing is taken.",
        is_mute=True,
    ),
    Behaviour(
        address="doubt@doubt.test",
        what_happens="Takes the whole mail, then closes without answering the final dot. It did arrive.",
        ending=Ending.HANG_UP,
        consequences=(DELIVERED,),
    ),
    Behaviour(
        address="lost@doubt.test",
        what_happens="Reads the whole mail, then closes without answering the final dot. It did not arrive.",
        ending=Ending.HANG_UP,
        is_thrown_away=True,
    ),
    Behaviour(
        address="silent@doubt.test",
        what_happens="Takes the whole mail and never answers the final dot. It did arrive.",
        ending=Ending.SILENCE,
        consequences=(DELIVERED,),
    ),
    Behaviour(
        address="away@holiday.test",
        what_happens="Accepted; an out-of-office note comes back.",
        consequences=(DELIVERED, Consequence(after=SOON, write=_holiday_note)),
    ),
    Behaviour(
        address="relay@relay.test",
        what_happens="Accepted and passed on; a report says relayed if the sender asked for success (NOTIFY=SUCCESS).",
        consequences=(_report("relayed", "250 2.0.0 passed on to a fax gateway", event="SUCCESS"),),
    ),
    Behaviour(
        address="reader@mdn.test",
        what_happens="Accepted; the person opens the mail and a read receipt comes back, asked for or not.",
        consequences=(DELIVERED, Consequence(after=SOON, write=reports.read_receipt, goes_to=reports.receipt_address)),
    ),
    Behaviour(
        address="complains@arf.test",
        what_happens="Accepted; the person presses “this is spam” and a complaint (ARF) comes back.",
        consequences=(
            DELIVERED,
            Consequence(after=SOON, write=reports.complaint, envelope_from="fbl@arf.test"),
        ),
    ),
)

#: Everybody else.
ORDINARY: Final = Behaviour(address="", what_happens="The mail arrives.", consequences=(DELIVERED,))
_BY_ADDRESS: Final = {behaviour.address: behaviour for behaviour in BEHAVIOURS}


def behaviour_of(address: str) -> Behaviour:
    return _BY_ADDRESS.get(base_address(address), ORDINARY)


def base_address(address: str) -> str:
    """Return ``address`` in lower case without its plus part: ``Sales+x9@desk.test`` is ``sales@desk.test``."""
    local, _, domain = address.lower().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"
