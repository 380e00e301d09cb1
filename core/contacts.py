"""People who write to us. An identity is an address on one kind of channel; one contact may have several (R3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from core.ids import public_id
from core.store.hot import Hot
from core.store.schema import contact, identity, participant


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    id: int
    contact_id: int
    key: str
    address: str
    is_suppressed: bool


_find = Hot(
    sa.select(
        identity.c.id,
        identity.c.contact_id,
        identity.c.key,
        identity.c.address,
        identity.c.suppressed_at.is_not(None).label("is_suppressed"),
    ).where(identity.c.kind == sa.bindparam("kind"), identity.c.key == sa.bindparam("key"))
)


def find(conn: Connection, kind: str, key: str) -> Identity | None:
    """``key`` is canonical already: two keys that differ are two people (T-A12)."""
    row = _find.first(conn, {"kind": kind, "key": key})
    if row is None:
        return None
    return Identity(id=row[0], contact_id=row[1], key=row[2], address=row[3], is_suppressed=bool(row[4]))


_add_contact = Hot(sa.insert(contact).returning(contact.c.id), columns=("public_id", "name", "created_at"))
_add_identity = Hot(
    sa.insert(identity).returning(identity.c.id), columns=("contact_id", "kind", "key", "address", "is_verified")
)


def find_or_add(conn: Connection, kind: str, key: str, *, address: str, name: str, now: datetime) -> Identity:
    """Return the identity with this key; make a contact for it when it is new."""
    known = find(conn, kind, key)
    if known:
        return known
    contact_id = _new_id(_add_contact.first(conn, {"public_id": public_id(), "name": name, "created_at": now}))
    values = {"contact_id": contact_id, "kind": kind, "key": key, "address": address, "is_verified": False}
    identity_id = _new_id(_add_identity.first(conn, values))
    return Identity(id=identity_id, contact_id=contact_id, key=key, address=address, is_suppressed=False)


def _new_id(row: tuple[Any, ...] | None) -> int:
    assert row is not None  # INSERT … RETURNING gives a row or raises
    return int(row[0])


def suppress(conn: Connection, identity_id: int, *, why: str, now: datetime) -> None:
    """Mark an address that bounced for good or complained; visible and reversible."""
    conn.execute(
        sa.update(identity)
        .where(identity.c.id == identity_id, identity.c.suppressed_at.is_(None))
        .values(suppressed_at=now, suppressed_why=why)
    )


def lift_suppression(conn: Connection, identity_id: int) -> None:
    """A mail from the address proves that it lives."""
    _lift.run(conn, {"its_id": identity_id})


_lift = Hot(
    sa.update(identity)
    .where(identity.c.id == sa.bindparam("its_id"), identity.c.suppressed_at.is_not(None))
    .values(suppressed_at=None, suppressed_why="")
)
_join_columns = ("ticket_id", "identity_id", "role", "is_confirmed")


def _joining(insert: postgresql.Insert | sqlite.Insert) -> Hot:
    confirmed = {"is_confirmed": sa.true()}
    is_news = sa.and_(insert.excluded.is_confirmed, sa.not_(participant.c.is_confirmed))
    key = (participant.c.ticket_id, participant.c.identity_id)
    return Hot(insert.on_conflict_do_update(index_elements=key, set_=confirmed, where=is_news), columns=_join_columns)


_join = {
    "postgresql": _joining(postgresql.insert(participant)),
    "sqlite": _joining(sqlite.insert(participant)),
}


def add_participant(conn: Connection, ticket_id: int, identity_id: int, *, role: str, is_confirmed: bool) -> None:
    """Note that somebody takes part; one who was confirmed stays confirmed."""
    row = {"ticket_id": ticket_id, "identity_id": identity_id, "role": role, "is_confirmed": is_confirmed}
    _join[conn.dialect.name].run(conn, row)


_is_participant = Hot(
    sa.select(participant.c.ticket_id).where(
        participant.c.ticket_id == sa.bindparam("ticket_id"),
        participant.c.identity_id == sa.bindparam("identity_id"),
        participant.c.is_confirmed,
    )
)


def is_participant(conn: Connection, ticket_id: int, identity_id: int) -> bool:
    return _is_participant.first(conn, {"ticket_id": ticket_id, "identity_id": identity_id}) is not None


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
