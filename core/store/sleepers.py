"""Ends transactions of ours that wait for a process that stands still (F-K23), on PostgreSQL.

A process can be stopped (SIGSTOP, a frozen machine) between the two halves of a statement: planned, its values not sent
yet. The server then calls the session active, so that neither ``idle_in_transaction_session_timeout`` nor, while it
waits for its client, ``statement_timeout`` ends it, and the kernel of the stopped process still answers keepalives.
Its row locks would stay for ever. So every node looks at what waits for its client inside a transaction, and ends what
does so for longer than any node that works. Ending the sessions of one's own role needs no special right.

Nothing is decided by this: who owns what says the lease. The sleeper that wakes finds its connection closed.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

#: Shorter than any lease, so that the locks of a sleeper are gone when its leases run out.
LONGEST_WAIT = timedelta(seconds=10)
LOOK_SECONDS = 3.0
PREFIX = "gatehouse "
NAME_BYTES = 63  # what PostgreSQL keeps of a name

_end = sa.text(
    """
    select application_name from (
        select application_name, pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
        and starts_with(application_name, :prefix) and xact_start is not null
        and wait_event_type = 'Client' and state_change < clock_timestamp() - cast(:longest as interval)
    ) as ended
    """
)


def application_name(node: str) -> str:
    """How a node's sessions are called on the server: plain ASCII, cut to what the server keeps."""
    return (PREFIX + node).encode("ascii", "replace")[:NAME_BYTES].decode()


def end_sleepers(conn: Connection, *, longest: timedelta) -> list[str]:
    """End sessions of any node that keep a transaction open and wait for their client; return whose they were.

    Other programs of the same role (a backup, a person) are not touched.
    """
    return list(conn.execute(_end, {"prefix": PREFIX, "longest": longest}).scalars())
