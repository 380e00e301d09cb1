"""Departments and agents: who is here, what they may, and forms to add and change some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core import agents, departments, reset_links
from core.access import Action, Actor, Role, may
from core.agents import Agent
from core.departments import Department
from core.errors import CoreError
from core.reset_links import Made
from gateway.web import security
from gateway.web.api.schemas_common import FormInput
from gateway.web.console import reset
from gateway.web.console.forms import BROWSER, Nothing, go
from gateway.web.console.frame import page
from gateway.web.problems import Problem, problem_of
from gateway.web.routing import Policy, Request, route
from gateway.web.services import PEOPLE

MANAGES_AGENTS = Policy(who="session", action=Action.AGENT_MANAGE)
MANAGES_DEPARTMENTS = Policy(who="session", action=Action.DEPARTMENT_MANAGE)
THEMES = ("system", "light", "dark")


class AgentForm(FormInput):
    email: str = Field(default="", max_length=1000)
    name: str = Field(default="", max_length=1000)
    alias: str = Field(default="", max_length=1000)
    role: Role = Role.AGENT
    password: str = Field(default="", max_length=10_000)
    departments: list[str] = Field(default_factory=list, max_length=500)


class PersonForm(FormInput):
    name: str = Field(default="", max_length=1000)
    alias: str = Field(default="", max_length=1000)
    role: Role


class MembersForm(FormInput):
    departments: list[str] = Field(default_factory=list, max_length=500)


class DepartmentForm(FormInput):
    name: str = Field(default="", max_length=1000)
    signature: str = Field(default="", max_length=10_000)


class ThemeForm(FormInput):
    theme: str = Field(default="system", max_length=10)
    next: str = Field(default="/", max_length=2000)


@route("GET", "/team", policy=MANAGES_AGENTS, summary="Departments and agents")
async def get_team(request: Request) -> web.Response:
    return await _draw(request)


@route("POST", "/team/agents", policy=MANAGES_AGENTS, form=AgentForm)
async def post_agent(request: Request, form: AgentForm) -> web.Response:
    try:
        hashed = await request.services.passwords.hash(form.password) if form.password else None

        def add(conn: Connection) -> None:
            made = agents.create(
                conn, request.by, email=form.email, name=form.name, role=form.role, alias=form.alias,
                password_hash=hashed,
            )  # fmt: skip
            _set_members(conn, request, made.public_id, form.departments)

        await request.write(add)
    except CoreError as error:
        return await _refuse(request, error, agent_form=form)
    return go("/team")


@route("POST", "/team/agents/{agent}", policy=MANAGES_AGENTS, form=PersonForm)
async def post_person(request: Request, form: PersonForm) -> web.Response:
    agent_id = request.params["agent"]

    def change(conn: Connection) -> None:
        agents.set_profile(conn, request.by, agent_id, name=form.name, alias=form.alias)
        agents.set_role(conn, request.by, agent_id, form.role)

    return await _change(request, change)


@route("POST", "/team/agents/{agent}/shut-out", policy=MANAGES_AGENTS, form=Nothing)
async def post_shut_out(request: Request, form: Nothing) -> web.Response:
    return await _change(
        request, lambda conn: agents.set_active(conn, request.by, request.params["agent"], is_active=False)
    )


@route("POST", "/team/agents/{agent}/let-in", policy=MANAGES_AGENTS, form=Nothing)
async def post_let_in(request: Request, form: Nothing) -> web.Response:
    return await _change(
        request, lambda conn: agents.set_active(conn, request.by, request.params["agent"], is_active=True)
    )


@route("POST", "/team/agents/{agent}/reset-link", policy=MANAGES_AGENTS, form=Nothing)
async def post_reset_link(request: Request, form: Nothing) -> web.Response:
    """The link is shown once, here; who made it hands it over."""
    try:
        made = await request.write(reset_links.make, request.by, request.params["agent"])
    except CoreError as error:
        return await _refuse(request, error)
    return await _draw(request, made=made)


@route("POST", "/team/agents/{agent}/departments", policy=MANAGES_AGENTS, form=MembersForm)
async def post_members(request: Request, form: MembersForm) -> web.Response:
    return await _change(request, lambda conn: _set_members(conn, request, request.params["agent"], form.departments))


@route("POST", "/team/departments", policy=MANAGES_DEPARTMENTS, form=DepartmentForm)
async def post_department(request: Request, form: DepartmentForm) -> web.Response:
    def add(conn: Connection) -> None:
        made = departments.create(conn, request.by, name=form.name)
        if form.signature.strip():
            departments.change(conn, request.by, made.public_id, signature=form.signature.replace("\r\n", "\n"))

    try:
        await request.write(add)
    except CoreError as error:
        return await _refuse(request, error)
    request.services.live.wake(PEOPLE)  # with the first department agents no longer see everything
    return go("/team")


@route("POST", "/theme", policy=BROWSER, form=ThemeForm)
async def post_theme(request: Request, form: ThemeForm) -> web.Response:
    await request.write(agents.set_theme, request.actor, form.theme if form.theme in THEMES else "system")
    return go(security.local_path(form.next))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    agents: Sequence[Agent]
    departments: Sequence[Department]


def _read(conn: Connection, actor: Actor) -> _Read:
    return _Read(
        agents=agents.list_visible(conn, actor, limit=1000),
        departments=departments.list_visible(conn, actor, limit=1000),
    )


def _set_members(conn: Connection, request: Request, agent_id: str, chosen: Sequence[str]) -> None:
    ids = frozenset(departments.get(conn, request.actor, item).id for item in chosen)
    agents.set_departments(conn, request.by, agent_id, ids)


async def _change(request: Request, change: Callable[[Connection], object]) -> web.Response:
    """Do it; whoever lost rights by it loses them on their open pages too (R8.3)."""
    try:
        await request.write(change)
    except CoreError as error:
        return await _refuse(request, error)
    request.services.live.wake(PEOPLE)
    return go("/team")


async def _draw(
    request: Request,
    problem: Problem | None = None,
    agent_form: AgentForm | None = None,
    made: Made | None = None,
) -> web.Response:
    read = await request.read(_read, request.actor)
    return await page(
        request,
        "team.html",
        section="team",
        status=problem.status if problem is not None else 200,
        agents=read.agents,
        departments=read.departments,
        problem=problem,
        made=made,
        reset_url=reset.link(request, made.code) if made is not None else "",
        is_managed=lambda item: may(request.actor, Action.AGENT_MANAGE, item.ref),
        form=agent_form or AgentForm(),
        roles=[role.value for role in Role if role is not Role.OWNER or request.actor.role is Role.OWNER],
    )


async def _refuse(request: Request, error: CoreError, agent_form: AgentForm | None = None) -> web.Response:
    problem = problem_of(error)
    if problem is None:
        raise error
    return await _draw(request, problem, agent_form)


ROUTES = [
    get_team,
    post_agent,
    post_person,
    post_shut_out,
    post_let_in,
    post_reset_link,
    post_members,
    post_department,
    post_theme,
]
