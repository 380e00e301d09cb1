"""Outbox to a local SMTP sink, against a bare loop over the same mails.

The bare loop renders them, sends them through an aiosmtplib pool of the same size and group-commits one row each.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosmtplib
import sqlalchemy as sa
import structlog
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import Connection

from core import contacts, tickets
from core.store.schema import outbox as outbox_table
from gateway.normalize.values import Address
from gateway.outbox.compose import OutgoingFile, OutgoingMail, compose
from gateway.outbox.send import Answer, Upload, commit, prepare
from tests.bench.house import ADDRESS, Bench, bench
from tests.bench.mails import Written, answers
from tests.bench.sink import sink

CONNECTIONS = 32
GROUP = 64


async def run(options: argparse.Namespace) -> AsyncIterator[dict[str, Any]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    given = list(answers(options.mails))
    with sink() as port:
        limit = await bare_loop(port, given)
        async with bench(smtp_port=port) as here:
            figure = await product(here, given)
    yield {
        "bench": "outbox",
        "mails_per_second": round(figure, 1),
        "limit": round(limit, 1),
        "ratio": round(figure / limit, 3),
        "mails": len(given),
    }


async def product(here: Bench, given: Sequence[Written]) -> float:
    """Mails a second from the first claim until the last one has its evidence."""
    house = here.house
    count = len(given)
    for start in range(0, count, 200):
        ids = await house.db.write(_tickets, here, range(start, min(count, start + 200)))
        prepared = [
            await prepare(
                house.db, house.blobs, house.keys, ticket_id, _answer(written), agent_id=here.agent_id, actor="b"
            )
            for ticket_id, written in zip(ids, given[start : start + 200], strict=True)
        ]
        await house.db.write_all([(commit, (house.keys, item), {"now": house.clock.now()}) for item in prepared])
    started = time.perf_counter()
    worker = asyncio.create_task(house.worker.run())
    while await house.db.read(_left):  # noqa: ASYNC110 - the store is the truth, and it is asked rarely
        await asyncio.sleep(0.05)
    took = time.perf_counter() - started
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    return count / took


def _tickets(conn: Connection, here: Bench, numbers: range) -> list[int]:
    now = here.house.clock.now()
    made = []
    for number in numbers:
        address = f"customer{number}@customer{number % 50}.test"
        person = contacts.find_or_add(conn, "email", address, address=address, name=f"Customer {number}", now=now)
        ticket_id = tickets.create(
            conn, subject="Where is my parcel?", department_id=here.view.department_id, contact_id=person.contact_id,
            channel_id=here.channel_id, language="en", now=now,
        )  # fmt: skip
        contacts.add_participant(conn, ticket_id, person.id, role="requester", is_confirmed=True)
        made.append(ticket_id)
    return made


def _left(conn: Connection) -> int:
    return int(conn.execute(sa.select(sa.func.count()).where(outbox_table.c.state != "done")).scalar_one())


def _answer(written: Written) -> Answer:
    files: tuple[Upload, ...] = ()
    if written.attachment is not None:
        files = (Upload(name="scan.pdf", content_type="application/pdf", content=written.attachment),)
    return Answer(text=written.text, html=written.html, files=files)


async def bare_loop(port: int, given: Sequence[Written]) -> float:
    pool: asyncio.Queue[aiosmtplib.SMTP] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False)
        await client.connect()
        pool.put_nowait(client)
    done: asyncio.Queue[tuple[int, asyncio.Future[None]]] = asyncio.Queue()
    with tempfile.TemporaryDirectory() as folder:
        committer = asyncio.create_task(_commit(Path(folder) / "bare.db", done))
        started = time.perf_counter()
        numbers = iter(enumerate(given))
        await asyncio.gather(*(_send(pool, done, numbers) for _ in range(GROUP)))
        took = time.perf_counter() - started
        committer.cancel()
        await asyncio.gather(committer, return_exceptions=True)
    while not pool.empty():
        await pool.get_nowait().quit()
    return len(given) / took


async def _send(
    pool: asyncio.Queue[aiosmtplib.SMTP], done: asyncio.Queue[tuple[int, asyncio.Future[None]]], numbers: Any
) -> None:
    for number, written in numbers:
        address = f"customer{number}@customer{number % 50}.test"
        content = compose(
            OutgoingMail(
                sender_address=ADDRESS,
                to=(Address(address=address),),
                subject="Re: Where is my parcel?",
                text=written.text,
                html=written.html,
                attachments=_files(written),
                message_id=f"m{number}@desk.test",
                date=datetime.now(UTC),
            )
        )
        client = await pool.get()
        await client.sendmail(ADDRESS, [address], content)
        pool.put_nowait(client)
        row: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.put_nowait((number, row))
        await row


def _files(written: Written) -> tuple[OutgoingFile, ...]:
    if written.attachment is None:
        return ()
    return (OutgoingFile(name="scan.pdf", content_type="application/pdf", content=written.attachment),)


async def _commit(path: Path, done: asyncio.Queue[tuple[int, asyncio.Future[None]]]) -> None:
    conn = sqlite.connect(path, isolation_level=None, check_same_thread=False)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("PRAGMA synchronous=FULL")
    conn.execute("CREATE TABLE sent (number INTEGER PRIMARY KEY, at TEXT)")
    while True:
        rows = [await done.get()]
        while not done.empty():
            rows.append(done.get_nowait())
        await asyncio.to_thread(_insert, conn, [number for number, _row in rows])
        for _number, row in rows:
            row.set_result(None)


def _insert(conn: Any, numbers: Sequence[int]) -> None:
    conn.execute("BEGIN IMMEDIATE")
    conn.executemany("INSERT INTO sent VALUES (?, datetime('now'))", [(number,) for number in numbers])
    conn.execute("COMMIT")
