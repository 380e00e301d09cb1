"""What is over is removed, and what still counts stays."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from core import sessions, throttle
from core.store import schema
from gateway import housekeeping
from gateway.web import idempotency
from tests.web.conftest import Site

OLD = timedelta(days=30)


@pytest.mark.proves("T-R02")
async def test_what_is_over_goes_and_the_rest_stays(site: Site) -> None:
    me = await site.add("me")
    actor = site.house.actor

    def leave_traces(conn: Connection, now: datetime, name: str) -> None:
        throttle.count(conn, [throttle.Limit(key=name, tries=5)], now)
        sessions.open_session(conn, me.id, now, epoch=me.epoch, user_agent=name)
        idempotency.once(conn, actor, name, "digest", now, lambda _conn: (200, b"{}"))

    now = site.services.db.clock.now()
    await site.services.db.write(leave_traces, now - OLD, "old")
    await site.services.db.write(leave_traces, now, "new")
    assert await housekeeping.tidy(site.services.db) == {"throttle": 1, "session": 1, "idempotency": 1}
    assert await housekeeping.tidy(site.services.db) == {"throttle": 0, "session": 0, "idempotency": 0}

    def kept(conn: Connection) -> list[str]:
        names = (schema.throttle.c.key, schema.session.c.user_agent, schema.idempotency.c.key)
        return [name for column in names for name in conn.execute(sa.select(column)).scalars()]

    assert await site.services.db.read(kept) == ["new"] * 3


async def test_it_is_done_again_and_again(site: Site) -> None:
    now = site.services.db.clock.now()
    count = sa.select(sa.func.count()).select_from(schema.throttle)
    keeping = asyncio.create_task(housekeeping.keep(site.services.db, every=0))
    async with asyncio.timeout(30):
        for number in range(2):
            limit = throttle.Limit(key=str(number), tries=5)
            await site.services.db.write(throttle.count, [limit], now - OLD)
            while await site.services.db.read(lambda conn: conn.execute(count).scalar_one()):
                pass
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert keeping.cancelled()
