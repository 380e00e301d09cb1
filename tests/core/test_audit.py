"""The audit chain: every change, omission and addition behind its back is found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core import audit as log
from core.access import SYSTEM
from core.store.database import PostgresDatabase, SqliteDatabase
from core.store.schema import audit

Store = SqliteDatabase | PostgresDatabase
KEY = b"k" * 32
BY = log.By(actor=SYSTEM, now=datetime(2026, 3, 2, 9, 0, 0, 1, tzinfo=UTC), key=KEY, address="192.0.2.1")


def write(conn: Connection, number: int) -> None:
    log.append(conn, BY, "test", f"thing:{number}", before={"Zé": None}, after={"b": [1, {"y": True}], "a": "x"})


async def ids(store: Store) -> list[int]:
    return [entry.id for entry in reversed(await store.read(log.entries))]


@pytest.mark.proves("R8.8")
async def test_untouched_log_verifies(store: Store) -> None:
    assert await store.read(log.verify, KEY) is None
    for number in range(5):
        await store.write(write, number)
    assert await store.read(log.verify, KEY) is None
    newest = (await store.read(log.entries, limit=1))[0]
    assert (newest.object, newest.actor, newest.address, newest.at) == ("thing:4", "system", "192.0.2.1", BY.now)


@pytest.mark.proves("R8.8")
async def test_parallel_changes_make_one_chain(store: Store) -> None:
    await asyncio.gather(*(store.write(write, number) for number in range(20)))
    assert await store.read(log.verify, KEY) is None
    assert len(await ids(store)) == 20


def tampered(column: str, value: object) -> Callable[[list[int]], sa.Executable]:
    return lambda known: audit.update().where(audit.c.id == known[1]).values({column: value})


TAMPERED: dict[str, tuple[Callable[[list[int]], Any], int | None]] = {
    "actor": (tampered("actor", "agent:else"), 1),
    "address": (tampered("address", "192.0.2.2"), 1),
    "action": (tampered("action", "other"), 1),
    "object": (tampered("object", "thing:9"), 1),
    "before": (tampered("before", {}), 1),
    "after": (tampered("after", {"b": [1, {"y": False}], "a": "x"}), 1),
    "at": (tampered("at", datetime(2026, 3, 2, 9, 0, 0, 2, tzinfo=UTC)), 1),
    "hash": (tampered("hash", b"0" * 32), 1),
    "removed in the middle": (lambda known: audit.delete().where(audit.c.id == known[1]), 2),
    "removed at the start": (lambda known: audit.delete().where(audit.c.id == known[0]), 1),
    "cut off at the end": (lambda known: audit.delete().where(audit.c.id == known[-1]), None),
    "all removed": (lambda known: audit.delete(), None),
}


def tamper(conn: Connection, statement: Any) -> None:
    """As somebody would who owns the database: the triggers that refuse it are dropped first."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("drop trigger audit_append_only on audit"))
    else:
        for action in ("update", "delete"):
            conn.execute(sa.text(f"drop trigger audit_no_{action}"))
    conn.execute(statement)


@pytest.mark.proves("R8.8")
@pytest.mark.parametrize("how", ["actor", "removed in the middle"])
async def test_store_itself_refuses_to_change_the_log(store: Store, how: str) -> None:
    for number in range(3):
        await store.write(write, number)
    statement, _ = TAMPERED[how]
    known = await ids(store)
    with pytest.raises(DBAPIError, match="append-only"):
        await store.write(lambda conn: conn.execute(statement(known)) and None)
    assert await ids(store) == known


@pytest.mark.proves("R8.8")
@pytest.mark.parametrize("how", TAMPERED)
async def test_tampering_is_found_at_its_place(store: Store, how: str) -> None:
    for number in range(4):
        await store.write(write, number)
    known = await ids(store)
    statement, place = TAMPERED[how]
    await store.write(tamper, statement(known))
    assert await store.read(log.verify, KEY) == (0 if place is None else known[place])


@pytest.mark.proves("R8.8")
async def test_chain_made_with_another_key_does_not_verify(store: Store) -> None:
    await store.write(write, 1)
    assert await store.read(log.verify, b"x" * 32) == (await ids(store))[0]
