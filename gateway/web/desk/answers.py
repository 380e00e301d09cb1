"""Answers at the desk: sending one, and what can still be done about it (R5.9).

``prepare`` makes the mail before the transaction, ``commit`` promises it inside: so an Idempotency-Key goes into the
same transaction (F-K10). Rights are asked in both, for they may change in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from core import audit, messages, outbox, tickets
from core.access import Action, Actor, TicketRef, require, visible_departments
from core.audit import By
from core.errors import Conflict, NotFound
from core.keys import Keys
from core.store.blobs import Blobs
from core.store.database import Database
from core.store.schema import delivery, message, ticket
from gateway.outbox import send
from gateway.outbox.send import Answer, Prepared
from gateway.web.desk.stale import refuse_stale
from gateway.web.desk.tickets import MessageView, find, view_of


async def prepare(db: Database, blobs: Blobs, keys: Keys, actor: Actor, code: str, answer: Answer) -> Prepared:
    """Raises NotFound, PermissionDenied, Invalid, Conflict."""
    row = await db.read(find, actor, code, Action.TICKET_ANSWER)
    if actor.agent_id is None:
        raise NotFound("only agents answer")
    return await send.prepare(db, blobs, keys, row["id"], answer, agent_id=actor.agent_id, actor=actor.label)


def commit(conn: Connection, by: By, keys: Keys, prepared: Prepared) -> MessageView:
    """Promise the answer. Raises StaleTicket, and NotFound where the ticket went out of sight meanwhile."""
    # Locked, so that of two answers to one version the second sees the first, and a move waits or is seen.
    conn.execute(sa.select(ticket.c.id).where(ticket.c.id == prepared.ticket_id).with_for_update())
    row = tickets.get(conn, prepared.ticket_id)
    require(by.actor, Action.TICKET_ANSWER, TicketRef(department_id=row["department_id"]))
    seen = prepared.answer.version
    if seen not in (None, row["version"]):
        raise refuse_stale(conn, row["code"], seen or 0)
    message_id = send.commit(conn, keys, prepared, now=by.now)
    view = view_of(conn, by.actor, message_id)
    to = [item["address"] for item in view.deliveries]
    audit.append(
        conn, by, "answer.send", f"message:{view.row['public_id']}", before={}, after={"ticket": row["code"], "to": to}
    )
    return view


def cancel(conn: Connection, by: By, keys: Keys, message_id: str) -> MessageView:
    """Take an answer back before it is handed over. Raises TooLate. A ticket that waits for us again says so."""
    row = _changeable(conn, by.actor, message_id)
    outbox.cancel(conn, keys, row["id"], actor=by.actor.label, now=by.now)
    _reopen(conn, by, row)
    return _done(conn, by, row, "answer.cancel")


def hold(conn: Connection, by: By, keys: Keys, message_id: str) -> MessageView:
    """Keep a waiting answer back. Raises TooLate."""
    row = _changeable(conn, by.actor, message_id)
    outbox.hold(conn, keys, row["id"], why="held_by_agent", actor=by.actor.label, now=by.now)
    return _done(conn, by, row, "answer.hold")


def release(conn: Connection, by: By, keys: Keys, message_id: str) -> MessageView:
    """Let a held answer go. Raises Conflict."""
    row = _changeable(conn, by.actor, message_id)
    outbox.release(conn, keys, row["id"], actor=by.actor.label, now=by.now)
    return _done(conn, by, row, "answer.release")


def send_again(
    conn: Connection, by: By, keys: Keys, message_id: str, *, delivery_ids: Sequence[str] = ()
) -> MessageView:
    """Send the same bytes once more, to all who do not have them for certain or to the deliveries named.

    Raises Conflict, and NotFound for deliveries that are not of this message.
    """
    row = _changeable(conn, by.actor, message_id)
    chosen = [_delivery_id(conn, row["id"], item) for item in delivery_ids]
    outbox.send_again(conn, keys, row["id"], actor=by.actor.label, now=by.now, delivery_ids=chosen)
    return _done(conn, by, row, "answer.send_again", deliveries=list(delivery_ids))


def mark_sent(conn: Connection, by: By, keys: Keys, message_id: str) -> MessageView:
    """Settle a doubt: a person knows that it arrived. Raises Conflict."""
    row = _changeable(conn, by.actor, message_id)
    outbox.mark_sent(conn, keys, row["id"], actor=by.actor.label, now=by.now)
    return _done(conn, by, row, "answer.mark_sent")


Change = Callable[[Connection, By, Keys, str], MessageView]


def _changeable(conn: Connection, actor: Actor, message_id: str) -> sa.RowMapping:
    row = messages.by_public_id(conn, message_id, visible_departments(actor))
    require(actor, Action.DELIVERY_CHANGE, TicketRef(department_id=row["department_id"]))
    if row["direction"] != "out":
        raise Conflict("this message came in: there is nothing to deliver")
    return row


def _delivery_id(conn: Connection, message_id: int, public_id: str) -> int:
    query = sa.select(delivery.c.id).where(delivery.c.message_id == message_id, delivery.c.public_id == public_id)
    found = conn.execute(query).scalar()
    if found is None:
        raise NotFound("no such delivery")
    return int(found)


def _reopen(conn: Connection, by: By, row: sa.RowMapping) -> None:
    """Without the answer the ticket is not answered, unless an older answer stands after the customer's last words."""
    parent = tickets.get(conn, row["ticket_id"])
    if parent["status"] != "answered":
        return
    last_in = (
        sa.select(sa.func.coalesce(sa.func.max(message.c.id), 0))
        .where(message.c.ticket_id == row["ticket_id"], message.c.direction == "in", sa.not_(message.c.is_quiet))
        .scalar_subquery()
    )
    standing = sa.select(delivery.c.id).where(
        delivery.c.message_id == message.c.id, delivery.c.status.not_in(("cancelled", "not_delivered"))
    )
    other = sa.select(message.c.id).where(
        message.c.ticket_id == row["ticket_id"],
        message.c.direction == "out",
        message.c.id > last_in,
        sa.exists(standing),
    )
    if conn.execute(other.limit(1)).first() is None:
        tickets.change(conn, parent, {"status": "open"}, version=None, actor=by.actor.label, now=by.now)


def _done(conn: Connection, by: By, row: sa.RowMapping, action: str, **after: object) -> MessageView:
    code = conn.execute(sa.select(ticket.c.code).where(ticket.c.id == row["ticket_id"])).scalar_one()
    audit.append(conn, by, action, f"message:{row['public_id']}", before={}, after={"ticket": code, **after})
    return view_of(conn, by.actor, row["id"])
