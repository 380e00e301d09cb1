"""The first schema"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store import guards, types

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "agent",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), server_default="", nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="1", nullable=False),
        sa.Column("theme", sa.Text(), server_default="system", nullable=False),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.CheckConstraint("role in ('owner', 'admin', 'agent')", name=op.f("ck_agent_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent")),
        sa.UniqueConstraint("email", name=op.f("uq_agent_email")),
        sa.UniqueConstraint("public_id", name=op.f("uq_agent_public_id")),
    )
    op.create_table(
        "audit",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("at", types.UtcTime(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("before", types.Json, nullable=False),
        sa.Column("after", types.Json, nullable=False),
        sa.Column("hash", types.Bytes, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "contact",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact")),
        sa.UniqueConstraint("public_id", name=op.f("uq_contact_public_id")),
    )
    op.create_table(
        "department",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), server_default="", nullable=False),
        sa.Column("reopen_days", sa.Integer(), server_default="14", nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_department")),
        sa.UniqueConstraint("name", name=op.f("uq_department_name")),
        sa.UniqueConstraint("public_id", name=op.f("uq_department_public_id")),
    )
    op.create_table(
        "event",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("at", types.UtcTime(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("department_id", types.Id, nullable=True),
        sa.Column("ticket_id", types.Id, nullable=True),
        sa.Column("message_id", types.Id, nullable=True),
        sa.Column("delivery_id", types.Id, nullable=True),
        sa.Column("channel_id", types.Id, nullable=True),
        sa.Column("actor", sa.Text(), server_default="system", nullable=False),
        sa.Column("data", types.Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index("ix_event_ticket", ["ticket_id", "id"], unique=False)

    op.create_table(
        "idempotency",
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("actor", "key", name=op.f("pk_idempotency")),
    )
    with op.batch_alter_table("idempotency", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotency_created_at"), ["created_at"], unique=False)

    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("fence", types.Id, nullable=False),
        sa.Column("until_at", types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )
    op.create_table(
        "raw",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("content", types.Bytes, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_raw")),
    )
    op.create_table(
        "setting",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", types.Json, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_setting")),
    )
    op.create_table(
        "throttle",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("since_at", types.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttle")),
    )
    op.create_table(
        "api_key",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", types.Bytes, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("agent_id", types.Id, nullable=False),
        sa.Column("scopes", types.Json, nullable=False),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.Column("used_at", types.UtcTime(), nullable=True),
        sa.Column("expires_at", types.UtcTime(), nullable=True),
        sa.Column("revoked_at", types.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_api_key_agent_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_key_key_hash")),
        sa.UniqueConstraint("public_id", name=op.f("uq_api_key_public_id")),
    )
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_key_agent_id"), ["agent_id"], unique=False)

    op.create_table(
        "channel",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("department_id", types.Id, nullable=False),
        sa.Column("config", types.Json, nullable=False),
        sa.Column("sealed", types.Bytes, nullable=True),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("in_state", sa.Text(), server_default="starting", nullable=False),
        sa.Column("in_code", sa.Text(), server_default="", nullable=False),
        sa.Column("in_text", sa.Text(), server_default="", nullable=False),
        sa.Column("in_since_at", types.UtcTime(), nullable=True),
        sa.Column("out_state", sa.Text(), server_default="starting", nullable=False),
        sa.Column("out_code", sa.Text(), server_default="", nullable=False),
        sa.Column("out_text", sa.Text(), server_default="", nullable=False),
        sa.Column("out_since_at", types.UtcTime(), nullable=True),
        sa.Column("out_resume_at", types.UtcTime(), nullable=True),
        sa.Column("proven_in_at", types.UtcTime(), nullable=True),
        sa.Column("last_in_at", types.UtcTime(), nullable=True),
        sa.Column("last_out_at", types.UtcTime(), nullable=True),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["department_id"], ["department.id"], name=op.f("fk_channel_department_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel")),
        sa.UniqueConstraint("public_id", name=op.f("uq_channel_public_id")),
    )
    with op.batch_alter_table("channel", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_channel_address"), ["address"], unique=False)

    op.create_table(
        "identity",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("contact_id", types.Id, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("is_verified", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("suppressed_at", types.UtcTime(), nullable=True),
        sa.Column("suppressed_why", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name=op.f("fk_identity_contact_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity")),
        sa.UniqueConstraint("kind", "key", name=op.f("uq_identity_kind_key")),
    )
    with op.batch_alter_table("identity", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_identity_contact_id"), ["contact_id"], unique=False)

    op.create_table(
        "member",
        sa.Column("department_id", types.Id, nullable=False),
        sa.Column("agent_id", types.Id, nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_member_agent_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["department_id"], ["department.id"], name=op.f("fk_member_department_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("department_id", "agent_id", name=op.f("pk_member")),
    )
    with op.batch_alter_table("member", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_member_agent_id"), ["agent_id"], unique=False)

    op.create_table(
        "session",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("token_hash", types.Bytes, nullable=False),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.Column("agent_id", types.Id, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.Column("seen_at", types.UtcTime(), nullable=False),
        sa.Column("expires_at", types.UtcTime(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_session_agent_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_session_token_hash")),
    )
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_session_agent_id"), ["agent_id"], unique=False)

    op.create_table(
        "ledger",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("channel_id", types.Id, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), server_default="", nullable=False),
        sa.Column("uidvalidity", types.Id, server_default="0", nullable=False),
        sa.Column("uid", types.Id, nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("raw_digest", sa.Text(), nullable=True),
        sa.Column("raw_bytes", types.Id, server_default="0", nullable=False),
        sa.Column("canonical_digest", sa.Text(), nullable=True),
        sa.Column("message_id_header", sa.Text(), nullable=True),
        sa.Column("sender", sa.Text(), server_default="", nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("excerpt", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", types.UtcTime(), nullable=True),
        sa.Column("mark", sa.Text(), server_default="none", nullable=False),
        sa.Column("fence", types.Id, server_default="0", nullable=False),
        sa.Column("message_id", types.Id, nullable=True),
        sa.Column("ticket_id", types.Id, nullable=True),
        sa.Column("received_at", types.UtcTime(), nullable=False),
        sa.Column("internal_at", types.UtcTime(), nullable=True),
        sa.Column("done_at", types.UtcTime(), nullable=True),
        sa.CheckConstraint(
            "state in ('received', 'gap', 'done', 'quarantined', 'dismissed')", name=op.f("ck_ledger_state")
        ),
        sa.ForeignKeyConstraint(["channel_id"], ["channel.id"], name=op.f("fk_ledger_channel_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
        sa.UniqueConstraint(
            "channel_id",
            "account",
            "folder",
            "uidvalidity",
            "uid",
            name=op.f("uq_ledger_channel_id_account_folder_uidvalidity_uid"),
        ),
        sa.UniqueConstraint("channel_id", "external_id", name=op.f("uq_ledger_channel_id_external_id")),
        sa.UniqueConstraint("public_id", name=op.f("uq_ledger_public_id")),
    )
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.create_index("ix_ledger_channel_state", ["channel_id", "state", "id"], unique=False)
        batch_op.create_index(
            "ix_ledger_marks",
            ["channel_id", "mark"],
            unique=False,
            sqlite_where=sa.text("mark = 'pending'"),
            postgresql_where=sa.text("mark = 'pending'"),
        )
        batch_op.create_index("ix_ledger_message_id_header", ["channel_id", "message_id_header"], unique=False)
        batch_op.create_index(
            "ix_ledger_work",
            ["channel_id", "id"],
            unique=False,
            sqlite_where=sa.text("state = 'received'"),
            postgresql_where=sa.text("state = 'received'"),
        )
        batch_op.create_index(
            "uq_ledger_canonical",
            ["channel_id", "canonical_digest"],
            unique=True,
            sqlite_where=sa.text("outcome <> 'repeat'"),
            postgresql_where=sa.text("outcome <> 'repeat'"),
        )

    op.create_table(
        "ticket",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("department_id", types.Id, nullable=False),
        sa.Column("agent_id", types.Id, nullable=True),
        sa.Column("contact_id", types.Id, nullable=False),
        sa.Column("channel_id", types.Id, nullable=False),
        sa.Column("linked_ticket_id", types.Id, nullable=True),
        sa.Column("link_kind", sa.Text(), nullable=True),
        sa.Column("delivery_status", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.Column("updated_at", types.UtcTime(), nullable=False),
        sa.Column("last_in_at", types.UtcTime(), nullable=True),
        sa.Column("last_out_at", types.UtcTime(), nullable=True),
        sa.Column("closed_at", types.UtcTime(), nullable=True),
        sa.CheckConstraint(
            "status in ('new', 'open', 'answered', 'postponed', 'resolved', 'closed', 'spam', 'deleted')",
            name=op.f("ck_ticket_status"),
        ),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_ticket_agent_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["channel_id"], ["channel.id"], name=op.f("fk_ticket_channel_id")),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name=op.f("fk_ticket_contact_id")),
        sa.ForeignKeyConstraint(["department_id"], ["department.id"], name=op.f("fk_ticket_department_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket")),
        sa.UniqueConstraint("code", name=op.f("uq_ticket_code")),
    )
    with op.batch_alter_table("ticket", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ticket_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index("ix_ticket_list", ["department_id", "status", "updated_at"], unique=False)
        batch_op.create_index("ix_ticket_updated", ["updated_at"], unique=False)

    op.create_table(
        "message",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("ticket_id", types.Id, nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("is_held_aside", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_quiet", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("channel_id", types.Id, nullable=False),
        sa.Column("contact_id", types.Id, nullable=True),
        sa.Column("agent_id", types.Id, nullable=True),
        sa.Column("from_name", sa.Text(), server_default="", nullable=False),
        sa.Column("from_address", sa.Text(), server_default="", nullable=False),
        sa.Column("sender_state", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("to", types.Json, nullable=False),
        sa.Column("cc", types.Json, nullable=False),
        sa.Column("reply_to", types.Json, nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("html", sa.Text(), nullable=True),
        sa.Column("reply_text", sa.Text(), nullable=True),
        sa.Column("reply_html", sa.Text(), nullable=True),
        sa.Column("quoted_text", sa.Text(), server_default="", nullable=False),
        sa.Column("signature_text", sa.Text(), server_default="", nullable=False),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("message_id_header", sa.Text(), nullable=True),
        sa.Column("in_reply_to", types.Json, nullable=False),
        sa.Column("references", types.Json, nullable=False),
        sa.Column("thread_index", sa.Text(), nullable=True),
        sa.Column("threading", types.Json, nullable=False),
        sa.Column("automatic", types.Json, nullable=False),
        sa.Column("warnings", types.Json, nullable=False),
        sa.Column("raw_digest", sa.Text(), nullable=True),
        sa.Column("ledger_id", types.Id, nullable=True),
        sa.Column("date_at", types.UtcTime(), nullable=True),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_message_agent_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["channel_id"], ["channel.id"], name=op.f("fk_message_channel_id")),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name=op.f("fk_message_contact_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_message_ticket_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message")),
        sa.UniqueConstraint("public_id", name=op.f("uq_message_public_id")),
    )
    with op.batch_alter_table("message", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_message_thread_index"), ["thread_index"], unique=False)
        batch_op.create_index("ix_message_ticket", ["ticket_id", "id"], unique=False)

    op.create_table(
        "participant",
        sa.Column("ticket_id", types.Id, nullable=False),
        sa.Column("identity_id", types.Id, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("is_confirmed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["identity_id"], ["identity.id"], name=op.f("fk_participant_identity_id")),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["ticket.id"], name=op.f("fk_participant_ticket_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("ticket_id", "identity_id", name=op.f("pk_participant")),
    )
    with op.batch_alter_table("participant", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_participant_identity_id"), ["identity_id"], unique=False)

    op.create_table(
        "attachment",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("message_id", types.Id, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size_bytes", types.Id, nullable=False),
        sa.Column("is_inline", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("content_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["message.id"], name=op.f("fk_attachment_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachment")),
        sa.UniqueConstraint("public_id", name=op.f("uq_attachment_public_id")),
    )
    with op.batch_alter_table("attachment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_attachment_message_id"), ["message_id"], unique=False)

    op.create_table(
        "delivery",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("message_id", types.Id, nullable=False),
        sa.Column("identity_id", types.Id, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("is_open", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("status_since_at", types.UtcTime(), nullable=False),
        sa.Column("evidence_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("evidence_head", types.Bytes, nullable=False),
        sa.Column("created_at", types.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["identity_id"], ["identity.id"], name=op.f("fk_delivery_identity_id")),
        sa.ForeignKeyConstraint(
            ["message_id"], ["message.id"], name=op.f("fk_delivery_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("message_id", "address_key", name=op.f("uq_delivery_message_id_address_key")),
        sa.UniqueConstraint("public_id", name=op.f("uq_delivery_public_id")),
    )
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.create_index("ix_delivery_created", ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_delivery_domain"), ["domain"], unique=False)
        batch_op.create_index("ix_delivery_list", ["status", "created_at"], unique=False)

    op.create_table(
        "message_ref",
        sa.Column("channel_id", types.Id, nullable=False),
        sa.Column("message_id_header", sa.Text(), nullable=False),
        sa.Column("message_id", types.Id, nullable=False),
        sa.ForeignKeyConstraint(["channel_id"], ["channel.id"], name=op.f("fk_message_ref_channel_id")),
        sa.ForeignKeyConstraint(
            ["message_id"], ["message.id"], name=op.f("fk_message_ref_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("channel_id", "message_id_header", "message_id", name=op.f("pk_message_ref")),
    )
    with op.batch_alter_table("message_ref", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_message_ref_message_id"), ["message_id"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("message_id", types.Id, nullable=False),
        sa.Column("channel_id", types.Id, nullable=False),
        sa.Column("department_id", types.Id, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("nonce", types.Id, nullable=False),
        sa.Column("bytes_digest", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), server_default="1", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("first_due_at", types.UtcTime(), nullable=False),
        sa.Column("due_at", types.UtcTime(), nullable=False),
        sa.Column("give_up_at", types.UtcTime(), nullable=False),
        sa.Column("hold_if_they_write", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("held_why", sa.Text(), server_default="", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", types.UtcTime(), nullable=True),
        sa.Column("fence", types.Id, server_default="0", nullable=False),
        sa.Column("doubt_since_at", types.UtcTime(), nullable=True),
        sa.CheckConstraint(
            "state in ('waiting', 'leased', 'doubt', 'held', 'done', 'cancelled')", name=op.f("ck_outbox_state")
        ),
        sa.ForeignKeyConstraint(["channel_id"], ["channel.id"], name=op.f("fk_outbox_channel_id")),
        sa.ForeignKeyConstraint(["department_id"], ["department.id"], name=op.f("fk_outbox_department_id")),
        sa.ForeignKeyConstraint(["message_id"], ["message.id"], name=op.f("fk_outbox_message_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("message_id", name=op.f("uq_outbox_message_id")),
        sa.UniqueConstraint("nonce", name=op.f("uq_outbox_nonce")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outbox_channel_id"), ["channel_id"], unique=False)
        batch_op.create_index("ix_outbox_due", ["state", "due_at"], unique=False)

    op.create_table(
        "attempt",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("outbox_id", types.Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("fence", types.Id, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("started_at", types.UtcTime(), nullable=False),
        sa.Column("final_dot_at", types.UtcTime(), nullable=True),
        sa.Column("ended_at", types.UtcTime(), nullable=True),
        sa.Column("recipients", types.Json, nullable=False),
        sa.ForeignKeyConstraint(["outbox_id"], ["outbox.id"], name=op.f("fk_attempt_outbox_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        sa.UniqueConstraint("outbox_id", "number", name=op.f("uq_attempt_outbox_id_number")),
    )
    op.create_table(
        "evidence",
        sa.Column("id", types.Id, autoincrement=True, nullable=False),
        sa.Column("delivery_id", types.Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fact", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", types.UtcTime(), nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("enhanced", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("server", sa.Text(), server_default="", nullable=False),
        sa.Column("queue_id", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("ledger_id", types.Id, nullable=True),
        sa.Column("actor", sa.Text(), server_default="", nullable=False),
        sa.Column("hash", types.Bytes, nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name=op.f("fk_evidence_delivery_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
        sa.UniqueConstraint("delivery_id", "fingerprint", name=op.f("uq_evidence_delivery_id_fingerprint")),
        sa.UniqueConstraint("delivery_id", "number", name=op.f("uq_evidence_delivery_id_number")),
    )
    for statement in guards.statements(op.get_bind().dialect.name):
        op.execute(statement)
