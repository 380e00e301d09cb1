"""Who owns what, by database time, with a fence that grows with each owner (FAULTS section 2).

A sleeper that wakes after its lease ran out finds a higher fence and can write nothing (F-K23, F-N04).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from core.clock import Clock
from core.store.database import now_of
from core.store.hot import Hot
from core.store.schema import lease


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    name: str
    owner: str
    fence: int


def acquire(conn: Connection, name: str, owner: str, *, length: timedelta, clock: Clock) -> Lease | None:
    """Take the lease if it is free, run out, or already ours; None while somebody else holds it."""
    now = now_of(conn, clock)
    row = conn.execute(sa.select(lease).where(lease.c.name == name).with_for_update()).mappings().first()
    if row is None:
        conn.execute(sa.insert(lease).values(name=name, owner=owner, fence=1, until_at=now + length))
        return Lease(name=name, owner=owner, fence=1)
    if row["owner"] != owner and row["until_at"] > now:
        return None
    fence = row["fence"] + 1
    conn.execute(sa.update(lease).where(lease.c.name == name).values(owner=owner, fence=fence, until_at=now + length))
    return Lease(name=name, owner=owner, fence=fence)


def renew(conn: Connection, held: Lease, *, length: timedelta, clock: Clock) -> bool:
    """Lengthen a lease that is still ours; False when it is lost."""
    now = now_of(conn, clock)
    done = conn.execute(
        sa.update(lease)
        .where(lease.c.name == held.name, lease.c.fence == held.fence, lease.c.until_at > now)
        .values(until_at=now + length)
    )
    return done.rowcount == 1


def release(conn: Connection, held: Lease, *, clock: Clock) -> None:
    """Give it back at once, so that another node need not wait."""
    conn.execute(
        sa.update(lease)
        .where(lease.c.name == held.name, lease.c.fence == held.fence)
        .values(until_at=now_of(conn, clock))
    )


_holding = sa.select(lease.c.fence).where(
    lease.c.name == sa.bindparam("name"), lease.c.fence == sa.bindparam("fence"), lease.c.until_at > sa.bindparam("now")
)
_holds = {"sqlite": Hot(_holding), "postgresql": Hot(_holding.with_for_update(read=True))}


def holds(conn: Connection, held: Lease, *, clock: Clock) -> bool:
    """Whether the lease is still ours; on PostgreSQL the row is locked so that nobody takes over before the commit."""
    wanted = {"name": held.name, "fence": held.fence, "now": now_of(conn, clock)}
    return _holds[conn.dialect.name].first(conn, wanted) is not None
