"""Server-sent events: what happened, pushed to open pages, checked against the rights of the moment (T-G3, T-L05).

Nothing is queued for a client: a stream reads the event table behind its own position and writes as fast as the client
takes it, so a slow client costs one batch of memory. ``Last-Event-ID`` (or ``?after=``) takes up a broken stream where
it ended. Before every batch and every ping the caller is identified again; who was shut out is cut off. A batch that
was read while the rights of its reader changed is thrown away and read anew: rights that held before a read say
nothing about what it found.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from aiohttp import hdrs, web
from sqlalchemy import Connection

from core.access import Action, Actor, ActorKind, may
from gateway.web import auth
from gateway.web.problems import Problem
from gateway.web.routing import Request
from gateway.web.services import PEOPLE

PING_SECONDS = 15.0
WRITE_SECONDS = 30.0
PER_ACTOR = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerEvent:
    """One event of a stream; ``data`` is one JSON text."""

    id: int
    kind: str
    data: str


#: What an actor may know of what happened after an id, oldest first, at most one batch of it.
Source = Callable[[Connection, Actor, int], Sequence[ServerEvent]]


@dataclass(slots=True)
class Streams:
    """All open streams of an application, so that a shutdown can end them."""

    is_closing: bool = False
    waiters: set[asyncio.Event] = field(default_factory=set)
    per_actor: Counter[str] = field(default_factory=Counter)

    async def close(self, _app: web.Application) -> None:
        self.is_closing = True
        for waiter in self.waiters:
            waiter.set()


STREAMS = web.AppKey("streams", Streams)


async def stream(
    request: Request, source: Source, *, topics: Sequence[str], action: Action, newest: Callable[[Connection], int]
) -> web.StreamResponse:
    """Answer with an open stream; returns when the client, the server or the rights end it. Raises Problem.

    ``newest`` gives the position to begin at for a client that names none.
    """
    streams = request.http.app[STREAMS]
    if streams.per_actor[request.actor.label] >= PER_ACTOR:
        raise Problem(429, "too_many_streams", headers={"Retry-After": "60"})
    position = _position(request)
    if position is None:
        position = await request.read(newest)
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no", hdrs.CACHE_CONTROL: "no-store"}
    )
    with request.services.live.subscribe(*topics, PEOPLE) as waiter:
        streams.waiters.add(waiter)
        streams.per_actor[request.actor.label] += 1
        try:
            await response.prepare(request.http)
            await _push(request, response, source, position, waiter, action, streams)
        except (ConnectionError, TimeoutError):
            pass  # the client went away, or takes nothing any more; it will come back with its Last-Event-ID
        finally:
            streams.waiters.discard(waiter)
            streams.per_actor[request.actor.label] -= 1
    return response


async def _push(
    request: Request,
    response: web.StreamResponse,
    source: Source,
    position: int,
    waiter: asyncio.Event,
    action: Action,
    streams: Streams,
) -> None:
    while not streams.is_closing:
        waiter.clear()
        actor = await _present(request)
        if actor is None or not may(actor, action):
            return
        batch = await request.read(source, actor, position)
        if batch:
            if await _present(request) == actor:
                await _within(response.write(b"".join(map(_encode, batch))))
                position = batch[-1].id
            continue
        await _within(response.write(b": ping\n\n"))
        try:
            async with asyncio.timeout(PING_SECONDS):
                await waiter.wait()
        except TimeoutError:
            continue


async def _present(request: Request) -> Actor | None:
    """Who the caller is now; None once they are nobody."""
    try:
        identity = await auth.identify(request.http, request.services, request.services.clock.now(), is_use=False)
    except Problem:
        return None
    actor = identity.actor
    return None if actor.kind is ActorKind.ANONYMOUS or actor.agent_id != request.actor.agent_id else actor


async def _within(write: Awaitable[None]) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await write


def _position(request: Request) -> int | None:
    given = request.http.headers.get("Last-Event-ID") or request.http.query.get("after")
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise Problem(400, "bad_position", "Last-Event-ID is no number of ours.")
    return int(given)


def _encode(event: ServerEvent) -> bytes:
    return f"id: {event.id}\nevent: {event.kind}\ndata: {event.data}\n\n".encode()
