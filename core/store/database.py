"""The store: one writer and many readers on SQLite, or a PostgreSQL pool. One code base for both.

Every query is a synchronous function ``f(conn, ...)``. ``write`` runs it in a transaction that is durable when the call
returns, ``read`` in one that cannot write. On SQLite a single thread does all the writing: it takes every job that is
waiting, runs each in a savepoint of its own and commits them together (group commit), so that ``synchronous=EXTRA``
costs little. A job that fails undoes only itself; a COMMIT that fails fails every job of the batch.

After an I/O error the page cache cannot be trusted any more (F-D03): the store refuses everything from then on, and
``broken`` tells the process to stop.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import sqlalchemy as sa
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from core.clock import Clock
from core.store.away import StoreError as StoreError  # most of its readers know it from here
from core.store.away import is_passing, naming
from core.store.sleepers import LONGEST_WAIT, LOOK_SECONDS, application_name, end_sleepers
from core.store.types import json_text

P = ParamSpec("P")
T = TypeVar("T")

#: The first releases with the WAL-reset fix (F-D09).
FIXED_SQLITE = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
MAX_BATCH = 256
READERS = 4
PG_RETRIES = 5
#: A node that stops in the middle of a transaction must not hold its locks against the others (F-K23; see sleepers).
SERVER_SETTINGS = {"statement_timeout": "30000", "idle_in_transaction_session_timeout": "10000"}
#: Where the network swallows the answer (F-N06); longer than statement_timeout: a server that lives says more.
ANSWER_SECONDS = 40.0
RETRYABLE = {"40001", "40P01"}  # serialization failure, deadlock
#: What a loop that lives on catches: the store is away, or refused this job; the next round looks again (F-N01).
STORE_AWAY = (StoreError, DBAPIError, OSError)

log = logging.getLogger("gatehouse.store")


class StoreInUse(StoreError):
    """Another process holds the embedded store (F-D10)."""


Job = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Database(Protocol):
    """What the two stores have in common."""

    clock: Clock
    url: str

    async def write(
        self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def write_all(self, jobs: Sequence[Job]) -> list[Any]:
        """Run the jobs in order, each on its own: its result, or the exception that undid it, in its place.

        Raises StoreError where the store failed and not a job; what was done by then, the store knows.
        """

    async def read(
        self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def close(self) -> None: ...


def now_of(conn: Connection, clock: Clock) -> datetime:
    """Database time: what leases and fences are measured by, so that node clocks may differ (F-T03)."""
    if conn.dialect.name == "postgresql":
        value: datetime = conn.execute(sa.text("select clock_timestamp()")).scalar_one()
        return value
    return clock.now()


@dataclass(slots=True)
class _Work:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    done: asyncio.Future[Any]


_Result = tuple[_Work, Any, BaseException | None]


class SqliteDatabase:
    """The embedded store. Opening it takes an exclusive lock on the file; ``close`` gives it back."""

    def __init__(self, path: Path, *, clock: Clock | None = None, synchronous: str = "EXTRA") -> None:
        check_sqlite_version(sqlite.sqlite_version_info)
        self.clock = clock or Clock()
        self.url = f"sqlite:///{path}"
        self.path = path
        self.broken = asyncio.Event()
        self._is_broken = False
        self._is_closed = False
        self._lock = _lock_file(path)
        self._engine = _sqlite_engine(path, synchronous=synchronous, is_reader=False)
        self._read_engine = _sqlite_engine(path, synchronous=synchronous, is_reader=True)
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._reader_connections: list[Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer = threading.Thread(target=self._write_forever, name="store-writer", daemon=True)
        self._writer.start()

    @property
    def engine(self) -> Engine:
        """For migrations, before anything else uses the store."""
        return self._engine

    async def write(self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, await self._submit(function, args, kwargs))

    async def write_all(self, jobs: Sequence[Job]) -> list[Any]:
        results = await asyncio.gather(*(self._submit(*job) for job in jobs), return_exceptions=True)
        for result in results:
            if isinstance(result, StoreError):
                raise result
        return results

    async def read(self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read_now, function, args, kwargs)

    async def close(self) -> None:
        self._is_closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        for conn in self._reader_connections:
            conn.close()
        self._read_engine.dispose()
        self._engine.dispose()
        os.close(self._lock)

    def _submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        if self._is_broken:
            raise _broken()
        if self._is_closed:
            raise StoreError("the store is closed")
        self._loop = asyncio.get_running_loop()
        work = _Work(function, args, kwargs, self._loop.create_future())
        self._queue.put(work)
        return work.done

    def _read_now(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        conn: Connection | None = getattr(self._local, "conn", None)
        if conn is None:
            conn = self._local.conn = self._read_engine.connect()
            self._reader_connections.append(conn)
        with naming(), conn.begin():
            return function(conn, *args, **kwargs)

    def _write_forever(self) -> None:
        with self._engine.connect() as conn:
            while (first := self._queue.get()) is not None:
                batch = [first]
                is_last = self._fill(batch)
                self._tell(self._commit(conn, batch))
                if is_last:
                    return

    def _fill(self, batch: list[_Work]) -> bool:
        """Add whatever waits already; return whether the end was among it."""
        while len(batch) < MAX_BATCH:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return False
            if work is None:
                return True
            batch.append(work)
        return False

    def _commit(self, conn: Connection, batch: list[_Work]) -> list[_Result]:
        if self._is_broken:  # these were waiting already when it broke
            return [(work, None, _broken()) for work in batch]
        try:
            with conn.begin():
                return [(work, *_run_in_savepoint(conn, work)) for work in batch]
        except BaseException as error:  # noqa: BLE001 - the futures carry it to whoever waits
            failure = self._failure(error, is_undone=_roll_back(conn))
            return [(work, None, failure) for work in batch]

    def _failure(self, error: BaseException, *, is_undone: bool) -> StoreError:
        is_final = not is_undone or (isinstance(error, DBAPIError) and _is_io_error(error.orig))
        log.error("store.commit_failed", exc_info=error)
        if is_final:
            self._is_broken = True
        failure = StoreError(f"the store could not commit: {error}", is_final=is_final)
        failure.__cause__ = error
        return failure

    def _tell(self, results: list[_Result]) -> None:
        """Wake the loop once for the whole batch; where it is closed nobody waits any more."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve, results)

    def _resolve(self, results: list[_Result]) -> None:
        if self._is_broken:
            self.broken.set()
        for work, value, failure in results:
            if work.done.cancelled():
                continue
            if failure is None:
                work.done.set_result(value)
            else:
                work.done.set_exception(failure)


def _broken() -> StoreError:
    return StoreError("the store failed and is closed; the process has to be restarted", is_final=True)


def check_sqlite_version(version: tuple[int, ...]) -> None:
    """Raise StoreError where several connections in WAL mode can lose committed pages (F-D09)."""
    is_fixed = version >= FIXED_SQLITE[-1] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in FIXED_SQLITE
    )
    if not is_fixed:
        raise StoreError(f"SQLite {'.'.join(map(str, version))} can lose committed pages; 3.51.3 or later is needed")


def _run_in_savepoint(conn: Connection, work: _Work) -> tuple[Any, BaseException | None]:
    """Run one job so that its failure undoes only itself.

    The savepoint is spoken straight to the driver: through SQLAlchemy it costs as much as three queries.
    """
    raw = conn.connection.driver_connection
    assert raw is not None
    raw.execute("SAVEPOINT job")
    try:
        value = work.function(conn, *work.args, **work.kwargs)
    except Exception as error:
        if not raw.in_transaction or (isinstance(error, DBAPIError) and _is_io_error(error.orig)):
            raise  # SQLite rolled everything back, or the disk fails: the whole batch is lost
        raw.execute("ROLLBACK TO job")
        raw.execute("RELEASE job")
        return None, _named(error)
    raw.execute("RELEASE job")
    return value, None


def _named(error: Exception) -> Exception:
    try:
        with naming():
            raise error
    except Exception as named:  # noqa: BLE001 - handed to the caller in its place
        return named


def _roll_back(conn: Connection) -> bool:
    """Leave the transaction of a batch that failed; False when even that fails.

    A COMMIT that SQLite refuses (disk full, busy) leaves the transaction open, and SQLAlchemy takes it for ended: every
    later BEGIN would fail.
    """
    raw = conn.connection.driver_connection
    assert raw is not None
    try:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
    except sqlite.Error:
        log.exception("store.rollback_failed")
        return False
    return True


def _is_io_error(error: BaseException | None) -> bool:
    return "disk i/o error" in str(error).lower() or "malformed" in str(error).lower()


def _lock_file(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StoreInUse(f"{path} is in use by another process") from error
    return handle


def _sqlite_engine(path: Path, *, synchronous: str, is_reader: bool) -> Engine:
    engine = sa.create_engine(
        f"sqlite+pysqlite:///{path}",
        module=sqlite,
        poolclass=sa.pool.NullPool,
        connect_args={"check_same_thread": False},
        json_serializer=json_text,
    )

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not open transactions of its own
        cursor = connection.cursor()
        # EXTRA, and first: turning WAL on writes a rollback journal, and only EXTRA syncs its removal. If it came back
        # after a power loss it would roll the file back to before WAL, and every commit since would be gone.
        for pragma in (
            "page_size=16384",  # a mail is 20 to 50 kB: fewer pages to write twice; only for a new file
            f"synchronous={synchronous}",
            "journal_mode=WAL",
            "foreign_keys=ON",
            "busy_timeout=60000",
            "cache_size=-32768",
            "wal_autocheckpoint=10000",
            "journal_size_limit=67108864",
            f"query_only={'ON' if is_reader else 'OFF'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _on_begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN" if is_reader else "BEGIN IMMEDIATE")

    return engine


class PostgresDatabase:
    """Several nodes on one PostgreSQL. ``url`` as ``postgresql://user@host:port/name``; ``node`` is shown there."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        pool_size: int = 12,
        node: str = "",
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.clock = clock or Clock()
        self.url = url
        self.broken = asyncio.Event()
        self._engine = create_async_engine(
            "postgresql+asyncpg://" + url.split("://", 1)[1],
            pool_size=pool_size,
            max_overflow=4,
            pool_timeout=30,
            pool_pre_ping=True,
            connect_args={
                "timeout": 10,
                "command_timeout": answer_seconds,
                "server_settings": {**SERVER_SETTINGS, "application_name": application_name(node)},
            },
        )

    @property
    def engine(self) -> AsyncEngine:
        return self._engine

    async def write(self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        with naming():
            return await self._write(function, args, kwargs)

    async def _write(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        for retry in range(PG_RETRIES):
            try:
                async with self._engine.begin() as conn:
                    return await conn.run_sync(function, *args, **kwargs)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in RETRYABLE or retry == PG_RETRIES - 1:
                    raise
                await asyncio.sleep(0.01 * 2**retry)
        raise AssertionError("unreachable")

    async def write_all(self, jobs: Sequence[Job]) -> list[Any]:
        if not jobs:
            return []
        return await self.write(_run_all, jobs)

    async def read(self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        with naming():
            async with self._engine.connect() as conn:
                await conn.execution_options(postgresql_readonly=True)
                async with conn.begin():
                    return await conn.run_sync(function, *args, **kwargs)

    async def end_sleepers(self, *, longest: timedelta = LONGEST_WAIT, every_seconds: float = LOOK_SECONDS) -> None:
        """Free, until cancelled, what nodes that stand still keep locked. Each node does this for all."""
        while True:
            await asyncio.sleep(every_seconds)
            try:
                for name in await self.write(end_sleepers, longest=longest):
                    log.warning("store.sleeper_ended: %s", name)
            except STORE_AWAY as error:
                log.warning("store.unreachable: %s", error)

    async def close(self) -> None:
        await self._engine.dispose()


def _run_all(conn: Connection, jobs: Sequence[Job]) -> list[Any]:
    results: list[Any] = []
    for function, args, kwargs in jobs:
        savepoint = conn.begin_nested()
        try:
            results.append(function(conn, *args, **kwargs))
        except DBAPIError as error:
            if is_passing(error):
                raise
            savepoint.rollback()
            results.append(error)
        except Exception as error:  # noqa: BLE001 - handed to the caller in its place
            savepoint.rollback()
            results.append(error)
        else:
            savepoint.commit()
    return results


def open_database(url: str, *, clock: Clock | None = None, node: str = "") -> SqliteDatabase | PostgresDatabase:
    """Open the store that ``url`` names: ``sqlite:///path`` or ``postgresql://…``, for the node of that name.

    Raises StoreInUse, StoreError. The connection to PostgreSQL is made by the first query.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return SqliteDatabase(Path(rest.removeprefix("/") if rest.startswith("/") else rest), clock=clock)
    if scheme in ("postgresql", "postgres"):
        return PostgresDatabase(url, clock=clock, node=node)
    raise StoreError(f"unknown kind of store: {scheme}")
