"""Counts: of deliveries, over what the reader may see, and of the ledger, which must add up (R1.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core.listing import DeliveryFilter, delivery_conditions
from core.store.schema import channel, delivery, ledger, message, ticket

MAX_DAYS = 400
MAX_GROUPS = 50

#: Every way in which a source message may stand. Whatever is in none of them is lost from sight: there must be none.
STANDINGS = ("ticketed", "repeat", "own_copy", "evidence", "skipped", "quarantined", "dismissed", "waiting", "gaps")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryFigures:
    """Deliveries by status, by day (UTC, ``YYYY-MM-DD``) and status, by domain and by reason; the largest groups."""

    total: int
    by_status: Mapping[str, int]
    by_day: Mapping[str, Mapping[str, int]]
    by_domain: Mapping[str, int]
    by_reason: Mapping[str, int]


def delivery_figures(conn: Connection, wanted: DeliveryFilter) -> DeliveryFigures:
    by_status = _grouped(conn, wanted, delivery.c.status)
    day = _day(conn, delivery.c.created_at)
    query = _counted(wanted, day.label("day"), delivery.c.status).group_by(day, delivery.c.status)
    by_day: dict[str, dict[str, int]] = {}
    for row in conn.execute(query.order_by(day.desc()).limit(MAX_DAYS * len(by_status) or 1)):
        by_day.setdefault(row[0], {})[row[1]] = int(row[2])
    return DeliveryFigures(
        total=sum(by_status.values()),
        by_status=by_status,
        by_day=dict(sorted(by_day.items())),
        by_domain=_grouped(conn, wanted, delivery.c.domain),
        by_reason=_grouped(conn, wanted, delivery.c.reason),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderSpan:
    """What the ledger holds of one folder in one incarnation."""

    account: str
    folder: str
    uidvalidity: int
    first_uid: int
    last_uid: int
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelLedger:
    """What one channel was offered and how each of it stands. ``offered`` is counted apart from the standings."""

    channel_id: int
    channel_public_id: str
    channel_name: str
    offered: int
    standings: Mapping[str, int]
    folders: tuple[FolderSpan, ...]

    @property
    def unexplained(self) -> int:
        """What stands nowhere; anything but 0 is a fault of ours."""
        return self.offered - sum(self.standings.values())

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing: all that was offered was fetched and is accounted for."""
        return self.unexplained == 0 and self.standings["gaps"] == 0


def ledger_figures(conn: Connection, *, channel_id: int | None = None) -> list[ChannelLedger]:
    """Per channel: how many messages the source showed us, and where every one of them stands."""
    chosen = sa.true() if channel_id is None else channel.c.id == channel_id
    offered = (
        sa.select(channel.c.id, channel.c.public_id, channel.c.name, sa.func.count(ledger.c.id).label("offered"))
        .outerjoin(ledger, ledger.c.channel_id == channel.c.id)
        .where(chosen)
        .group_by(channel.c.id, channel.c.public_id, channel.c.name)
        .order_by(channel.c.id)
    )
    standings = _standings(conn, channel_id)
    folders = _folders(conn, channel_id)
    return [
        ChannelLedger(
            channel_id=row.id,
            channel_public_id=row.public_id,
            channel_name=row.name,
            offered=int(row.offered),
            standings=dict.fromkeys(STANDINGS, 0) | standings.get(row.id, {}),
            folders=tuple(folders.get(row.id, ())),
        )
        for row in conn.execute(offered)
    ]


def _standings(conn: Connection, channel_id: int | None) -> dict[int, dict[str, int]]:
    standing = sa.case(
        (ledger.c.state == "received", "waiting"),
        (ledger.c.state == "gap", "gaps"),
        (ledger.c.state.in_(("quarantined", "dismissed")), ledger.c.state),
        (ledger.c.state == "done", sa.func.coalesce(ledger.c.outcome, "")),
        else_="",
    )
    query = sa.select(ledger.c.channel_id, standing.label("standing"), sa.func.count().label("count"))
    if channel_id is not None:
        query = query.where(ledger.c.channel_id == channel_id)
    found: dict[int, dict[str, int]] = {}
    for row in conn.execute(query.group_by(ledger.c.channel_id, sa.literal_column("2"))).mappings():
        if row["standing"] in STANDINGS:
            found.setdefault(row["channel_id"], {})[row["standing"]] = int(row["count"])
    return found


def _folders(conn: Connection, channel_id: int | None) -> dict[int, list[FolderSpan]]:
    place = (ledger.c.channel_id, ledger.c.account, ledger.c.folder, ledger.c.uidvalidity)
    query = sa.select(
        *place,
        sa.func.min(ledger.c.uid).label("first_uid"),
        sa.func.max(ledger.c.uid).label("last_uid"),
        sa.func.count().label("rows"),
    ).where(ledger.c.uid.is_not(None))
    if channel_id is not None:
        query = query.where(ledger.c.channel_id == channel_id)
    found: dict[int, list[FolderSpan]] = {}
    for row in conn.execute(query.group_by(*place).order_by(*place)).mappings():
        span = FolderSpan(**{name: row[name] for name in FolderSpan.__dataclass_fields__})
        found.setdefault(row["channel_id"], []).append(span)
    return found


def _counted(wanted: DeliveryFilter, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return (
        sa.select(*columns, sa.func.count().label("count"))
        .select_from(delivery)
        .join(message, message.c.id == delivery.c.message_id)
        .join(ticket, ticket.c.id == message.c.ticket_id)
        .where(*delivery_conditions(wanted))
    )


def _grouped(conn: Connection, wanted: DeliveryFilter, column: sa.Column[Any]) -> dict[str, int]:
    """The largest groups first; what has no word is left out."""
    query = _counted(wanted, column).where(column != "").group_by(column)
    rows = conn.execute(query.order_by(sa.desc("count"), column).limit(MAX_GROUPS)).all()
    return {str(row[0]): int(row[1]) for row in rows}


def _day(conn: Connection, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    if conn.dialect.name == "postgresql":
        return sa.func.to_char(sa.func.timezone(sa.literal_column("'UTC'"), column), sa.literal_column("'YYYY-MM-DD'"))
    return sa.func.substr(sa.type_coerce(column, sa.Text()), 1, 10)
