"""Sessions that stand still inside a transaction are ended, and nobody else's (F-K23)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
import sqlalchemy as sa

from core.store import sleepers
from core.store.database import PostgresDatabase, SqliteDatabase

Store = SqliteDatabase | PostgresDatabase
Session = asyncpg.Connection
AT_ONCE = timedelta(0)
GONE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


async def stop_between_statements(session: Session) -> None:
    await session.execute("begin")
    await session.fetchval("select 1")


async def stop_inside_a_statement(session: Session) -> None:
    """Planned, and its values never sent: what a process leaves that is stopped between the two."""
    await session.execute("begin")
    await session.prepare("select 1")


async def end_its_transaction(session: Session) -> None:
    await session.execute("begin")
    await session.execute("commit")


@pytest.fixture(name="server")
def _server(store: Store) -> PostgresDatabase:
    if isinstance(store, SqliteDatabase):
        pytest.skip("one process has the embedded store for itself")
    return store


@asynccontextmanager
async def session_of(server: PostgresDatabase, name: str) -> AsyncIterator[Session]:
    session = await asyncpg.connect(server.url, server_settings={"application_name": name})
    try:
        yield session
    finally:
        session.terminate()


async def ended(server: PostgresDatabase) -> list[str]:
    return await server.write(sleepers.end_sleepers, longest=AT_ONCE)


@pytest.mark.parametrize(
    ("name", "stop", "is_ended"),
    [
        ("gatehouse a", stop_between_statements, True),
        ("gatehouse a", stop_inside_a_statement, True),
        ("gatehouse a", end_its_transaction, False),
        ("pg_dump", stop_inside_a_statement, False),
        ("", stop_between_statements, False),
    ],
    ids=["between statements", "inside a statement", "at rest", "a backup", "a person"],
)
@pytest.mark.proves("F-K23")
async def test_only_nodes_that_stand_still_in_a_transaction_are_ended(
    server: PostgresDatabase, name: str, stop: Callable[[Session], Awaitable[None]], is_ended: bool
) -> None:
    async with session_of(server, name) as session:
        await stop(session)
        if not is_ended:
            assert await ended(server) == []
            assert await session.fetchval("select 1") == 1
            return
        while not (names := await ended(server)):  # it has answered, and is just about to wait
            pass
        assert names == [name]
        with pytest.raises(GONE):
            await session.fetchval("select 1")


@pytest.mark.proves("F-K23")
async def test_node_that_waits_for_a_lock_is_not_taken_for_a_sleeper(server: PostgresDatabase) -> None:
    async with AsyncExitStack() as stack:
        person, node = [await stack.enter_async_context(session_of(server, name)) for name in ("", "gatehouse a")]
        await person.execute("begin; lock table setting")
        await node.execute("begin")
        waiting = asyncio.create_task(node.execute("lock table setting"))
        waits = sa.text("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
        while not await server.read(lambda conn: conn.execute(waits).scalar_one()):
            pass
        assert await ended(server) == []
        await person.execute("rollback")
        await waiting


@pytest.mark.proves("F-K23", "F-N04")
async def test_locks_of_a_sleeper_are_free_again_without_anybody_asking(server: PostgresDatabase) -> None:
    async with session_of(server, "gatehouse a") as session, session_of(server, "a person") as heir:
        await session.execute("begin; lock table setting")
        await session.prepare("select 1")
        watch = asyncio.create_task(server.end_sleepers(longest=AT_ONCE, every_seconds=0.01))
        await heir.execute("begin; lock table setting; commit")
        watch.cancel()
        with pytest.raises(GONE):
            await session.execute("commit")


@pytest.mark.parametrize("node", ["a", "häuschen", "x" * 100, ""])
async def test_sessions_carry_the_name_of_their_node(server: PostgresDatabase, node: str) -> None:
    own = PostgresDatabase(server.url, pool_size=1, node=node)
    try:
        shown = await own.read(lambda conn: conn.execute(sa.text("show application_name")).scalar_one())
    finally:
        await own.close()
    assert shown == sleepers.application_name(node)
    assert shown.startswith("gatehouse ")
