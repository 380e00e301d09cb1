"""Migrations: the schema that they build is the one that the program declares, and nothing half is ever left."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core.store.database import PostgresDatabase, SqliteDatabase, StoreError
from core.store.migrate import head, upgrade
from core.store.schema import metadata

Store = SqliteDatabase | PostgresDatabase


def _differences(conn: Connection) -> list[object]:
    context = MigrationContext.configure(conn, opts={"compare_type": False})
    return list(compare_metadata(context, metadata))


async def test_migrations_build_exactly_the_declared_schema(store: Store) -> None:
    assert await store.write(_differences) == []


async def test_upgrading_twice_changes_nothing(store: Store) -> None:
    assert await upgrade(store) == (head(), head())


@pytest.mark.proves("F-N07")
async def test_a_store_newer_than_the_program_is_refused(store: Store) -> None:
    await store.write(lambda conn: conn.execute(sa.text("update alembic_version set version_num = '9999'")))
    with pytest.raises(StoreError, match="newer than this program"):
        await upgrade(store)


@pytest.mark.proves("T-O05", "R5.2")
@pytest.mark.parametrize("statement", ["update audit set actor = 'x'", "delete from audit"])
async def test_the_database_refuses_to_change_an_audit_entry(store: Store, statement: str) -> None:
    await store.write(
        lambda conn: conn.execute(
            sa.text(
                "insert into audit (at, actor, action, object, before, after, hash)"
                " values (:at, 'a', 'b', 'c', '{}', '{}', :hash)"
            ).bindparams(sa.bindparam("at", type_=metadata.tables["audit"].c.at.type), sa.bindparam("hash", b"x")),
            {"at": store.clock.now()},
        )
    )
    with pytest.raises((DBAPIError, StoreError), match="append-only"):
        await store.write(lambda conn: conn.execute(sa.text(statement)))
