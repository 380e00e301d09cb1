"""REST for people: me, agents, departments and their members, sessions, API keys."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core import agents, api_keys, departments, reset_links, sessions
from core.access import Action, Role, Scope
from core.agents import Agent
from core.departments import Department
from core.errors import Invalid, NotFound
from gateway.web import auth, paging
from gateway.web.api.schemas_common import Input, Output, PublicId, Secret, ShortName
from gateway.web.paging import Page, PageQuery
from gateway.web.problems import Problem
from gateway.web.routing import Policy, Reply, Request, route
from gateway.web.services import PEOPLE


class DepartmentName(Output):
    id: str
    name: str


class AgentOut(Output):
    id: str
    email: str
    name: str
    alias: str = Field(description="the name that customers see")
    role: Role
    is_active: bool
    departments: list[DepartmentName]
    created_at: datetime

    @classmethod
    def of(cls, agent: Agent) -> AgentOut:
        return cls(
            id=agent.public_id,
            email=agent.email,
            name=agent.name,
            alias=agent.alias,
            role=agent.role,
            is_active=agent.is_active,
            departments=[DepartmentName(id=item.public_id, name=item.name) for item in agent.departments.values()],
            created_at=agent.created_at,
        )


class AgentIn(Input):
    email: str = Field(min_length=3, max_length=agents.MAX_EMAIL)
    name: str = Field(min_length=1, max_length=agents.MAX_NAME)
    role: Role = Role.AGENT
    alias: str = Field("", max_length=agents.MAX_NAME)
    password: Secret | None = Field(None, description="without one the agent cannot sign in yet")
    departments: list[PublicId] = Field([], max_length=1000)


class AgentChange(Input):
    """What is given is changed, all of it or nothing."""

    name: str | None = Field(None, min_length=1, max_length=agents.MAX_NAME)
    alias: str | None = Field(None, max_length=agents.MAX_NAME)
    role: Role | None = None
    is_active: bool | None = None
    departments: list[PublicId] | None = Field(None, max_length=1000)


class MeChange(Input):
    name: str | None = Field(None, min_length=1, max_length=agents.MAX_NAME)
    alias: str | None = Field(None, max_length=agents.MAX_NAME)


class PasswordIn(Input):
    password: Secret


class OwnPasswordIn(Input):
    current: Secret
    password: Secret


class DepartmentOut(Output):
    id: str
    name: str
    signature: str
    reopen_days: int = Field(description="a reply within so many days reopens a closed ticket")
    is_default: bool

    @classmethod
    def of(cls, department: Department) -> DepartmentOut:
        return cls(
            id=department.public_id,
            name=department.name,
            signature=department.signature,
            reopen_days=department.reopen_days,
            is_default=department.is_default,
        )


class DepartmentIn(Input):
    name: ShortName


class DepartmentChange(Input):
    name: ShortName | None = None
    signature: str | None = Field(None, max_length=departments.MAX_SIGNATURE)
    reopen_days: int | None = Field(None, ge=0, le=3650)


class SessionOut(Output):
    id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str
    user_agent: str


class SessionsOut(Output):
    items: list[SessionOut]


class ApiKeyOut(Output):
    id: str
    prefix: str = Field(description="how the key begins, to recognise it by")
    name: str
    scopes: list[Scope]
    created_at: datetime
    used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: api_keys.ApiKey) -> ApiKeyOut:
        return cls(
            id=key.public_id,
            prefix=key.prefix,
            name=key.name,
            scopes=sorted(key.scopes),
            created_at=key.created_at,
            used_at=key.used_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
        )


class ResetLinkMade(Output):
    """``url`` is shown this once; whoever has it sets the agent's password, once and soon."""

    url: str
    expires_at: datetime


class ApiKeyMade(Output):
    """``token`` is shown this once and stored nowhere."""

    key: ApiKeyOut
    token: str


class ApiKeyIn(Input):
    name: ShortName
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    expires_at: datetime | None = None


READ_AGENTS = Policy(who="agent", action=Action.AGENT_READ)
MANAGE_AGENTS = Policy(who="agent", action=Action.AGENT_MANAGE)
READ_DEPARTMENTS = Policy(who="agent", action=Action.DEPARTMENT_READ)
MANAGE_DEPARTMENTS = Policy(who="agent", action=Action.DEPARTMENT_MANAGE)
MANAGE_KEYS = Policy(who="agent", action=Action.API_KEY_MANAGE)
MANAGE_SESSIONS = Policy(who="agent", action=Action.SESSION_MANAGE)


@route("GET", "/api/v1/me", policy=READ_AGENTS, returns=AgentOut, summary="Who I am", tags=("me",))
async def get_me(request: Request) -> AgentOut:
    return AgentOut.of(await request.read(_me, request))


@route(
    "PATCH",
    "/api/v1/me",
    policy=Policy(who="agent", action=Action.SELF_MANAGE),
    body=MeChange,
    returns=AgentOut,
    summary="Change my profile",
    tags=("me",),
)
async def patch_me(request: Request, body: MeChange) -> AgentOut:
    def change(conn: Connection) -> Agent:
        return agents.set_profile(conn, request.by, _me(conn, request).public_id, name=body.name, alias=body.alias)

    return AgentOut.of(await request.write(change))


@route(
    "PUT",
    "/api/v1/me/password",
    policy=Policy(who="session", action=Action.SELF_MANAGE),
    body=OwnPasswordIn,
    summary="Change my password",
    tags=("me",),
)
async def put_my_password(request: Request, body: OwnPasswordIn) -> web.Response:
    """All sessions end; this browser gets a new one (T-L04)."""
    given = auth.sign_in_of(request.http, request.services.config, email="", password=body.current)
    me = await request.read(_me, request)
    try:
        known = await auth.confirm(request.services, given, me.email, request.now)
    except auth.SignInRefused as error:
        raise Invalid("the current password is another one", fields={"current": "wrong"}) from error
    hashed = await request.services.passwords.hash(body.password)

    def change(conn: Connection) -> sessions.Opened:
        changed = agents.set_password(conn, request.by, me.public_id, hashed, epoch=known.epoch)
        return sessions.open_session(
            conn, me.id, request.now, epoch=changed.epoch, address=given.address, user_agent=given.user_agent
        )

    opened = await request.write(change)
    request.services.live.wake(PEOPLE)
    response = web.Response(status=204)
    auth.remember(response, request.services, opened, given.device, me.public_id)
    return response


@route(
    "GET",
    "/api/v1/agents",
    policy=READ_AGENTS,
    query=PageQuery,
    returns=Page[AgentOut],
    summary="Agents: all, or one's colleagues",
    tags=("agents",),
)
async def list_agents(request: Request, query: PageQuery) -> Page[AgentOut]:
    after = _after(request, "agents", query)
    rows = await request.read(agents.list_visible, request.actor, after=after, limit=query.limit + 1)
    return paging.page(
        request.services.keys, "agents", rows, query.limit, position=lambda row: [row.email], item=AgentOut.of
    )


@route(
    "POST",
    "/api/v1/agents",
    policy=MANAGE_AGENTS,
    body=AgentIn,
    returns=AgentOut,
    status=201,
    summary="Add an agent",
    tags=("agents",),
    is_idempotent=True,
)
async def post_agent(request: Request, body: AgentIn) -> Reply:
    hashed = await request.services.passwords.hash(body.password) if body.password is not None else None

    def effect(conn: Connection) -> AgentOut:
        made = agents.create(
            conn, request.by, email=body.email, name=body.name, role=body.role, alias=body.alias, password_hash=hashed
        )
        if body.departments:
            joined = departments.managed_ids(conn, request.by, body.departments)
            made = agents.set_departments(conn, request.by, made.public_id, joined)
        return AgentOut.of(made)

    return await request.once(effect)


@route("GET", "/api/v1/agents/{id}", policy=READ_AGENTS, returns=AgentOut, summary="An agent", tags=("agents",))
async def get_agent(request: Request) -> AgentOut:
    return AgentOut.of(await request.read(agents.get, request.actor, request.params["id"]))


@route(
    "PATCH",
    "/api/v1/agents/{id}",
    policy=MANAGE_AGENTS,
    body=AgentChange,
    returns=AgentOut,
    summary="Change an agent's name, role, departments or access",
    tags=("agents",),
)
async def patch_agent(request: Request, body: AgentChange) -> AgentOut:
    name = request.params["id"]

    def change(conn: Connection) -> Agent:
        changed = agents.managed(conn, request.actor, name)
        if body.name is not None or body.alias is not None:
            changed = agents.set_profile(conn, request.by, name, name=body.name, alias=body.alias)
        if body.role is not None:
            changed = agents.set_role(conn, request.by, name, body.role)
        if body.is_active is not None:
            changed = agents.set_active(conn, request.by, name, is_active=body.is_active)
        if body.departments is not None:
            joined = departments.managed_ids(conn, request.by, body.departments)
            changed = agents.set_departments(conn, request.by, name, joined)
        return changed

    changed = await request.write(change)
    request.services.live.wake(PEOPLE)
    return AgentOut.of(changed)


@route(
    "PUT",
    "/api/v1/agents/{id}/password",
    policy=MANAGE_AGENTS,
    body=PasswordIn,
    summary="Give an agent another password; their sessions end",
    tags=("agents",),
)
async def put_agent_password(request: Request, body: PasswordIn) -> None:
    name = request.params["id"]
    target = await request.read(agents.managed, request.actor, name)
    if target.id == request.actor.agent_id:
        raise Problem(409, "own_password", "Change your own password under /me/password, with the current one.")
    hashed = await request.services.passwords.hash(body.password)
    await request.write(agents.set_password, request.by, name, hashed)
    request.services.live.wake(PEOPLE)


@route(
    "POST",
    "/api/v1/agents/{id}/reset-link",
    policy=MANAGE_AGENTS,
    returns=ResetLinkMade,
    status=201,
    summary="Make a one-time link by which an agent sets a password; a former one is void",
    tags=("agents",),
)
async def post_reset_link(request: Request) -> ResetLinkMade:
    """Takes no Idempotency-Key: the answer holds a secret and is not kept (T-G11)."""
    made = await request.write(reset_links.make, request.by, request.params["id"])
    return ResetLinkMade(url=f"{request.services.config.base_url}/reset/{made.code}", expires_at=made.expires_at)


@route(
    "GET",
    "/api/v1/departments",
    policy=READ_DEPARTMENTS,
    query=PageQuery,
    returns=Page[DepartmentOut],
    summary="Departments: all, or one's own",
    tags=("departments",),
)
async def list_departments(request: Request, query: PageQuery) -> Page[DepartmentOut]:
    after = _after(request, "departments", query)
    rows = await request.read(departments.list_visible, request.actor, after=after, limit=query.limit + 1)
    return paging.page(
        request.services.keys, "departments", rows, query.limit, position=lambda row: [row.name], item=DepartmentOut.of
    )


@route(
    "POST",
    "/api/v1/departments",
    policy=MANAGE_DEPARTMENTS,
    body=DepartmentIn,
    returns=DepartmentOut,
    status=201,
    summary="Add a department",
    tags=("departments",),
    is_idempotent=True,
)
async def post_department(request: Request, body: DepartmentIn) -> Reply:
    reply = await request.once(lambda conn: DepartmentOut.of(departments.create(conn, request.by, name=body.name)))
    request.services.live.wake(PEOPLE)  # with the first department agents no longer see everything
    return reply


@route(
    "GET",
    "/api/v1/departments/{id}",
    policy=READ_DEPARTMENTS,
    returns=DepartmentOut,
    summary="A department",
    tags=("departments",),
)
async def get_department(request: Request) -> DepartmentOut:
    return DepartmentOut.of(await request.read(departments.get, request.actor, request.params["id"]))


@route(
    "PATCH",
    "/api/v1/departments/{id}",
    policy=MANAGE_DEPARTMENTS,
    body=DepartmentChange,
    returns=DepartmentOut,
    summary="Change a department",
    tags=("departments",),
)
async def patch_department(request: Request, body: DepartmentChange) -> DepartmentOut:
    changed = await request.write(
        departments.change,
        request.by,
        request.params["id"],
        name=body.name,
        signature=body.signature,
        reopen_days=body.reopen_days,
    )
    return DepartmentOut.of(changed)


class MembersOut(Output):
    items: list[AgentOut]


@route(
    "GET",
    "/api/v1/departments/{id}/members",
    policy=READ_DEPARTMENTS,
    returns=MembersOut,
    summary="The agents of a department",
    tags=("departments",),
)
async def list_members(request: Request) -> MembersOut:
    found = await request.read(departments.members, request.actor, request.params["id"])
    return MembersOut(items=[AgentOut.of(agent) for agent in found])


@route(
    "PUT",
    "/api/v1/departments/{id}/members/{agent}",
    policy=MANAGE_DEPARTMENTS,
    summary="Let an agent into a department",
    tags=("departments",),
)
async def put_member(request: Request) -> None:
    await request.write(departments.add_member, request.by, request.params["id"], request.params["agent"])
    request.services.live.wake(PEOPLE)


@route(
    "DELETE",
    "/api/v1/departments/{id}/members/{agent}",
    policy=MANAGE_DEPARTMENTS,
    summary="Take an agent out of a department",
    tags=("departments",),
)
async def delete_member(request: Request) -> None:
    await request.write(departments.remove_member, request.by, request.params["id"], request.params["agent"])
    request.services.live.wake(PEOPLE)


@route(
    "GET", "/api/v1/sessions", policy=MANAGE_SESSIONS, returns=SessionsOut, summary="My sessions", tags=("sessions",)
)
async def list_sessions(request: Request) -> SessionsOut:
    found = await request.read(sessions.list_own, request.actor, request.now)
    return SessionsOut(
        items=[
            SessionOut(
                id=item.public_id,
                created_at=item.created_at,
                seen_at=item.seen_at,
                expires_at=item.expires_at,
                address=item.address,
                user_agent=item.user_agent,
            )
            for item in found
        ]
    )


@route("DELETE", "/api/v1/sessions/{id}", policy=MANAGE_SESSIONS, summary="End one of my sessions", tags=("sessions",))
async def delete_session(request: Request) -> None:
    await request.write(sessions.revoke, request.by, request.params["id"])
    request.services.live.wake(PEOPLE)


@route(
    "GET",
    "/api/v1/api-keys",
    policy=MANAGE_KEYS,
    query=PageQuery,
    returns=Page[ApiKeyOut],
    summary="My API keys",
    tags=("api-keys",),
)
async def list_api_keys(request: Request, query: PageQuery) -> Page[ApiKeyOut]:
    after = _after(request, "api-keys", query)
    rows = await request.read(api_keys.list_own, request.actor, after=after, limit=query.limit + 1)
    return paging.page(
        request.services.keys, "api-keys", rows, query.limit, position=lambda row: [row.public_id], item=ApiKeyOut.of
    )


@route(
    "POST",
    "/api/v1/api-keys",
    policy=MANAGE_KEYS,
    body=ApiKeyIn,
    returns=ApiKeyMade,
    status=201,
    summary="Make an API key",
    tags=("api-keys",),
)
async def post_api_key(request: Request, body: ApiKeyIn) -> ApiKeyMade:
    """Takes no Idempotency-Key: the answer holds a secret and is not kept (T-G11)."""
    if body.expires_at is not None and body.expires_at.tzinfo is None:
        raise Problem(422, "invalid", errors=[("expires_at", "needs an offset, like Z")])
    made, token = await request.write(
        api_keys.create, request.by, name=body.name, scopes=frozenset(body.scopes), expires_at=body.expires_at
    )
    return ApiKeyMade(key=ApiKeyOut.of(made), token=token)


@route("DELETE", "/api/v1/api-keys/{id}", policy=MANAGE_KEYS, summary="Revoke an API key", tags=("api-keys",))
async def delete_api_key(request: Request) -> None:
    await request.write(api_keys.revoke, request.by, request.params["id"])
    request.services.live.wake(PEOPLE)


ROUTES = [
    get_me,
    patch_me,
    put_my_password,
    list_agents,
    post_agent,
    get_agent,
    patch_agent,
    put_agent_password,
    post_reset_link,
    list_departments,
    post_department,
    get_department,
    patch_department,
    list_members,
    put_member,
    delete_member,
    list_sessions,
    delete_session,
    list_api_keys,
    post_api_key,
    delete_api_key,
]


def _me(conn: Connection, request: Request) -> Agent:
    found = agents.find_by_id(conn, request.actor.agent_id or 0)
    if found is None:
        raise NotFound("there is no such agent")
    return found


def _after(request: Request, purpose: str, query: PageQuery) -> str:
    return str(paging.decode(request.services.keys, purpose, query.cursor)[0]) if query.cursor else ""
