"""What a peer said is kept until the store takes it: no answer is in doubt for a store that was away (COMMIT C)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from core.store.database import PostgresDatabase, SqliteDatabase, StoreError
from gateway.outbox import worker as worker_module
from gateway.outbox.schedule import Backoff
from tests.desk.office import JANE, Office, open_office, smtp
from tests.servers.smtp_peer import Answer, SmtpPeer, say

SOON = Backoff(initial=timedelta(milliseconds=1), cap=timedelta(milliseconds=5))
HOUR = timedelta(hours=1)


@pytest.fixture
async def office(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    monkeypatch.setattr(worker_module, "STORE_BACKOFF", SOON)
    async with open_office(store_url, tmp_path) as made:
        yield made


class Full:
    """Lets no commit through until it is told to, as a full disk does."""

    def __init__(self, db: SqliteDatabase | PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused = 0
        self.is_full = False
        self.has_refused = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        engine = db.engine if isinstance(db, SqliteDatabase) else db.engine.sync_engine
        self._driver: Any = engine.dialect.loaded_dbapi
        self._commit = engine.dialect.do_commit
        monkeypatch.setattr(engine.dialect, "do_commit", self.commit)

    def commit(self, connection: Any) -> None:
        if not self.is_full:
            self._commit(connection)
            return
        self.refused += 1
        if self.refused >= 3:
            self._loop.call_soon_threadsafe(self.has_refused.set)
        raise full_disk(self._driver)


def full_disk(driver: Any) -> Exception:
    failure: Exception = driver.OperationalError("database or disk is full")
    failure.sqlstate = "53100"  # type: ignore[attr-defined]  # so says PostgreSQL
    failure.sqlite_errorcode = 13  # type: ignore[attr-defined]  # and so SQLite
    return failure


class Held:
    """Keeps COMMIT C from the store until it is opened."""

    def __init__(self, finish: Callable[..., str]) -> None:
        self.is_open = False
        self.reached = asyncio.Event()
        self._finish = finish
        self._loop = asyncio.get_running_loop()

    def __call__(self, conn: Connection, *args: Any) -> str:
        if self.is_open:
            return self._finish(conn, *args)
        self._loop.call_soon_threadsafe(self.reached.set)
        raise OperationalError("commit", {}, full_disk(conn.dialect.loaded_dbapi))


@asynccontextmanager
async def answered_while_full(
    office: Office, monkeypatch: pytest.MonkeyPatch, reply: str
) -> AsyncIterator[tuple[int, Full, asyncio.Task[int]]]:
    """A peer has said ``reply`` to the final dot, and no commit goes through since it was asked."""
    go_on = asyncio.Event()
    script = {"dot": [Answer(raw=reply.encode(), after=go_on)]}
    async with SmtpPeer(script=script) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        working = asyncio.create_task(office.work())
        await peer.reached["dot"].wait()
        full = Full(office.db, monkeypatch)
        full.is_full = True
        go_on.set()
        await full.has_refused.wait()
        yield message, full, working
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert len(peer.accepted) == reply.startswith("2")


REPLIES = [
    ("250 2.0.0 ok", ("sent", "accepted"), "done"),
    ("550 5.7.1 no", ("not_delivered", "refused"), "done"),
    ("451 4.3.0 later", ("delayed", "temporarily_refused"), "waiting"),
]


@pytest.mark.parametrize(("reply", "status", "state"), REPLIES)
@pytest.mark.proves("F-D02", "F-K14", "F-K15", "F-N02")
async def test_outcome_is_offered_until_the_store_takes_it(
    office: Office, monkeypatch: pytest.MonkeyPatch, reply: str, status: tuple[str, str], state: str
) -> None:
    async with answered_while_full(office, monkeypatch, reply) as (message, full, working):
        assert office.worker().unstored == 1
        full.is_full = False
        assert await working == 1
        assert office.worker().unstored == 0
        assert await office.statuses(message) == {JANE: status}
        assert (await office.outbox(message))["state"] == state
        assert "in_doubt" not in await office.facts(message)


@pytest.mark.parametrize(("reply", "status", "state"), REPLIES)
@pytest.mark.proves("F-K14", "F-K15", "F-N05", "F-S08")
async def test_outcome_that_comes_after_the_answer_was_taken_back_settles_the_doubt(
    office: Office, monkeypatch: pytest.MonkeyPatch, reply: str, status: tuple[str, str], state: str
) -> None:
    async with answered_while_full(office, monkeypatch, reply) as (message, full, working):
        worker = office.worker()
        monkeypatch.setattr(worker, "_finish_now", held := Held(worker._finish_now))
        full.is_full = False
        await held.reached.wait()
        await office.later(HOUR)
        await office.sweep("two")
        assert await office.statuses(message) == {JANE: ("delayed", "in_doubt")}
        held.is_open = True
        assert await working == 1
        assert await office.statuses(message) == {JANE: status}
        assert (await office.outbox(message))["state"] == state


@pytest.mark.proves("F-V04")
async def test_worker_that_stops_waits_for_the_store_no_longer_than_it_may(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answered_while_full(office, monkeypatch, "250 ok") as (message, full, working):
        with pytest.raises(TimeoutError):
            await office.worker().drain(0.05)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert office.worker().unstored == 0
        with pytest.raises(StoreError):  # whatever the writer still had in hand has been refused too
            await office.db.write(lambda _conn: None)
        full.is_full = False
        await office.later(HOUR)
        await office.sweep()
        assert await office.statuses(message) == {JANE: ("delayed", "in_doubt")}, "nobody is left who knows"


@pytest.mark.proves("F-N01")
async def test_outcome_whose_commit_was_not_confirmed_is_recorded_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SmtpPeer(script={"dot": [say("250 ok")]}) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        worker = office.worker()
        finish = worker._finish_now
        done = []

        def finish_twice(conn: Connection, *args: Any) -> str:
            done.append(finish(conn, *args))
            return finish(conn, *args)

        monkeypatch.setattr(worker, "_finish_now", finish_twice)  # the connection broke after the commit
        await office.work()
    assert done == ["done"]
    assert await office.facts(message) == ["final_dot_pending", "accepted"]
    assert (await office.outbox(message))["state"] == "done"


@pytest.mark.proves("F-N02", "F-D02")
async def test_worker_that_starts_while_the_store_refuses_starts_when_it_takes_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "POLL_SECONDS", 0.01)
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        full = Full(office.db, monkeypatch)
        full.is_full = True
        running = asyncio.create_task(office.worker().run())
        await full.has_refused.wait()
        assert not running.done()
        with office.hub.subscribe("events") as told:
            full.is_full = False
            await told.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}
