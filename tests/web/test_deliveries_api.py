"""The deliveries API: lists, figures, and reports in words for agents and with evidence for admins."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from core import deliveries
from core.delivery import Evidence, Fact
from core.store.schema import delivery, evidence
from tests.web.conftest import MakeSite
from tests.web.world import Sent, World, open_world, send_answer

SERVER_WORDS = "550 5.1.1 <jane1@customer.test>: no such user, says mx.customer.test"


async def bounce(world: World, sent: Sent) -> None:
    """As the worker and the reader of bounces would: a try, and the other side's no."""
    now = world.site.clock.now()
    facts = (
        Evidence(fact=Fact.ATTEMPT_STARTED, attempt=1, at=now, source="system"),
        Evidence(
            fact=Fact.REFUSED, attempt=1, at=now, code=550, enhanced="5.1.1", text=SERVER_WORDS,
            server="mx.customer.test", reason="no_such_mailbox", source="smtp",
        ),
    )  # fmt: skip

    def note(conn: sa.Connection) -> None:
        row = deliveries.of_message(conn, sent.message_id)[0]
        for item in facts:
            deliveries.record(conn, world.site.services.keys, row["id"], item, now=now)

    await world.site.services.db.write(note)


@pytest.mark.proves("R5.6", "R5.8", "T-M09")
async def test_report_has_words_for_agents_and_evidence_for_admins(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    sent = await send_answer(world.site, world.support, world.people["ann"].id)
    await bounce(world, sent)
    path = f"/deliveries/{sent.delivery}/report"
    status, for_ann = await world.call("ann", "GET", path)
    assert (status, for_ann["side"], for_ann["code"], for_ann["raw"]) == (200, "address", "550 5.1.1", None)
    assert "does not exist" in for_ann["headline"]
    assert SERVER_WORDS not in str(for_ann)
    _, for_admin = await world.call("admin", "GET", path)
    assert for_admin["headline"] == for_ann["headline"]
    assert [fact["fact"] for fact in for_admin["raw"]["facts"]] == ["attempt_started", "refused"]
    assert for_admin["raw"]["facts"][1]["text"] == SERVER_WORDS
    assert for_admin["raw"]["is_chain_whole"] is True
    _, ticket = await world.call("ann", "GET", f"/tickets/{world.support.code}")
    assert (ticket["status"], [hint["code"] for hint in ticket["hints"]]) == ("open", ["not_delivered"])


@pytest.mark.proves("R5.2")
async def test_report_tells_of_evidence_that_was_cut_off(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    sent = await send_answer(world.site, world.support, world.people["ann"].id)
    await bounce(world, sent)

    def cut(conn: sa.Connection) -> None:
        conn.execute(sa.update(delivery).values(evidence_count=delivery.c.evidence_count + 1))

    await world.site.services.db.write(cut)
    _, report = await world.call("owner", "GET", f"/deliveries/{sent.delivery}/report")
    assert report["raw"]["is_chain_whole"] is False
    assert await world.site.services.db.read(
        lambda conn: conn.execute(sa.select(sa.func.count()).select_from(evidence)).scalar_one()
    )


@pytest.mark.proves("R5.7")
async def test_list_and_figures_follow_the_same_filters(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    lost = await send_answer(world.site, world.support, world.people["ann"].id)
    await bounce(world, lost)
    world.site.clock.move(timedelta(days=1))
    fine = await send_answer(world.site, world.sales, world.people["eve"].id)
    _, figures = await world.call("admin", "GET", "/deliveries/figures")
    assert (figures["total"], figures["by_status"]) == (2, {"not_delivered": 1, "scheduled": 1})
    assert figures["by_day"] == {"2026-03-02": {"not_delivered": 1}, "2026-03-03": {"scheduled": 1}}
    assert (figures["by_domain"], figures["by_reason"]) == ({"customer.test": 2}, {"no_such_mailbox": 1})
    shown: dict[str, list[Sent]] = {
        "status=not_delivered": [lost],
        "status=sent": [],
        "status=sent&status=scheduled": [fine],
        "reason=no_such_mailbox": [lost],
        "domain=CUSTOMER.test": [fine, lost],
        "from=2026-03-03T00:00:00Z": [fine],
        "to=2026-03-03T01:00:00%2B01:00": [lost],
        f"channel={world.support.channel}": [lost],
        f"department={world.sales.department}": [fine],
        f"agent={world.people['ann'].public_id}": [lost],
        "agent=me": [],
    }
    for query, expected in shown.items():
        status, listed = await world.call("admin", "GET", f"/deliveries?{query}")
        assert (status, [item["id"] for item in listed["items"]]) == (200, [sent.delivery for sent in expected]), query
        _, figures = await world.call("admin", "GET", f"/deliveries/figures?{query}")
        assert figures["total"] == len(expected), query
    _, first = await world.call("admin", "GET", "/deliveries?limit=1")
    _, second = await world.call("admin", "GET", f"/deliveries?limit=1&cursor={first['next']}")
    assert [first["items"][0]["id"], second["items"][0]["id"]] == [fine.delivery, lost.delivery]
    assert second["next"] is None


@pytest.mark.proves("R5.7", "R8.1")
async def test_figures_are_for_admins_and_lists_are_cut_to_the_reader(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    sent = await send_answer(world.site, world.support, world.people["ann"].id)
    await send_answer(world.site, world.sales, world.people["eve"].id)
    assert (await world.call("ann", "GET", "/deliveries/figures"))[0] == 403
    _, listed = await world.call("ann", "GET", "/deliveries")
    assert [item["id"] for item in listed["items"]] == [sent.delivery]


@pytest.mark.proves("T-N07")
@pytest.mark.parametrize(
    "query",
    [
        "status=gone",
        "from=yesterday",
        "from=2026-01-01T00:00:00",
        "from=9999-12-31T23:59:59-23:59",
        "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "limit=0",
        "limit=1e9",
        "limit=5&limit=6",
        "order=address",
        "domain=",
    ],
)
async def test_filter_that_makes_no_sense_is_refused(make_site: MakeSite, query: str) -> None:
    world = await open_world(make_site)
    status, problem = await world.call("admin", "GET", f"/deliveries?{query}")
    assert (status, problem["code"]) == (422, "invalid")


async def _all(world: World, path: str) -> list[Any]:
    _, listed = await world.call("admin", "GET", path)
    items: list[Any] = listed["items"]
    return items


@pytest.mark.proves("R5.2")
async def test_delivery_names_its_ticket_message_and_people(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    sent = await send_answer(world.site, world.support, world.people["ann"].id)
    (item,) = await _all(world, "/deliveries")
    assert (item["ticket"], item["message"], item["agent"]["name"]) == (world.support.code, sent.message, "ann")
    assert await world.call("ann", "GET", f"/deliveries/{sent.delivery}") == (200, item)
