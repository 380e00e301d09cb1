"""One folder on one connection: list, fetch, hand over, mark, wait for more.

What must outlive a connection (which UID broke it) is in ``Memory``; what must outlive the process is in the journal.
Source: RFC 3501 sections 2.3.1.1 (UIDs), 6.4.4 and 6.4.8; RFC 2177.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gateway.channels import imap_fetch, imap_lines, imap_marks
from gateway.channels.contract import Journal, Offered, Place, Trouble
from gateway.channels.email_config import Imap
from gateway.channels.imap_session import MAX_EXCERPT_CHARS, Session
from gateway.errors import ChannelError, ChannelMisconfigured, PeerBroke

LIST_MESSAGES = 5000  # UIDs asked for with one SEARCH: bounded lines, however large the folder is
MAX_PIVOTS = 400  # two million messages; beyond, the line limit refuses and says so
STRIKES = 2  # lost connections in a row while one message was fetched alone, before it is blamed
MAX_TRIES = 3  # then the journal quarantines
FIRST_IDLE_SECONDS = 2.0  # mail may come between listing and IDLE, and not every server tells then
LONGEST_PAUSE_SECONDS = 5.0  # between looks, when a server calls for nothing again and again


class FetchBroke(Exception):
    """The connection was lost while messages were fetched; ``Memory`` knows which: connect again and go on."""

    def __init__(self, cause: ChannelError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(slots=True)
class Memory:
    """What is known about one folder from connection to connection."""

    place: Place | None = None
    alone: set[int] = field(default_factory=set)  #: fetch these one by one
    strikes: Counter[int] = field(default_factory=Counter)
    barren: int = 0  #: connections lost since a message was last fetched
    due: dict[int, float] = field(default_factory=dict)  #: UID with a gap -> loop time of its next try

    def enter(self, place: Place) -> None:
        if place != self.place:
            self.place = place
            self.alone.clear()
            self.strikes.clear()
            self.due.clear()


class Folder:
    """A folder being served. ``serve`` returns never; it raises ChannelError or FetchBroke."""

    def __init__(
        self, session: Session, imap: Imap, name: str, journal: Journal, memory: Memory, nudge: asyncio.Event
    ) -> None:
        self.session = session
        self.imap = imap
        self.name = name
        self.journal = journal
        self.memory = memory
        self.nudge = nudge
        self.place = Place(folder=name, uidvalidity=0)
        self.last = 0  #: highest UID listed so far
        self.gaps: dict[int, int] = {}
        self.may_mark = False
        self.arrivals_seen = 0
        self.relist_at = 0.0
        self.reported: set[str] = set()
        self.is_idle_refused = False

    async def serve(self) -> None:
        clock = asyncio.get_running_loop().time
        await self._open()
        await self._cycle(is_whole=True)
        poll_at = clock() + self.imap.poll_seconds
        quiet_seconds = min(FIRST_IDLE_SECONDS, self.imap.poll_seconds)
        fruitless = 0
        while True:
            started = clock()
            seconds = min(quiet_seconds, self.imap.idle_seconds, max(poll_at - started, 0))
            await self._wait(seconds)
            is_early = clock() < started + seconds
            is_poll = clock() >= poll_at or self.nudge.is_set()
            self.nudge.clear()
            is_moved = is_poll and await self._open()
            found = await self._cycle(is_whole=is_moved, is_poll=is_poll)
            if is_poll:
                poll_at = clock() + self.imap.poll_seconds
            quiet_seconds = self.imap.poll_seconds
            fruitless = fruitless + 1 if is_early and not found and not is_poll else 0
            if fruitless > 1:
                await self._pause(min(0.01 * 2 ** min(fruitless, 12), LONGEST_PAUSE_SECONDS))

    async def _wait(self, seconds: float) -> None:
        wire = self.session.wire
        if self.session.can("IDLE") and not self.is_idle_refused:
            self.is_idle_refused = not await wire.idle_until(self.nudge, seconds=seconds)
            if not self.is_idle_refused:
                return
        await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        nudged = asyncio.ensure_future(self.nudge.wait())
        signals: set[asyncio.Future[Any]] = {nudged, self.session.wire.lost}
        try:
            await asyncio.wait(signals, timeout=seconds, return_when="FIRST_COMPLETED")
        finally:
            nudged.cancel()
        if self.session.wire.failure is not None:
            raise self.session.wire.failure

    async def _open(self) -> bool:
        """Select the folder; True if it is not the one that we knew (UIDVALIDITY changed)."""
        self.arrivals_seen -= self.session.wire.expunged  # message counts start afresh with each SELECT
        selected = await self.session.select(self.name, read_only=self.imap.after == "leave")
        if not selected.uidvalidity:
            await self._report("server", "the server names no UIDVALIDITY: a re-created folder cannot be noticed")
        self.may_mark = self.imap.after != "leave" and not selected.is_read_only
        if self.imap.after != "leave" and selected.is_read_only:
            await self._report("folder", f"folder {self.name!r} is read-only: nothing is marked there")
        place = Place(folder=self.name, uidvalidity=selected.uidvalidity)
        is_new = place != self.place
        self.place = place
        self.memory.enter(place)
        await self.journal.proven()
        return is_new

    # What is there

    async def _cycle(self, *, is_whole: bool, is_poll: bool = False) -> bool:
        """Fetch what is new and what is due again; True if there was anything new."""
        wire = self.session.wire
        if self.may_mark:
            await self._mark(await self.journal.unmarked(self.place))
        wire.pushed.clear()
        todo = await self._new_since_open() if is_whole else await self._new_since_last()
        self.arrivals_seen = wire.exists + wire.expunged
        await self._take(sorted(todo, reverse=self.imap.order == "newest"))
        await self._retry_gaps()
        if is_whole or is_poll:
            await self.journal.proven()
        return bool(todo)

    async def _new_since_open(self) -> set[int]:
        listed = await self._list_all()
        known = await self.journal.known(self.place)
        self.last = max(listed, default=0)
        self.gaps = {uid: tries for uid, tries in known.gaps.items() if tries < MAX_TRIES}
        return listed - known.uids - known.gaps.keys()

    async def _new_since_last(self) -> set[int]:
        above = min(self.last + 1, imap_lines.MAX_UID)
        found = await self.session.search(f"UID {above}:*")
        # "n:*" names the last message even if its UID is below n
        new = {uid for uid in found if uid > self.last}
        wire = self.session.wire
        now = asyncio.get_running_loop().time()
        arrived = wire.exists + wire.expunged - self.arrivals_seen
        if arrived > len(new) and now >= self.relist_at:
            self.relist_at = now + self.imap.poll_seconds
            return await self._new_below_last()
        self.last = max(new, default=self.last)
        return new

    async def _new_below_last(self) -> set[int]:
        """More messages came than UIDs grew: look at all of them, once per poll."""
        last = self.last
        new = await self._new_since_open()
        if any(uid <= last for uid in new):
            await self._report("server", "the server gave new messages UIDs below older ones (RFC 3501 2.3.1.1)")
        self.last = max(last, self.last)
        return new

    async def _list_all(self) -> set[int]:
        """List every UID in ranges of UIDs, which other clients' deletions cannot shift."""
        listed: set[int] = set()
        for keys in await self._ranges():
            listed |= await self.session.search(keys)
        if 0 in listed:
            listed.discard(0)
            await self._report("server", "the server listed numbers that cannot be UIDs")
        return listed

    async def _ranges(self) -> list[str]:
        pivots: set[int] = set()
        numbers = range(LIST_MESSAGES, self.session.wire.exists, LIST_MESSAGES)
        for message_number in numbers[:MAX_PIVOTS]:
            pivots |= await self.session.search(str(message_number), may_fail=True)
        bounds = [0, *sorted(pivots - {0})]
        if len(bounds) == 1:
            return ["ALL"]
        return [f"UID {low + 1}:{high}" for low, high in pairwise(bounds)] + [f"UID {bounds[-1]}:*"]

    # What is taken

    async def _take(self, uids: Sequence[int]) -> None:
        window: list[int] = []
        for uid in uids:
            is_alone = uid in self.memory.alone
            if window and (is_alone or len(window) >= imap_fetch.WINDOW_MESSAGES):
                await self._take_window(window)
                window = []
            window.append(uid)
            if is_alone:
                await self._take_window(window)
                window = []
        if window:
            await self._take_window(window)

    async def _take_window(self, uids: Sequence[int]) -> None:
        try:
            listed = await imap_fetch.describe(self.session, uids)
        except ChannelError as error:
            raise await self._broken(uids, error) from error
        limit = self.imap.max_raw_bytes
        for group in imap_fetch.plan(uids, listed, max_raw_bytes=limit):
            odd = group
            if len(group) > 1:
                offered, odd = await self._fetch_group(group, listed)
                await self._hand_over(offered)
            for uid in odd:
                await self._hand_over([await self._fetch_alone(uid, listed.get(uid))])

    async def _fetch_group(
        self, uids: Sequence[int], listed: dict[int, imap_fetch.Listed]
    ) -> tuple[list[Offered], list[int]]:
        try:
            return await imap_fetch.fetch_group(
                self.session, self.place, uids, listed, max_raw_bytes=self.imap.max_raw_bytes
            )
        except ChannelError as error:
            raise await self._broken(uids, error) from error

    async def _fetch_alone(self, uid: int, listed: imap_fetch.Listed | None) -> Offered:
        limit = self.imap.max_raw_bytes
        try:
            return await imap_fetch.fetch_alone(self.session, self.place, uid, listed, max_raw_bytes=limit)
        except ChannelError as error:
            raise await self._broken([uid], error) from error

    async def _broken(self, uids: Sequence[int], error: ChannelError) -> Exception:
        """Remember whom to suspect for a lost connection; blame a message that did it alone and again."""
        if isinstance(error, ChannelMisconfigured) or error.code == "throttled":
            return error
        memory = self.memory
        memory.barren += 1
        if len(uids) > 1:
            memory.alone.update(uids)
            return FetchBroke(error)
        uid = uids[0]
        memory.alone.add(uid)
        memory.strikes[uid] += STRIKES if isinstance(error, PeerBroke) else 1
        if memory.strikes[uid] >= STRIKES:
            excerpt = f"{error}\n{self.session.excerpt()}"[:MAX_EXCERPT_CHARS]
            await self._count_try(imap_fetch.could_not_fetch(self.place, uid, excerpt))
        return FetchBroke(error)

    async def _hand_over(self, offered: Sequence[Offered]) -> None:
        if not offered:
            return
        failed = [item for item in offered if item.trouble is Trouble.COULD_NOT_FETCH]
        for item in failed:
            await self._count_try(item)
        taken = [item for item in offered if item.trouble is not Trouble.COULD_NOT_FETCH]
        if taken:
            await self.journal.take(taken)
        for item in taken:
            self.gaps.pop(item.uid, None)
            self.memory.strikes.pop(item.uid, None)
            self.memory.barren = 0
        # the rest of an oversized message is only on the server: it is never moved or deleted
        await self._mark([item.uid for item in taken if item.trouble is None])

    async def _count_try(self, item: Offered) -> None:
        await self.journal.take([item])
        tries = self.gaps.get(item.uid, 0) + 1
        self.memory.strikes.pop(item.uid, None)
        self.memory.due[item.uid] = asyncio.get_running_loop().time() + self.imap.poll_seconds * 2 ** (tries - 1)
        self.gaps[item.uid] = tries
        if tries >= MAX_TRIES:
            del self.gaps[item.uid]

    async def _retry_gaps(self) -> None:
        now = asyncio.get_running_loop().time()
        due = sorted(uid for uid in self.gaps if self.memory.due.get(uid, 0) <= now)
        self.memory.alone.update(due)
        await self._take(due)

    # What the server and the admin are told

    async def _mark(self, uids: Sequence[int]) -> None:
        if not self.may_mark or not uids:
            return
        objection = await imap_marks.mark(self.session, self.imap, uids, self._marked)
        if objection:
            self.may_mark = False  # until the folder is opened again, at the next poll
            await self.journal.trouble("folder", objection)

    async def _marked(self, uids: Sequence[int]) -> None:
        await self.journal.marked(self.place, uids)

    async def _report(self, code: str, text: str) -> None:
        if text not in self.reported:
            self.reported.add(text)
            await self.journal.trouble(code, text)
