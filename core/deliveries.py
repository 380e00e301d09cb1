"""Deliveries in the store: evidence is appended and chained, and the projection is rewritten in the same commit.

``record`` is the only function that moves a status, and it moves it to what ``core.delivery.status_of`` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core import events
from core.delivery import (
    Detail,
    Evidence,
    Fact,
    Status,
    Verdict,
    canonical,
    chain,
    fingerprint,
    next_hold,
    roll_up,
    status_of,
)
from core.errors import NotFound
from core.keys import Keys
from core.store.schema import delivery, evidence, message, outbox, ticket

#: No further try is made for a recipient in one of these, nor where the other side has it or may have it.
CLOSED = frozenset({Status.SENT, Status.DELIVERED, Status.READ, Status.NOT_DELIVERED, Status.CANCELLED})
MAY_BE_THERE = frozenset({Detail.IN_DOUBT, Detail.DELAY_REPORTED})
_FIELDS = tuple(field.name for field in fields(Evidence))


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What ``record`` did to one delivery."""

    delivery_id: int
    before: Status
    verdict: Verdict
    is_new: bool  #: False when the same fact was known already


_lock = sa.select(delivery).where(delivery.c.id == sa.bindparam("delivery_id"))
_all = sa.select(*(evidence.c[name] for name in _FIELDS), evidence.c.fingerprint).where(
    evidence.c.delivery_id == sa.bindparam("delivery_id")
)
_insert = sa.insert(evidence)
_project = (
    sa.update(delivery)
    .where(delivery.c.id == sa.bindparam("row_id"))
    .values(
        status=sa.bindparam("set_status"),
        detail=sa.bindparam("set_detail"),
        reason=sa.bindparam("set_reason"),
        is_open=sa.bindparam("set_is_open"),
        status_since_at=sa.bindparam("set_since"),
        evidence_count=sa.bindparam("set_count"),
        evidence_head=sa.bindparam("set_head"),
    )
)


def anchor(delivery_public_id: str) -> bytes:
    """What the first link of a delivery's chain hangs on."""
    return delivery_public_id.encode("ascii")


def record(
    conn: Connection,
    keys: Keys,
    delivery_id: int,
    item: Evidence,
    *,
    now: datetime,
    ledger_id: int | None = None,
    actor: str = "system",
) -> Change:
    """Append one fact about one delivery and recompute its status. A repeat of a known fact changes nothing."""
    query = _lock.with_for_update() if conn.dialect.name == "postgresql" else _lock
    row = conn.execute(query, {"delivery_id": delivery_id}).mappings().first()
    if row is None:
        raise NotFound("no such delivery")
    item = item if item.at else replace(item, at=now)
    mark = fingerprint(item)
    before = Status(row["status"])
    known = conn.execute(_all, {"delivery_id": delivery_id}).mappings().all()
    if any(other["fingerprint"] == mark for other in known):
        return Change(delivery_id=delivery_id, before=before, verdict=status_of(map(to_evidence, known)), is_new=False)
    head = chain(bytes(row["evidence_head"]), keys.evidence, canonical(item))
    values = {name: getattr(item, name) for name in _FIELDS}
    values |= {"fact": item.fact.value, "delivery_id": delivery_id, "number": row["evidence_count"] + 1}
    values |= {"fingerprint": mark, "ledger_id": ledger_id, "actor": actor, "hash": head}
    conn.execute(_insert, values)
    verdict = status_of([*map(to_evidence, known), item])
    decisive = verdict.decisive
    is_moved = (verdict.status, verdict.detail) != (before, row["detail"])
    conn.execute(
        _project,
        {
            "row_id": delivery_id,
            "set_status": verdict.status.value,
            "set_detail": verdict.detail.value,
            "set_reason": decisive.reason if decisive else "",
            "set_is_open": is_open(verdict),
            "set_since": now if is_moved else row["status_since_at"],
            "set_count": row["evidence_count"] + 1,
            "set_head": head,
        },
    )
    if is_moved:
        _after_move(conn, row, before, verdict, now=now)
    return Change(delivery_id=delivery_id, before=before, verdict=verdict, is_new=True)


def is_open(verdict: Verdict) -> bool:
    """Whether the recipient is still to be tried."""
    return verdict.status not in CLOSED and verdict.detail not in MAY_BE_THERE


def to_evidence(row: Any) -> Evidence:
    """Return the value of one stored row."""
    return Evidence(**{name: row[name] for name in _FIELDS if name != "fact"}, fact=Fact(row["fact"]))


def evidence_of(conn: Connection, delivery_id: int) -> list[sa.RowMapping]:
    """Every stored fact about a delivery, oldest first, with ``hash``, ``actor`` and ``ledger_id``."""
    query = sa.select(evidence).where(evidence.c.delivery_id == delivery_id).order_by(evidence.c.number)
    return list(conn.execute(query).mappings())


def next_hold_number(conn: Connection, delivery_id: int) -> int:
    """The number that the next ``HELD`` of this delivery carries."""
    return next_hold(map(to_evidence, conn.execute(_all, {"delivery_id": delivery_id}).mappings()))


def of_message(conn: Connection, message_id: int) -> list[sa.RowMapping]:
    query = sa.select(delivery).where(delivery.c.message_id == message_id).order_by(delivery.c.id)
    return list(conn.execute(query).mappings())


def of_messages(conn: Connection, message_ids: Sequence[int]) -> dict[int, list[sa.RowMapping]]:
    """Message id -> its deliveries, for a whole thread at once."""
    found: dict[int, list[sa.RowMapping]] = {}
    query = sa.select(delivery).where(delivery.c.message_id.in_(message_ids)).order_by(delivery.c.id)
    for row in conn.execute(query).mappings():
        found.setdefault(row["message_id"], []).append(row)
    return found


def standing(conn: Connection, message_id: int) -> str:
    """What the recipients of a message still need: ``waiting`` for a try, ``doubt`` to be settled, or ``done``."""
    rows = conn.execute(_standing, {"message_id": message_id}).all()
    if any(row.is_open for row in rows):
        return "waiting"
    return "doubt" if any(row.detail == Detail.IN_DOUBT for row in rows) else "done"


_standing = sa.select(delivery.c.is_open, delivery.c.detail).where(delivery.c.message_id == sa.bindparam("message_id"))


def settle_outbox(conn: Connection, message_id: int) -> None:
    """End the outbox row of a message when late evidence left nothing to do for it."""
    if standing(conn, message_id) == "done":
        conn.execute(
            sa.update(outbox)
            .where(outbox.c.message_id == message_id, outbox.c.state.in_(("waiting", "doubt", "held")))
            .values(state="done", doubt_since_at=None)
        )


def matching(rows: Iterable[sa.RowMapping], address_key: str | None) -> list[sa.RowMapping]:
    """The deliveries that a report about ``address_key`` speaks of; without an address only a single one is sure."""
    rows = list(rows)
    if address_key:
        named = [row for row in rows if row["address_key"] == address_key]
        if named:
            return named
    return rows if len(rows) == 1 else []


def _after_move(conn: Connection, row: sa.RowMapping, before: Status, verdict: Verdict, *, now: datetime) -> None:
    """Tell of the move, bring the ticket's own column along, and reopen where an answer came to nothing (R5.8)."""
    parent = conn.execute(
        sa.select(message.c.ticket_id, message.c.agent_id, ticket.c.department_id, ticket.c.status)
        .join(ticket, ticket.c.id == message.c.ticket_id)
        .where(message.c.id == row["message_id"])
    ).one()
    siblings = conn.execute(sa.select(delivery.c.status).where(delivery.c.message_id == row["message_id"])).scalars()
    summary = roll_up([Status(status) for status in siblings])
    newest = conn.execute(
        sa.select(sa.func.max(message.c.id)).where(
            message.c.ticket_id == parent.ticket_id, message.c.direction == "out"
        )
    ).scalar_one()
    values: dict[str, Any] = {}
    if newest == row["message_id"]:
        values["delivery_status"] = summary.status.value
    is_lost = verdict.status is Status.NOT_DELIVERED and before is not Status.NOT_DELIVERED
    if is_lost and parent.status in ("answered", "resolved", "closed"):
        values |= {"status": "open", "updated_at": now, "closed_at": None, "version": ticket.c.version + 1}
    if values:
        conn.execute(sa.update(ticket).where(ticket.c.id == parent.ticket_id).values(**values))
    place = {
        "department_id": parent.department_id,
        "ticket_id": parent.ticket_id,
        "message_id": row["message_id"],
        "delivery_id": row["id"],
    }
    data = {"status": verdict.status.value, "detail": verdict.detail.value}
    events.append(conn, events.DELIVERY_CHANGED, now=now, data=data, **place)
    if is_lost:
        events.append(conn, events.ANSWER_NOT_DELIVERED, now=now, data={"agent_id": parent.agent_id}, **place)
