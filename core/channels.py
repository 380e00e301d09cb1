"""Configured accounts: one row a channel, its secrets sealed, and what is known of its health (R1.5)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core import events
from core.errors import Conflict, NotFound
from core.ids import public_id
from core.keys import Keys
from core.store.schema import channel


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """A channel as the gateway runs it. ``secrets`` maps dotted config paths to values; never print it."""

    id: int
    public_id: str
    kind: str
    name: str
    address: str
    department_id: int
    config: dict[str, Any]
    secrets: dict[str, str]
    account: str
    is_enabled: bool
    version: int

    def __repr__(self) -> str:
        return f"Channel({self.id}, {self.kind}, {self.address})"


def add(
    conn: Connection,
    keys: Keys,
    *,
    kind: str,
    name: str,
    address: str,
    department_id: int,
    config: dict[str, Any],
    secrets: dict[str, str],
    account: str,
    now: datetime,
) -> int:
    """Store a new channel, its secrets sealed; return its id. Raises Conflict when the address is taken."""
    if address and conn.execute(sa.select(channel.c.id).where(channel.c.address == address)).first():
        raise Conflict(f"another channel has the address {address}")
    values = {
        "public_id": public_id(),
        "kind": kind,
        "name": name,
        "address": address,
        "department_id": department_id,
        "config": config,
        "account": account,
        "created_at": now,
        "is_enabled": True,
        "version": 1,
    }
    channel_id: int = conn.execute(sa.insert(channel).returning(channel.c.id), values).scalar_one()
    reseal(conn, keys, channel_id, secrets)
    events.append(conn, events.CHANNEL_CHANGED, now=now, channel_id=channel_id)
    return channel_id


def change(
    conn: Connection,
    keys: Keys,
    channel_id: int,
    *,
    now: datetime,
    config: dict[str, Any] | None = None,
    secrets: dict[str, str] | None = None,
    **values: Any,
) -> None:
    """Change what is given; the running cycle ends and the next one uses the new settings (F-M16)."""
    if config is not None:
        values["config"] = config
    values["version"] = channel.c.version + 1
    done = conn.execute(sa.update(channel).where(channel.c.id == channel_id).values(**values))
    if done.rowcount == 0:
        raise NotFound("no such channel")
    if secrets is not None:
        reseal(conn, keys, channel_id, secrets)
    events.append(conn, events.CHANNEL_CHANGED, now=now, channel_id=channel_id)


def reseal(conn: Connection, keys: Keys, channel_id: int, secrets: dict[str, str]) -> None:
    """Replace the secrets without a new version: a token that was renewed restarts nothing."""
    sealed = keys.seal(json.dumps(secrets).encode(), purpose=f"channel/{channel_id}")
    conn.execute(sa.update(channel).where(channel.c.id == channel_id).values(sealed=sealed))


def get(conn: Connection, keys: Keys, channel_id: int) -> Channel:
    """Raises NotFound, KeyUnusable."""
    row = conn.execute(sa.select(channel).where(channel.c.id == channel_id)).mappings().first()
    if row is None:
        raise NotFound("no such channel")
    return _channel(row, keys)


def all_of(conn: Connection, keys: Keys) -> list[Channel]:
    return [_channel(row, keys) for row in conn.execute(sa.select(channel).order_by(channel.c.id)).mappings()]


def versions(conn: Connection) -> dict[int, int]:
    """Channel id -> version of the enabled ones: what the supervisor compares."""
    query = sa.select(channel.c.id, channel.c.version).where(channel.c.is_enabled)
    return {row.id: row.version for row in conn.execute(query)}


def rows(conn: Connection) -> list[sa.RowMapping]:
    """Every channel for the lists, without its secrets."""
    columns = [column for column in channel.c if column.name != "sealed"]
    return list(conn.execute(sa.select(*columns).order_by(channel.c.id)).mappings())


def report_state(
    conn: Connection, channel_id: int, way: str, state: str, *, code: str = "", text: str = "", now: datetime
) -> bool:
    """Write the state of one ``way`` (``in`` or ``out``); return whether it changed. Health pages read it (P10)."""
    row = conn.execute(
        sa.select(channel.c[f"{way}_state"], channel.c[f"{way}_code"]).where(channel.c.id == channel_id)
    ).first()
    if row is None or (row[0], row[1]) == (state, code):
        return False
    conn.execute(
        sa.update(channel)
        .where(channel.c.id == channel_id)
        .values({f"{way}_state": state, f"{way}_code": code, f"{way}_text": text[:500], f"{way}_since_at": now})
    )
    data = {"way": way, "state": state, "code": code}
    events.append(conn, events.CHANNEL_CHANGED, now=now, channel_id=channel_id, data=data)
    return True


def proven(conn: Connection, channel_id: int, *, now: datetime) -> None:
    """The way in works: note when, and end whatever trouble was shown."""
    conn.execute(sa.update(channel).where(channel.c.id == channel_id).values(proven_in_at=now))
    report_state(conn, channel_id, "in", "working", now=now)


def _channel(row: sa.RowMapping, keys: Keys) -> Channel:
    sealed = row["sealed"]
    secrets = json.loads(keys.open(bytes(sealed), purpose=f"channel/{row['id']}")) if sealed else {}
    wanted = {name: row[name] for name in Channel.__dataclass_fields__ if name != "secrets"}
    return Channel(**wanted, secrets=secrets)
