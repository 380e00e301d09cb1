"""Tickets: the thread and work item. Every change carries its event in the same transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core import events
from core.errors import Conflict, Invalid, NotFound
from core.ids import ticket_code
from core.store.hot import Hot
from core.store.schema import agent, contact, department, message, ticket
from core.store.types import moment

STATUSES = ("new", "open", "answered", "postponed", "resolved", "closed", "spam", "deleted")
#: What an agent may set by hand; the others follow from what happens.
SETTABLE = ("open", "postponed", "resolved", "closed", "spam", "deleted")
ENDED = frozenset({"resolved", "closed"})


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What an inbound message has to know of a ticket."""

    id: int
    department_id: int
    status: str
    closed_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """What a list shows. ``departments`` None means all: only ``core.access`` may say so."""

    departments: Collection[int] | None
    statuses: Sequence[str] = ()
    agent_id: int | None = None
    is_unassigned: bool = False
    delivery_status: str | None = None
    words: str = ""


def create(
    conn: Connection,
    *,
    subject: str,
    department_id: int,
    contact_id: int,
    channel_id: int,
    language: str | None,
    now: datetime,
    linked_ticket_id: int | None = None,
    link_kind: str | None = None,
) -> int:
    """Open a ticket; return its id."""
    values = {
        "code": ticket_code(),
        "subject": subject,
        "status": "new",
        "department_id": department_id,
        "contact_id": contact_id,
        "channel_id": channel_id,
        "language": language,
        "linked_ticket_id": linked_ticket_id,
        "link_kind": link_kind,
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "last_in_at": now,
    }
    row = _insert.first(conn, values)
    assert row is not None  # INSERT … RETURNING gives a row or raises
    ticket_id = int(row[0])
    events.append(
        conn, events.TICKET_CREATED, now=now, ticket_id=ticket_id, department_id=department_id, channel_id=channel_id
    )
    return ticket_id


_insert = Hot(
    sa.insert(ticket).returning(ticket.c.id),
    columns=(
        "code", "subject", "status", "department_id", "contact_id", "channel_id", "language", "linked_ticket_id",
        "link_kind", "version", "created_at", "updated_at", "last_in_at",
    ),
)  # fmt: skip
_by_id = sa.select(ticket).where(ticket.c.id == sa.bindparam("ticket_id"))


def get(conn: Connection, ticket_id: int) -> sa.RowMapping:
    """Raises NotFound."""
    row = conn.execute(_by_id, {"ticket_id": ticket_id}).mappings().first()
    if row is None:
        raise NotFound("no such ticket")
    return row


_channel_of = Hot(sa.select(ticket.c.channel_id).where(ticket.c.id == sa.bindparam("ticket_id")))


def channel_of(conn: Connection, ticket_id: int) -> int | None:
    """The channel of a ticket; None when there is no such ticket."""
    row = _channel_of.first(conn, {"ticket_id": ticket_id})
    return int(row[0]) if row else None


_state_of = Hot(
    sa.select(ticket.c.id, ticket.c.department_id, ticket.c.status, ticket.c.closed_at).where(
        ticket.c.id == sa.bindparam("ticket_id")
    )
)


def state_of(conn: Connection, ticket_id: int) -> State | None:
    row = _state_of.first(conn, {"ticket_id": ticket_id})
    return State(id=row[0], department_id=row[1], status=row[2], closed_at=moment(row[3])) if row else None


_view = (
    sa.select(
        ticket,
        department.c.name.label("department_name"),
        department.c.public_id.label("department_public_id"),
        contact.c.name.label("contact_name"),
        contact.c.public_id.label("contact_public_id"),
        agent.c.name.label("agent_name"),
        agent.c.public_id.label("agent_public_id"),
    )
    .join(department, department.c.id == ticket.c.department_id)
    .join(contact, contact.c.id == ticket.c.contact_id)
    .outerjoin(agent, agent.c.id == ticket.c.agent_id)
)


def by_code(conn: Connection, code: str, departments: Collection[int] | None) -> sa.RowMapping:
    """Return a ticket with its names, if it is in one of ``departments``. Raises NotFound, in both cases the same."""
    query = _view.where(ticket.c.code == code.strip().upper(), _scope(departments))
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("no such ticket")
    return row


def listing(
    conn: Connection, wanted: Filter, *, limit: int, before: tuple[datetime, int] | None = None
) -> list[sa.RowMapping]:
    """Return tickets, newest change first; ``before`` is (updated_at, id) of the last one seen."""
    query = _view.where(*_conditions(wanted))
    if before is not None:
        query = query.where(sa.tuple_(ticket.c.updated_at, ticket.c.id) < sa.tuple_(*_bound(before)))
    query = query.order_by(ticket.c.updated_at.desc(), ticket.c.id.desc()).limit(limit)
    return list(conn.execute(query).mappings())


def counts(conn: Connection, departments: Collection[int] | None) -> dict[str, int]:
    """Status -> number of tickets that the reader may see."""
    query = sa.select(ticket.c.status, sa.func.count()).where(_scope(departments)).group_by(ticket.c.status)
    return {row[0]: row[1] for row in conn.execute(query)}


def note_inbound(conn: Connection, state: State, *, now: datetime) -> None:
    """A customer wrote: the ticket waits for us again, whatever it was."""
    status = state.status if state.status in ("new", "spam") else "open"
    _touch.run(conn, {"row_id": state.id, "set_status": status, "set_now": now})
    if status != state.status:
        data = {"status": status, "was": state.status}
        _tell(conn, state.id, state.department_id, now=now, actor="system", data=data)


_touch = Hot(
    sa.update(ticket)
    .where(ticket.c.id == sa.bindparam("row_id"))
    .values(
        status=sa.bindparam("set_status"),
        updated_at=sa.bindparam("set_now"),
        last_in_at=sa.bindparam("set_now"),
        closed_at=None,
        version=ticket.c.version + 1,
    )
)


def note_answer(conn: Connection, row: sa.RowMapping, *, agent_id: int | None, now: datetime) -> None:
    """An agent answered: an unassigned ticket becomes theirs."""
    values = {
        "status": "answered",
        "updated_at": now,
        "last_out_at": now,
        "agent_id": row["agent_id"] or agent_id,
        "version": ticket.c.version + 1,
        "delivery_status": "scheduled",
    }
    conn.execute(sa.update(ticket).where(ticket.c.id == row["id"]).values(**values))


def change(
    conn: Connection, row: sa.RowMapping, values: dict[str, Any], *, version: int | None, actor: str, now: datetime
) -> None:
    """Change ``status``, ``agent_id``, ``department_id`` or ``subject``. Raises Conflict on an old ``version``."""
    status = values.get("status")
    if status is not None and status not in SETTABLE:
        raise Invalid(f"a ticket cannot be set to {status}", fields={"status": "not one of " + ", ".join(SETTABLE)})
    if status is not None:
        values = values | {"closed_at": now if status in ENDED else None}
    where = [ticket.c.id == row["id"]]
    if version is not None:
        where.append(ticket.c.version == version)
    done = conn.execute(sa.update(ticket).where(*where).values(**values, updated_at=now, version=ticket.c.version + 1))
    if done.rowcount != 1:
        raise Conflict("somebody changed the ticket meanwhile")
    shown = {
        name: value for name, value in values.items() if name in ("status", "agent_id", "department_id", "subject")
    }
    _tell(conn, row["id"], row["department_id"], now=now, actor=actor, data=shown)


def is_reopenable(state: State, *, reopen_days: int, now: datetime) -> bool:
    """Whether a reply still belongs into this ticket, or opens a new one linked to it (R3.3)."""
    if state.status == "deleted":
        return False
    return state.closed_at is None or now - state.closed_at <= timedelta(days=reopen_days)


def find_by_thread_index(conn: Connection, channel_id: int, thread_index: str) -> int | None:
    row = _by_thread_index.first(conn, {"channel_id": channel_id, "thread_index": thread_index})
    return int(row[0]) if row else None


_by_thread_index = Hot(
    sa.select(message.c.ticket_id)
    .where(message.c.channel_id == sa.bindparam("channel_id"), message.c.thread_index == sa.bindparam("thread_index"))
    .order_by(message.c.id.desc())
    .limit(1)
)


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    conditions = [_scope(wanted.departments)]
    if wanted.statuses:
        conditions.append(ticket.c.status.in_(wanted.statuses))
    else:
        conditions.append(ticket.c.status.not_in(("deleted", "spam")))
    if wanted.agent_id is not None:
        conditions.append(ticket.c.agent_id == wanted.agent_id)
    if wanted.is_unassigned:
        conditions.append(ticket.c.agent_id.is_(None))
    if wanted.delivery_status:
        conditions.append(ticket.c.delivery_status == wanted.delivery_status)
    if wanted.words:
        pattern = "%" + like_escape(wanted.words) + "%"
        conditions.append(
            sa.or_(
                ticket.c.subject.ilike(pattern, escape="\\"),
                ticket.c.code.ilike(pattern, escape="\\"),
                contact.c.name.ilike(pattern, escape="\\"),
            )
        )
    return conditions


def like_escape(text: str) -> str:
    """The one escape for LIKE patterns (T-N02)."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("\0", "")


def _scope(departments: Collection[int] | None) -> sa.ColumnElement[bool]:
    return sa.true() if departments is None else ticket.c.department_id.in_(departments)


def _bound(before: tuple[datetime, int]) -> tuple[Any, Any]:
    return sa.literal(before[0], ticket.c.updated_at.type), sa.literal(before[1], ticket.c.id.type)


def _tell(
    conn: Connection, ticket_id: int, department_id: int, *, now: datetime, actor: str, data: dict[str, Any]
) -> None:
    events.append(
        conn,
        events.TICKET_CHANGED,
        now=now,
        ticket_id=ticket_id,
        department_id=data.get("department_id", department_id),
        actor=actor,
        data=data,
    )
