"""REST for the ledger: every source message and what became of it, the gap report, and the quarantine (R1.2)."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core.access import Action
from gateway.web.api import keyset
from gateway.web.api.files import download
from gateway.web.api.schemas import (
    ChannelLedgerOut,
    LedgerFiguresOut,
    LedgerOut,
    LedgerOutcome,
    LedgerState,
)
from gateway.web.api.schemas_common import Input, Output, PublicId
from gateway.web.desk import files
from gateway.web.desk import ledger as desk
from gateway.web.paging import Page, PageQuery
from gateway.web.routing import Policy, Reply, Request, route

READ = Policy(who="agent", action=Action.LEDGER_READ)
READ_RAW = Policy(who="agent", action=Action.QUARANTINE_READ_RAW)
REPLAY = Policy(who="agent", action=Action.QUARANTINE_REPLAY)
DISMISS = Policy(who="agent", action=Action.QUARANTINE_DISMISS)


class LedgerQuery(PageQuery):
    channel: PublicId | None = None
    state: list[LedgerState] = Field([], description="several may be given")
    outcome: list[LedgerOutcome] = Field([], description="several may be given")


class FiguresQuery(Input):
    channel: PublicId | None = None


class DismissalIn(Input):
    reason: str = Field(min_length=1, max_length=desk.MAX_REASON)


class ReplaysIn(Input):
    channel: PublicId


class ReplaysOut(Output):
    count: int = Field(description="messages that are read anew")


@route(
    "GET",
    "/api/v1/ledger",
    policy=READ,
    query=LedgerQuery,
    returns=Page[LedgerOut],
    summary="Source messages and what became of them, newest first",
    tags=("ledger",),
)
async def list_ledger(request: Request, query: LedgerQuery) -> Page[LedgerOut]:
    rows = await request.read(
        desk.ledger_list,
        request.actor,
        channel=query.channel,
        states=tuple(query.state),
        outcomes=tuple(query.outcome),
        limit=query.limit + 1,
        before=keyset.before(request, "ledger", query),
    )
    return keyset.page(request, "ledger", query, rows, at="received_at", item=LedgerOut.of)


@route(
    "GET",
    "/api/v1/ledger/figures",
    policy=READ,
    query=FiguresQuery,
    returns=LedgerFiguresOut,
    summary="The gap report: what was offered, where each of it stands, and whether anything is missing",
    tags=("ledger",),
)
async def get_ledger_figures(request: Request, query: FiguresQuery) -> LedgerFiguresOut:
    found = await request.read(desk.ledger_figures, request.actor, channel=query.channel)
    return LedgerFiguresOut(
        is_complete=all(item.is_complete for item in found), channels=[ChannelLedgerOut.of(item) for item in found]
    )


@route("GET", "/api/v1/ledger/{id}", policy=READ, returns=LedgerOut, summary="A source message", tags=("ledger",))
async def get_ledger_row(request: Request) -> LedgerOut:
    return LedgerOut.of(await request.read(desk.ledger_row, request.actor, request.params["id"]))


@route(
    "GET",
    "/api/v1/ledger/{id}/raw",
    policy=READ_RAW,
    summary="The bytes as they came; reading them is audited",
    tags=("ledger",),
    content=("message/rfc822",),
)
async def get_ledger_raw(request: Request) -> web.Response:
    digest = await request.write(desk.raw_of_ledger, request.by, request.params["id"])
    content = await files.kept(request.services.db, request.services.blobs, digest)
    return download(content, name=f"{request.params['id']}.eml", content_type="message/rfc822")


@route(
    "POST",
    "/api/v1/ledger/{id}/replay",
    policy=REPLAY,
    returns=LedgerOut,
    summary="Read a quarantined message anew",
    tags=("ledger",),
    is_idempotent=True,
)
async def post_replay(request: Request) -> Reply:
    touched: set[int] = set()

    def effect(conn: Connection) -> LedgerOut:
        row = desk.replay(conn, request.by, request.params["id"])
        touched.add(row["channel_id"])
        return LedgerOut.of(row)

    reply = await request.once(effect)
    _wake(request, touched)
    return reply


@route(
    "POST",
    "/api/v1/ledger/{id}/dismissal",
    policy=DISMISS,
    body=DismissalIn,
    returns=LedgerOut,
    summary="Take a message out of the quarantine for good; its bytes stay",
    tags=("ledger",),
    is_idempotent=True,
)
async def post_dismissal(request: Request, body: DismissalIn) -> Reply:
    return await request.once(
        lambda conn: LedgerOut.of(desk.dismiss(conn, request.by, request.params["id"], reason=body.reason))
    )


@route(
    "POST",
    "/api/v1/quarantine/replays",
    policy=REPLAY,
    body=ReplaysIn,
    returns=ReplaysOut,
    summary="Read everything anew that a channel has in quarantine",
    tags=("ledger",),
    is_idempotent=True,
)
async def post_replays(request: Request, body: ReplaysIn) -> Reply:
    touched: set[int] = set()

    def effect(conn: Connection) -> ReplaysOut:
        channel_id, count = desk.replay_all(conn, request.by, body.channel)
        touched.add(channel_id)
        return ReplaysOut(count=count)

    reply = await request.once(effect)
    _wake(request, touched)
    return reply


ROUTES = [
    list_ledger,
    get_ledger_figures,
    get_ledger_row,
    get_ledger_raw,
    post_replay,
    post_dismissal,
    post_replays,
]


def _wake(request: Request, channel_ids: set[int]) -> None:
    request.services.live.wake("events", *(f"ledger:{channel_id}" for channel_id in channel_ids))
