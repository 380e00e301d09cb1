"""What happened, appended in the transaction that it tells of. Live pages, alerts, webhooks and rules read it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core.store.hot import Hot
from core.store.schema import event

TICKET_CREATED = "ticket.created"
TICKET_CHANGED = "ticket.changed"
MESSAGE_RECEIVED = "message.received"
MESSAGE_HELD_ASIDE = "message.held_aside"
ANSWER_QUEUED = "answer.queued"
ANSWER_NOT_DELIVERED = "answer.not_delivered"
DELIVERY_CHANGED = "delivery.changed"
CHANNEL_CHANGED = "channel.changed"
LEDGER_QUARANTINED = "ledger.quarantined"

_insert = Hot(sa.insert(event), columns=[column.name for column in event.c if column.name != "id"])


def append(
    conn: Connection,
    kind: str,
    *,
    now: datetime,
    department_id: int | None = None,
    ticket_id: int | None = None,
    message_id: int | None = None,
    delivery_id: int | None = None,
    channel_id: int | None = None,
    actor: str = "system",
    data: dict[str, Any] | None = None,
) -> None:
    _insert.run(
        conn,
        {
            "at": now,
            "kind": kind,
            "department_id": department_id,
            "ticket_id": ticket_id,
            "message_id": message_id,
            "delivery_id": delivery_id,
            "channel_id": channel_id,
            "actor": actor,
            "data": data or {},
        },
    )


def after(conn: Connection, last_id: int, *, limit: int = 500) -> list[sa.RowMapping]:
    """Return events with an id above ``last_id``, oldest first.

    On PostgreSQL ids are given before commits, so a reader must look again a little behind its last id.
    """
    query = sa.select(event).where(event.c.id > last_id).order_by(event.c.id).limit(limit)
    return list(conn.execute(query).mappings())


def last_id(conn: Connection) -> int:
    return int(conn.execute(sa.select(sa.func.coalesce(sa.func.max(event.c.id), 0))).scalar_one())
