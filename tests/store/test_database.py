"""What the store promises whoever writes and reads: group commit, isolation, one process, an end after a disk fault."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pysqlite3 import dbapi2 as driver
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, StatementError

from core.store.database import (
    MAX_BATCH,
    Job,
    PostgresDatabase,
    SqliteDatabase,
    StoreError,
    StoreInUse,
    check_sqlite_version,
    now_of,
    open_database,
)
from core.store.hot import Hot
from core.store.schema import event, raw, setting
from tests import stores

Store = SqliteDatabase | PostgresDatabase


def add(conn: Connection, key: str, value: object = 1) -> str:
    conn.execute(sa.insert(setting).values(key=key, value=value))
    return key


def add_and_fail(conn: Connection, key: str) -> None:
    add(conn, key)
    raise ValueError(key)


def keys(conn: Connection) -> list[str]:
    """In the order in which they were written."""
    order = sa.text("rowid") if conn.dialect.name == "sqlite" else setting.c.key
    return list(conn.execute(sa.select(setting.c.key).order_by(order)).scalars())


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """The embedded store, for what only a single writer thread can promise."""
    database = SqliteDatabase(tmp_path / "store.db", synchronous="OFF")
    with database.engine.begin() as conn:
        setting.create(conn)
        raw.create(conn)
    yield database
    asyncio.run(database.close())


class Gate:
    """A job that keeps the writer thread busy until it is opened, so that jobs behind it form one batch."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _conn: Connection) -> None:
        self.entered.set()
        assert self.opened.wait(30)

    async def occupy(self, database: SqliteDatabase) -> asyncio.Task[None]:
        task = asyncio.create_task(database.write(self))
        await asyncio.to_thread(self.entered.wait, 30)
        return task


def commits(database: SqliteDatabase) -> list[int]:
    """A list that grows with every COMMIT."""
    seen: list[int] = []
    sa.event.listen(database.engine, "commit", lambda _conn: seen.append(1))
    return seen


async def test_waiting_jobs_are_committed_together_in_their_order(writer: SqliteDatabase) -> None:
    gate = Gate()
    busy = await gate.occupy(writer)
    seen = commits(writer)
    names = [f"k{number:03}" for number in range(MAX_BATCH + 10)]
    jobs = [asyncio.create_task(writer.write(add, name)) for name in names]
    await asyncio.sleep(0)
    gate.opened.set()
    assert await asyncio.gather(*jobs) == names
    await busy
    assert await writer.read(keys) == names
    assert len(seen) == 1 + 2, "the gate, a full batch and the rest"


@pytest.mark.proves("F-K08", "F-Z04")
async def test_job_that_fails_undoes_only_itself(writer: SqliteDatabase) -> None:
    gate = Gate()
    busy = await gate.occupy(writer)
    jobs = [
        asyncio.create_task(job)
        for job in (
            writer.write(add, "a"), writer.write(add_and_fail, "b"), writer.write(add, "a"), writer.write(add, "c"),
        )
    ]  # fmt: skip
    await asyncio.sleep(0)
    seen = commits(writer)
    gate.opened.set()
    results = await asyncio.gather(*jobs, return_exceptions=True)
    await busy
    assert [type(result) for result in results] == [str, ValueError, IntegrityError, str]
    assert await writer.read(keys) == ["a", "c"]
    assert len(seen) == 2


def break_at_commit(conn: Connection) -> None:
    """Nothing is wrong until COMMIT asks for the parent row."""
    conn.exec_driver_sql("create table if not exists child (id integer references setting(key))")
    conn.exec_driver_sql("pragma defer_foreign_keys = on")
    conn.exec_driver_sql("insert into child values ('nobody')")


@pytest.mark.proves("F-K08", "F-D02")
async def test_commit_that_fails_fails_everybody_in_it_and_nobody_after(writer: SqliteDatabase) -> None:
    gate = Gate()
    busy = await gate.occupy(writer)
    jobs = [
        asyncio.create_task(job)
        for job in (writer.write(add, "a"), writer.write(break_at_commit), writer.write(add, "b"))
    ]
    await asyncio.sleep(0)
    gate.opened.set()
    results = await asyncio.gather(*jobs, return_exceptions=True)
    await busy
    assert [type(result) for result in results] == [StoreError] * 3
    assert not any(getattr(result, "is_final", True) for result in results)
    assert await writer.read(keys) == []
    assert await writer.write(add, "later") == "later"
    assert not writer.broken.is_set()


@pytest.mark.proves("F-D03")
@pytest.mark.parametrize("is_at_commit", [False, True])
async def test_store_takes_nothing_more_after_a_disk_fault(
    writer: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, is_at_commit: bool
) -> None:
    await writer.write(add, "before")
    gate = Gate()

    def faulty(conn: Connection) -> None:
        gate(conn)
        if not is_at_commit:
            raise OperationalError("insert", {}, driver.OperationalError("disk I/O error"))

    hurt = asyncio.create_task(writer.write(faulty))
    await asyncio.to_thread(gate.entered.wait, 30)
    waiting = asyncio.create_task(writer.write(add, "waiting"))
    await asyncio.sleep(0)
    if is_at_commit:

        def failing(_connection: object) -> None:
            monkeypatch.undo()  # the next COMMIT would work, but its pages may be gone
            raise driver.OperationalError("disk I/O error")

        monkeypatch.setattr(writer.engine.dialect, "do_commit", failing)
    gate.opened.set()
    for task in (hurt, waiting):
        with pytest.raises(StoreError) as caught:
            await task
        assert caught.value.is_final
    await asyncio.wait_for(writer.broken.wait(), 30)
    with pytest.raises(StoreError, match="restarted"):
        await writer.write(add, "after")
    assert await writer.read(keys) == ["before"]


async def test_caller_that_gives_up_disturbs_nobody(writer: SqliteDatabase) -> None:
    gate = Gate()
    busy = await gate.occupy(writer)
    given_up = asyncio.create_task(writer.write(add, "a"))
    other = asyncio.create_task(writer.write(add, "b"))
    await asyncio.sleep(0)
    given_up.cancel()
    gate.opened.set()
    assert await other == "b"
    await busy
    assert given_up.cancelled()
    assert "b" in await writer.read(keys)


async def test_closed_store_refuses_instead_of_hanging(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "store.db", synchronous="OFF")
    await database.close()
    with pytest.raises(StoreError, match="closed"):
        await asyncio.wait_for(database.write(keys), 30)


OPEN = """
import sys
from pathlib import Path
from core.store.database import SqliteDatabase, StoreInUse
try:
    SqliteDatabase(Path(sys.argv[1]))
except StoreInUse as refused:
    sys.exit(f"refused: {refused}")
print("opened", flush=True)
sys.stdin.read()
"""


@pytest.mark.proves("F-D10")
def test_second_process_on_the_same_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    line = [sys.executable, "-c", OPEN, str(path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "opened\n"
        second = subprocess.run(line, input="", capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert "in use by another process" in second.stderr
        with pytest.raises(StoreInUse):
            SqliteDatabase(path)
        first.kill()
    again = SqliteDatabase(path)  # the lock died with its process
    asyncio.run(again.close())


@pytest.mark.proves("F-D09")
@pytest.mark.parametrize(
    ("version", "is_fixed"),
    [
        ((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 50, 6), False),
        ((3, 50, 7), True), ((3, 51, 0), False), ((3, 51, 2), False), ((3, 51, 3), True), ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)  # fmt: skip
def test_sqlite_that_can_lose_pages_is_refused_by_its_name(version: tuple[int, ...], is_fixed: bool) -> None:
    if is_fixed:
        check_sqlite_version(version)
    else:
        with pytest.raises(StoreError, match=r"SQLite " + r"\.".join(map(str, version))):
            check_sqlite_version(version)


@pytest.mark.proves("F-D09")
def test_bundled_sqlite_is_used_and_not_the_systems(writer: SqliteDatabase) -> None:
    with writer.engine.connect() as conn:
        version = conn.exec_driver_sql("select sqlite_version()").scalar_one()
    assert version == driver.sqlite_version
    check_sqlite_version(driver.sqlite_version_info)
    assert driver.sqlite_version_info >= sqlite3.sqlite_version_info


@pytest.mark.proves("F-D01")
async def test_writer_syncs_everything_and_readers_wait_for_nobody(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "store.db")

    def pragmas(conn: Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "query_only")
        return [conn.exec_driver_sql(f"pragma {name}").scalar_one() for name in names]

    extra = 3
    assert await database.write(pragmas) == ["wal", extra, 1, 0]
    assert await database.read(pragmas) == ["wal", extra, 1, 1]
    await database.close()


async def test_reader_cannot_write(store: Store) -> None:
    with pytest.raises((DBAPIError, StoreError), match=r"(?i)read.?only"):
        await store.read(add, "a")
    assert await store.read(keys) == []


async def test_reader_sees_a_write_as_soon_as_it_has_returned(store: Store) -> None:
    for number in range(5):
        await store.write(add, f"k{number}")
        assert len(await store.read(keys)) == number + 1


@pytest.mark.proves("F-K08", "F-Z04")
async def test_jobs_of_write_all_stand_and_fall_alone_and_keep_their_order(store: Store) -> None:
    jobs: list[Job] = [(add, ("a",), {}), (add_and_fail, ("b",), {}), (add, ("a",), {}), (add, ("c",), {"value": None})]
    results = await store.write_all([*jobs, (add, ("d",), {})])
    assert [type(result) for result in results] == [str, ValueError, IntegrityError, str, str]
    assert await store.read(keys) == ["a", "c", "d"]
    assert await store.write_all([]) == []


async def test_failed_write_leaves_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="a"):
        await store.write(add_and_fail, "a")
    assert await store.read(keys) == []


@pytest.mark.proves("F-N02")
@pytest.mark.parametrize(("code", "is_tried_again"), [("40001", True), ("40P01", True), ("23505", False)])
async def test_what_passes_by_itself_is_tried_again_on_postgresql(
    store: Store, code: str, is_tried_again: bool
) -> None:
    if isinstance(store, SqliteDatabase):
        pytest.skip("one writer has no such conflicts")
    tries = []

    def job(conn: Connection) -> str:
        tries.append(1)
        add(conn, f"k{len(tries)}")
        if len(tries) < 3:
            conn.exec_driver_sql(f"do $$ begin raise exception 'clash' using errcode = '{code}'; end $$")
        return "done"

    if not is_tried_again:
        with pytest.raises(DBAPIError):
            await store.write(job)
        assert await store.read(keys) == []
        return
    assert await store.write(job) == "done"
    assert await store.read(keys) == ["k3"]
    tries.clear()
    await store.write(lambda conn: conn.execute(sa.delete(setting)))
    assert await store.write_all([(add, ("x",), {}), (job, (), {})]) == ["x", "done"]


@pytest.mark.proves("F-T03")
async def test_leases_are_measured_by_the_time_of_the_database(store: Store, clock: stores.FakeClock) -> None:
    measured = await store.read(now_of, clock)
    if isinstance(store, SqliteDatabase):
        assert measured == clock.now()
    else:
        assert abs(measured - store.clock.now()) < timedelta(minutes=5)
        assert measured != clock.now()


@pytest.mark.parametrize("url", ["mysql://x", "gatehouse.db", ""])
def test_store_of_an_unknown_kind_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="unknown kind"):
        open_database(url)


NOON = datetime(2026, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)
_new_event = sa.insert(event)
_event_columns = [column.name for column in event.c if column.name != "id"]
_find = sa.select(event.c.id, event.c.kind, event.c.ticket_id).where(event.c.kind == sa.bindparam("kind"))
_recent = sa.select(event.c.kind).where(event.c.at >= sa.bindparam("since")).order_by(event.c.id)
_move = (
    sa.update(event)
    .where(event.c.id == sa.bindparam("row_id"))
    .values(at=sa.bindparam("set_at"), data=sa.bindparam("set_data"), ticket_id=sa.bindparam("set_ticket"))
)
EVENTS: list[dict[str, Any]] = [
    {"at": NOON, "kind": "plain", "data": {}},
    {"at": NOON + timedelta(days=1), "kind": "с кирилица 😀 '\"%:x", "data": {"a": [1, None, "é"]}, "ticket_id": 2**40},
    {"at": NOON.astimezone(timezone(timedelta(hours=5))), "kind": "", "data": None, "actor": "agent:1"},
]


def _values(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given.get(name) for name in _event_columns} | {"actor": given.get("actor", "system")}


def _by_sqlalchemy(conn: Connection) -> list[Any]:
    changed = [conn.execute(_new_event, _values(given)).rowcount for given in EVENTS]
    (first,) = [tuple(row) for row in conn.execute(_find, {"kind": "plain"})]
    moved = {"row_id": first[0], "set_at": NOON, "set_data": {"x": "\u2028"}, "set_ticket": None}
    changed += [conn.execute(_move, moved).rowcount, conn.execute(_move, moved | {"row_id": 0}).rowcount]
    found = [tuple(row) for row in conn.execute(_recent, {"since": NOON})]
    nobody = conn.execute(_find, {"kind": "nobody"}).first()
    return [changed, first, found, nobody]


def _by_hot(conn: Connection) -> list[Any]:
    insert, find, recent = Hot(_new_event, columns=_event_columns), Hot(_find), Hot(_recent)
    move = Hot(_move)
    changed = [insert.run(conn, _values(given)) for given in EVENTS]
    (first,) = find.rows(conn, {"kind": "plain"})
    assert find.first(conn, {"kind": "plain"}) == first
    moved = {"row_id": first[0], "set_at": NOON, "set_data": {"x": "\u2028"}, "set_ticket": None}
    changed += [move.run(conn, moved), move.run(conn, moved | {"row_id": 0})]
    return [changed, first, recent.rows(conn, {"since": NOON}), find.first(conn, {"kind": "nobody"})]


def _all(conn: Connection) -> list[tuple[Any, ...]]:
    """Rows without their ids, and how the store itself spells them."""
    rows = [tuple(row)[1:] for row in conn.execute(sa.select(event).order_by(event.c.id))]
    spelt = [tuple(row)[1:] for row in conn.exec_driver_sql("select id, at, kind, data from event order by id")]
    return [*rows, *spelt]


async def test_hot_statements_do_what_the_ordinary_ones_do(store: Store) -> None:
    async def result_of(job: Callable[[Connection], list[Any]]) -> tuple[list[Any], list[tuple[Any, ...]]]:
        said = await store.write(job)
        left = await store.read(_all)
        await store.write(lambda conn: conn.execute(sa.delete(event)))
        (changed, first, *others) = said
        return [changed, first[1:], *others], left

    assert await result_of(_by_hot) == await result_of(_by_sqlalchemy)


async def test_hot_statement_without_a_value_is_refused(store: Store) -> None:
    with pytest.raises((KeyError, StatementError)):
        await store.write(lambda conn: Hot(_find).first(conn, {}))
