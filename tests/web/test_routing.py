"""The thin layer: bodies, policies, problems, headers, hosts."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from core import agents
from core.access import SYSTEM, Action, Actor, Role
from core.errors import Conflict, CoreError, Invalid, NotFound, PermissionDenied
from core.store.database import StoreError
from gateway.web import bodies, routing, sse
from gateway.web.api import people
from gateway.web.api.schemas_common import Input, Output
from gateway.web.problems import Problem
from gateway.web.routing import Policy, Request, Route, RouteUnguarded, check_routes, route
from gateway.web.server import HEALTH_PATH, build_app
from tests.web.conftest import MakeSite, Site

STORES = ("sqlite",)
MACHINE = Policy(who="machine")


class EchoIn(Input):
    text: str = ""
    number: int = Field(0, ge=0)
    deep: list[Any] = Field([])


class EchoOut(Output):
    text: str
    number: int


@route("POST", "/api/v1/echo", policy=MACHINE, body=EchoIn, returns=EchoOut)
async def post_echo(request: Request, body: EchoIn) -> EchoOut:
    return EchoOut(text=body.text, number=body.number)


@route("GET", "/api/v1/plain", policy=MACHINE, returns=EchoOut)
async def get_plain(request: Request) -> EchoOut:
    return EchoOut(text=request.address, number=0)


SECRET = "SELECT hunter2 FROM /etc/passwd"
FAILURES: dict[str, tuple[Exception, int, str]] = {
    "NotFound": (NotFound(SECRET), 404, "not_found"),
    "PermissionDenied": (PermissionDenied(SECRET), 403, "forbidden"),
    "Conflict": (Conflict("was first"), 409, "conflict"),
    "Invalid": (Invalid("no", fields={"name": "odd"}), 422, "invalid"),
    "CoreError": (CoreError("no"), 400, "error"),
    "StoreError": (StoreError(SECRET), 503, "store_unavailable"),
    "ValueError": (ValueError(SECRET), 500, "internal"),
    "ExceptionGroup": (ExceptionGroup(SECRET, [ValueError(SECRET)]), 500, "internal"),
    "RecursionError": (RecursionError(SECRET), 500, "internal"),
    "Problem": (Problem(418, "teapot", "short and stout"), 418, "teapot"),
    "HTTPForbidden": (web.HTTPForbidden(text=SECRET), 403, "refused"),
    "HTTPInternalServerError": (web.HTTPInternalServerError(text=SECRET), 500, "internal"),
}


@route("GET", "/api/v1/failures/{name}", policy=MACHINE)
async def get_failure(request: Request) -> None:
    raise FAILURES[request.params["name"]][0]


@route("GET", "/page", policy=MACHINE)
async def get_page(request: Request) -> None:
    raise ValueError(SECRET)


ROUTES = [post_echo, get_plain, get_failure, get_page]


@pytest.fixture
async def echo(make_site: MakeSite) -> Site:
    return await make_site(ROUTES)


async def post(site: Site, raw: bytes, **headers: str) -> tuple[int, Any]:
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    async with site.client.post("/api/v1/echo", data=io.BytesIO(raw), headers=sent) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.proves("T-G9", "T-G12", "R13.1")
@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b'{"text": "\xc3\xa9\\u00e9", "number": 3}', 200, None),
        (b"{}", 200, None),
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"\xff\xfe{}", 400, "malformed"),
        (b'{"text": "a", "text": "b"}', 400, "malformed"),
        (b'{"deep": [{"x": 1, "x": 2}]}', 400, "malformed"),
        (b'{"number": NaN}', 400, "malformed"),
        (b'{"number": -Infinity}', 400, "malformed"),
        (b'{"number": 9223372036854775808}', 400, "malformed"),
        (b'{"number": ' + b"9" * 5000 + b"}", 400, "malformed"),
        (b'{"text": "a\\u0000b"}', 400, "malformed"),
        (b'{"text": "\\ud800"}', 400, "malformed"),
        (b'{"\\ud800": 1}', 400, "malformed"),
        (b'{"deep": ' + b"[" * 31 + b"]" * 31 + b"}", 200, None),
        (b'{"deep": ' + b"[" * 32 + b"]" * 32 + b"}", 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b"null", 422, "invalid"),
        (b'{"number": "3"}', 422, "invalid"),
        (b'{"number": 3.5}', 422, "invalid"),
        (b'{"number": true}', 422, "invalid"),
        (b'{"number": -1}', 422, "invalid"),
        (b'{"other": 1}', 422, "invalid"),
        (b'{"text": null}', 422, "invalid"),
        (b'"' + b"x" * bodies.MAX_JSON_BYTES + b'"', 413, "too_large"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
async def test_body_is_taken_only_if_it_means_one_thing(echo: Site, raw: bytes, status: int, code: str | None) -> None:
    got, answer = await post(echo, raw)
    assert (got, answer.get("code")) == (status, code)


@pytest.mark.proves("T-G9")
async def test_body_of_unknown_length_is_cut_off_at_the_cap(echo: Site) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65536

    headers = {"Content-Type": "application/json"}
    async with echo.client.post("/api/v1/echo", data=endless(), headers=headers) as answer:
        assert answer.status == 413


@pytest.mark.proves("T-L07")
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json; charset=utf-16", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
        ("application/jsonp", 415),
    ],
)
async def test_body_must_say_that_it_is_json(echo: Site, kind: str, status: int) -> None:
    assert (await post(echo, b"{}", Content_Type=kind))[0] == status


@pytest.mark.parametrize("query", ["?a=1", "?a", "?limit=1"])
async def test_parameter_that_nobody_asked_for_is_refused(echo: Site, query: str) -> None:
    async with echo.client.get(f"/api/v1/plain{query}") as answer:
        assert answer.status == 422


@pytest.mark.parametrize(
    ("query", "status"),
    [("limit=1", 200), ("limit=0", 422), ("limit=201", 422), ("limit=x", 422), ("limit=1&limit=2", 422),
     ("cursor=%00", 400), ("order=up", 422), ("limit=%EF%BC%91", 422), ("limit=" + "9" * 5000, 422)],
)  # fmt: skip
async def test_query_is_held_to_its_model(make_site: MakeSite, query: str, status: int) -> None:
    site = await make_site(people.ROUTES)
    headers = await site.key(await site.add("me", Role.OWNER))
    async with site.client.get(f"/api/v1/agents?{query}", headers=headers) as answer:
        assert answer.status == status


@pytest.mark.proves("T-G10")
@pytest.mark.parametrize("name", FAILURES)
async def test_failure_becomes_a_problem_without_internals(echo: Site, name: str) -> None:
    _, status, code = FAILURES[name]
    async with echo.client.get(f"/api/v1/failures/{name}") as answer:
        text = await answer.text()
        problem = json.loads(text)
        assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
        assert answer.content_type == "application/problem+json"
        assert set(problem) == {"type", "title", "status", "code", "detail", "ref", "errors"}
        assert problem["ref"] == answer.headers["X-Request-ID"]
        assert "hunter2" not in text
        assert "passwd" not in str(answer.headers)


@pytest.mark.proves("T-G10")
async def test_failing_page_shows_no_internals(echo: Site) -> None:
    async with echo.client.get("/page") as answer:
        assert answer.status == 500
        assert "hunter2" not in await answer.text()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("PUT", "/api/v1/plain", 405, "method_not_allowed"),
        ("TRACE", "/api/v1/plain", 405, "method_not_allowed"),
    ],
)
async def test_what_no_route_takes_is_a_problem_too(echo: Site, method: str, path: str, status: int, code: str) -> None:
    async with echo.client.request(method, path) as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (status, code)


@pytest.mark.proves("T-E12", "T-E13")
@pytest.mark.parametrize("path", ["/api/v1/plain", "/api/v1/nothing", "/page", "/sign-in", "/healthz", "/api/docs"])
async def test_every_answer_carries_the_headers(echo: Site, path: str) -> None:
    async with echo.client.get(path, allow_redirects=False) as answer:
        headers = answer.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe-eval" not in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "gatehouse"


@pytest.mark.proves("T-C07")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("help.example.com", 200),
        ("HELP.example.com:443", 200),
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("help.example.com:8443", 421),
        ("evil.example", 421),
        ("help.example.com.evil.example", 421),
        ("help.example.com@evil.example", 421),
        ("evil.example#help.example.com", 421),
        ("help.example.com, evil.example", 421),
        ("help.example.com:x", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_only_own_names_are_answered(make_site: MakeSite, host: str, status: int) -> None:
    site = await make_site(ROUTES, public_url="https://help.example.com/")
    async with site.client.get("/api/v1/plain", headers={"Host": host}) as answer:
        assert answer.status == status
    async with site.client.get(HEALTH_PATH, headers={"Host": host}) as answer:
        assert answer.status == 200


@pytest.mark.proves("T-L12")
@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ((), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.1",), "203.0.113.1, 203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8", "10.0.0.0/8"), "203.0.113.9, 10.1.1.1", "203.0.113.9"),
        (("127.0.0.1",), "<script>", "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.1, ", "127.0.0.1"),
    ],
)
async def test_forwarded_address_counts_only_from_own_proxies(
    make_site: MakeSite, trusted: tuple[str, ...], forwarded: str, address: str
) -> None:
    site = await make_site(ROUTES, trusted_proxies=trusted)
    async with site.client.get("/api/v1/plain", headers={"X-Forwarded-For": forwarded}) as answer:
        assert (await answer.json())["text"] == address


@pytest.mark.proves("T-G1")
@pytest.mark.parametrize(
    ("policy", "method", "words"),
    [
        (None, "GET", "no policy"),
        ("agent", "GET", "no policy"),
        (Policy(who="everybody"), "GET", "nobody is called"),  # type: ignore[arg-type]  # what a typo would do
        (MACHINE, "POST", "given twice"),
    ],
)
def test_route_without_a_policy_stops_the_start(policy: Any, method: str, words: str) -> None:
    wrong = route(method, "/api/v1/echo", policy=policy)(post_echo.handler)
    with pytest.raises(RouteUnguarded, match=words):
        check_routes([post_echo, wrong])


@pytest.mark.proves("T-G1")
async def test_route_that_went_around_the_layer_stops_the_start(echo: Site) -> None:
    app = build_app(echo.services, ROUTES)

    async def stray(request: web.Request) -> web.Response:
        return web.Response()

    app.router.add_get("/stray", stray)
    runner = web.AppRunner(app)
    with pytest.raises(RouteUnguarded, match="stray"):
        await runner.setup()
    await runner.cleanup()


@pytest.mark.proves("R13.4", "T-G10")
async def test_health_tells_details_only_to_admins(make_site: MakeSite) -> None:
    async def failing() -> Mapping[str, Any]:
        return {"status": "failing", "store": "disk full"}

    site = await make_site(ROUTES, health=failing)
    shown = []
    for role in (None, Role.AGENT, Role.ADMIN):
        headers = await site.key(await site.add(f"me{role}", role)) if role else {}
        async with site.client.get(HEALTH_PATH, headers=headers) as answer:
            assert answer.status == 503
            shown.append(await answer.json())
    assert shown == [{"status": "failing"}] * 2 + [{"status": "failing", "store": "disk full"}]


NOTED: list[sse.ServerEvent] = []


def noted_after(conn: Connection, actor: Actor, after: int) -> list[sse.ServerEvent]:
    return [event for event in NOTED if event.id > after]


def newest(conn: Connection) -> int:
    return NOTED[-1].id if NOTED else 0


@route("GET", "/api/v1/stream", policy=Policy(who="agent", action=Action.TICKET_READ))
async def get_stream(request: Request) -> web.StreamResponse:
    return await sse.stream(request, noted_after, topics=("events",), action=Action.TICKET_READ, newest=newest)


def event(number: int) -> sse.ServerEvent:
    return sse.ServerEvent(id=number, kind="note", data=json.dumps({"n": number}))


async def lines(answer: Any, count: int) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            line = (await answer.content.readline()).decode().strip()
            if line.startswith("id:"):
                found.append(line)
    return found


@pytest.mark.proves("R13.1")
async def test_stream_goes_on_where_it_broke_off(make_site: MakeSite) -> None:
    site = await make_site([get_stream])
    NOTED[:] = [event(1), event(2), event(3)]
    headers = {**await site.key(await site.add("me", Role.ADMIN)), "Last-Event-ID": "1"}
    async with site.client.get("/api/v1/stream", headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        assert await lines(answer, 2) == ["id: 2", "id: 3"]
        NOTED.append(event(4))
        site.services.live.wake("events")
        assert await lines(answer, 1) == ["id: 4"]


@pytest.mark.proves("T-L05", "R8.3")
async def test_stream_ends_when_rights_end(make_site: MakeSite) -> None:
    site = await make_site([get_stream])
    NOTED[:] = [event(1)]
    me = await site.add("me")
    await site.sign_in(me)
    async with site.client.get("/api/v1/stream", headers={"Last-Event-ID": "0"}) as answer:
        assert await lines(answer, 1) == ["id: 1"]
        await site.services.db.write(agents.set_active, site.house, me.public_id, is_active=False)
        NOTED.append(event(2))
        site.services.live.wake("people")
        async with asyncio.timeout(20):
            rest = await answer.content.read()
        assert b"id: 2" not in rest


class RightsEndWhileRead(Request):
    """Plants the race: what happens between the read of a batch and its write."""

    async def read(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        found = await super().read(function, *args, **kwargs)
        if function is noted_after and found:
            house = replace(self.by, actor=SYSTEM)
            me = await super().read(agents.find_by_id, self.actor.agent_id or 0)
            assert me is not None
            await self.write(agents.set_departments, house, me.public_id, frozenset())
            if found[-1].id == 2:
                await self.write(agents.set_active, house, me.public_id, is_active=False)
        return found


@route("GET", "/api/v1/raced", policy=Policy(who="agent", action=Action.TICKET_READ))
async def get_raced(request: Request) -> web.StreamResponse:
    values = {name: getattr(request, name) for name in request.__dataclass_fields__}
    raced = RightsEndWhileRead(**values)
    return await sse.stream(raced, noted_after, topics=("events",), action=Action.TICKET_READ, newest=newest)


@pytest.mark.proves("T-L05", "R8.3")
@pytest.mark.parametrize(
    ("happened", "seen"),
    [([1], ["id: 1"]), ([2], [])],  # departments changed: read anew with those of now; deactivated: nothing any more
    ids=["department lost", "deactivated"],
)
async def test_batch_read_while_rights_change_is_not_sent_as_it_was(
    make_site: MakeSite, happened: list[int], seen: list[str]
) -> None:
    site = await make_site([get_raced])
    NOTED[:] = [event(number) for number in happened]
    headers = {**await site.key(await site.add("me", Role.AGENT, "Support")), "Last-Event-ID": "0"}
    async with site.client.get("/api/v1/raced", headers=headers) as answer:
        if seen:
            assert await lines(answer, 1) == seen
            NOTED.append(event(2))
            site.services.live.wake("events")
        async with asyncio.timeout(20):
            rest = await answer.content.read()
    assert b"id: " not in rest


async def test_stream_ends_at_shutdown(make_site: MakeSite) -> None:
    site = await make_site([get_stream])
    headers = await site.key(await site.add("me"))
    async with site.client.get("/api/v1/stream", headers=headers) as answer:
        app = site.client.app
        assert app is not None
        await app[sse.STREAMS].close(app)
        async with asyncio.timeout(20):
            await answer.content.read()
    assert not app[sse.STREAMS].waiters


@pytest.mark.parametrize("position", ["x", "-1", "1" * 30, "²"])
async def test_stream_begins_at_no_made_up_position(make_site: MakeSite, position: str) -> None:
    site = await make_site([get_stream])
    headers = {**await site.key(await site.add("me")), "Last-Event-ID": position}
    async with site.client.get("/api/v1/stream", headers=headers) as answer:
        assert answer.status == 400


def test_names_of_routes_are_those_of_their_handlers() -> None:
    assert isinstance(post_echo, Route)
    assert post_echo.name == "post_echo"
    assert routing.dump(EchoOut(text="x", number=1)) == b'{"text":"x","number":1}'
