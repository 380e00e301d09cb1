"""Long lists, a page at a time: deliveries and ledger rows, newest first, already cut to what the reader may see."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core.errors import NotFound
from core.store.schema import agent, attempt, channel, delivery, department, ledger, message, outbox, ticket

Position = tuple[datetime, int]  #: (created_at or received_at, id) of the last row seen


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryFilter:
    """What a list of deliveries shows. ``departments`` None means all: only ``core.access`` may say so.

    ``from_at`` belongs to the period, ``to_at`` does not.
    """

    departments: Collection[int] | None
    statuses: Sequence[str] = ()
    from_at: datetime | None = None
    to_at: datetime | None = None
    channel_id: int | None = None
    agent_id: int | None = None
    domain: str | None = None
    reason: str | None = None
    ticket_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerFilter:
    states: Sequence[str] = ()
    outcomes: Sequence[str] = ()
    channel_id: int | None = None


_delivery_view = (
    sa.select(
        delivery,
        message.c.public_id.label("message_public_id"),
        message.c.subject,
        ticket.c.code.label("ticket_code"),
        ticket.c.department_id,
        department.c.public_id.label("department_public_id"),
        department.c.name.label("department_name"),
        agent.c.public_id.label("agent_public_id"),
        agent.c.name.label("agent_name"),
        channel.c.public_id.label("channel_public_id"),
        channel.c.name.label("channel_name"),
        outbox.c.state.label("outbox_state"),
        outbox.c.due_at,
        outbox.c.give_up_at,
        outbox.c.attempts,
        outbox.c.held_why,
    )
    .join(message, message.c.id == delivery.c.message_id)
    .join(ticket, ticket.c.id == message.c.ticket_id)
    .join(department, department.c.id == ticket.c.department_id)
    .join(channel, channel.c.id == message.c.channel_id)
    .join(outbox, outbox.c.message_id == message.c.id)
    .outerjoin(agent, agent.c.id == message.c.agent_id)
)


def deliveries(
    conn: Connection, wanted: DeliveryFilter, *, limit: int, before: Position | None = None
) -> list[sa.RowMapping]:
    """Return deliveries with the names of what they belong to."""
    query = _delivery_view.where(*delivery_conditions(wanted))
    if before is not None:
        query = query.where(_is_before(delivery.c.created_at, delivery.c.id, before))
    query = query.order_by(delivery.c.created_at.desc(), delivery.c.id.desc()).limit(limit)
    return list(conn.execute(query).mappings())


def delivery_by_public_id(conn: Connection, wanted: str, departments: Collection[int] | None) -> sa.RowMapping:
    """Raises NotFound, also where its ticket is out of sight."""
    seen = DeliveryFilter(departments=departments)
    query = _delivery_view.where(delivery.c.public_id == wanted, *delivery_conditions(seen))
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("no such delivery")
    return row


def delivery_conditions(wanted: DeliveryFilter) -> list[sa.ColumnElement[bool]]:
    """For queries that have ``delivery``, ``message`` and ``ticket`` joined."""
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.departments is not None:
        conditions.append(ticket.c.department_id.in_(wanted.departments))
    if wanted.statuses:
        conditions.append(delivery.c.status.in_(wanted.statuses))
    if wanted.from_at is not None:
        conditions.append(delivery.c.created_at >= wanted.from_at)
    if wanted.to_at is not None:
        conditions.append(delivery.c.created_at < wanted.to_at)
    given = (
        (message.c.channel_id, wanted.channel_id),
        (message.c.agent_id, wanted.agent_id),
        (message.c.ticket_id, wanted.ticket_id),
        (delivery.c.domain, wanted.domain),
        (delivery.c.reason, wanted.reason),
    )
    conditions += [column == value for column, value in given if value is not None]
    return conditions


def attempts(conn: Connection, message_id: int, delivery_id: int) -> list[sa.RowMapping]:
    """The tries of an answer's handover that concerned one recipient, oldest first.

    A try that never reached the line of doubt names no recipients: it was for all that were open.
    """
    query = (
        sa.select(attempt)
        .join(outbox, outbox.c.id == attempt.c.outbox_id)
        .where(outbox.c.message_id == message_id)
        .order_by(attempt.c.number)
    )
    rows = conn.execute(query).mappings()
    return [row for row in rows if not row["recipients"] or delivery_id in row["recipients"]]


_ledger_view = (
    sa.select(
        ledger,
        channel.c.public_id.label("channel_public_id"),
        channel.c.name.label("channel_name"),
        ticket.c.code.label("ticket_code"),
        ticket.c.department_id.label("ticket_department_id"),
        message.c.public_id.label("message_public_id"),
    )
    .join(channel, channel.c.id == ledger.c.channel_id)
    .outerjoin(ticket, ticket.c.id == ledger.c.ticket_id)
    .outerjoin(message, message.c.id == ledger.c.message_id)
)


def ledger_rows(
    conn: Connection, wanted: LedgerFilter, *, limit: int, before: Position | None = None
) -> list[sa.RowMapping]:
    """Return ledger rows with what became of them."""
    query = _ledger_view
    if wanted.states:
        query = query.where(ledger.c.state.in_(wanted.states))
    if wanted.outcomes:
        query = query.where(ledger.c.outcome.in_(wanted.outcomes))
    if wanted.channel_id is not None:
        query = query.where(ledger.c.channel_id == wanted.channel_id)
    if before is not None:
        query = query.where(_is_before(ledger.c.received_at, ledger.c.id, before))
    query = query.order_by(ledger.c.received_at.desc(), ledger.c.id.desc()).limit(limit)
    return list(conn.execute(query).mappings())


def ledger_by_public_id(conn: Connection, wanted: str) -> sa.RowMapping:
    """Raises NotFound."""
    row = conn.execute(_ledger_view.where(ledger.c.public_id == wanted)).mappings().first()
    if row is None:
        raise NotFound("no such ledger row")
    return row


def quarantined(conn: Connection, channel_id: int) -> list[sa.RowMapping]:
    """Id and public id of everything that a channel has in quarantine, oldest first."""
    query = sa.select(ledger.c.id, ledger.c.public_id).where(
        ledger.c.channel_id == channel_id, ledger.c.state == "quarantined"
    )
    return list(conn.execute(query.order_by(ledger.c.id)).mappings())


_channel_view = sa.select(
    *(column for column in channel.c if column.name != "sealed"),
    department.c.public_id.label("department_public_id"),
    department.c.name.label("department_name"),
).join(department, department.c.id == channel.c.department_id)


def channels(
    conn: Connection, departments: Collection[int] | None, *, limit: int, after_id: int = 0
) -> list[sa.RowMapping]:
    """Return channels without their secrets, in the order in which they were made."""
    query = _channel_view.where(channel.c.id > after_id)
    if departments is not None:
        query = query.where(channel.c.department_id.in_(departments))
    return list(conn.execute(query.order_by(channel.c.id).limit(limit)).mappings())


def channel_by_public_id(conn: Connection, wanted: str, departments: Collection[int] | None) -> sa.RowMapping:
    """Return a channel without its secrets. Raises NotFound."""
    query = _channel_view.where(channel.c.public_id == wanted)
    if departments is not None:
        query = query.where(channel.c.department_id.in_(departments))
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("no such channel")
    return row


def _is_before(at: sa.Column[Any], number: sa.Column[Any], position: Position) -> sa.ColumnElement[bool]:
    bound = sa.tuple_(sa.literal(position[0], at.type), sa.literal(position[1], number.type))
    return sa.tuple_(at, number) < bound
