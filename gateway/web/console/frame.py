"""What stands around every page of a signed-in agent: the bar with the sections they may open, and its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from aiohttp import web
from sqlalchemy import Connection

from core import agents, tickets
from core.access import Action, Actor, may, visible_departments
from core.store.schema import channel, ledger
from gateway.web.assets import Assets
from gateway.web.console.templating import draw
from gateway.web.problems import unauthenticated
from gateway.web.routing import Request

LIVE = "/live"
DEMO = "/demo"
WAITING = ("new", "open")  #: ticket statuses that wait for us
TROUBLE = ("failing", "paused")


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Who is signed in, and the figures in the bar."""

    public_id: str
    name: str
    email: str
    role: str
    theme: str
    waiting_tickets: int
    quarantined: int
    failing_channels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    name: str
    path: str
    title: str
    count: int = 0
    is_hot: bool = False


async def page(request: Request, name: str, *, section: str, status: int = 200, **context: Any) -> web.Response:
    """Render a page inside the frame."""
    frame = await request.read(_frame, request.actor)
    has_demo = is_demo(request.http)
    around = {
        "frame": frame,
        "sections": sections(request.actor, frame, has_demo=has_demo),
        "section": section,
        "csrf": request.csrf or "",
        "now": request.now,
        "me": frame.public_id,
        "may": lambda action: may(request.actor, Action(action)),
        "here": request.http.path_qs if request.http.method == "GET" else request.http.path,
        "is_demo": has_demo,
        "live_url": LIVE,
    }
    return draw(name, files(request.services.assets) | around | context, status=status)


def files(assets: Assets) -> dict[str, str]:
    return {"style_url": assets.url("console.css"), "script_url": assets.url("console.js")}


def is_demo(http: web.Request) -> bool:
    """Whether the demo pages are served: only then anything points to them."""
    return any(resource.canonical == DEMO for resource in http.app.router.resources())


def sections(actor: Actor, frame: Frame, *, has_demo: bool) -> list[Section]:
    found = [Section(name="inbox", path="/", title="Inbox", count=frame.waiting_tickets)]
    if may(actor, Action.DELIVERY_LIST_ALL):
        found.append(Section(name="deliveries", path="/deliveries", title="Deliveries"))
    if may(actor, Action.LEDGER_READ):
        found.append(Section(name="ledger", path="/ledger", title="Ledger", count=frame.quarantined, is_hot=True))
    if may(actor, Action.CHANNEL_READ):
        found.append(
            Section(name="channels", path="/channels", title="Channels", count=frame.failing_channels, is_hot=True)
        )
    if may(actor, Action.AGENT_MANAGE):
        found.append(Section(name="team", path="/team", title="Team"))
    if has_demo:
        found.append(Section(name="demo", path=DEMO, title="Be a customer"))
    return found


def _frame(conn: Connection, actor: Actor) -> Frame:
    me = agents.find_by_id(conn, actor.agent_id) if actor.agent_id is not None else None
    if me is None:
        raise unauthenticated()
    counts = tickets.counts(conn, visible_departments(actor))
    return Frame(
        public_id=me.public_id,
        name=me.name,
        email=me.email,
        role=me.role.value,
        theme=me.theme,
        waiting_tickets=sum(counts.get(status, 0) for status in WAITING),
        quarantined=_count(conn, ledger, ledger.c.state == "quarantined") if may(actor, Action.LEDGER_READ) else 0,
        failing_channels=_count(conn, channel, channel.c.is_enabled, _is_in_trouble())
        if may(actor, Action.CHANNEL_READ)
        else 0,
    )


def _is_in_trouble() -> sa.ColumnElement[bool]:
    return sa.or_(channel.c.in_state.in_(TROUBLE), channel.c.out_state.in_(TROUBLE))


def _count(conn: Connection, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
    return int(conn.execute(sa.select(sa.func.count()).select_from(table).where(*conditions)).scalar_one())
