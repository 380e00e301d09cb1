"""Who was first: what was meant for an older version of a ticket is refused with the present one (T-N08).

A version grows with each change, so as many of the newest events of the ticket are told as versions were missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core import events, tickets
from core.errors import Conflict
from core.store.schema import agent, api_key, department, event

MOST = 10
#: What grows the version; the system's own word that a ticket is open again follows one of the others.
TOLD = (events.TICKET_CHANGED, events.ANSWER_QUEUED, events.MESSAGE_RECEIVED, events.ANSWER_NOT_DELIVERED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Missed:
    """Something that happened since: "Eve" "moved it to Sales"; ``by`` is empty where nobody of us did it."""

    at: datetime
    by: str
    what: str

    @property
    def words(self) -> str:
        return f"{self.by} {self.what}" if self.by else self.what


class StaleTicket(Conflict):
    """``current`` is the ticket as it is now, ``missed`` what happened since it was read, newest first."""

    code = "stale"

    def __init__(self, current: sa.RowMapping, missed: Sequence[Missed]) -> None:
        super().__init__("the ticket was changed meanwhile: look at it again")
        self.current = current
        self.missed = missed


def refuse_stale(conn: Connection, ticket_code: str, seen: int) -> StaleTicket:
    """Return the refusal for whoever saw version ``seen`` of a ticket that they may see."""
    current = tickets.by_code(conn, ticket_code, None)
    count = min(max(current["version"] - seen, 0), MOST)
    query = (
        sa.select(event)
        .where(event.c.ticket_id == current["id"], event.c.kind.in_(TOLD))
        .where(sa.or_(event.c.kind != events.TICKET_CHANGED, event.c.actor != "system"))
        .order_by(event.c.id.desc())
        .limit(count)
    )
    rows = conn.execute(query).mappings().all()
    return StaleTicket(current, [_missed(conn, row) for row in rows])


def _missed(conn: Connection, row: sa.RowMapping) -> Missed:
    match row["kind"]:
        case events.MESSAGE_RECEIVED:
            return Missed(at=row["at"], by="", what="The customer wrote")
        case events.ANSWER_NOT_DELIVERED:
            return Missed(at=row["at"], by="", what="An answer was not delivered")
        case events.ANSWER_QUEUED:
            return Missed(at=row["at"], by=_who(conn, row["actor"]), what="answered")
        case _:
            return Missed(at=row["at"], by=_who(conn, row["actor"]), what=_changed(conn, row["data"]))


def _changed(conn: Connection, data: Mapping[str, Any]) -> str:
    words = []
    if "status" in data:
        words.append(f"set the status to {data['status']}")
    if "agent_id" in data:
        name = conn.execute(sa.select(agent.c.name).where(agent.c.id == data["agent_id"])).scalar()
        words.append(f"assigned it to {name}" if name else "assigned it to nobody")
    if "department_id" in data:
        name = conn.execute(sa.select(department.c.name).where(department.c.id == data["department_id"])).scalar()
        words.append(f"moved it to {name}")
    if "subject" in data:
        words.append("changed the subject")
    return " and ".join(words) or "changed it"


def _who(conn: Connection, actor: str) -> str:
    """The name behind ``agent:…`` or ``api_key:…``."""
    kind, _, public_id = actor.partition(":")
    query = sa.select(agent.c.name).where(agent.c.public_id == public_id)
    if kind == "api_key":
        key_of = sa.select(api_key.c.agent_id).where(api_key.c.public_id == public_id)
        query = sa.select(agent.c.name).where(agent.c.id.in_(key_of))
    return str(conn.execute(query).scalar() or "Somebody")
