"""The ledger: what came in, what became of each, whether anything is missing, and the quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

import orjson
import sqlalchemy as sa
from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core.access import Action, Actor
from core.errors import CoreError
from core.figures import ChannelLedger
from core.ledger import OUTCOMES
from gateway.web import paging
from gateway.web.api.schemas_common import FormInput
from gateway.web.console.forms import Nothing, go
from gateway.web.console.frame import page
from gateway.web.console.messages import RAW_SHOWN, raw_text
from gateway.web.desk import files as desk_files
from gateway.web.desk import ledger as desk
from gateway.web.problems import Problem, problem_of
from gateway.web.routing import Policy, Request, route

PAGE_ROWS = 50
STATES = ("received", "gap", "done", "quarantined", "dismissed")
READS = Policy(who="session", action=Action.LEDGER_READ)

STATE_WORDS = {
    "received": "being read",
    "gap": "not fetched yet",
    "done": "done",
    "quarantined": "quarantined",
    "dismissed": "dismissed",
}
OUTCOME_WORDS = {
    "ticketed": "became a message",
    "repeat": "came before",
    "own_copy": "our own mail",
    "evidence": "delivery report",
    "skipped": "no message",
}


class LedgerQuery(FormInput):
    channel: str = Field(default="", max_length=100)
    state: str = Field(default="", max_length=20)
    outcome: str = Field(default="", max_length=20)
    cursor: str = Field(default="", max_length=paging.MAX_CURSOR)


class DismissForm(FormInput):
    reason: str = Field(default="", max_length=1000)


@route("GET", "/ledger", policy=READS, query=LedgerQuery, summary="Ledger")
async def get_ledger(request: Request, query: LedgerQuery) -> web.Response:
    filters = {name: value for name, value in query.model_dump(exclude={"cursor"}).items() if value}
    purpose = "ledger:" + orjson.dumps(filters).decode()
    before = _position(request, purpose, query.cursor)
    read = await request.read(_read, request.actor, query, before)
    older = None
    if len(read.rows) > PAGE_ROWS:
        last = read.rows[PAGE_ROWS - 1]
        cursor = paging.encode(request.services.keys, purpose, [last["received_at"].isoformat(), last["id"]])
        older = "/ledger?" + urlencode(filters | {"cursor": cursor})
    return await page(
        request,
        "ledger.html",
        section="ledger",
        rows=read.rows[:PAGE_ROWS],
        figures=[item for item in read.figures if not query.channel or item.channel_public_id == query.channel],
        all_channels=read.figures,
        statement=statement,
        older=older,
        query=query,
        states=STATES,
        outcomes=OUTCOMES,
        state_words=STATE_WORDS,
        outcome_words=OUTCOME_WORDS,
    )


@route("GET", "/ledger/{row}", policy=READS, summary="One ledger row")
async def get_row(request: Request) -> web.Response:
    return await draw_row(request, request.params["row"])


@route("GET", "/ledger/{row}/raw", policy=Policy(who="session", action=Action.QUARANTINE_READ_RAW))
async def get_raw(request: Request) -> web.Response:
    """The bytes as text, whatever they hold; that somebody looked is audited."""
    row_id = request.params["row"]
    digest = await request.write(desk.raw_of_ledger, request.by, row_id)
    content = await desk_files.kept(request.services.db, request.services.blobs, digest)
    return await page(
        request,
        "raw.html",
        section="ledger",
        title="The mail as it came in",
        text=raw_text(content),
        is_cut=len(content) > RAW_SHOWN,
        size_bytes=len(content),
        back=f"/ledger/{row_id}",
    )


@route("POST", "/ledger/{row}/replay", policy=Policy(who="session", action=Action.QUARANTINE_REPLAY), form=Nothing)
async def post_replay(request: Request, form: Nothing) -> web.Response:
    row_id = request.params["row"]
    try:
        row = await request.write(desk.replay, request.by, row_id)
    except CoreError as error:
        return await _refuse(request, row_id, error)
    request.services.live.wake("events", f"ledger:{row['channel_id']}")
    return go(f"/ledger/{row_id}")


@route(
    "POST", "/ledger/{row}/dismiss", policy=Policy(who="session", action=Action.QUARANTINE_DISMISS), form=DismissForm
)
async def post_dismiss(request: Request, form: DismissForm) -> web.Response:
    row_id = request.params["row"]
    try:
        await request.write(desk.dismiss, request.by, row_id, reason=form.reason)
    except CoreError as error:
        return await _refuse(request, row_id, error)
    return go(f"/ledger/{row_id}")


async def draw_row(request: Request, row_id: str, problem: Problem | None = None) -> web.Response:
    row = await request.read(desk.ledger_row, request.actor, row_id)
    return await page(
        request,
        "ledger_row.html",
        section="ledger",
        status=problem.status if problem is not None else 200,
        row=row,
        problem=problem,
        state_words=STATE_WORDS,
        outcome_words=OUTCOME_WORDS,
    )


def statement(item: ChannelLedger) -> str:
    """The gap statement in one sentence."""
    if not item.offered:
        return "Nothing came in yet."
    stands = item.standings
    if item.is_complete:
        said = f"All {item.offered} messages that came in are accounted for: nothing is missing."
    else:
        missing = stands["gaps"] + item.unexplained
        said = f"{missing} of {item.offered} messages could not be fetched yet; the gateway tries again by itself."
    if stands["waiting"]:
        said += f" {stands['waiting']} are being read."
    if stands["quarantined"]:
        said += f" {stands['quarantined']} could not be read and wait in quarantine."
    return said


async def _refuse(request: Request, row_id: str, error: CoreError) -> web.Response:
    problem = problem_of(error)
    if problem is None or problem.status == 404:
        raise error
    return await draw_row(request, row_id, problem)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    rows: Sequence[sa.RowMapping]
    figures: Sequence[ChannelLedger]


def _read(conn: Connection, actor: Actor, query: LedgerQuery, before: tuple[datetime, int] | None) -> _Read:
    return _Read(
        rows=desk.ledger_list(
            conn,
            actor,
            channel=query.channel or None,
            states=(query.state,) if query.state else (),
            outcomes=(query.outcome,) if query.outcome else (),
            limit=PAGE_ROWS + 1,
            before=before,
        ),
        figures=desk.ledger_figures(conn, actor),
    )


def _position(request: Request, purpose: str, cursor: str) -> tuple[datetime, int] | None:
    if not cursor:
        return None
    at, number = paging.decode(request.services.keys, purpose, cursor)
    return datetime.fromisoformat(at), int(number)


ROUTES = [get_ledger, get_row, get_raw, post_replay, post_dismiss]
