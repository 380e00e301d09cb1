"""The composition root: the one file that knows everything and decides nothing. What it opens it closes, in reverse."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from core import keys as core_keys
from core.clock import Clock
from core.keys import Keys
from core.store.blobs import Blobs, open_blobs
from core.store.database import PostgresDatabase, SqliteDatabase, open_database
from core.store.migrate import upgrade
from gateway import housekeeping
from gateway.accounts import Accounts
from gateway.config import Config
from gateway.live.hub import Hub
from gateway.outbox.worker import OutboxWorker
from gateway.parsing import Parsers
from gateway.supervisor import Supervisor

log = structlog.get_logger("gatehouse.app")

STOP_SECONDS = 15.0
#: The store's writer lets go of the interpreter at each query; at the default of 5 ms it waits longer than it works.
SWITCH_SECONDS = 0.00005


@dataclass(frozen=True, kw_only=True, slots=True)
class House:
    """Everything that runs, opened and wired."""

    config: Config
    clock: Clock
    db: SqliteDatabase | PostgresDatabase
    blobs: Blobs
    keys: Keys
    hub: Hub
    parsers: Parsers
    accounts: Accounts
    supervisor: Supervisor
    worker: OutboxWorker
    node: str


@asynccontextmanager
async def open_house(config: Config, *, clock: Clock | None = None) -> AsyncIterator[House]:
    """Open store, blobs, key and processes; nothing listens or sends yet. Raises StoreError, KeyUnusable."""
    clock = clock or Clock()
    node = config.node or f"{socket.gethostname()}:{os.getpid()}"
    async with AsyncExitStack() as stack:
        sys.setswitchinterval(SWITCH_SECONDS)
        db = open_database(config.store, clock=clock, node=node)
        stack.push_async_callback(db.close)
        before, after = await upgrade(db)
        if before != after:
            log.info("store.migrated", before=before, after=after)
        keys = core_keys.load_or_make(config.key_file)
        await db.write(core_keys.check_owner, keys)
        blobs = open_blobs(config.blobs)
        stack.callback(blobs.close)
        hub = Hub()
        parsers = Parsers(count=config.parsers, spool=blobs.spool)
        stack.push_async_callback(parsers.close)
        await parsers.warm_up()
        accounts = Accounts(db=db, keys=keys)
        stack.push_async_callback(accounts.close)
        yield House(
            config=config,
            clock=clock,
            db=db,
            blobs=blobs,
            keys=keys,
            hub=hub,
            parsers=parsers,
            accounts=accounts,
            supervisor=Supervisor(
                db=db, blobs=blobs, hub=hub, keys=keys, parsers=parsers, accounts=accounts, node=node
            ),
            worker=OutboxWorker(
                db=db,
                blobs=blobs,
                hub=hub,
                keys=keys,
                roads=accounts,
                node=node,
                is_sole_owner=isinstance(db, SqliteDatabase),
            ),
            node=node,
        )


@asynccontextmanager
async def running(house: House) -> AsyncIterator[asyncio.Future[None]]:
    """Run listeners, outbox and housekeeping; the future ends when one of them, or the store, has failed for good.

    On the way out nothing new is taken or claimed, and what is being handed over may end (F-V04).
    """
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tasks = [
        asyncio.create_task(house.supervisor.run(), name="supervisor"),
        asyncio.create_task(house.worker.run(), name="outbox"),
        asyncio.create_task(_watch_store(house), name="store-watch"),
        asyncio.create_task(housekeeping.keep(house.db), name="housekeeping"),
    ]
    if isinstance(house.db, PostgresDatabase):
        tasks.append(asyncio.create_task(house.db.end_sleepers(), name="store-sleepers"))
    for task in tasks:
        task.add_done_callback(lambda ended: _note_end(ended, failed))
    try:
        yield failed
    finally:
        tasks[0].cancel()
        try:
            await house.worker.drain(STOP_SECONDS)
        except TimeoutError:
            log.warning("outbox.not_drained", seconds=STOP_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        failed.cancel()


async def _watch_store(house: House) -> None:
    """After an I/O error nothing that the page cache says can be trusted: the process has to end (F-D03)."""
    await house.db.broken.wait()
    raise RuntimeError("the store failed; see the log. Nothing taken is lost; start the program again")


def _note_end(ended: asyncio.Task[None], failed: asyncio.Future[None]) -> None:
    if failed.done() or ended.cancelled():
        return
    error = ended.exception()
    if error is not None:
        failed.set_exception(error)
