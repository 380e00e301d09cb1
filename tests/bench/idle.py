"""From the IDLE push of a Dovecot mailbox to the committed ticket.

The push is timed by a relay between Dovecot and the gateway, because each IDLE connection is told at its own moment.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
import structlog
from pydantic import SecretStr
from sqlalchemy import Connection

from core.store.schema import channel, ticket
from gateway.app import House, running
from gateway.channels.email_config import EmailConfig, Imap
from tests.bench.house import ADDRESS, open_bench_house, seed
from tests.servers.dovecot import Dovecot

MAILS = 100
WARM = 3
LIMIT_SECONDS = 0.050
USER, PASSWORD = "support", "secret"


async def run(options: argparse.Namespace) -> AsyncIterator[dict[str, Any]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with Dovecot(users={USER: PASSWORD}) as server:
        async with Relay(server.imap_port).listening() as relay, open_bench_house() as house:
            imap = Imap(host="127.0.0.1", port=relay.port, security="plain", user=USER, password=SecretStr(PASSWORD))
            await house.db.write(seed, house, EmailConfig(address=ADDRESS, imap=imap))
            async with running(house):
                waits = sorted(await _measure(house, server, relay))
    p99 = waits[int(len(waits) * 0.99)]
    yield {
        "bench": "idle",
        "p50_ms": round(waits[len(waits) // 2] * 1000, 1),
        "p99_ms": round(p99 * 1000, 1),
        "max_ms": round(waits[-1] * 1000, 1),
        "limit_ms": LIMIT_SECONDS * 1000,
        "ratio": round(p99 / LIMIT_SECONDS, 3),
        "mails": len(waits),
    }


class Relay:
    """Passes bytes on and notes when the server last said EXISTS."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = 0
        self.pushed_at = 0.0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Relay]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            await asyncio.gather(self._pass(reader, ours), self._pass(theirs, writer, is_server=True))
        finally:
            ours.close()
            writer.close()

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_server: bool = False
    ) -> None:
        while data := await source.read(65536):
            if is_server and b" EXISTS" in data:
                self.pushed_at = time.perf_counter()
            target.write(data)
        target.close()


async def _measure(house: House, server: Dovecot, relay: Relay) -> list[float]:
    waits = []
    with house.hub.subscribe("events") as woken:
        while not await house.db.read(_is_listening):  # noqa: ASYNC110 - the store is the truth
            await asyncio.sleep(0.1)
        await asyncio.sleep(3)  # the first IDLE after connecting is a short one
        for number in range(MAILS + WARM):
            head = f"From: a{number}@customer.test\r\nSubject: {number}\r\nMessage-ID: <i{number}@c.test>"
            await asyncio.to_thread(server.deliver, USER, f"{head}\r\n\r\nhello\r\n".encode())
            async with asyncio.timeout(30):
                while await house.db.read(_tickets) <= number:
                    await woken.wait()
                    woken.clear()
            if number >= WARM:
                waits.append(time.perf_counter() - relay.pushed_at)
    return waits


def _tickets(conn: Connection) -> int:
    return int(conn.execute(sa.select(sa.func.count()).select_from(ticket)).scalar_one())


def _is_listening(conn: Connection) -> bool:
    return conn.execute(sa.select(channel.c.id).where(channel.c.in_state == "working")).first() is not None
