"""Counts tries in the store, so that neither a restart nor a second node nor a flush forgets them (T-R02).

Nobody is locked out for good: past the limit each further try has to wait twice as long as the one before, at most one
window. A window without a counted try clears the count.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from core.errors import CoreError
from core.store.schema import throttle

WINDOW = timedelta(minutes=15)
FIRST_DELAY = timedelta(seconds=15)
NOWHERE = "unknown"
STRANGERS = "login:strangers"
STRANGERS_TRIES = 300


class Throttled(CoreError):
    """Too many tries; ``retry_after`` says when the next one is looked at."""

    code = "throttled"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("too many tries")
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    key: str
    tries: int  #: free ones in a window


def login_limits(email: str, address: str, device: str | None, *, is_near: bool = False) -> list[Limit]:
    """The counters of one sign-in, that of the account first. A device that signed in before has a counter of its own,
    so that strangers who try an account cannot keep its owner out (T-L01).

    Lists of stolen passwords are tried from thousands of networks, one account once: neither the account's counter nor
    the network's sees that, so all strangers share one more. It binds strangers alone. A device that this agent signed
    in from, and a network from which somebody of the house is signed in now (``is_near``), are not counted by it and
    are not stopped by it: whoever fills it keeps out nobody but new devices in new places, and those for a while.
    """
    account = f"login:device:{device}" if device else f"login:account:{email[:254]}"
    limits = [Limit(key=account, tries=10), Limit(key=f"login:prefix:{prefix(address)}", tries=50)]
    return limits if device or is_near else [*limits, Limit(key=STRANGERS, tries=STRANGERS_TRIES)]


def prefix(address: str) -> str:
    """The network that one attacker is likely to hold: IPv4 /24, IPv6 /56."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return NOWHERE
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 56), strict=False))


def count(conn: Connection, limits: Sequence[Limit], now: datetime) -> None:
    """Count one try against each limit, before it is looked at. Raises Throttled, and then counts nothing.

    The refusal is raised: run it in a transaction of its own.
    """
    wait = timedelta(0)
    for limit in sorted(limits, key=lambda limit: limit.key):  # one order: two of them cannot deadlock
        wait = max(wait, _wait(_locked(conn, limit.key, now), limit, now))
    if wait > timedelta(0):
        raise Throttled(timedelta(seconds=math.ceil(wait.total_seconds())))
    for limit in limits:
        is_stale = throttle.c.since_at <= now - WINDOW
        conn.execute(
            throttle.update()
            .where(throttle.c.key == limit.key)
            .values(tries=sa.case((is_stale, 1), else_=throttle.c.tries + 1), since_at=now)
        )


def forgive(conn: Connection, keys: Sequence[str]) -> None:
    """After a success: clear these counters."""
    conn.execute(throttle.delete().where(throttle.c.key.in_(keys)))


def forget(conn: Connection, now: datetime) -> int:
    """Remove what no longer counts."""
    return conn.execute(throttle.delete().where(throttle.c.since_at <= now - WINDOW)).rowcount


def _locked(conn: Connection, key: str, now: datetime) -> tuple[int, datetime]:
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    conn.execute(insert(throttle).values(key=key, tries=0, since_at=now).on_conflict_do_nothing())
    query = sa.select(throttle.c.tries, throttle.c.since_at).where(throttle.c.key == key).with_for_update()
    row = conn.execute(query).one()
    return row.tries, row.since_at


def _wait(counted: tuple[int, datetime], limit: Limit, now: datetime) -> timedelta:
    tries, since_at = counted
    if tries < limit.tries or now - since_at >= WINDOW:
        return timedelta(0)
    doubled: timedelta = FIRST_DELAY * 2 ** min(tries - limit.tries, 10)
    return min(doubled, WINDOW) - (now - since_at)
