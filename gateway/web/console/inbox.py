"""The inbox: which tickets wait, whose they are, and what was said last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson
import sqlalchemy as sa
from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core import departments
from core.access import Action, Actor, visible_departments
from core.departments import Department
from core.store.schema import channel, identity, message, participant
from gateway.web import paging
from gateway.web.api.schemas_common import FormInput
from gateway.web.console.frame import page
from gateway.web.desk import tickets as desk
from gateway.web.desk.tickets import InboxFilter
from gateway.web.routing import Policy, Request, route

PAGE_ROWS = 50
SNIPPET_CHARS = 400
DELIVERY_STATUSES = ("not_delivered", "delayed", "scheduled", "held", "sent", "delivered", "read")

#: Tab -> the statuses that it shows. The first one is where people work.
TABS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "": ("To do", ("new", "open")),
    "answered": ("Answered", ("answered",)),
    "postponed": ("Postponed", ("postponed",)),
    "closed": ("Closed", ("resolved", "closed")),
    "spam": ("Spam", ("spam",)),
    "all": ("All", ()),
}


class InboxQuery(FormInput):
    status: str = Field(default="", max_length=20)
    who: str = Field(default="", max_length=100)
    department: str = Field(default="", max_length=100)
    delivery: str = Field(default="", max_length=20)
    q: str = Field(default="", max_length=200)
    cursor: str = Field(default="", max_length=paging.MAX_CURSOR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tab:
    title: str
    path: str
    count: int
    is_here: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the list."""

    code: str
    subject: str
    status: str
    contact_name: str
    address: str
    department_name: str
    agent_name: str | None
    delivery_status: str | None
    updated_at: datetime
    is_waiting: bool  #: the newest words are the customer's
    snippet: str
    snippet_is_ours: bool


@route("GET", "/", policy=Policy(who="session", action=Action.TICKET_READ), query=InboxQuery, summary="Inbox")
async def get_inbox(request: Request, query: InboxQuery) -> web.Response:
    filters = query.model_dump(exclude={"cursor"})
    purpose = "inbox:" + orjson.dumps(filters).decode()
    before = _position(request, purpose, query.cursor)
    read = await request.read(_read, request.actor, _filter(query), before)
    older = None
    if len(read.rows) > PAGE_ROWS:
        last = read.found[PAGE_ROWS - 1]
        cursor = paging.encode(request.services.keys, purpose, [last["updated_at"].isoformat(), last["id"]])
        older = "/?" + urlencode({name: value for name, value in filters.items() if value} | {"cursor": cursor})
    return await page(
        request,
        "inbox.html",
        section="inbox",
        rows=read.rows[:PAGE_ROWS],
        older=older,
        tabs=_tabs(query, read.counts),
        counts={"open": sum(read.counts.get(status, 0) for status in TABS[""][1])},
        query=query,
        departments=read.departments,
        delivery_statuses=DELIVERY_STATUSES,
        is_filtered=bool(query.q or query.who or query.department or query.delivery),
        channels=read.channels,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    found: Sequence[sa.RowMapping]
    rows: list[Row]
    counts: Mapping[str, int]
    departments: Sequence[Department]
    channels: Sequence[str]


def _read(conn: Connection, actor: Actor, wanted: InboxFilter, before: tuple[datetime, int] | None) -> _Read:
    found = desk.inbox(conn, actor, wanted, limit=PAGE_ROWS + 1, before=before)
    ids = [row["id"] for row in found]
    said, addresses = newest_words(conn, ids), requesters(conn, ids)
    return _Read(
        found=found,
        rows=[_row(row, said.get(row["id"]), addresses.get(row["id"], "")) for row in found],
        counts=desk.inbox_counts(conn, actor),
        departments=departments.list_visible(conn, actor, limit=500),
        channels=_own_addresses(conn, actor),
    )


def newest_words(conn: Connection, ticket_ids: Sequence[int]) -> dict[int, sa.RowMapping]:
    """Ticket id -> direction and first words of its newest message. The caller has asked who may see the tickets."""
    newest = (
        sa.select(sa.func.max(message.c.id))
        .where(message.c.ticket_id.in_(ticket_ids), sa.not_(message.c.is_held_aside), sa.not_(message.c.is_quiet))
        .group_by(message.c.ticket_id)
    )
    words = sa.case((message.c.reply_text != "", message.c.reply_text), else_=message.c.text)
    query = sa.select(
        message.c.ticket_id, message.c.direction, sa.func.substr(words, 1, SNIPPET_CHARS).label("words")
    ).where(message.c.id.in_(newest))
    return {row["ticket_id"]: row for row in conn.execute(query).mappings()}


def requesters(conn: Connection, ticket_ids: Sequence[int]) -> dict[int, str]:
    """Ticket id -> address of who asked, to stand beside the name (T-A13)."""
    query = (
        sa.select(participant.c.ticket_id, identity.c.address)
        .join(identity, identity.c.id == participant.c.identity_id)
        .where(participant.c.ticket_id.in_(ticket_ids), participant.c.role == "requester")
    )
    return {row.ticket_id: row.address for row in conn.execute(query)}


def _row(found: sa.RowMapping, said: sa.RowMapping | None, address: str) -> Row:
    is_ours = said is not None and said["direction"] == "out"
    return Row(
        code=found["code"],
        subject=found["subject"],
        status=found["status"],
        contact_name=found["contact_name"],
        address=address,
        department_name=found["department_name"],
        agent_name=found["agent_name"],
        delivery_status=found["delivery_status"],
        updated_at=found["updated_at"],
        is_waiting=not is_ours and found["status"] in ("new", "open"),
        snippet=said["words"] if said is not None else "",
        snippet_is_ours=is_ours,
    )


def _own_addresses(conn: Connection, actor: Actor) -> list[str]:
    """Where mail to the departments of the actor goes: what an empty page tells."""
    query = sa.select(channel.c.address).where(channel.c.is_enabled, channel.c.kind == "email").order_by(channel.c.id)
    visible = visible_departments(actor)
    if visible is not None:
        query = query.where(channel.c.department_id.in_(visible))
    return list(conn.execute(query.limit(3)).scalars())


def _filter(query: InboxQuery) -> InboxFilter:
    return InboxFilter(
        statuses=TABS.get(query.status, TABS[""])[1],
        department=query.department or None,
        agent=query.who or None,
        delivery_status=query.delivery or None,
        words=query.q.strip(),
    )


def _tabs(query: InboxQuery, counts: Mapping[str, int]) -> list[Tab]:
    kept: dict[str, Any] = {
        name: value for name, value in query.model_dump(exclude={"cursor", "status"}).items() if value
    }
    found = []
    for name, (title, statuses) in TABS.items():
        target = urlencode(({"status": name} if name else {}) | kept)
        found.append(
            Tab(
                title=title,
                path=f"/?{target}" if target else "/",
                count=sum(counts.get(status, 0) for status in statuses),
                is_here=name == query.status,
            )
        )
    return found


def _position(request: Request, purpose: str, cursor: str) -> tuple[datetime, int] | None:
    if not cursor:
        return None
    at, number = paging.decode(request.services.keys, purpose, cursor)
    return datetime.fromisoformat(at), int(number)


ROUTES = [get_inbox]
