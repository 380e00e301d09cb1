"""Who gets what: every route of the API, for every actor, on things of both departments and on things that are not.

The table is written by hand; the routes come from the application. A route or an id in a body that the tables do not
know fails the test: whoever adds one has to say who may.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel

from core import agents, api_keys
from core.access import Role, Scope
from gateway.web.api.all_routes import ROUTES
from gateway.web.routing import Route
from tests.web.conftest import MakeSite
from tests.web.world import PEOPLE, Sent, World, add_ticket, config_of, open_world, quarantine, send_answer

MISSING = "0123456789abcdefghjkmnpqrs"
NEW_PASSWORD = "a quite long password"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """``who``: department (whoever sees the thing), admin, anyone, session (no API key), or own (nobody else's)."""

    who: str
    scope: Scope
    ok: frozenset[int] = frozenset({200})
    body: dict[str, Any] | None = None
    thing: str = ""  #: what ``{id}`` or ``{code}`` names


def department(thing: str, scope: Scope, *ok: int, body: dict[str, Any] | None = None) -> Rule:
    return Rule(who="department", scope=scope, ok=frozenset(ok or (200,)), body=body, thing=thing)


def admin(thing: str, scope: Scope, *ok: int, body: dict[str, Any] | None = None) -> Rule:
    return Rule(who="admin", scope=scope, ok=frozenset(ok or (200,)), body=body, thing=thing)


def anyone(scope: Scope, *ok: int, body: dict[str, Any] | None = None) -> Rule:
    return Rule(who="anyone", scope=scope, ok=frozenset(ok or (200,)), body=body)


R, W, A = Scope.READ, Scope.WRITE, Scope.ADMIN
CHANNEL = {"kind": "email", "name": "New", "department": "SUPPORT", "config": {"address": "another@desk.test"}}

RULES = {
    "GET /tickets": anyone(R),
    "GET /tickets/figures": anyone(R),
    "GET /tickets/{code}": department("ticket", R),
    "PATCH /tickets/{code}": department("ticket", W, body={"status": "open"}),
    "GET /tickets/{code}/messages": department("ticket", R),
    "POST /tickets/{code}/answers": department("ticket", W, 201, body={"text": "Hello."}),
    "GET /messages/{id}": department("message", R),
    "GET /messages/{id}/raw": admin("message", R),
    "POST /messages/{id}/cancellation": department("answer", W, 200, 409),
    "POST /messages/{id}/hold": department("answer", W, 200, 409),
    "POST /messages/{id}/release": department("answer", W, 200, 409),
    "POST /messages/{id}/sent-mark": department("answer", W, 200, 409),
    "POST /messages/{id}/resend": department("answer", W, 200, 409, body={}),
    "GET /deliveries": anyone(R),
    "GET /deliveries/figures": admin("", R),
    "GET /deliveries/{id}": department("delivery", R),
    "GET /deliveries/{id}/report": department("delivery", R),
    "GET /ledger": admin("", R),
    "GET /ledger/figures": admin("", R),
    "GET /ledger/{id}": admin("ledger", R),
    "GET /ledger/{id}/raw": admin("ledger", R),
    "POST /ledger/{id}/replay": admin("ledger", W, 200, 409),
    "POST /ledger/{id}/dismissal": admin("ledger", W, 200, 409, body={"reason": "no"}),
    "POST /quarantine/replays": admin("", W, body={"channel": "CHANNEL"}),
    "GET /channel-kinds": admin("", R),
    "GET /channels": admin("", R),
    "POST /channels": admin("", A, 201, 409, body=CHANNEL),
    "GET /channels/{id}": admin("channel", R),
    "PATCH /channels/{id}": admin("channel", A, body={"name": "Other"}),
    "DELETE /channels/{id}": admin("channel", A, 409),
    "POST /channels/{id}/test": admin("channel", A),
    "POST /channels/{id}/poll": admin("channel", A),
    "GET /attachments/{id}/content": department("attachment", R),
    "GET /events": anyone(R),
    "GET /me": anyone(R),
    "PATCH /me": anyone(A, body={}),
    "PUT /me/password": Rule(who="session", scope=A, body={"current": "x", "password": NEW_PASSWORD}),
    "GET /agents": anyone(R),
    "POST /agents": admin("", A, 201, 409, body={"email": "new@example.com", "name": "New"}),
    "GET /agents/{id}": department("agent", R),
    "PATCH /agents/{id}": admin("agent", A, body={"alias": "x"}),
    "PUT /agents/{id}/password": admin("agent", A, 204, body={"password": NEW_PASSWORD}),
    "POST /agents/{id}/reset-link": admin("agent", A, 201),
    "GET /departments": anyone(R),
    "POST /departments": admin("", A, 201, 409, body={"name": "Returns"}),
    "GET /departments/{id}": department("department", R),
    "PATCH /departments/{id}": admin("department", A, body={"reopen_days": 3}),
    "GET /departments/{id}/members": department("department", R),
    "PUT /departments/{id}/members/{agent}": admin("department", A, 204),
    "DELETE /departments/{id}/members/{agent}": admin("department", A, 204),
    "GET /sessions": anyone(A),
    "DELETE /sessions/{id}": Rule(who="own", scope=A, thing="session"),
    "GET /api-keys": anyone(A),
    "POST /api-keys": anyone(A, 201, body={"name": "x", "scopes": ["admin"]}),
    "DELETE /api-keys/{id}": Rule(who="own", scope=A, thing="api_key"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    name: str
    role: Role | None
    places: tuple[str, ...] = ()
    scopes: frozenset[Scope] = field(default=frozenset(Scope))

    @property
    def label(self) -> str:
        return self.name if len(self.scopes) == len(Scope) else f"{self.name}:{''.join(sorted(self.scopes))}"


CALLERS = [
    Caller(name="stranger", role=None),
    *(Caller(name=name, role=role, places=places) for name, role, places in PEOPLE),
    *(Caller(name="both", role=Role.AGENT, places=("Support", "Sales"), scopes=frozenset({scope})) for scope in Scope),
    *(Caller(name="admin", role=Role.ADMIN, scopes=frozenset({scope})) for scope in Scope),
]


def place_of(route: Route) -> str:
    return f"{route.method} {route.path.removeprefix('/api/v1')}"


def expected(rule: Rule, caller: Caller, where: str) -> frozenset[int]:
    if caller.role is None:
        return frozenset({401})
    if rule.who == "session" or rule.scope not in caller.scopes:
        return frozenset({403})
    if rule.who == "admin" and caller.role is Role.AGENT:
        return frozenset({403})
    if not rule.thing:
        return rule.ok
    if where == "missing" or rule.who == "own":
        return frozenset({404})
    return rule.ok if caller.role is not Role.AGENT or where in caller.places else frozenset({404})


@dataclass(frozen=True, kw_only=True, slots=True)
class Things:
    """Public ids by kind of thing and department."""

    ids: dict[tuple[str, str], str]

    def path(self, route: Route, rule: Rule, where: str) -> str:
        name = MISSING if where == "missing" else self.ids.get((rule.thing, where), MISSING)
        agent = self.ids["agent", "Support"]
        return route.path.replace("{code}", name).replace("{id}", name).replace("{agent}", agent)

    def body(self, rule: Rule) -> Any:
        text = json.dumps(rule.body)
        text = text.replace("SUPPORT", self.ids["department", "Support"])
        return json.loads(text.replace("CHANNEL", self.ids["channel", "Support"]))


async def things_of(world: World) -> Things:
    ids: dict[tuple[str, str], str] = {}
    for where, place, writer in (("Support", world.support, "ann"), ("Sales", world.sales, "eve")):
        sent: Sent = await send_answer(world.site, place, world.people[writer].id)
        ids |= {
            ("ticket", where): place.code,
            ("message", where): place.inbound,
            ("answer", where): sent.message,
            ("delivery", where): sent.delivery,
            ("attachment", where): place.attachment,
            ("channel", where): place.channel,
            ("department", where): place.department,
            ("agent", where): world.people[writer].public_id,
            ("ledger", where): await quarantine(world.site, place),
        }
    other = await world.site.add("other", Role.OWNER, "Support", "Sales")
    await world.site.key(other)
    owner = await world.site.services.db.read(agents.actor_of, other.id)
    assert owner is not None
    (key,) = await world.site.services.db.read(api_keys.list_own, owner, limit=1)
    return Things(ids=ids | {("api_key", "Support"): key.public_id, ("api_key", "Sales"): key.public_id})


def test_every_route_is_in_the_table() -> None:
    assert {place_of(route) for route in ROUTES} == set(RULES)


@pytest.mark.proves("T-M01", "T-G1", "T-G2", "T-M13", "R8.1", "R8.5")
@pytest.mark.parametrize("route", ROUTES, ids=place_of)
async def test_route_gives_each_caller_what_the_table_says(make_site: MakeSite, route: Route) -> None:
    world = await open_world(make_site)
    things = await things_of(world)
    rule = RULES[place_of(route)]
    wheres = ("Support", "Sales", "missing") if rule.thing else ("",)
    headers = {
        caller.label: await world.site.key(world.people[caller.name], *caller.scopes) if caller.role else {}
        for caller in CALLERS
    }
    cases = sorted(
        itertools.product(CALLERS, wheres), key=lambda case: expected(rule, *case) == rule.ok
    )  # the refused first: what the others change must not help them
    missing: dict[str, bytes] = {}
    for caller, where in cases:
        path = things.path(route, rule, where)
        async with world.site.client.request(
            route.method, path, headers=headers[caller.label], json=things.body(rule) if route.body else None
        ) as answer:
            assert answer.status in expected(rule, caller, where), (caller.label, where, answer.status)
            if answer.status == 404:
                told = await answer.json()
                ref = told.pop("ref")
                assert ref
                missing[caller.label] = json.dumps(told).encode()
    assert len(set(missing.values())) <= 1, "not there and not yours look the same"


#: Ids inside bodies and queries: who sends which foreign one, in what. All are answered 404.
SUBSTITUTIONS: dict[tuple[str, str], tuple[str, str]] = {
    ("GET /tickets", "department"): ("ann", "?department={department}"),
    ("GET /tickets", "agent"): ("ann", "?agent={agent}"),
    ("PATCH /tickets/{code}", "agent"): ("ann", '{{"agent": "{agent}", "status": "closed"}}'),
    ("PATCH /tickets/{code}", "department"): ("ann", '{{"department": "{missing}", "status": "closed"}}'),
    ("POST /messages/{id}/resend", "deliveries"): ("ann", '{{"deliveries": ["{delivery}"]}}'),
    ("GET /deliveries", "channel"): ("ann", "?channel={channel}"),
    ("GET /deliveries", "department"): ("ann", "?department={department}"),
    ("GET /deliveries", "agent"): ("ann", "?agent={agent}"),
    ("GET /deliveries/figures", "channel"): ("admin", "?channel={missing}"),
    ("GET /deliveries/figures", "department"): ("admin", "?department={missing}"),
    ("GET /deliveries/figures", "agent"): ("admin", "?agent={missing}"),
    ("GET /ledger", "channel"): ("admin", "?channel={missing}"),
    ("GET /ledger/figures", "channel"): ("admin", "?channel={missing}"),
    ("POST /quarantine/replays", "channel"): ("admin", '{{"channel": "{missing}"}}'),
    ("POST /channels", "department"): (
        "admin",
        '{{"kind": "email", "name": "x", "department": "{missing}", "config": {{"address": "q@desk.test"}}}}',
    ),
    ("PATCH /channels/{id}", "department"): ("admin", '{{"name": "x", "department": "{missing}"}}'),
    ("POST /agents", "departments"): (
        "admin",
        '{{"email": "q@example.com", "name": "q", "departments": ["{missing}"]}}',
    ),
    ("PATCH /agents/{id}", "departments"): ("admin", '{{"alias": "q", "departments": ["{missing}"]}}'),
}


def id_fields() -> Iterator[tuple[str, str]]:
    """Every field of a body or query that takes a public id."""
    for route in ROUTES:
        for model in (route.body, route.query):
            for name, described in _properties(model):
                if "A-Za-z0-9_.~-" in json.dumps(described):
                    yield place_of(route), name


def _properties(model: type[BaseModel] | None) -> list[tuple[str, Any]]:
    return list(model.model_json_schema().get("properties", {}).items()) if model is not None else []


def test_every_id_in_a_body_is_in_the_table() -> None:
    assert set(id_fields()) == set(SUBSTITUTIONS)


@pytest.mark.proves("T-M02", "T-F03", "T-G2")
@pytest.mark.parametrize(("place", "name"), SUBSTITUTIONS, ids=lambda value: value)
async def test_foreign_id_inside_a_request_is_not_there_and_nothing_happens(
    make_site: MakeSite, place: str, name: str
) -> None:
    world = await open_world(make_site)
    things = await things_of(world)
    who, given = SUBSTITUTIONS[place, name]
    method, path = place.split(" ", 1)
    route = next(route for route in ROUTES if place_of(route) == place)
    path = things.path(route, RULES[place], "Support")
    values = {kind: things.ids[kind, "Sales"] for kind in ("department", "agent", "delivery", "channel")}
    given = given.format(**values, missing=MISSING)
    before = await _everything(world)
    body = None if method == "GET" else json.loads(given)
    status, problem = await world.call(who, method, path + (given if method == "GET" else ""), body)
    assert (status, problem["code"]) == (404, "not_found")
    assert await _everything(world) == before


async def _everything(world: World) -> list[Any]:
    paths = ("/tickets", "/deliveries", "/channels", "/ledger", "/agents", "/departments")
    return [await world.call("owner", "GET", path) for path in paths]


SEEN_BY_ANN = (
    "/tickets",
    "/tickets?limit=1",
    "/tickets?q=Help",
    "/tickets?agent=none",
    "/tickets/figures",
    "/tickets/SUPPORT",
    "/tickets/SUPPORT/messages",
    "/deliveries",
    "/deliveries?limit=1",
    "/deliveries?domain=customer.test",
    "/agents",
    "/departments",
    "/me",
)


@pytest.mark.proves("T-M03", "T-M07", "T-M09", "T-M12")
async def test_answers_are_the_same_bytes_with_and_without_foreign_things(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    await send_answer(world.site, world.support, world.people["ann"].id)

    async def seen() -> dict[str, bytes]:
        found = {}
        for path in SEEN_BY_ANN:
            url = "/api/v1" + path.replace("SUPPORT", world.support.code)
            async with world.site.client.get(url, headers=world.headers["ann"]) as answer:
                assert answer.status == 200
                found[path] = await answer.read()
        return found

    before = await seen()
    place = world.sales
    digest = await world.site.services.blobs.put(world.support.content)
    for number in range(3):
        await world.site.services.db.write(
            add_ticket, world.site, place.department_id, place.channel_id, world.support.content, digest, number
        )
    await send_answer(world.site, place, world.people["eve"].id)
    await quarantine(world.site, place)
    await world.site.add("colleague", Role.AGENT, "Sales")
    body = {"kind": "email", "name": "S2", "department": place.department}
    config = config_of("two@desk.test").model_dump(mode="json", exclude={"imap", "smtp"})
    assert (await world.call("admin", "POST", "/channels", body | {"config": config}))[0] == 201
    assert await seen() == before
