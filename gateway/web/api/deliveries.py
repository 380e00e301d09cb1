"""REST for deliveries: lists, figures, and the report of one in plain words."""

from __future__ import annotations

from pydantic import Field

from core.access import Action
from core.delivery import Status
from gateway.web.api import keyset
from gateway.web.api.schemas import DeliveryFiguresOut, DeliveryOut, Moment, ReportOut
from gateway.web.api.schemas_common import PublicId
from gateway.web.desk import deliveries as desk
from gateway.web.paging import Page, PageQuery
from gateway.web.routing import Policy, Request, route

READ = Policy(who="agent", action=Action.DELIVERY_READ)
READ_ALL = Policy(who="agent", action=Action.DELIVERY_LIST_ALL)


class DeliveryQuery(PageQuery):
    status: list[Status] = Field([], description="several may be given")
    from_at: Moment | None = Field(None, alias="from", description="made at or after")
    to_at: Moment | None = Field(None, alias="to", description="made before")
    channel: PublicId | None = None
    department: PublicId | None = None
    agent: PublicId | None = Field(None, description="who answered: an id, or `me`")
    domain: str | None = Field(None, min_length=1, max_length=255, description="of the recipient")
    reason: str | None = Field(None, min_length=1, max_length=100, description="like `no_such_mailbox`")


@route(
    "GET",
    "/api/v1/deliveries",
    policy=READ,
    query=DeliveryQuery,
    returns=Page[DeliveryOut],
    summary="What became of answers, recipient by recipient, newest first",
    tags=("deliveries",),
)
async def list_deliveries(request: Request, query: DeliveryQuery) -> Page[DeliveryOut]:
    before = keyset.before(request, "deliveries", query)
    rows = await request.read(desk.delivery_list, request.actor, _wanted(query), limit=query.limit + 1, before=before)
    return keyset.page(request, "deliveries", query, rows, at="created_at", item=DeliveryOut.of)


@route(
    "GET",
    "/api/v1/deliveries/figures",
    policy=READ_ALL,
    query=DeliveryQuery,
    returns=DeliveryFiguresOut,
    summary="Deliveries counted by status, day, domain and reason",
    tags=("deliveries",),
)
async def get_delivery_figures(request: Request, query: DeliveryQuery) -> DeliveryFiguresOut:
    return DeliveryFiguresOut.of(await request.read(desk.delivery_figures, request.actor, _wanted(query)))


@route("GET", "/api/v1/deliveries/{id}", policy=READ, returns=DeliveryOut, summary="A delivery", tags=("deliveries",))
async def get_delivery(request: Request) -> DeliveryOut:
    return DeliveryOut.of(await request.read(desk.delivery_row, request.actor, request.params["id"]))


@route(
    "GET",
    "/api/v1/deliveries/{id}/report",
    policy=READ,
    returns=ReportOut,
    summary="What happened, on whose side, and what to do; for admins and owners also the evidence",
    tags=("deliveries",),
)
async def get_delivery_report(request: Request) -> ReportOut:
    found = await request.read(desk.delivery_report, request.actor, request.services.keys, request.params["id"])
    return ReportOut.of(found)


ROUTES = [list_deliveries, get_delivery_figures, get_delivery, get_delivery_report]


def _wanted(query: DeliveryQuery) -> desk.Wanted:
    keyset.period(query.from_at, query.to_at)
    return desk.Wanted(
        statuses=tuple(query.status),
        from_at=query.from_at,
        to_at=query.to_at,
        channel=query.channel,
        department=query.department,
        agent=query.agent,
        domain=query.domain,
        reason=query.reason,
    )
