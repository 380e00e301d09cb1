"""What nobody needs any more is removed now and then: counters, sessions and stored answers whose time is over.

Every node does it; doing it twice is the same as once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog
from sqlalchemy import Connection

from core import sessions, throttle
from core.store.database import STORE_AWAY, Database
from gateway.web import idempotency

log = structlog.get_logger("gatehouse.housekeeping")

EVERY_SECONDS = 900.0
#: Each removes what is over at a moment, and returns how many rows that were.
CHORES: Mapping[str, Callable[[Connection, datetime], int]] = {
    "throttle": throttle.forget,
    "session": sessions.forget,
    "idempotency": idempotency.forget,
}


async def keep(db: Database, *, every: float = EVERY_SECONDS) -> None:
    """Tidy up every so many seconds, until cancelled; a start has better things to do. A store that is away is
    asked again.
    """
    while True:
        await asyncio.sleep(every)
        try:
            await tidy(db)
        except STORE_AWAY as error:
            log.warning("housekeeping.store_unreachable", error=type(error).__name__)


async def tidy(db: Database) -> dict[str, int]:
    """Do every chore once, each in a transaction of its own; return how many rows each removed."""
    removed = {name: await db.write(chore, db.clock.now()) for name, chore in CHORES.items()}
    if any(removed.values()):
        log.info("housekeeping.removed", **removed)
    return removed
