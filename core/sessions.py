"""Sign-ins that last: a random token in the browser, its SHA-256 here (T-L04).

A session ends after 12 hours without use, after 7 days in any case, when it is revoked, and when the agent's epoch has
moved on (role, departments, password, shut out). Nothing is stored before a sign-in succeeds (T-L13).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from core import agents, audit
from core.access import Action, Actor, SessionRef, require
from core.audit import By
from core.errors import NotFound
from core.store.schema import session

IDLE = timedelta(hours=12)
ABSOLUTE = timedelta(days=7)
TOUCH_EVERY = timedelta(minutes=1)
TOKEN_BYTES = 32
MAX_USER_AGENT = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """The only moment at which the token is known."""

    token: str
    csrf: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    id: int
    actor: Actor
    csrf: str
    is_to_touch: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    public_id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str
    user_agent: str


def open_session(
    conn: Connection, agent_id: int, now: datetime, *, epoch: int, address: str = "", user_agent: str = ""
) -> Opened:
    """``epoch`` is the one that the password was checked under: a change since then makes the session void."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    opened = Opened(token=token, csrf=secrets.token_urlsafe(TOKEN_BYTES), expires_at=now + ABSOLUTE)
    conn.execute(
        session.insert().values(
            token_hash=_hash(token),
            csrf=opened.csrf,
            agent_id=agent_id,
            epoch=epoch,
            created_at=now,
            seen_at=now,
            expires_at=opened.expires_at,
            address=address,
            user_agent=user_agent[:MAX_USER_AGENT],
        )
    )
    return opened


def resolve(conn: Connection, token: str, now: datetime) -> Resolved | None:
    """Whose session it is, with the rights of this moment; None when it is none or over."""
    row = conn.execute(sa.select(session).where(session.c.token_hash == _hash(token))).one_or_none()
    if row is None or row.expires_at <= now or row.seen_at + IDLE <= now:
        return None
    actor = agents.actor_of(conn, row.agent_id)
    if actor is None or actor.epoch != row.epoch:
        return None
    return Resolved(id=row.id, actor=actor, csrf=row.csrf, is_to_touch=row.seen_at + TOUCH_EVERY <= now)


def touch(conn: Connection, session_id: int, now: datetime) -> None:
    conn.execute(session.update().where(session.c.id == session_id, session.c.seen_at < now).values(seen_at=now))


def rotate(conn: Connection, token: str, now: datetime) -> Opened | None:
    """A new token for the same sign-in, with the agent's present epoch; the old token is void at once."""
    row = conn.execute(
        session.delete().where(session.c.token_hash == _hash(token), session.c.expires_at > now).returning(session)
    ).one_or_none()
    actor = agents.actor_of(conn, row.agent_id) if row is not None else None
    if row is None or actor is None:
        return None
    return open_session(conn, row.agent_id, now, epoch=actor.epoch, address=row.address, user_agent=row.user_agent)


def close_session(conn: Connection, token: str) -> None:
    """Sign out. An unknown token is no error."""
    conn.execute(session.delete().where(session.c.token_hash == _hash(token)))


def list_own(conn: Connection, actor: Actor, now: datetime) -> list[Listed]:
    require(actor, Action.SESSION_MANAGE, SessionRef(agent_id=actor.agent_id or 0))
    query = (
        sa.select(session)
        .where(session.c.agent_id == actor.agent_id, session.c.expires_at > now, session.c.seen_at > now - IDLE)
        .order_by(session.c.seen_at.desc())
        .limit(100)
    )
    return [
        Listed(
            public_id=_public_id(row.token_hash),
            created_at=row.created_at,
            seen_at=row.seen_at,
            expires_at=row.expires_at,
            address=row.address,
            user_agent=row.user_agent,
        )
        for row in conn.execute(query)
    ]


def addresses(conn: Connection, now: datetime) -> list[str]:
    """Where agents are signed in from at this moment."""
    query = sa.select(session.c.address).where(session.c.expires_at > now, session.c.seen_at > now - IDLE).distinct()
    return list(conn.execute(query).scalars())


def revoke(conn: Connection, by: By, public_id: str) -> None:
    """End one of one's own sessions. Raises NotFound."""
    require(by.actor, Action.SESSION_MANAGE, SessionRef(agent_id=by.actor.agent_id or 0))
    query = sa.select(session.c.id, session.c.token_hash).where(session.c.agent_id == by.actor.agent_id)
    found = [row.id for row in conn.execute(query) if _public_id(row.token_hash) == public_id]
    if not found:
        raise NotFound("there is no such session")
    conn.execute(session.delete().where(session.c.id.in_(found)))
    audit.append(conn, by, "session.revoke", f"session:{public_id}", before={}, after={})


def forget(conn: Connection, now: datetime) -> int:
    """Remove the sessions that are over."""
    is_over = sa.or_(session.c.expires_at <= now, session.c.seen_at <= now - IDLE)
    return conn.execute(session.delete().where(is_over)).rowcount


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _public_id(token_hash: bytes) -> str:
    """128 bits of a hash of a hash: names the session and helps nobody to enter it."""
    return hashlib.sha256(b"session name" + token_hash).hexdigest()[:32]
