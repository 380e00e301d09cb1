"""The tables. Ids are integers inside; ``public_id`` is what leaves the house (unguessable, and checked all the same).

Every change here needs a migration in ``core/store/migrations``; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    false,
    text,
    true,
)

from core.store.types import Bytes, Id, Json, UtcTime, Words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True, autoincrement=True)


def _public_id() -> Column[str]:
    return Column("public_id", Words, nullable=False, unique=True)


def _created_at() -> Column[object]:
    return Column("created_at", UtcTime, nullable=False)


department = Table(
    "department",
    metadata,
    _id(),
    _public_id(),
    Column("name", Words, nullable=False, unique=True),
    Column("signature", Words, nullable=False, server_default=""),
    Column("reopen_days", Integer, nullable=False, server_default="14"),  # R3.3
    Column("is_default", Boolean, nullable=False, server_default=false()),
    _created_at(),
)

agent = Table(
    "agent",
    metadata,
    _id(),
    _public_id(),
    Column("email", Words, nullable=False, unique=True),  # lower case
    Column("name", Words, nullable=False),
    Column("alias", Words, nullable=False, server_default=""),  # shown to customers
    Column("role", Words, nullable=False),  # owner | admin | agent
    Column("password_hash", Words),
    Column("is_active", Boolean, nullable=False, server_default=true()),
    Column("epoch", Integer, nullable=False, server_default="1"),  # grows when rights change (T-L05)
    Column("theme", Words, nullable=False, server_default="system"),
    _created_at(),
    CheckConstraint("role in ('owner', 'admin', 'agent')", name="role"),
)

member = Table(
    "member",
    metadata,
    Column("department_id", ForeignKey("department.id", ondelete="CASCADE"), primary_key=True),
    Column("agent_id", ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True, index=True),
)

session = Table(
    "session",
    metadata,
    _id(),
    Column("token_hash", Bytes, nullable=False, unique=True),
    Column("csrf", Words, nullable=False),
    Column("agent_id", ForeignKey("agent.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("epoch", Integer, nullable=False),
    _created_at(),
    Column("seen_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("address", Words, nullable=False, server_default=""),
    Column("user_agent", Words, nullable=False, server_default=""),
)

api_key = Table(
    "api_key",
    metadata,
    _id(),
    _public_id(),
    Column("prefix", Words, nullable=False),
    Column("key_hash", Bytes, nullable=False, unique=True),
    Column("name", Words, nullable=False),
    Column("agent_id", ForeignKey("agent.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("scopes", Json, nullable=False),
    _created_at(),
    Column("used_at", UtcTime),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
)

throttle = Table(  # login tries live in the store, so that a flush or a second node resets nothing (T-R02)
    "throttle",
    metadata,
    Column("key", Words, primary_key=True),
    Column("tries", Integer, nullable=False),
    Column("since_at", UtcTime, nullable=False),
)

idempotency = Table(  # R13.1: the same key gives the same answer, other content a 409
    "idempotency",
    metadata,
    Column("actor", Words, primary_key=True),
    Column("key", Words, primary_key=True),
    Column("request_digest", Words, nullable=False),
    Column("status", Integer),
    Column("body", Words),
    Column("created_at", UtcTime, nullable=False, index=True),
)


channel = Table(
    "channel",
    metadata,
    _id(),
    _public_id(),
    Column("kind", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("address", Words, nullable=False, server_default="", index=True),  # identity key of the own address
    Column("department_id", ForeignKey("department.id"), nullable=False),
    Column("config", Json, nullable=False),  # without secrets
    Column("sealed", Bytes),  # the secrets, AES-GCM
    Column("account", Words, nullable=False),  # whose UIDs these are: changes with host or user (F-M16)
    Column("is_enabled", Boolean, nullable=False, server_default=true()),
    Column("version", Integer, nullable=False, server_default="1"),
    Column(
        "in_state", Words, nullable=False, server_default="starting"
    ),  # starting | working | delayed | failing | paused | off
    Column("in_code", Words, nullable=False, server_default=""),
    Column("in_text", Words, nullable=False, server_default=""),
    Column("in_since_at", UtcTime),
    Column("out_state", Words, nullable=False, server_default="starting"),
    Column("out_code", Words, nullable=False, server_default=""),
    Column("out_text", Words, nullable=False, server_default=""),
    Column("out_since_at", UtcTime),
    Column("out_resume_at", UtcTime),  # when a paused way out is tried again
    Column("proven_in_at", UtcTime),  # R1.5
    Column("last_in_at", UtcTime),
    Column("last_out_at", UtcTime),
    _created_at(),
)

raw = Table(  # small raws; larger ones are blobs. Addressed by SHA-256, hex
    "raw",
    metadata,
    Column("digest", Words, primary_key=True),
    Column("content", Bytes, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    _id(),
    _public_id(),
    Column("channel_id", ForeignKey("channel.id"), nullable=False),
    Column("account", Words, nullable=False),
    Column("folder", Words, nullable=False, server_default=""),
    Column("uidvalidity", Id, nullable=False, server_default="0"),
    Column("uid", Id),  # IMAP; NULL for pushed events
    Column("external_id", Words),  # pushed events; NULL for IMAP
    Column("raw_digest", Words),
    Column("raw_bytes", Id, nullable=False, server_default="0"),
    Column("canonical_digest", Words),  # known after parsing
    Column("message_id_header", Words),
    Column("sender", Words, nullable=False, server_default=""),  # for the lists, known after parsing
    Column("subject", Words, nullable=False, server_default=""),
    Column("state", Words, nullable=False),  # received | gap | done | quarantined | dismissed
    Column("outcome", Words),  # ticketed | repeat | own_copy | evidence | skipped
    Column("reason", Words, nullable=False, server_default=""),
    Column("excerpt", Words, nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcTime),
    Column("mark", Words, nullable=False, server_default="none"),  # none | pending | done: I6
    Column("fence", Id, nullable=False, server_default="0"),
    Column("message_id", Id),  # what became of it; no foreign key: deleting a ticket keeps this row (R1.6)
    Column("ticket_id", Id),
    Column("received_at", UtcTime, nullable=False),
    Column("internal_at", UtcTime),
    Column("done_at", UtcTime),
    UniqueConstraint("channel_id", "account", "folder", "uidvalidity", "uid"),
    UniqueConstraint("channel_id", "external_id"),
    CheckConstraint("state in ('received', 'gap', 'done', 'quarantined', 'dismissed')", name="state"),
    # One of each mail a mailbox, whatever UID it comes under (R1.4): the others are recorded as repeats of it.
    Index(
        "uq_ledger_canonical",
        "channel_id",
        "canonical_digest",
        unique=True,
        sqlite_where=text("outcome <> 'repeat'"),
        postgresql_where=text("outcome <> 'repeat'"),
    ),
    Index(
        "ix_ledger_work",
        "channel_id",
        "id",
        sqlite_where=text("state = 'received'"),
        postgresql_where=text("state = 'received'"),
    ),
    Index("ix_ledger_channel_state", "channel_id", "state", "id"),
    Index(
        "ix_ledger_marks",
        "channel_id",
        "mark",
        sqlite_where=text("mark = 'pending'"),
        postgresql_where=text("mark = 'pending'"),
    ),
    Index("ix_ledger_message_id_header", "channel_id", "message_id_header"),
)


contact = Table(
    "contact",
    metadata,
    _id(),
    _public_id(),
    Column("name", Words, nullable=False, server_default=""),
    _created_at(),
)

identity = Table(
    "identity",
    metadata,
    _id(),
    Column("contact_id", ForeignKey("contact.id"), nullable=False, index=True),
    Column("kind", Words, nullable=False),
    Column("key", Words, nullable=False),  # canonical: addresses.identity_key
    Column("address", Words, nullable=False),  # as first seen; mail goes to this one (T-A12)
    Column("is_verified", Boolean, nullable=False, server_default=false()),
    Column("suppressed_at", UtcTime),  # hard bounce or complaint; visible, reversible
    Column("suppressed_why", Words, nullable=False, server_default=""),
    UniqueConstraint("kind", "key"),
)


ticket = Table(
    "ticket",
    metadata,
    _id(),
    Column("code", Words, nullable=False, unique=True),  # random, e.g. KQ7-M2XVD-9TA: also its public id
    Column("subject", Words, nullable=False, server_default=""),
    Column("status", Words, nullable=False),
    Column("department_id", ForeignKey("department.id"), nullable=False),
    Column("agent_id", ForeignKey("agent.id", ondelete="SET NULL")),
    Column("contact_id", ForeignKey("contact.id"), nullable=False, index=True),
    Column("channel_id", ForeignKey("channel.id"), nullable=False),
    Column("linked_ticket_id", Id),  # follow-up of a long closed one (R3.3), or "may belong to" (T-A01)
    Column("link_kind", Words),  # follow_up | may_belong
    Column("delivery_status", Words),  # of the newest answer, for the lists
    Column("language", Words),
    Column("version", Integer, nullable=False, server_default="1"),
    _created_at(),
    Column("updated_at", UtcTime, nullable=False),
    Column("last_in_at", UtcTime),
    Column("last_out_at", UtcTime),
    Column("closed_at", UtcTime),
    CheckConstraint(
        "status in ('new', 'open', 'answered', 'postponed', 'resolved', 'closed', 'spam', 'deleted')",
        name="status",
    ),
    Index("ix_ticket_list", "department_id", "status", "updated_at"),
    Index("ix_ticket_updated", "updated_at"),
)

participant = Table(  # who may be written to, and whose token replies are trusted (T-A05)
    "participant",
    metadata,
    Column("ticket_id", ForeignKey("ticket.id", ondelete="CASCADE"), primary_key=True),
    Column("identity_id", ForeignKey("identity.id"), primary_key=True, index=True),
    Column("role", Words, nullable=False),  # requester | cc
    Column("is_confirmed", Boolean, nullable=False),  # False: proposed by a header, waits for an agent
)

message = Table(
    "message",
    metadata,
    _id(),
    _public_id(),
    Column("ticket_id", ForeignKey("ticket.id", ondelete="CASCADE"), nullable=False),
    Column("direction", Words, nullable=False),  # in | out
    Column("is_held_aside", Boolean, nullable=False, server_default=false()),  # from someone else: agents only
    Column("is_quiet", Boolean, nullable=False, server_default=false()),  # automatic reply: attached without reopening
    Column("channel_id", ForeignKey("channel.id"), nullable=False),
    Column("contact_id", ForeignKey("contact.id")),
    Column("agent_id", ForeignKey("agent.id", ondelete="SET NULL")),
    Column("from_name", Words, nullable=False, server_default=""),
    Column("from_address", Words, nullable=False, server_default=""),
    Column(
        "sender_state", Words, nullable=False, server_default="unknown"
    ),  # verified | not_verified | unclear | unknown
    Column("to", Json, nullable=False),  # [{name, address}]
    Column("cc", Json, nullable=False),
    Column("reply_to", Json, nullable=False),
    Column("subject", Words, nullable=False, server_default=""),
    Column("text", Words, nullable=False, server_default=""),  # the whole body
    Column("html", Words),  # sanitised
    Column("reply_text", Words),  # the new words; NULL where all of ``text`` is new
    Column("reply_html", Words),
    Column("quoted_text", Words, nullable=False, server_default=""),
    Column("signature_text", Words, nullable=False, server_default=""),
    Column("language", Words),
    Column("message_id_header", Words),
    Column("in_reply_to", Json, nullable=False),
    Column("references", Json, nullable=False),
    Column("thread_index", Words, index=True),
    Column("threading", Json, nullable=False),  # {evidence, sureness, words}: why it stands here (R3.2)
    Column("automatic", Json, nullable=False),
    Column("warnings", Json, nullable=False),
    Column("raw_digest", Words),
    Column("ledger_id", Id),
    Column("date_at", UtcTime),  # the Date header, display only
    Column("created_at", UtcTime, nullable=False),  # our receipt time, or when the agent pressed send
    Index("ix_message_ticket", "ticket_id", "id"),
)

message_ref = Table(  # every Message-ID by which a message is known, also those that relays put on it
    "message_ref",
    metadata,
    Column("channel_id", ForeignKey("channel.id"), primary_key=True),
    Column("message_id_header", Words, primary_key=True),
    Column("message_id", ForeignKey("message.id", ondelete="CASCADE"), primary_key=True, index=True),
)

attachment = Table(
    "attachment",
    metadata,
    _id(),
    _public_id(),
    Column("message_id", ForeignKey("message.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("name", Words, nullable=False),
    Column("content_type", Words, nullable=False),
    Column("digest", Words, nullable=False),
    Column("size_bytes", Id, nullable=False),
    Column("is_inline", Boolean, nullable=False, server_default=false()),
    Column("content_id", Words),
)


outbox = Table(  # one row an answer: the state machine of handing over
    "outbox",
    metadata,
    _id(),
    Column("message_id", ForeignKey("message.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("channel_id", ForeignKey("channel.id"), nullable=False, index=True),
    Column("department_id", ForeignKey("department.id"), nullable=False),
    Column("state", Words, nullable=False),  # waiting | leased | doubt | held | done | cancelled
    Column("nonce", Id, nullable=False, unique=True),  # 40 random bits: what return tokens carry
    Column("bytes_digest", Words, nullable=False),  # the mail, rendered once: every attempt sends these bytes
    Column("round", Integer, nullable=False, server_default="1"),  # grows with each "send again" by a person
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("first_due_at", UtcTime, nullable=False),  # start of the retry window
    Column("due_at", UtcTime, nullable=False),
    Column("give_up_at", UtcTime, nullable=False),
    Column("hold_if_they_write", Boolean, nullable=False, server_default=false()),
    Column("held_why", Words, nullable=False, server_default=""),
    Column("lease_owner", Words),
    Column("lease_until", UtcTime),
    Column("fence", Id, nullable=False, server_default="0"),
    Column("doubt_since_at", UtcTime),
    CheckConstraint("state in ('waiting', 'leased', 'doubt', 'held', 'done', 'cancelled')", name="state"),
    Index("ix_outbox_due", "state", "due_at"),
)

delivery = Table(  # one row a recipient; ``status`` is a projection of the evidence, written in the same commit
    "delivery",
    metadata,
    _id(),
    _public_id(),
    Column("message_id", ForeignKey("message.id", ondelete="CASCADE"), nullable=False),
    Column("identity_id", ForeignKey("identity.id")),
    Column("kind", Words, nullable=False),  # to | cc | bcc
    Column("name", Words, nullable=False, server_default=""),
    Column("address", Words, nullable=False),
    Column("address_key", Words, nullable=False),
    Column("domain", Words, nullable=False, index=True),
    Column("status", Words, nullable=False),
    Column("detail", Words, nullable=False),
    Column("reason", Words, nullable=False, server_default=""),
    Column("is_open", Boolean, nullable=False, server_default=true()),  # still to be handed over
    Column("status_since_at", UtcTime, nullable=False),
    Column("evidence_count", Integer, nullable=False, server_default="0"),
    Column("evidence_head", Bytes, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("message_id", "address_key"),
    Index("ix_delivery_list", "status", "created_at"),
    Index("ix_delivery_created", "created_at"),
)

attempt = Table(
    "attempt",
    metadata,
    _id(),
    Column("outbox_id", ForeignKey("outbox.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("fence", Id, nullable=False),
    Column("state", Words, nullable=False),  # started | final_dot_pending | finished
    Column("node", Words, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("final_dot_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("recipients", Json, nullable=False),  # delivery ids of this try
    UniqueConstraint("outbox_id", "number"),  # F-N05
)

evidence = Table(  # append-only, hash-chained per delivery (R5.2); triggers refuse UPDATE
    "evidence",
    metadata,
    _id(),
    Column("delivery_id", ForeignKey("delivery.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("fact", Words, nullable=False),
    Column("round", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("code", Integer),
    Column("enhanced", Words),
    Column("text", Words, nullable=False, server_default=""),
    Column("server", Words, nullable=False, server_default=""),
    Column("queue_id", Words, nullable=False, server_default=""),
    Column("reason", Words, nullable=False, server_default=""),
    Column("source", Words, nullable=False, server_default=""),
    Column("fingerprint", Words, nullable=False),
    Column("ledger_id", Id),  # the report that said it, raw
    Column("actor", Words, nullable=False, server_default=""),
    Column("hash", Bytes, nullable=False),
    UniqueConstraint("delivery_id", "number"),
    UniqueConstraint("delivery_id", "fingerprint"),
)


event = Table(  # appended in the transaction that it tells of; live pages, alerts and rules read it
    "event",
    metadata,
    _id(),
    Column("at", UtcTime, nullable=False),
    Column("kind", Words, nullable=False),
    Column("department_id", Id),
    Column("ticket_id", Id),
    Column("message_id", Id),
    Column("delivery_id", Id),
    Column("channel_id", Id),
    Column("actor", Words, nullable=False, server_default="system"),
    Column("data", Json, nullable=False),
    Index("ix_event_ticket", "ticket_id", "id"),
)

audit = Table(
    "audit",
    metadata,
    _id(),
    Column("at", UtcTime, nullable=False),
    Column("actor", Words, nullable=False),
    Column("address", Words, nullable=False, server_default=""),
    Column("action", Words, nullable=False),
    Column("object", Words, nullable=False),
    Column("before", Json, nullable=False),
    Column("after", Json, nullable=False),
    Column("hash", Bytes, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("name", Words, primary_key=True),
    Column("owner", Words, nullable=False),
    Column("fence", Id, nullable=False),
    Column("until_at", UtcTime, nullable=False),  # database time
)

setting = Table(
    "setting",
    metadata,
    Column("key", Words, primary_key=True),
    Column("value", Json, nullable=False),
)
