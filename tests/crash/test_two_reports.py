"""News that comes while somebody else deals with the same answer: what is shown is true of all its recipients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.util import await_only

from core import deliveries, outbox
from core.delivery import Evidence, Fact
from core.outbox import Claimed
from core.store import schema
from gateway.normalize.values import Address
from tests.desk.office import Office, open_office, smtp

PEOPLE = ("jane@customer.test", "gone@reject.test")


@pytest.fixture
async def office(postgres_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    """Where two can write at once: SQLite has one writer."""
    async with _furnished(postgres_url, tmp_path) as made:
        yield made


@asynccontextmanager
async def _furnished(store_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(store_url, tmp_path) as made:
        await made.furnish(smtp(1))
        yield made


async def _answer(office: Office, ticket_id: int) -> int:
    return await office.answer(ticket_id, to=tuple(Address(address=address) for address in PEOPLE))


async def _doubtful_answer(office: Office, ticket_id: int) -> int:
    """An answer to two people whose connection broke after the final dot."""
    message_id = await _answer(office, ticket_id)
    await office.db.write(_die_in_doubt, office, message_id, len(PEOPLE))
    assert (await office.outbox(message_id))["state"] == "doubt"
    return message_id


def _claim(conn: Connection, office: Office, message_id: int) -> Claimed:
    row = outbox.lock(conn, message_id)
    (claimed,) = outbox.claim(conn, [row["id"]], owner="a", lease=timedelta(minutes=1), clock=office.clock)
    return claimed


def _die_in_doubt(conn: Connection, office: Office, message_id: int, count: int) -> Claimed:
    """Lose the lease between the final dot and its reply, in a try that so many recipients were taken in."""
    claimed = _claim(conn, office, message_id)
    ids = list(claimed.deliveries)[:count]
    crossed = outbox.cross_line_of_doubt(conn, office.keys, claimed, ids, clock=office.clock)
    outbox.sweep(conn, office.keys, clock=office.clock, is_sole_owner=True)
    return crossed


async def _at_once(office: Office, message_id: int) -> None:
    """One node has read that the second copy came back and not committed it; the other reads that the first arrived."""
    arrived, returned = [row["id"] for row in await office.db.read(deliveries.of_message, message_id)]
    is_read, may_commit = asyncio.Event(), asyncio.Event()

    def take_and_wait(conn: Connection) -> None:
        _take(conn, office, message_id, returned, Fact.DSN_FAILED)
        is_read.set()
        await_only(may_commit.wait())

    first = asyncio.create_task(office.db.write(take_and_wait), name="first")
    await is_read.wait()
    second = asyncio.create_task(office.db.write(_take, office, message_id, arrived, Fact.DSN_RELAYED), name="second")
    while not second.done() and not await office.db.read(_somebody_waits):  # noqa: ASYNC110  # it answers when asked
        await asyncio.sleep(0.02)
    may_commit.set()
    await asyncio.gather(first, second)


def _take(conn: Connection, office: Office, message_id: int, delivery_id: int, fact: Fact) -> None:
    """What a delivery report does."""
    now = office.clock.now()
    deliveries.record(conn, office.keys, delivery_id, Evidence(fact=fact, at=now, source="dsn"), now=now)
    deliveries.settle_outbox(conn, message_id)


def _somebody_waits(conn: Connection) -> bool:
    query = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return bool(conn.execute(sa.text(f"select exists({query})")).scalar_one())


async def _ticket(office: Office, ticket_id: int) -> Any:
    query = sa.select(schema.ticket.c.delivery_status).where(schema.ticket.c.id == ticket_id)
    return await office.db.read(lambda conn: conn.execute(query).scalar_one())


@pytest.mark.proves("F-S07", "F-N04", "R5.8")
async def test_ticket_shows_the_worst_of_two_fates_that_are_reported_at_once(office: Office) -> None:
    ticket_id = await office.ticket()
    message_id = await _doubtful_answer(office, ticket_id)
    await _at_once(office, message_id)
    assert {address: status for address, (status, _) in (await office.statuses(message_id)).items()} == {
        "jane@customer.test": "sent",
        "gone@reject.test": "not_delivered",
    }
    assert await _ticket(office, ticket_id) == "not_delivered"


@pytest.mark.proves("F-S07", "F-S08")
async def test_doubt_ends_when_both_of_its_fates_are_reported_at_once(office: Office) -> None:
    ticket_id = await office.ticket()
    message_id = await _doubtful_answer(office, ticket_id)
    await office.answer(ticket_id)  # a newer one: the ticket's own column is not this answer's any more
    await _at_once(office, message_id)
    assert (await office.outbox(message_id))["state"] == "done"


@pytest.mark.proves("F-S07", "F-S08")
async def test_doubt_that_ends_while_another_recipient_is_tried_is_over(store_url: str, tmp_path: Path) -> None:
    async with _furnished(store_url, tmp_path) as office:
        message_id = await _answer(office, await office.ticket())
        await office.db.write(_die_in_doubt, office, message_id, 1)  # the other was told to wait
        claimed = await office.db.write(_claim, office, message_id)
        doubtful, waiting = claimed.deliveries
        await office.db.write(_take, office, message_id, doubtful, Fact.DSN_RELAYED)
        now = office.clock.now()
        taken = Evidence(fact=Fact.ACCEPTED, round=claimed.round, attempt=claimed.attempt, at=now, source="smtp")
        await office.db.write(outbox.finish, office.keys, claimed, {waiting: taken}, retry_at=None, now=now)
        assert {status for status, _detail in (await office.statuses(message_id)).values()} == {"sent"}
        assert (await office.outbox(message_id))["state"] == "done"


@pytest.mark.proves("F-K23", "F-N05")
async def test_doubt_ends_with_the_reply_that_its_owner_reads_too_late(store_url: str, tmp_path: Path) -> None:
    async with _furnished(store_url, tmp_path) as office:
        message_id = await _answer(office, await office.ticket())
        sleeper = await office.db.write(_die_in_doubt, office, message_id, len(PEOPLE))
        now = office.clock.now()
        taken = Evidence(fact=Fact.ACCEPTED, round=sleeper.round, attempt=sleeper.attempt, at=now, source="smtp")
        facts = dict.fromkeys(sleeper.deliveries, taken)
        await office.db.write(outbox.finish, office.keys, sleeper, facts, retry_at=None, now=now)
        assert {status for status, _detail in (await office.statuses(message_id)).values()} == {"sent"}
        assert (await office.outbox(message_id))["state"] == "done"
