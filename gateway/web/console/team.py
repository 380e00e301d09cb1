"""Departments and agents: who is here, and simple forms to add some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core import agents, departments
from core.access import Action, Actor, Role
from core.agents import Agent
from core.departments import Department
from core.errors import CoreError
from gateway.web import security
from gateway.web.api.schemas_common import FormInput
from gateway.web.console.forms import BROWSER, go
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


@route("POST", "/team/agents/{agent}/departments", policy=MANAGES_AGENTS, form=MembersForm)
async def post_members(request: Request, form: MembersForm) -> web.Response:
    try:
        await request.write(_set_members, request, request.params["agent"], form.departments)
    except CoreError as error:
        return await _refuse(request, error)
    request.services.live.wake(PEOPLE)
    return go("/team")


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


async def _draw(request: Request, problem: Problem | None = None, agent_form: AgentForm | None = None) -> web.Response:
    read = await request.read(_read, request.actor)
    return await page(
        request,
        "team.html",
        section="team",
        status=problem.status if problem is not None else 200,
        agents=read.agents,
        departments=read.departments,
        problem=problem,
        form=agent_form or AgentForm(),
        roles=[role.value for role in Role if role is not Role.OWNER or request.actor.role is Role.OWNER],
    )


async def _refuse(request: Request, error: CoreError, agent_form: AgentForm | None = None) -> web.Response:
    problem = problem_of(error)
    if problem is None:
        raise error
    return await _draw(request, problem, agent_form)


ROUTES = [get_team, post_agent, post_members, post_department, post_theme]
