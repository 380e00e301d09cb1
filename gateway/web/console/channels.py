"""Channels: how each mailbox is doing, and the form that connects one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core import departments
from core.access import Action
from core.errors import CoreError
from gateway.web.api.schemas_common import FormInput
from gateway.web.console.forms import Nothing, go
from gateway.web.console.frame import page
from gateway.web.desk import channels as desk
from gateway.web.desk.channels import ChannelChange, Settings, Tested
from gateway.web.problems import Problem, problem_of
from gateway.web.routing import Policy, Request, route

READS = Policy(who="session", action=Action.CHANNEL_READ)
MANAGES = Policy(who="session", action=Action.CHANNEL_MANAGE)
IMAP_PORT, SMTP_PORT = 993, 465
KIND = "email"

STATES: Mapping[str, str] = {
    "starting": "starting",
    "working": "working",
    "delayed": "slower than usual",
    "failing": "failing",
    "paused": "paused",
    "off": "off",
}


class ChannelForm(FormInput):
    """One mailbox in, one road out. A password that stays empty is the one that is stored."""

    name: str = Field(default="", max_length=200)
    department: str = Field(default="", max_length=100)
    address: str = Field(default="", max_length=320)
    sender_name: str = Field(default="", max_length=200)
    imap_host: str = Field(default="", max_length=255)
    imap_port: str = Field(default=str(IMAP_PORT), max_length=5)
    imap_security: str = Field(default="tls", max_length=10)
    imap_user: str = Field(default="", max_length=320)
    imap_password: str = Field(default="", max_length=1000)
    smtp_host: str = Field(default="", max_length=255)
    smtp_port: str = Field(default=str(SMTP_PORT), max_length=5)
    smtp_security: str = Field(default="tls", max_length=10)
    smtp_user: str = Field(default="", max_length=320)
    smtp_password: str = Field(default="", max_length=1000)
    undo_seconds: str = Field(default="5", max_length=3)
    plus_addressing: str = Field(default="", max_length=3)
    version: str = Field(default="", max_length=20)


class SwitchForm(FormInput):
    is_enabled: str = Field(default="", max_length=3)


@route("GET", "/channels", policy=READS, summary="Channels")
async def get_channels(request: Request) -> web.Response:
    rows = await request.read(desk.channel_list, request.actor, limit=500)
    return await page(request, "channels.html", section="channels", rows=rows, state_words=STATES)


@route("GET", "/channels/new", policy=MANAGES)
async def get_new(request: Request) -> web.Response:
    return await _draw(request, ChannelForm(plus_addressing="yes"))


@route("POST", "/channels/new", policy=MANAGES, form=ChannelForm)
async def post_new(request: Request, form: ChannelForm) -> web.Response:
    settings = Settings(name=form.name, department=form.department, config=_config(form, {}))
    try:
        row = await request.write(desk.create, request.by, request.services.keys, KIND, settings)
    except CoreError as error:
        return await _refuse(request, form, error)
    request.services.live.wake("channels", "events")
    return go(f"/channels/{row['public_id']}")


@route("GET", "/channels/{channel}", policy=READS)
async def get_channel(request: Request) -> web.Response:
    row = await request.read(desk.channel_view, request.actor, request.params["channel"])
    return await _draw(request, _form_of(row), row=row)


@route("POST", "/channels/{channel}", policy=MANAGES, form=ChannelForm)
async def post_channel(request: Request, form: ChannelForm) -> web.Response:
    channel_id = request.params["channel"]
    row = await request.read(desk.channel_view, request.actor, channel_id)
    change = ChannelChange(
        name=form.name,
        department=form.department,
        config=_config(form, row["config"]),
        version=int(form.version) if form.version.isdecimal() else None,
    )
    try:
        await request.write(desk.change, request.by, request.services.keys, channel_id, change)
    except CoreError as error:
        return await _refuse(request, form, error, row=row)
    request.services.live.wake("channels", "events")
    return go(f"/channels/{channel_id}")


@route("POST", "/channels/{channel}/switch", policy=MANAGES, form=SwitchForm)
async def post_switch(request: Request, form: SwitchForm) -> web.Response:
    change = ChannelChange(is_enabled=bool(form.is_enabled))
    await request.write(desk.change, request.by, request.services.keys, request.params["channel"], change)
    request.services.live.wake("channels", "events")
    return go("/channels")


@route("POST", "/channels/{channel}/test", policy=Policy(who="session", action=Action.CHANNEL_TEST), form=Nothing)
async def post_test(request: Request, form: Nothing) -> web.Response:
    channel_id = request.params["channel"]
    row = await request.read(desk.channel_view, request.actor, channel_id)
    try:
        await request.write(desk.allow_test, request.by, channel_id)
        config = await request.read(desk.configuration_to_test, request.actor, request.services.keys, channel_id)
    except CoreError as error:
        return await _refuse(request, _form_of(row), error, row=row)
    tested = await desk.test(request.services.check_channel, config)
    return await _draw(request, _form_of(row), row=row, tested=tested)


@route("POST", "/channels/{channel}/poll", policy=MANAGES, form=Nothing)
async def post_poll(request: Request, form: Nothing) -> web.Response:
    inner = await request.read(desk.channel_to_poll, request.actor, request.params["channel"])
    request.services.poll_now(inner)
    return go("/channels")


async def _draw(
    request: Request,
    form: ChannelForm,
    *,
    row: sa.RowMapping | None = None,
    problem: Problem | None = None,
    tested: Tested | None = None,
) -> web.Response:
    choices = await request.read(_departments, request)
    wrong = {name.removeprefix("config.").replace(".", "_"): words for name, words in problem.errors} if problem else {}
    return await page(
        request,
        "channel.html",
        section="channels",
        status=problem.status if problem is not None else 200,
        form=form,
        row=row,
        problem=problem,
        wrong=wrong,
        tested=tested,
        departments=choices,
        state_words=STATES,
    )


async def _refuse(
    request: Request, form: ChannelForm, error: CoreError, *, row: sa.RowMapping | None = None
) -> web.Response:
    problem = problem_of(error)
    if problem is None or problem.status == 404:
        raise error
    return await _draw(request, form, row=row, problem=problem)


def _departments(conn: Connection, request: Request) -> Sequence[departments.Department]:
    return departments.list_visible(conn, request.actor, limit=500)


def _config(form: ChannelForm, old: Mapping[str, Any]) -> dict[str, Any]:
    """The whole configuration: what the form shows, and what it does not show as it was."""
    config = dict(old) | {
        "address": form.address.strip(),
        "name": form.sender_name.strip(),
        "undo_seconds": _number(form.undo_seconds),
        "plus_addressing": bool(form.plus_addressing),
    }
    for way in ("imap", "smtp"):
        host = getattr(form, f"{way}_host").strip()
        if not host:
            config[way] = None
            continue
        config[way] = dict(old.get(way) or {}) | {
            "host": host,
            "port": _number(getattr(form, f"{way}_port")),
            "security": getattr(form, f"{way}_security"),
            "user": getattr(form, f"{way}_user").strip() or None,
            "password": getattr(form, f"{way}_password"),
        }
    return config


def _number(text: str) -> int | str:
    """What is no number stays as it is: the model names the field."""
    return int(text) if text.isascii() and text.isdecimal() else text


def _form_of(row: sa.RowMapping) -> ChannelForm:
    config = row["config"]
    values: dict[str, str] = {
        "name": row["name"],
        "department": row["department_public_id"],
        "address": config["address"],
        "sender_name": config.get("name", ""),
        "undo_seconds": str(config.get("undo_seconds", 5)),
        "plus_addressing": "yes" if config.get("plus_addressing") else "",
        "version": str(row["version"]),
    }
    for way in ("imap", "smtp"):
        account = config.get(way) or {}
        for name in ("host", "port", "security", "user"):
            if account.get(name) is not None:
                values[f"{way}_{name}"] = str(account[name])
    return ChannelForm(**values)


ROUTES = [get_channels, get_new, post_new, get_channel, post_channel, post_switch, post_test, post_poll]
