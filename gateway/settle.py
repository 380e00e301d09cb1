"""COMMIT 2: what one read mail becomes, in one transaction (FAULTS section 3, I8 and I9).

Order: a repeat of a mail that is here already, our own mail come back, a report about a mail of ours, an automatic
answer, and only then a message that joins a ticket or opens one. Whatever it is, the ledger row ends with it or the
whole transaction is undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from core import contacts, deliveries, ledger, messages, outbox
from core.errors import Conflict
from core.keys import Keys
from gateway.entering import Case, ChannelView, Settled, place, recipients, take_auto_reply, take_message
from gateway.normalize import tokens
from gateway.normalize.addresses import identity_key
from gateway.normalize.tokens import Purpose, Token
from gateway.normalize.values import Kind, Mail
from gateway.outbox import evidence as reports


def settle(
    conn: Connection,
    keys: Keys,
    view: ChannelView,
    work: ledger.Work,
    mail: Mail,
    *,
    sizes: Sequence[int],
    now: datetime,
) -> Settled:
    """Do everything that this mail causes and end its ledger row. Raises Conflict when the row has ended already."""
    if not ledger.is_received(conn, work.id):
        raise Conflict("the ledger row has ended already")  # the guard of COMMIT 2
    canonical = mail.canonical_digest if mail.message_id else None
    is_id_used = mail.message_id is not None and ledger.is_id_used(conn, view.channel_id, mail.message_id)
    if canonical is None:
        earlier = ledger.same_bytes(conn, work)
    else:  # the same mail has the same Message-ID
        earlier = ledger.same_mail(conn, view.channel_id, canonical) if is_id_used else None
    if earlier is not None:
        result = Settled(
            outcome="repeat",
            reason="the same mail came before",
            message_id=earlier.message_id,
            ticket_id=earlier.ticket_id,
        )
    else:
        result = _classify(
            Case(
                conn=conn,
                keys=keys,
                view=view,
                work=work,
                mail=mail,
                sizes=sizes,
                is_id_used=is_id_used,
                now=now,
            )
        )
    ledger.finish(
        conn,
        work.id,
        result.outcome,
        now=now,
        reason=result.reason or work.reason,
        message_id=result.message_id,
        ticket_id=result.ticket_id,
        canonical_digest=canonical,
        message_id_header=mail.message_id,
        sender=mail.sender.address if mail.sender else "",
        subject=mail.subject,
    )
    return result


def _classify(case: Case) -> Settled:
    if (nonce := _nonce_of_own_copy(case)) is not None:
        return _take_own_copy(case, nonce)
    if case.mail.kind in (Kind.BOUNCE, Kind.REPORT):
        return _take_report(case)
    placed = place(case)
    if case.mail.kind is Kind.AUTO_REPLY:
        return take_auto_reply(case, placed)
    return take_message(case, placed)


def _nonce_of_own_copy(case: Case) -> int | None:
    """Ours only with a valid marker for this very Message-ID, from an address of ours (F-M15, T-A14)."""
    mail = case.mail
    if not mail.loop_marker or not mail.message_id or mail.sender is None:
        return None
    marker = tokens.of_loop_marker(mail.loop_marker, case.keys.tokens)
    named = tokens.of_message_id(mail.message_id, case.keys.tokens)
    is_ours = identity_key(mail.sender.address) in case.view.own_keys
    return marker.nonce if is_ours and marker and named and marker.nonce == named.nonce else None


def _take_own_copy(case: Case, nonce: int) -> Settled:
    """No message: the ledger row is linked to the one that it is a copy of."""
    row = outbox.by_nonce(case.conn, nonce)
    if row is None or row["channel_id"] != case.view.channel_id:
        return Settled(outcome="own_copy", reason="a mail of ours that came back")
    return Settled(
        outcome="own_copy",
        reason="a mail of ours that came back",
        message_id=row["message_id"],
        ticket_id=messages.ticket_of(case.conn, row["message_id"]),
    )


def _take_report(case: Case) -> Settled:
    """Evidence about a mail of ours; what matches none is listed and moves nothing (F-S07, F-S09)."""
    conn, mail, now = case.conn, case.mail, case.now
    token = _return_token(case.keys, mail)
    is_signed = token is not None
    if token is None:
        token = _named_token(case.keys, mail)
    row = outbox.by_nonce(conn, token.nonce) if token else None
    if token is None or row is None or row["channel_id"] != case.view.channel_id:
        reason = "claims to be a delivery report; it matches no mail of ours"
        return Settled(outcome="evidence", reason=reason)
    rows = deliveries.of_message(conn, row["message_id"])
    matched = 0
    # Every copy carries the same Message-ID: a report that names only that is about the newest one.
    of_round = row["round"] if token.purpose is Purpose.MESSAGE else min(token.round, row["round"])
    for recipient, fact in reports.facts_of(mail, round_number=of_round, at=now):
        key = identity_key(recipient) if recipient else None
        targets = deliveries.matching(rows, key)
        if not is_signed and key is not None:  # only the name of the mail is proven: the recipient must be ours too
            targets = [target for target in targets if target["address_key"] == key]
        for target in targets:
            matched += 1
            deliveries.record(conn, case.keys, target["id"], fact, now=now, ledger_id=case.work.id)
            if is_signed and target["identity_id"] and reports.is_address_dead(fact):
                contacts.suppress(conn, target["identity_id"], why=fact.reason or fact.fact.value, now=now)
    deliveries.settle_outbox(conn, row["message_id"])
    ticket_id = messages.ticket_of(conn, row["message_id"])
    reason = "" if matched else "a report about a mail of ours, but about none of its recipients"
    return Settled(outcome="evidence", reason=reason, message_id=row["message_id"], ticket_id=ticket_id)


def _return_token(keys: Keys, mail: Mail) -> Token | None:
    """Our signature in the address it came to, or in the envelope id that a server gave back."""
    for address in recipients(mail):
        if token := tokens.of_address(address, keys.tokens, Purpose.RETURN):
            return token
    if mail.bounce and mail.bounce.envelope_id:
        return tokens.of_envelope_id(mail.bounce.envelope_id, keys.tokens)
    return None


def _named_token(keys: Keys, mail: Mail) -> Token | None:
    named = [
        mail.bounce.original_message_id if mail.bounce else None,
        mail.report.original_message_id if mail.report else None,
        *mail.in_reply_to,
        *reversed(mail.references),
    ]
    found = (tokens.of_message_id(text, keys.tokens) for text in named if text)
    return next((token for token in found if token), None)
