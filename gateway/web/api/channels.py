"""REST for channels: their kinds, settings and states, and trying them. Secrets go in and never come out (T-G11)."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from sqlalchemy import Connection

from core.access import Action
from gateway.channels.registry import ADAPTERS
from gateway.web.api import keyset
from gateway.web.api.schemas import ChannelKindOut, ChannelKindsOut, ChannelOut, StaleChannelOut, TestedOut
from gateway.web.api.schemas_common import Input, Output, PublicId, ShortName
from gateway.web.desk import channels as desk
from gateway.web.paging import Page, PageQuery
from gateway.web.problems import Problem
from gateway.web.routing import Policy, Reply, Request, route

READ = Policy(who="agent", action=Action.CHANNEL_READ)
MANAGE = Policy(who="agent", action=Action.CHANNEL_MANAGE)
TEST = Policy(who="agent", action=Action.CHANNEL_TEST)


class ChannelIn(Input):
    kind: ShortName
    name: ShortName
    department: PublicId
    config: dict[str, Any] = Field(description="as `config_schema` of its kind says")


class ChannelPatch(Input):
    """What is given is changed. ``config`` is all of it; a secret that is "" stays as it is."""

    name: ShortName | None = None
    department: PublicId | None = None
    is_enabled: bool | None = None
    config: dict[str, Any] | None = None
    version: int | None = Field(None, description="the one you saw: with an old one nothing is changed (409)")


class PolledOut(Output):
    is_asked: bool = Field(description="False: the channel runs on another node, or not at all")


@route(
    "GET",
    "/api/v1/channel-kinds",
    policy=READ,
    returns=ChannelKindsOut,
    summary="Kinds of channels, what they can do, and what they need to know",
    tags=("channels",),
)
async def list_channel_kinds(request: Request) -> ChannelKindsOut:
    return ChannelKindsOut(items=[ChannelKindOut.of(adapter) for adapter in ADAPTERS.values()])


@route(
    "GET",
    "/api/v1/channels",
    policy=READ,
    query=PageQuery,
    returns=Page[ChannelOut],
    summary="Channels and their states",
    tags=("channels",),
)
async def list_channels(request: Request, query: PageQuery) -> Page[ChannelOut]:
    after = keyset.after_id(request, "channels", query)
    rows = await request.read(desk.channel_list, request.actor, limit=query.limit + 1, after_id=after)
    return keyset.page_by_id(request, "channels", query, rows, item=ChannelOut.of)


@route(
    "POST",
    "/api/v1/channels",
    policy=MANAGE,
    body=ChannelIn,
    returns=ChannelOut,
    status=201,
    summary="Add a channel",
    tags=("channels",),
    is_idempotent=True,
)
async def post_channel(request: Request, body: ChannelIn) -> Reply:
    given = desk.Settings(name=body.name, department=body.department, config=body.config)

    def effect(conn: Connection) -> ChannelOut:
        return ChannelOut.of(desk.create(conn, request.by, request.services.keys, body.kind, given))

    reply = await request.once(effect)
    request.services.live.wake("channels", "events")
    return reply


@route("GET", "/api/v1/channels/{id}", policy=READ, returns=ChannelOut, summary="A channel", tags=("channels",))
async def get_channel(request: Request) -> ChannelOut:
    return ChannelOut.of(await request.read(desk.channel_view, request.actor, request.params["id"]))


@route(
    "PATCH",
    "/api/v1/channels/{id}",
    policy=MANAGE,
    body=ChannelPatch,
    returns=ChannelOut,
    summary="Change a channel, or switch it off or on",
    tags=("channels",),
    conflict=StaleChannelOut,
)
async def patch_channel(request: Request, body: ChannelPatch) -> ChannelOut:
    wanted = desk.ChannelChange(
        name=body.name,
        department=body.department,
        is_enabled=body.is_enabled,
        config=body.config,
        version=body.version,
    )
    try:
        row = await request.write(desk.change, request.by, request.services.keys, request.params["id"], wanted)
    except desk.StaleChannel as error:
        current = ChannelOut.of(error.current).model_dump(mode="json", by_alias=True)
        raise Problem(409, error.code, str(error), more={"current": current}) from error
    request.services.live.wake("channels", "outbox", "events")
    return ChannelOut.of(row)


@route(
    "DELETE",
    "/api/v1/channels/{id}",
    policy=MANAGE,
    summary="Remove a channel that was never used; any other can be switched off",
    tags=("channels",),
)
async def delete_channel(request: Request) -> None:
    await request.write(desk.remove, request.by, request.params["id"])
    request.services.live.wake("channels", "events")


@route(
    "POST",
    "/api/v1/channels/{id}/test",
    policy=TEST,
    returns=TestedOut,
    summary="Try a channel's servers: what was found, or what to mend",
    tags=("channels",),
)
async def post_test(request: Request) -> TestedOut:
    services, name = request.services, request.params["id"]
    await request.write(desk.allow_test, request.by, name)
    config = await request.read(desk.configuration_to_test, request.actor, services.keys, name)
    return TestedOut.of(await desk.test(services.check_channel, config))


@route(
    "POST",
    "/api/v1/channels/{id}/poll",
    policy=MANAGE,
    returns=PolledOut,
    summary="Look for mail now",
    tags=("channels",),
)
async def post_poll(request: Request) -> PolledOut:
    channel_id = await request.read(desk.channel_to_poll, request.actor, request.params["id"])
    return PolledOut(is_asked=request.services.poll_now(channel_id))


ROUTES = [
    list_channel_kinds,
    list_channels,
    post_channel,
    get_channel,
    patch_channel,
    delete_channel,
    post_test,
    post_poll,
]
