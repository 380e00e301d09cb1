"""The journal: durable before it says "taken", three tries for a gap, and nothing without the lease (R1.1, R1.2)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core import leases, ledger
from core.store import schema
from core.store.blobs import SMALL_BYTES, LocalBlobs
from core.store.database import PostgresDatabase, SqliteDatabase
from gateway.channels.contract import Offered, Place, Trouble
from gateway.errors import LeaseLost
from gateway.ingest import Ingest
from gateway.journal import ChannelJournal
from gateway.live.hub import Hub
from tests.ingest.desk import KEYS, Desk, NoBlobs
from tests.ingest.letters import letter

INBOX = Place(folder="INBOX", uidvalidity=1)
HOUR = timedelta(hours=1)


async def open_journal(desk: Desk, *, blobs: Any = None, marks: bool = True) -> ChannelJournal:
    kept: Any = blobs or NoBlobs()
    held = await desk.db.write(leases.acquire, "channel", "a", length=HOUR, clock=desk.db.clock)
    assert held is not None
    return ChannelJournal(
        db=desk.db, blobs=kept, hub=Hub(), channel_id=desk.channel_id, account=desk.account, lease=held,
        marks=marks,
    )  # fmt: skip


def offered(uid: int, raw: bytes | None = None, **fields: Any) -> Offered:
    return Offered(place=INBOX, uid=uid, raw=raw, size_bytes=len(raw or b""), **fields)


@pytest.mark.proves("R1.1", "F-K04", "F-K05")
@pytest.mark.parametrize("size", [10, SMALL_BYTES + 10])
async def test_what_take_has_returned_for_is_there_for_anybody(desk: Desk, tmp_path: Path, size: int) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    journal = await open_journal(desk, blobs=blobs)
    raw = letter(text="x" * size)
    await journal.take([offered(7, raw)])
    if isinstance(desk.db, SqliteDatabase):
        other: Any = sa.create_engine(f"sqlite:///{desk.db.path}")  # the system's own library, another connection
        with other.connect() as conn:
            rows = conn.exec_driver_sql("select state, raw_digest, mark from ledger").all()
        other.dispose()
    else:
        second = PostgresDatabase(desk.db.url, pool_size=1)
        rows = await second.read(lambda conn: conn.exec_driver_sql("select state, raw_digest, mark from ledger").all())
        await second.close()
    ((state, digest, mark),) = rows
    assert (state, mark) == ("received", "pending")
    small = await desk.db.read(ledger.read_small, digest)
    assert (small if small is not None else blobs.get_now(digest)) == raw
    blobs.close()


@pytest.mark.proves("R1.2", "F-M08")
async def test_gap_is_tried_three_times_and_then_quarantined(desk: Desk) -> None:
    journal = await open_journal(desk)
    for tries in (1, 2, 3):
        await journal.take([offered(7, trouble=Trouble.COULD_NOT_FETCH, excerpt=f"* BAD try {tries}")])
        known = await journal.known(INBOX)
        assert (known.gaps, known.uids) == (({7: tries}, frozenset()) if tries < 3 else ({}, frozenset({7})))
    (row,) = await desk.rows(schema.ledger)
    assert (row["state"], row["reason"], row["excerpt"]) == ("quarantined", "could not fetch", "* BAD try 3")
    assert row["done_at"] is not None
    assert [event["kind"] for event in await desk.rows(schema.event)].count("ledger.quarantined") == 1
    await journal.take([offered(7, trouble=Trouble.COULD_NOT_FETCH)])
    assert len(await desk.rows(schema.ledger)) == 1

    await desk.db.write(ledger.replay, row["id"], now=desk.now)
    assert (await journal.known(INBOX)).gaps == {7: 0}, "a replayed gap is fetched again"
    raw = letter()
    await journal.take([offered(7, raw)])
    (row,) = await desk.rows(schema.ledger)
    assert (row["state"], row["attempts"], row["mark"], row["raw_bytes"]) == ("received", 0, "pending", len(raw))


@pytest.mark.proves("R1.2", "F-M07", "F-M08")
@pytest.mark.parametrize("tries", [0, 1, 2])
@pytest.mark.parametrize("end", ["came", "gone"])
async def test_gap_ends_with_what_comes_at_last(desk: Desk, tries: int, end: str) -> None:
    journal = await open_journal(desk)
    for _ in range(tries):
        await journal.take([offered(7, trouble=Trouble.COULD_NOT_FETCH, excerpt="* BAD")])
    await journal.take([offered(7, letter()) if end == "came" else offered(7, trouble=Trouble.GONE)])
    (row,) = await desk.rows(schema.ledger)
    if end == "came":
        assert (row["state"], row["outcome"], row["mark"]) == ("received", None, "pending")
    else:
        assert (row["state"], row["outcome"], row["mark"]) == ("done", "skipped", "none")
        assert "gone" in row["reason"]
    assert (await journal.known(INBOX)).gaps == {}


@pytest.mark.proves("R1.2", "T-G9")
async def test_head_of_what_is_too_large_is_read_and_never_marked(desk: Desk) -> None:
    journal = await open_journal(desk)
    head = letter(text="").split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    await journal.take([Offered(place=INBOX, uid=7, raw=head, size_bytes=10**9, trouble=Trouble.TOO_LARGE)])
    (row,) = await desk.rows(schema.ledger)
    assert (row["state"], row["mark"], row["raw_bytes"]) == ("received", "none", 10**9)
    assert "still on the server" in row["reason"]
    assert await journal.unmarked(INBOX) == []


@pytest.mark.proves("R1.1", "F-K06", "F-M11")
@pytest.mark.parametrize("marks", [True, False])
async def test_marks_are_owed_until_they_are_made(desk: Desk, marks: bool) -> None:
    journal = await open_journal(desk, marks=marks)
    await journal.take([offered(uid, letter()) for uid in (3, 1, 2)])
    assert await journal.unmarked(INBOX) == ([1, 2, 3] if marks else [])
    assert await journal.unmarked(Place(folder="INBOX", uidvalidity=2)) == []
    assert await journal.unmarked(Place(folder="Other", uidvalidity=1)) == []
    await journal.marked(INBOX, [1, 3, 99])
    assert await journal.unmarked(INBOX) == ([2] if marks else [])


@pytest.mark.proves("F-M16", "F-M04")
async def test_uids_of_another_place_or_account_are_not_known(desk: Desk) -> None:
    journal = await open_journal(desk)
    await journal.take([offered(7, letter())])
    assert (await journal.known(INBOX)).uids == {7}
    assert (await journal.known(Place(folder="INBOX", uidvalidity=2))).uids == frozenset()
    assert (await journal.known(Place(folder="Other", uidvalidity=1))).uids == frozenset()
    desk.account = "another@host"
    assert (await (await open_journal(desk)).known(INBOX)).uids == frozenset()


@pytest.mark.proves("F-N04", "F-K23", "F-N06")
async def test_owner_that_lost_its_lease_writes_nothing(desk: Desk) -> None:
    journal = await open_journal(desk)
    await journal.take([offered(1, letter())])
    (before,) = await desk.rows(schema.ledger)
    sleeper = await desk.db.write(leases.acquire, "channel", "a", length=HOUR, clock=desk.db.clock)
    assert sleeper is not None
    await desk.db.write(leases.release, sleeper, clock=desk.db.clock)
    assert await desk.db.write(leases.acquire, "channel", "b", length=HOUR, clock=desk.db.clock)
    for call in (
        journal.take([offered(2, letter())]),
        journal.take([offered(3, trouble=Trouble.COULD_NOT_FETCH)]),
        journal.proven(),
    ):
        with pytest.raises(LeaseLost):
            await call
    parsers: Any = None
    blobs: Any = None
    ingest = Ingest(db=desk.db, blobs=blobs, hub=Hub(), keys=KEYS, parsers=parsers, view=desk.view, lease=sleeper)
    await desk.db.write(exhaust, before["id"])
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(ingest.run(), 30)
    (after,) = await desk.rows(schema.ledger)
    assert after == before | {"attempts": ledger.MAX_ATTEMPTS}
    channel = (await desk.rows(schema.channel))[0]
    assert (channel["in_state"], channel["proven_in_at"]) == ("starting", None)


def exhaust(conn: sa.Connection, ledger_id: int) -> None:
    """The new owner has it in its last attempt."""
    values = {"attempts": ledger.MAX_ATTEMPTS}
    conn.execute(sa.update(schema.ledger).where(schema.ledger.c.id == ledger_id).values(**values))
