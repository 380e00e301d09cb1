"""A mail that harms its reader harms nobody else (R1.3, T-D13, F-Z01 to F-Z08, F-D04, F-D05)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core import leases, ledger
from core.leases import Lease
from core.store import schema
from core.store.blobs import SMALL_BYTES, LocalBlobs
from core.store.database import StoreError
from gateway.channels.contract import Offered, Place
from gateway.ingest import CHUNK, Ingest
from gateway.journal import ChannelJournal
from gateway.live.hub import Hub
from gateway.normalize.mail import read_mail
from gateway.parsing import Parsers
from tests.ingest import stubs
from tests.ingest.desk import KEYS, Desk, open_desk
from tests.ingest.letters import letter
from tests.stores import open_store

STORES = ("sqlite",)
INBOX = Place(folder="INBOX", uidvalidity=1)
PATIENCE = 60.0


@dataclass(slots=True)
class House:
    desk: Desk
    blobs: LocalBlobs
    hub: Hub
    lease: Lease
    parsers: Parsers

    def journal(self, *, marks: bool = True) -> ChannelJournal:
        return ChannelJournal(
            db=self.desk.db, blobs=self.blobs, hub=self.hub, channel_id=self.desk.channel_id,
            account=self.desk.account, lease=self.lease, marks=marks,
        )  # fmt: skip

    async def take(self, *raws: bytes) -> None:
        items = [Offered(place=INBOX, uid=next(self.desk.uids), raw=raw, size_bytes=len(raw)) for raw in raws]
        await self.journal().take(items)

    def reader(self, parsers: Parsers | None = None, *, owed: set[int] | None = None) -> Ingest:
        return Ingest(
            db=self.desk.db, blobs=self.blobs, hub=self.hub, keys=KEYS, parsers=parsers or self.parsers,
            view=self.desk.view, lease=self.lease, owed=owed,
        )  # fmt: skip

    @asynccontextmanager
    async def reading(self, parsers: Parsers | None = None) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reader(parsers).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def rest(self) -> list[dict[str, Any]]:
        """Wait until no row waits to be read; return all."""
        with self.hub.subscribe("events") as woken:
            async with asyncio.timeout(PATIENCE):
                while True:
                    rows = await self.desk.rows(schema.ledger)
                    if all(row["state"] != "received" for row in rows):
                        return rows
                    await woken.wait()
                    woken.clear()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parsers]:
    """Children that read with the stub; most tests share them."""
    spool = tmp_path_factory.mktemp("spool")
    parsers = Parsers(count=2, spool=spool, wall_seconds=20, read=stubs.read)
    yield parsers
    asyncio.run(parsers.close())


@pytest.fixture
async def house(store_url: str, tmp_path: Path, pool: Parsers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(ledger, "RETRY_AFTER", (timedelta(0),))
    db = open_store(store_url)
    desk = await open_desk(db)
    lease = await db.write(leases.acquire, "channel", "node", length=timedelta(hours=9), clock=db.clock)
    assert lease is not None
    blobs = LocalBlobs(tmp_path / "blobs")
    yield House(desk=desk, blobs=blobs, hub=Hub(), lease=lease, parsers=pool)
    blobs.close()
    await db.close()


def poison(word: str) -> bytes:
    return letter("poison@evil.test", X_Poison=word)


def good(number: int) -> bytes:
    return letter(f"p{number}@customer.test", subject=f"good {number}")


@pytest.mark.proves("R1.3", "T-D13", "F-Z01", "F-Z02", "R1.2")
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("raise", "RuntimeError"), ("allocate", "MemoryError"), ("recurse", "RecursionError"),
        ("segfault", "SIGSEGV"), ("exit", "exit code 3"),
    ],
)  # fmt: skip
async def test_poison_is_quarantined_and_its_neighbours_are_not(house: House, word: str, reason: str) -> None:
    await house.take(good(1), poison(word), good(2))
    async with house.reading():
        rows = await house.rest()
        await house.take(good(3))
        rows = await house.rest()
    assert [row["state"] for row in rows] == ["done", "quarantined", "done", "done"]
    assert [row["outcome"] for row in rows] == ["ticketed", None, "ticketed", "ticketed"]
    assert rows[1]["attempts"] == ledger.MAX_ATTEMPTS
    assert reason in rows[1]["reason"]
    assert "canary" not in rows[1]["reason"], "words of the mail or of an exception have no place in a reason"
    subjects = [row["subject"] for row in await house.desk.rows(schema.ticket)]
    assert sorted(subjects) == ["good 1", "good 2", "good 3"]
    told = [
        row["data"]["ledger_id"] for row in await house.desk.rows(schema.event) if row["kind"] == "ledger.quarantined"
    ]
    assert told == [rows[1]["id"]]


@pytest.mark.proves("T-D13", "F-Z02")
async def test_endless_reading_is_ended_by_the_wall(house: House, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    slow = Parsers(count=2, spool=spool, wall_seconds=1.0, read=stubs.read)
    await slow.warm_up()
    await house.take(poison("hang"), good(1))
    async with house.reading(slow):
        rows = await house.rest()
    await slow.close()
    assert [row["state"] for row in rows] == ["quarantined", "done"]
    assert "longer than 1 s" in rows[0]["reason"]


@pytest.mark.proves("F-Z08", "R1.2")
async def test_replay_after_a_fix_makes_the_ticket_once_with_its_first_time(house: House) -> None:
    raw = poison("raise")
    await house.take(raw)
    async with house.reading():
        (before,) = await house.rest()
    assert before["state"] == "quarantined"
    await house.desk.db.write(ledger.replay, before["id"], now=house.desk.now)
    mended = Parsers(count=1, spool=house.blobs.spool, read=read_mail)
    async with house.reading(mended):
        (row,) = await house.rest()
    await mended.close()
    assert (row["state"], row["outcome"], row["attempts"]) == ("done", "ticketed", 1)
    (message,) = await house.desk.rows(schema.message)
    assert message["created_at"] == row["received_at"] == before["received_at"]


@pytest.mark.proves("F-D04", "F-D05", "R1.3")
@pytest.mark.parametrize(("damage", "reason"), [("flip", "not those that came in"), ("missing", "cannot be read")])
async def test_damaged_raw_is_shown_with_its_reason_and_stops_nobody(house: House, damage: str, reason: str) -> None:
    large = letter(text="word " * SMALL_BYTES)
    await house.take(large, good(1))
    path = house.blobs.path(hashlib.sha256(large).hexdigest())
    if damage == "flip":
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    async with house.reading():
        rows = await house.rest()
    assert [row["state"] for row in rows] == ["quarantined", "done"]
    assert reason in rows[0]["reason"]


@pytest.mark.proves("F-K07", "T-D13", "R1.3")
async def test_death_of_the_process_counts_and_blames_no_innocent(house: House) -> None:
    """Three processes die with everything claimed: what may go on is read, what was tried three times is set aside."""
    await house.take(*(good(number) for number in range(5)))
    desk = house.desk
    claimed = await desk.db.write(ledger.claim, desk.channel_id, limit=64, now=desk.db.clock.now())
    assert [work.attempts for work in claimed] == [1] * 5, "an attempt is counted before it is made"
    for attempts in (2, 3):
        (alone,) = await desk.db.write(ledger.claim, desk.channel_id, limit=64, now=desk.db.clock.now())
        assert (alone.id, alone.attempts) == (claimed[0].id, attempts)
    async with house.reading():
        rows = await house.rest()
    assert [row["state"] for row in rows] == ["quarantined", *["done"] * 4]
    assert "ended the process three times" in rows[0]["reason"]


@pytest.mark.proves("F-Z04", "T-D05")
async def test_what_a_store_cannot_hold_never_reaches_it(house: House) -> None:
    raw = (
        letter(subject="=?utf-8?b?AO2ggA==?= a\x00b", text="nul \x00 here", X_Y="\x00")
        + b"\xed\xa0\x80 lone \xff\xfe\r\n"
    )
    raw = raw.replace(b"jane@", b"jane\x00@") + b"x" * 300_000
    await house.take(raw)
    async with house.reading():
        (row,) = await house.rest()
    assert (row["state"], row["outcome"]) == ("done", "ticketed")
    stored = repr([await house.desk.rows(table) for table in (schema.ticket, schema.message, schema.identity)])
    assert "\\x00" not in stored
    assert "\\ud8" not in stored


@pytest.mark.proves("R1.3", "F-Z03")
async def test_every_second_mail_poison_still_leaves_every_good_one(house: House) -> None:
    await house.take(*(mail for number in range(6) for mail in (poison("raise"), good(number))))
    async with house.reading():
        rows = await house.rest()
    assert [row["state"] for row in rows] == ["quarantined", "done"] * 6


@pytest.mark.proves("R1.3", "R3.1", "F-Z02")
@pytest.mark.parametrize("word", ["raise", "segfault"])
async def test_conversation_beside_poison_keeps_its_order(house: House, word: str) -> None:
    """The question was read together with the poison, the reply to it was not: it must still find its ticket."""
    question = letter(message_id="question@customer.test", subject="question")
    reply = letter(In_Reply_To="<question@customer.test>", subject="Re: question")
    await house.take(poison(word), question, *(good(number) for number in range(CHUNK)), reply)
    async with house.reading():
        rows = await house.rest()
    assert [row["state"] for row in rows] == ["quarantined", *["done"] * (CHUNK + 2)]
    assert rows[-1]["ticket_id"] == rows[1]["ticket_id"]
    messages = [row["subject"] for row in await house.desk.rows(schema.message)]
    assert messages == ["question", *(f"good {number}" for number in range(CHUNK)), "Re: question"]


@pytest.mark.proves("R1.3", "F-Z01")
async def test_stop_uses_up_no_attempt_of_what_is_in_hand(house: House, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    parsers = Parsers(count=1, spool=spool, read=stubs.read)
    try:
        await house.take(poison("hang"), *map(good, range(CHUNK * 2)))
        for _ in range(ledger.MAX_ATTEMPTS + 1):
            async with house.reading(parsers), asyncio.timeout(PATIENCE):
                while not any(row["attempts"] for row in await house.desk.rows(schema.ledger)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        rows = await house.desk.rows(schema.ledger)
    finally:
        await parsers.close()
    assert {(row["state"], row["attempts"]) for row in rows} == {("received", 0)}


@pytest.mark.proves("R1.3", "F-D02")
async def test_store_that_was_away_uses_up_no_attempt(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_jobs: object) -> list[object]:
        raise StoreError("no space left")

    await house.take(*map(good, range(CHUNK)))
    owed: set[int] = set()
    for _ in range(ledger.MAX_ATTEMPTS + 1):
        with monkeypatch.context() as outage:
            outage.setattr(house.desk.db, "write_all", away)
            with pytest.raises(ExceptionGroup):
                await house.reader(owed=owed).run()
    rows = await house.desk.rows(schema.ledger)
    assert {(row["state"], row["attempts"]) for row in rows} == {("received", 1)}
    reading = asyncio.create_task(house.reader(owed=owed).run())
    rows = await house.rest()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert {(row["state"], row["attempts"]) for row in rows} == {("done", 1)}
