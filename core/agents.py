"""Agents: the people who answer. Every change bumps the agent's epoch where rights change, and is audited.

A role, department or activity change ends the agent's sessions in the same transaction (R8.3, T-L05); open pages and
sockets compare the epoch. The very first owner comes in with a one-time code that the program prints (T-L11).
"""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from core import audit
from core.access import (
    Action,
    Actor,
    ActorKind,
    AgentRef,
    Role,
    Scope,
    require,
    visible_departments,
)
from core.audit import By
from core.errors import Conflict, Invalid, NotFound
from core.ids import public_id
from core.store.schema import agent, department, member, session, setting

MAX_NAME = 200
MAX_EMAIL = 254  # RFC 5321 section 4.5.3.1.3
FIRST_OWNER = "first_owner_code"


class LastOwner(Conflict):
    """The house must keep one active owner (T-L06)."""

    code = "last_owner"


class SetUpAlready(Conflict):
    """There is an owner: the set-up page is closed."""

    code = "set_up_already"


@dataclass(frozen=True, kw_only=True, slots=True)
class DepartmentName:
    public_id: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    id: int
    public_id: str
    email: str
    name: str
    alias: str
    role: Role
    is_active: bool
    epoch: int
    theme: str
    created_at: datetime
    departments: Mapping[int, DepartmentName]

    @property
    def ref(self) -> AgentRef:
        return AgentRef(agent_id=self.id, role=self.role, department_ids=frozenset(self.departments))


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What a sign-in is checked against."""

    agent_id: int
    public_id: str
    epoch: int
    password_hash: str | None


def create(
    conn: Connection, by: By, *, email: str, name: str, role: Role, alias: str = "", password_hash: str | None = None
) -> Agent:
    """Add an agent. Raises PermissionDenied, Invalid, Conflict (the address is taken)."""
    require(by.actor, Action.AGENT_MANAGE, AgentRef(grants=role))
    return _insert(conn, by, email=email, name=name, role=role, alias=alias, password_hash=password_hash)


def get(conn: Connection, actor: Actor, public_id: str) -> Agent:
    """Raises NotFound, also for an agent whom the actor may not see."""
    found = find(conn, public_id)
    if found is None:
        raise NotFound("there is no such agent")
    require(actor, Action.AGENT_READ, found.ref)
    return found


def list_visible(conn: Connection, actor: Actor, *, after: str = "", limit: int = 50) -> list[Agent]:
    """Agents in the order of their addresses: all, or for an agent the colleagues of their departments."""
    require(actor, Action.AGENT_READ)
    query = sa.select(agent).where(agent.c.email > after).order_by(agent.c.email).limit(limit)
    visible = visible_departments(actor)
    if visible is not None:
        colleagues = sa.select(member.c.agent_id).where(member.c.department_id.in_(visible))
        query = query.where(sa.or_(agent.c.id.in_(colleagues), agent.c.id == actor.agent_id))
    return _read(conn, query)


def find(conn: Connection, public_id: str) -> Agent | None:
    """Without asking the gate: for callers that ask it themselves."""
    return next(iter(_read(conn, sa.select(agent).where(agent.c.public_id == public_id))), None)


def find_by_id(conn: Connection, agent_id: int) -> Agent | None:
    return next(iter(_read(conn, sa.select(agent).where(agent.c.id == agent_id))), None)


def managed(conn: Connection, actor: Actor, public_id: str) -> Agent:
    """An agent whom the actor may change. Raises NotFound, PermissionDenied."""
    target = _known(conn, public_id)
    require(actor, Action.AGENT_MANAGE, target.ref)
    return target


def set_role(conn: Connection, by: By, public_id: str, role: Role) -> Agent:
    target = _managed(conn, by, public_id, grants=role)
    if target.role is Role.OWNER and role is not Role.OWNER:
        _keep_an_owner(conn, target)
    return _change(conn, by, target, "agent.role", {"role": role}, ends_sessions=True)


def set_active(conn: Connection, by: By, public_id: str, *, is_active: bool) -> Agent:
    """Shut an agent out, or let them in again. Their tickets stay theirs until somebody hands them over."""
    target = _managed(conn, by, public_id)
    if not is_active:
        _keep_an_owner(conn, target)
    return _change(conn, by, target, "agent.active", {"is_active": is_active}, ends_sessions=True)


def set_departments(conn: Connection, by: By, public_id: str, department_ids: frozenset[int]) -> Agent:
    target = _managed(conn, by, public_id)
    before = sorted(target.departments)
    if before == sorted(department_ids):
        return target
    conn.execute(member.delete().where(member.c.agent_id == target.id))
    for department_id in sorted(department_ids):
        conn.execute(member.insert().values(agent_id=target.id, department_id=department_id))
    _end_sessions(conn, target.id)
    after = _known(conn, public_id)
    audit.append(
        conn,
        by,
        "agent.departments",
        f"agent:{public_id}",
        before={"departments": sorted(item.public_id for item in target.departments.values())},
        after={"departments": sorted(item.public_id for item in after.departments.values())},
    )
    return after


def set_profile(
    conn: Connection, by: By, public_id: str, *, name: str | None = None, alias: str | None = None
) -> Agent:
    """Change how an agent is called. One's own, or that of somebody whom one manages."""
    target = _known(conn, public_id)
    if target.id == by.actor.agent_id:
        require(by.actor, Action.SELF_MANAGE)
    else:
        target = _managed(conn, by, public_id)
    values: dict[str, object] = {}
    if name is not None:
        values["name"] = _checked_name(name)
    if alias is not None:
        values["alias"] = alias.strip()[:MAX_NAME]
    return _change(conn, by, target, "agent.profile", values, ends_sessions=False)


def set_theme(conn: Connection, actor: Actor, theme: str) -> None:
    """A matter of taste: one's own, and not audited."""
    require(actor, Action.SELF_MANAGE)
    conn.execute(agent.update().where(agent.c.id == actor.agent_id).values(theme=theme))


def set_password(conn: Connection, by: By, public_id: str, password_hash: str, *, epoch: int | None = None) -> Agent:
    """Set one's own password or, as admin, that of somebody not above; all their sessions end (T-L04).

    ``epoch``: the one under which the old password was confirmed. Raises Conflict when it has moved on.
    """
    conn.execute(sa.select(agent.c.id).where(agent.c.public_id == public_id).with_for_update())
    target = _known(conn, public_id)
    if epoch is not None and target.epoch != epoch:
        raise Conflict("this agent was changed meanwhile")
    if target.id == by.actor.agent_id:
        require(by.actor, Action.SELF_MANAGE)
    else:
        target = _managed(conn, by, public_id)
    conn.execute(agent.update().where(agent.c.id == target.id).values(password_hash=password_hash))
    _end_sessions(conn, target.id)
    audit.append(conn, by, "agent.password", f"agent:{public_id}", before={}, after={})
    return _known(conn, public_id)


def keep_rehashed(conn: Connection, agent_id: int, old: str, new: str) -> None:
    """Store the same password under newer parameters, unless it was changed meanwhile."""
    conn.execute(agent.update().where(agent.c.id == agent_id, agent.c.password_hash == old).values(password_hash=new))


def credentials(conn: Connection, email: str) -> Credentials | None:
    """What an active agent's sign-in is checked against; None for everybody else."""
    row = conn.execute(sa.select(agent).where(agent.c.email == normal_email(email), agent.c.is_active)).one_or_none()
    if row is None:
        return None
    return Credentials(agent_id=row.id, public_id=row.public_id, epoch=row.epoch, password_hash=row.password_hash)


def actor_of(conn: Connection, agent_id: int, *, scopes: frozenset[Scope] | None = None, key: str = "") -> Actor | None:
    """The rights of an agent at this moment; None when they are shut out. ``key``: public id of the API key used."""
    query = sa.select(
        agent.c.public_id, agent.c.name, agent.c.role, agent.c.epoch, sa.exists(sa.select(department.c.id)).label("any")
    ).where(agent.c.id == agent_id, agent.c.is_active)
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    departments = conn.execute(sa.select(member.c.department_id).where(member.c.agent_id == agent_id)).scalars()
    return Actor(
        kind=ActorKind.API_KEY if key else ActorKind.AGENT,
        agent_id=agent_id,
        public_id=key or row.public_id,
        name=row.name,
        role=Role(row.role),
        department_ids=frozenset(departments),
        has_departments=row.any,
        epoch=row.epoch,
        scopes=scopes,
    )


def first_owner_code(conn: Connection) -> str | None:
    """Make the one-time code for the set-up page; None once there is an owner. A former code is void then."""
    if _has_owner(conn):
        return None
    code = public_id()
    value = {"sha256": _code_hash(code)}
    if conn.execute(setting.update().where(setting.c.key == FIRST_OWNER).values(value=value)).rowcount == 0:
        conn.execute(setting.insert().values(key=FIRST_OWNER, value=value))
    return code


def create_first_owner(conn: Connection, by: By, *, code: str, email: str, name: str, password_hash: str) -> Agent:
    """Use up the code. Raises SetUpAlready once there is an owner, Invalid for a wrong code."""
    row = conn.execute(
        sa.select(setting.c.value).where(setting.c.key == FIRST_OWNER).with_for_update()
    ).scalar_one_or_none()
    if row is None or _has_owner(conn):
        raise SetUpAlready("this house has an owner already")
    if not hmac.compare_digest(str(row["sha256"]), _code_hash(code.strip().lower())):
        raise Invalid("that is not the code which the program printed", fields={"code": "wrong"})
    conn.execute(setting.delete().where(setting.c.key == FIRST_OWNER))
    return _insert(conn, by, email=email, name=name, role=Role.OWNER, alias="", password_hash=password_hash)


def needs_first_owner(conn: Connection) -> bool:
    return not _has_owner(conn)


def normal_email(email: str) -> str:
    return email.strip().lower()


def _insert(
    conn: Connection, by: By, *, email: str, name: str, role: Role, alias: str, password_hash: str | None
) -> Agent:
    identifier = public_id()
    values = {"email": _checked_email(email), "name": _checked_name(name), "role": str(role), "alias": alias.strip()}
    try:
        with conn.begin_nested():
            conn.execute(
                agent.insert().values(**values, public_id=identifier, password_hash=password_hash, created_at=by.now)
            )
    except IntegrityError as error:
        raise Conflict("another agent has this address") from error
    audit.append(conn, by, "agent.create", f"agent:{identifier}", before={}, after=values)
    return _known(conn, identifier)


def _read(conn: Connection, query: sa.Select[tuple[object, ...]]) -> list[Agent]:
    rows = conn.execute(query).all()
    names: dict[int, dict[int, DepartmentName]] = defaultdict(dict)
    joined = (
        sa.select(member.c.agent_id, department.c.id, department.c.public_id, department.c.name)
        .join(department)
        .where(member.c.agent_id.in_([row.id for row in rows]))
        .order_by(department.c.name)
    )
    for row in conn.execute(joined):
        names[row.agent_id][row.id] = DepartmentName(public_id=row.public_id, name=row.name)
    return [
        Agent(
            id=row.id,
            public_id=row.public_id,
            email=row.email,
            name=row.name,
            alias=row.alias,
            role=Role(row.role),
            is_active=row.is_active,
            epoch=row.epoch,
            theme=row.theme,
            created_at=row.created_at,
            departments=names[row.id],
        )
        for row in rows
    ]


def _known(conn: Connection, public_id: str) -> Agent:
    found = find(conn, public_id)
    if found is None:
        raise NotFound("there is no such agent")
    return found


def _managed(conn: Connection, by: By, public_id: str, *, grants: Role | None = None) -> Agent:
    """Lock and return an agent whom ``by`` may manage: the row that was judged is the row that is changed."""
    conn.execute(sa.select(agent.c.id).where(agent.c.public_id == public_id).with_for_update())
    target = _known(conn, public_id)
    ref = AgentRef(agent_id=target.id, role=target.role, department_ids=target.ref.department_ids, grants=grants)
    require(by.actor, Action.AGENT_MANAGE, ref)
    return target


def _keep_an_owner(conn: Connection, target: Agent) -> None:
    """Lock all owners, so that two of them cannot remove each other at once."""
    query = sa.select(agent.c.id).where(agent.c.role == Role.OWNER, agent.c.is_active).order_by(agent.c.id)
    owners = set(conn.execute(query.with_for_update()).scalars())
    if owners == {target.id}:
        raise LastOwner("the last owner cannot be removed or demoted")


def _change(
    conn: Connection, by: By, target: Agent, action: str, values: Mapping[str, object], *, ends_sessions: bool
) -> Agent:
    before = {name: getattr(target, name) for name in values}
    if before == dict(values):
        return target
    conn.execute(agent.update().where(agent.c.id == target.id).values(**values))
    if ends_sessions:
        _end_sessions(conn, target.id)
    audit.append(conn, by, action, f"agent:{target.public_id}", before=before, after=values)
    return _known(conn, target.public_id)


def _end_sessions(conn: Connection, agent_id: int) -> None:
    conn.execute(agent.update().where(agent.c.id == agent_id).values(epoch=agent.c.epoch + 1))
    conn.execute(session.delete().where(session.c.agent_id == agent_id))


def _has_owner(conn: Connection) -> bool:
    return conn.execute(sa.select(agent.c.id).where(agent.c.role == Role.OWNER).limit(1)).first() is not None


def _code_hash(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()


def _checked_email(email: str) -> str:
    email = normal_email(email)
    local, at, domain = email.rpartition("@")
    is_shaped = bool(local and at and domain) and not any(sign.isspace() or not sign.isprintable() for sign in email)
    if not is_shaped or len(email) > MAX_EMAIL:
        raise Invalid("this is no mail address", fields={"email": "not a mail address"})
    return email


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise Invalid("a name is needed", fields={"name": f"1 to {MAX_NAME} characters"})
    return name
