"""When a store cannot do a job now and may do it later: unreachable, starting, stopping, full, busy, read only.

The drivers and the pool say so in a dozen ways (F-N01, F-N02, F-D02); ``naming`` gives them one name, so that callers
tell "try again" from "this job is wrong". SQLSTATE classes: PostgreSQL manual, appendix A; SQLite result codes: its C
interface.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

try:
    import asyncpg
except ModuleNotFoundError:  # the extra ``postgres`` is not installed
    DRIVER_ERRORS: tuple[type[Exception], ...] = ()
else:
    DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

#: Connection, resources (disk full, too many connections), operator (shutdown, statement timeout), system.
PASSING_CLASSES = ("08", "53", "57", "58")
#: Read only; ended while idle in a transaction, or by its length; serialization failure, deadlock, lock not available.
PASSING_STATES = {"25006", "25P03", "25P04", "40001", "40P01", "55P03"}
#: SQLITE_BUSY, LOCKED, READONLY, FULL, CANTOPEN
PASSING_RESULTS = {5, 6, 8, 13, 14}

#: None was got, or the one in hand was closed by the server in the middle of what the driver was saying.
NO_CONNECTION: tuple[type[Exception], ...] = (OSError, PoolExhausted, *DRIVER_ERRORS)


class StoreError(Exception):
    """The store did not do it; nothing of the job remains. ``is_final``: this process must not go on."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


class StoreAway(StoreError):
    """Not now. Where the connection broke in the middle of a commit nobody knows whether the job was done: whoever
    repeats it relies on unique keys."""


@contextmanager
def naming() -> Iterator[None]:
    """Turn what passes by itself into StoreAway; let everything else through."""
    try:
        yield
    except NO_CONNECTION as error:
        raise StoreAway(f"the store cannot be reached: {error or type(error).__name__}") from error
    except DBAPIError as error:
        if not is_passing(error):
            raise
        raise StoreAway(f"the store cannot do it now: {error.orig}") from error


def is_passing(error: DBAPIError) -> bool:
    """Whether the same job may work later."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None) or ""
    if state[:2] in PASSING_CLASSES or state in PASSING_STATES:
        return True
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in PASSING_RESULTS  # the rest says more precisely why
