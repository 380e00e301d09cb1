"""Who gets an answer unless the agent says otherwise: the composer shows it, and ``send`` does it.

The newest message counts that a person wrote who takes part: no robot's, nor that of somebody who is held aside. A
single Reply-To inside its sender's own domain is obeyed; any other an agent has to choose (T-A06). Without such a
Reply-To the answer goes to whoever asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core import contacts
from core.store.schema import message
from gateway.normalize.addresses import identity_key
from gateway.normalize.values import Address

Row = Mapping[str, Any] | sa.RowMapping


def of_ticket(conn: Connection, ticket_id: int) -> tuple[Address, ...]:
    return choose(last_heard(conn, ticket_id), contacts.participants(conn, ticket_id))


def last_heard(conn: Connection, ticket_id: int) -> sa.RowMapping | None:
    """The message that an answer answers: a robot's words are answered by nobody, least of all at its Reply-To."""
    query = (
        sa.select(message)
        .where(
            message.c.ticket_id == ticket_id,
            message.c.direction == "in",
            sa.not_(message.c.is_held_aside),
            sa.not_(message.c.is_quiet),
        )
        .order_by(message.c.id.desc())
        .limit(1)
    )
    return conn.execute(query).mappings().first()


def choose(last: Row | None, people: Sequence[Row]) -> tuple[Address, ...]:
    """``last``: the message that is answered; ``people``: who takes part. Nobody where nobody can be written to."""
    wanted = _near_reply_to(last) if last is not None else None
    if wanted is not None:
        return (wanted,)
    askers = [row for row in people if row["role"] == "requester" and row["address"]]
    return tuple(Address(name=row["name"], address=row["address"]) for row in askers)


def _near_reply_to(last: Row) -> Address | None:
    if len(last["reply_to"]) != 1:
        return None
    wanted = identity_key(last["reply_to"][0]["address"])
    sender = identity_key(last["from_address"])
    if wanted is None or sender is None or wanted.rpartition("@")[2] != sender.rpartition("@")[2]:
        return None
    return Address(**last["reply_to"][0])
