"""One row per source message with its life: the proof that nothing was lost and nothing came in twice (R1.2).

A row is made before the source is told "taken" and is never deleted, not even with its ticket (R1.6). The cursor of a
mailbox is not stored: it is what the rows say.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from core import events
from core.errors import Conflict, NotFound
from core.ids import public_id
from core.store.hot import Hot
from core.store.schema import ledger, raw

MAX_ATTEMPTS = 3
RETRY_AFTER = (timedelta(0), timedelta(0), timedelta(seconds=5))  # by attempts made
REPEAT_WINDOW = timedelta(hours=24)

OUTCOMES = ("ticketed", "repeat", "own_copy", "evidence", "skipped")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A source item to be recorded. Without ``raw_digest`` it has no bytes yet (a gap) or never will (gone)."""

    folder: str = ""
    uidvalidity: int = 0
    uid: int | None = None
    external_id: str | None = None
    raw_digest: str | None = None
    small_raw: bytes | None = None  #: stored in the same commit; None when it is a blob already
    raw_bytes: int = 0
    internal_at: datetime | None = None
    state: str = "received"  #: received | gap | done
    outcome: str | None = None
    reason: str = ""
    excerpt: str = ""
    mark: str = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A row that was claimed for parsing. ``attempts`` includes this one."""

    id: int
    channel_id: int
    raw_digest: str
    raw_bytes: int
    attempts: int
    reason: str
    folder: str
    uidvalidity: int
    received_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """What became of a mail that came before."""

    message_id: int | None
    ticket_id: int | None


def known(
    conn: Connection, channel_id: int, account: str, folder: str, uidvalidity: int
) -> tuple[set[int], dict[int, int]]:
    """Return the UIDs that need no fetching any more, and the open gaps with their tries."""
    query = sa.select(ledger.c.uid, ledger.c.state, ledger.c.attempts).where(
        ledger.c.channel_id == channel_id,
        ledger.c.account == account,
        ledger.c.folder == folder,
        ledger.c.uidvalidity == uidvalidity,
        ledger.c.uid.is_not(None),
    )
    final: set[int] = set()
    gaps: dict[int, int] = {}
    for uid, state, attempts in conn.execute(query):
        if state == "gap":
            gaps[uid] = attempts
        else:
            final.add(uid)
    return final, gaps


def record(
    conn: Connection, channel_id: int, account: str, arrivals: Sequence[Arrival], *, fence: int, now: datetime
) -> int:
    """Record what a source offered (COMMIT 1); return how many rows are new. Repeats of a UID are ignored.

    A gap that came at last becomes ``received``; one that failed again counts a try, and the third quarantines it.
    """
    small = {item.raw_digest: item.small_raw for item in arrivals if item.small_raw is not None}
    if small:
        rows = [{"digest": digest, "content": content} for digest, content in small.items()]
        conn.execute(_insert_missing(conn, raw), rows)
    new = 0
    for item in arrivals:
        new += _record_one(conn, channel_id, account, item, fence=fence, now=now)
    return new


_due = (
    sa.select(ledger.c.id, ledger.c.attempts)
    .where(
        ledger.c.channel_id == sa.bindparam("channel_id"),
        ledger.c.state == "received",
        ledger.c.attempts <= sa.bindparam("most"),
        sa.or_(ledger.c.next_attempt_at.is_(None), ledger.c.next_attempt_at <= sa.bindparam("now")),
        ledger.c.id.not_in(sa.bindparam("busy", expanding=True)),
    )
    .order_by(ledger.c.id)
    .limit(sa.bindparam("limit"))
)
_count_attempt = (
    sa.update(ledger)
    .where(ledger.c.id.in_(sa.bindparam("ids", expanding=True)), ledger.c.state == "received")
    .values(attempts=ledger.c.attempts + 1)
    .returning(*(ledger.c[name] for name in Work.__dataclass_fields__))
)


def claim(
    conn: Connection,
    channel_id: int,
    *,
    limit: int,
    now: datetime,
    busy: Sequence[int] = (),
    most: int = MAX_ATTEMPTS - 1,
) -> list[Work]:
    """Count an attempt for the next rows and return them, oldest first (I7: before the parser sees them).

    A row whose reading ended badly before comes alone, so that it cannot draw its neighbours into the quarantine.
    Rows with more than ``most`` attempts are left out: 0 for fresh ones only.
    """
    wanted = {"channel_id": channel_id, "now": now, "limit": limit, "busy": list(busy)}
    found = conn.execute(_due, wanted | {"most": most}).all()
    ids = [row.id for row in itertools.takewhile(lambda row: row.attempts == 0, found)] or [row.id for row in found[:1]]
    if not ids:
        return []
    return count_again(conn, ids)


def count_again(conn: Connection, ids: Sequence[int]) -> list[Work]:
    """Count an attempt for these rows, as far as they still wait; return them, oldest first."""
    rows = conn.execute(_count_attempt, {"ids": list(ids)}).mappings()
    return sorted((Work(**row) for row in rows), key=lambda work: work.id)


def give_back(conn: Connection, ids: Sequence[int]) -> None:
    """Take the last attempt of these rows back, as far as they still wait: nobody finished it or failed in it."""
    conn.execute(
        sa.update(ledger)
        .where(ledger.c.id.in_(ids), ledger.c.state == "received", ledger.c.attempts > 0)
        .values(attempts=ledger.c.attempts - 1)
    )


_by_id = sa.select(ledger).where(ledger.c.id == sa.bindparam("row_id"))


def lock(conn: Connection, ledger_id: int) -> sa.RowMapping:
    query = _by_id.with_for_update() if conn.dialect.name == "postgresql" else _by_id
    row = conn.execute(query, {"row_id": ledger_id}).mappings().first()
    if row is None:
        raise NotFound("no such ledger row")
    return row


_finish = Hot(
    sa.update(ledger)
    .where(ledger.c.id == sa.bindparam("row_id"), ledger.c.state == "received")
    .values(
        state="done",
        outcome=sa.bindparam("set_outcome"),
        reason=sa.bindparam("set_reason"),
        message_id=sa.bindparam("set_message_id"),
        ticket_id=sa.bindparam("set_ticket_id"),
        canonical_digest=sa.bindparam("set_canonical"),
        message_id_header=sa.bindparam("set_header"),
        sender=sa.bindparam("set_sender"),
        subject=sa.bindparam("set_subject"),
        done_at=sa.bindparam("set_now"),
        next_attempt_at=None,
    )
)


def finish(
    conn: Connection,
    ledger_id: int,
    outcome: str,
    *,
    now: datetime,
    reason: str = "",
    message_id: int | None = None,
    ticket_id: int | None = None,
    canonical_digest: str | None = None,
    message_id_header: str | None = None,
    sender: str = "",
    subject: str = "",
) -> None:
    """End a row, once: raises Conflict when it has ended already (the guard of COMMIT 2)."""
    changed = _finish.run(
        conn,
        {
            "row_id": ledger_id,
            "set_outcome": outcome,
            "set_reason": reason,
            "set_message_id": message_id,
            "set_ticket_id": ticket_id,
            "set_canonical": canonical_digest,
            "set_header": message_id_header,
            "set_sender": sender,
            "set_subject": subject,
            "set_now": now,
        },
    )
    if changed != 1:
        raise Conflict("the ledger row has ended already")


def fail(conn: Connection, ledger_id: int, reason: str, *, now: datetime) -> bool:
    """Note a failed attempt; the third quarantines the row (R1.3). Return whether it did."""
    row = lock(conn, ledger_id)
    if row["state"] != "received":
        return False
    is_last = bool(row["attempts"] >= MAX_ATTEMPTS)
    values: dict[str, Any] = {"reason": reason[:500]}
    if is_last:
        values |= {"state": "quarantined", "done_at": now, "next_attempt_at": None}
    else:
        values["next_attempt_at"] = now + RETRY_AFTER[min(row["attempts"], len(RETRY_AFTER) - 1)]
    conn.execute(sa.update(ledger).where(ledger.c.id == ledger_id).values(**values))
    if is_last:
        _tell_quarantined(conn, row["channel_id"], ledger_id, reason, now=now)
    return is_last


def quarantine_exhausted(conn: Connection, channel_id: int, *, now: datetime) -> int:
    """Quarantine rows whose last attempt ended with the death of the process."""
    ids = list(
        conn.execute(
            sa.select(ledger.c.id).where(
                ledger.c.channel_id == channel_id, ledger.c.state == "received", ledger.c.attempts >= MAX_ATTEMPTS
            )
        ).scalars()
    )
    for ledger_id in ids:
        reason = "reading it ended the process three times"
        conn.execute(
            sa.update(ledger).where(ledger.c.id == ledger_id).values(state="quarantined", reason=reason, done_at=now)
        )
        _tell_quarantined(conn, channel_id, ledger_id, reason, now=now)
    return len(ids)


def replay(conn: Connection, ledger_id: int, *, now: datetime) -> None:
    """Give a quarantined or dismissed row three new attempts. Its receipt time stays (F-Z08). Raises Conflict."""
    row = lock(conn, ledger_id)
    if row["state"] not in ("quarantined", "dismissed"):
        raise Conflict("only a quarantined message can be replayed")
    state = "received" if row["raw_digest"] else "gap"
    conn.execute(
        sa.update(ledger)
        .where(ledger.c.id == ledger_id)
        .values(state=state, attempts=0, next_attempt_at=None, reason="", done_at=None)
    )


def dismiss(conn: Connection, ledger_id: int, *, reason: str, now: datetime) -> None:
    """Take a row out of the quarantine for good; its bytes stay. Raises Conflict."""
    row = lock(conn, ledger_id)
    if row["state"] != "quarantined":
        raise Conflict("only a quarantined message can be dismissed")
    conn.execute(
        sa.update(ledger).where(ledger.c.id == ledger_id).values(state="dismissed", reason=reason, done_at=now)
    )


_state = sa.select(ledger.c.state).where(ledger.c.id == sa.bindparam("row_id"))
_state_locked = {"sqlite": Hot(_state), "postgresql": Hot(_state.with_for_update())}


def is_received(conn: Connection, ledger_id: int) -> bool:
    """Whether the row still waits to end; it is locked for this transaction."""
    row = _state_locked[conn.dialect.name].first(conn, {"row_id": ledger_id})
    return row is not None and row[0] == "received"


_same_mail = Hot(
    sa.select(ledger.c.id, ledger.c.message_id, ledger.c.ticket_id).where(
        ledger.c.channel_id == sa.bindparam("channel_id"),
        ledger.c.canonical_digest == sa.bindparam("digest"),
        ledger.c.outcome != "repeat",
    )
)
_same_id = Hot(
    sa.select(ledger.c.id).where(
        ledger.c.channel_id == sa.bindparam("channel_id"),
        ledger.c.message_id_header == sa.bindparam("header"),
        ledger.c.state == "done",
    )
)
_same_raw = sa.select(
    ledger.c.id,
    ledger.c.message_id,
    ledger.c.ticket_id,
    ledger.c.uidvalidity,
    ledger.c.done_at,
    ledger.c.folder,
    ledger.c.received_at,
).where(
    ledger.c.channel_id == sa.bindparam("channel_id"),
    ledger.c.raw_digest == sa.bindparam("digest"),
    ledger.c.state == "done",
    ledger.c.outcome != "repeat",
    ledger.c.id != sa.bindparam("row_id"),
)


def same_mail(conn: Connection, channel_id: int, canonical_digest: str) -> Earlier | None:
    """The row that this mail came in with before: same Message-ID *and* same content (R1.4, T-A11)."""
    row = _same_mail.first(conn, {"channel_id": channel_id, "digest": canonical_digest})
    return Earlier(message_id=row[1], ticket_id=row[2]) if row else None


def is_id_used(conn: Connection, channel_id: int, message_id_header: str) -> bool:
    """Whether another mail of this mailbox carried the same Message-ID."""
    return _same_id.first(conn, {"channel_id": channel_id, "header": message_id_header}) is not None


def same_bytes(conn: Connection, work: Work) -> Earlier | None:
    """For mails without Message-ID: the same bytes within a day, or from before the mailbox was re-created."""
    parameters = {"channel_id": work.channel_id, "digest": work.raw_digest, "row_id": work.id}
    for row in conn.execute(_same_raw, parameters):
        was_recreated = (row.folder, row.uidvalidity) != (work.folder, work.uidvalidity)
        if was_recreated or work.received_at - row.received_at < REPEAT_WINDOW:
            return Earlier(message_id=row.message_id, ticket_id=row.ticket_id)
    return None


def read_small(conn: Connection, digest: str) -> bytes | None:
    """Return the bytes of a raw that lives in a row."""
    content = conn.execute(sa.select(raw.c.content).where(raw.c.digest == digest)).scalar()
    return bytes(content) if content is not None else None


_small = sa.select(raw.c.digest, raw.c.content).where(raw.c.digest.in_(sa.bindparam("digests", expanding=True)))


def read_small_many(conn: Connection, digests: Sequence[str]) -> dict[str, bytes]:
    rows = conn.execute(_small, {"digests": list(digests)})
    return {digest: bytes(content) for digest, content in rows}


def unmarked(conn: Connection, channel_id: int, account: str, folder: str, uidvalidity: int) -> list[int]:
    """UIDs that are taken but whose server-side mark is still to be made (I6)."""
    query = sa.select(ledger.c.uid).where(
        ledger.c.channel_id == channel_id,
        ledger.c.mark == "pending",
        ledger.c.account == account,
        ledger.c.folder == folder,
        ledger.c.uidvalidity == uidvalidity,
    )
    return [uid for uid in conn.execute(query.order_by(ledger.c.uid)).scalars() if uid is not None]


def marked(conn: Connection, channel_id: int, account: str, folder: str, uidvalidity: int, uids: Sequence[int]) -> None:
    conn.execute(
        sa.update(ledger)
        .where(
            ledger.c.channel_id == channel_id,
            ledger.c.account == account,
            ledger.c.folder == folder,
            ledger.c.uidvalidity == uidvalidity,
            ledger.c.uid.in_(uids),
        )
        .values(mark="done")
    )


def counts(conn: Connection) -> list[sa.RowMapping]:
    """Per channel, state and outcome: how many. The gap-proof page shows it (R1.2)."""
    query = sa.select(ledger.c.channel_id, ledger.c.state, ledger.c.outcome, sa.func.count().label("count")).group_by(
        ledger.c.channel_id, ledger.c.state, ledger.c.outcome
    )
    return list(conn.execute(query).mappings())


_columns = (
    "public_id", "channel_id", "account", "folder", "uidvalidity", "uid", "external_id", "raw_digest", "raw_bytes",
    "state", "outcome", "reason", "excerpt", "attempts", "mark", "fence", "received_at", "internal_at", "done_at",
)  # fmt: skip
_add = {
    dialect: Hot(insert(ledger).on_conflict_do_nothing(), columns=_columns)
    for dialect, insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}


def _record_one(conn: Connection, channel_id: int, account: str, item: Arrival, *, fence: int, now: datetime) -> int:
    values = {
        "public_id": public_id(),
        "channel_id": channel_id,
        "account": account,
        "folder": item.folder,
        "uidvalidity": item.uidvalidity,
        "uid": item.uid,
        "external_id": item.external_id,
        "raw_digest": item.raw_digest,
        "raw_bytes": item.raw_bytes,
        "state": item.state,
        "outcome": item.outcome,
        "reason": item.reason,
        "excerpt": item.excerpt,
        "attempts": 1 if item.state == "gap" else 0,
        "mark": item.mark,
        "fence": fence,
        "received_at": now,
        "internal_at": item.internal_at,
        "done_at": now if item.state == "done" else None,
    }
    if _add[conn.dialect.name].run(conn, values):
        return 1
    return _fill_gap(conn, channel_id, account, item, values, now=now)


def _fill_gap(
    conn: Connection, channel_id: int, account: str, item: Arrival, values: dict[str, Any], *, now: datetime
) -> int:
    gap = conn.execute(
        sa.select(ledger.c.id, ledger.c.attempts).where(
            ledger.c.channel_id == channel_id,
            ledger.c.account == account,
            ledger.c.folder == item.folder,
            ledger.c.uidvalidity == item.uidvalidity,
            ledger.c.uid == item.uid,
            ledger.c.state == "gap",
        )
    ).first()
    if gap is None:
        return 0
    if item.state != "gap":
        names = (
            "raw_digest",
            "raw_bytes",
            "state",
            "outcome",
            "reason",
            "excerpt",
            "mark",
            "fence",
            "internal_at",
            "done_at",
        )
        change = {name: values[name] for name in names} | {"attempts": 0}
        conn.execute(sa.update(ledger).where(ledger.c.id == gap.id).values(**change))
        return 1
    is_last = gap.attempts + 1 >= MAX_ATTEMPTS
    change = {"attempts": gap.attempts + 1, "excerpt": item.excerpt}
    if is_last:
        change |= {"state": "quarantined", "done_at": now}
    conn.execute(sa.update(ledger).where(ledger.c.id == gap.id).values(**change))
    if is_last:
        _tell_quarantined(conn, channel_id, gap.id, item.reason, now=now)
    return 0


def _insert_missing(conn: Connection, table: sa.Table) -> Any:
    return _missing[conn.dialect.name, table.name]


_missing = {
    (dialect, table.name): insert(table).on_conflict_do_nothing()
    for dialect, insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
    for table in (raw, ledger)
}


def _tell_quarantined(conn: Connection, channel_id: int, ledger_id: int, reason: str, *, now: datetime) -> None:
    data = {"ledger_id": ledger_id, "reason": reason[:200]}
    events.append(conn, events.LEDGER_QUARANTINED, now=now, channel_id=channel_id, data=data)
