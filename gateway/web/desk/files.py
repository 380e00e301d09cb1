"""Files at the desk: attachments for whoever sees the ticket now, raw mails for admins, both by unguessable ids."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from core import audit, messages
from core.access import Action, Actor, TicketRef, require, visible_departments
from core.audit import By
from core.errors import NotFound
from core.store.blobs import Blobs
from core.store.database import Database
from core.store.raws import read_raw


def attachment(conn: Connection, actor: Actor, attachment_id: str) -> sa.RowMapping:
    """Return name, content_type, digest and size_bytes, by the rights of this moment (T-F02). Raises NotFound."""
    require(actor, Action.TICKET_READ)
    return messages.file_by_public_id(conn, attachment_id, visible_departments(actor))


def raw_of_message(conn: Connection, by: By, message_id: str) -> str:
    """Return the digest of the mail as it came or went; that somebody read it is audited. Raises NotFound."""
    row = messages.by_public_id(conn, message_id, visible_departments(by.actor))
    require(by.actor, Action.QUARANTINE_READ_RAW, TicketRef(department_id=row["department_id"]))
    if row["raw_digest"] is None:
        raise NotFound("there are no raw bytes of it")
    audit.append(conn, by, "message.read_raw", f"message:{message_id}", before={}, after={})
    return str(row["raw_digest"])


async def kept(db: Database, blobs: Blobs, digest: str) -> bytes:
    """Return bytes by the digest that one of the functions above gave out. Raises BlobDamaged."""
    return await read_raw(db, blobs, digest)
