"""Nothing comes in twice, and nothing is taken for a repeat that is none (R1.4, R1.6, F-M04, F-M14, F-M15)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core import leases, ledger
from core.errors import Conflict
from core.store import schema
from core.store.database import Database
from gateway.channels.contract import Offered, Place
from gateway.journal import ChannelJournal
from gateway.live.hub import Hub
from gateway.normalize.mail import read_mail
from gateway.settle import settle
from tests.ingest.desk import KEYS, NOON, Desk, NoBlobs
from tests.ingest.letters import DESK, MALLORY, letter

ELSEWHERE: list[dict[str, Any]] = [
    {"uid": 77},
    {"uidvalidity": 2, "uid": 1},
    {"folder": "Archive", "uid": 1},
]


@pytest.mark.proves("R1.4", "R1.6", "F-M04", "F-M14")
@pytest.mark.parametrize("place", ELSEWHERE)
@pytest.mark.parametrize("days", [0, 400])
async def test_same_mail_in_another_place_is_a_repeat(desk: Desk, place: dict[str, Any], days: int) -> None:
    raw = letter()
    first = await desk.receive(raw, uid=1)
    assert first.ticket
    desk.now += timedelta(days=days)
    again = await desk.receive(raw, **place)
    assert again.settled.outcome == "repeat"
    assert again.message is None
    assert again.ledger["ticket_id"] == first.ticket["id"]
    assert again.ledger["message_id"] == first.ledger["message_id"]
    assert await desk.ticket(first.ticket["id"]) == first.ticket


MOVED = {
    "as it was": lambda raw: raw,
    "received once more": lambda raw: b"Received: from a by b; Mon, 2 Mar 2026 10:00:00 +0000\r\n" + raw,
    "delivered": lambda raw: b"Delivered-To: support@desk.test\r\nX-Uid: 7\r\n" + raw,
    "blank lines at the end": lambda raw: raw + b"\r\n\r\n",
    "line feeds": lambda raw: raw.replace(b"\r\n", b"\n"),
    "folded": lambda raw: raw.replace(b"Where is my", b"Where is\r\n my"),
}


@pytest.mark.proves("R1.4", "F-M04", "F-M14")
@pytest.mark.parametrize("change", MOVED)
async def test_what_servers_change_makes_no_new_mail(desk: Desk, change: str) -> None:
    raw = letter()
    await desk.receive(raw)
    assert (await desk.receive(MOVED[change](raw), uidvalidity=2)).settled.outcome == "repeat"


@pytest.mark.proves("R1.4", "T-A11")
@pytest.mark.parametrize(
    "other",
    [
        {"text": "other words"}, {"subject": "Another"}, {"sender": MALLORY}, {"to": f"{DESK}, a@b.test"},
        {"message_id": "other@customer.test"},
    ],
)  # fmt: skip
async def test_mail_that_differs_in_what_it_says_is_no_repeat(desk: Desk, other: dict[str, str]) -> None:
    await desk.receive(letter(message_id="same@customer.test"))
    came = await desk.receive(letter(**{"message_id": "same@customer.test"} | other))
    assert came.settled.outcome == "ticketed"


@pytest.mark.proves("R1.4", "F-M04", "F-M14")
@pytest.mark.parametrize(
    ("hours", "place", "outcome"),
    [
        (0, {}, "repeat"), (23, {}, "repeat"), (24, {}, "ticketed"), (25, {}, "ticketed"),
        (500, {"uidvalidity": 2}, "repeat"), (500, {"folder": "Archive"}, "repeat"),
    ],
)  # fmt: skip
async def test_same_bytes_without_message_id_are_a_repeat_for_a_day(
    desk: Desk, hours: int, place: dict[str, Any], outcome: str
) -> None:
    raw = letter("Monitor <monitor@plant.test>", message_id=None)
    first = await desk.receive(raw, uid=1)
    desk.now += timedelta(hours=hours)
    again = await desk.receive(raw, **{"uid": 2} | place)
    assert (first.settled.outcome, again.settled.outcome) == ("ticketed", outcome)
    other = await desk.receive(letter("Monitor <monitor@plant.test>", message_id=None, text="it burns"))
    assert other.settled.outcome == "ticketed"


@pytest.mark.proves("R1.4", "F-M04")
async def test_each_of_several_alike_mails_without_id_is_known_again_after_a_move(desk: Desk) -> None:
    """A monitor writes the same bytes every day; the mailbox is made anew: nothing is new."""
    raw = letter("Monitor <monitor@plant.test>", message_id=None)
    for day in range(3):
        desk.now = NOON + timedelta(days=day, hours=day)
        assert (await desk.receive(raw)).settled.outcome == "ticketed"
    for _ in range(3):
        assert (await desk.receive(raw, uidvalidity=9)).settled.outcome == "repeat"


@pytest.mark.proves("F-M15", "T-A14", "T-B05")
async def test_answer_that_comes_back_is_an_own_copy(desk: Desk) -> None:
    first = await desk.receive(letter())
    assert first.ticket
    sent = await desk.answer(first.ticket["id"])
    before = await desk.ticket(first.ticket["id"])
    fields = {"X_Gatehouse_Loop": sent.loop_marker(), "to": "jane@customer.test", "subject": "Re: Where"}
    came = await desk.receive(letter(f"Ana <{DESK}>", message_id=sent.header, **fields), folder="Sent")
    assert came.settled.outcome == "own_copy"
    assert (came.ledger["message_id"], came.ledger["ticket_id"]) == (sent.message_id, first.ticket["id"])
    assert await desk.ticket(first.ticket["id"]) == before
    assert len(await desk.rows(schema.message)) == 2

    for forged in (
        letter(f"Ana <{DESK}>", message_id=sent.header, to="jane@customer.test", text="forged 1"),
        letter(f"Ana <{DESK}>", text="forged 2", **fields),
        letter(MALLORY, message_id=sent.header, text="forged 3", **fields),
        letter(
            f"Ana <{DESK}>", message_id=sent.header, text="forged 4",
            **fields | {"X_Gatehouse_Loop": sent.envelope_id()},
        ),
    ):  # fmt: skip
        assert (await desk.receive(forged)).settled.outcome == "ticketed"


@pytest.mark.proves("R1.6")
async def test_deleted_ticket_does_not_come_back_with_its_mail(desk: Desk) -> None:
    raw = letter()
    first = await desk.receive(raw)
    assert first.ticket
    await desk.set_status(first.ticket["id"], "deleted")
    ledger_row = (await desk.rows(schema.ledger))[0]
    assert (ledger_row["state"], ledger_row["outcome"]) == ("done", "ticketed")
    for place in ELSEWHERE:
        assert (await desk.receive(raw, **place)).settled.outcome == "repeat"
    assert [row["status"] for row in await desk.rows(schema.ticket)] == ["deleted"]


@pytest.mark.proves("R1.4", "F-K05", "F-K08")
async def test_row_that_has_ended_is_not_settled_again(desk: Desk) -> None:
    raw = letter()
    ledger_id = await desk.journal(raw)
    (work,) = await desk.db.write(ledger.claim, desk.channel_id, limit=1, now=desk.now)
    assert work.id == ledger_id
    done = await desk.db.write(settle, KEYS, desk.view, work, read_mail(raw), sizes=(), now=desk.now)
    assert done.outcome == "ticketed"
    with pytest.raises(Conflict):
        await desk.db.write(settle, KEYS, desk.view, work, read_mail(raw), sizes=(), now=desk.now)
    assert len(await desk.rows(schema.message)) == 1


async def journal_of(desk: Desk, db: Database) -> ChannelJournal:
    held = await db.write(leases.acquire, "channel", "node", length=timedelta(hours=1), clock=db.clock)
    assert held is not None
    blobs: Any = NoBlobs()
    return ChannelJournal(
        db=db, blobs=blobs, hub=Hub(), channel_id=desk.channel_id, account=desk.account, lease=held, marks=True
    )


@pytest.mark.proves("R1.4", "F-W01", "F-K04", "F-K05")
async def test_fifty_takes_of_one_item_at_once_make_one_row(desk: Desk) -> None:
    journal = await journal_of(desk, desk.db)
    raw = letter()
    item = Offered(place=Place(folder="INBOX", uidvalidity=1), uid=7, raw=raw, size_bytes=len(raw))
    await asyncio.gather(*(journal.take([item]) for _ in range(50)))
    assert [row["uid"] for row in await desk.rows(schema.ledger)] == [7]
