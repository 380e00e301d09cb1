"""Ledger rows: claimed in order, counted before each try, ended once, and never blamed for what another did (R1.2)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from core import ledger
from core.errors import Conflict, NotFound
from core.store import schema
from core.store.database import PostgresDatabase, SqliteDatabase
from tests.ingest.desk import Desk, open_desk
from tests.ingest.letters import letter

Store = SqliteDatabase | PostgresDatabase


@pytest.fixture
async def desk(store: Store) -> Desk:
    return await open_desk(store)


async def claim(desk: Desk, **fields: Any) -> list[tuple[int, int]]:
    """(id, attempts) of what is claimed."""
    values: dict[str, Any] = {"limit": 64, "now": desk.now} | fields
    works = await desk.db.write(ledger.claim, desk.channel_id, **values)
    return [(work.id, work.attempts) for work in works]


def set_attempts(conn: Connection, attempts: dict[int, int]) -> None:
    for row_id, count in attempts.items():
        conn.execute(sa.update(schema.ledger).where(schema.ledger.c.id == row_id).values(attempts=count))


@pytest.mark.proves("R1.2", "T-D13")
async def test_fresh_rows_come_in_order_and_suspects_one_by_one(desk: Desk) -> None:
    ids = [await desk.journal(letter()) for _ in range(6)]
    assert await claim(desk, limit=2) == [(ids[0], 1), (ids[1], 1)]
    # as after a death: both were begun, and stand before what is fresh
    assert await claim(desk) == [(ids[0], 2)]
    assert await claim(desk, busy=[ids[0]]) == [(ids[1], 2)]
    assert await claim(desk, busy=ids[:2], limit=3) == [(one, 1) for one in ids[2:5]]
    assert await claim(desk, busy=ids[:5]) == [(ids[5], 1)]
    assert await claim(desk, busy=ids) == []


@pytest.mark.proves("R1.3", "F-K07")
@pytest.mark.parametrize(("most", "claimed"), [(0, 3), (1, 1), (2, 0)])
async def test_last_attempt_is_only_made_where_it_is_allowed(desk: Desk, most: int, claimed: int) -> None:
    ids = [await desk.journal(letter()) for _ in range(4)]
    await desk.db.write(set_attempts, {ids[0]: 2, ids[1]: 1, ids[2]: 3})
    assert (await claim(desk, most=most))[0][0] == ids[claimed]


@pytest.mark.proves("R1.3", "R1.2")
async def test_third_failure_quarantines_and_later_ones_change_nothing(desk: Desk) -> None:
    row_id = await desk.journal(letter())
    for number in (1, 2, 3):
        assert await claim(desk) == [(row_id, number)]
        assert await desk.db.write(ledger.fail, row_id, f"try {number}", now=desk.now) == (number == 3)
        desk.now += timedelta(minutes=1)
    assert not await desk.db.write(ledger.fail, row_id, "late", now=desk.now)
    assert await claim(desk) == []
    (row,) = await desk.rows(schema.ledger)
    assert (row["state"], row["reason"]) == ("quarantined", "try 3")


@pytest.mark.proves("R1.2", "F-Z08")
@pytest.mark.parametrize(
    ("state", "may_replay", "may_dismiss"),
    [("received", False, False), ("done", False, False), ("quarantined", True, True), ("dismissed", True, False)],
)
async def test_only_what_is_set_aside_is_replayed_or_dismissed(
    desk: Desk, state: str, may_replay: bool, may_dismiss: bool
) -> None:
    dismiss = partial(ledger.dismiss, reason="spam")
    actions: list[tuple[Callable[..., None], bool]] = [(ledger.replay, may_replay), (dismiss, may_dismiss)]
    for action, is_allowed in actions:
        row_id = await desk.journal(letter())
        await desk.db.write(_put, row_id, state)
        with nullcontext() if is_allowed else pytest.raises(Conflict):
            await desk.db.write(action, row_id, now=desk.now)
    with pytest.raises(NotFound):
        await desk.db.write(ledger.replay, 10**9, now=desk.now)


def _put(conn: Connection, row_id: int, state: str) -> None:
    conn.execute(sa.update(schema.ledger).where(schema.ledger.c.id == row_id).values(state=state, attempts=3))


@pytest.mark.proves("R1.2")
async def test_row_ends_once(desk: Desk) -> None:
    row_id = await desk.journal(letter())
    await desk.db.write(ledger.finish, row_id, "skipped", now=desk.now, reason="first")
    with pytest.raises(Conflict):
        await desk.db.write(ledger.finish, row_id, "ticketed", now=desk.now, reason="second")
    (row,) = await desk.rows(schema.ledger)
    assert (row["outcome"], row["reason"]) == ("skipped", "first")
