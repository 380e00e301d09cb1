"""Faults on purpose: each breaks one rule of the house in the desk's own process, never in the product.

A campaign in which one of them survives is worthless (FAULTS section 9; the numbers are from there).
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import Connection

from core.store.schema import ledger, ticket


def delete_ticket(conn: Connection, ticket_id: int) -> None:
    conn.execute(sa.delete(ticket).where(ticket.c.id == ticket_id))


PLANTS: dict[str, Callable[[], None]] = {}
