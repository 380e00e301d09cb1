"""REST for tickets: the inbox, a ticket, changes to it."""

from __future__ import annotations

from pydantic import Field

from core.access import Action
from core.delivery import Status
from gateway.web.api import keyset
from gateway.web.api.schemas import (
    SettableStatus,
    StaleTicketOut,
    TicketChanged,
    TicketDetail,
    TicketOut,
    TicketStatus,
    stale_problem,
)
from gateway.web.api.schemas_common import Input, Output, PublicId
from gateway.web.desk import tickets as desk
from gateway.web.desk.stale import StaleTicket
from gateway.web.paging import Page, PageQuery
from gateway.web.routing import Policy, Request, route

READ = Policy(who="agent", action=Action.TICKET_READ)
CHANGE = Policy(who="agent", action=Action.TICKET_CHANGE)


class TicketQuery(PageQuery):
    status: list[TicketStatus] = Field([], description="several may be given; without one, all but spam and deleted")
    department: PublicId | None = None
    agent: PublicId | None = Field(None, description="an agent's id, `me` or `none`")
    delivery_status: Status | None = Field(None, description="of the newest answer")
    q: str = Field("", max_length=200, description="words of the subject, the code or the contact's name")


class TicketCounts(Output):
    by_status: dict[TicketStatus, int]


class TicketIn(Input):
    """What is given is changed. ``agent``: an id, `me`, or `none` for nobody."""

    status: SettableStatus | None = None
    subject: str | None = Field(None, min_length=1, max_length=desk.MAX_SUBJECT)
    department: PublicId | None = None
    agent: PublicId | None = None
    version: int | None = Field(None, description="the one you saw: with an old one nothing is changed (409)")


@route(
    "GET",
    "/api/v1/tickets",
    policy=READ,
    query=TicketQuery,
    returns=Page[TicketOut],
    summary="Tickets, newest change first",
    tags=("tickets",),
)
async def list_tickets(request: Request, query: TicketQuery) -> Page[TicketOut]:
    wanted = desk.InboxFilter(
        statuses=tuple(query.status),
        department=query.department,
        agent=query.agent,
        delivery_status=query.delivery_status,
        words=query.q,
    )
    before = keyset.before(request, "tickets", query)
    rows = await request.read(desk.inbox, request.actor, wanted, limit=query.limit + 1, before=before)
    return keyset.page(request, "tickets", query, rows, at="updated_at", item=TicketOut.of)


@route(
    "GET",
    "/api/v1/tickets/figures",
    policy=READ,
    returns=TicketCounts,
    summary="How many tickets there are, by status",
    tags=("tickets",),
)
async def get_ticket_figures(request: Request) -> TicketCounts:
    return TicketCounts.model_validate({"by_status": await request.read(desk.inbox_counts, request.actor)})


@route("GET", "/api/v1/tickets/{code}", policy=READ, returns=TicketDetail, summary="A ticket", tags=("tickets",))
async def get_ticket(request: Request) -> TicketDetail:
    return TicketDetail.of_view(await request.read(desk.ticket_view, request.actor, request.params["code"]))


@route(
    "PATCH",
    "/api/v1/tickets/{code}",
    policy=CHANGE,
    body=TicketIn,
    returns=TicketChanged,
    summary="Change a ticket's status, agent, department or subject",
    tags=("tickets",),
    conflict=StaleTicketOut,
)
async def patch_ticket(request: Request, body: TicketIn) -> TicketChanged:
    change = desk.TicketChange(**body.model_dump())
    try:
        row = await request.write(desk.change_ticket, request.by, request.params["code"], change)
    except StaleTicket as error:
        raise stale_problem(error) from error
    request.services.live.wake("events")
    return TicketChanged(ticket=TicketOut.of(row) if row is not None else None)


ROUTES = [list_tickets, get_ticket_figures, get_ticket, patch_ticket]
