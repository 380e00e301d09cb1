"""Answers planned for later are looked at again before they leave: what changed meanwhile holds them (F-S16).

An answer that was to leave at once goes whatever happens to its ticket: its author meant it now. One that was planned
for later speaks of a ticket as it was when it was written. ``core.outbox.claim`` asks ``objections`` in the transaction
in which it would hand the answer over, so that nothing changes between the question and the deed; the sweeper asks
earlier, so that people see the hold while there is time.

Whoever releases an answer has agreed to what held it, and stands in for its author.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from core import agents
from core.access import Action, TicketRef, may
from core.delivery import Fact
from core.store.schema import delivery, evidence, message, outbox, ticket

#: The longest time in which an answer can be undone; due later than that it was planned.
UNDO_MOST = timedelta(seconds=120)

TICKET_MOVED = "ticket_moved"
AUTHOR_INACTIVE = "author_inactive"
AUTHOR_LEFT = "author_left"  #: their role or departments do not let them answer there any more
#: Status of the ticket -> what it objects.
BY_STATUS: Mapping[str, str] = {
    "deleted": "ticket_deleted",
    "spam": "ticket_spam",
    "closed": "ticket_closed",
    "resolved": "ticket_closed",
}
OF_AUTHOR = frozenset({AUTHOR_INACTIVE, AUTHOR_LEFT})
OBJECTIONS = frozenset({TICKET_MOVED, *BY_STATUS.values(), *OF_AUTHOR})


def is_planned(row: sa.RowMapping) -> bool:
    """Whether somebody chose a later time. ``row``: ``date_at`` and ``created_at`` of the message, and of its outbox
    row ``attempts`` and ``round``: what was tried, or sent again by a person, is decided."""
    if row["attempts"] or row["round"] > 1 or row["date_at"] is None:
        return False
    wait: timedelta = row["date_at"] - row["created_at"]
    return wait > UNDO_MOST


#: What ``is_planned`` reads, and no more than may be planned.
planned = (
    sa.select(
        outbox.c.id,
        outbox.c.message_id,
        outbox.c.attempts,
        outbox.c.round,
        message.c.date_at,
        message.c.created_at,
    )
    .join(message, message.c.id == outbox.c.message_id)
    .where(
        outbox.c.state == "waiting",
        outbox.c.attempts == 0,
        outbox.c.round == 1,
        message.c.date_at > message.c.created_at,
    )
)


def objections(conn: Connection, outbox_ids: Collection[int]) -> dict[int, str]:
    """Outbox id -> the weightiest reason to ask somebody before this answer leaves; those without one are left out."""
    if not outbox_ids:
        return {}
    query = (
        sa.select(
            outbox.c.id,
            outbox.c.message_id,
            outbox.c.department_id,
            message.c.agent_id,
            ticket.c.status,
            ticket.c.department_id.label("is_in"),
        )
        .join(message, message.c.id == outbox.c.message_id)
        .join(ticket, ticket.c.id == message.c.ticket_id)
        .where(outbox.c.id.in_(outbox_ids))
    )
    found = {}
    for row in conn.execute(query).all():
        agreed = _agreed(conn, row.message_id)
        reasons = [BY_STATUS.get(row.status, ""), TICKET_MOVED if row.is_in != row.department_id else ""]
        if not agreed & OBJECTIONS:
            reasons.append(_of_author(conn, row.agent_id, row.department_id))
        open_reasons = [reason for reason in reasons if reason and reason not in agreed]
        if open_reasons:
            found[row.id] = open_reasons[0]
    return found


def _agreed(conn: Connection, message_id: int) -> frozenset[str]:
    query = (
        sa.select(evidence.c.reason)
        .join(delivery, delivery.c.id == evidence.c.delivery_id)
        .where(delivery.c.message_id == message_id, evidence.c.fact == Fact.RELEASED.value)
    )
    return frozenset(conn.execute(query).scalars())


def _of_author(conn: Connection, agent_id: int | None, department_id: int) -> str:
    author = agents.actor_of(conn, agent_id) if agent_id is not None else None
    if author is None:
        return AUTHOR_INACTIVE
    return "" if may(author, Action.TICKET_ANSWER, TicketRef(department_id=department_id)) else AUTHOR_LEFT
