"""A running site on a throwaway store: ``site`` for the people API, ``make_site`` for any routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from argon2 import PasswordHasher
from pydantic import SecretStr

from core import agents, api_keys, departments
from core.access import SYSTEM, Role, Scope
from core.audit import By
from core.keys import Keys
from core.passwords import Passwords
from core.store.blobs import LocalBlobs
from core.store.database import PostgresDatabase, SqliteDatabase
from gateway.channels.email_config import EmailConfig
from gateway.config import Config
from gateway.live.hub import Hub
from gateway.web import sign_in
from gateway.web.api import people
from gateway.web.assets import Assets
from gateway.web.routing import Policy, Request, Route, route
from gateway.web.server import Pages, build_app
from gateway.web.services import CheckChannel, Health, PollNow, Services, always_ok
from tests.stores import FakeClock

Client = TestClient[web.Request, web.Application]
PASSWORD = "correct horse battery"


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """``headers`` of anybody come from ``key``; a browser's from ``sign_in`` and its cookie jar."""

    client: Client
    services: Services
    clock: FakeClock
    origin: str

    @property
    def house(self) -> By:
        return By(actor=SYSTEM, now=self.clock.now(), key=self.services.keys.audit)

    async def add(self, name: str, role: Role = Role.AGENT, *in_departments: str) -> agents.Agent:
        """An agent NAME@example.com with ``PASSWORD``, in departments that are made where they are new."""
        hashed = await self.services.passwords.hash(PASSWORD)
        write, read = self.services.db.write, self.services.db.read
        made = await write(
            agents.create, self.house, email=f"{name}@example.com", name=name, role=role, password_hash=hashed
        )
        known = {item.name: item.id for item in await read(departments.list_visible, SYSTEM, limit=1000)}
        for title in in_departments:
            if title not in known:
                known[title] = (await write(departments.create, self.house, name=title)).id
        ids = frozenset(known[title] for title in in_departments)
        return await write(agents.set_departments, self.house, made.public_id, ids)

    async def key(self, agent: agents.Agent, *scopes: Scope) -> dict[str, str]:
        """Request headers with a fresh API key of the agent; all scopes unless some are given."""
        actor = await self.services.db.read(agents.actor_of, agent.id)
        assert actor is not None
        by = replace(self.house, actor=actor)
        _, token = await self.services.db.write(
            api_keys.create, by, name="test", scopes=frozenset(scopes or Scope), expires_at=None
        )
        return {"Authorization": f"Bearer {token}"}

    async def sign_in(self, agent: agents.Agent, *, csrf: str = "") -> dict[str, str]:
        """Sign the client's browser in; return the headers that its changes need."""
        form = {"email": agent.email, "password": PASSWORD, "csrf": csrf}
        headers = {"Origin": self.origin}
        async with self.client.post("/sign-in", data=form, headers=headers, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
        async with self.client.get("/csrf") as answer:
            return {"Origin": self.origin, "X-CSRF-Token": await answer.text()}


MakeSite = Callable[..., Awaitable[Site]]


def draw(request: Request, door: sign_in.Door) -> web.Response:
    code = door.problem.code if door.problem is not None else ""
    return web.Response(text=f"{request.http.path}|{door.email}|{door.next}|{code}", content_type="text/html")


async def all_is_well(config: EmailConfig) -> Sequence[str]:
    return ["it answers"]


@pytest.fixture
async def make_site(
    store: SqliteDatabase | PostgresDatabase, clock: FakeClock, tmp_path: Path
) -> AsyncIterator[MakeSite]:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    clients: list[Client] = []

    async def make(
        routes: Sequence[Route] = people.ROUTES,
        *,
        pages: Sequence[Route] = (),
        health: Health = always_ok,
        poll_now: PollNow = lambda channel_id: False,
        check_channel: CheckChannel = all_is_well,
        **config: Any,
    ) -> Site:
        services = Services(
            db=store,
            blobs=LocalBlobs(tmp_path / "blobs"),
            keys=Keys(b"k" * 32),
            config=Config(redis=SecretStr("redis://localhost"), **config),
            clock=clock,
            live=Hub(),
            passwords=passwords,
            assets=Assets(urls={"docs.js": "/static/docs-1.js"}, files={}),
            health=health,
            poll_now=poll_now,
            check_channel=check_channel,
        )
        doors = sign_in.routes(draw_sign_in=draw, draw_setup=draw)
        app = build_app(services, [*routes, get_csrf], Pages(routes=[*doors, *pages]))
        client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return Site(client=client, services=services, clock=clock, origin=f"http://{client.host}:{client.port}")

    yield make
    for client in clients:
        await client.close()
    passwords.close()


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site()


async def _csrf(request: Request) -> web.Response:
    return web.Response(text=request.csrf or "")


get_csrf = route("GET", "/csrf", policy=Policy(who="session"))(_csrf)
