"""A journal in memory: the whole protocol, durable until the test ends, with a record of every call in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.channels.contract import Known, Offered, Place, Trouble

MAX_TRIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    name: str
    place: Place | None = None
    uids: tuple[int, ...] = ()
    text: str = ""


class MemoryJournal:
    """One account's journal. ``rows`` has one final entry per place and UID."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Place, int], Offered] = {}
        self.tries: dict[tuple[Place, int], int] = {}
        self.excerpts: dict[tuple[Place, int], list[str]] = {}
        self.marks: set[tuple[Place, int]] = set()
        self.calls: list[Call] = []
        self.failing: Exception | None = None  #: what ``take`` raises
        self.broken: Exception | None = None  #: what ended the listener: ``until`` raises it
        self._changed = asyncio.Event()

    # The protocol

    async def known(self, place: Place) -> Known:
        self._called("known", place)
        gaps = {uid: n for (at, uid), n in self.tries.items() if at == place and (at, uid) not in self.rows}
        return Known(uids=frozenset(uid for at, uid in self.rows if at == place), gaps=gaps)

    async def take(self, items: Sequence[Offered]) -> None:
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing
        for item in items:
            key = (item.place, item.uid)
            if key in self.rows:
                continue
            if item.trouble is Trouble.COULD_NOT_FETCH:
                self.tries[key] = self.tries.get(key, 0) + 1
                self.excerpts.setdefault(key, []).append(item.excerpt)
                if self.tries[key] < MAX_TRIES:
                    continue
            self.rows[key] = item
        self._called("take", items[0].place if items else None, [item.uid for item in items])

    async def unmarked(self, place: Place) -> list[int]:
        self._called("unmarked", place)
        return sorted(
            uid
            for (at, uid), item in self.rows.items()
            if at == place and (at, uid) not in self.marks and item.trouble is None
        )

    async def marked(self, place: Place, uids: Sequence[int]) -> None:
        self.marks.update((place, uid) for uid in uids)
        self._called("marked", place, uids)

    async def proven(self) -> None:
        self._called("proven")

    async def trouble(self, code: str, text: str) -> None:
        self._called("trouble", text=f"{code}: {text}")

    def _called(self, name: str, place: Place | None = None, uids: Sequence[int] = (), text: str = "") -> None:
        self.calls.append(Call(name=name, place=place, uids=tuple(uids), text=text))
        self._changed.set()

    # What tests ask

    async def until(self, holds: Callable[[], bool], *, seconds: float = 20.0) -> None:
        """Wait for a condition; looks again after each call."""
        async with asyncio.timeout(seconds):
            while not holds():
                if self.broken is not None:
                    raise self.broken
                self._changed.clear()
                await self._changed.wait()

    def give_up(self, error: Exception) -> None:
        """The listener ended: nothing will be called any more."""
        self.broken = error
        self._changed.set()

    def raws(self) -> list[bytes]:
        """The bytes of all whole messages, in the order in which they were taken."""
        return [item.raw for item in self.rows.values() if item.raw is not None and item.trouble is None]

    def troubles(self) -> list[str]:
        return [call.text for call in self.calls if call.name == "trouble"]

    def count(self, name: str) -> int:
        return sum(call.name == name for call in self.calls)

    def item(self, uid: int) -> Offered | None:
        return next((item for (_, number), item in self.rows.items() if number == uid), None)
