"""Answering: what the composer sends, and what can still be done about an answer."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import orjson
from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core.errors import CoreError, Invalid
from gateway.normalize.addresses import parse_address_list
from gateway.normalize.values import Address
from gateway.outbox.send import MAX_FILES_BYTES, MAX_TEXT_CHARS, Answer, Upload
from gateway.web.api.schemas_common import FormInput
from gateway.web.console.forms import BROWSER, Key, go, once
from gateway.web.console.tickets import Draft, refuse
from gateway.web.desk import answers as desk
from gateway.web.desk import tickets as desk_tickets
from gateway.web.routing import Request, route

MAX_FILES = 50
MAX_FORM_BYTES = MAX_FILES_BYTES * 2  #: base64, and then urlencoded
MAX_OFFSET_MINUTES = 14 * 60


class AnswerForm(FormInput):
    """``files``: one JSON object each, with name, type and base64 content, put there by the page's script."""

    key: Key
    version: int | None = None  #: of the ticket as the page shows it
    text: str = Field(default="", max_length=MAX_TEXT_CHARS)
    to: str = Field(default="", max_length=20_000)
    cc: str = Field(default="", max_length=20_000)
    hold: str = Field(default="", max_length=10)
    send_at: str = Field(default="", max_length=30)
    utc_offset: int = Field(default=0, ge=-MAX_OFFSET_MINUTES, le=MAX_OFFSET_MINUTES)
    files: list[str] = Field(default_factory=list, max_length=MAX_FILES)


class ActForm(FormInput):
    back: str = Field(default="ticket", max_length=100)


class SendAgainForm(ActForm):
    """``delivery``: the one recipient who gets it again; without it everybody who may not have it."""

    delivery: str = Field(default="", max_length=100)


@route("POST", "/tickets/{code}/answer", policy=BROWSER, form=AnswerForm, max_bytes=MAX_FORM_BYTES)
async def post_answer(request: Request, form: AnswerForm) -> web.Response:
    code = request.params["code"]
    services = request.services
    try:
        answer = Answer(
            text=form.text.replace("\r\n", "\n"),
            to=_people("to", form.to),
            cc=_people("cc", form.cc),
            files=_files(form.files),
            send_at=_moment(form.send_at, form.utc_offset),
            hold_if_they_write=bool(form.hold),
            version=form.version,
        )
        prepared = await desk.prepare(services.db, services.blobs, services.keys, request.actor, code, answer)

        def send(conn: Connection) -> str:
            return str(desk.commit(conn, request.by, services.keys, prepared).row["public_id"])

        await request.write(once, request, form.key, send)
    except CoreError as error:
        draft = Draft(key=form.key, text=form.text, to=form.to, cc=form.cc, hold=bool(form.hold), send_at=form.send_at)
        return await refuse(request, code, error, draft)
    services.live.wake("outbox", "events")
    return go(f"/tickets/{code}?sent={form.key}")


@route("POST", "/messages/{message}/cancel", policy=BROWSER, form=ActForm)
async def post_cancel(request: Request, form: ActForm) -> web.Response:
    return await _act(request, form, desk.cancel)


@route("POST", "/messages/{message}/hold", policy=BROWSER, form=ActForm)
async def post_hold(request: Request, form: ActForm) -> web.Response:
    return await _act(request, form, desk.hold)


@route("POST", "/messages/{message}/release", policy=BROWSER, form=ActForm)
async def post_release(request: Request, form: ActForm) -> web.Response:
    return await _act(request, form, desk.release)


@route("POST", "/messages/{message}/send-again", policy=BROWSER, form=SendAgainForm)
async def post_send_again(request: Request, form: SendAgainForm) -> web.Response:
    chosen = [form.delivery] if form.delivery else []
    return await _act(request, form, partial(desk.send_again, delivery_ids=chosen))


@route("POST", "/messages/{message}/mark-sent", policy=BROWSER, form=ActForm)
async def post_mark_sent(request: Request, form: ActForm) -> web.Response:
    return await _act(request, form, desk.mark_sent)


async def _act(request: Request, form: ActForm, change: desk.Change) -> web.Response:
    """Do it and lead back to where the button stood: the ticket, its composer, or a delivery report."""
    message_id = request.params["message"]
    code = await request.read(_ticket_code, request, message_id)
    try:
        await request.write(change, request.by, request.services.keys, message_id)
    except CoreError as error:
        return await refuse(request, code, error)
    request.services.live.wake("outbox", "events")
    if form.back == "undo":
        return go(f"/tickets/{code}?again={message_id}")
    if form.back == "report":
        return go(f"/messages/{message_id}/delivery")
    return go(f"/tickets/{code}")


def _ticket_code(conn: Connection, request: Request, message_id: str) -> str:
    return str(desk_tickets.message_view(conn, request.actor, message_id).row["ticket_code"])


def _people(field: str, text: str) -> tuple[Address, ...]:
    """Read an address field. Raises Invalid where something in it is no address: nobody is left out in silence."""
    found = []
    for piece in _pieces(text):
        people = parse_address_list(piece)
        if len(people) != 1 or "@" not in people[0].address:
            raise Invalid("an address cannot be read", fields={field: f"{piece[:100]}: not an address"})
        found += people
    return tuple(found)


def _pieces(text: str) -> list[str]:
    """Part a field at the commas and semicolons that stand in no quoted name."""
    pieces = [""]
    is_quoted = is_escaped = False
    for char in text:
        if char in ",;" and not is_quoted:
            pieces.append("")
            continue
        pieces[-1] += char
        if char == '"' and not is_escaped:
            is_quoted = not is_quoted
        is_escaped = char == "\\" and not is_escaped
    return [piece.strip() for piece in pieces if piece.strip()]


def _files(given: Sequence[str]) -> tuple[Upload, ...]:
    return tuple(_file(text) for text in given)


def _file(text: str) -> Upload:
    try:
        found = orjson.loads(text)
        if not isinstance(found, Mapping):
            raise ValueError("not an object")
        content = base64.b64decode(str(found["content"]), validate=True)
        return Upload(
            name=str(found["name"])[:255] or "file",
            content_type=_media_type(str(found.get("type", ""))),
            content=content,
        )
    except (ValueError, KeyError, binascii.Error) as error:
        raise Invalid("a file did not arrive whole", fields={"files": "attach it again"}) from error


def _media_type(text: str) -> str:
    main, slash, sub = text.partition("/")
    is_plain = all(
        part.isascii() and part.replace("-", "").replace(".", "").replace("+", "").isalnum() for part in (main, sub)
    )
    return text.lower() if slash and is_plain and len(text) <= 100 else "application/octet-stream"


def _moment(text: str, utc_offset: int) -> datetime | None:
    """Read ``2026-03-02T09:00`` in the writer's zone (minutes east of UTC). Raises Invalid."""
    if not text:
        return None
    try:
        local = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid("this is no time", fields={"send_at": "pick a day and a time"}) from error
    return local.replace(tzinfo=UTC) - timedelta(minutes=utc_offset)


ROUTES = [post_answer, post_cancel, post_hold, post_release, post_send_again, post_mark_sent]
