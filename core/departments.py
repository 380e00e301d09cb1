"""Departments: who answers what. Only members see a department's tickets, and admins (R8.5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from core import agents, audit
from core.access import Action, Actor, DepartmentRef, require, visible_departments
from core.audit import By
from core.errors import Conflict, Invalid, NotFound
from core.ids import public_id as new_public_id
from core.store.schema import agent, department, member

MAX_NAME = 100
MAX_SIGNATURE = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Department:
    id: int
    public_id: str
    name: str
    signature: str
    reopen_days: int
    is_default: bool


def create(conn: Connection, by: By, *, name: str) -> Department:
    """Add a department; the first one is where mail goes that no other claims. Raises Conflict, Invalid."""
    require(by.actor, Action.DEPARTMENT_MANAGE)
    identifier = new_public_id()
    values = {"name": _checked_name(name), "is_default": not _any(conn)}
    try:
        with conn.begin_nested():
            conn.execute(department.insert().values(**values, public_id=identifier, created_at=by.now))
    except IntegrityError as error:
        raise Conflict("another department has this name") from error
    audit.append(conn, by, "department.create", f"department:{identifier}", before={}, after=values)
    return _known(conn, identifier)


def get(conn: Connection, actor: Actor, public_id: str) -> Department:
    """Raises NotFound, also for a department that the actor may not see."""
    found = _known(conn, public_id)
    require(actor, Action.DEPARTMENT_READ, DepartmentRef(department_id=found.id))
    return found


def list_visible(conn: Connection, actor: Actor, *, after: str = "", limit: int = 50) -> list[Department]:
    """In the order of their names."""
    require(actor, Action.DEPARTMENT_READ)
    query = sa.select(department).where(department.c.name > after).order_by(department.c.name).limit(limit)
    visible = visible_departments(actor)
    if visible is not None:
        query = query.where(department.c.id.in_(visible))
    return [_department(row) for row in conn.execute(query)]


def change(
    conn: Connection,
    by: By,
    public_id: str,
    *,
    name: str | None = None,
    signature: str | None = None,
    reopen_days: int | None = None,
) -> Department:
    """Change what is given. Raises NotFound, PermissionDenied, Conflict, Invalid."""
    before = _managed(conn, by, public_id)
    values: dict[str, object] = {}
    if name is not None:
        values["name"] = _checked_name(name)
    if signature is not None:
        values["signature"] = signature[:MAX_SIGNATURE]
    if reopen_days is not None:
        values["reopen_days"] = reopen_days
    values = {key: value for key, value in values.items() if getattr(before, key) != value}
    if not values:
        return before
    try:
        with conn.begin_nested():
            conn.execute(department.update().where(department.c.id == before.id).values(**values))
    except IntegrityError as error:
        raise Conflict("another department has this name") from error
    old = {key: getattr(before, key) for key in values}
    audit.append(conn, by, "department.change", f"department:{public_id}", before=old, after=values)
    return _known(conn, public_id)


def members(conn: Connection, actor: Actor, public_id: str) -> list[agents.Agent]:
    found = get(conn, actor, public_id)
    query = (
        sa.select(agent.c.public_id)
        .join(member, member.c.agent_id == agent.c.id)
        .where(member.c.department_id == found.id)
        .order_by(agent.c.email)
    )
    listed = [agents.find(conn, name) for name in conn.execute(query).scalars().all()]
    return [item for item in listed if item is not None]


def add_member(conn: Connection, by: By, public_id: str, agent_public_id: str) -> None:
    """Their sessions end: what they see changes (R8.3). Twice is the same as once."""
    found = _managed(conn, by, public_id)
    target = agents.managed(conn, by.actor, agent_public_id)
    agents.set_departments(conn, by, agent_public_id, frozenset(target.departments) | {found.id})


def remove_member(conn: Connection, by: By, public_id: str, agent_public_id: str) -> None:
    found = _managed(conn, by, public_id)
    target = agents.managed(conn, by.actor, agent_public_id)
    agents.set_departments(conn, by, agent_public_id, frozenset(target.departments) - {found.id})


def managed_ids(conn: Connection, by: By, public_ids: Iterable[str]) -> frozenset[int]:
    """The departments that ``by`` wants to put somebody into. Raises NotFound, PermissionDenied."""
    return frozenset(_managed(conn, by, name).id for name in public_ids)


def _managed(conn: Connection, by: By, public_id: str) -> Department:
    found = _known(conn, public_id)
    require(by.actor, Action.DEPARTMENT_MANAGE, DepartmentRef(department_id=found.id))
    return found


def _known(conn: Connection, public_id: str) -> Department:
    row = conn.execute(sa.select(department).where(department.c.public_id == public_id)).one_or_none()
    if row is None:
        raise NotFound("there is no such department")
    return _department(row)


def _any(conn: Connection) -> bool:
    return conn.execute(sa.select(department.c.id).limit(1)).first() is not None


def _department(row: sa.Row[tuple[object, ...]]) -> Department:
    return Department(
        id=row.id,
        public_id=row.public_id,
        name=row.name,
        signature=row.signature,
        reopen_days=row.reopen_days,
        is_default=row.is_default,
    )


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise Invalid("a name is needed", fields={"name": f"1 to {MAX_NAME} characters"})
    return name
