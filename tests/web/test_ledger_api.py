"""The ledger API: everything that came in is in exactly one place, and the quarantine can be worked off."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from core import audit, figures, ledger
from core.ledger import Arrival
from core.store.schema import ledger as table
from gateway.web.api import schemas
from tests.web.conftest import MakeSite
from tests.web.world import RAW, World, open_world, quarantine


def test_api_names_the_outcomes_that_the_core_knows() -> None:
    assert schemas.LedgerOutcome.__args__ == ledger.OUTCOMES  # type: ignore[attr-defined]  # of Literal
    assert set(schemas.StandingsOut.model_fields) == set(figures.STANDINGS)


async def fill(world: World) -> dict[str, int]:
    """One row more of every standing for Support; return how many there are now of each."""

    def arrive(conn: sa.Connection) -> None:
        done = [
            Arrival(folder="INBOX", uidvalidity=1, uid=100 + number, state="done", outcome=outcome)
            for number, outcome in enumerate(ledger.OUTCOMES)
        ]
        others = [
            Arrival(folder="INBOX", uidvalidity=1, uid=200, raw_digest="ab", small_raw=b"x"),
            Arrival(folder="INBOX", uidvalidity=2, uid=7, state="gap"),
        ]
        ledger.record(conn, world.support.channel_id, "me", [*done, *others], fence=1, now=world.site.clock.now())

    await world.site.services.db.write(arrive)
    dismissed = await quarantine(world.site, world.support, 301)
    await world.call("admin", "POST", f"/ledger/{dismissed}/dismissal", {"reason": "an advertisement"})
    await quarantine(world.site, world.support, 300)
    return dict.fromkeys(figures.STANDINGS, 1) | {"ticketed": 2}


@pytest.mark.proves("R1.2")
async def test_gap_report_adds_up_and_names_what_is_missing(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    expected = await fill(world)
    status, report = await world.call("admin", "GET", f"/ledger/figures?channel={world.support.channel}")
    (channel,) = report["channels"]
    assert (status, channel["standings"]) == (200, expected)
    assert channel["offered"] == sum(expected.values())
    assert (channel["unexplained"], channel["is_complete"], report["is_complete"]) == (0, False, False)
    assert [(item["uidvalidity"], item["last_uid"]) for item in channel["folders"]] == [(1, 301), (2, 7)]
    _, whole = await world.call("admin", "GET", "/ledger/figures")
    assert [(item["channel"]["name"], item["is_complete"]) for item in whole["channels"]] == [
        ("Support", False),
        ("Sales", True),
    ]


@pytest.mark.proves("R1.2")
async def test_row_that_stands_nowhere_is_told(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    await world.site.services.db.write(lambda conn: conn.execute(sa.update(table).values(outcome=None)))
    _, report = await world.call("admin", "GET", f"/ledger/figures?channel={world.support.channel}")
    assert (report["channels"][0]["unexplained"], report["is_complete"]) == (1, False)


@pytest.mark.proves("R1.2")
async def test_rows_are_listed_by_channel_state_and_outcome(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    expected = await fill(world)
    for query, count in {
        f"channel={world.support.channel}": sum(expected.values()),
        "state=quarantined": 1,
        "state=quarantined&state=dismissed": 2,
        "outcome=ticketed": 3,
        "state=done&outcome=skipped": 1,
    }.items():
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            _, page = await world.call(
                "admin", "GET", f"/ledger?{query}&limit=4" + (f"&cursor={cursor}" if cursor else "")
            )
            seen += [item["id"] for item in page["items"]]
            cursor = page["next"]
        assert len(seen) == len(set(seen)) == count, query


@pytest.mark.proves("R1.2", "R8.8")
async def test_quarantined_message_is_read_raw_and_replayed(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    row = await quarantine(world.site, world.support)
    _, shown = await world.call("admin", "GET", f"/ledger/{row}")
    assert (shown["state"], shown["reason"], shown["channel"]["name"]) == ("quarantined", "cannot be read", "Support")
    assert await world.call("admin", "GET", f"/ledger/{row}/raw") == (200, RAW)
    waiter_topic = f"ledger:{world.support.channel_id}"
    with world.site.services.live.subscribe(waiter_topic) as waiter:
        status, replayed = await world.call("admin", "POST", f"/ledger/{row}/replay", Idempotency_Key="r")
        assert waiter.is_set()
    assert (status, replayed["state"], replayed["attempts"]) == (200, "received", 0)
    assert await world.call("admin", "POST", f"/ledger/{row}/replay", Idempotency_Key="r") == (200, replayed)
    assert (await world.call("admin", "POST", f"/ledger/{row}/replay"))[0] == 409
    entries = await world.site.services.db.read(audit.entries)
    assert [entry.action for entry in entries[:2]] == ["ledger.replay", "ledger.read_raw"]


@pytest.mark.proves("R1.2", "R8.8")
async def test_dismissal_needs_a_reason_and_keeps_the_bytes(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    row = await quarantine(world.site, world.support)
    bad: tuple[dict[str, Any], ...] = ({}, {"reason": ""}, {"reason": " "}, {"reason": "x" * 501})
    for body in bad:
        assert (await world.call("admin", "POST", f"/ledger/{row}/dismissal", body))[0] == 422
    status, gone = await world.call("admin", "POST", f"/ledger/{row}/dismissal", {"reason": "an advertisement"})
    assert (status, gone["state"], gone["reason"]) == (200, "dismissed", "an advertisement")
    assert (await world.call("admin", "GET", f"/ledger/{row}/raw"))[0] == 200


@pytest.mark.proves("R1.2")
async def test_all_of_a_channel_is_replayed_and_nothing_of_another(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    for uid in (901, 902):
        await quarantine(world.site, world.support, uid)
    other = await quarantine(world.site, world.sales, 903)
    status, done = await world.call("admin", "POST", "/quarantine/replays", {"channel": world.support.channel})
    assert (status, done) == (200, {"count": 2})
    _, left = await world.call("admin", "GET", "/ledger?state=quarantined")
    assert [item["id"] for item in left["items"]] == [other]
