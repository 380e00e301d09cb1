"""Column types that mean the same on both stores."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import JSON, BigInteger, Dialect, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import BYTEA, JSONB, TIMESTAMP
from sqlalchemy.types import TypeDecorator

#: 64 bits on both: SQLite's rowid alias must be spelled INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")
Json = JSON().with_variant(JSONB(), "postgresql")
Bytes = LargeBinary().with_variant(BYTEA(), "postgresql")
Words = Text()


def json_text(value: Any) -> str:
    """How SQLite holds JSON."""
    return orjson.dumps(value).decode()


def utc_text(value: datetime | None) -> str | None:
    """How SQLite holds a moment: ``2026-03-02 10:00:00.000000``, in UTC. Raises ValueError for a naive time."""
    return None if value is None else _aware(value).isoformat(" ", "microseconds")[:26]


def moment(value: str | datetime | None) -> datetime | None:
    """What ``utc_text`` wrote, or PostgreSQL gave, as an aware moment."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a naive time cannot be stored")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


class UtcTime(TypeDecorator[datetime]):
    """An aware moment in UTC, to the microsecond. SQLite holds it as text that sorts."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value if value is None else _aware(value)
        return utc_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return moment(value)
