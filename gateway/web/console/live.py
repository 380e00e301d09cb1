"""The stream that tells open pages to look again. It says which ticket, never what was said."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from core.access import Action
from gateway.web import sse
from gateway.web.console.frame import LIVE
from gateway.web.desk.live import TOPICS, Feed
from gateway.web.routing import Policy, Request, route


@route("GET", LIVE, policy=Policy(who="session", action=Action.TICKET_READ), summary="What happens, for open pages")
async def get_live(request: Request) -> web.StreamResponse:
    feed = Feed(request.services.keys, request.services.clock)
    newest = partial(feed.newest, actor=request.actor)
    return await sse.stream(request, feed.read, topics=TOPICS, action=Action.TICKET_READ, newest=newest)


ROUTES = [get_live]
