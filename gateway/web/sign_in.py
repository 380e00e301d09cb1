"""The doors: sign-in, sign-out and the first owner's set-up, as forms. The console draws them.

Nothing is stored before a sign-in succeeds, ``next`` leads only to paths of our own, and the set-up closes for good
with the first owner (T-L11, T-L13, T-E14).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core import agents, sessions, throttle
from core.access import ActorKind
from core.agents import Agent
from core.errors import CoreError
from gateway.web import auth, security
from gateway.web.api.schemas_common import FormInput
from gateway.web.problems import Problem, problem_of
from gateway.web.routing import Policy, Request, Route, route

SIGN_IN = "/sign-in"
SIGN_OUT = "/sign-out"
SETUP = "/setup"
HOME = "/"
BROWSER = Policy(who="public")


class SignInForm(FormInput):
    email: str = Field("", max_length=1000)
    password: str = Field("", max_length=10_000)
    next: str = Field("", max_length=2000)


class SignInQuery(FormInput):
    next: str = Field("", max_length=2000)


class SetupForm(FormInput):
    code: str = Field("", max_length=200)
    email: str = Field("", max_length=1000)
    name: str = Field("", max_length=1000)
    password: str = Field("", max_length=10_000)


class SignOutForm(FormInput):
    """Only the CSRF field, which the layer takes out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """What the form shows: what was typed (never the password) and why it did not open."""

    email: str = ""
    name: str = ""
    next: str = HOME
    problem: Problem | None = None


Draw = Callable[[Request, Door], web.Response]


def routes(*, draw_sign_in: Draw, draw_setup: Draw) -> list[Route]:
    """The five routes. A drawn page gets the problem's status and headers here."""

    @route("GET", SIGN_IN, policy=BROWSER, query=SignInQuery)
    async def get_sign_in(request: Request, query: SignInQuery) -> web.Response:
        if request.actor.kind is ActorKind.AGENT:
            return _go(security.local_path(query.next))
        if await request.read(agents.needs_first_owner):
            return _go(SETUP)
        return draw_sign_in(request, Door(next=security.local_path(query.next)))

    @route("POST", SIGN_IN, policy=BROWSER, form=SignInForm)
    async def post_sign_in(request: Request, form: SignInForm) -> web.Response:
        door = Door(email=form.email, next=security.local_path(form.next))
        given = auth.sign_in_of(request.http, request.services.config, email=form.email, password=form.password)
        try:
            opened, who = await auth.sign_in(request.services, given, request.now)
        except CoreError as error:
            return _refuse(request, draw_sign_in, door, error)
        response = _go(door.next)
        auth.remember(response, request.services, opened, given.device, who)
        return response

    @route("POST", SIGN_OUT, policy=BROWSER, form=SignOutForm)
    async def post_sign_out(request: Request, form: SignOutForm) -> web.Response:
        response = _go(SIGN_IN)
        await auth.sign_out(request.http, request.services, response)
        return response

    @route("GET", SETUP, policy=BROWSER)
    async def get_setup(request: Request) -> web.Response:
        is_open = await request.read(agents.needs_first_owner)
        return draw_setup(request, Door()) if is_open else _go(SIGN_IN)

    @route("POST", SETUP, policy=BROWSER, form=SetupForm)
    async def post_setup(request: Request, form: SetupForm) -> web.Response:
        given = auth.sign_in_of(request.http, request.services.config, email=form.email, password=form.password)
        try:
            opened, who = await _set_up(request, form, given)
        except CoreError as error:
            return _refuse(request, draw_setup, Door(email=form.email, name=form.name), error)
        response = _go(HOME)
        auth.remember(response, request.services, opened, given.device, who.public_id)
        return response

    return [get_sign_in, post_sign_in, post_sign_out, get_setup, post_setup]


async def _set_up(request: Request, form: SetupForm, given: auth.SignIn) -> tuple[sessions.Opened, Agent]:
    """Raises SetUpAlready, Invalid, Throttled, TooBusy."""
    if not await request.read(agents.needs_first_owner):
        raise agents.SetUpAlready("this house has an owner already")
    limit = throttle.Limit(key=f"setup:{throttle.prefix(given.address)}", tries=10)
    await request.write(throttle.count, [limit], request.now)
    hashed = await request.services.passwords.hash(form.password)

    def create(conn: Connection) -> tuple[sessions.Opened, Agent]:
        owner = agents.create_first_owner(
            conn, request.by, code=form.code, email=form.email, name=form.name, password_hash=hashed
        )
        opened = sessions.open_session(
            conn, owner.id, request.now, epoch=owner.epoch, address=given.address, user_agent=given.user_agent
        )
        return opened, owner

    return await request.write(create)


def _refuse(request: Request, draw: Draw, door: Door, error: CoreError) -> web.Response:
    problem = (
        Problem(401, error.code, "Wrong address or password.")
        if isinstance(error, auth.SignInRefused)
        else problem_of(error)
    )
    response = draw(request, replace(door, problem=problem))
    if problem is not None:
        response.set_status(problem.status)
        response.headers.update(problem.headers)
    return response


def _go(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})
