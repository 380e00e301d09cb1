"""A TCP proxy that harms what it carries: cut at byte n, reset, black hole, split, dribble, delay.

Counted are the bytes from the server to the client. A plan belongs to one connection; connections without a plan are
carried faithfully. ``Cutter.seen`` holds what each connection got through.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType


class End(StrEnum):
    """What happens at the cut."""

    FIN = "fin"
    RST = "rst"
    BLACK_HOLE = "black_hole"  #: both sides stay open and nothing passes any more


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    cut_at: int | None = None  #: bytes that still pass
    end: End = End.FIN
    piece_bytes: int | None = None  #: write in pieces of at most this size
    delay_seconds: float = 0.0  #: before each piece


WHOLE = Plan()


def seeded(seed: int, cut_at: int, *, ends: tuple[End, ...] = tuple(End)) -> Plan:
    """Make a plan for one cut; the way it ends and how bytes are split come from the seed."""
    chance = random.Random(seed)
    return Plan(
        cut_at=cut_at,
        end=chance.choice(ends),
        piece_bytes=chance.choice((None, None, 1, 7, 1000)),
    )


class Cutter:
    """Listens on loopback in front of ``port``; an async context manager."""

    def __init__(self, port: int, plan_for: Callable[[int], Plan] = lambda number: WHOLE) -> None:
        self._target = port
        self._plan_for = plan_for
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.seen: list[bytearray] = []

    async def __aenter__(self) -> Cutter:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        number = len(self.seen)
        self.seen.append(bytearray())
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            up = asyncio.ensure_future(_carry(reader, far_writer))
            try:
                await self._down(far_reader, writer, self._plan_for(number), self.seen[number])
            finally:
                up.cancel()
        except (OSError, asyncio.CancelledError):
            pass  # a side that went away, or the end of the test: both are this proxy's trade
        finally:
            _drop(writer)
            if far_writer is not None:
                _drop(far_writer)

    async def _down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plan: Plan, seen: bytearray
    ) -> None:
        while plan.cut_at is None or len(seen) < plan.cut_at:
            data = await reader.read(65536)
            if not data:
                return
            if plan.cut_at is not None:
                data = data[: plan.cut_at - len(seen)]
            size = plan.piece_bytes or len(data)
            for start in range(0, len(data), size):
                if plan.delay_seconds:
                    await asyncio.sleep(plan.delay_seconds)
                writer.write(data[start : start + size])
                await writer.drain()
            seen += data
        if plan.end is End.BLACK_HOLE:
            await asyncio.Event().wait()
        if plan.end is End.RST:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return


def _drop(writer: asyncio.StreamWriter) -> None:
    writer.close()
