"""Messages: one thing said in a ticket, with its files and every Message-ID by which it is known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from core.errors import NotFound
from core.ids import public_id
from core.store.hot import Hot
from core.store.schema import agent, attachment, message, message_ref, ticket

MAX_NAMED = 100  # messages that the headers of one mail may lead to


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """An attachment whose bytes are in the blob store already."""

    name: str
    content_type: str
    digest: str
    size_bytes: int
    is_inline: bool = False
    content_id: str | None = None


#: What a message has when the writer says nothing of it.
DEFAULTS: dict[str, Any] = {
    "is_held_aside": False,
    "is_quiet": False,
    "contact_id": None,
    "agent_id": None,
    "sender_state": "unknown",
    "html": None,
    "reply_text": None,
    "reply_html": None,
    "quoted_text": "",
    "signature_text": "",
    "language": None,
    "thread_index": None,
    "raw_digest": None,
    "ledger_id": None,
    "date_at": None,
}
_insert = Hot(
    sa.insert(message).returning(message.c.id), columns=[column.name for column in message.c if column.name != "id"]
)
_insert_file = Hot(sa.insert(attachment), columns=[column.name for column in attachment.c if column.name != "id"])


def add(conn: Connection, values: dict[str, Any], files: Sequence[File] = ()) -> int:
    """Insert a message and its files; return its id. ``values`` are columns of ``message`` without ids."""
    given = DEFAULTS | values | {"public_id": public_id()}
    if given["reply_text"] == given["text"]:
        given["reply_text"] = None  # most messages quote nothing: their words are not written twice
    row = _insert.first(conn, given)
    assert row is not None  # INSERT … RETURNING gives a row or raises
    message_id = int(row[0])
    for position, file in enumerate(files):
        row_of_file = {
            "public_id": public_id(),
            "message_id": message_id,
            "position": position,
            "name": file.name,
            "content_type": file.content_type,
            "digest": file.digest,
            "size_bytes": file.size_bytes,
            "is_inline": file.is_inline,
            "content_id": file.content_id,
        }
        _insert_file.run(conn, row_of_file)
    header = values.get("message_id_header")
    if header:
        add_ref(conn, values["channel_id"], header, message_id)
    return message_id


_ref_columns = ("channel_id", "message_id_header", "message_id")
_add_ref = {
    "postgresql": Hot(postgresql.insert(message_ref).on_conflict_do_nothing(), columns=_ref_columns),
    "sqlite": Hot(sqlite.insert(message_ref).on_conflict_do_nothing(), columns=_ref_columns),
}


def add_ref(conn: Connection, channel_id: int, message_id_header: str, message_id: int) -> None:
    """Note one more Message-ID by which a message is known."""
    values = {"channel_id": channel_id, "message_id_header": message_id_header, "message_id": message_id}
    _add_ref[conn.dialect.name].run(conn, values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ref:
    """A message that a Message-ID names."""

    message_id: int
    ticket_id: int
    direction: str


def find_refs(conn: Connection, channel_id: int, headers: Collection[str]) -> dict[str, list[Ref]]:
    """Message-ID -> the messages known by it, newest first, for those that any is known by."""
    found = {}
    for header in headers:
        rows = _by_ref.rows(conn, {"channel_id": channel_id, "header": header})
        if rows:
            found[header] = [Ref(message_id=row[0], ticket_id=row[1], direction=row[2]) for row in rows]
    return found


_by_ref = Hot(
    sa.select(message.c.id, message.c.ticket_id, message.c.direction)
    .join(message_ref, message_ref.c.message_id == message.c.id)
    .where(
        message_ref.c.channel_id == sa.bindparam("channel_id"),
        message_ref.c.message_id_header == sa.bindparam("header"),
    )
    .order_by(message.c.id.desc())
    .limit(MAX_NAMED)
)


def ticket_of(conn: Connection, message_id: int) -> int:
    return int(conn.execute(sa.select(message.c.ticket_id).where(message.c.id == message_id)).scalar_one())


def text_of(conn: Connection, message_id: int) -> str:
    return str(conn.execute(sa.select(message.c.text).where(message.c.id == message_id)).scalar_one())


#: The columns of a message as its readers know them.
COLUMNS = (
    *(column for column in message.c if column.name != "reply_text"),
    sa.func.coalesce(message.c.reply_text, message.c.text).label("reply_text"),
)


def thread(conn: Connection, ticket_id: int) -> list[sa.RowMapping]:
    """Every message of a ticket with its author's name, in the order in which it came."""
    query = (
        sa.select(*COLUMNS, agent.c.name.label("agent_name"), agent.c.public_id.label("agent_public_id"))
        .outerjoin(agent, agent.c.id == message.c.agent_id)
        .where(message.c.ticket_id == ticket_id)
        .order_by(message.c.created_at, message.c.id)
    )
    return list(conn.execute(query).mappings())


def by_public_id(conn: Connection, wanted: str, departments: Collection[int] | None) -> sa.RowMapping:
    """Return a message with ``department_id`` and ``ticket_code``. Raises NotFound, also where it is out of sight."""
    query = (
        sa.select(*COLUMNS, ticket.c.department_id, ticket.c.code.label("ticket_code"))
        .join(ticket, ticket.c.id == message.c.ticket_id)
        .where(message.c.public_id == wanted)
    )
    if departments is not None:
        query = query.where(ticket.c.department_id.in_(departments))
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("no such message")
    return row


def files_of(conn: Connection, message_ids: Sequence[int]) -> dict[int, list[sa.RowMapping]]:
    found: dict[int, list[sa.RowMapping]] = {}
    query = (
        sa.select(attachment)
        .where(attachment.c.message_id.in_(message_ids))
        .order_by(attachment.c.message_id, attachment.c.position)
    )
    for row in conn.execute(query).mappings():
        found.setdefault(row["message_id"], []).append(row)
    return found


def file_by_public_id(conn: Connection, wanted: str, departments: Collection[int] | None) -> sa.RowMapping:
    """Return an attachment if its ticket is in sight now (T-F02). Raises NotFound."""
    query = (
        sa.select(attachment)
        .join(message, message.c.id == attachment.c.message_id)
        .join(ticket, ticket.c.id == message.c.ticket_id)
        .where(attachment.c.public_id == wanted)
    )
    if departments is not None:
        query = query.where(ticket.c.department_id.in_(departments))
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("no such file")
    return row
