"""The house's own tools for tests: the store fixtures, the guard of the network, the table of proofs."""

from __future__ import annotations

import socket

import pytest
import sqlalchemy as sa

from core.clock import Clock
from core.store.database import PostgresDatabase, SqliteDatabase
from core.store.schema import department
from tests import network, proofs


def _add_department(conn: sa.Connection) -> int:
    conn.execute(department.insert().values(public_id="d", name="Support", created_at=Clock().now()))
    return conn.execute(sa.select(sa.func.count()).select_from(department)).scalar_one()


@pytest.mark.parametrize("run", [1, 2])
async def test_every_test_gets_an_empty_store_of_its_own(store: SqliteDatabase | PostgresDatabase, run: int) -> None:
    assert await store.write(_add_department) == 1


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "10.0.0.1", "169.254.169.254"])
def test_guard_refuses_connections_that_leave_loopback(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with network.guard() as tried, socket.socket(family) as sock:
        with pytest.raises(network.LeftLoopback):
            sock.connect((address, 9))
        with pytest.raises(network.LeftLoopback):
            sock.connect_ex((address, 9))
        assert len(tried) == 2


def test_guard_looks_up_no_foreign_names() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.com", 80)


def test_table_of_proofs_counts_a_test_with_parameters_once() -> None:
    table = {"R2.1": ["a"], "R10.2": ["b", "c"], "T-L01": ["c"], "R2.10": ["a"]}
    assert proofs.render(table).splitlines() == [
        "R2.1       1  a",
        "R2.10      1  a",
        "R10.2      2  b",
        " " * 14 + "c",
        "T-L01      1  c",
        "4 ids proven by 3 tests",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("R2.1, R10.12: T-L01 and F-K10", ["R2.1", "R10.12", "T-L01", "F-K10"]),
        ("RFC 5321 section 4.5, T-GG, R2", []),
    ],
)
def test_ids_are_found_in_prose(text: str, found: list[str]) -> None:
    assert proofs.ID.findall(text) == found
