"""Tickets at the desk: the inbox, one ticket with all that belongs to it, and changes to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core import agents, audit, contacts, deliveries, departments, events, messages, tickets
from core.access import SYSTEM, Action, Actor, TicketRef, may, require, sees, visible_departments
from core.audit import By
from core.delivery import RollUp, Status, roll_up
from core.errors import Conflict, Invalid
from core.store.schema import agent, message, outbox, ticket
from gateway.web.desk.sight import agent_in_sight, department_in_sight
from gateway.web.desk.stale import refuse_stale

TICKET_LEFT = "ticket.left"  #: the event by which a department learns that a ticket of theirs went to another one
MAX_SUBJECT = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxFilter:
    """Ids are public ones. ``agent``: ``me``, ``none`` or an agent."""

    statuses: Sequence[str] = ()
    department: str | None = None
    agent: str | None = None
    delivery_status: str | None = None
    words: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageView:
    """One message. ``indicator`` and ``outbox`` are None for what came in; ``actions`` are ready to be asked for."""

    row: sa.RowMapping
    files: Sequence[sa.RowMapping] = ()
    deliveries: Sequence[sa.RowMapping] = ()
    indicator: RollUp | None = None
    outbox: sa.RowMapping | None = None
    actions: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Hint:
    """Something that whoever reads the ticket should know."""

    code: str
    text: str
    ticket_code: str | None = None
    message_id: str | None = None
    address: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TicketView:
    row: sa.RowMapping
    messages: Sequence[MessageView]
    people: Sequence[sa.RowMapping]
    hints: Sequence[Hint]
    actions: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TicketChange:
    """What is not None is changed; ``agent`` may also be ``me`` or ``none``. ``version`` is the one that was seen."""

    status: str | None = None
    subject: str | None = None
    department: str | None = None
    agent: str | None = None
    version: int | None = None


def inbox(
    conn: Connection, actor: Actor, wanted: InboxFilter, *, limit: int, before: tuple[datetime, int] | None = None
) -> list[sa.RowMapping]:
    """Return tickets, newest change first. Raises NotFound for a department or agent out of sight."""
    require(actor, Action.TICKET_READ)
    visible = visible_departments(actor)
    agent_id = None
    if wanted.department is not None:
        visible = frozenset({department_in_sight(conn, actor, wanted.department)})
    if wanted.agent == "me":
        agent_id = actor.agent_id
    elif wanted.agent not in (None, "none"):
        agent_id = agent_in_sight(conn, actor, wanted.agent or "")
    chosen = tickets.Filter(
        departments=visible,
        statuses=wanted.statuses,
        agent_id=agent_id,
        is_unassigned=wanted.agent == "none",
        delivery_status=wanted.delivery_status,
        words=wanted.words,
    )
    return tickets.listing(conn, chosen, limit=limit, before=before)


def inbox_counts(conn: Connection, actor: Actor) -> dict[str, int]:
    """Status -> number of tickets that the actor sees."""
    require(actor, Action.TICKET_READ)
    return tickets.counts(conn, visible_departments(actor))


def ticket_view(conn: Connection, actor: Actor, code: str) -> TicketView:
    """Return everything about a ticket that the actor sees. Raises NotFound."""
    row = find(conn, actor, code)
    ref = TicketRef(department_id=row["department_id"])
    people = contacts.participants(conn, row["id"])
    shown = _views(conn, actor, ref, messages.thread(conn, row["id"]))
    allowed = {"answer": Action.TICKET_ANSWER, "change": Action.TICKET_CHANGE}
    return TicketView(
        row=row,
        messages=shown,
        people=people,
        hints=_hints(conn, actor, row, shown, people),
        actions=frozenset(name for name, action in allowed.items() if may(actor, action, ref)),
    )


def ticket_messages(conn: Connection, actor: Actor, code: str) -> list[MessageView]:
    row = find(conn, actor, code)
    ref = TicketRef(department_id=row["department_id"])
    return _views(conn, actor, ref, messages.thread(conn, row["id"]))


def message_view(conn: Connection, actor: Actor, message_id: str) -> MessageView:
    """Return one message by its public id. Raises NotFound."""
    found = messages.by_public_id(conn, message_id, visible_departments(actor))
    require(actor, Action.TICKET_READ, TicketRef(department_id=found["department_id"]))
    return view_of(conn, actor, found["id"])


def view_of(conn: Connection, actor: Actor, message_id: int) -> MessageView:
    """Return a message that the actor was found to see, by its inner id."""
    query = (
        sa.select(
            *messages.COLUMNS,
            agent.c.name.label("agent_name"),
            agent.c.public_id.label("agent_public_id"),
            ticket.c.code.label("ticket_code"),
            ticket.c.department_id,
        )
        .join(ticket, ticket.c.id == message.c.ticket_id)
        .outerjoin(agent, agent.c.id == message.c.agent_id)
        .where(message.c.id == message_id)
    )
    row = conn.execute(query).mappings().one()
    return _views(conn, actor, TicketRef(department_id=row["department_id"]), [row])[0]


def find(conn: Connection, actor: Actor, code: str, action: Action = Action.TICKET_READ) -> sa.RowMapping:
    """Return the ticket with its names. Raises NotFound where it is out of sight, PermissionDenied."""
    row = tickets.by_code(conn, code, visible_departments(actor))
    require(actor, action, TicketRef(department_id=row["department_id"]))
    return row


def change_ticket(conn: Connection, by: By, code: str, change: TicketChange) -> sa.RowMapping | None:
    """Change a ticket; return it, or None where the actor has sent it out of their own sight.

    Whoever sees a ticket may send it to any department. An agent who does not see the new department loses the ticket.
    Raises NotFound, PermissionDenied, StaleTicket, Invalid.
    """
    before = find(conn, by.actor, code, Action.TICKET_CHANGE)
    department_id = before["department_id"]
    values: dict[str, Any] = {}
    if change.status is not None and change.status != before["status"]:
        values["status"] = change.status
    if change.subject is not None:
        values["subject"] = _checked_subject(change.subject)
    if change.department is not None:
        department_id = values["department_id"] = departments.get(conn, SYSTEM, change.department).id
    values |= _chosen_agent(conn, by.actor, before, change.agent, department_id)
    values = {name: value for name, value in values.items() if before[name] != value}
    if change.version not in (None, before["version"]):
        raise refuse_stale(conn, code, change.version or 0)
    if values:
        try:
            tickets.change(conn, before, values, version=change.version, actor=by.actor.label, now=by.now)
        except Conflict as error:  # since it was read, a moment ago
            raise refuse_stale(conn, code, before["version"]) from error
    if values:
        after = tickets.by_code(conn, code, None)
        shown = [_SHOWN.get(name, name) for name in values]
        audit.append(
            conn,
            by,
            "ticket.change",
            f"ticket:{before['code']}",
            before={name: before[name] for name in shown},
            after={name: after[name] for name in shown},
        )
    if department_id != before["department_id"]:
        events.append(
            conn, TICKET_LEFT, now=by.now, department_id=before["department_id"], data={"ticket": before["code"]}
        )
        if not sees(by.actor, TicketRef(department_id=department_id)):
            return None
    return tickets.by_code(conn, code, None)


#: What the audit log shows instead of inner ids.
_SHOWN = {"department_id": "department_public_id", "agent_id": "agent_public_id"}


def _chosen_agent(
    conn: Connection, actor: Actor, before: sa.RowMapping, wanted: str | None, department_id: int
) -> dict[str, Any]:
    """The agent's id as a change, if there is one. Whoever is assigned must see the ticket where it will be."""
    if wanted is None:
        holder = before["agent_id"]
        is_blind = holder is not None and not _may_hold(conn, holder, department_id)
        return {"agent_id": None} if is_blind and department_id != before["department_id"] else {}
    if wanted == "none":
        return {"agent_id": None}
    agent_id = actor.agent_id if wanted == "me" else agent_in_sight(conn, actor, wanted)
    if agent_id is None or not _may_hold(conn, agent_id, department_id):
        raise Invalid("this agent does not see the ticket's department", fields={"agent": "not in the department"})
    return {"agent_id": agent_id}


def _may_hold(conn: Connection, agent_id: int, department_id: int) -> bool:
    actor = agents.actor_of(conn, agent_id)
    return actor is not None and may(actor, Action.TICKET_ANSWER, TicketRef(department_id=department_id))


def _checked_subject(subject: str) -> str:
    subject = " ".join(subject.split())
    if not subject or len(subject) > MAX_SUBJECT:
        raise Invalid("a subject is needed", fields={"subject": f"1 to {MAX_SUBJECT} characters"})
    return subject


def _views(conn: Connection, actor: Actor, ref: TicketRef, rows: Sequence[sa.RowMapping]) -> list[MessageView]:
    ids = [row["id"] for row in rows]
    files = messages.files_of(conn, ids)
    sent = deliveries.of_messages(conn, ids)
    promised = _outbox_rows(conn, ids)
    may_change = may(actor, Action.DELIVERY_CHANGE, ref)
    views = []
    for row in rows:
        own = sent.get(row["id"], [])
        promise = promised.get(row["id"])
        views.append(
            MessageView(
                row=row,
                files=files.get(row["id"], ()),
                deliveries=own,
                indicator=roll_up([Status(item["status"]) for item in own]) if own else None,
                outbox=promise,
                actions=_message_actions(promise, own) if promise is not None and may_change else frozenset(),
            )
        )
    return views


def _outbox_rows(conn: Connection, message_ids: Sequence[int]) -> dict[int, sa.RowMapping]:
    query = sa.select(outbox).where(outbox.c.message_id.in_(message_ids))
    return {row["message_id"]: row for row in conn.execute(query).mappings()}


#: By the state of the outbox row, the actions of ``answers`` that it allows.
ACTIONS: Mapping[str, frozenset[str]] = {
    "waiting": frozenset({"cancel", "hold"}),
    "leased": frozenset(),
    "doubt": frozenset({"send_again", "mark_sent"}),
    "held": frozenset({"cancel", "release"}),
    "done": frozenset({"send_again"}),
    "cancelled": frozenset({"send_again"}),
}
UNSETTLED = frozenset({"not_delivered", "delayed", "cancelled"})


def _message_actions(promise: sa.RowMapping, own: Sequence[sa.RowMapping]) -> frozenset[str]:
    actions = ACTIONS[promise["state"]]
    return actions if any(item["status"] in UNSETTLED for item in own) else actions - {"send_again"}


def _hints(
    conn: Connection, actor: Actor, row: sa.RowMapping, shown: Sequence[MessageView], people: Sequence[sa.RowMapping]
) -> list[Hint]:
    hints = []
    linked = _linked_code(conn, actor, row)
    if linked and row["link_kind"] == "may_belong":
        hints.append(Hint(code="may_belong", text="This may belong to another ticket.", ticket_code=linked))
    elif linked:
        hints.append(Hint(code="follow_up", text="This follows a ticket that was closed before.", ticket_code=linked))
    for view in shown:
        message_id = view.row["public_id"]
        if view.row["is_held_aside"]:
            text = "Somebody who does not take part in this ticket wrote this."
            hints.append(Hint(code="held_aside", text=text, message_id=message_id))
        if view.indicator is not None and view.indicator.status is Status.NOT_DELIVERED:
            hints.append(Hint(code="not_delivered", text="This answer was not delivered.", message_id=message_id))
    for person in people:
        if not person["is_confirmed"]:
            text = "A mail named this person; they get answers once you write to them."
            hints.append(Hint(code="unconfirmed_person", text=text, address=person["address"]))
        if person["suppressed_at"] is not None:
            text = "Mail to this address came back before."
            hints.append(Hint(code="suppressed_address", text=text, address=person["address"]))
    return hints


def _linked_code(conn: Connection, actor: Actor, row: sa.RowMapping) -> str | None:
    """The other ticket's code, if the actor may know of it."""
    if row["linked_ticket_id"] is None:
        return None
    query = sa.select(ticket.c.code, ticket.c.department_id).where(ticket.c.id == row["linked_ticket_id"])
    other = conn.execute(query).first()
    if other is None or not sees(actor, TicketRef(department_id=other.department_id)):
        return None
    return str(other.code)
