"""One owner per channel: a lease, a listener and a reader, restarted with growing delay (P6, P8).

A channel's delay is forgotten only after its listener has survived for a while: one that starts and falls at once keeps
growing it. What a person has to mend (login, TLS, a folder) is tried rarely, what mends itself often (F-M09).
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from core import channels, leases
from core.channels import Channel
from core.errors import NotFound
from core.failpoints import failpoint
from core.keys import Keys, KeyUnusable
from core.leases import Lease
from core.store.blobs import Blobs
from core.store.database import STORE_AWAY, Database
from core.store.schema import department
from gateway.accounts import Accounts, own_keys
from gateway.channels import email_imap
from gateway.channels.email_config import EmailConfig
from gateway.entering import ChannelView
from gateway.errors import ChannelError, ChannelMisconfigured, LeaseLost
from gateway.ingest import Ingest
from gateway.journal import ChannelJournal
from gateway.live.hub import Hub, wait
from gateway.outbox.schedule import Backoff, survived
from gateway.parsing import Parsers

log = structlog.get_logger("gatehouse.supervisor")

LEASE = timedelta(seconds=30)
RENEW_SECONDS = 8.0
LOOK_SECONDS = 5.0
SURVIVED = timedelta(seconds=60)
#: Connection trouble mends itself: service is back within a minute of the end of a fault (P8).
TROUBLE = Backoff(initial=timedelta(seconds=1), factor=2.0, cap=timedelta(seconds=45))
#: A refused login is not hammered.
FAULT = Backoff(initial=timedelta(seconds=15), factor=2.0, cap=timedelta(minutes=30))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Running:
    version: int
    task: asyncio.Task[None]
    nudge: asyncio.Event


class Supervisor:
    """Runs every enabled channel that no other node runs."""

    def __init__(
        self,
        *,
        db: Database,
        blobs: Blobs,
        hub: Hub,
        keys: Keys,
        parsers: Parsers,
        accounts: Accounts,
        node: str,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._hub = hub
        self._keys = keys
        self._parsers = parsers
        self._accounts = accounts
        self._node = node
        self._rng = rng
        self._running: dict[int, _Running] = {}
        self._owed: defaultdict[int, set[int]] = defaultdict(set)  # channel -> rows whose attempt is to be given back

    async def run(self) -> None:
        """Start, restart and stop channels as their configuration says, until cancelled."""
        try:
            with self._hub.subscribe("channels") as waiter:
                while True:
                    await self._look()
                    await wait(waiter, LOOK_SECONDS)
        finally:
            await self._stop(list(self._running))

    def poll_now(self, channel_id: int) -> bool:
        """Ask a channel's listener to look for mail at once; False when it runs elsewhere or not at all."""
        running = self._running.get(channel_id)
        if running is not None:
            running.nudge.set()
        return running is not None

    async def _look(self) -> None:
        try:
            wanted = await self._db.read(channels.versions)
        except STORE_AWAY as error:  # what runs goes on, and we look again
            log.warning("supervisor.store_unreachable", error=str(error))
            return
        await self._adjust(wanted)

    async def _adjust(self, wanted: dict[int, int]) -> None:
        stale = [
            channel_id
            for channel_id, running in self._running.items()
            if wanted.get(channel_id) != running.version or running.task.done()
        ]
        await self._stop(stale)
        for channel_id, version in wanted.items():
            if channel_id not in self._running:
                nudge = asyncio.Event()
                task = asyncio.create_task(self._run_channel(channel_id, nudge), name=f"channel-{channel_id}")
                self._running[channel_id] = _Running(version=version, task=task, nudge=nudge)

    async def _stop(self, channel_ids: list[int]) -> None:
        stopped = [self._running.pop(channel_id).task for channel_id in channel_ids]
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)

    async def _run_channel(self, channel_id: int, nudge: asyncio.Event) -> None:
        """Own the channel whenever nobody else does."""
        while True:
            try:
                held = await self._db.write(
                    leases.acquire, f"channel:{channel_id}", self._node, length=LEASE, clock=self._db.clock
                )
                if held is not None:
                    failpoint("I0")
                    await self._own(channel_id, held, nudge)
            except Exception as error:  # the edge of a channel: nothing that happens to it may stop another (P6)
                log.exception("channel.failed", channel=channel_id, error=type(error).__name__)
            _keep_cancelled()
            await asyncio.sleep(LOOK_SECONDS)

    async def _own(self, channel_id: int, held: Lease, nudge: asyncio.Event) -> None:
        try:
            found, config = await self._accounts.channel(channel_id)
            view = await self._db.read(_view, found, config)
        except (ValueError, NotFound, KeyUnusable) as error:
            await self._report(channel_id, "failing", "configuration", str(error))
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(held), name=f"lease-{channel_id}")
                ingest = Ingest(
                    db=self._db, blobs=self._blobs, hub=self._hub, keys=self._keys, parsers=self._parsers,
                    view=view, lease=held, owed=self._owed[channel_id],
                )  # fmt: skip
                group.create_task(ingest.run(), name=f"ingest-{channel_id}")
                if config.imap is None:
                    await self._report(channel_id, "off", "", "no mailbox is configured")
                else:
                    group.create_task(self._listen(found, config, held, nudge), name=f"listen-{channel_id}")
        except* LeaseLost:
            log.warning("channel.lease_lost", channel=channel_id)
        finally:
            await asyncio.shield(self._db.write(leases.release, held, clock=self._db.clock))

    async def _keep(self, held: Lease) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if not await self._db.write(leases.renew, held, length=LEASE, clock=self._db.clock):
                raise LeaseLost(held.name)

    async def _listen(self, found: Channel, config: EmailConfig, held: Lease, nudge: asyncio.Event) -> None:
        assert config.imap is not None
        journal = ChannelJournal(
            db=self._db, blobs=self._blobs, hub=self._hub, channel_id=found.id, account=found.account, lease=held,
            marks=config.imap.after != "leave", moved_to=config.imap.move_to if config.imap.after == "move" else None,
        )  # fmt: skip
        tokens = self._accounts.tokens(found, config.imap, "imap")
        failures = 0
        while True:
            started_at = self._db.clock.now()
            try:
                await email_imap.listen(config, journal, tokens=tokens, nudge=nudge)
            except* ChannelError as errors:
                error = _first(errors)
            _keep_cancelled()
            now = self._db.clock.now()
            failures = 1 if survived(started_at, now, SURVIVED) else failures + 1
            is_fault = isinstance(error, ChannelMisconfigured)
            state = "failing" if is_fault or failures > 3 else "delayed"
            log.warning("channel.trouble", channel=found.id, state=state, code=error.code, failures=failures)
            await self._report(found.id, state, error.code, str(error))
            delay = (FAULT if is_fault else TROUBLE).delay(failures, self._rng)
            nudge.clear()
            await wait(nudge, max(delay, error.retry_after or delay).total_seconds())

    async def _report(self, channel_id: int, state: str, code: str, text: str) -> None:
        now = self._db.clock.now()
        await self._db.write(channels.report_state, channel_id, "in", state, code=code, text=text, now=now)
        self._hub.wake("events")


def _view(conn: Connection, found: Channel, config: EmailConfig) -> ChannelView:
    reopen_days = conn.execute(
        sa.select(department.c.reopen_days).where(department.c.id == found.department_id)
    ).scalar_one()
    return ChannelView(
        channel_id=found.id,
        kind=found.kind,
        department_id=found.department_id,
        reopen_days=reopen_days,
        own_keys=own_keys(config),
        authserv_id=config.imap.authserv_id if config.imap else None,
    )


def _keep_cancelled() -> None:
    """A task group that fails while it is being cancelled raises only its errors: who handles them must still end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _first(errors: BaseExceptionGroup[ChannelError]) -> ChannelError:
    """The trouble to act on: what a person has to mend counts more than what passes."""
    flat: list[ChannelError] = []

    def collect(group: BaseExceptionGroup[ChannelError]) -> None:
        for item in group.exceptions:
            if isinstance(item, BaseExceptionGroup):
                collect(item)
            else:
                flat.append(item)

    collect(errors)
    return next((item for item in flat if isinstance(item, ChannelMisconfigured)), flat[0])
