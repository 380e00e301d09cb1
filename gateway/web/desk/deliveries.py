"""Deliveries at the desk: the list, its figures, and the report that says in words what became of one (R5.6, R5.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from core import deliveries, figures, listing
from core.access import Action, Actor, TicketRef, may, require, visible_departments
from core.delivery import canonical, status_of, verify_chain
from core.figures import DeliveryFigures
from core.keys import Keys
from core.listing import DeliveryFilter, Position
from gateway.outbox import verdicts
from gateway.outbox.verdicts import Reader
from gateway.web.desk.sight import agent_in_sight, department_in_sight


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a list shows; ids are public ones, ``agent`` may be ``me``. ``to_at`` does not belong to the period."""

    statuses: Sequence[str] = ()
    from_at: datetime | None = None
    to_at: datetime | None = None
    channel: str | None = None
    department: str | None = None
    agent: str | None = None
    domain: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RawReport:
    """What stands behind a report, for admins and owners. ``rows`` are the stored facts, oldest first."""

    rows: Sequence[sa.RowMapping]
    attempts: Sequence[sa.RowMapping]
    is_chain_whole: bool  #: nobody changed, removed or added a fact


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryReport:
    row: sa.RowMapping
    report: verdicts.Report
    raw: RawReport | None


def delivery_list(
    conn: Connection, actor: Actor, wanted: Wanted, *, limit: int, before: Position | None = None
) -> list[sa.RowMapping]:
    """Return deliveries of tickets that the actor sees, newest first. Raises NotFound for ids out of sight."""
    require(actor, Action.DELIVERY_READ)
    return listing.deliveries(conn, _filter(conn, actor, wanted), limit=limit, before=before)


def delivery_figures(conn: Connection, actor: Actor, wanted: Wanted) -> DeliveryFigures:
    """Count the deliveries that ``delivery_list`` would show. For admins and owners (R5.7)."""
    require(actor, Action.DELIVERY_LIST_ALL)
    return figures.delivery_figures(conn, _filter(conn, actor, wanted))


def delivery_row(conn: Connection, actor: Actor, delivery_id: str) -> sa.RowMapping:
    """Raises NotFound."""
    row = listing.delivery_by_public_id(conn, delivery_id, visible_departments(actor))
    require(actor, Action.DELIVERY_READ, TicketRef(department_id=row["department_id"]))
    return row


def delivery_report(conn: Connection, actor: Actor, keys: Keys, delivery_id: str) -> DeliveryReport:
    """Say what became of one delivery: words for whoever sees the ticket, evidence for admins and owners."""
    row = delivery_row(conn, actor, delivery_id)
    ref = TicketRef(department_id=row["department_id"])
    stored = deliveries.evidence_of(conn, row["id"])
    evidence = [deliveries.to_evidence(item) for item in stored]
    sees_raw = may(actor, Action.DELIVERY_REPORT_RAW, ref)
    reader: Reader = "admin" if sees_raw else "agent"
    report = verdicts.explain(status_of(evidence), evidence, recipient=row["address"], reader=reader)
    if not sees_raw:
        return DeliveryReport(row=row, report=report, raw=None)
    first_bad = verify_chain(
        [(canonical(item), bytes(link["hash"])) for item, link in zip(evidence, stored, strict=True)],
        keys.evidence,
        bytes(row["evidence_head"]),
        row["evidence_count"],
        anchor=deliveries.anchor(row["public_id"]),
    )
    tries = listing.attempts(conn, row["message_id"], row["id"])
    raw = RawReport(rows=stored, attempts=tries, is_chain_whole=first_bad is None)
    return DeliveryReport(row=row, report=report, raw=raw)


def _filter(conn: Connection, actor: Actor, wanted: Wanted) -> DeliveryFilter:
    visible = visible_departments(actor)
    if wanted.department is not None:
        visible = frozenset({department_in_sight(conn, actor, wanted.department)})
    channel_id = agent_id = None
    if wanted.channel is not None:
        channel_id = listing.channel_by_public_id(conn, wanted.channel, visible_departments(actor))["id"]
    if wanted.agent is not None:
        agent_id = actor.agent_id if wanted.agent == "me" else agent_in_sight(conn, actor, wanted.agent)
    return DeliveryFilter(
        departments=visible,
        statuses=wanted.statuses,
        from_at=wanted.from_at,
        to_at=wanted.to_at,
        channel_id=channel_id,
        agent_id=agent_id,
        domain=wanted.domain.lower() if wanted.domain is not None else None,
        reason=wanted.reason,
    )
