"""Bringing a store up to the schema of this program, from any released one.

Every migration is one transaction on both stores, so a kill in the middle leaves the old schema (F-K21, F-N07). A store
that is newer than the program is refused: old code must not write into it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from core.store.database import PostgresDatabase, SqliteDatabase, StoreError

SCRIPTS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x6761746568  # two nodes that start at once migrate one after the other


async def upgrade(database: SqliteDatabase | PostgresDatabase) -> tuple[str | None, str]:
    """Apply what is missing; return the revisions before and after. Raises StoreError for a newer store."""
    if isinstance(database, SqliteDatabase):
        return await asyncio.to_thread(_upgrade_sqlite, database)
    async with database.engine.connect() as conn:
        await conn.execute(text(f"select pg_advisory_lock({ADVISORY_LOCK})"))
        try:
            result = await conn.run_sync(_upgrade)
            await conn.commit()
        finally:
            await conn.execute(text(f"select pg_advisory_unlock({ADVISORY_LOCK})"))
            await conn.commit()
    return result


def head() -> str:
    """The revision that this program needs."""
    revision = ScriptDirectory(str(SCRIPTS)).get_current_head()
    assert revision is not None
    return revision


def _upgrade_sqlite(database: SqliteDatabase) -> tuple[str | None, str]:
    with database.engine.connect() as conn:
        result = _upgrade(conn)
        conn.commit()
        return result


def _upgrade(conn: Connection) -> tuple[str | None, str]:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = conn
    scripts = ScriptDirectory.from_config(config)
    before = MigrationContext.configure(conn).get_current_revision()
    if before is not None and before not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreError(f"the store has schema {before}, which is newer than this program: use the newer program")
    command.upgrade(config, "head")
    return before, head()
