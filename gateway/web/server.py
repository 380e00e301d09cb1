"""The application: routes with their policies, and what holds for every request and answer."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler as HttpHandler

from core.access import Action, may
from gateway.web import assets, bodies, openapi, problems, routing, security, sse
from gateway.web.problems import Problem
from gateway.web.routing import Policy, Request, Route, RouteUnguarded, check_routes, route
from gateway.web.services import Services

REF = web.RequestKey("ref", str)
NONCE = web.RequestKey("nonce", str)
SERVICES = web.AppKey("services", Services)
HEALTH_PATH = "/healthz"
SHUTDOWN_SECONDS = 10.0

log = logging.getLogger("gatehouse.web")

#: Draws a refusal as a page, for requests outside /api/; the one to send a 401 on to the sign-in page.
DrawProblem = Callable[[web.Request, Problem, str], web.StreamResponse]


def draw_plainly(request: web.Request, problem: Problem, ref: str) -> web.StreamResponse:
    return web.Response(status=problem.status, text=f"{problem.detail} ({ref})\n", headers=problem.headers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pages:
    """The console: its routes, and how it shows a refusal."""

    routes: Sequence[Route] = ()
    draw_problem: DrawProblem = field(default=draw_plainly)


def build_app(services: Services, routes: Sequence[Route], pages: Pages | None = None) -> web.Application:
    """Put it together. Raises RouteUnguarded for any route without a policy, also one that was added by hand."""
    pages = pages or Pages()
    everything = [*routes, *pages.routes, get_health]
    everything += openapi.routes_for(openapi.describe(everything))
    check_routes(everything)
    app = web.Application(
        middlewares=[_edge(services, pages.draw_problem)],
        client_max_size=bodies.MAX_JSON_BYTES,
    )
    app[SERVICES] = services
    app[sse.STREAMS] = sse.Streams()
    app.on_shutdown.append(app[sse.STREAMS].close)
    app.on_response_prepare.append(_headers(services))
    guarded = set()
    for item in everything:
        guarded.add(app.router.add_route(item.method, item.path, _handler(item, services)))
    guarded.add(app.router.add_route("GET", assets.PREFIX + "{file}", services.assets.serve))

    async def refuse_unguarded(app: web.Application) -> None:
        strangers = [entry for entry in app.router.routes() if entry not in guarded]
        if strangers:
            raise RouteUnguarded(f"routes without a policy: {strangers}")

    app.on_startup.append(refuse_unguarded)
    return app


@route("GET", HEALTH_PATH, policy=Policy(who="public"), summary="Whether it works")
async def get_health(request: Request) -> web.Response:
    """``status`` for everybody, the rest for admins (T-G10)."""
    found: dict[str, Any] = dict(await request.services.health())
    is_told = may(request.actor, Action.HEALTH_READ)
    shown = found if is_told else {"status": found["status"]}
    status = 200 if found["status"] == "ok" else 503
    return web.Response(status=status, body=orjson.dumps(shown), content_type="application/json")


def _handler(item: Route, services: Services) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(http: web.Request) -> web.StreamResponse:
        return await routing.call(item, http, services, ref=http[REF], nonce=http[NONCE])

    return handle


def _edge(services: Services, draw_problem: DrawProblem) -> Any:
    """The one broad ``except`` of the web: every failure becomes an answer and a line in the log."""

    @web.middleware
    async def edge(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
        request[REF] = secrets.token_hex(8)
        request[NONCE] = secrets.token_urlsafe(16)
        try:
            if request.path != HEALTH_PATH:  # balancers ask by address
                security.check_host(request, services.config)
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _refuse(request, error, draw_problem)
        except Exception as error:  # noqa: BLE001 - the edge: logged, and answered without internals
            return _refuse(request, error, draw_problem)

    return edge


def _refuse(request: web.Request, error: Exception, draw_problem: DrawProblem) -> web.StreamResponse:
    ref = request[REF]
    problem = problems.problem_of(error)
    if problem is None:
        log.error("web.failed", exc_info=error, extra={"ref": ref, "method": request.method, "path": request.path})
        problem = Problem(500, "internal", "Something went wrong here. The reference helps to find it.")
    if request.path.startswith("/api/") or request.path == HEALTH_PATH:
        return problems.render(problem, ref)
    return draw_problem(request, problem, ref)


def _headers(services: Services) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.setdefault("X-Request-ID", request.get(REF, ""))
        security.add_headers(response, nonce=request.get(NONCE, ""), config=services.config)

    return add
