"""What happened, for open pages: cut to the rights of the moment, by where each ticket is now (T-M05, T-M06).

PostgreSQL gives ids before commits, so an id may turn up below one that is already seen. Nothing behind such a hole is
told before the hole is filled, or is too old to be a transaction at work: a position is then enough to tell everything
once and in order. Ids are told in another order for each agent, so that nobody counts what others do (T-M12).
"""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from core import events
from core.access import Action, Actor, may, visible_departments
from core.clock import Clock
from core.keys import Keys
from core.store.database import now_of
from core.store.schema import channel, delivery, department, event, message, ticket
from gateway.web.sse import ServerEvent

LOOK_BACK = 500  #: ids: a hole deeper than this was left by a transaction that came to nothing
AT_WORK = timedelta(seconds=5)  #: no writing transaction lasts longer
BATCH = 200
TOPICS = ("events",)
HALF_BITS = 28
ROUNDS = 6
MASK = (1 << HALF_BITS) - 1

#: What of an event's own data is told.
TOLD = frozenset({"status", "was", "detail", "subject", "way", "state", "code", "ticket", "removed"})

_query = (
    sa.select(
        event.c.id,
        event.c.at,
        event.c.kind,
        event.c.data,
        ticket.c.code.label("ticket"),
        message.c.public_id.label("message"),
        delivery.c.public_id.label("delivery"),
        channel.c.public_id.label("channel"),
        department.c.public_id.label("department"),
    )
    .outerjoin(ticket, ticket.c.id == event.c.ticket_id)
    .outerjoin(message, message.c.id == event.c.message_id)
    .outerjoin(delivery, delivery.c.id == event.c.delivery_id)
    .outerjoin(channel, channel.c.id == event.c.channel_id)
    .outerjoin(department, department.c.id == sa.func.coalesce(ticket.c.department_id, event.c.department_id))
)


class Feed:
    """Reads events for the streams of one house; ``read`` and ``newest`` are what ``sse.stream`` wants."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._key = keys.tokens
        self._clock = clock

    def read(self, conn: Connection, actor: Actor, position: int) -> Sequence[ServerEvent]:
        """Return what the actor may know of what happened after ``position``, oldest first, one batch of it."""
        if not may(actor, Action.TICKET_READ):
            return []
        key = self._key_of(actor)
        end = settled(conn, self._clock)
        start = min(reveal(key, position), end)
        rows = conn.execute(
            _query.where(event.c.id > start, event.c.id <= end, *_visible(actor)).order_by(event.c.id).limit(BATCH)
        ).mappings()
        return [ServerEvent(id=hide(key, row["id"]), kind=row["kind"], data=_told(row, actor)) for row in rows]

    def newest(self, conn: Connection, actor: Actor) -> int:
        """Return the position behind everything that has happened."""
        return hide(self._key_of(actor), settled(conn, self._clock))

    def _key_of(self, actor: Actor) -> bytes:
        return hmac.digest(self._key, b"event-position|%d" % (actor.agent_id or 0), "sha256")


def settled(conn: Connection, clock: Clock) -> int:
    """Return an id up to which no event can turn up any more."""
    if conn.dialect.name != "postgresql":
        return events.last_id(conn)  # one writer: ids become visible in their order
    newest = sa.select(event.c.id, event.c.at).order_by(event.c.id.desc()).limit(LOOK_BACK)
    rows = list(reversed(conn.execute(newest).all()))
    if not rows:
        return 0
    oldest_at_work = now_of(conn, clock) - AT_WORK
    for before, row in itertools.pairwise(rows):
        if row.id != before.id + 1 and row.at > oldest_at_work:
            return int(before.id)
    return int(rows[-1].id)


def hide(key: bytes, number: int) -> int:
    """Return another number below 2**56, the same each time; ``reveal`` undoes it (a Feistel network over HMAC)."""
    left, right = number >> HALF_BITS, number & MASK
    for turn in range(ROUNDS):
        left, right = right, left ^ _mix(key, turn, right)
    return left << HALF_BITS | right


def reveal(key: bytes, hidden: int) -> int:
    """Return what ``hide`` was given; any number at all for one that it did not make."""
    left, right = hidden >> HALF_BITS & MASK, hidden & MASK
    for turn in reversed(range(ROUNDS)):
        left, right = right ^ _mix(key, turn, left), left
    return left << HALF_BITS | right


def _mix(key: bytes, turn: int, half: int) -> int:
    return int.from_bytes(hmac.digest(key, b"%d|%d" % (turn, half), "sha256")[:4], "big") & MASK


def _visible(actor: Actor) -> list[sa.ColumnElement[bool]]:
    """Where the ticket is now decides, not where it was; what belongs to no ticket is its department's or admins'."""
    has_ticket = event.c.ticket_id.is_not(None)
    conditions = [sa.or_(sa.not_(has_ticket), ticket.c.id.is_not(None))]
    departments = visible_departments(actor)
    if departments is not None:
        place = sa.case((has_ticket, ticket.c.department_id), else_=event.c.department_id)
        conditions.append(place.in_(departments))
    if not may(actor, Action.CHANNEL_READ):
        conditions.append(sa.or_(has_ticket, event.c.department_id.is_not(None)))
    return conditions


def _told(row: sa.RowMapping, actor: Actor) -> str:
    told: dict[str, Any] = {name: value for name, value in row["data"].items() if name in TOLD}
    for name in ("ticket", "message", "delivery", "department"):
        if row[name] is not None:
            told[name] = row[name]
    if row["channel"] is not None and may(actor, Action.CHANNEL_READ):
        told["channel"] = row["channel"]
    told["at"] = row["at"]
    return orjson.dumps(told).decode()
