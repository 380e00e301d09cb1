"""From ledger row to ticket: claim, read in a child, classify, and settle everything in one transaction (I7 to I9).

    received --claim (attempt counted, committed)--> child process --> Mail
      own copy | report -> evidence | automatic answer -> quiet entry | repeat | message -> ticket
    failure x3 -> quarantined

Rows of one channel are settled in the order in which they came, those beside a poisonous one too. A row that failed by
itself waits alone and holds up nobody behind it (P6).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection

from core import leases, ledger
from core.errors import Conflict
from core.failpoints import failpoint
from core.keys import Keys
from core.leases import Lease
from core.store.blobs import BlobDamaged, Blobs, LocalBlobs
from core.store.database import STORE_AWAY, Database, Job
from gateway.entering import ChannelView, Settled
from gateway.errors import LeaseLost
from gateway.live.hub import Hub, wait
from gateway.parsing import Parsed, ParserDied, Parsers, RawDamaged, Source
from gateway.settle import settle

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger("gatehouse.ingest")

BATCH = 64
SUSPECTS = 2  # rows with a failed attempt that are in hand at once: no more can be blamed for the next crash
CHUNKS_AHEAD = 20
CHUNKS_TOGETHER = 8  # that are settled in one commit
CHUNK = 8  # mails that one child reads in a row: fewer passes through the pipe
CHUNK_BYTES = 1_000_000  # of raws, so that what is read ahead stays small whatever the mails are
LATECOMER_SECONDS = 0.05  # for the chunk behind, while there is a backlog: fewer commits
POLL_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """A claimed row with its mail, and the files that wait in the spool."""

    work: ledger.Work
    parsed: Parsed


_Reading = tuple[Sequence[ledger.Work], asyncio.Task[list[Read]]]


class Ingest:
    """The reading side of one channel, under its lease."""

    def __init__(
        self,
        *,
        db: Database,
        blobs: Blobs,
        hub: Hub,
        keys: Keys,
        parsers: Parsers,
        view: ChannelView,
        lease: Lease,
        owed: set[int] | None = None,
    ) -> None:
        """``owed``: rows whose attempt was counted and came to nothing without a fault of theirs; the next reader of
        the channel takes the set over."""
        self._db = db
        self._blobs = blobs
        self._hub = hub
        self._keys = keys
        self._parsers = parsers
        self._view = view
        self._lease = lease
        self._alone: dict[int, asyncio.Task[None]] = {}
        self._owed = set() if owed is None else owed
        self._ahead: set[int] = set()  # rows that are being read in chunks, or wait to be settled
        self._reading: asyncio.Queue[_Reading] = asyncio.Queue(CHUNKS_AHEAD)

    async def run(self) -> None:
        """Work until cancelled. Raises LeaseLost."""
        now = self._db.clock.now()
        await self._give_back()
        await self._db.write(self._owned, ledger.quarantine_exhausted, self._view.channel_id, now=now)
        with self._hub.subscribe(f"ledger:{self._view.channel_id}") as waiter:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._settle_in_order(), name=f"settle-{self._view.channel_id}")
                    while True:
                        if not await self.run_once(group):
                            await wait(waiter, POLL_SECONDS)
            except asyncio.CancelledError:
                self._owed.update(self._ahead)
                try:
                    await self._give_back()
                except STORE_AWAY as error:
                    log.warning("ingest.attempts_owed", rows=len(self._owed), error=type(error).__name__)
                raise
            except ExceptionGroup as error:
                if error.subgroup(STORE_AWAY) and not error.subgroup(LeaseLost):
                    self._owed.update(self._ahead)
                raise

    async def run_once(self, group: asyncio.TaskGroup) -> int:
        """Claim one batch and have it read in tasks of ``group``; return how many rows were claimed.

        Waits while enough is read ahead, so that memory stays flat however long the backlog is.
        """
        claiming = asyncio.ensure_future(self._db.write(self._claim, list(self._alone), list(self._ahead)))
        try:
            works = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            self._ahead.update(work.id for work in await claiming)
            raise
        if not works:
            return 0
        failpoint("I7")
        if works[0].attempts > 1:
            self._read_alone(group, works)
            return len(works)
        for chunk in _chunks(works):
            self._ahead.update(work.id for work in chunk)
            await self._reading.put((chunk, group.create_task(self._read_chunk(chunk))))
        return len(works)

    async def _give_back(self) -> None:
        """A stop, or a store that was away, is no fault of the mails in hand: their attempt does not count."""
        if self._owed:
            await self._db.write(self._owned, ledger.give_back, list(self._owed))
            self._owed.clear()

    async def _settle_in_order(self) -> None:
        """Settle what was read in the order in which it came in, while more is being read."""
        while True:
            chunks = [await self._reading.get()]
            await asyncio.wait([chunks[0][1]])
            while len(chunks) < CHUNKS_TOGETHER and await self._is_next_read():
                chunks.append(self._reading.get_nowait())
            await self._settle([read for _chunk, reading in chunks for read in reading.result()])
            self._ahead.difference_update(work.id for chunk, _reading in chunks for work in chunk)
            if self._reading.empty():
                self._hub.wake(f"ledger:{self._view.channel_id}")

    async def _is_next_read(self) -> bool:
        """Whether the next chunk in line is ready too, or will be at once: then it goes into the same commit."""
        waiting: deque[_Reading] = self._reading._queue  # type: ignore[attr-defined]  # asyncio.Queue cannot be peeked
        if not waiting:
            return False
        await asyncio.wait([waiting[0][1]], timeout=LATECOMER_SECONDS)
        return waiting[0][1].done()

    def _claim(self, conn: Connection, alone: Sequence[int], ahead: Sequence[int]) -> list[ledger.Work]:
        self._check_lease(conn)
        now = self._db.clock.now()
        most = 0 if len(alone) >= SUSPECTS else ledger.MAX_ATTEMPTS - 1
        if alone:  # the last attempt is made beside no other suspect: a death is then blamed on the right one
            most = min(most, ledger.MAX_ATTEMPTS - 2)
        busy = [*alone, *ahead]
        return ledger.claim(conn, self._view.channel_id, limit=BATCH, now=now, busy=busy, most=most)

    async def _read_chunk(self, works: Sequence[ledger.Work]) -> list[Read]:
        """Read rows in one child. Where one of them ends it, each is read alone at once: the others keep their turn."""
        try:
            parsed = await self._parsers.parse(await self._sources(works))
        except (ParserDied, RawDamaged, BlobDamaged):
            again = await self._db.write(self._owned, ledger.count_again, [work.id for work in works])
            tried = await asyncio.gather(*(self._read_or_fail(work) for work in again))
            return [read for read in tried if read is not None]
        return [Read(work=work, parsed=item) for work, item in zip(works, parsed, strict=True)]

    def _read_alone(self, group: asyncio.TaskGroup, works: Sequence[ledger.Work]) -> None:
        for work in works:
            task = group.create_task(self._read_one(work), name=f"ingest-alone-{work.id}")
            self._alone[work.id] = task
            task.add_done_callback(partial(self._end_alone, work.id))

    def _end_alone(self, ledger_id: int, task: asyncio.Task[None]) -> None:
        self._alone.pop(ledger_id, None)
        if task.cancelled() or isinstance(task.exception(), STORE_AWAY):
            self._owed.add(ledger_id)
        self._hub.wake(f"ledger:{self._view.channel_id}")

    async def _read_one(self, work: ledger.Work) -> None:
        read = await self._read_or_fail(work)
        if read is not None:
            await self._settle([read])

    async def _read_or_fail(self, work: ledger.Work) -> Read | None:
        """Read a row that is alone in its child; None when that failed, which is noted."""
        try:
            parsed = await self._parsers.parse(await self._sources([work]))
        except (ParserDied, RawDamaged, BlobDamaged) as error:
            await self._fail(work, str(error))
            return None
        return Read(work=work, parsed=parsed[0])

    async def _sources(self, works: Sequence[ledger.Work]) -> list[Source]:
        small = await self._db.read(ledger.read_small_many, [work.raw_digest for work in works])
        return [await self._source(work.raw_digest, small.get(work.raw_digest)) for work in works]

    async def _source(self, digest: str, small: bytes | None) -> Source:
        if small is None and isinstance(self._blobs, LocalBlobs):
            return Source(digest=digest, path=self._blobs.path(digest))
        return Source(digest=digest, content=small if small is not None else await self._blobs.get(digest))

    async def _settle(self, reads: Sequence[Read]) -> None:
        """Keep the files, then commit each row's outcome (COMMIT 2); tell whoever waits."""
        files = [
            (path, item.sha256)
            for read in reads
            for path, item in zip(read.parsed.spooled, read.parsed.mail.attachments, strict=True)
        ]
        await asyncio.gather(*(self._blobs.adopt(path, digest) for path, digest in files))
        failpoint("I8")
        jobs: list[Job] = [(self._settle_one, (read,), {}) for read in reads]
        for read, result in zip(reads, await self._db.write_all(jobs), strict=True):
            if isinstance(result, LeaseLost):
                raise result
            if isinstance(result, Conflict):
                log.info("ingest.ended_elsewhere", ledger=read.work.id)
            elif isinstance(result, BaseException):
                log.error("ingest.failed", ledger=read.work.id, exc_info=result)
                await self._fail(read.work, f"storing it failed: {type(result).__name__}")
            else:
                log.info("ingest.settled", ledger=read.work.id, outcome=result.outcome, ticket=result.ticket_id)
        failpoint("I9")
        self._hub.wake("events", "outbox")
        failpoint("I10")

    def _settle_one(self, conn: Connection, read: Read) -> Settled:
        self._check_lease(conn)
        return settle(
            conn, self._keys, self._view, read.work, read.parsed.mail, sizes=read.parsed.sizes, now=self._db.clock.now()
        )

    async def _fail(self, work: ledger.Work, reason: str) -> None:
        is_last = await self._db.write(self._owned, ledger.fail, work.id, reason, now=self._db.clock.now())
        log.warning("ingest.quarantined" if is_last else "ingest.attempt_failed", ledger=work.id, reason=reason)
        self._hub.wake("events")

    def _owned(
        self, conn: Connection, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Change a row only as its owner: a sleeper that wakes may not count against what another node reads now."""
        self._check_lease(conn)
        return function(conn, *args, **kwargs)

    def _check_lease(self, conn: Connection) -> None:
        if not leases.holds(conn, self._lease, clock=self._db.clock):
            raise LeaseLost(f"another node owns channel {self._view.channel_id}")


def _chunks(works: Sequence[ledger.Work]) -> Iterator[Sequence[ledger.Work]]:
    """Cut a batch into runs that are small by number and by bytes; a large mail stands alone."""
    chunk: list[ledger.Work] = []
    for work in works:
        if chunk and (len(chunk) == CHUNK or sum(item.raw_bytes for item in chunk) + work.raw_bytes > CHUNK_BYTES):
            yield chunk
            chunk = []
        chunk.append(work)
    if chunk:
        yield chunk
