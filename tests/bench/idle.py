"""From the IDLE push of a Dovecot mailbox to the committed ticket.

The push is seen by a second, bare IDLE connection.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aioimaplib
import sqlalchemy as sa
import structlog
from pydantic import SecretStr
from sqlalchemy import Connection

from core.store.schema import channel, ticket
from gateway.app import House, running
from gateway.channels.email_config import EmailConfig, Imap
from tests.bench.house import ADDRESS, open_bench_house, seed
from tests.servers.dovecot import Dovecot

MAILS = 200
WARM = 5
USER, PASSWORD = "support", "secret"


async def run(options: argparse.Namespace) -> AsyncIterator[dict[str, Any]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with Dovecot(users={USER: PASSWORD}) as server:
        imap = Imap(host="127.0.0.1", port=server.imap_port, security="plain", user=USER, password=SecretStr(PASSWORD))
        async with open_bench_house() as house:
            await house.db.write(seed, house, EmailConfig(address=ADDRESS, imap=imap))
            async with running(house):
                waits = await _measure(house, server)
    waits.sort()
    yield {
        "bench": "idle",
        "p50_ms": round(waits[len(waits) // 2] * 1000, 1),
        "p99_ms": round(waits[int(len(waits) * 0.99)] * 1000, 1),
        "max_ms": round(waits[-1] * 1000, 1),
        "limit": "50 ms at p99",
        "ratio": round(waits[int(len(waits) * 0.99)] / 0.050, 3),
        "mails": len(waits),
    }


async def _measure(house: House, server: Dovecot) -> list[float]:
    watch = aioimaplib.IMAP4("127.0.0.1", server.imap_port)
    await watch.wait_hello_from_server()
    await watch.login(USER, PASSWORD)
    await watch.select("INBOX")
    idling = await watch.idle_start(timeout=1500)
    waits = []
    with house.hub.subscribe("events") as woken:
        while not await house.db.read(_is_listening):  # noqa: ASYNC110 - the store is the truth
            await asyncio.sleep(0.1)
        await asyncio.sleep(3)  # the first IDLE after connecting is a short one
        for number in range(MAILS + WARM):
            raw = (
                f"From: a{number}@customer.test\r\nSubject: {number}\r\nMessage-ID: <i{number}@c.test>\r\n\r\nhello\r\n"
            )
            await asyncio.to_thread(server.deliver, USER, raw.encode())
            while b"EXISTS" not in b" ".join(map(bytes, await watch.wait_server_push(30))):
                pass
            pushed = time.perf_counter()
            while await house.db.read(_tickets) <= number:
                woken.clear()
                async with asyncio.timeout(30):
                    await woken.wait()
            if number >= WARM:
                waits.append(max(0.0, time.perf_counter() - pushed))
    watch.idle_done()
    await asyncio.wait_for(idling, 10)
    await watch.logout()
    return waits


def _tickets(conn: Connection) -> int:
    return int(conn.execute(sa.select(sa.func.count()).select_from(ticket)).scalar_one())


def _is_listening(conn: Connection) -> bool:
    return conn.execute(sa.select(channel.c.id).where(channel.c.in_state == "working")).first() is not None
