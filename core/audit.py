"""The audit log: who changed what, when, from where, before and after (R8.8).

Rows form one chain for the whole house: each hash is an HMAC-SHA256, under a key outside the database, over the row and
the hash before it. The newest link is also kept as a setting, so that rows cut off at the end are missed. Somebody who
holds an old copy of the whole database can still put that back: only a copy of the head kept elsewhere shows it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core.access import Actor
from core.store.schema import audit, setting

HEAD = "audit.head"
FIRST = bytes(32)  #: what stands before the first row
LOCK = 0x6761_7465_0001  #: PostgreSQL advisory lock: one writer of the chain at a time

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class By:
    """Who makes a change, from which address, when; ``key`` (``Keys.audit``) chains the record of it."""

    actor: Actor
    now: datetime
    key: bytes
    address: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    id: int
    at: datetime
    actor: str
    address: str
    action: str
    object: str
    before: Values
    after: Values


def append(conn: Connection, by: By, action: str, thing: str, *, before: Values, after: Values) -> None:
    """Record a change in the transaction that makes it. ``thing`` as ``agent:PUBLIC_ID``; never a secret as value."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    row = {
        "at": by.now,
        "actor": by.actor.label,
        "address": by.address,
        "action": action,
        "object": thing,
        "before": dict(before),
        "after": dict(after),
    }
    last = conn.execute(sa.select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)).scalar_one_or_none()
    link = _link(by.key, last or FIRST, row)
    number = conn.execute(audit.insert().values(**row, hash=link).returning(audit.c.id)).scalar_one()
    head = {"id": number, "hash": link.hex()}
    if conn.execute(setting.update().where(setting.c.key == HEAD).values(value=head)).rowcount == 0:
        conn.execute(setting.insert().values(key=HEAD, value=head))


def verify(conn: Connection, key: bytes) -> int | None:
    """Walk the chain. Return None when it holds, else the id of the first row that does not (0: rows are cut off)."""
    before = FIRST
    number: int = 0
    for row in conn.execute(sa.select(audit).order_by(audit.c.id)).mappings():
        number = row["id"]
        if not hmac.compare_digest(_link(key, before, dict(row)), row["hash"]):
            return int(number)
        before = row["hash"]
    head = conn.execute(sa.select(setting.c.value).where(setting.c.key == HEAD)).scalar_one_or_none()
    expected = {"id": number, "hash": before.hex()} if number else None
    return None if head == expected else 0


def entries(conn: Connection, *, before_id: int | None = None, limit: int = 50) -> list[Entry]:
    """The newest first."""
    query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(audit.c.id < before_id)
    return [Entry(**{name: row[name] for name in Entry.__dataclass_fields__}) for row in conn.execute(query).mappings()]


def _link(key: bytes, before: bytes, row: Mapping[str, Any]) -> bytes:
    content = {
        "at": row["at"].astimezone(UTC).isoformat(timespec="microseconds"),
        **{name: row[name] for name in ("actor", "address", "action", "object", "before", "after")},
    }
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hmac.new(key, before + plain.encode(), hashlib.sha256).digest()
