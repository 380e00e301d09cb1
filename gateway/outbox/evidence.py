"""Reports about our mails as evidence: DSNs, legacy bounces, read receipts, complaints; one try's outcomes. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from core.delivery import Evidence, Fact
from gateway.channels.contract import Outcome, OutcomeKind
from gateway.normalize.bounce_reasons import classify
from gateway.normalize.values import BouncedRecipient, Kind, Mail

ACTIONS = {
    "failed": Fact.DSN_FAILED,
    "delayed": Fact.DSN_DELAYED,
    "delivered": Fact.DSN_DELIVERED,
    "relayed": Fact.DSN_RELAYED,
    "expanded": Fact.DSN_EXPANDED,
}
OUTCOMES = {
    OutcomeKind.ACCEPTED: Fact.ACCEPTED,
    OutcomeKind.REFUSED: Fact.REFUSED,
    OutcomeKind.DEFERRED: Fact.DEFERRED,
    OutcomeKind.UNREACHABLE: Fact.UNREACHABLE,
    OutcomeKind.CHANNEL_FAULT: Fact.CHANNEL_FAULT,
    OutcomeKind.IN_DOUBT: Fact.IN_DOUBT,
}
#: Reasons that say "this address will never take a mail"; others may be our fault or pass (protocol notes section 2).
DEAD = frozenset(
    {"no_such_mailbox", "no_such_domain", "bad_address", "moved", "mailbox_disabled", "takes_no_mail", "owner_changed"}
)
MAX_TEXT = 2000


def facts_of(mail: Mail, *, round_number: int, at: datetime) -> Iterator[tuple[str | None, Evidence]]:
    """Yield (recipient address or None, fact) for everything that a report says."""
    if mail.bounce is not None:
        source = "dsn" if mail.bounce.reporting_mta else "bounce"
        if not mail.bounce.recipients and mail.kind is Kind.BOUNCE:
            yield None, Evidence(fact=Fact.DSN_FAILED, round=round_number, at=at, source=source, text=mail.subject)
        for recipient in mail.bounce.recipients:
            yield recipient.original_address or recipient.address, _bounced(recipient, round_number, at, source)
    if mail.report is not None:
        is_read = mail.report.kind == "mdn"
        if is_read and mail.report.disposition != "displayed":
            return  # deleted unread, or dispatched: says nothing that a status could show
        fact = Fact.READ if is_read else Fact.COMPLAINT
        source = "mdn" if is_read else "arf"
        recipient_address = mail.report.recipient or (mail.sender.address if is_read and mail.sender else None)
        text = mail.report.disposition or ""
        yield recipient_address, Evidence(fact=fact, round=round_number, at=at, source=source, text=text)


def of_outcome(outcome: Outcome, *, round_number: int, attempt: int, at: datetime) -> Evidence:
    """Return what one try brought for one recipient, as evidence."""
    if outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.IN_DOUBT):
        reason = ""
    elif outcome.kind is OutcomeKind.UNREACHABLE:
        reason = "not_reachable"
    else:
        reason = outcome.fault or classify(outcome.enhanced, outcome.code, outcome.text).word
    return Evidence(
        fact=OUTCOMES[outcome.kind],
        round=round_number,
        attempt=attempt,
        at=at,
        code=outcome.code,
        enhanced=outcome.enhanced,
        text=outcome.text,
        server=outcome.server,
        queue_id=outcome.queue_id,
        reason=reason,
        source="smtp",
    )


def is_address_dead(fact: Evidence) -> bool:
    """Whether nothing should go to this address any more: a hard bounce of the address itself, or a complaint."""
    if fact.fact is Fact.COMPLAINT:
        return True
    return fact.fact in (Fact.DSN_FAILED, Fact.REFUSED) and fact.reason in DEAD


def _bounced(recipient: BouncedRecipient, round_number: int, at: datetime, source: str) -> Evidence:
    return Evidence(
        fact=ACTIONS.get(recipient.action, Fact.DSN_FAILED),
        round=round_number,
        at=at,
        code=recipient.code,
        enhanced=recipient.status,
        text=recipient.diagnostic[:MAX_TEXT],
        reason=recipient.reason,
        source=source,
    )
