"""COMMIT 2: what one read mail becomes, in one transaction (FAULTS section 3, I8 and I9).

Order: a repeat of a mail that is here already, our own mail come back, a report about a mail of ours, an automatic
answer, and only then a message that joins a ticket or opens one. Whatever it is, the ledger row ends with it or the
whole transaction is undone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from authres import AuthenticationResultsHeader
from authres.core import AuthResError
from sqlalchemy import Connection

from core import contacts, deliveries, events, ledger, messages, outbox, tickets
from core.contacts import Identity
from core.delivery import Evidence, Fact
from core.errors import Conflict
from core.keys import Keys
from core.store.schema import delivery, message, ticket
from core.threading import Decision, Finding, Place, Sign, decide
from gateway.normalize import tokens
from gateway.normalize.addresses import identity_key
from gateway.normalize.quotes import split_text
from gateway.normalize.tokens import Purpose, Token
from gateway.normalize.values import Address, Kind, Mail, Reply
from gateway.outbox import evidence as reports

LOOP_RECEIVED = 50  # T-B08
PARENT_CHARS = 100_000
MAX_CC = 50
CODE = re.compile(r"\b([2-9A-HJKMNP-TV-Z]{3}-[2-9A-HJKMNP-TV-Z]{5}-[2-9A-HJKMNP-TV-Z]{3})\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelView:
    """What reading needs to know of a channel."""

    channel_id: int
    kind: str
    department_id: int
    reopen_days: int
    own_keys: frozenset[str]  #: identity keys of the channel's own addresses
    authserv_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What the row ended as."""

    outcome: str
    reason: str = ""
    message_id: int | None = None
    ticket_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sender:
    identity: Identity | None
    state: str  #: verified | not_verified | unclear | unknown
    is_self: bool  #: it claims one of our own addresses, without our loop marker (T-A14)


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
    earlier = ledger.same_mail(conn, view.channel_id, canonical) if canonical else ledger.same_bytes(conn, work)
    if earlier is not None:
        result = Settled(
            outcome="repeat",
            reason="the same mail came before",
            message_id=earlier.message_id,
            ticket_id=earlier.ticket_id,
        )
    else:
        result = _classify(conn, keys, view, work, mail, sizes=sizes, now=now)
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


def _classify(
    conn: Connection,
    keys: Keys,
    view: ChannelView,
    work: ledger.Work,
    mail: Mail,
    *,
    sizes: Sequence[int],
    now: datetime,
) -> Settled:
    if (nonce := _nonce_of_own_copy(keys, view, mail)) is not None:
        return _take_own_copy(conn, view, nonce)
    if mail.kind in (Kind.BOUNCE, Kind.REPORT):
        return _take_report(conn, keys, view, work, mail, now=now)
    sender = _sender(conn, view, mail, now=now)
    findings = _findings(conn, keys, view, mail, sender.identity)
    decision = decide(findings, is_sender_unclear=mail.is_sender_unclear or sender.is_self)
    if mail.kind is Kind.AUTO_REPLY:
        return _take_auto_reply(conn, keys, view, work, mail, sender, decision, sizes=sizes, now=now)
    return _take_message(conn, keys, view, work, mail, sender, decision, sizes=sizes, now=now)


def _nonce_of_own_copy(keys: Keys, view: ChannelView, mail: Mail) -> int | None:
    """Ours only with a valid marker for this very Message-ID, from an address of ours (F-M15, T-A14)."""
    if not mail.loop_marker or not mail.message_id or mail.sender is None:
        return None
    marker = tokens.of_loop_marker(mail.loop_marker, keys.tokens)
    named = tokens.of_message_id(mail.message_id, keys.tokens)
    is_ours = identity_key(mail.sender.address) in view.own_keys
    return marker.nonce if is_ours and marker and named and marker.nonce == named.nonce else None


def _take_own_copy(conn: Connection, view: ChannelView, nonce: int) -> Settled:
    """No message: the ledger row is linked to the one that it is a copy of."""
    row = outbox.by_nonce(conn, nonce)
    if row is None or row["channel_id"] != view.channel_id:
        return Settled(outcome="own_copy", reason="a mail of ours that came back")
    return Settled(
        outcome="own_copy",
        reason="a mail of ours that came back",
        message_id=row["message_id"],
        ticket_id=messages.ticket_of(conn, row["message_id"]),
    )


def _take_report(
    conn: Connection, keys: Keys, view: ChannelView, work: ledger.Work, mail: Mail, *, now: datetime
) -> Settled:
    """Evidence about a mail of ours; what matches none is listed and moves nothing (F-S07, F-S09)."""
    token = _return_token(keys, mail)
    is_signed = token is not None
    if token is None:
        token = _named_token(keys, mail)
    row = outbox.by_nonce(conn, token.nonce) if token else None
    if token is None or row is None or row["channel_id"] != view.channel_id:
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
            deliveries.record(conn, keys, target["id"], fact, now=now, ledger_id=work.id)
            if is_signed and target["identity_id"] and reports.is_address_dead(fact):
                contacts.suppress(conn, target["identity_id"], why=fact.reason or fact.fact.value, now=now)
    deliveries.settle_outbox(conn, row["message_id"])
    ticket_id = messages.ticket_of(conn, row["message_id"])
    reason = "" if matched else "a report about a mail of ours, but about none of its recipients"
    return Settled(outcome="evidence", reason=reason, message_id=row["message_id"], ticket_id=ticket_id)


def _return_token(keys: Keys, mail: Mail) -> Token | None:
    """Our signature in the address it came to, or in the envelope id that a server gave back."""
    for address in _recipients(mail):
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


def _sender(conn: Connection, view: ChannelView, mail: Mail, *, now: datetime) -> _Sender:
    """Who wrote it, as far as From can be trusted; an unclear sender is a fresh, unverified contact (T-A07)."""
    key = identity_key(mail.sender.address) if mail.sender else None
    if mail.sender is None or key is None:
        return _Sender(identity=None, state="unclear", is_self=False)
    is_self = _base(key) in view.own_keys
    if mail.is_sender_unclear or is_self:
        return _Sender(identity=None, state="unclear", is_self=is_self)
    person = contacts.find_or_add(conn, view.kind, key, address=mail.sender.address, name=mail.sender.name, now=now)
    return _Sender(identity=person, state=_authentication(view, mail, key), is_self=False)


def _authentication(view: ChannelView, mail: Mail, sender_key: str) -> str:
    """Whether *our* border host saw the sender's domain authenticated; without one nobody is (T-A08)."""
    if not view.authserv_id:
        return "unknown"
    value = mail.authentication.get(view.authserv_id.lower())
    if value is None:
        return "not_verified"
    try:
        results = AuthenticationResultsHeader.parse(f"Authentication-Results: {value}").results
    except (AuthResError, ValueError, IndexError, KeyError):
        return "not_verified"
    domain = sender_key.rpartition("@")[2]
    passed = [item for item in results if str(item.result).lower() == "pass"]
    by_dmarc = (_named_domains(item, "from") for item in passed if item.method.lower() == "dmarc")
    by_dkim = (_named_domains(item, "d", "i") for item in passed if item.method.lower() == "dkim")
    # Some hosts do not say whose DMARC policy passed; one that names another domain read another From than we did.
    is_pass = any(not named or named == {domain} for named in by_dmarc) or any(domain in named for named in by_dkim)
    return "verified" if is_pass else "not_verified"


def _named_domains(result: Any, *properties: str) -> set[str]:
    """The domains that the ``header.`` properties of one authentication result name, as in an identity key."""
    values = [str(part.value) for part in result.properties if part.type == "header" and part.name in properties]
    keys = (identity_key(f"x@{value.rpartition('@')[2]}") or "" for value in values)
    return {key.rpartition("@")[2] for key in keys}


def _recipients(mail: Mail) -> Iterable[str]:
    yield from mail.delivered_to
    for person in (*mail.to, *mail.cc):
        yield person.address


def _findings(conn: Connection, keys: Keys, view: ChannelView, mail: Mail, person: Identity | None) -> list[Finding]:
    """Every sign that leads to a ticket of this channel, with whether the sender takes part in it."""
    signs: list[tuple[Sign, int, str]] = []
    for address in _recipients(mail):
        for purpose, sign in ((Purpose.REPLY, Sign.REPLY_ADDRESS), (Purpose.RETURN, Sign.RETURN_ADDRESS)):
            if token := tokens.of_address(address, keys.tokens, purpose):
                signs.append((sign, token.ticket_id, address))
    named = [*mail.in_reply_to, *reversed(mail.references)]
    for text in named:
        if token := tokens.of_message_id(text, keys.tokens):
            signs.append((Sign.OUR_MESSAGE_ID, token.ticket_id, text))
    known = messages.find_refs(conn, view.channel_id, set(named))
    for sign, texts in ((Sign.IN_REPLY_TO, mail.in_reply_to), (Sign.REFERENCES, tuple(reversed(mail.references)))):
        signs.extend((sign, ref.ticket_id, text) for text in texts for ref in known.get(text, ()))
    if mail.thread_index:
        by_index = tickets.find_by_thread_index(conn, view.channel_id, mail.thread_index)
        if by_index is not None:
            signs.append((Sign.THREAD_INDEX, by_index, mail.thread_index))
    if code := CODE.search(mail.subject):
        hinted = conn.execute(
            sa.select(ticket.c.id).where(ticket.c.code == code[1], ticket.c.channel_id == view.channel_id)
        ).scalar()
        if hinted is not None:
            signs.append((Sign.SUBJECT_CODE, hinted, code[1]))
    findings = []
    for sign, ticket_id, detail in dict.fromkeys(signs):
        if tickets.channel_of(conn, ticket_id) != view.channel_id:
            continue
        takes_part = person is not None and contacts.is_participant(conn, ticket_id, person.id)
        findings.append(Finding(sign=sign, ticket_id=ticket_id, detail=detail, is_participant=takes_part))
    return findings


def _take_auto_reply(
    conn: Connection,
    keys: Keys,
    view: ChannelView,
    work: ledger.Work,
    mail: Mail,
    sender: _Sender,
    decision: Decision,
    *,
    sizes: Sequence[int],
    now: datetime,
) -> Settled:
    """A quiet entry in its ticket: no reopening, no status; without a ticket it is none (F-S10).

    It opens no ticket of its own, so mere headers hold it aside in the ticket that they name; a subject is no header.
    """
    ticket_id = decision.hint_ticket_id if decision.place is Place.NEW else decision.ticket_id
    if ticket_id is None or decision.sign is Sign.SUBJECT_CODE:
        return Settled(outcome="skipped", reason=f"an automatic answer to nothing of ours ({mail.automatic.reason})")
    row = tickets.get(conn, ticket_id)
    held = decision.place is not Place.JOIN
    message_id = _add_message(
        conn, view, work, mail, sender, decision, row, sizes=sizes, held=held, is_quiet=True, now=now
    )
    return Settled(outcome="ticketed", reason="automatic answer, quiet", message_id=message_id, ticket_id=ticket_id)


def _take_message(
    conn: Connection,
    keys: Keys,
    view: ChannelView,
    work: ledger.Work,
    mail: Mail,
    sender: _Sender,
    decision: Decision,
    *,
    sizes: Sequence[int],
    now: datetime,
) -> Settled:
    row: tickets.Row | None = None
    if decision.ticket_id is not None:
        row = tickets.find(conn, decision.ticket_id)
    link: tuple[int | None, str | None] = (None, None)
    if row is not None and not tickets.is_reopenable(row, reopen_days=view.reopen_days, now=now):
        link, row = (row["id"], "follow_up"), None
    elif decision.hint_ticket_id is not None:
        link = (decision.hint_ticket_id, "may_belong")
    if row is None:
        row = _open_ticket(conn, view, mail, sender, link, now=now)
        is_new, held = True, False
    else:
        is_new, held = False, decision.place is Place.HOLD_ASIDE
    message_id = _add_message(
        conn, view, work, mail, sender, decision, row, sizes=sizes, held=held, is_quiet=False, now=now
    )
    if not held:
        _after_message(conn, keys, view, mail, sender, row, is_new=is_new, now=now)
    return Settled(outcome="ticketed", message_id=message_id, ticket_id=row["id"])


def _open_ticket(
    conn: Connection,
    view: ChannelView,
    mail: Mail,
    sender: _Sender,
    link: tuple[int | None, str | None],
    *,
    now: datetime,
) -> tickets.Row:
    person = sender.identity or _unclear_person(conn, view, mail, now=now)
    ticket_id = tickets.create(
        conn,
        subject=mail.subject,
        department_id=view.department_id,
        contact_id=person.contact_id,
        channel_id=view.channel_id,
        language=mail.language,
        now=now,
        linked_ticket_id=link[0],
        link_kind=link[1],
    )
    contacts.add_participant(conn, ticket_id, person.id, role="requester", is_confirmed=sender.identity is not None)
    return {"id": ticket_id, "department_id": view.department_id}


def _unclear_person(conn: Connection, view: ChannelView, mail: Mail, *, now: datetime) -> Identity:
    """A contact of its own for a sender that cannot be told: never joined with a known one (T-A07)."""
    shown = mail.sender.address if mail.sender else ""
    name = mail.sender.name if mail.sender else ""
    key = f"unclear:{mail.canonical_digest}"
    return contacts.find_or_add(conn, view.kind, key, address=shown, name=name, now=now)


def _add_message(
    conn: Connection,
    view: ChannelView,
    work: ledger.Work,
    mail: Mail,
    sender: _Sender,
    decision: Decision,
    row: tickets.Row,
    *,
    sizes: Sequence[int],
    held: bool,
    is_quiet: bool,
    now: datetime,
) -> int:
    reply = _reply(conn, view, mail)
    values: dict[str, Any] = {
        "ticket_id": row["id"],
        "direction": "in",
        "is_held_aside": held,
        "is_quiet": is_quiet,
        "channel_id": view.channel_id,
        "contact_id": sender.identity.contact_id if sender.identity else None,
        "from_name": mail.sender.name if mail.sender else "",
        "from_address": mail.sender.address if mail.sender else "",
        "sender_state": sender.state,
        "to": [asdict(person) for person in mail.to],
        "cc": [asdict(person) for person in mail.cc],
        "reply_to": [asdict(person) for person in mail.reply_to],
        "subject": mail.subject,
        "text": mail.text,
        "html": mail.html,
        "reply_text": reply.text,
        "reply_html": mail.reply_html,
        "quoted_text": reply.quoted,
        "signature_text": reply.signature,
        "language": mail.language,
        "message_id_header": mail.message_id,
        "in_reply_to": list(mail.in_reply_to),
        "references": list(mail.references),
        "thread_index": mail.thread_index,
        "threading": {
            "evidence": decision.sign.value if decision.sign else "none",
            "sureness": decision.sureness,
            "words": decision.words,
        },
        "automatic": asdict(mail.automatic),
        "warnings": _warnings(conn, view, mail, sender),
        "raw_digest": work.raw_digest,
        "ledger_id": work.id,
        "date_at": mail.date,
        "created_at": work.received_at,
    }
    files = [
        messages.File(
            name=item.name,
            content_type=item.content_type,
            digest=item.sha256,
            size_bytes=size,
            is_inline=item.is_inline,
            content_id=item.content_id,
        )
        for item, size in zip(mail.attachments, sizes, strict=True)
    ]
    message_id = messages.add(conn, values, files)
    kind = events.MESSAGE_HELD_ASIDE if held else events.MESSAGE_RECEIVED
    events.append(
        conn,
        kind,
        now=now,
        department_id=row["department_id"],
        ticket_id=row["id"],
        message_id=message_id,
        channel_id=view.channel_id,
        data={"is_quiet": is_quiet},
    )
    return message_id


def _reply(conn: Connection, view: ChannelView, mail: Mail) -> Reply:
    """The new words; where the message that it answers is ours, they are compared with what we wrote (R2.3)."""
    parents = messages.find_refs(conn, view.channel_id, set(mail.in_reply_to)) if mail.in_reply_to else {}
    ours = next((ref for refs in parents.values() for ref in refs if ref.direction == "out"), None)
    if ours is None or len(mail.text) > PARENT_CHARS:
        return mail.reply
    parent_text = messages.text_of(conn, ours.message_id)
    return split_text(mail.text, parent_text) if len(parent_text) <= PARENT_CHARS else mail.reply


def _warnings(conn: Connection, view: ChannelView, mail: Mail, sender: _Sender) -> list[str]:
    warnings = list(mail.warnings)
    if mail.message_id and ledger.is_id_used(conn, view.channel_id, mail.message_id):
        warnings.append("message-id-reused")  # T-A11
    if sender.is_self:
        warnings.append("claims-our-address")
    if mail.received_count > LOOP_RECEIVED:
        warnings.append("mail-loop")
    return warnings


def _after_message(
    conn: Connection,
    keys: Keys,
    view: ChannelView,
    mail: Mail,
    sender: _Sender,
    row: tickets.Row,
    *,
    is_new: bool,
    now: datetime,
) -> None:
    """What a customer's word changes: status, participants, answers that wait, doubts that it settles."""
    if not is_new:
        tickets.note_inbound(conn, row, now=now)
        _settle_doubts(conn, keys, mail, sender, row["id"], now=now)
        for message_id in outbox.held_by_reply(conn, row["id"]):
            outbox.hold(conn, keys, message_id, why="customer_wrote_first", actor="system", now=now)
    if sender.identity is not None:
        contacts.lift_suppression(conn, sender.identity.id)
    _propose_participants(conn, view, mail, sender, row["id"], now=now)


def _settle_doubts(conn: Connection, keys: Keys, mail: Mail, sender: _Sender, ticket_id: int, *, now: datetime) -> None:
    """A reply to a mail of ours proves that it arrived, also where the server never said so (FAULTS 4.2)."""
    if sender.identity is None:
        return
    named = {*mail.in_reply_to, *mail.references}
    for found in conn.execute(_delayed, {"ticket_id": ticket_id, "identity_id": sender.identity.id}).all():
        if found.message_id_header in named:
            fact = Evidence(fact=Fact.CUSTOMER_REPLIED, at=now, source="mail")
            deliveries.record(conn, keys, found.id, fact, now=now)
            deliveries.settle_outbox(conn, found.message_id)


_delayed = (
    sa.select(delivery.c.id, delivery.c.message_id, message.c.message_id_header)
    .join(message, message.c.id == delivery.c.message_id)
    .where(
        message.c.ticket_id == sa.bindparam("ticket_id"),
        delivery.c.identity_id == sa.bindparam("identity_id"),
        delivery.c.status == "delayed",
    )
)


def _propose_participants(
    conn: Connection, view: ChannelView, mail: Mail, sender: _Sender, ticket_id: int, *, now: datetime
) -> None:
    """Cc addresses take part only on the word of an authenticated participant; else an agent confirms (T-A05)."""
    others: list[Address] = [*mail.to, *mail.cc][:MAX_CC]
    for person in others:
        key = identity_key(person.address)
        if key is None or _base(key) in view.own_keys or (sender.identity and key == sender.identity.key):
            continue
        identity = contacts.find_or_add(conn, view.kind, key, address=person.address, name=person.name, now=now)
        contacts.add_participant(conn, ticket_id, identity.id, role="cc", is_confirmed=sender.state == "verified")


def _base(key: str) -> str:
    """The address without its plus part: ``support+token@`` is us too."""
    local, _, domain = key.rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"
