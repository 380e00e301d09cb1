"""Deliveries in the store: evidence is appended and chained, and the projection is rewritten in the same commit.

``record`` is the only function that moves a status, and it moves it to what ``core.delivery.status_of`` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
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
from core.store.hot import Hot
from core.store.schema import delivery, evidence, message, outbox, ticket

#: No further try is made for a recipient in one of these, nor where the other side has it or may have it.
CLOSED = frozenset({Status.SENT, Status.DELIVERED, Status.READ, Status.NOT_DELIVERED, Status.CANCELLED})
MAY_BE_THERE = frozenset({Detail.IN_DOUBT, Detail.DELAY_REPORTED})
_FIELDS = tuple(field.name for field in fields(Evidence))


@dataclass(frozen=True, kw_only=True, slots=True)
class Dossier:
    """All that is known of one delivery, as it was read: appending to it is compare-and-swap on ``count``."""

    id: int
    message_id: int
    ticket_id: int
    department_id: int
    agent_id: int | None
    address: str
    address_key: str
    identity_id: int | None
    verdict: Verdict
    since_at: datetime
    count: int
    head: bytes
    items: tuple[Evidence, ...]
    is_news: bool = True  #: False when the last fact was known already

    @property
    def is_open(self) -> bool:
        return is_open(self.verdict)


_columns = (
    delivery.c.id,
    delivery.c.message_id,
    delivery.c.address,
    delivery.c.address_key,
    delivery.c.identity_id,
    delivery.c.status_since_at,
    delivery.c.evidence_count,
    delivery.c.evidence_head,
    message.c.ticket_id,
    message.c.agent_id,
    ticket.c.department_id,
)
_dossiers = (
    sa.select(*_columns)
    .join(message, message.c.id == delivery.c.message_id)
    .join(ticket, ticket.c.id == message.c.ticket_id)
    .order_by(delivery.c.id)
)
_of_messages = _dossiers.where(delivery.c.message_id.in_(sa.bindparam("message_ids", expanding=True)))
_one = _dossiers.where(delivery.c.id == sa.bindparam("delivery_id"))
_evidence = (
    sa.select(evidence.c.delivery_id, *(evidence.c[name] for name in _FIELDS))
    .where(evidence.c.delivery_id.in_(sa.bindparam("delivery_ids", expanding=True)))
    .order_by(evidence.c.number)
)
_insert = Hot(sa.insert(evidence), columns=[column.name for column in evidence.c if column.name != "id"])
_project = Hot(
    sa.update(delivery)
    .where(delivery.c.id == sa.bindparam("row_id"), delivery.c.evidence_count == sa.bindparam("its_count"))
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
_show_on_ticket = Hot(
    sa.update(ticket)
    .where(
        ticket.c.id == sa.bindparam("its_ticket"),
        sa.not_(
            sa.exists().where(
                message.c.ticket_id == sa.bindparam("its_ticket"),
                message.c.direction == "out",
                message.c.id > sa.bindparam("its_message"),
            )
        ),
    )
    .values(delivery_status=sa.bindparam("set_delivery"))
)
_reopen = (
    sa.update(ticket)
    .where(ticket.c.id == sa.bindparam("its_ticket"), ticket.c.status.in_(("answered", "resolved", "closed")))
    .values(status="open", closed_at=None, updated_at=sa.bindparam("set_now"), version=ticket.c.version + 1)
)
_of_ticket = sa.select(ticket.c.id).where(ticket.c.id == sa.bindparam("its_ticket")).with_for_update(key_share=True)
_siblings = sa.select(delivery.c.id, delivery.c.status).where(delivery.c.message_id == sa.bindparam("message_id"))


def anchor(delivery_public_id: str) -> bytes:
    """What the first link of a delivery's chain hangs on."""
    return delivery_public_id.encode("ascii")


def dossiers(conn: Connection, message_ids: Sequence[int]) -> dict[int, list[Dossier]]:
    """Message id -> all its deliveries with their evidence."""
    found: dict[int, list[Dossier]] = {}
    for item in _read(conn, _of_messages, {"message_ids": list(message_ids)}):
        found.setdefault(item.message_id, []).append(item)
    return found


def record(
    conn: Connection,
    keys: Keys,
    delivery_id: int,
    item: Evidence,
    *,
    now: datetime,
    ledger_id: int | None = None,
    actor: str = "system",
) -> Dossier:
    """Append one fact about one delivery and recompute its status. A repeat of a known fact changes nothing."""
    return append(conn, keys, _lock(conn, delivery_id), item, now=now, ledger_id=ledger_id, actor=actor)


def append(
    conn: Connection,
    keys: Keys,
    known: Dossier,
    item: Evidence,
    *,
    now: datetime,
    ledger_id: int | None = None,
    actor: str = "system",
    is_only: bool = False,
) -> Dossier:
    """As ``record``, for a delivery that was read before; reads it again where it has changed since.

    ``is_only``: it is the message's only delivery, so that there are no others to roll up.
    """
    item = item if item.at else replace(item, at=now)
    mark = fingerprint(item)
    if any(fingerprint(other) == mark for other in known.items):
        return replace(known, is_news=False)
    items = (*known.items, item)
    verdict = status_of(items)
    decisive = verdict.decisive
    is_moved = (verdict.status, verdict.detail) != (known.verdict.status, known.verdict.detail)
    new = replace(
        known,
        verdict=verdict,
        since_at=now if is_moved else known.since_at,
        count=known.count + 1,
        head=chain(known.head, keys.evidence, canonical(item)),
        items=items,
        is_news=True,
    )
    changed = _project.run(
        conn,
        {
            "row_id": known.id,
            "its_count": known.count,
            "set_status": verdict.status.value,
            "set_detail": verdict.detail.value,
            "set_reason": decisive.reason if decisive else "",
            "set_is_open": is_open(verdict),
            "set_since": new.since_at,
            "set_count": new.count,
            "set_head": new.head,
        },
    )
    if changed != 1:
        return append(conn, keys, _lock(conn, known.id), item, now=now, ledger_id=ledger_id, actor=actor)
    values = {name: getattr(item, name) for name in _FIELDS}
    values |= {"fact": item.fact.value, "delivery_id": known.id, "number": new.count}
    values |= {"fingerprint": mark, "ledger_id": ledger_id, "actor": actor, "hash": new.head}
    _insert.run(conn, values)
    if is_moved:
        _after_move(conn, known, new, now=now, is_only=is_only)
    return new


def _lock(conn: Connection, delivery_id: int) -> Dossier:
    query = _one.with_for_update(of=delivery) if conn.dialect.name == "postgresql" else _one
    found = _read(conn, query, {"delivery_id": delivery_id})
    if not found:
        raise NotFound("no such delivery")
    return found[0]


def _read(conn: Connection, query: sa.Select[Any], parameters: dict[str, Any]) -> list[Dossier]:
    rows = conn.execute(query, parameters).mappings().all()
    items: dict[int, list[Evidence]] = {}
    for row in conn.execute(_evidence, {"delivery_ids": [row["id"] for row in rows]}).mappings():
        items.setdefault(row["delivery_id"], []).append(to_evidence(row))
    return [
        Dossier(
            id=row["id"],
            message_id=row["message_id"],
            ticket_id=row["ticket_id"],
            department_id=row["department_id"],
            agent_id=row["agent_id"],
            address=row["address"],
            address_key=row["address_key"],
            identity_id=row["identity_id"],
            verdict=status_of(items.get(row["id"], ())),
            since_at=row["status_since_at"],
            count=row["evidence_count"],
            head=bytes(row["evidence_head"]),
            items=tuple(items.get(row["id"], ())),
        )
        for row in rows
    ]


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
    return next_hold(_lock(conn, delivery_id).items)


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
    return standing_of((row.is_open, row.detail) for row in conn.execute(_standing, {"message_id": message_id}))


def standing_of(states: Iterable[tuple[bool, str]]) -> str:
    """As ``standing``, for (is open, detail) of each recipient."""
    states = list(states)
    if any(is_waiting for is_waiting, _detail in states):
        return "waiting"
    return "doubt" if any(detail == Detail.IN_DOUBT for _is_waiting, detail in states) else "done"


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


def _after_move(conn: Connection, known: Dossier, new: Dossier, *, now: datetime, is_only: bool) -> None:
    """Tell of the move, bring the ticket's own column along, and reopen where an answer came to nothing (R5.8)."""
    status = new.verdict.status
    if not is_only:
        if conn.dialect.name == "postgresql":  # what became of the others meanwhile is seen only behind this lock
            conn.execute(_of_ticket, {"its_ticket": known.ticket_id})
        rows = conn.execute(_siblings, {"message_id": known.message_id})
        status = roll_up([Status(row.status) for row in rows]).status
    shown = {"its_ticket": known.ticket_id, "its_message": known.message_id, "set_delivery": status.value}
    _show_on_ticket.run(conn, shown)
    tell = partial(
        events.append,
        conn,
        now=now,
        department_id=known.department_id,
        ticket_id=known.ticket_id,
        message_id=known.message_id,
        delivery_id=known.id,
    )
    if new.items[-1].fact is Fact.FINAL_DOT_PENDING:
        return  # true for as long as the peer takes to answer; who looks now sees it, nobody needs to be told
    tell(events.DELIVERY_CHANGED, data={"status": new.verdict.status.value, "detail": new.verdict.detail.value})
    if new.verdict.status is Status.NOT_DELIVERED and known.verdict.status is not Status.NOT_DELIVERED:
        conn.execute(_reopen, {"its_ticket": known.ticket_id, "set_now": now})
        tell(events.ANSWER_NOT_DELIVERED, data={"agent_id": known.agent_id})
