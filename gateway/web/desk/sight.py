"""Ids that come inside a request: each must name something that the actor sees, or it names nothing (T-M02)."""

from __future__ import annotations

from sqlalchemy import Connection

from core import agents, departments
from core.access import SYSTEM, Actor, DepartmentRef, sees
from core.errors import NotFound


def agent_in_sight(conn: Connection, actor: Actor, agent_id: str) -> int:
    """Return the inner id of a colleague. Raises NotFound."""
    found = agents.find(conn, agent_id)
    if found is None or not sees(actor, found.ref):
        raise NotFound("there is no such agent")
    return found.id


def department_in_sight(conn: Connection, actor: Actor, department_id: str) -> int:
    """Return the inner id of a department that the actor sees. Raises NotFound."""
    found = departments.get(conn, SYSTEM, department_id)
    if not sees(actor, DepartmentRef(department_id=found.id)):
        raise NotFound("there is no such department")
    return found.id
