"""The thin layer: a route is a value that says who may call it, what comes in and what goes out.

One module per noun, with its routes in a list that the composition root hands to ``build_app``::

    @route("POST", "/api/v1/tickets/{code}/answers", policy=Policy(who="agent", action=Action.TICKET_ANSWER),
           body=AnswerIn, returns=AnswerOut, status=201, summary="Answer", tags=("tickets",), is_idempotent=True)
    async def post_answer(request: Request, body: AnswerIn) -> Reply:
        def effect(conn: Connection) -> AnswerOut:
            ticket = tickets.get(conn, request.actor, request.params["code"])  # asks the gate; raises NotFound
            return AnswerOut.of(answers.add(conn, request.by, ticket, text=body.text))

        reply = await request.once(effect)  # one transaction with the Idempotency-Key, if there is one
        request.services.live.wake("events", "outbox")
        return reply

    ROUTES = [post_answer]

``Policy.who``: ``agent`` is a signed-in agent or an API key, ``session`` a browser session alone, ``public`` a browser
before sign-in, ``machine`` a peer that proves itself to the handler (webhooks) and whose cookies mean nothing.
``action`` is asked of the gate without a thing before the handler runs; with the thing in hand the handler (or the core
function it calls) asks again. A handler returns a model (sent with ``status``), a ``Reply``, None (204) or an aiohttp
response; it raises core errors or ``Problem``. Bodies are JSON for ``body=`` and urlencoded for ``form=``; a form
carries ``csrf``. Body models inherit from ``Input``, answers from ``Output`` (``gateway.web.api.schemas_common``).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, get_args

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy import Connection

from core import access
from core.access import Action, Actor, ActorKind
from core.audit import By
from gateway.web import auth, bodies, idempotency, security
from gateway.web.problems import Problem, not_found, unauthenticated
from gateway.web.services import Services

P = ParamSpec("P")
T = TypeVar("T")

IDEMPOTENCY_HEADER = "Idempotency-Key"
PARAM = re.compile(r"[A-Za-z0-9_.~-]{1,100}")
KEY = re.compile(rf"[\x21-\x7e]{{1,{idempotency.MAX_KEY}}}")

Who = Literal["agent", "session", "public", "machine"]
Handler = Callable[..., Awaitable[Any]]


class RouteUnguarded(Exception):
    """A route that does not say who may call it stops the start-up (T-G1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    who: Who
    action: Action | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    policy: Policy
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    returns: type[BaseModel] | None = None
    status: int = 200
    summary: str = ""
    tags: tuple[str, ...] = ()
    is_idempotent: bool = False
    max_bytes: int = bodies.MAX_JSON_BYTES
    conflict: type[BaseModel] | None = None  #: a 409 that may say more than the others
    content: tuple[str, ...] = ()  #: content types of an answer that is no JSON

    @property
    def name(self) -> str:
        return self.handler.__name__

    @property
    def is_unsafe(self) -> bool:
        return self.method not in security.SAFE_METHODS


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """JSON that is ready to go: fresh, or as it was stored for the same Idempotency-Key."""

    status: int
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One call, as handlers see it."""

    http: web.Request
    services: Services
    route: Route
    actor: Actor
    csrf: str | None  #: for the forms of a page; None without a session
    address: str
    now: datetime
    ref: str
    nonce: str  #: marks inline blocks of this page for the content policy
    params: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""

    @property
    def by(self) -> By:
        """For core functions that change something."""
        return By(actor=self.actor, now=self.now, key=self.services.keys.audit, address=self.address)

    async def read(self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.services.db.read(function, *args, **kwargs)

    async def write(self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.services.db.write(function, *args, **kwargs)

    async def once(self, effect: Callable[[Connection], BaseModel]) -> Reply:
        """Run ``effect`` in one transaction; with an Idempotency-Key, at most once in three days.

        ``effect`` may run again when the store asks for it: it must do nothing but write to ``conn``.
        """

        def answer(conn: Connection) -> tuple[int, bytes]:
            return self.route.status, dump(effect(conn))

        key = self.http.headers.get(IDEMPOTENCY_HEADER)
        if key is None:
            status, body = await self.write(answer)
        else:
            digest = idempotency.digest(self.http.method, self.http.path, self.raw)
            status, body = await self.write(idempotency.once, self.actor, key, digest, self.now, answer)
        return Reply(status=status, body=body)


def route(
    method: str,
    path: str,
    *,
    policy: Policy,
    body: type[BaseModel] | None = None,
    form: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    returns: type[BaseModel] | None = None,
    status: int = 200,
    summary: str = "",
    tags: tuple[str, ...] = (),
    is_idempotent: bool = False,
    max_bytes: int = bodies.MAX_JSON_BYTES,
    conflict: type[BaseModel] | None = None,
    content: tuple[str, ...] = (),
) -> Callable[[Handler], Route]:
    """Turn a handler into a ``Route``. Its arguments are ``request``, then ``body`` or ``form``, then ``query``."""

    def make(handler: Handler) -> Route:
        return Route(
            method=method,
            path=path,
            handler=handler,
            policy=policy,
            body=body,
            form=form,
            query=query,
            returns=returns,
            status=status,
            summary=summary,
            tags=tags,
            is_idempotent=is_idempotent,
            max_bytes=max_bytes,
            conflict=conflict,
            content=content,
        )

    return make


def check_routes(routes: list[Route]) -> None:
    """Raises RouteUnguarded, naming every route without a policy, or given twice."""
    problems = []
    seen: set[tuple[str, str]] = set()
    for item in routes:
        place = f"{item.method} {item.path}"
        policy: object = item.policy
        if not isinstance(policy, Policy):
            problems.append(f"{place}: no policy")
        elif policy.who not in get_args(Who):
            problems.append(f"{place}: nobody is called {policy.who!r}")
        if (item.method, item.path) in seen:
            problems.append(f"{place}: given twice")
        seen.add((item.method, item.path))
        if item.method == "GET" and (item.body or item.form):
            problems.append(f"{place}: a GET changes nothing and has no body")
    if problems:
        raise RouteUnguarded("; ".join(problems))


async def call(item: Route, http: web.Request, services: Services, *, ref: str, nonce: str) -> web.StreamResponse:
    """Everything between the router and the handler, in order: who, may they, from where, what."""
    now = services.clock.now()
    is_machine = item.policy.who == "machine"
    identity = auth.Identity() if is_machine else await auth.identify(http, services, now)
    _check_policy(item.policy, identity)
    is_browser = item.is_unsafe and (identity.csrf is not None or item.policy.who == "public")
    if is_browser:
        security.check_same_origin(http, services.config)
    params = dict(http.match_info)
    if not all(PARAM.fullmatch(value) for value in params.values()):
        raise not_found()
    _check_idempotency(item, http)
    needs_token = item.is_unsafe and identity.csrf is not None
    if needs_token and item.form is None:
        auth.check_csrf(identity, http.headers.get(auth.CSRF_HEADER))
    arguments, raw, field_token = await _read_arguments(item, http)
    if needs_token and item.form is not None:
        auth.check_csrf(identity, http.headers.get(auth.CSRF_HEADER) or field_token)
    request = Request(
        http=http,
        services=services,
        route=item,
        actor=identity.actor,
        csrf=identity.csrf,
        address=security.client_address(http, services.config),
        now=now,
        ref=ref,
        nonce=nonce,
        params=params,
        raw=raw,
    )
    return _response(item, await item.handler(request, *arguments))


def dump(model: BaseModel) -> bytes:
    return model.model_dump_json(by_alias=True).encode()


def _check_policy(policy: Policy, identity: auth.Identity) -> None:
    actor = identity.actor
    if policy.who in ("agent", "session"):
        if actor.kind is ActorKind.ANONYMOUS:
            raise unauthenticated()
        if policy.who == "session" and actor.kind is not ActorKind.AGENT:
            raise Problem(403, "session_needed", "This needs a signed-in browser.")
    if policy.action is not None and not access.may(actor, policy.action):
        raise Problem(403, "forbidden", "You are not allowed to do this.")


def _check_idempotency(item: Route, http: web.Request) -> None:
    key = http.headers.get(IDEMPOTENCY_HEADER)
    if key is None:
        return
    if not item.is_idempotent:
        if item.is_unsafe and item.method == "POST":
            raise Problem(400, "idempotency_unsupported", "This call takes no Idempotency-Key.")
        return
    if not KEY.fullmatch(key):
        raise Problem(400, "idempotency_key_malformed", f"1 to {idempotency.MAX_KEY} printable ASCII characters.")


async def _read_arguments(item: Route, http: web.Request) -> tuple[list[BaseModel], bytes, str | None]:
    """Return the handler's arguments, the raw body, and the CSRF field of a form."""
    arguments: list[BaseModel] = []
    raw, token = b"", None
    if item.body is not None:
        _check_type(http, "application/json")
        raw = await bodies.read_body(http, max_bytes=item.max_bytes)
        arguments.append(bodies.parse_json(raw, item.body))
    elif item.form is not None:
        _check_type(http, bodies.FORM)
        raw = await bodies.read_body(http, max_bytes=item.max_bytes)
        pairs = bodies.read_form(raw)
        token = next((value for name, value in pairs if name == auth.CSRF_FIELD), None)
        arguments.append(bodies.parse_pairs([pair for pair in pairs if pair[0] != auth.CSRF_FIELD], item.form))
    if item.query is not None:
        arguments.append(bodies.parse_pairs(list(http.query.items()), item.query))
    elif http.query_string and item.path.startswith("/api/"):
        errors = [(name, "unknown parameter") for name in http.query]
        raise Problem(422, "invalid", "This call takes no parameters.", errors=errors)
    return arguments, raw, token


def _check_type(http: web.Request, wanted: str) -> None:
    """Also what keeps a form of a foreign page from being read as JSON (T-L07)."""
    if http.content_type != wanted or (http.charset or "utf-8").lower() != "utf-8":
        raise Problem(415, "wrong_type", f"The body must be {wanted}.")


def _response(item: Route, result: Any) -> web.StreamResponse:
    match result:
        case web.StreamResponse():
            return result
        case Reply():
            return web.Response(status=result.status, body=result.body, content_type="application/json")
        case BaseModel():
            return web.Response(status=item.status, body=dump(result), content_type="application/json")
        case None:
            return web.Response(status=204)
        case _:
            raise TypeError(f"{item.name} returned a {type(result).__name__}")
