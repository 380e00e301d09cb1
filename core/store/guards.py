"""What the database itself refuses: evidence and audit entries are never changed or removed (R5.2, T-O05)."""

from __future__ import annotations

APPEND_ONLY = ("evidence", "audit")


def statements(dialect: str) -> list[str]:
    """Return the DDL that makes the tables append-only."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{action} BEFORE {action.upper()} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for table in APPEND_ONLY
            for action in ("update", "delete")
        ]
    return [
        "CREATE FUNCTION gatehouse_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$",
        *(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION gatehouse_append_only()"
            for table in APPEND_ONLY
        ),
    ]
