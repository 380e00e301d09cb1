"""Who is asking: a session cookie or an API key, and the sign-in that makes the cookie.

``Authorization: Bearer ghk_…`` counts alone: a request that carries it gets no rights from a cookie. A cookie is never
enough for a change: ``check_csrf`` wants the session's token as well (T-L07).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime

from aiohttp import hdrs, web
from sqlalchemy import Connection

from core import agents, api_keys, audit, sessions, throttle
from core.access import ANONYMOUS, Actor
from core.audit import By
from core.errors import CoreError
from gateway.config import Config
from gateway.web import security
from gateway.web.problems import Problem, unauthenticated
from gateway.web.services import PEOPLE, Services

DEVICE_SECONDS = 180 * 24 * 3600
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf"
MAX_TOKEN = 200

log = logging.getLogger("gatehouse.web")


class SignInRefused(CoreError):
    """Wrong address or password; which of the two is nobody's business (T-L10)."""

    code = "sign_in_refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """``csrf`` is set when a session cookie spoke, and only then."""

    actor: Actor = ANONYMOUS
    csrf: str | None = None


def cookie_name(config: Config) -> str:
    return "__Host-gatehouse" if security.is_https(config) else "gatehouse"


def device_cookie_name(config: Config) -> str:
    return "__Host-gatehouse-device" if security.is_https(config) else "gatehouse-device"


async def identify(request: web.Request, services: Services, now: datetime, *, is_use: bool = True) -> Identity:
    """Raises Problem 401 for credentials that are none; without any, the identity is anonymous.

    ``is_use`` False: an open stream asks again, which keeps no session alive.
    """
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
            raise unauthenticated()
        key = await services.db.read(api_keys.resolve, token.strip(), now)
        if key is None:
            raise unauthenticated()
        if is_use and key.is_to_touch:
            await services.db.write(api_keys.touch, key.id, now)
        return Identity(actor=key.actor)
    token = request.cookies.get(cookie_name(services.config), "")
    if not token or len(token) > MAX_TOKEN:
        return Identity()
    session = await services.db.read(sessions.resolve, token, now)
    if session is None:
        return Identity()
    if is_use and session.is_to_touch:
        await services.db.write(sessions.touch, session.id, now)
    return Identity(actor=session.actor, csrf=session.csrf)


def check_csrf(identity: Identity, given: str | None) -> None:
    """Raises Problem 403 unless the request carries its session's token."""
    if identity.csrf is None or not hmac.compare_digest((given or "").encode(), identity.csrf.encode()):
        raise Problem(403, "csrf", "The page is out of date: load it again.")


@dataclass(frozen=True, kw_only=True, slots=True)
class SignIn:
    email: str
    password: str
    address: str
    user_agent: str
    device: str  #: the device cookie, or ""
    old_token: str  #: of a session that this one replaces, or ""


def sign_in_of(request: web.Request, config: Config, *, email: str, password: str) -> SignIn:
    return SignIn(
        email=email,
        password=password,
        address=security.client_address(request, config),
        user_agent=request.headers.get(hdrs.USER_AGENT, ""),
        device=request.cookies.get(device_cookie_name(config), ""),
        old_token=request.cookies.get(cookie_name(config), ""),
    )


async def sign_in(services: Services, given: SignIn, now: datetime) -> tuple[sessions.Opened, str]:
    """Return the new session and whose it is (public id). Raises SignInRefused, Throttled, TooBusy."""
    known, rehashed = await _confirm(services, given, given.email, now)
    return await services.db.write(_open, services, given, known, rehashed, now), known.public_id


async def confirm(services: Services, given: SignIn, email: str, now: datetime) -> agents.Credentials:
    """Ask a signed-in agent for the password once more, under the same limits. Raises as ``sign_in`` does."""
    return (await _confirm(services, given, email, now))[0]


async def _confirm(
    services: Services, given: SignIn, email: str, now: datetime
) -> tuple[agents.Credentials, str | None]:
    """The try is counted before the password is looked at, so that parallel tries cannot outrun the limit."""
    email = agents.normal_email(email)
    known = await services.db.read(agents.credentials, email)
    nonce = _known_device(services.keys.tokens, given.device, known.public_id) if known else None
    is_near = await services.db.read(_is_near, given.address, now)
    limits = throttle.login_limits(email, given.address, nonce, is_near=is_near)
    await services.db.write(throttle.count, limits, now)
    checked = await services.passwords.check(known.password_hash if known else None, given.password)
    if known is None or not checked.is_right:
        log.info("sign_in.refused", extra={"address": given.address})
        raise SignInRefused("wrong address or password")
    await services.db.write(throttle.forgive, [limits[0].key])
    return known, checked.rehashed


def _is_near(conn: Connection, address: str, now: datetime) -> bool:
    """Whether somebody of the house is signed in from this network."""
    network = throttle.prefix(address)
    return network != throttle.NOWHERE and network in map(throttle.prefix, sessions.addresses(conn, now))


def remember(
    response: web.StreamResponse, services: Services, opened: sessions.Opened, old_device: str, agent_public_id: str
) -> None:
    """Give the browser its session, and the mark by which it is known when the agent signs in again."""
    config, key = services.config, services.keys.tokens
    nonce = _known_device(key, old_device, agent_public_id) or secrets.token_urlsafe(16)
    device = _device(key, nonce, agent_public_id)
    is_secure = security.is_https(config)
    for name, value, age in (
        (cookie_name(config), opened.token, int(sessions.ABSOLUTE.total_seconds())),
        (device_cookie_name(config), device, DEVICE_SECONDS),
    ):
        response.set_cookie(name, value, max_age=age, path="/", secure=is_secure, httponly=True, samesite="Lax")


async def sign_out(request: web.Request, services: Services, response: web.StreamResponse) -> None:
    """End the session of this browser and make it forget our pages (T-E13)."""
    token = request.cookies.get(cookie_name(services.config), "")
    if token:
        await services.db.write(sessions.close_session, token)
        services.live.wake(PEOPLE)  # its open pages end now, not at their next ping
    is_secure = security.is_https(services.config)
    response.del_cookie(cookie_name(services.config), path="/", secure=is_secure, httponly=True, samesite="Lax")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'


def _open(
    conn: Connection,
    services: Services,
    given: SignIn,
    known: agents.Credentials,
    rehashed: str | None,
    now: datetime,
) -> sessions.Opened:
    actor = agents.actor_of(conn, known.agent_id)
    if actor is None or actor.epoch != known.epoch:  # shut out, or a new password, while we were hashing
        raise SignInRefused("wrong address or password")
    if rehashed is not None and known.password_hash is not None:
        agents.keep_rehashed(conn, known.agent_id, known.password_hash, rehashed)
    if given.old_token:
        sessions.close_session(conn, given.old_token)
    opened = sessions.open_session(
        conn, known.agent_id, now, epoch=known.epoch, address=given.address, user_agent=given.user_agent
    )
    by = By(actor=actor, now=now, key=services.keys.audit, address=given.address)
    audit.append(conn, by, "session.open", actor.label, before={}, after={})
    return opened


def _device(key: bytes, nonce: str, agent_public_id: str) -> str:
    mac = hmac.new(key, f"device|{nonce}|{agent_public_id}".encode(), hashlib.sha256).hexdigest()
    return f"{nonce}.{mac}"


def _known_device(key: bytes, cookie: str, agent_public_id: str) -> str | None:
    """Return the device's name if this agent signed in from it before."""
    nonce, dot, _ = cookie.partition(".")
    if not dot or len(cookie) > MAX_TOKEN or not cookie.isascii():
        return None
    return nonce if hmac.compare_digest(cookie, _device(key, nonce, agent_public_id)) else None
