"""The journal: raw bytes and ledger row, durable, and only then "taken" (FAULTS section 3, I4 and I5).

One journal serves one channel under one lease. Every commit checks the lease in the same transaction, so that an owner
that slept past it takes nothing more (F-N04).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from core import channels, leases, ledger
from core.failpoints import failpoint
from core.leases import Lease
from core.store.blobs import Blobs
from core.store.database import Database
from core.store.raws import keep_raw
from gateway.channels.contract import Known, Offered, Place, Trouble
from gateway.errors import LeaseLost
from gateway.live.hub import Hub

log = structlog.get_logger("gatehouse.journal")

REASONS = {
    Trouble.GONE: "gone from the server before it could be fetched",
    Trouble.COULD_NOT_FETCH: "could not fetch",
    Trouble.TOO_LARGE: "larger than the limit: the head was read, the rest is still on the server",
}


class ChannelJournal:
    """``gateway.channels.contract.Journal`` over the store."""

    def __init__(
        self,
        *,
        db: Database,
        blobs: Blobs,
        hub: Hub,
        channel_id: int,
        account: str,
        lease: Lease,
        marks: bool,
        moved_to: str | None = None,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._hub = hub
        self._channel_id = channel_id
        self._account = account
        self._lease = lease
        self._marks = marks
        self._moved_to = moved_to  # what is there already is not moved there again

    async def known(self, place: Place) -> Known:
        failpoint("I2")
        final, gaps = await self._db.read(
            ledger.known, self._channel_id, self._account, place.folder, place.uidvalidity
        )
        return Known(uids=frozenset(final), gaps=gaps)

    async def take(self, items: Sequence[Offered]) -> None:
        failpoint("I3")
        arrivals = await asyncio.gather(*(self._arrival(item) for item in items))
        failpoint("I4")
        await self._db.write(self._record, arrivals)
        failpoint("I5")
        self._hub.wake(f"ledger:{self._channel_id}")

    async def unmarked(self, place: Place) -> list[int]:
        return await self._db.read(ledger.unmarked, self._channel_id, self._account, place.folder, place.uidvalidity)

    async def marked(self, place: Place, uids: Sequence[int]) -> None:
        failpoint("I6")
        await self._db.write(
            ledger.marked, self._channel_id, self._account, place.folder, place.uidvalidity, list(uids)
        )

    async def proven(self) -> None:
        failpoint("I1")
        await self._db.write(self._proven)

    async def trouble(self, code: str, text: str) -> None:
        log.warning("channel.trouble", channel=self._channel_id, code=code, text=text)
        await self._db.write(
            channels.report_state, self._channel_id, "in", "delayed", code=code, text=text, now=self._db.clock.now()
        )

    async def _arrival(self, item: Offered) -> ledger.Arrival:
        at = ledger.Arrival(
            folder=item.place.folder, uidvalidity=item.place.uidvalidity, uid=item.uid, raw_bytes=item.size_bytes
        )
        if item.trouble is Trouble.GONE:
            return replace(at, state="done", outcome="skipped", reason=REASONS[Trouble.GONE])
        if item.raw is None:
            return replace(at, state="gap", reason=REASONS[Trouble.COULD_NOT_FETCH], excerpt=item.excerpt)
        digest, small = await keep_raw(self._blobs, item.raw)
        return replace(
            at,
            raw_digest=digest,
            small_raw=small,
            internal_at=item.internal_at,
            reason=REASONS[item.trouble] if item.trouble else "",
            excerpt=item.excerpt,
            mark=self._mark(item),
        )

    def _mark(self, item: Offered) -> str:
        is_marked = self._marks and not item.trouble and item.place.folder != self._moved_to
        return "pending" if is_marked else "none"

    def _record(self, conn: Connection, arrivals: Sequence[ledger.Arrival]) -> None:
        self._check_lease(conn)
        now = self._db.clock.now()
        ledger.record(conn, self._channel_id, self._account, arrivals, fence=self._lease.fence, now=now)

    def _proven(self, conn: Connection) -> None:
        self._check_lease(conn)
        channels.proven(conn, self._channel_id, now=self._db.clock.now())

    def _check_lease(self, conn: Connection) -> None:
        if not leases.holds(conn, self._lease, clock=self._db.clock):
            raise LeaseLost(f"another node owns channel {self._channel_id}")
