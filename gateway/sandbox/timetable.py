"""What the sandbox does later: one list of due times that runs by itself, or only when a test moves the time.

``speed`` is how many sandbox seconds pass in one real second; 0 stands still until ``advance``. Jobs run one after
the other in the order of their due times, also those which a job adds, so that a run can be repeated exactly.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from core.clock import Clock

_log = logging.getLogger(__name__)

Job = Callable[[], Awaitable[object]]


class Timetable:
    def __init__(self, *, clock: Clock, speed: float) -> None:
        self._clock = clock
        self._speed = speed
        self._started_at = clock.now()
        self._started = clock.monotonic()
        self._skipped = 0.0
        self._due: list[tuple[float, int, str, Job]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._running = asyncio.Lock()

    def seconds(self) -> float:
        """Return the sandbox seconds since the start."""
        return (self._clock.monotonic() - self._started) * self._speed + self._skipped

    def now(self) -> datetime:
        return self._started_at + timedelta(seconds=self.seconds())

    def later(self, seconds: float, job: Job, *, name: str) -> None:
        """Run ``job`` in ``seconds`` sandbox seconds; ``name`` is for the log."""
        heapq.heappush(self._due, (self.seconds() + seconds, next(self._order), name, job))
        self._changed.set()

    def waiting(self) -> list[tuple[float, str]]:
        """Return what is still to come: seconds from now and name, soonest first."""
        now = self.seconds()
        return [(due - now, name) for due, _, name, _ in sorted(self._due, key=lambda entry: entry[:2])]

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass at once. A job that fails fails the caller."""
        until = self.seconds() + seconds
        async with self._running:
            while self._due and self._due[0][0] <= until:
                due, _, _, job = heapq.heappop(self._due)
                self._skipped += max(0.0, due - self.seconds())
                await job()
            self._skipped += max(0.0, until - self.seconds())
        self._changed.set()

    async def run(self) -> None:
        """Run due jobs until cancelled. A job that fails is logged and the others go on."""
        while True:
            self._changed.clear()
            async with self._running:
                while self._due and self._due[0][0] <= self.seconds():
                    _, _, name, job = heapq.heappop(self._due)
                    try:
                        await job()
                    except Exception:  # noqa: BLE001 - the edge of this loop: one bad job must not stop the rest
                        _log.exception("sandbox.job_failed", extra={"job": name})
            await self._wait()

    async def _wait(self) -> None:
        timeout = None
        if self._due and self._speed:
            timeout = max(0.0, self._due[0][0] - self.seconds()) / self._speed
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return  # the next job is due
