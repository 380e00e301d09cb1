"""Handing answers over: claim, connect, cross the line of doubt, interpret, record (FAULTS section 4).

Before the line everything may be tried again; after it nothing is, unless a person says so. Every outcome becomes
evidence, and the status is computed from that (``core.deliveries``).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import sqlalchemy as sa
import structlog
from pydantic import ValidationError
from sqlalchemy import Connection

from core import channels, outbox
from core.delivery import Evidence, Fact
from core.errors import Conflict
from core.failpoints import failpoint
from core.keys import Keys
from core.outbox import Claimed, Waiting
from core.store.blobs import BlobDamaged, Blobs
from core.store.database import STORE_AWAY, Database, StoreError
from core.store.schema import channel
from gateway.channels.contract import Handover, Outcome, OutcomeKind, Sender
from gateway.channels.email_config import EmailConfig
from gateway.live.hub import Hub, wait
from gateway.normalize import tokens
from gateway.normalize.tokens import Purpose, Token
from gateway.outbox.evidence import of_outcome
from gateway.outbox.limits import Due, Limit, Pacer
from gateway.outbox.schedule import Backoff, RetryPolicy, later, next_attempt_at, try_again_hint

log = structlog.get_logger("gatehouse.outbox")

LEASE = timedelta(seconds=60)
RENEW_SECONDS = 15.0
SWEEP_SECONDS = 15.0
POLL_SECONDS = 5.0
NOTE_EVERY = timedelta(seconds=1)
LOOK = 256  # due rows that are looked at in one go
LOOK_DEEPER = 8  # times, when limits keep back what is oldest: others must not wait behind it
IN_HAND = 128  # answers handed over at once
ROOM = 32  # places that have to be free before the store is asked for more
RESEND_ONCE_AFTER = timedelta(minutes=15)
DELAYED_AFTER = timedelta(hours=3)  # where a channel cannot say (R5.3)
NOTIFY_TROUBLE = "FAILURE,DELAY"  # RFC 3461 section 4.1
NOTIFY_ALL = "SUCCESS,FAILURE,DELAY"
FAULT_BACKOFF = Backoff(initial=timedelta(seconds=30), factor=2.0, cap=timedelta(minutes=30))
#: How long to wait before what a peer said is offered to the store again.
STORE_BACKOFF = Backoff(initial=timedelta(milliseconds=200), factor=2.0, cap=timedelta(seconds=5))
#: Against mistakes more than against storms: one person, one domain.
LIMITS = {
    "recipient": (Limit(per=timedelta(hours=1), count=120, burst=30),),
    "domain": (Limit(per=timedelta(minutes=1), count=6000, burst=1000),),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Road:
    """An open way out of one channel."""

    channel_id: int
    config: EmailConfig
    sender: Sender


class Roads(Protocol):
    """Gives the way out of a channel as it is configured now; keeps connections between calls."""

    async def road(self, channel_id: int) -> Road: ...


class OutboxWorker:
    """One a process. Several processes share the work through leases."""

    def __init__(
        self,
        *,
        db: Database,
        blobs: Blobs,
        hub: Hub,
        keys: Keys,
        roads: Roads,
        node: str,
        is_sole_owner: bool,
        limits: dict[str, tuple[Limit, ...]] | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._hub = hub
        self._keys = keys
        self._roads = roads
        self._node = node
        self._is_sole_owner = is_sole_owner
        self._rng = rng
        self._limits = dict(LIMITS if limits is None else limits)
        self._pacer = Pacer(limits=self._limits)
        self._look_again_at: datetime | None = None
        self._in_hand: dict[int, Claimed] = {}
        self._faults: dict[int, tuple[int, datetime]] = {}  #: channel -> failures in a row, rests until
        self._noted: dict[int, datetime] = {}
        self._unstored: set[int] = set()
        self._is_stopping = False

    @property
    def unstored(self) -> int:
        """How many outcomes are known here alone: if the process ended now, those answers would be in doubt."""
        return len(self._unstored)

    async def run(self) -> None:
        """Work until cancelled."""
        while not await self._was_reached(partial(self._sweep, is_start=True)):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(POLL_SECONDS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(RENEW_SECONDS, self._renew), name="outbox-renew")
            group.create_task(self._every(SWEEP_SECONDS, self._sweep), name="outbox-sweep")
            with self._hub.subscribe("outbox") as waiter:
                while True:
                    await self._turn(group, waiter)

    async def _turn(self, group: asyncio.TaskGroup, waiter: asyncio.Event) -> None:
        """Claim what is due, or sleep until something is; with the store away, look again after a while."""
        try:
            if await self.run_once(group):
                return
            seconds = await self._idle_seconds()
        except STORE_AWAY as error:
            log.warning("outbox.store_unreachable", error=str(error))
            seconds = POLL_SECONDS
        await wait(waiter, seconds)

    async def run_once(self, group: asyncio.TaskGroup) -> int:
        """Claim what may go now and hand it over in tasks of ``group``; return how many were claimed."""
        room = IN_HAND - len(self._in_hand)
        self._look_again_at = None
        if room < ROOM or self._is_stopping:
            return 0
        ids = await self._look(room)
        if not ids:
            return 0
        claimed = await self._db.write(outbox.claim, ids, owner=self._node, lease=LEASE, clock=self._db.clock)
        failpoint("O1")
        for item in claimed:
            self._in_hand[item.outbox_id] = item
            group.create_task(self._handle(item), name=f"handover-{item.outbox_id}")
        return len(claimed)

    async def drain(self, seconds: float) -> None:
        """Claim nothing new and let what is in hand end (F-V04)."""
        self._is_stopping = True
        with self._hub.subscribe("outbox") as waiter:
            async with asyncio.timeout(seconds):
                while self._in_hand:
                    await wait(waiter, POLL_SECONDS)

    async def _look(self, room: int) -> list[int]:
        """Choose what goes now, behind rows that may not go yet if need be."""
        waiting: list[Waiting] = []
        ids: list[int] = []
        for page in range(LOOK_DEEPER):
            more = await self._db.read(outbox.due, limit=LOOK, skip=page * LOOK, clock=self._db.clock)
            known = {row.id for row in waiting}
            waiting += [row for row in more if row.id not in known]
            chosen = set(ids)
            probed = {row.channel_id for row in waiting if row.id in chosen}
            ids += self._choose([row for row in waiting if row.id not in chosen], room - len(ids), probed)
            if len(more) < LOOK or len(ids) >= room:
                break
        return ids

    def _choose(self, waiting: Sequence[Waiting], room: int, probed: set[int]) -> list[int]:
        """Fair and within the limits; a channel that was at fault gets one probe and not its whole queue."""
        busy = {item.channel_id for item in self._in_hand.values()}
        now = self._db.clock.now()
        due = []
        for row in waiting:
            if row.is_channel_failing:
                if row.channel_id in busy or row.channel_id in probed:
                    continue
                probed.add(row.channel_id)
            keys = [f"account-{row.channel_id}:{row.channel_id}"]
            keys += [f"domain:{name}" for name in row.domains] + [f"recipient:{name}" for name in row.recipients]
            due.append(
                Due(
                    id=row.id,
                    due_at=min(row.due_at, now),  # the store says that it is due, whatever our own clock says (F-T03)
                    department=str(row.department_id),
                    keys=tuple(keys),
                    order_key=str(row.ticket_id),
                )
            )
        turn = self._pacer.take(due, now, room)
        self._look_again_at = turn.look_again_at
        return [item.id for item in turn.go]

    async def _handle(self, claimed: Claimed) -> None:
        try:
            await self._hand_over(claimed)
        except Conflict as error:
            log.warning("outbox.lease_lost", outbox=claimed.outbox_id, reason=str(error))
        except Exception as error:  # the edge of the worker: the row stays leased and is taken back by the sweeper
            log.exception("outbox.failed", outbox=claimed.outbox_id, error=type(error).__name__)
        finally:
            self._in_hand.pop(claimed.outbox_id, None)
            self._hub.wake("outbox", "events")

    async def _hand_over(self, claimed: Claimed) -> None:
        by_address = claimed.open_addresses
        if not by_address:
            await self._finish(claimed, {}, retry_at=None)
            return
        crossed = claimed
        try:
            road = await self._roads.road(claimed.channel_id)
            content = claimed.small_raw or await self._blobs.get(claimed.bytes_digest)
        except BlobDamaged:
            await self._give_up_damaged(claimed)
            return
        except ValueError as error:
            outcomes = dict.fromkeys(
                by_address, Outcome(kind=OutcomeKind.CHANNEL_FAULT, fault="configuration", text=str(error))
            )
            await self._record(claimed, by_address, outcomes)
            return

        async def before_final_dot(accepted: Sequence[str]) -> None:
            nonlocal crossed
            ids = [by_address[address] for address in accepted]
            crossed = await self._db.write(outbox.cross_line_of_doubt, self._keys, claimed, ids, clock=self._db.clock)

        outcomes = await road.sender.send(self._handover(claimed, road, tuple(by_address), content), before_final_dot)
        await self._record(crossed, by_address, outcomes, road=road)

    def _handover(self, claimed: Claimed, road: Road, recipients: tuple[str, ...], content: bytes) -> Handover:
        def signed(purpose: Purpose) -> str:
            token = Token(purpose=purpose, ticket_id=claimed.ticket_id, nonce=claimed.nonce, round=claimed.round)
            return tokens.sign(token, self._keys.tokens)

        address = road.config.address
        return Handover(
            envelope_sender=(
                tokens.plus_address(address, signed(Purpose.RETURN)) if road.config.plus_addressing else address
            ),
            recipients=recipients,
            content=content,
            envelope_id=signed(Purpose.ENVELOPE),
            notify=NOTIFY_ALL if road.config.smtp and road.config.smtp.notify_success else NOTIFY_TROUBLE,
        )

    async def _give_up_damaged(self, claimed: Claimed) -> None:
        """The fault is of this mail alone: its channel goes on, and its agent is told to write it anew (F-D05)."""
        damaged = Outcome(kind=OutcomeKind.CHANNEL_FAULT, fault="store", text="the stored mail is damaged")
        fact = of_outcome(damaged, round_number=claimed.round, attempt=claimed.attempt, at=self._db.clock.now())
        log.error("outbox.damaged", outbox=claimed.outbox_id, digest=claimed.bytes_digest)
        await self._finish(claimed, dict.fromkeys(claimed.open_addresses.values(), fact), retry_at=None)

    async def _record(
        self, claimed: Claimed, by_address: dict[str, int], outcomes: dict[str, Outcome], *, road: Road | None = None
    ) -> None:
        now = self._db.clock.now()
        facts = {
            by_address[address]: of_outcome(outcome, round_number=claimed.round, attempt=claimed.attempt, at=now)
            for address, outcome in outcomes.items()
        }
        fault = next((item for item in outcomes.values() if item.kind is OutcomeKind.CHANNEL_FAULT), None)
        if fault is not None:
            await self._finish(claimed, facts, retry_at=await self._pause(claimed.channel_id, fault, now))
            return
        has_worked = any(item.kind in (OutcomeKind.ACCEPTED, OutcomeKind.REFUSED) for item in outcomes.values())
        if has_worked:
            self._faults.pop(claimed.channel_id, None)
        tries = _tries(claimed)
        days = timedelta(days=road.config.retry_days if road else 3.0)
        give_up_at = claimed.give_up_at if tries else max(claimed.give_up_at, later(now, days))
        retry_at = self._retry_at(claimed, give_up_at, tries + 1, outcomes.values(), now)
        await self._finish(claimed, facts, retry_at=retry_at, give_up_at=give_up_at, has_worked=has_worked)

    def _retry_at(
        self, claimed: Claimed, give_up_at: datetime, tries: int, outcomes: Iterable[Outcome], now: datetime
    ) -> datetime | None:
        deferred = [item for item in outcomes if item.kind is OutcomeKind.DEFERRED]
        hints = [try_again_hint(item.text) if item.retry_after is None else item.retry_after for item in deferred]
        asked = max((hint for hint in hints if hint is not None), default=None)
        return next_attempt_at(
            RetryPolicy(window=give_up_at - claimed.first_due_at),
            attempt=tries + 1,
            first_due_at=claimed.first_due_at,
            now=now,
            retry_after=asked,
            rng=self._rng,
        )

    async def _pause(self, channel_id: int, fault: Outcome, now: datetime) -> datetime:
        """A fault of our own set-up: the queue of this channel waits and an admin is told (R5.4, F-S06)."""
        self._noted.pop(channel_id, None)
        failures, resume_at = self._faults.get(channel_id, (0, now))
        if resume_at <= now:  # tries that were under way together meet the same fault: that is one failure
            failures += 1
            resume_at = now + FAULT_BACKOFF.delay(failures, self._rng)
            self._faults[channel_id] = (failures, resume_at)
        await self._db.write(_pause, channel_id, fault, resume_at=resume_at, now=now)
        log.error("outbox.channel_fault", channel=channel_id, fault=fault.fault, code=fault.code, resume_at=resume_at)
        return resume_at

    async def _finish(
        self,
        claimed: Claimed,
        facts: dict[int, Evidence],
        *,
        retry_at: datetime | None,
        give_up_at: datetime | None = None,
        has_worked: bool = False,
    ) -> None:
        state = await self._store_outcome(claimed, facts, retry_at, give_up_at, has_worked)
        failpoint("O7")
        log.info("outbox.attempt_ended", outbox=claimed.outbox_id, attempt=claimed.attempt, state=state)
        failpoint("O8")

    async def _store_outcome(self, claimed: Claimed, *outcome: Any) -> str:
        """COMMIT C. The peer has spoken and cannot be asked again, so its word is kept until the store takes it.

        The answer stays in hand meanwhile: with a few of them nothing new is claimed, or there would be more.
        """
        failures = 0
        try:
            while True:
                try:
                    return await self._db.write(self._finish_now, claimed, *outcome)
                except StoreError as error:
                    if error.is_final:
                        raise
                    failures += 1
                    self._unstored.add(claimed.outbox_id)
                    self._noted.pop(claimed.channel_id, None)
                    log.error(
                        "outbox.outcome_not_stored",
                        outbox=claimed.outbox_id, attempt=claimed.attempt, failures=failures, error=str(error),
                    )  # fmt: skip
                await asyncio.sleep(STORE_BACKOFF.delay(failures, self._rng).total_seconds())
        finally:
            self._unstored.discard(claimed.outbox_id)

    def _finish_now(
        self,
        conn: Connection,
        claimed: Claimed,
        facts: dict[int, Evidence],
        retry_at: datetime | None,
        give_up_at: datetime | None,
        has_worked: bool,
    ) -> str:
        now = self._db.clock.now()
        if has_worked:
            is_out = any(fact.fact is Fact.ACCEPTED for fact in facts.values())
            self._note_working(conn, claimed.channel_id, is_out=is_out, now=now)
        return outbox.finish(conn, self._keys, claimed, facts, retry_at=retry_at, give_up_at=give_up_at, now=now)

    def _note_working(self, conn: Connection, channel_id: int, *, is_out: bool, now: datetime) -> None:
        """Say that the way out works: at once after trouble, else about once a second.

        A server that refuses a mail for its recipient has let us in: that ends a fault of ours as well.
        """
        noted = self._noted.get(channel_id)
        if noted is not None and abs(now - noted) < NOTE_EVERY:
            return
        if is_out:
            self._noted[channel_id] = now
        channels.report_state(conn, channel_id, "out", "working", now=now)
        values = {"out_resume_at": None} | ({"last_out_at": now} if is_out else {})
        conn.execute(sa.update(channel).where(channel.c.id == channel_id).values(**values))

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._was_reached(work)

    async def _was_reached(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do something in the store; False when it is away."""
        try:
            await work()
        except STORE_AWAY as error:
            log.warning("outbox.store_unreachable", error=str(error))
            return False
        return True

    async def _renew(self) -> None:
        if self._in_hand:
            await self._db.write(outbox.renew, list(self._in_hand.values()), lease=LEASE, clock=self._db.clock)

    async def _sweep(self, *, is_start: bool = False) -> None:
        sole = is_start and self._is_sole_owner
        again, doubts = await self._db.write(outbox.sweep, self._keys, clock=self._db.clock, is_sole_owner=sole)
        if again or doubts:
            log.warning("outbox.taken_back", due_again=again, in_doubt=doubts)
        moved, hourly = await self._db.write(self._keep_promises)
        for name in [name for name in self._limits if name.startswith("account-") and name not in hourly]:
            del self._limits[name]
        self._limits.update(hourly)
        if again or doubts or moved:
            self._hub.wake("outbox", "events")

    def _keep_promises(self, conn: Connection) -> tuple[int, dict[str, tuple[Limit, ...]]]:
        """Timers are rows: what waits too long is said to be delayed, and ``resend-once`` is kept.

        Return how many rows moved, and the limits of accounts. A configuration that cannot be read any more stops its
        own channel and nothing else.
        """
        now = self._db.clock.now()
        moved = 0
        resending = []
        limits: dict[str, tuple[Limit, ...]] = {}
        for row in channels.rows(conn):
            try:
                config = EmailConfig.model_validate(row["config"])
            except ValidationError:
                moved += outbox.overdue(conn, self._keys, channel_id=row["id"], after=DELAYED_AFTER, now=now)
                continue
            moved += outbox.overdue(conn, self._keys, channel_id=row["id"], after=config.delayed_after, now=now)
            if config.in_doubt == "resend-once":
                resending.append(row["id"])
            if config.smtp is not None and config.smtp.per_hour:
                count = config.smtp.per_hour
                hourly = Limit(per=timedelta(hours=1), count=count, burst=max(1, count // 10))
                limits[f"account-{row['id']}"] = (hourly,)
        doubts = outbox.resend_once(conn, channels=resending, waited=RESEND_ONCE_AFTER, now=now)
        for message_id, delivery_ids in doubts.items():
            try:
                outbox.send_again(
                    conn, self._keys, message_id, actor="system: resend-once", now=now, delivery_ids=delivery_ids
                )
            except Conflict:
                continue  # another node was first
            moved += 1
        return moved, limits

    async def _idle_seconds(self) -> float:
        due_at = await self._db.read(outbox.next_due_at, clock=self._db.clock)
        soonest = min((at for at in (due_at, self._look_again_at) if at is not None), default=None)
        if soonest is None:
            return POLL_SECONDS
        return min(POLL_SECONDS, max(0.02, (soonest - self._db.clock.now()).total_seconds()))


def _tries(claimed: Claimed) -> int:
    """How often the other side was asked in this round and did not take it: the waits grow with this alone.

    Tries that failed for a fault of ours are not counted, and the window does not begin with them (R5.4).
    """
    waits = (Fact.DEFERRED, Fact.UNREACHABLE)
    items = [item for known in claimed.deliveries.values() for item in known.items if item.round == claimed.round]
    return len({item.attempt for item in items if item.fact in waits})


def _pause(conn: Connection, channel_id: int, fault: Outcome, *, resume_at: datetime, now: datetime) -> None:
    channels.report_state(conn, channel_id, "out", "failing", code=fault.fault, text=fault.text, now=now)
    conn.execute(sa.update(channel).where(channel.c.id == channel_id).values(out_resume_at=resume_at))
