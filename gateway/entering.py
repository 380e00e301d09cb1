"""How a message enters: who wrote it, which ticket it belongs to, and what its coming changes there (I8).

Everything runs inside the transaction of ``gateway.settle``. Who may speak in a ticket is decided by
``core.threading``; here the signs are looked up, each ticket once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from authres import AuthenticationResultsHeader
from authres.core import AuthResError
from sqlalchemy import Connection

from core import contacts, deliveries, events, ledger, messages, outbox, tickets
from core.contacts import Identity
from core.delivery import Evidence, Fact
from core.keys import Keys
from core.messages import Ref
from core.store.hot import Hot
from core.store.schema import delivery, message, ticket
from core.threading import Decision, Finding, Place, Sign, decide
from gateway.normalize import tokens
from gateway.normalize.addresses import identity_key, is_confusable
from gateway.normalize.quotes import split_text
from gateway.normalize.tokens import Purpose
from gateway.normalize.values import Address, Mail, Reply

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
class Case:
    """One mail on its way in, and the transaction in which that happens."""

    conn: Connection
    keys: Keys
    view: ChannelView
    work: ledger.Work
    mail: Mail
    sizes: Sequence[int]  #: of the attachments, in their order
    is_id_used: bool  #: another mail of this mailbox carried the same Message-ID
    now: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sender:
    identity: Identity | None
    state: str  #: verified | not_verified | unclear | unknown
    is_self: bool  #: it claims one of our own addresses, without our loop marker (T-A14)


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """Where the signs of a mail lead, before anything is written."""

    sender: _Sender
    decision: Decision
    known: Mapping[str, Sequence[Ref]]  #: Message-IDs that it names -> our messages


def place(case: Case) -> Placed:
    """Find out who wrote it and where it belongs; a sender who is new becomes a contact."""
    sender = _sender(case)
    named = {*case.mail.in_reply_to, *case.mail.references}
    known = messages.find_refs(case.conn, case.view.channel_id, named)
    findings = _findings(case, sender.identity, known)
    decision = decide(findings, is_sender_unclear=case.mail.is_sender_unclear or sender.is_self)
    return Placed(sender=sender, decision=decision, known=known)


def take_auto_reply(case: Case, placed: Placed) -> Settled:
    """A quiet entry in its ticket: no reopening, no status; without a ticket it is none (F-S10).

    It opens no ticket of its own, so mere headers hold it aside in the ticket that they name; a subject is no header.
    """
    decision = placed.decision
    ticket_id = decision.hint_ticket_id if decision.place is Place.NEW else decision.ticket_id
    row = tickets.state_of(case.conn, ticket_id) if ticket_id is not None else None
    if row is None or decision.sign is Sign.SUBJECT_CODE:
        why = case.mail.automatic.reason
        return Settled(outcome="skipped", reason=f"an automatic answer to nothing of ours ({why})")
    message_id = _add_message(case, placed, row, held=decision.place is not Place.JOIN, is_quiet=True)
    return Settled(outcome="ticketed", reason="automatic answer, quiet", message_id=message_id, ticket_id=ticket_id)


def take_message(case: Case, placed: Placed) -> Settled:
    """A message joins its ticket or opens one."""
    decision = placed.decision
    row: tickets.State | None = None
    if decision.ticket_id is not None:
        row = tickets.state_of(case.conn, decision.ticket_id)
    link: tuple[int | None, str | None] = (None, None)
    if row is not None and not tickets.is_reopenable(row, reopen_days=case.view.reopen_days, now=case.now):
        link, row = (row.id, "follow_up"), None
    elif decision.hint_ticket_id is not None:
        link = (decision.hint_ticket_id, "may_belong")
    if row is None:
        row = _open_ticket(case, placed.sender, link)
        is_new, held = True, False
    else:
        is_new, held = False, decision.place is Place.HOLD_ASIDE
    message_id = _add_message(case, placed, row, held=held, is_quiet=False)
    if not held:
        _after_message(case, placed.sender, row, is_new=is_new)
    return Settled(outcome="ticketed", message_id=message_id, ticket_id=row.id)


def recipients(mail: Mail) -> Iterable[str]:
    """Every address that the mail came to or says it came to."""
    yield from mail.delivered_to
    for person in (*mail.to, *mail.cc):
        yield person.address


def _sender(case: Case) -> _Sender:
    """Who wrote it, as far as From can be trusted; an unclear sender is a fresh, unverified contact (T-A07)."""
    written = case.mail.sender
    key = identity_key(written.address) if written else None
    if written is None or key is None:
        return _Sender(identity=None, state="unclear", is_self=False)
    is_self = _base(key) in case.view.own_keys
    if case.mail.is_sender_unclear or is_self:
        return _Sender(identity=None, state="unclear", is_self=is_self)
    person = contacts.find_or_add(
        case.conn, case.view.kind, key, address=written.address, name=written.name, now=case.now
    )
    return _Sender(identity=person, state=_authentication(case.view, case.mail, key), is_self=False)


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


def _findings(case: Case, person: Identity | None, known: Mapping[str, Sequence[Ref]]) -> list[Finding]:
    """Every sign that leads to a ticket of this channel, with whether the sender takes part in it."""
    signs = dict.fromkeys(_signs(case, known))
    if not signs:
        return []
    tickets_named = {ticket_id for _sign, ticket_id, _detail in signs}
    takes_part = {ticket_id: _takes_part(case, ticket_id, person) for ticket_id in tickets_named}
    return [
        Finding(sign=sign, ticket_id=ticket_id, detail=detail, is_participant=bool(takes_part[ticket_id]))
        for sign, ticket_id, detail in signs
        if takes_part[ticket_id] is not None
    ]


def _signs(case: Case, known: Mapping[str, Sequence[Ref]]) -> Iterable[tuple[Sign, int, str]]:
    mail, keys = case.mail, case.keys
    for address in recipients(mail):
        for purpose, sign in ((Purpose.REPLY, Sign.REPLY_ADDRESS), (Purpose.RETURN, Sign.RETURN_ADDRESS)):
            if token := tokens.of_address(address, keys.tokens, purpose):
                yield sign, token.ticket_id, address
    newest_first = tuple(reversed(mail.references))
    for text in (*mail.in_reply_to, *newest_first):
        if token := tokens.of_message_id(text, keys.tokens):
            yield Sign.OUR_MESSAGE_ID, token.ticket_id, text
    for sign, texts in ((Sign.IN_REPLY_TO, mail.in_reply_to), (Sign.REFERENCES, newest_first)):
        for text in texts:
            for ref in known.get(text, ()):
                yield sign, ref.ticket_id, text
    if mail.thread_index:
        by_index = tickets.find_by_thread_index(case.conn, case.view.channel_id, mail.thread_index)
        if by_index is not None:
            yield Sign.THREAD_INDEX, by_index, mail.thread_index
    if code := CODE.search(mail.subject):
        hinted = case.conn.execute(
            sa.select(ticket.c.id).where(ticket.c.code == code[1], ticket.c.channel_id == case.view.channel_id)
        ).scalar()
        if hinted is not None:
            yield Sign.SUBJECT_CODE, hinted, code[1]


def _takes_part(case: Case, ticket_id: int, person: Identity | None) -> bool | None:
    """Whether the sender takes part in a ticket; None when it is none of this channel."""
    if tickets.channel_of(case.conn, ticket_id) != case.view.channel_id:
        return None
    return person is not None and contacts.is_participant(case.conn, ticket_id, person.id)


def _open_ticket(case: Case, sender: _Sender, link: tuple[int | None, str | None]) -> tickets.State:
    person = sender.identity or _unclear_person(case)
    ticket_id = tickets.create(
        case.conn,
        subject=case.mail.subject,
        department_id=case.view.department_id,
        contact_id=person.contact_id,
        channel_id=case.view.channel_id,
        language=case.mail.language,
        now=case.now,
        linked_ticket_id=link[0],
        link_kind=link[1],
    )
    contacts.add_participant(
        case.conn, ticket_id, person.id, role="requester", is_confirmed=sender.identity is not None
    )
    return tickets.State(id=ticket_id, department_id=case.view.department_id, status="new", closed_at=None)


def _unclear_person(case: Case) -> Identity:
    """A contact of its own for a sender that cannot be told: never joined with a known one (T-A07)."""
    shown = case.mail.sender.address if case.mail.sender else ""
    name = case.mail.sender.name if case.mail.sender else ""
    key = f"unclear:{case.mail.canonical_digest}"
    return contacts.find_or_add(case.conn, case.view.kind, key, address=shown, name=name, now=case.now)


def _add_message(case: Case, placed: Placed, row: tickets.State, *, held: bool, is_quiet: bool) -> int:
    mail, sender, decision = case.mail, placed.sender, placed.decision
    reply = _reply(case, placed.known)
    values: dict[str, Any] = {
        "ticket_id": row.id,
        "direction": "in",
        "is_held_aside": held,
        "is_quiet": is_quiet,
        "channel_id": case.view.channel_id,
        "contact_id": sender.identity.contact_id if sender.identity else None,
        "from_name": mail.sender.name if mail.sender else "",
        "from_address": mail.sender.address if mail.sender else "",
        "sender_state": sender.state,
        "to": _people(mail.to),
        "cc": _people(mail.cc),
        "reply_to": _people(mail.reply_to),
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
        "automatic": {
            "is_automatic": mail.automatic.is_automatic,
            "reason": mail.automatic.reason,
            "may_answer": mail.automatic.may_answer,
        },
        "warnings": _warnings(case, sender),
        "raw_digest": case.work.raw_digest,
        "ledger_id": case.work.id,
        "date_at": mail.date,
        "created_at": case.work.received_at,
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
        for item, size in zip(mail.attachments, case.sizes, strict=True)
    ]
    message_id = messages.add(case.conn, values, files)
    events.append(
        case.conn,
        events.MESSAGE_HELD_ASIDE if held else events.MESSAGE_RECEIVED,
        now=case.now,
        department_id=row.department_id,
        ticket_id=row.id,
        message_id=message_id,
        channel_id=case.view.channel_id,
        data={"is_quiet": is_quiet},
    )
    return message_id


def _people(people: Iterable[Address]) -> list[dict[str, str]]:
    return [{"name": person.name, "address": person.address} for person in people]


def _reply(case: Case, known: Mapping[str, Sequence[Ref]]) -> Reply:
    """The new words; where the message that it answers is ours, they are compared with what we wrote (R2.3)."""
    mail = case.mail
    refs = (ref for text in mail.in_reply_to for ref in known.get(text, ()))
    ours = next((ref for ref in refs if ref.direction == "out"), None)
    if ours is None or len(mail.text) > PARENT_CHARS:
        return mail.reply
    parent_text = messages.text_of(case.conn, ours.message_id)
    return split_text(mail.text, parent_text) if len(parent_text) <= PARENT_CHARS else mail.reply


def _warnings(case: Case, sender: _Sender) -> list[str]:
    mail = case.mail
    warnings = list(mail.warnings)
    if case.is_id_used:
        warnings.append("message-id-reused")  # T-A11
    if sender.is_self:
        warnings.append("claims-our-address")
    if mail.sender is not None and is_confusable(mail.sender.address.rpartition("@")[2]):
        warnings.append("sender-look-alike")  # T-A12
    if mail.received_count > LOOP_RECEIVED:
        warnings.append("mail-loop")
    return warnings


def _after_message(case: Case, sender: _Sender, row: tickets.State, *, is_new: bool) -> None:
    """What a customer's word changes: status, participants, answers that wait, doubts that it settles."""
    if not is_new:
        tickets.note_inbound(case.conn, row, now=case.now)
        _settle_doubts(case, sender, row.id)
        for message_id in outbox.held_by_reply(case.conn, row.id):
            outbox.hold(case.conn, case.keys, message_id, why="customer_wrote_first", actor="system", now=case.now)
    if sender.identity is not None and sender.identity.is_suppressed:
        contacts.lift_suppression(case.conn, sender.identity.id)
    _propose_participants(case, sender, row.id)


def _settle_doubts(case: Case, sender: _Sender, ticket_id: int) -> None:
    """A reply to a mail of ours proves that it arrived, also where the server never said so (FAULTS 4.2)."""
    if sender.identity is None:
        return
    named = {*case.mail.in_reply_to, *case.mail.references}
    delayed = _delayed.rows(case.conn, {"ticket_id": ticket_id, "identity_id": sender.identity.id})
    for delivery_id, message_id, header in delayed:
        if header in named:
            fact = Evidence(fact=Fact.CUSTOMER_REPLIED, at=case.now, source="mail")
            deliveries.record(case.conn, case.keys, delivery_id, fact, now=case.now)
            deliveries.settle_outbox(case.conn, message_id)


_delayed = Hot(
    sa.select(delivery.c.id, delivery.c.message_id, message.c.message_id_header)
    .join(message, message.c.id == delivery.c.message_id)
    .where(
        message.c.ticket_id == sa.bindparam("ticket_id"),
        delivery.c.identity_id == sa.bindparam("identity_id"),
        delivery.c.status == "delayed",
    )
)


def _propose_participants(case: Case, sender: _Sender, ticket_id: int) -> None:
    """Cc addresses take part only on the word of an authenticated participant; else an agent confirms (T-A05)."""
    others: list[Address] = [*case.mail.to, *case.mail.cc][:MAX_CC]
    for person in others:
        key = identity_key(person.address)
        if key is None or _base(key) in case.view.own_keys or (sender.identity and key == sender.identity.key):
            continue
        identity = contacts.find_or_add(
            case.conn, case.view.kind, key, address=person.address, name=person.name, now=case.now
        )
        contacts.add_participant(case.conn, ticket_id, identity.id, role="cc", is_confirmed=sender.state == "verified")


def _base(key: str) -> str:
    """The address without its plus part: ``support+token@`` is us too."""
    local, _, domain = key.rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"
