"""One ticket: the thread, its controls, and the composer with what goes into it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core import agents, departments
from core.access import Action, Actor
from core.delivery import Detail
from core.departments import Department
from core.errors import CoreError
from core.review import UNDO_MOST
from core.tickets import SETTABLE
from gateway.normalize.values import Address
from gateway.outbox import recipients
from gateway.outbox.verdicts import why_held
from gateway.web.api.schemas_common import FormInput
from gateway.web.console.forms import BROWSER, go
from gateway.web.console.frame import page
from gateway.web.console.words import sureness, warnings_of
from gateway.web.desk import tickets as desk
from gateway.web.desk.stale import Missed, StaleTicket
from gateway.web.desk.tickets import Hint, MessageView, TicketChange, TicketView
from gateway.web.problems import Problem, problem_of
from gateway.web.routing import Policy, Request, route

TOP_HINTS = frozenset({"may_belong", "follow_up"})
SHORT_HTML, LONG_HTML = 1500, 12_000


class TicketQuery(FormInput):
    """``html``: the message shown as designed; ``sent``: the form that was sent; ``again``: an answer to rewrite."""

    html: str = Field(default="", max_length=100)
    sent: str = Field(default="", max_length=100)
    again: str = Field(default="", max_length=100)


class ChangeForm(FormInput):
    version: int
    status: str = Field(default="", max_length=20)
    agent: str = Field(default="", max_length=100)
    department: str = Field(default="", max_length=100)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """What stands in the composer."""

    key: str = ""
    to: str = ""
    cc: str = ""
    text: str = ""
    hold: bool = False
    send_at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Undo:
    message_id: str
    until: datetime
    words: str


@route("GET", "/tickets/{code}", policy=Policy(who="session", action=Action.TICKET_READ), query=TicketQuery)
async def get_ticket(request: Request, query: TicketQuery) -> web.Response:
    return await draw_ticket(request, request.params["code"], query=query)


@route("POST", "/tickets/{code}/change", policy=BROWSER, form=ChangeForm)
async def post_change(request: Request, form: ChangeForm) -> web.Response:
    code = request.params["code"]
    change = TicketChange(
        status=form.status or None,
        agent=form.agent or None,
        department=form.department or None,
        version=form.version,
    )
    try:
        left = await request.write(desk.change_ticket, request.by, code, change)
    except CoreError as error:
        return await refuse(request, code, error)
    request.services.live.wake("events")
    return go(f"/tickets/{code}" if left is not None else "/")


async def draw_ticket(
    request: Request,
    code: str,
    *,
    query: TicketQuery | None = None,
    draft: Draft | None = None,
    problem: Problem | None = None,
    missed: Sequence[Missed] = (),
) -> web.Response:
    query = query or TicketQuery()
    read = await request.read(_read, request.actor, code)
    return await page(
        request,
        "ticket.html",
        section="inbox",
        status=problem.status if problem is not None else 200,
        ticket=read.view.row,
        view=read.view,
        top_hints=[hint for hint in read.view.hints if hint.code in TOP_HINTS],
        agents=read.agents,
        departments=read.departments,
        staff=frozenset(agent.name.lower() for agent in read.agents),
        settable=SETTABLE,
        form=draft or _draft(read, again=query.again),
        sent_key=query.sent,
        undo=_undo(read.view, request.actor, request.now),
        problem=problem,
        missed=missed,
        shown_html=query.html,
        frame_size=_frame_size,
        blocked_images=_blocked_images,
        report_path=report_path,
        trouble=_trouble,
        sureness=sureness,
        warnings_of=lambda row: warnings_of(row["warnings"]),
    )


async def refuse(request: Request, code: str, error: CoreError, draft: Draft | None = None) -> web.Response:
    """Show the ticket as it is now, with what went wrong; raises what is no refusal of a form."""
    problem = problem_of(error)
    if problem is None or problem.status == 404:
        raise error
    missed = error.missed if isinstance(error, StaleTicket) else ()
    return await draw_ticket(request, code, draft=draft, problem=problem, missed=missed)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    view: TicketView
    agents: Sequence[agents.Agent]
    departments: Sequence[Department]
    recipients: Sequence[Address]  #: who gets an answer unless the agent says otherwise


def _read(conn: Connection, actor: Actor, code: str) -> _Read:
    view = desk.ticket_view(conn, actor, code)
    return _Read(
        view=view,
        agents=[item for item in agents.list_visible(conn, actor, limit=500) if item.is_active],
        departments=departments.list_visible(conn, actor, limit=500),
        recipients=recipients.of_ticket(conn, view.row["id"]),
    )


def _draft(read: _Read, *, again: str) -> Draft:
    to = ", ".join(_mailbox(person.name, person.address) for person in read.recipients)
    draft = Draft(key=secrets.token_urlsafe(18), to=to, cc=_copies(read.view))
    former = next((item.row for item in read.view.messages if item.row["public_id"] == again), None)
    if former is None or former["direction"] != "out":
        return draft
    return replace(draft, text=former["text"], to=_written(former["to"]) or draft.to, cc=_written(former["cc"]))


def _copies(view: TicketView) -> str:
    """Everybody who takes part for certain, and whose address lives."""
    confirmed = [
        {"name": item["name"], "address": item["address"]}
        for item in view.people
        if item["role"] == "cc" and item["is_confirmed"] and item["suppressed_at"] is None
    ]
    return _written(confirmed)


def _written(people: Sequence[Any]) -> str:
    """Addresses as the composer's fields hold them; a name is quoted, so that no comma in it parts two people."""
    return ", ".join(_mailbox(item["name"], item["address"]) for item in people)


def _mailbox(name: str, address: str) -> str:
    plain = "".join(char for char in name if char.isprintable() and char not in '"\\')
    return f'"{plain}" <{address}>' if plain and plain != address else address


def _undo(view: TicketView, actor: Actor, now: datetime) -> Undo | None:
    """The newest answer of this agent, while it can be taken back with one press; a planned one has its own button."""
    own = [item for item in view.messages if item.row["agent_id"] == actor.agent_id and item.outbox is not None]
    if not own:
        return None
    newest = own[-1]
    promise = newest.outbox
    if promise is None or promise["state"] != "waiting" or "cancel" not in newest.actions or promise["attempts"]:
        return None
    if not now < promise["due_at"] <= newest.row["created_at"] + UNDO_MOST:
        return None
    return Undo(message_id=newest.row["public_id"], until=promise["due_at"], words="Your answer is on its way.")


def report_path(item: MessageView) -> str:
    """The report of an answer: of its recipient, or of all of them."""
    return f"/messages/{item.row['public_id']}/delivery"


def _trouble(item: MessageView) -> str:
    if item.indicator is None:
        return ""
    status = item.indicator.status.value
    bad = [row["address"] for row in item.deliveries if row["status"] == status]
    who = bad[0] if len(bad) == 1 else f"{len(bad)} people"
    if status == "not_delivered":
        return f"Not delivered to {who}."
    if status == "delayed" and any(row["detail"] == Detail.IN_DOUBT for row in item.deliveries):
        return "It is not certain whether it arrived: somebody has to decide."
    if status == "delayed" and any(row["detail"] == Detail.OWN_FAULT for row in item.deliveries):
        return "It waits because our own account is not working."
    if status == "delayed":
        return f"Not yet with {who}: it is still on its way."
    why = why_held(item.outbox["held_why"]) if item.outbox is not None else ""
    return f"Held back: {why}." if why else "Held back."


def _blocked_images(row: sa.RowMapping) -> int:
    """How many remote images the sanitiser put aside: said in the page itself, where no mail can imitate it (T-E09)."""
    return (row["html"] or "").count(' data-src="')


def _frame_size(row: sa.RowMapping) -> str:
    length = len(row["html"] or "")
    return "short" if length < SHORT_HTML else "long" if length > LONG_HTML else ""


__all__ = ["ROUTES", "Draft", "Hint", "draw_ticket", "refuse", "report_path"]
ROUTES = [get_ticket, post_change]
