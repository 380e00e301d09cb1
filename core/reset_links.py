"""One-time links by which an agent sets a password: an invitation for somebody new, a reset for all others (T-L03).

The code is random and stored as a hash; a new one voids the one before. It is good once and for a short time, and only
while nothing about the agent has changed: a change of role, departments, access or password voids it too. What they
may do afterwards is what they may do then. Whoever manages the agent makes it and hands it over.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from core import agents, audit
from core.agents import Agent
from core.audit import By
from core.errors import Conflict
from core.store.schema import agent, setting

RESET_LIFE = timedelta(minutes=30)
INVITATION_LIFE = timedelta(hours=72)  #: for an agent who has no password yet
CODE_BYTES = 32


class LinkVoid(Conflict):
    """Used, replaced, too old or made up; which of these is nobody's business (T-L10)."""

    code = "link_void"

    def __init__(self) -> None:
        super().__init__("this link is used up or too old: ask for a new one")


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """The only moment at which the code is known."""

    code: str
    agent: Agent
    expires_at: datetime


def make(conn: Connection, by: By, public_id: str) -> Made:
    """Make the code for an agent whom ``by`` manages. Raises NotFound, PermissionDenied, Conflict for oneself."""
    target = agents.managed(conn, by.actor, public_id)
    if target.id == by.actor.agent_id:
        raise Conflict("change your own password with the present one")
    if not target.is_active:
        raise Conflict("this agent is shut out: let them in first")
    has_password = conn.execute(sa.select(agent.c.password_hash).where(agent.c.id == target.id)).scalar() is not None
    expires_at = by.now + (RESET_LIFE if has_password else INVITATION_LIFE)
    secret = secrets.token_urlsafe(CODE_BYTES)
    value = {"sha256": _hash(secret), "epoch": target.epoch, "expires_at": expires_at.isoformat()}
    if conn.execute(setting.update().where(setting.c.key == _key(public_id)).values(value=value)).rowcount == 0:
        conn.execute(setting.insert().values(key=_key(public_id), value=value))
    audit.append(
        conn, by, "agent.reset_link", f"agent:{public_id}", before={}, after={"expires_at": expires_at.isoformat()}
    )
    return Made(code=f"{public_id}.{secret}", agent=target, expires_at=expires_at)


def whose(conn: Connection, code: str, now: datetime) -> Agent:
    """Whose link it is; looking uses nothing up. Raises LinkVoid."""
    public_id, _, secret = code.partition(".")
    row = conn.execute(sa.select(setting.c.value).where(setting.c.key == _key(public_id))).scalar()
    target = agents.find(conn, public_id)
    if row is None or target is None or not hmac.compare_digest(str(row["sha256"]), _hash(secret)):
        raise LinkVoid
    if datetime.fromisoformat(row["expires_at"]) <= now or row["epoch"] != target.epoch or not target.is_active:
        raise LinkVoid
    return target


def use(conn: Connection, by: By, code: str, password_hash: str) -> Agent:
    """Set the password and void the link. Raises LinkVoid."""
    conn.execute(sa.select(setting.c.key).where(setting.c.key == _key(code.partition(".")[0])).with_for_update())
    target = whose(conn, code, by.now)
    if conn.execute(setting.delete().where(setting.c.key == _key(target.public_id))).rowcount != 1:
        raise LinkVoid  # somebody was first, with the same link
    themself = agents.actor_of(conn, target.id)
    if themself is None:
        raise LinkVoid
    return agents.set_password(conn, replace(by, actor=themself), target.public_id, password_hash, epoch=target.epoch)


def _key(public_id: str) -> str:
    return f"reset_link:{public_id[:100]}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
