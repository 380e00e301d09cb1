"""A desk on each of the two stores."""

from __future__ import annotations

import pytest

from core.store.database import PostgresDatabase, SqliteDatabase
from tests.ingest.desk import Desk, open_desk


@pytest.fixture
async def desk(store: SqliteDatabase | PostgresDatabase) -> Desk:
    return await open_desk(store)
