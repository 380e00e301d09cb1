"""REST for what happens: a stream of server-sent events, cut to the rights of the moment (T-L05, T-M05)."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from core.access import Action
from gateway.web import sse
from gateway.web.api.schemas_common import Input
from gateway.web.desk.live import TOPICS, Feed
from gateway.web.routing import Policy, Request, route


class EventsQuery(Input):
    after: str | None = Field(None, max_length=18, pattern=r"^[0-9]+$", description="like Last-Event-ID")


@route(
    "GET",
    "/api/v1/events",
    policy=Policy(who="agent", action=Action.TICKET_READ),
    query=EventsQuery,
    summary="What happens, as server-sent events; Last-Event-ID takes up a broken stream",
    tags=("events",),
    content=("text/event-stream",),
)
async def stream_events(request: Request, query: EventsQuery) -> web.StreamResponse:
    feed = Feed(request.services.keys, request.services.db.clock)
    return await sse.stream(
        request,
        feed.read,
        topics=TOPICS,
        action=Action.TICKET_READ,
        newest=lambda conn: feed.newest(conn, request.actor),
    )


ROUTES = [stream_events]
