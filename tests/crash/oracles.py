"""What must hold after every kill, checked against truth from outside (FAULTS section 8, the oracles by number).

Each oracle returns sentences; no sentence means that it holds. They read the store with a connection of their own.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import Connection

from core import deliveries, ledger
from core.delivery import Status, canonical, roll_up, status_of, verify_chain
from core.keys import Keys
from core.store.blobs import BlobDamaged, LocalBlobs
from core.store.database import PostgresDatabase
from core.store.schema import (
    attachment,
    attempt,
    contact,
    delivery,
    event,
    evidence,
    identity,
    message,
    outbox,
    participant,
    ticket,
)
from core.store.schema import ledger as ledger_table
from tests.crash.truth import Truth

T = TypeVar("T")
REFUSED_DOMAINS = ("reject.test", "refused.test")  # those that the next server refuses for good, or returns
ENDED = ("done", "quarantined", "dismissed")


async def look(url: str, function: Callable[..., T], *args: Any) -> T:
    """Read the store beside whoever uses it."""
    if url.startswith("postgresql"):
        database = PostgresDatabase(url, pool_size=1)
        try:
            return await database.read(_in_one_snapshot, function, *args)
        finally:
            await database.close()
    path = url.removeprefix("sqlite:///")
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite.connect(path, isolation_level=None, timeout=60),
        poolclass=sa.pool.NullPool,
        module=sqlite,
    )
    with engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA query_only=ON")
        conn.exec_driver_sql("BEGIN")
        try:
            return function(conn, *args)
        finally:
            conn.exec_driver_sql("ROLLBACK")


def _in_one_snapshot(conn: Connection, function: Callable[..., T], *args: Any) -> T:
    conn.exec_driver_sql("set transaction isolation level repeatable read")
    return function(conn, *args)


def at_rest(conn: Connection, truth: Truth, keys: Keys, blobs: Path) -> list[str]:
    """Every oracle that holds when nothing is left to do."""
    return [
        *conservation(conn, truth),
        *raws(conn, truth, blobs),
        *promised(conn, truth),
        *accept_count(conn, truth),
        *statuses(conn, truth),
        *silent_ends(conn),
        *atomicity(conn, truth),
        *chains(conn, keys),
    ]


def conservation(conn: Connection, truth: Truth) -> list[str]:
    """1 and 3: each offered mail is in exactly one place, each new one opened exactly one ticket."""
    found: dict[str, list[sa.RowMapping]] = defaultdict(list)
    wrong = []
    for row in conn.execute(sa.select(ledger_table)).mappings():
        found[row["raw_digest"] or ""].append(row)
    for digest in found.keys() - truth.times.keys() - truth.reported:
        wrong.append(f"o1: the ledger has {len(found[digest])} rows for bytes that nobody offered: {digest[:12]}")
    tickets_of: Counter[str] = Counter()
    opened: dict[int, list[str]] = defaultdict(list)
    for row in conn.execute(sa.select(message).where(message.c.direction == "in")).mappings():
        tickets_of[row["raw_digest"]] += 1
        opened[row["ticket_id"]].append(row["raw_digest"])
    for digest, times in truth.times.items():
        rows = found.get(digest, [])
        name = f"{truth.mails[digest].subject!r} ({digest[:12]})"
        if len(rows) != times:
            wrong.append(f"o1: {name} was offered {times} times and stands {len(rows)} times in the ledger")
        places = Counter(row["outcome"] if row["state"] == "done" else row["state"] for row in rows)
        if unsettled := [row["state"] for row in rows if row["state"] not in ENDED]:
            wrong.append(f"o6: {name} is still {unsettled}")
        if places["ticketed"] + places["quarantined"] != 1:
            wrong.append(f"o1: {name} ended as {dict(places)}")
        wanted = 0 if digest in truth.erased else places["ticketed"]
        if digest in truth.erased and tickets_of[digest]:
            wrong.append(f"o1: {name} came back after its ticket was erased")
        elif tickets_of[digest] != wanted:
            wrong.append(f"o3: {name} is {tickets_of[digest]} messages, {wanted} are right")
    for ticket_id, digests in opened.items():
        news = [digest for digest in digests if digest in truth.mails and not truth.mails[digest].answers]
        if len(news) != 1:
            wrong.append(f"o3: ticket {ticket_id} holds {len(news)} mails that open one")
    return wrong


def raws(conn: Connection, truth: Truth, blobs: Path) -> list[str]:
    """13: the bytes that were taken are the bytes that were offered."""
    store = LocalBlobs.__new__(LocalBlobs)  # without the start-up cleaning
    store.root = blobs
    wrong = []
    for digest in set(conn.execute(sa.select(ledger_table.c.raw_digest)).scalars()) - {None}:
        wrong += _damaged(conn, store, digest)
    for digest in set(conn.execute(sa.select(attachment.c.digest)).scalars()):
        try:
            store.get_now(digest)
        except BlobDamaged as error:
            wrong.append(f"o13: an attachment cannot be read: {error}")
    return wrong


def _damaged(conn: Connection, store: LocalBlobs, digest: str) -> list[str]:
    content = ledger.read_small(conn, digest)
    try:
        content = store.get_now(digest) if content is None else content
    except BlobDamaged as error:
        return [f"o13: a raw cannot be read: {error}"]
    return [] if hashlib.sha256(content).hexdigest() == digest else [f"o13: {digest[:12]} has other bytes"]


def marked_without_row(conn: Connection, seen: Counter[str]) -> list[str]:
    """2: what the server was told to mark is in the ledger. ``seen`` was read from the server *before* the ledger."""
    held = Counter(conn.execute(sa.select(ledger_table.c.raw_digest)).scalars())
    return [
        f"o2: {digest[:12]} was marked on the server {times} times and taken {held[digest]} times"
        for digest, times in seen.items()
        if times > held[digest]
    ]


def promised(conn: Connection, truth: Truth) -> list[str]:
    """Each answer that was asked for under one key is one message, and nobody else wrote any."""
    query = sa.select(message.c.id, message.c.message_id_header).where(message.c.direction == "out")
    written = {row.id: bare(row.message_id_header) for row in conn.execute(query)}
    asked = {item.message_id: item.header for item in truth.answers.values() if item.message_id is not None}
    wrong = [f"o4: nobody asked for answer {number}" for number in written.keys() - asked.keys()]
    for number, header in asked.items():
        if written.get(number) != header:
            wrong.append(f"o4: answer {number} was acknowledged as {header} and is {written.get(number)}")
    return wrong


def accept_count(conn: Connection, truth: Truth) -> list[str]:
    """4: nobody got a second copy that no person asked for, and all copies are the bytes that were promised."""
    digests = {
        bare(row.message_id_header): row.bytes_digest
        for row in conn.execute(
            sa.select(message.c.message_id_header, outbox.c.bytes_digest).join(
                outbox, outbox.c.message_id == message.c.id
            )
        )
    }
    copies: Counter[tuple[str, str]] = Counter()
    resent = sent_once_more(conn)
    wrong = []
    for accept in truth.accepts():
        if accept.header not in digests:
            wrong.append(f"o4: {accept.header} was accepted and is no answer of ours")
        elif accept.sha256 != digests[accept.header]:
            wrong.append(f"o4: {accept.header} left with other bytes than promised")
        for recipient in accept.recipients:
            copies[accept.header, recipient] += 1
    for (header, recipient), count in copies.items():
        if count > 1 + truth.again[header] + ((header, recipient) in resent):
            wrong.append(f"o4: {recipient} got {count} copies of {header}")
    return wrong


def sent_once_more(conn: Connection) -> set[tuple[str, str]]:
    """Header and recipient of each doubt that the policy ``resend-once`` opened a second round for."""
    query = (
        sa.select(message.c.message_id_header, delivery.c.address)
        .join(delivery, delivery.c.message_id == message.c.id)
        .join(evidence, evidence.c.delivery_id == delivery.c.id)
        .where(evidence.c.fact == "send_again", evidence.c.actor == "system: resend-once")
    )
    return {(bare(row.message_id_header), row.address) for row in conn.execute(query)}


def statuses(conn: Connection, truth: Truth) -> list[str]:
    """5: what people see is true, at any moment: an accept that comes while the store is read proves neither side."""
    early = _accepted(truth)
    query = sa.select(delivery, message.c.message_id_header).join(message, message.c.id == delivery.c.message_id)
    rows = conn.execute(query).mappings().all()
    of_delivery: dict[int, list[sa.RowMapping]] = defaultdict(list)
    for fact in conn.execute(sa.select(evidence)).mappings():
        of_delivery[fact["delivery_id"]].append(fact)
    late = _accepted(truth)
    wrong = []
    for row in rows:
        facts = of_delivery[row["id"]]
        verdict = status_of(map(deliveries.to_evidence, facts))
        shown = Status(row["status"])
        name = f"{row['address']} of {row['message_id_header']}"
        if (verdict.status, verdict.detail) != (shown, row["detail"]):
            wrong.append(f"o5: {name} is shown as {shown}/{row['detail']}, the evidence says {verdict}")
        kinds = {fact["fact"] for fact in facts}
        copy = bare(row["message_id_header"]), row["address"]
        if shown is Status.SENT and copy not in late and "marked_sent" not in kinds:
            wrong.append(f"o5: {name} is shown as sent and nobody accepted it")
        if shown in (Status.SCHEDULED, Status.HELD, Status.CANCELLED) and copy in early:
            wrong.append(f"o5: {name} is shown as {shown} and was accepted")
        if shown is Status.NOT_DELIVERED and copy in early and "dsn_failed" not in kinds:
            wrong.append(f"o5: {name} is shown as not delivered and was accepted")
        may_fail = row["domain"] in REFUSED_DOMAINS or kinds & {"gave_up", "dsn_failed"}
        if shown is Status.NOT_DELIVERED and not may_fail:
            wrong.append(f"o5: {name} is shown as not delivered and nobody refused it")
    return wrong


def _accepted(truth: Truth) -> set[tuple[str, str]]:
    return {(accept.header, recipient) for accept in truth.accepts() for recipient in accept.recipients}


def silent_ends(conn: Connection) -> list[str]:
    """6: at rest nothing is claimed, and nothing that is due waits."""
    query = sa.select(outbox.c.id, outbox.c.state, outbox.c.lease_owner).where(
        outbox.c.state.in_(("waiting", "leased"))
    )
    wrong = [f"o6: answer {row.id} is {row.state} (owner {row.lease_owner})" for row in conn.execute(query)]
    doubtful = delivery.c.message_id == outbox.c.message_id, delivery.c.detail == "in_doubt"
    settled = sa.select(outbox.c.id).where(outbox.c.state == "doubt", sa.not_(sa.exists().where(*doubtful)))
    wrong += [f"o6: answer {number} waits for a doubt that is settled" for number in conn.execute(settled).scalars()]
    orphans = sa.select(attempt.c.id).join(outbox, outbox.c.id == attempt.c.outbox_id)
    orphans = orphans.where(attempt.c.state != "finished", outbox.c.state != "leased")
    return wrong + [f"o6: attempt {number} never ended" for number in conn.execute(orphans).scalars()]


def atomicity(conn: Connection, truth: Truth) -> list[str]:
    """8: no half of anything."""
    inbound = message.c.direction == "in"
    outbound = message.c.direction == "out"

    def without(table: sa.Table, condition: Any, query: sa.Select[Any]) -> sa.Select[Any]:
        return sa.select(table.c.id).where(condition, sa.not_(query.exists()))

    checks = {
        "ticket without a message": without(
            ticket, sa.true(), sa.select(message.c.id).where(message.c.ticket_id == ticket.c.id)
        ),
        "ticket without a requester": without(
            ticket, sa.true(), sa.select(participant.c.ticket_id).where(participant.c.ticket_id == ticket.c.id)
        ),
        "contact without an identity": without(
            contact, sa.true(), sa.select(identity.c.id).where(identity.c.contact_id == contact.c.id)
        ),
        "received message whose ledger row does not know it": without(
            message,
            inbound,
            sa.select(ledger_table.c.id).where(
                ledger_table.c.id == message.c.ledger_id,
                ledger_table.c.message_id == message.c.id,
                ledger_table.c.outcome == "ticketed",
            ),
        ),
        "answer without an outbox row": without(
            message, outbound, sa.select(outbox.c.id).where(outbox.c.message_id == message.c.id)
        ),
        "answer without a recipient": without(
            message, outbound, sa.select(delivery.c.id).where(delivery.c.message_id == message.c.id)
        ),
        "answer whose attempts are not those counted": sa.select(outbox.c.id).where(
            outbox.c.attempts
            != sa.select(sa.func.count()).where(attempt.c.outbox_id == outbox.c.id).correlate(outbox).scalar_subquery()
        ),
    }
    wrong = [
        f"o8: {what}: {list(rows)}" for what, query in checks.items() if (rows := conn.execute(query).scalars().all())
    ]
    return wrong + _files(conn, truth) + _events(conn) + _summaries(conn)


def _files(conn: Connection, truth: Truth) -> list[str]:
    query = (
        sa.select(message.c.raw_digest, sa.func.count(attachment.c.id))
        .select_from(message)
        .outerjoin(attachment, attachment.c.message_id == message.c.id)
        .where(message.c.direction == "in")
        .group_by(message.c.id, message.c.raw_digest)
    )
    return [
        f"o8: {digest[:12]} has {count} files of {truth.mails[digest].files}"
        for digest, count in conn.execute(query)
        if digest in truth.mails and truth.mails[digest].files != count
    ]


def _events(conn: Connection) -> list[str]:
    """Each thing that happened was told once: no notification without its ticket and none twice."""
    told = {
        "ticket.created": (event.c.ticket_id, sa.select(ticket.c.id)),
        "message.received": (event.c.message_id, sa.select(message.c.id).where(message.c.direction == "in")),
        "answer.queued": (event.c.message_id, sa.select(message.c.id).where(message.c.direction == "out")),
    }
    wrong = []
    for kind, (column, query) in told.items():
        counted = Counter(conn.execute(sa.select(column).where(event.c.kind == kind)).scalars())
        for number in conn.execute(query).scalars():
            if counted[number] != 1:
                wrong.append(f"o8: {kind} of {number} was told {counted[number]} times")
    return wrong


def _summaries(conn: Connection) -> list[str]:
    """The ticket's own delivery column is that of its newest answer."""
    newest: dict[int, list[Status]] = {}
    query = sa.select(message.c.ticket_id, message.c.id).where(message.c.direction == "out").order_by(message.c.id)
    for ticket_id, message_id in conn.execute(query):
        shown = conn.execute(sa.select(delivery.c.status).where(delivery.c.message_id == message_id)).scalars()
        newest[ticket_id] = [Status(status) for status in shown]
    wrong = []
    for ticket_id, status in conn.execute(sa.select(ticket.c.id, ticket.c.delivery_status)):
        if ticket_id in newest and (wanted := roll_up(newest[ticket_id]).status) != status:
            wrong.append(f"o5: ticket {ticket_id} shows {status}, its newest answer is {wanted}")
    return wrong


def chains(conn: Connection, keys: Keys) -> list[str]:
    """9: no evidence was changed or lost."""
    wrong = []
    for row in conn.execute(sa.select(delivery)).mappings():
        facts = deliveries.evidence_of(conn, row["id"])
        items = [(canonical(deliveries.to_evidence(fact)), bytes(fact["hash"])) for fact in facts]
        bad = verify_chain(
            items,
            keys.evidence,
            bytes(row["evidence_head"]),
            row["evidence_count"],
            anchor=deliveries.anchor(row["public_id"]),
        )
        if bad is not None:
            wrong.append(f"o9: the evidence chain of delivery {row['id']} breaks at {bad}")
    return wrong


def bare(header: str | None) -> str:
    return (header or "").strip("<>")


def report(wrong: Iterable[str], *, limit: int = 20) -> str:
    lines = list(wrong)
    more = [f"… and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])
