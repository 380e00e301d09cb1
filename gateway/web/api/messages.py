"""REST for messages, and what can still be done about one that goes out. Each action is a noun that is posted."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core.access import Action
from gateway.web.api.files import download
from gateway.web.api.schemas import MessageOut, MessagesOut
from gateway.web.api.schemas_common import Input, PublicId
from gateway.web.desk import answers, files, tickets
from gateway.web.desk.tickets import MessageView
from gateway.web.routing import Policy, Reply, Request, route

READ = Policy(who="agent", action=Action.TICKET_READ)
CHANGE = Policy(who="agent", action=Action.DELIVERY_CHANGE)
READ_RAW = Policy(who="agent", action=Action.QUARANTINE_READ_RAW)


class ResendIn(Input):
    deliveries: list[PublicId] = Field(
        [], max_length=100, description="to whom; without any, to all who do not have it for certain"
    )


@route(
    "GET",
    "/api/v1/tickets/{code}/messages",
    policy=READ,
    returns=MessagesOut,
    summary="Everything said in a ticket, in the order in which it came",
    tags=("messages",),
)
async def list_messages(request: Request) -> MessagesOut:
    code = request.params["code"].upper()
    views = await request.read(tickets.ticket_messages, request.actor, code)
    return MessagesOut(items=[MessageOut.of(view, code) for view in views])


@route("GET", "/api/v1/messages/{id}", policy=READ, returns=MessageOut, summary="A message", tags=("messages",))
async def get_message(request: Request) -> MessageOut:
    return _shown(await request.read(tickets.message_view, request.actor, request.params["id"]))


@route(
    "GET",
    "/api/v1/messages/{id}/raw",
    policy=READ_RAW,
    summary="The mail as it came or went; reading it is audited",
    tags=("messages",),
    content=("message/rfc822",),
)
async def get_message_raw(request: Request) -> web.Response:
    digest = await request.write(files.raw_of_message, request.by, request.params["id"])
    content = await files.kept(request.services.db, request.services.blobs, digest)
    return download(content, name=f"{request.params['id']}.eml", content_type="message/rfc822")


@route(
    "POST",
    "/api/v1/messages/{id}/cancellation",
    policy=CHANGE,
    returns=MessageOut,
    summary="Take an answer back before it is handed over",
    tags=("messages",),
    is_idempotent=True,
)
async def post_cancellation(request: Request) -> Reply:
    return await _change(request, answers.cancel)


@route(
    "POST",
    "/api/v1/messages/{id}/hold",
    policy=CHANGE,
    returns=MessageOut,
    summary="Keep a waiting answer back",
    tags=("messages",),
    is_idempotent=True,
)
async def post_hold(request: Request) -> Reply:
    return await _change(request, answers.hold)


@route(
    "POST",
    "/api/v1/messages/{id}/release",
    policy=CHANGE,
    returns=MessageOut,
    summary="Let a held answer go",
    tags=("messages",),
    is_idempotent=True,
)
async def post_release(request: Request) -> Reply:
    return await _change(request, answers.release)


@route(
    "POST",
    "/api/v1/messages/{id}/sent-mark",
    policy=CHANGE,
    returns=MessageOut,
    summary="Say that an answer in doubt has arrived",
    tags=("messages",),
    is_idempotent=True,
)
async def post_sent_mark(request: Request) -> Reply:
    return await _change(request, answers.mark_sent)


@route(
    "POST",
    "/api/v1/messages/{id}/resend",
    policy=CHANGE,
    body=ResendIn,
    returns=MessageOut,
    summary="Send the same mail once more",
    tags=("messages",),
    is_idempotent=True,
)
async def post_resend(request: Request, body: ResendIn) -> Reply:
    def effect(conn: Connection) -> MessageOut:
        view = answers.send_again(
            conn, request.by, request.services.keys, request.params["id"], delivery_ids=body.deliveries
        )
        return _shown(view)

    reply = await request.once(effect)
    request.services.live.wake("outbox", "events")
    return reply


async def _change(request: Request, change: answers.Change) -> Reply:
    reply = await request.once(
        lambda conn: _shown(change(conn, request.by, request.services.keys, request.params["id"]))
    )
    request.services.live.wake("outbox", "events")
    return reply


def _shown(view: MessageView) -> MessageOut:
    return MessageOut.of(view, view.row["ticket_code"])


ROUTES = [
    list_messages,
    get_message,
    get_message_raw,
    post_cancellation,
    post_hold,
    post_release,
    post_sent_mark,
    post_resend,
]
