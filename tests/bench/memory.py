"""Memory while many mails pass through ingest: resident size of the main process and of its parsers."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import structlog

from gateway.channels.contract import Offered, Place
from tests.bench.house import bench
from tests.bench.mails import mails

WINDOW = 50
SAMPLES = 20
#: Below this many mails behind, more are taken: a mailbox does not hand out faster than we read either.
BEHIND = 500
WARM = 0.1  # share of the mails after which growth is counted
NAMES = (b"Message-ID:", b"In-Reply-To:", b"References:")
PAGE = os.sysconf("SC_PAGE_SIZE")


async def run(options: argparse.Namespace) -> AsyncIterator[dict[str, Any]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    count = options.soak
    some = [raw for raw in mails(500) if len(raw) < 60_000]
    place = Place(folder="INBOX", uidvalidity=1)
    sizes: list[int] = []
    async with bench() as here:
        journal = here.journal()
        reading = asyncio.create_task(here.ingest().run())
        taken = 0
        while taken < count:
            window = [
                Offered(place=place, uid=number + 1, raw=_unlike(some[number % len(some)], number), size_bytes=1)
                for number in range(taken, min(taken + WINDOW, count))
            ]
            await journal.take(window)
            taken += len(window)
            while taken - await here.settled() > BEHIND:  # noqa: ASYNC110 - the store is the truth
                await asyncio.sleep(0.05)
            if taken % max(WINDOW, count // SAMPLES // WINDOW * WINDOW) == 0:
                sizes.append(_resident_bytes())
        while await here.settled() < count:  # noqa: ASYNC110 - the store is the truth
            await asyncio.sleep(0.05)
        sizes.append(_resident_bytes())
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    warm = sizes[max(0, int(len(sizes) * WARM))]
    growth = (sizes[-1] - warm) / 2**20
    yield {
        "bench": "memory",
        "growth_mib": round(growth, 1),
        "limit": "64 MiB",
        "ratio": round(growth / 64, 3),
        "mails": count,
        "resident_mib": [round(size / 2**20) for size in sizes],
    }


def _unlike(raw: bytes, number: int) -> bytes:
    """The same mail as another one: its own Message-ID, and an answer to nothing."""
    head, _, body = raw.partition(b"\r\n\r\n")
    kept = [
        line for line in head.split(b"\r\n") if not line.startswith((b"Message-ID:", b"In-Reply-To:", b"References:"))
    ]
    return b"\r\n".join([*kept, b"Message-ID: <soak%d@customer.test>" % number, b"", body])


def _resident_bytes() -> int:
    return sum(_resident_of(pid) for pid in _family(os.getpid()))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _resident_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0
