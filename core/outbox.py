"""The outbox: what is promised to leave, who is handing it over, and where each try stands (FAULTS section 4).

The row is the state machine; the delivery status is computed from evidence and lives in ``core.deliveries``.

    waiting --claim--> leased --outcome--> waiting | done | doubt
    leased --lease ran out--> waiting (before the line of doubt) | doubt (after it)
    waiting | doubt --a person--> cancelled | waiting | done;   waiting <--> held
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core import deliveries, ledger, review
from core.clock import Clock
from core.deliveries import Dossier
from core.delivery import Detail, Evidence, Fact
from core.errors import Conflict, NotFound, TooLate
from core.keys import Keys
from core.store.database import now_of
from core.store.hot import Hot
from core.store.schema import attempt, channel, delivery, message, outbox


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """One answer that is ours to hand over until the lease runs out."""

    outbox_id: int
    message_id: int
    channel_id: int
    department_id: int
    attempt_id: int
    attempt: int
    round: int
    fence: int
    nonce: int
    ticket_id: int
    bytes_digest: str
    small_raw: bytes | None  #: the mail itself, where it lives in a row
    first_due_at: datetime
    give_up_at: datetime
    deliveries: dict[int, Dossier]  #: every recipient by delivery id, as known to whoever holds the lease

    @property
    def open_addresses(self) -> dict[str, int]:
        """Address -> delivery id of those who are still to be tried."""
        return {item.address: item.id for item in self.deliveries.values() if item.is_open}

    def knowing(self, changed: Iterable[Dossier]) -> Claimed:
        return replace(self, deliveries=self.deliveries | {item.id: item for item in changed})


def add(
    conn: Connection,
    *,
    message_id: int,
    channel_id: int,
    department_id: int,
    nonce: int,
    bytes_digest: str,
    due_at: datetime,
    give_up_at: datetime,
    hold_if_they_write: bool,
) -> int:
    """Promise one answer (part of COMMIT A)."""
    values = {
        "message_id": message_id,
        "channel_id": channel_id,
        "department_id": department_id,
        "state": "waiting",
        "nonce": nonce,
        "bytes_digest": bytes_digest,
        "first_due_at": due_at,
        "due_at": due_at,
        "give_up_at": give_up_at,
        "hold_if_they_write": hold_if_they_write,
    }
    return int(conn.execute(sa.insert(outbox).returning(outbox.c.id), values).scalar_one())


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A row that is due, with what pacing needs to know of it."""

    id: int
    channel_id: int
    department_id: int
    ticket_id: int
    due_at: datetime
    domains: tuple[str, ...]
    recipients: tuple[str, ...]
    is_channel_failing: bool  #: then one row at a time is a probe


_due = (
    sa.select(
        outbox.c.id,
        outbox.c.message_id,
        outbox.c.channel_id,
        outbox.c.department_id,
        outbox.c.due_at,
        message.c.ticket_id,
        (channel.c.out_state == "failing").label("is_channel_failing"),
    )
    .join(channel, channel.c.id == outbox.c.channel_id)
    .join(message, message.c.id == outbox.c.message_id)
    .where(
        outbox.c.state == "waiting",
        outbox.c.due_at <= sa.bindparam("now"),
        channel.c.is_enabled,
        sa.or_(channel.c.out_resume_at.is_(None), channel.c.out_resume_at <= sa.bindparam("now")),
    )
    .order_by(outbox.c.due_at, outbox.c.id)
    .limit(sa.bindparam("limit"))
    .offset(sa.bindparam("skip"))
)
_targets = sa.select(delivery.c.message_id, delivery.c.domain, delivery.c.address_key).where(
    delivery.c.message_id.in_(sa.bindparam("message_ids", expanding=True)), delivery.c.is_open
)


def due(conn: Connection, *, limit: int, clock: Clock, skip: int = 0) -> list[Waiting]:
    """Return what may be handed over now, oldest due first; channels at rest after a fault of ours are left out."""
    rows = conn.execute(_due, {"now": now_of(conn, clock), "limit": limit, "skip": skip}).mappings().all()
    targets: dict[int, list[tuple[str, str]]] = {}
    for target in conn.execute(_targets, {"message_ids": [row["message_id"] for row in rows]}):
        targets.setdefault(target.message_id, []).append((target.domain, target.address_key))
    return [
        Waiting(
            id=row["id"],
            channel_id=row["channel_id"],
            department_id=row["department_id"],
            ticket_id=row["ticket_id"],
            due_at=row["due_at"],
            domains=tuple(dict.fromkeys(domain for domain, _key in targets.get(row["message_id"], ()))),
            recipients=tuple(key for _domain, key in targets.get(row["message_id"], ())),
            is_channel_failing=row["is_channel_failing"],
        )
        for row in rows
    ]


_free = (
    sa.select(outbox.c.id, outbox.c.attempts, outbox.c.round, message.c.date_at, message.c.created_at)
    .join(message, message.c.id == outbox.c.message_id)
    .where(outbox.c.state == "waiting")
)


def claim(conn: Connection, ids: Collection[int], *, owner: str, lease: timedelta, clock: Clock) -> list[Claimed]:
    """Take those of ``ids`` that still wait: lease, fence and attempt row in one commit (O1).

    What was planned and has to be looked at by somebody first stays (F-S16); ``sweep`` holds it.
    """
    now = now_of(conn, clock)
    free = _free.where(outbox.c.id.in_(ids), outbox.c.due_at <= now)
    if conn.dialect.name == "postgresql":
        free = free.with_for_update(skip_locked=True, of=outbox)
    found = conn.execute(free).mappings().all()
    objections = review.objections(conn, [row["id"] for row in found if review.is_planned(row)])
    ids = [row["id"] for row in found if row["id"] not in objections]
    if not ids:
        return []
    rows = (
        conn.execute(
            sa.update(outbox)
            .where(outbox.c.id.in_(ids))
            .values(
                state="leased",
                lease_owner=owner,
                lease_until=now + lease,
                fence=outbox.c.fence + 1,
                attempts=outbox.c.attempts + 1,
            )
            .returning(outbox)
        )
        .mappings()
        .all()
    )
    started = [
        {
            "outbox_id": row["id"],
            "number": row["attempts"],
            "round": row["round"],
            "fence": row["fence"],
            "state": "started",
            "node": owner,
            "started_at": now,
            "recipients": [],
        }
        for row in rows
    ]
    attempt_ids = {
        row.outbox_id: row.id
        for row in conn.execute(sa.insert(attempt).returning(attempt.c.id, attempt.c.outbox_id), started)
    }
    return _claimed(conn, rows, attempt_ids)


_pending = Hot(
    sa.update(attempt)
    .where(attempt.c.id == sa.bindparam("row_id"), attempt.c.state == "started")
    .values(state="final_dot_pending", final_dot_at=sa.bindparam("set_now"), recipients=sa.bindparam("set_recipients"))
)
_owned_row = sa.select(outbox.c.id).where(
    outbox.c.id == sa.bindparam("outbox_id"),
    outbox.c.state == "leased",
    outbox.c.fence == sa.bindparam("fence"),
    outbox.c.lease_until > sa.bindparam("now"),
)
_owned = {"sqlite": Hot(_owned_row), "postgresql": Hot(_owned_row.with_for_update())}


def cross_line_of_doubt(
    conn: Connection, keys: Keys, claimed: Claimed, delivery_ids: Sequence[int], *, clock: Clock
) -> Claimed:
    """COMMIT B: from here on the peer may have it (O4). Raises Conflict when the lease is not ours any more."""
    now = now_of(conn, clock)
    wanted = {"outbox_id": claimed.outbox_id, "fence": claimed.fence, "now": now}
    if _owned[conn.dialect.name].first(conn, wanted) is None:
        raise Conflict("the lease of this answer ran out")
    _pending.run(conn, {"row_id": claimed.attempt_id, "set_now": now, "set_recipients": list(delivery_ids)})
    item = Evidence(fact=Fact.FINAL_DOT_PENDING, round=claimed.round, attempt=claimed.attempt, at=now, source="system")
    is_only = len(claimed.deliveries) == 1
    return claimed.knowing(
        deliveries.append(conn, keys, claimed.deliveries[delivery_id], item, now=now, is_only=is_only)
        for delivery_id in delivery_ids
    )


_finish_attempt = Hot(
    sa.update(attempt)
    .where(attempt.c.id == sa.bindparam("row_id"))
    .values(state="finished", ended_at=sa.bindparam("set_now"))
)
_leave = Hot(
    sa.update(outbox)
    .where(
        outbox.c.id == sa.bindparam("row_id"),
        sa.or_(
            sa.and_(outbox.c.state == "leased", outbox.c.fence == sa.bindparam("its_fence")),
            # taken back from us while the store was away: what the peer said settles the doubt
            sa.and_(outbox.c.state == "doubt", outbox.c.fence - 1 == sa.bindparam("its_fence")),
        ),
    )
    .values(
        state=sa.bindparam("set_state"),
        due_at=sa.bindparam("set_due"),
        give_up_at=sa.bindparam("set_give_up"),
        doubt_since_at=sa.bindparam("set_doubt"),
        lease_owner=None,
        lease_until=None,
    )
)


def finish(
    conn: Connection,
    keys: Keys,
    claimed: Claimed,
    facts: dict[int, Evidence],
    *,
    retry_at: datetime | None,
    give_up_at: datetime | None = None,
    now: datetime,
) -> str:
    """COMMIT C: record what the try brought and move the row on; return its new state.

    Evidence is true whoever owns the row by now, so it is recorded in any case; the row itself moves only under the
    fence, or out of the doubt that taking it back has left. ``retry_at`` None with a recipient still open means that
    the window is over: that is recorded too. ``give_up_at`` moves the end of the window.
    """
    is_only = len(claimed.deliveries) == 1
    changed = []
    for delivery_id, item in facts.items():
        known = deliveries.append(conn, keys, claimed.deliveries[delivery_id], item, now=now, is_only=is_only)
        if retry_at is None and known.is_open:
            over = Evidence(fact=Fact.GAVE_UP, round=claimed.round, at=now, source="system")
            known = deliveries.append(conn, keys, known, over, now=now, is_only=is_only)
        changed.append(known)
    _finish_attempt.run(conn, {"row_id": claimed.attempt_id, "set_now": now})
    if is_only:
        after = claimed.knowing(changed).deliveries.values()
        state = deliveries.standing_of((item.is_open, item.verdict.detail) for item in after)
    else:  # reports about the other recipients may have come since they were read
        state = deliveries.standing(conn, claimed.message_id)
    left = _leave.run(
        conn,
        {
            "row_id": claimed.outbox_id,
            "its_fence": claimed.fence,
            "set_state": state,
            "set_due": retry_at or now,
            "set_give_up": give_up_at or claimed.give_up_at,
            "set_doubt": now if state == "doubt" else None,
        },
    )
    if not left:  # somebody took the row back meanwhile: what came late may settle the doubt that they saw
        deliveries.settle_outbox(conn, claimed.message_id)
    return state


def renew(conn: Connection, claimed: Sequence[Claimed], *, lease: timedelta, clock: Clock) -> set[int]:
    """Lengthen the leases of what is in hand; return the outbox ids that are still ours."""
    until = now_of(conn, clock) + lease
    kept = set()
    for item in claimed:
        done = conn.execute(
            sa.update(outbox)
            .where(outbox.c.id == item.outbox_id, outbox.c.state == "leased", outbox.c.fence == item.fence)
            .values(lease_until=until)
        )
        if done.rowcount:
            kept.add(item.outbox_id)
    return kept


def sweep(conn: Connection, keys: Keys, *, clock: Clock, is_sole_owner: bool = False) -> tuple[int, int]:
    """Take back rows whose lease ran out; return how many are due again and how many are in doubt.

    Planned answers that meanwhile need somebody's eye are held, before they are due (F-S16).
    ``is_sole_owner``: every lease is an orphan. True when the only process of an embedded store starts.
    """
    now = now_of(conn, clock)
    ran_out = sa.true() if is_sole_owner else outbox.c.lease_until <= now
    query = sa.select(outbox).where(outbox.c.state == "leased", ran_out)
    if conn.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    again = doubts = 0
    for row in conn.execute(query).mappings().all():
        if _take_back(conn, keys, row, now=now):
            doubts += 1
        else:
            again += 1
    _hold_for_review(conn, keys, now=now)
    return again, doubts


def _hold_for_review(conn: Connection, keys: Keys, *, now: datetime) -> None:
    query = review.planned
    if conn.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True, of=outbox)
    rows = conn.execute(query).mappings().all()
    waiting = {row["id"]: row["message_id"] for row in rows if review.is_planned(row)}
    for outbox_id, why in review.objections(conn, waiting).items():
        hold(conn, keys, waiting[outbox_id], why=why, actor="system", now=now)


def overdue(conn: Connection, keys: Keys, *, channel_id: int, after: timedelta, now: datetime) -> int:
    """Say of answers that wait longer than expected that they are delayed (R5.3)."""
    query = (
        sa.select(delivery.c.id, outbox.c.round)
        .join(outbox, outbox.c.message_id == delivery.c.message_id)
        .where(
            outbox.c.channel_id == channel_id,
            delivery.c.status == "scheduled",
            outbox.c.state == "waiting",
            outbox.c.first_due_at <= now - after,
        )
    )
    rows = conn.execute(query).all()
    for row in rows:
        item = Evidence(fact=Fact.OVERDUE, round=row.round, at=now, source="system")
        deliveries.record(conn, keys, row.id, item, now=now)
    return len(rows)


def resend_once(
    conn: Connection, *, channels: Collection[int], waited: timedelta, now: datetime
) -> dict[int, list[int]]:
    """Return the doubts of channels with the policy ``resend-once`` that no evidence settled in time (FAULTS 4.2).

    Message id -> the deliveries in doubt: whoever refused the first copy is not asked again.
    """
    query = (
        sa.select(delivery.c.id, delivery.c.message_id)
        .join(outbox, outbox.c.message_id == delivery.c.message_id)
        .where(
            outbox.c.state == "doubt",
            outbox.c.channel_id.in_(channels),
            outbox.c.round == 1,
            outbox.c.doubt_since_at <= now - waited,
            delivery.c.detail == Detail.IN_DOUBT.value,
        )
    )
    found: dict[int, list[int]] = {}
    for row in conn.execute(query):
        found.setdefault(row.message_id, []).append(row.id)
    return found


def cancel(conn: Connection, keys: Keys, message_id: int, *, actor: str, now: datetime) -> None:
    """Cancel before handover. Raises TooLate once a try is in hand or something may have left (F-S14)."""
    row = lock(conn, message_id)
    if row["state"] not in ("waiting", "held"):
        raise TooLate("the answer has left or is just leaving")
    for open_one in _open_deliveries(conn, message_id):
        item = Evidence(fact=Fact.CANCELLED, round=row["round"], at=now, source="agent")
        deliveries.record(conn, keys, open_one.id, item, now=now, actor=actor)
    is_in_doubt = deliveries.standing(conn, message_id) == "doubt"  # of another recipient: somebody may settle it
    values = {"state": "doubt", "doubt_since_at": now} if is_in_doubt else {"state": "cancelled"}
    conn.execute(sa.update(outbox).where(outbox.c.id == row["id"]).values(**values))


def hold(conn: Connection, keys: Keys, message_id: int, *, why: str, actor: str, now: datetime) -> None:
    """Keep a waiting answer back until somebody releases or cancels it."""
    row = lock(conn, message_id)
    if row["state"] != "waiting":
        raise TooLate("the answer has left or is just leaving")
    for open_one in _open_deliveries(conn, message_id):
        number = deliveries.next_hold_number(conn, open_one.id)
        item = Evidence(fact=Fact.HELD, round=row["round"], attempt=number, at=now, source="agent", reason=why)
        deliveries.record(conn, keys, open_one.id, item, now=now, actor=actor)
    conn.execute(sa.update(outbox).where(outbox.c.id == row["id"]).values(state="held", held_why=why))


def release(conn: Connection, keys: Keys, message_id: int, *, actor: str, now: datetime) -> None:
    """Let a held answer go; it does not hold by itself again."""
    row = lock(conn, message_id)
    if row["state"] != "held":
        raise Conflict("the answer is not held")
    for open_one in _open_deliveries(conn, message_id):
        number = deliveries.next_hold_number(conn, open_one.id) - 1
        item = Evidence(
            fact=Fact.RELEASED, round=row["round"], attempt=number, at=now, source="agent", reason=row["held_why"]
        )  # what was agreed to
        deliveries.record(conn, keys, open_one.id, item, now=now, actor=actor)
    due = max(row["due_at"], now)
    values: dict[str, Any] = {"state": "waiting", "held_why": "", "hold_if_they_write": False, "due_at": due}
    values["give_up_at"] = due + (row["give_up_at"] - row["first_due_at"])
    values["first_due_at"] = due
    conn.execute(sa.update(outbox).where(outbox.c.id == row["id"]).values(**values))


def send_again(
    conn: Connection, keys: Keys, message_id: int, *, actor: str, now: datetime, delivery_ids: Collection[int] = ()
) -> int:
    """Open a new round: the same bytes and Message-ID once more, because a person said so. Return its number.

    Without ``delivery_ids`` it goes to every recipient that does not have it for certain. Raises Conflict while a
    round is still under way, or when there is nobody to send to.
    """
    row = lock(conn, message_id)
    if row["state"] not in ("done", "doubt", "cancelled"):
        raise Conflict("the answer is still on its way")
    wanted = [
        item
        for item in deliveries.of_message(conn, message_id)
        if (item["id"] in delivery_ids if delivery_ids else item["status"] in ("not_delivered", "delayed", "cancelled"))
    ]
    if not wanted:
        raise Conflict("every recipient has it already")
    number = int(row["round"]) + 1
    for item in wanted:
        fact = Evidence(fact=Fact.SEND_AGAIN, round=number, at=now, source="agent")
        deliveries.record(conn, keys, item["id"], fact, now=now, actor=actor)
    values = {
        "state": "waiting",
        "round": number,
        "due_at": now,
        "first_due_at": now,
        "give_up_at": now + (row["give_up_at"] - row["first_due_at"]),
        "doubt_since_at": None,
    }
    conn.execute(sa.update(outbox).where(outbox.c.id == row["id"]).values(**values))
    return number


def mark_sent(conn: Connection, keys: Keys, message_id: int, *, actor: str, now: datetime) -> None:
    """A person settles a doubt as sent; the evidence names them. Raises Conflict where nothing is in doubt."""
    row = lock(conn, message_id)
    doubts = [item for item in deliveries.of_message(conn, message_id) if item["detail"] == Detail.IN_DOUBT.value]
    if not doubts or row["state"] == "leased":  # while the dot of a living try is out, its reply is still to come
        raise Conflict("nothing about this answer is in doubt")
    for item in doubts:
        fact = Evidence(fact=Fact.MARKED_SENT, round=row["round"], at=now, source="agent")
        deliveries.record(conn, keys, item["id"], fact, now=now, actor=actor)
    deliveries.settle_outbox(conn, message_id)


def lock(conn: Connection, message_id: int) -> sa.RowMapping:
    """Return the outbox row of a message, locked for this transaction. Raises NotFound."""
    query = sa.select(outbox).where(outbox.c.message_id == message_id)
    if conn.dialect.name == "postgresql":
        query = query.with_for_update()
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("not an answer")
    return row


def by_nonce(conn: Connection, nonce: int) -> sa.RowMapping | None:
    """The row that a return token speaks of."""
    return conn.execute(sa.select(outbox).where(outbox.c.nonce == nonce)).mappings().first()


_to_hold = Hot(
    sa.select(outbox.c.message_id)
    .join(message, message.c.id == outbox.c.message_id)
    .where(
        message.c.ticket_id == sa.bindparam("ticket_id"),
        outbox.c.state == "waiting",
        outbox.c.attempts == 0,
        outbox.c.hold_if_they_write,
    )
)


def held_by_reply(conn: Connection, ticket_id: int) -> list[int]:
    """Message ids of a ticket that wait and are to be held when the customer writes first (R5.9)."""
    return [row[0] for row in _to_hold.rows(conn, {"ticket_id": ticket_id})]


def next_due_at(conn: Connection, *, clock: Clock) -> datetime | None:
    """When the next row falls due, or the next channel may be tried again: how long a worker may sleep.

    What is due already and did not go waits for something else: a free hand, a limit, somebody who enables its channel.
    """
    now = now_of(conn, clock)
    row = sa.select(sa.func.min(outbox.c.due_at)).where(outbox.c.state == "waiting", outbox.c.due_at > now)
    rest = sa.select(sa.func.min(channel.c.out_resume_at)).where(channel.c.is_enabled, channel.c.out_resume_at > now)
    return min((at for query in (row, rest) if (at := conn.execute(query).scalar()) is not None), default=None)


def _claimed(conn: Connection, rows: Sequence[sa.RowMapping], attempt_ids: dict[int, int]) -> list[Claimed]:
    known = deliveries.dossiers(conn, [row["message_id"] for row in rows])
    small = ledger.read_small_many(conn, [row["bytes_digest"] for row in rows])
    claimed = [
        Claimed(
            outbox_id=row["id"],
            message_id=row["message_id"],
            channel_id=row["channel_id"],
            department_id=row["department_id"],
            attempt_id=attempt_ids[row["id"]],
            attempt=row["attempts"],
            round=row["round"],
            fence=row["fence"],
            nonce=row["nonce"],
            ticket_id=known[row["message_id"]][0].ticket_id,
            bytes_digest=row["bytes_digest"],
            small_raw=small.get(row["bytes_digest"]),
            first_due_at=row["first_due_at"],
            give_up_at=row["give_up_at"],
            deliveries={item.id: item for item in known[row["message_id"]]},
        )
        for row in rows
    ]
    return sorted(claimed, key=lambda item: (item.first_due_at, item.outbox_id))


def _take_back(conn: Connection, keys: Keys, row: sa.RowMapping, *, now: datetime) -> bool:
    """Return whether the last attempt had crossed the line of doubt."""
    last = (
        conn.execute(sa.select(attempt).where(attempt.c.outbox_id == row["id"], attempt.c.number == row["attempts"]))
        .mappings()
        .one()
    )
    is_in_doubt = False
    if last["state"] == "final_dot_pending":
        for delivery_id in last["recipients"]:
            item = Evidence(
                fact=Fact.IN_DOUBT, round=last["round"], attempt=last["number"], at=now, source="system",
                text="the process that was handing it over ended before the reply",
            )  # fmt: skip
            is_in_doubt |= deliveries.record(conn, keys, delivery_id, item, now=now).verdict.is_in_doubt
    conn.execute(sa.update(attempt).where(attempt.c.id == last["id"]).values(state="finished", ended_at=now))
    state = deliveries.standing(conn, row["message_id"])
    conn.execute(
        sa.update(outbox)
        .where(outbox.c.id == row["id"], outbox.c.fence == row["fence"])
        .values(
            state=state,
            due_at=now if state == "waiting" else row["due_at"],
            doubt_since_at=now if state == "doubt" else None,
            lease_owner=None,
            lease_until=None,
            fence=outbox.c.fence + 1,
        )
    )
    return is_in_doubt


def _open_deliveries(conn: Connection, message_id: int) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    query = sa.select(delivery.c.id, delivery.c.detail).where(delivery.c.message_id == message_id, delivery.c.is_open)
    return conn.execute(query).all()
