"""Delivery reports in plain words, and the page of all deliveries with its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

import orjson
import sqlalchemy as sa
from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core import departments
from core.access import Action, Actor
from core.delivery import WORST_FIRST
from core.departments import Department
from core.figures import DeliveryFigures
from core.keys import Keys
from gateway.outbox import verdicts
from gateway.web import paging
from gateway.web.api.schemas_common import FormInput
from gateway.web.console.charts import Day, stacked_days
from gateway.web.console.forms import go
from gateway.web.console.frame import page
from gateway.web.desk import channels as desk_channels
from gateway.web.desk import deliveries as desk
from gateway.web.desk import tickets as desk_tickets
from gateway.web.desk.deliveries import DeliveryReport, Wanted
from gateway.web.desk.tickets import MessageView
from gateway.web.routing import Policy, Request, route

PAGE_ROWS = 50
SHOWN_DAYS = 30
STATUSES = tuple(status.value for status in WORST_FIRST)
PERIODS = {"1": "Today", "7": "7 days", "30": "30 days", "90": "90 days", "": "All time"}
READS = Policy(who="session", action=Action.DELIVERY_READ)

#: Advice that is no button of ours, in words.
ADVICE: Mapping[verdicts.Action, str] = {
    verdicts.Action.OTHER_ROAD: "Reach them another way, by phone for example.",
    verdicts.Action.SEND_AS_LINK: "Send the attachments as a link.",
    verdicts.Action.TELL_ADMIN: "Tell an administrator.",
    verdicts.Action.WAIT: "Wait: it goes on by itself.",
}


class DeliveriesQuery(FormInput):
    status: str = Field(default="", max_length=20)
    days: str = Field(default="7", max_length=3)
    from_day: date | None = None
    to_day: date | None = None
    channel: str = Field(default="", max_length=100)
    department: str = Field(default="", max_length=100)
    domain: str = Field(default="", max_length=255)
    reason: str = Field(default="", max_length=100)
    cursor: str = Field(default="", max_length=paging.MAX_CURSOR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipient:
    """The report of one recipient, with the buttons that fit it."""

    report: DeliveryReport
    advice: Sequence[str]
    buttons: frozenset[str]


@route("GET", "/messages/{message}/delivery", policy=READS, summary="What became of an answer")
async def get_message_delivery(request: Request) -> web.Response:
    view, found = await request.read(_reports, request.actor, request.services.keys, request.params["message"])
    code = await request.read(_code, found)
    return await page(
        request,
        "report.html",
        section="inbox",
        item=view,
        code=code,
        recipients=[_recipient(report, view) for report in found],
    )


@route("GET", "/deliveries/{delivery}", policy=READS, summary="The report of one delivery")
async def get_delivery(request: Request) -> web.Response:
    row = await request.read(desk.delivery_row, request.actor, request.params["delivery"])
    return go(f"/messages/{row['message_public_id']}/delivery#d-{row['public_id']}")


@route(
    "GET", "/deliveries", policy=Policy(who="session", action=Action.DELIVERY_LIST_ALL), query=DeliveriesQuery
)  # fmt: skip
async def get_deliveries(request: Request, query: DeliveriesQuery) -> web.Response:
    filters = query.model_dump(mode="json", exclude={"cursor"})
    purpose = "deliveries:" + orjson.dumps(filters).decode()
    before = _position(request, purpose, query.cursor)
    wanted = _wanted(query, request.now)
    read = await request.read(_read, request.actor, wanted, before)
    older = None
    if len(read.rows) > PAGE_ROWS:
        last = read.rows[PAGE_ROWS - 1]
        cursor = paging.encode(request.services.keys, purpose, [last["created_at"].isoformat(), last["id"]])
        older = _path(filters | {"cursor": cursor})
    return await page(
        request,
        "deliveries.html",
        section="deliveries",
        rows=read.rows[:PAGE_ROWS],
        figures=read.figures,
        days=_days(read.figures, wanted, request.now),
        older=older,
        query=query,
        statuses=STATUSES,
        periods=PERIODS,
        status_path=lambda status: _path(filters | {"status": status}),
        channels=read.channels,
        departments=read.departments,
        is_filtered=bool(query.channel or query.department or query.domain or query.reason or query.status),
    )


def _reports(conn: Connection, actor: Actor, keys: Keys, message_id: str) -> tuple[MessageView, list[DeliveryReport]]:
    view = desk_tickets.message_view(conn, actor, message_id)
    found = [desk.delivery_report(conn, actor, keys, row["public_id"]) for row in view.deliveries]
    return view, found


def _code(_conn: Connection, found: Sequence[DeliveryReport]) -> str:
    return str(found[0].row["ticket_code"]) if found else ""


def _recipient(report: DeliveryReport, view: MessageView) -> Recipient:
    actions = report.report.actions
    offered = {
        "send_again": verdicts.Action.SEND_AGAIN in actions and "send_again" in view.actions,
        "mark_sent": verdicts.Action.MARK_AS_SENT in actions and "mark_sent" in view.actions,
        "cancel": verdicts.Action.CANCEL in actions and "cancel" in view.actions,
        "release": verdicts.Action.RELEASE in actions and "release" in view.actions,
        "correct_address": verdicts.Action.CORRECT_ADDRESS in actions,
        "reconnect_account": verdicts.Action.RECONNECT_ACCOUNT in actions,
    }
    return Recipient(
        report=report,
        advice=[ADVICE[action] for action in actions if action in ADVICE and not _is_said(action, report)],
        buttons=frozenset(name for name, is_offered in offered.items() if is_offered),
    )


def _is_said(action: verdicts.Action, report: DeliveryReport) -> bool:
    """Whether the words above the list say it already."""
    return action is verdicts.Action.OTHER_ROAD and "another way" in report.report.what_to_do


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    rows: Sequence[sa.RowMapping]
    figures: DeliveryFigures
    channels: Sequence[sa.RowMapping]
    departments: Sequence[Department]


def _read(conn: Connection, actor: Actor, wanted: Wanted, before: tuple[datetime, int] | None) -> _Read:
    return _Read(
        rows=desk.delivery_list(conn, actor, wanted, limit=PAGE_ROWS + 1, before=before),
        figures=desk.delivery_figures(conn, actor, wanted),
        channels=desk_channels.channel_list(conn, actor, limit=500),
        departments=departments.list_visible(conn, actor, limit=500),
    )


def _wanted(query: DeliveriesQuery, now: datetime) -> Wanted:
    from_at = to_at = None
    if query.from_day is not None or query.to_day is not None:
        from_at = _midnight(query.from_day) if query.from_day else None
        to_at = _midnight(query.to_day) + timedelta(days=1) if query.to_day else None
    elif query.days in PERIODS and query.days:
        from_at = _midnight(now.astimezone(UTC).date()) - timedelta(days=int(query.days) - 1)
    return Wanted(
        statuses=(query.status,) if query.status in STATUSES else (),
        from_at=from_at,
        to_at=to_at,
        channel=query.channel or None,
        department=query.department or None,
        domain=query.domain.strip() or None,
        reason=query.reason.strip() or None,
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _days(figures: DeliveryFigures, wanted: Wanted, now: datetime) -> Sequence[Day]:
    """The last days of the period, the empty ones too: a gap in the bars is news."""
    last = (wanted.to_at - timedelta(days=1) if wanted.to_at else now).astimezone(UTC).date()
    first = wanted.from_at.date() if wanted.from_at else last - timedelta(days=SHOWN_DAYS - 1)
    count = min((last - first).days + 1, 92)
    chosen = [last - timedelta(days=count - 1 - number) for number in range(max(count, 0))]
    return stacked_days({day: figures.by_day.get(day.isoformat(), {}) for day in chosen}, STATUSES[::-1])


def _path(values: Mapping[str, object]) -> str:
    return "/deliveries?" + urlencode({name: value for name, value in values.items() if value not in ("", None)})


def _position(request: Request, purpose: str, cursor: str) -> tuple[datetime, int] | None:
    if not cursor:
        return None
    at, number = paging.decode(request.services.keys, purpose, cursor)
    return datetime.fromisoformat(at), int(number)


ROUTES = [get_message_delivery, get_deliveries, get_delivery]
