"""REST for answers: one POST promises the mail, its recipients and their deliveries in one transaction."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import Field
from sqlalchemy import Connection

from core.access import Action
from core.errors import CoreError
from gateway.normalize.filenames import safe_name
from gateway.normalize.values import Address
from gateway.outbox import send
from gateway.outbox.send import Answer, Upload
from gateway.web.api.schemas import MessageOut, Moment, StaleTicketOut, stale_problem
from gateway.web.api.schemas_common import Input
from gateway.web.desk import answers
from gateway.web.desk.stale import StaleTicket
from gateway.web.problems import Problem
from gateway.web.routing import Policy, Reply, Request, route

MAX_FILES = 50
MAX_BYTES = send.MAX_FILES_BYTES * 4 // 3 + 2 * 1024 * 1024  # base64, and the rest of the body
TYPE = r"^[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}$"


class RecipientIn(Input):
    name: str = Field("", max_length=200)
    address: str = Field(min_length=3, max_length=320)


class FileIn(Input):
    name: str = Field(min_length=1, max_length=255)
    content_type: Annotated[str, Field(pattern=TYPE)] = "application/octet-stream"
    content: str = Field(json_schema_extra={"contentEncoding": "base64"})


Recipients = Annotated[list[RecipientIn], Field(max_length=send.MAX_RECIPIENTS)]


class AnswerIn(Input):
    text: str = Field(max_length=send.MAX_TEXT_CHARS)
    html: str | None = Field(None, max_length=send.MAX_TEXT_CHARS, description="cleaned before it is sent")
    to: Recipients = Field([], description="without any, whoever asked")
    cc: Recipients = Field([])
    bcc: Recipients = Field([])
    send_at: Moment | None = Field(None, description="not before then")
    hold_if_they_write: bool = Field(False, description="hold it when the customer writes first")
    version: int | None = Field(None, description="of the ticket as you saw it: with an old one nothing is sent (409)")
    attachments: list[FileIn] = Field([], max_length=MAX_FILES, description="25 MiB together")


@route(
    "POST",
    "/api/v1/tickets/{code}/answers",
    policy=Policy(who="agent", action=Action.TICKET_ANSWER),
    body=AnswerIn,
    returns=MessageOut,
    status=201,
    summary="Answer; it waits a few seconds, in which it can be cancelled",
    tags=("answers",),
    is_idempotent=True,
    max_bytes=MAX_BYTES,
    conflict=StaleTicketOut,
)
async def post_answer(request: Request, body: AnswerIn) -> Reply:
    services = request.services
    answer = _answer(body)
    prepared: send.Prepared | CoreError
    try:
        prepared = await answers.prepare(
            services.db, services.blobs, services.keys, request.actor, request.params["code"], answer
        )
    except CoreError as refusal:
        prepared = refusal  # a repeat is answered as the first was, whatever has changed since (F-K10)

    def effect(conn: Connection) -> MessageOut:
        if isinstance(prepared, CoreError):
            raise prepared
        view = answers.commit(conn, request.by, services.keys, prepared)
        return MessageOut.of(view, view.row["ticket_code"])

    try:
        reply = await request.once(effect)
    except StaleTicket as error:
        raise stale_problem(error) from error
    services.live.wake("outbox", "events")
    return reply


ROUTES = [post_answer]


def _answer(body: AnswerIn) -> Answer:
    return Answer(
        text=body.text,
        html=body.html,
        to=_addresses(body.to),
        cc=_addresses(body.cc),
        bcc=_addresses(body.bcc),
        files=tuple(_upload(item, number) for number, item in enumerate(body.attachments)),
        send_at=body.send_at,
        hold_if_they_write=body.hold_if_they_write,
        version=body.version,
    )


def _addresses(given: list[RecipientIn]) -> tuple[Address, ...]:
    return tuple(Address(name=item.name, address=item.address) for item in given)


def _upload(given: FileIn, number: int) -> Upload:
    try:
        content = base64.b64decode(given.content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "invalid", errors=[(f"attachments.{number}.content", "not base64")]) from error
    name = safe_name(given.name) or f"file-{number + 1}"
    return Upload(name=name, content_type=given.content_type.lower(), content=content)
