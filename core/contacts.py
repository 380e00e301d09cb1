"""People who write to us. An identity is an address on one kind of channel; one contact may have several (R3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from core.ids import public_id
from core.store.schema import contact, identity, participant


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    id: int
    contact_id: int
    key: str
    address: str


_find = sa.select(identity.c.id, identity.c.contact_id, identity.c.key, identity.c.address).where(
    identity.c.kind == sa.bindparam("kind"), identity.c.key == sa.bindparam("key")
)


def find(conn: Connection, kind: str, key: str) -> Identity | None:
    """``key`` is canonical already: two keys that differ are two people (T-A12)."""
    row = conn.execute(_find, {"kind": kind, "key": key}).mappings().first()
    return Identity(**row) if row else None


_add_contact = sa.insert(contact).returning(contact.c.id)
_add_identity = sa.insert(identity).returning(identity.c.id)


def find_or_add(conn: Connection, kind: str, key: str, *, address: str, name: str, now: datetime) -> Identity:
    """Return the identity with this key; make a contact for it when it is new."""
    known = find(conn, kind, key)
    if known:
        return known
    contact_id = conn.execute(_add_contact, {"public_id": public_id(), "name": name, "created_at": now}).scalar_one()
    identity_id = conn.execute(
        _add_identity, {"contact_id": contact_id, "kind": kind, "key": key, "address": address, "is_verified": False}
    ).scalar_one()
    return Identity(id=identity_id, contact_id=contact_id, key=key, address=address)


def suppress(conn: Connection, identity_id: int, *, why: str, now: datetime) -> None:
    """Mark an address that bounced for good or complained; visible and reversible."""
    conn.execute(
        sa.update(identity)
        .where(identity.c.id == identity_id, identity.c.suppressed_at.is_(None))
        .values(suppressed_at=now, suppressed_why=why)
    )


def lift_suppression(conn: Connection, identity_id: int) -> None:
    """A mail from the address proves that it lives."""
    conn.execute(_lift, {"its_id": identity_id})


_lift = (
    sa.update(identity)
    .where(identity.c.id == sa.bindparam("its_id"), identity.c.suppressed_at.is_not(None))
    .values(suppressed_at=None, suppressed_why="")
)
_takes_part = sa.select(participant.c.is_confirmed).where(
    participant.c.ticket_id == sa.bindparam("ticket_id"), participant.c.identity_id == sa.bindparam("identity_id")
)
_join = sa.insert(participant)
_confirm = (
    sa.update(participant)
    .where(
        participant.c.ticket_id == sa.bindparam("its_ticket"), participant.c.identity_id == sa.bindparam("its_identity")
    )
    .values(is_confirmed=True)
)


def add_participant(conn: Connection, ticket_id: int, identity_id: int, *, role: str, is_confirmed: bool) -> None:
    """Note that somebody takes part; one who was confirmed stays confirmed."""
    known = conn.execute(_takes_part, {"ticket_id": ticket_id, "identity_id": identity_id}).first()
    if known is None:
        row = {"ticket_id": ticket_id, "identity_id": identity_id, "role": role, "is_confirmed": is_confirmed}
        conn.execute(_join, row)
    elif is_confirmed and not known.is_confirmed:
        conn.execute(_confirm, {"its_ticket": ticket_id, "its_identity": identity_id})


_is_participant = sa.select(participant.c.ticket_id).where(
    participant.c.ticket_id == sa.bindparam("ticket_id"),
    participant.c.identity_id == sa.bindparam("identity_id"),
    participant.c.is_confirmed,
)


def is_participant(conn: Connection, ticket_id: int, identity_id: int) -> bool:
    return conn.execute(_is_participant, {"ticket_id": ticket_id, "identity_id": identity_id}).first() is not None


def participants(conn: Connection, ticket_id: int) -> list[sa.RowMapping]:
    """Return the people of a ticket: identity_id, contact_id, name, address, key, role, is_confirmed, suppressed_at."""
    query = (
        sa.select(
            participant.c.identity_id,
            participant.c.role,
            participant.c.is_confirmed,
            identity.c.contact_id,
            identity.c.address,
            identity.c.key,
            identity.c.suppressed_at,
            identity.c.suppressed_why,
            contact.c.name,
        )
        .join(identity, identity.c.id == participant.c.identity_id)
        .join(contact, contact.c.id == identity.c.contact_id)
        .where(participant.c.ticket_id == ticket_id)
        .order_by(participant.c.identity_id)
    )
    return list(conn.execute(query).mappings())
