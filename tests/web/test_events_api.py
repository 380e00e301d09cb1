"""The event stream: each reader gets what they may know at that moment, once, in order, over any reconnect."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from core import agents, events
from core.store.database import PostgresDatabase, SqliteDatabase, now_of
from core.store.schema import event
from gateway.web import sse
from gateway.web.desk import live
from gateway.web.services import PEOPLE
from tests.stores import FakeClock
from tests.web.conftest import MakeSite
from tests.web.world import World, open_world, quarantine

PATIENCE = 20.0


class Listener:
    """One open stream."""

    def __init__(self, world: World, who: str, last_id: int | None = None) -> None:
        headers = world.headers[who] | ({"Last-Event-ID": str(last_id)} if last_id is not None else {})
        self._asked = world.site.client.get("/api/v1/events", headers=headers)
        self.last_id = last_id

    async def __aenter__(self) -> Listener:
        self._answer = await self._asked
        assert self._answer.status == 200
        await self.quiet()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._answer.close()

    async def quiet(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what comes until the stream has nothing more to tell."""
        return await self._read(lambda found, is_ping: is_ping)

    async def until(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """Return the next ``count`` events."""
        return await self._read(lambda found, is_ping: len(found) >= count)

    async def rest(self) -> bytes:
        """Return what comes before the server ends the stream."""
        async with asyncio.timeout(PATIENCE):
            return await self._answer.content.read()

    async def _read(self, is_enough: Any) -> list[tuple[str, dict[str, Any]]]:
        found: list[tuple[str, dict[str, Any]]] = []
        kind = ""
        async with asyncio.timeout(PATIENCE):
            while True:
                line = (await self._answer.content.readline()).decode()
                assert line, "the stream ended"
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "id":
                    self.last_id = int(value)
                elif name == "event":
                    kind = value
                elif name == "data":
                    found.append((kind, orjson.loads(value)))
                if is_enough(found, line == ": ping\n"):
                    return found


async def touch(world: World, who: str, code: str, subject: str) -> None:
    assert (await world.call(who, "PATCH", f"/tickets/{code}", {"subject": subject}))[0] == 200


@pytest.mark.proves("T-M05", "T-G3", "R13.1")
async def test_reader_is_told_of_the_own_department_and_of_nothing_else(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    async with Listener(world, "ann") as ann, Listener(world, "admin") as admin, Listener(world, "none") as none:
        await touch(world, "eve", world.sales.code, "foreign-canary")
        await quarantine(world.site, world.support)
        await touch(world, "ann", world.support.code, "Mine")
        ((kind, data),) = await ann.until(1)
        assert (kind, data["ticket"], data["subject"]) == ("ticket.changed", world.support.code, "Mine")
        assert set(data) == {"ticket", "subject", "department", "at"}
        kinds = [kind for kind, _ in await admin.until(3)]
        assert kinds == ["ticket.changed", "ledger.quarantined", "ticket.changed"]
        world.site.services.live.wake("events")
        assert await none.quiet() == []


@pytest.mark.proves("T-M05", "T-M06")
async def test_broken_stream_is_taken_up_where_it_ended_and_by_todays_rights(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    async with Listener(world, "ann") as first:
        await touch(world, "ann", world.support.code, "One")
        await first.until(1)
        position = first.last_id
    await touch(world, "ann", world.support.code, "Two")
    headers = world.headers["ann"] | {"Last-Event-ID": str(position)}
    async with world.site.client.get("/api/v1/events", headers=headers) as answer:
        lines = [await answer.content.readline() for _ in range(3)]
    assert b'"Two"' in lines[2]
    await world.call("ann", "PATCH", f"/tickets/{world.support.code}", {"department": world.sales.department})
    async with world.site.client.get("/api/v1/events", headers=headers) as answer:
        told = [await answer.content.readline() for _ in range(3)]
    assert told[1] == b"event: ticket.left\n", "of the ticket itself nothing is told any more"


@pytest.mark.proves("T-L05", "R8.3")
async def test_stream_ends_when_its_reader_is_shut_out(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    async with Listener(world, "ann") as ann:
        await world.site.services.db.write(
            agents.set_active, world.site.house, world.people["ann"].public_id, is_active=False
        )
        world.site.services.live.wake(PEOPLE)
        await touch(world, "both", world.support.code, "canary")
        assert b"event" not in await ann.rest()


@pytest.mark.proves("T-L05", "T-M05")
async def test_stream_follows_a_change_of_departments(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    sales = frozenset({world.sales.department_id})
    async with Listener(world, "ann") as ann:
        await world.site.services.db.write(
            agents.set_departments,
            world.site.house,
            world.people["ann"].public_id,
            sales,
        )
        await touch(world, "both", world.support.code, "canary")
        await touch(world, "both", world.sales.code, "Now mine")
        assert [data["subject"] for _, data in await ann.until(1)] == ["Now mine"]


@pytest.mark.proves("T-N07")
@pytest.mark.parametrize("position", ["-1", "x", "9" * 19, "1.5"])
async def test_position_that_is_none_is_refused(make_site: MakeSite, position: str) -> None:
    world = await open_world(make_site)
    status, _ = await world.call("ann", "GET", "/events", Last_Event_ID=position)
    assert status == 400
    assert (await world.call("ann", "GET", f"/events?after={position}"))[0] == 422


@pytest.mark.proves("T-M12")
@given(key=st.binary(min_size=32, max_size=32), number=st.integers(0, 2**50))
def test_hidden_position_comes_back(key: bytes, number: int) -> None:
    hidden = live.hide(key, number)
    assert live.reveal(key, hidden) == number
    assert 0 <= hidden < 2**56


@pytest.mark.proves("T-M12")
async def test_positions_of_two_readers_have_nothing_in_common(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    async with Listener(world, "ann") as ann, Listener(world, "both") as both:
        await touch(world, "ann", world.support.code, "One")
        await ann.until(1)
        await both.until(1)
        assert ann.last_id != both.last_id


@pytest.mark.proves("T-M05")
async def test_event_that_is_committed_late_is_told_once_and_in_order(
    store: SqliteDatabase | PostgresDatabase, clock: FakeClock
) -> None:
    now = await store.read(now_of, clock)

    def append(conn: sa.Connection, name: str) -> None:
        events.append(conn, "ticket.changed", now=now, data={"name": name})

    def seen(conn: sa.Connection, after: int) -> tuple[int, list[str]]:
        end = live.settled(conn, clock)
        rows = [row for row in events.after(conn, after) if row["id"] <= end]
        return end, [row["data"]["name"] for row in rows]

    await store.write(append, "first")
    start, told = await store.read(seen, 0)
    assert told == ["first"]
    if isinstance(store, SqliteDatabase):
        await store.write(append, "second")
        assert (await store.read(seen, start))[1] == ["second"]
        return
    async with store.engine.begin() as late:
        await late.run_sync(append, "late")
        await store.write(append, "early")
        assert await store.read(seen, start) == (start, []), "a hole may still be filled"
    end, told = await store.read(seen, start)
    assert told == ["late", "early"]
    async with store.engine.connect() as undone:
        await undone.run_sync(append, "undone")
        await undone.rollback()
    await store.write(append, "after the hole")
    assert await store.read(seen, end) == (end, [])

    def grow_old(conn: sa.Connection) -> None:
        conn.execute(sa.update(event).values(at=now - 2 * live.AT_WORK))

    await store.write(grow_old)
    assert (await store.read(seen, end))[1] == ["after the hole"]


def test_no_transaction_at_work_is_older_than_the_patience_of_a_page() -> None:
    assert timedelta(seconds=sse.PING_SECONDS) > live.AT_WORK
