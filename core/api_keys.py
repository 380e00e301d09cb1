"""API keys: ``ghk_`` and 256 random bits; only the SHA-256 is stored (T-L08).

A key never holds more than its owner does at the moment of use, cut down to its scopes (T-L06).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from core import agents, audit
from core.access import Action, Actor, ApiKeyRef, Scope, require
from core.audit import By
from core.errors import Invalid, NotFound
from core.ids import public_id as new_public_id
from core.store.schema import api_key

PREFIX = "ghk_"
SHOWN = len(PREFIX) + 6
TOKEN_BYTES = 32
TOUCH_EVERY = timedelta(minutes=1)
MAX_NAME = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    public_id: str
    prefix: str  #: how it begins, to recognise it by
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    id: int
    actor: Actor
    is_to_touch: bool


def create(
    conn: Connection, by: By, *, name: str, scopes: frozenset[Scope], expires_at: datetime | None
) -> tuple[ApiKey, str]:
    """Make a key for ``by`` and return it with its only copy. Raises PermissionDenied, Invalid."""
    require(by.actor, Action.API_KEY_MANAGE, ApiKeyRef(agent_id=_owner(by.actor), grants=scopes))
    if not scopes:
        raise Invalid("a key needs a scope", fields={"scopes": "at least one"})
    if expires_at is not None and expires_at <= by.now:
        raise Invalid("the key would be over already", fields={"expires_at": "in the past"})
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise Invalid("a name is needed", fields={"name": f"1 to {MAX_NAME} characters"})
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    made = ApiKey(
        public_id=new_public_id(),
        prefix=token[:SHOWN],
        name=name,
        scopes=scopes,
        created_at=by.now,
        used_at=None,
        expires_at=expires_at,
        revoked_at=None,
    )
    conn.execute(
        api_key.insert().values(
            public_id=made.public_id,
            prefix=made.prefix,
            key_hash=_hash(token),
            name=name,
            agent_id=_owner(by.actor),
            scopes=sorted(scopes),
            created_at=by.now,
            expires_at=expires_at,
        )
    )
    after = {"name": name, "scopes": sorted(scopes), "expires_at": expires_at.isoformat() if expires_at else None}
    audit.append(conn, by, "api_key.create", f"api_key:{made.public_id}", before={}, after=after)
    return made, token


def resolve(conn: Connection, token: str, now: datetime) -> Resolved | None:
    """Whose key it is, with the rights of this moment; None when it is none, over or revoked."""
    if not token.startswith(PREFIX):
        return None
    row = conn.execute(sa.select(api_key).where(api_key.c.key_hash == _hash(token))).one_or_none()
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        return None
    scopes = frozenset(Scope(name) for name in row.scopes)
    actor = agents.actor_of(conn, row.agent_id, scopes=scopes, key=row.public_id)
    if actor is None:
        return None
    is_to_touch = row.used_at is None or row.used_at + TOUCH_EVERY <= now
    return Resolved(id=row.id, actor=actor, is_to_touch=is_to_touch)


def touch(conn: Connection, key_id: int, now: datetime) -> None:
    conn.execute(api_key.update().where(api_key.c.id == key_id).values(used_at=now))


def list_own(conn: Connection, actor: Actor, *, after: str = "", limit: int = 50) -> list[ApiKey]:
    """The actor's own keys, in the order of their public ids."""
    require(actor, Action.API_KEY_MANAGE, ApiKeyRef(agent_id=_owner(actor)))
    query = (
        sa.select(api_key)
        .where(api_key.c.agent_id == actor.agent_id, api_key.c.public_id > after)
        .order_by(api_key.c.public_id)
        .limit(limit)
    )
    return [_api_key(row) for row in conn.execute(query)]


def revoke(conn: Connection, by: By, public_id: str) -> ApiKey:
    """End one of one's own keys. Twice is the same as once. Raises NotFound."""
    row = conn.execute(sa.select(api_key).where(api_key.c.public_id == public_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("there is no such key")
    require(by.actor, Action.API_KEY_MANAGE, ApiKeyRef(agent_id=row.agent_id))
    if row.revoked_at is None:
        conn.execute(api_key.update().where(api_key.c.id == row.id).values(revoked_at=by.now))
        audit.append(conn, by, "api_key.revoke", f"api_key:{public_id}", before={"name": row.name}, after={})
    return _api_key(conn.execute(sa.select(api_key).where(api_key.c.id == row.id)).one())


def _owner(actor: Actor) -> int:
    if actor.agent_id is None:
        raise NotFound("only agents have keys")
    return actor.agent_id


def _api_key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        public_id=row.public_id,
        prefix=row.prefix,
        name=row.name,
        scopes=frozenset(Scope(name) for name in row.scopes),
        created_at=row.created_at,
        used_at=row.used_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
