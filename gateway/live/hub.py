"""Wake-ups between the parts of one process. Lossy by design: whoever is woken reads the store again (I10).

Topics are plain words: ``events`` (something was appended), ``outbox`` (something is due), ``ledger:ID`` (a channel has
something to read), ``channels`` (a configuration changed).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Hub:
    """Wakes waiters of a topic; a waiter that was busy finds the wake-up when it waits the next time."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)

    def wake(self, *topics: str) -> None:
        for topic in topics:
            for waiter in self._waiters.get(topic, ()):
                waiter.set()

    @contextmanager
    def subscribe(self, *topics: str) -> Iterator[asyncio.Event]:
        """Give an event that is set by each wake-up; the holder clears it before it reads the store."""
        waiter = asyncio.Event()
        for topic in topics:
            self._waiters[topic].add(waiter)
        try:
            yield waiter
        finally:
            for topic in topics:
                self._waiters[topic].discard(waiter)


async def wait(waiter: asyncio.Event, seconds: float) -> bool:
    """Wait for a wake-up, at most ``seconds``: the safety net for every wake-up that was lost. True when woken."""
    try:
        async with asyncio.timeout(seconds):
            await waiter.wait()
    except TimeoutError:
        return False
    waiter.clear()
    return True
