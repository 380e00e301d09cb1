"""An answer, from "send" to promised: the mail is made once, and everything about it is one commit (COMMIT A, O0).

``prepare`` reads and composes; ``commit`` writes. They are apart so that a web request can put its idempotency key into
the same transaction (F-K10).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import Connection

from core import channels, contacts, deliveries, events, ledger, messages, outbox, tickets
from core.delivery import Detail, Status
from core.errors import Conflict, Invalid
from core.failpoints import failpoint
from core.ids import public_id
from core.keys import Keys
from core.store.blobs import Blobs
from core.store.database import Database
from core.store.raws import keep_raw
from core.store.schema import agent, delivery, department, message, raw
from gateway.channels.email_config import EmailConfig
from gateway.normalize import html, tokens
from gateway.normalize.addresses import identity_key
from gateway.normalize.tokens import Purpose, Token
from gateway.normalize.values import Address
from gateway.outbox import recipients
from gateway.outbox.compose import OutgoingFile, OutgoingMail, compose, reply_subject

MAX_RECIPIENTS = 50
MAX_TEXT_CHARS = 200_000
MAX_FILES_BYTES = 25 * 1024 * 1024
MAX_AHEAD = timedelta(days=366)
KINDS = ("to", "cc", "bcc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A file that the agent attached."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What an agent wants to send. Without recipients it goes where ``recipients`` says."""

    text: str
    html: str | None = None
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    files: tuple[Upload, ...] = ()
    send_at: datetime | None = None
    hold_if_they_write: bool = False
    version: int | None = None  #: of the ticket as the agent saw it; None skips the check


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Everything that COMMIT A writes. ``recipients``: kind, address, key."""

    ticket_id: int
    answer: Answer
    agent_id: int
    actor: str
    channel_id: int
    channel_kind: str
    nonce: int
    message_id_header: str
    sender: Address
    recipients: tuple[tuple[str, Address, str], ...]
    subject: str
    in_reply_to: str | None
    references: tuple[str, ...]
    files: tuple[messages.File, ...]
    raw_digest: str
    small_raw: bytes | None
    due_at: datetime
    give_up_at: datetime
    seen_inbound: int  #: newest inbound message that the agent can have seen
    html: str | None


async def prepare(
    db: Database, blobs: Blobs, keys: Keys, ticket_id: int, answer: Answer, *, agent_id: int, actor: str
) -> Prepared:
    """Make the mail: fixed Message-ID, fixed bytes. Raises Invalid, NotFound, Conflict."""
    now = db.clock.now()
    _check(answer, now)
    seen = await db.read(_read, keys, ticket_id, agent_id)
    config = EmailConfig.model_validate(seen.channel.config)
    if config.smtp is None:
        raise Conflict("this channel has no way out: an administrator has to set up its SMTP server")
    chosen = _recipients(answer, seen)
    nonce = secrets.randbits(8 * tokens.NUMBER_BYTES)
    domain = seen.channel.address.rpartition("@")[2]
    mine = Token(purpose=Purpose.MESSAGE, ticket_id=ticket_id, nonce=nonce)
    message_id = tokens.message_id(mine, domain, keys.tokens)
    reply_token = tokens.sign(Token(purpose=Purpose.REPLY, ticket_id=ticket_id, nonce=nonce), keys.tokens)
    address = seen.channel.address
    sender = Address(name=seen.sender_name or config.name, address=address)
    due_at = answer.send_at or now + timedelta(seconds=config.undo_seconds)
    text = f"{answer.text.rstrip()}\n\n-- \n{seen.signature}" if seen.signature else answer.text
    mail = OutgoingMail(
        sender_name=sender.name,
        sender_address=address,
        reply_to=tokens.plus_address(address, reply_token) if config.plus_addressing else None,
        to=tuple(person for kind, person, _key in chosen if kind == "to"),
        cc=tuple(person for kind, person, _key in chosen if kind == "cc"),
        subject=reply_subject(seen.ticket["subject"] or "your message"),
        text=text,
        html=html.sanitise(answer.html) if answer.html else None,
        message_id=message_id,
        in_reply_to=seen.last_header,
        references=(*seen.last_references, *((seen.last_header,) if seen.last_header else ())),
        date=due_at,
        attachments=tuple(
            OutgoingFile(name=item.name, content_type=item.content_type, content=item.content) for item in answer.files
        ),
        loop_marker=tokens.sign(Token(purpose=Purpose.LOOP, ticket_id=ticket_id, nonce=nonce), keys.tokens),
    )
    digest, small = await keep_raw(blobs, compose(mail))
    files = [
        messages.File(
            name=item.name,
            content_type=item.content_type,
            digest=await blobs.put(item.content),
            size_bytes=len(item.content),
        )
        for item in answer.files
    ]
    return Prepared(
        ticket_id=ticket_id,
        answer=answer,
        agent_id=agent_id,
        actor=actor,
        channel_id=seen.channel.id,
        channel_kind=seen.channel.kind,
        nonce=nonce,
        message_id_header=message_id,
        sender=sender,
        recipients=chosen,
        subject=mail.subject,
        in_reply_to=seen.last_header,
        references=mail.references,
        files=tuple(files),
        raw_digest=digest,
        small_raw=small,
        due_at=due_at,
        give_up_at=due_at + timedelta(days=config.retry_days),
        seen_inbound=seen.last_inbound,
        html=mail.html,
    )


def commit(conn: Connection, keys: Keys, prepared: Prepared, *, now: datetime) -> int:
    """COMMIT A: message, recipients, outbox row, ticket and event; return the message id. Raises Conflict.

    ``hold_if_they_write`` with a newer word of the customer than the agent saw holds the answer at once.
    """
    ticket = tickets.get(conn, prepared.ticket_id)
    answer = prepared.answer
    if answer.version is not None and ticket["version"] != answer.version:
        raise Conflict("somebody changed the ticket meanwhile")
    if prepared.small_raw is not None:
        values = {"digest": prepared.raw_digest, "content": prepared.small_raw}
        if ledger.read_small(conn, prepared.raw_digest) is None:
            conn.execute(sa.insert(raw), values)
    message_id = messages.add(conn, _message(prepared, ticket, now), prepared.files)
    for kind, person, key in prepared.recipients:
        _add_delivery(conn, prepared, message_id, kind, person, key, now=now)
    outbox.add(
        conn,
        message_id=message_id,
        channel_id=prepared.channel_id,
        department_id=ticket["department_id"],
        nonce=prepared.nonce,
        bytes_digest=prepared.raw_digest,
        due_at=prepared.due_at,
        give_up_at=prepared.give_up_at,
        hold_if_they_write=answer.hold_if_they_write,
    )
    tickets.note_answer(conn, ticket, agent_id=prepared.agent_id, now=now)
    events.append(
        conn,
        events.ANSWER_QUEUED,
        now=now,
        department_id=ticket["department_id"],
        ticket_id=prepared.ticket_id,
        message_id=message_id,
        actor=prepared.actor,
    )
    if answer.hold_if_they_write and _last_inbound(conn, prepared.ticket_id) > prepared.seen_inbound:
        outbox.hold(conn, keys, message_id, why="customer_wrote_first", actor="system", now=now)
    failpoint("O0")
    return message_id


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    ticket: sa.RowMapping
    channel: channels.Channel
    signature: str
    sender_name: str
    recipients: tuple[Address, ...]  #: unless the agent says otherwise
    last_header: str | None
    last_references: tuple[str, ...]
    last_inbound: int


def _read(conn: Connection, keys: Keys, ticket_id: int, agent_id: int) -> _Seen:
    ticket = tickets.get(conn, ticket_id)
    last = recipients.last_heard(conn, ticket_id)
    author = conn.execute(sa.select(agent.c.alias, agent.c.name).where(agent.c.id == agent_id)).first()
    signature = conn.execute(
        sa.select(department.c.signature).where(department.c.id == ticket["department_id"])
    ).scalar_one()
    return _Seen(
        ticket=ticket,
        channel=channels.get(conn, keys, ticket["channel_id"]),
        signature=signature,
        sender_name=(author.alias or author.name) if author else "",
        recipients=recipients.choose(last, contacts.participants(conn, ticket_id)),
        last_header=last["message_id_header"] if last else None,
        last_references=tuple(last["references"]) if last else (),
        last_inbound=_last_inbound(conn, ticket_id),
    )


def _last_inbound(conn: Connection, ticket_id: int) -> int:
    query = sa.select(sa.func.coalesce(sa.func.max(message.c.id), 0)).where(
        message.c.ticket_id == ticket_id, message.c.direction == "in", sa.not_(message.c.is_quiet)
    )
    return int(conn.execute(query).scalar_one())


def _check(answer: Answer, now: datetime) -> None:
    fields = {}
    if not answer.text.strip() and not answer.html:
        fields["text"] = "the answer is empty"
    if len(answer.text) > MAX_TEXT_CHARS or len(answer.html or "") > MAX_TEXT_CHARS:
        fields["text"] = f"longer than {MAX_TEXT_CHARS} characters"
    if sum(len(item.content) for item in answer.files) > MAX_FILES_BYTES:
        fields["files"] = f"larger than {MAX_FILES_BYTES // 1024 // 1024} MiB together"
    if answer.send_at is not None and not now <= answer.send_at <= now + MAX_AHEAD:
        fields["send_at"] = "not between now and a year from now"
    if len(answer.to) + len(answer.cc) + len(answer.bcc) > MAX_RECIPIENTS:
        fields["to"] = f"more than {MAX_RECIPIENTS} recipients"
    if fields:
        raise Invalid("the answer cannot be sent like this", fields=fields)


def _recipients(answer: Answer, seen: _Seen) -> tuple[tuple[str, Address, str], ...]:
    """Return each address once, in the strongest role. Raises Invalid for addresses that cannot be written to."""
    chosen = {"to": answer.to or seen.recipients, "cc": answer.cc, "bcc": answer.bcc}
    found: dict[str, tuple[str, Address, str]] = {}
    fields = {}
    for kind in KINDS:
        for person in chosen[kind]:
            key = identity_key(person.address)
            try:
                validate_email(person.address, check_deliverability=False, test_environment=True)
            except EmailNotValidError as error:
                fields[kind] = f"{person.address}: {error}"
                continue
            if key is None:
                fields[kind] = f"{person.address}: not an address"
            else:
                found.setdefault(key, (kind, person, key))
    if fields:
        raise Invalid("some addresses cannot be written to", fields=fields)
    if not found:
        raise Invalid("there is nobody to send it to", fields={"to": "no recipient"})
    return tuple(found.values())


def _message(prepared: Prepared, ticket: sa.RowMapping, now: datetime) -> dict[str, Any]:
    shown: dict[str, list[dict[str, str]]] = {kind: [] for kind in KINDS}
    for kind, person, _key in prepared.recipients:
        shown[kind].append({"name": person.name, "address": person.address})
    return {
        "ticket_id": prepared.ticket_id,
        "direction": "out",
        "is_held_aside": False,
        "is_quiet": False,
        "channel_id": prepared.channel_id,
        "contact_id": ticket["contact_id"],
        "agent_id": prepared.agent_id,
        "from_name": prepared.sender.name,
        "from_address": prepared.sender.address,
        "sender_state": "verified",
        "to": shown["to"],
        "cc": shown["cc"],
        "reply_to": [],
        "subject": prepared.subject,
        "text": prepared.answer.text,
        "html": prepared.html,
        "reply_text": prepared.answer.text,
        "message_id_header": prepared.message_id_header,
        "in_reply_to": [prepared.in_reply_to] if prepared.in_reply_to else [],
        "references": list(prepared.references),
        "threading": {"evidence": "answer", "sureness": "certain", "words": "Written here"},
        "automatic": {"is_automatic": False, "reason": "", "may_answer": True},
        "warnings": [],
        "raw_digest": prepared.raw_digest,
        "date_at": prepared.due_at,
        "created_at": now,
    }


def _add_delivery(
    conn: Connection, prepared: Prepared, message_id: int, kind: str, person: Address, key: str, *, now: datetime
) -> None:
    """One row a recipient. Who is written to takes part: the agent's choice is the confirmation (T-A05)."""
    name = public_id()
    identity = contacts.find_or_add(conn, prepared.channel_kind, key, address=person.address, name=person.name, now=now)
    if kind != "bcc":
        contacts.add_participant(conn, prepared.ticket_id, identity.id, role="cc", is_confirmed=True)
    values = {
        "public_id": name,
        "message_id": message_id,
        "identity_id": identity.id,
        "kind": kind,
        "name": person.name,
        "address": person.address,
        "address_key": key,
        "domain": key.rpartition("@")[2],
        "status": Status.SCHEDULED.value,
        "detail": Detail.QUEUED.value,
        "status_since_at": now,
        "evidence_head": deliveries.anchor(name),
        "created_at": now,
    }
    conn.execute(sa.insert(delivery), values)
