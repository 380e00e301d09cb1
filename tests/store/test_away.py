"""What passes by itself has one name, and what is wrong with a job keeps its own (F-N01, F-N02, F-D02)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from pysqlite3 import dbapi2 as driver
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from core.store.away import StoreAway, naming
from core.store.database import PostgresDatabase, SqliteDatabase, StoreError
from tests import stores
from tests.servers.cutter import WHOLE, Cutter, End, Plan


def of_postgres(state: str, *, is_lost: bool = False) -> DBAPIError:
    said: Any = asyncpg.PostgresError("said by the server")
    said.sqlstate = state
    return DBAPIError("select", {}, said, connection_invalidated=is_lost)


def of_sqlite(code: int) -> OperationalError:
    said = driver.OperationalError("said by the library")
    said.sqlite_errorcode = code
    return OperationalError("select", {}, said)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
        PoolExhausted("QueuePool limit reached"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        of_postgres("42601", is_lost=True),
        *(
            of_postgres(state)
            for state in ("08006", "25006", "25P03", "40P01", "53100", "55P03", "57014", "57P01", "58030")
        ),
        *(of_sqlite(code) for code in (5, 517, 8, 13, 14)),
    ],
    ids=str,
)
@pytest.mark.proves("F-N01", "F-N02", "F-D02", "F-D06", "F-D07")
def test_what_passes_has_one_name(error: Exception) -> None:
    with pytest.raises(StoreAway) as caught, naming():
        raise error
    assert not caught.value.is_final
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        of_postgres("23505"),
        of_postgres("42601"),
        of_postgres("22021"),
        of_sqlite(1),
        IntegrityError("insert", {}, driver.IntegrityError("unique")),
        ValueError("of the job"),
        StoreError("final", is_final=True),
    ],
    ids=str,
)
def test_what_is_wrong_keeps_its_name(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, naming():
        raise error
    assert caught.value is error


def refuse_for_the_disk(conn: Connection) -> None:
    failure = driver.OperationalError if conn.dialect.name == "sqlite" else asyncpg.PostgresError
    said: Any = failure("database or disk is full")
    said.sqlstate, said.sqlite_errorcode = "53100", 13
    raise OperationalError("insert", {}, said)


@pytest.mark.parametrize("kind", ["write", "read", "write_all"])
@pytest.mark.proves("F-D02", "F-N02")
async def test_full_disk_is_no_fault_of_the_job_that_meets_it(
    store: SqliteDatabase | PostgresDatabase, kind: str
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "write": lambda: store.write(refuse_for_the_disk),
        "read": lambda: store.read(refuse_for_the_disk),
        "write_all": lambda: store.write_all([(lambda _conn: 1, (), {}), (refuse_for_the_disk, (), {})]),
    }
    with pytest.raises(StoreAway, match="full"):
        await calls[kind]()  # type: ignore[misc]  # each gives an awaitable
    assert await store.write_all([(lambda _conn: 1, (), {})]) == [1]


@pytest.mark.proves("F-N01")
async def test_server_that_is_not_there_is_away() -> None:
    database = PostgresDatabase(f"postgresql://gw@127.0.0.1:{stores._free_port()}/postgres")
    try:
        for call in (database.read, database.write):
            with pytest.raises(StoreAway, match="cannot be reached"):
                await call(lambda _conn: 1)
    finally:
        await database.close()


@pytest.mark.proves("F-N06", "F-N01")
async def test_answer_that_the_network_swallows_is_not_waited_for_without_end(
    store: SqliteDatabase | PostgresDatabase,
) -> None:
    if isinstance(store, SqliteDatabase):
        pytest.skip("there is no network in between")
    plans = itertools.chain([Plan(cut_at=20_000, end=End.BLACK_HOLE)], itertools.repeat(WHOLE))
    server, _, name = store.url.rpartition("/")

    def ask_for_more_than_passes(conn: Connection) -> None:
        for _ in range(100):
            conn.execute(text("select repeat('x', 1000)"))

    async with Cutter(int(server.rpartition(":")[2]), lambda _number: next(plans)) as cutter:
        database = PostgresDatabase(f"postgresql://gw@127.0.0.1:{cutter.port}/{name}", answer_seconds=0.5)
        try:
            with pytest.raises(StoreAway):
                await database.write(ask_for_more_than_passes)
            assert await database.write(lambda conn: conn.execute(text("select 1")).scalar_one()) == 1
        finally:
            await database.close()
