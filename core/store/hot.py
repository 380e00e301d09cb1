"""Statements that run for every mail: compiled once, then spoken straight to the SQLite driver.

SQLAlchemy still writes the SQL and binds the values; what is left out is its per-call machinery, which costs ten times
what the query does. On PostgreSQL a hot statement runs the ordinary way. Results come as plain tuples of the driver, so
only columns that need no conversion (integers, text) may be selected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql.expression import Executable

from core.store.types import UtcTime, json_text, utc_text

_SQLITE = SQLiteDialect_pysqlite(json_serializer=json_text)
_Slot = tuple[str, Callable[[Any], Any] | None, bool, Any]


class Hot:
    """One statement with named parameters; ``columns`` are those that an INSERT gives values for."""

    def __init__(self, statement: Executable, *, columns: Sequence[str] = ()) -> None:
        self._statement = statement
        self._columns = list(columns) or None

    @cached_property
    def _compiled(self) -> tuple[str, list[_Slot]]:
        """The SQL, and for each place in it: name, conversion, whether it must be given, and its value if not."""
        statement: Any = self._statement
        compiled: Any = statement.compile(dialect=_SQLITE, column_keys=self._columns)
        convert: Mapping[str, Callable[[Any], Any]] = compiled._bind_processors
        slots: list[_Slot] = []
        for name in compiled.positiontup or ():
            bind = compiled.binds[name]
            short = utc_text if isinstance(bind.type, UtcTime) else convert.get(name)
            slots.append((name, short, bind.required, compiled.params.get(name)))
        return compiled.string, slots

    def run(self, conn: Connection, values: Mapping[str, Any]) -> int:
        """Execute; return how many rows it changed."""
        if conn.dialect.name != "sqlite":
            return conn.execute(self._statement, values).rowcount
        return int(self._cursor(conn, values).rowcount)

    def first(self, conn: Connection, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Execute; return the first row, or None."""
        if conn.dialect.name != "sqlite":
            row = conn.execute(self._statement, values).first()
            return tuple(row) if row is not None else None
        row = self._cursor(conn, values).fetchone()
        return row if row is None else tuple(row)

    def rows(self, conn: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Execute; return every row."""
        if conn.dialect.name != "sqlite":
            return [tuple(row) for row in conn.execute(self._statement, values)]
        return list(self._cursor(conn, values).fetchall())

    def _cursor(self, conn: Connection, values: Mapping[str, Any]) -> Any:
        sql, slots = self._compiled
        bound = [
            value if convert is None else convert(value)
            for name, convert, is_required, fixed in slots
            for value in (values[name] if is_required else fixed,)
        ]
        driver: Any = conn.connection.driver_connection
        return driver.execute(sql, bound)
