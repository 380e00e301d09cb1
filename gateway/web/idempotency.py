"""The same key gives the same answer (R13.1): the answer is stored in the transaction that does the work.

So there is no moment between effect and record: a repeat after a crash either finds both or neither (F-K10). The same
key with other content is refused (F-S15). A failed request leaves no record and may be tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from core.access import Actor
from core.errors import Conflict
from core.store.schema import idempotency

KEPT = timedelta(days=3)
MAX_KEY = 255
PATIENCE = "2s"  #: how long PostgreSQL waits for a twin that is at work

Answer = tuple[int, bytes]


class KeyReused(Conflict):
    """The key came before with other content."""

    code = "idempotency_key_reused"


class InProgress(Conflict):
    """A request with this key is at work."""

    code = "idempotency_in_progress"


def digest(method: str, path: str, body: bytes) -> str:
    return hashlib.sha256(f"{method} {path}\n".encode() + body).hexdigest()


def once(
    conn: Connection, actor: Actor, key: str, request_digest: str, now: datetime, effect: Callable[[Connection], Answer]
) -> Answer:
    """Do ``effect`` and store its answer, or return the answer stored before. Raises KeyReused, InProgress."""
    if not _claim(conn, actor, key, request_digest, now):
        return _stored(conn, actor, key, request_digest)
    status, body = effect(conn)
    conn.execute(
        idempotency.update()
        .where(idempotency.c.actor == actor.label, idempotency.c.key == key)
        .values(status=status, body=body.decode())
    )
    return status, body


def forget(conn: Connection, now: datetime) -> int:
    """Remove answers that nobody will ask for again."""
    return conn.execute(idempotency.delete().where(idempotency.c.created_at < now - KEPT)).rowcount


def _claim(conn: Connection, actor: Actor, key: str, request_digest: str, now: datetime) -> bool:
    """True when this request is the first; a twin that is at work is waited for, a little."""
    is_postgres = conn.dialect.name == "postgresql"
    insert = postgresql.insert if is_postgres else sqlite.insert
    row = {"actor": actor.label, "key": key, "request_digest": request_digest, "created_at": now}
    if is_postgres:
        conn.execute(sa.text(f"set local lock_timeout = '{PATIENCE}'"))
    try:
        claimed = conn.execute(insert(idempotency).values(**row).on_conflict_do_nothing()).rowcount == 1
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            raise InProgress("a request with this key is at work") from error
        raise
    if is_postgres:
        conn.execute(sa.text("set local lock_timeout = default"))
    return claimed


def _stored(conn: Connection, actor: Actor, key: str, request_digest: str) -> Answer:
    row = conn.execute(
        sa.select(idempotency).where(idempotency.c.actor == actor.label, idempotency.c.key == key)
    ).one_or_none()
    if row is None or row.status is None:
        raise InProgress("a request with this key is at work")
    if row.request_digest != request_digest:
        raise KeyReused("this key came before with other content")
    return row.status, row.body.encode()
