"""Sustained mail-to-ticket ingest on SQLite with FULL durability, against a bare loop with the same parser.

The bare loop reads, parses, threads in a dict and commits one row a mail, 64 a transaction; it keeps no raw bytes, no
attachments, no ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import structlog
from pysqlite3 import dbapi2 as sqlite

from gateway.channels.contract import Offered, Place
from gateway.normalize.mail import read_mail
from tests.bench.house import Bench, bench
from tests.bench.mails import mails, sizes

WINDOW = 50
GROUP = 64
#: django-helpdesk's importer on a machine of two cores (measured elsewhere): what 10 times is counted from.
DJANGO_HELPDESK = 55.0


async def run(options: argparse.Namespace) -> AsyncIterator[dict[str, Any]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    given = list(mails(options.mails))
    limit = await asyncio.to_thread(bare_loop, given)
    async with bench() as here:
        figure = await product(here, given)
    yield {
        "bench": "ingest",
        "mails_per_second": round(figure, 1),
        "limit": round(limit, 1),
        "ratio": round(figure / limit, 3),
        "times_django_helpdesk": round(figure / DJANGO_HELPDESK, 1),
        "mails": sizes(given),
    }


async def product(here: Bench, given: Sequence[bytes]) -> float:
    """Mails a second from the first take until the last one is a ticket message."""
    place = Place(folder="INBOX", uidvalidity=1)
    journal = here.journal()
    reading = asyncio.create_task(here.ingest().run())
    started = time.perf_counter()
    for start in range(0, len(given), WINDOW):
        window = given[start : start + WINDOW]
        await journal.take(
            [
                Offered(place=place, uid=start + number + 1, raw=raw, size_bytes=len(raw))
                for number, raw in enumerate(window)
            ]
        )
    while await here.settled() < len(given):  # noqa: ASYNC110 - the store is the truth, and it is asked rarely
        await asyncio.sleep(0.05)
    took = time.perf_counter() - started
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return len(given) / took


def bare_loop(given: Sequence[bytes]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        conn = sqlite.connect(Path(folder) / "bare.db", isolation_level=None)
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("PRAGMA synchronous=FULL")
        conn.execute(
            "CREATE TABLE message (id INTEGER PRIMARY KEY, ticket INTEGER, sender TEXT, subject TEXT, text TEXT)"
        )
        tickets: dict[str, int] = {}
        started = time.perf_counter()
        for start in range(0, len(given), GROUP):
            conn.execute("BEGIN IMMEDIATE")
            for raw in given[start : start + GROUP]:
                mail = read_mail(raw)
                known = next((tickets[name] for name in reversed(mail.references) if name in tickets), None)
                ticket = known or len(tickets) + 1
                tickets[mail.message_id or ""] = ticket
                sender = mail.sender.address if mail.sender else ""
                conn.execute(
                    "INSERT INTO message (ticket, sender, subject, text) VALUES (?, ?, ?, ?)",
                    (ticket, sender, mail.subject, mail.text),
                )
            conn.execute("COMMIT")
        took = time.perf_counter() - started
        conn.close()
    return len(given) / took
