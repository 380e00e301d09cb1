"""The tickets API: the inbox, one ticket, changes, and what happens when two people change at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from core import events, tickets
from core.store.schema import event, ticket
from gateway.web.api import schemas
from tests.web.conftest import MakeSite
from tests.web.world import add_ticket, open_world, send_answer


def test_api_names_the_statuses_that_the_core_knows() -> None:
    assert set(schemas.TicketStatus.__args__) == set(tickets.STATUSES)  # type: ignore[attr-defined]  # of Literal
    assert set(schemas.SettableStatus.__args__) == set(tickets.SETTABLE)  # type: ignore[attr-defined]  # of Literal


@pytest.mark.proves("R13.1")
async def test_ticket_is_listed_and_read_with_its_messages_and_files(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    status, listed = await world.call("ann", "GET", "/tickets")
    assert status == 200
    assert [item["code"] for item in listed["items"]] == [world.support.code]
    status, shown = await world.call("ann", "GET", f"/tickets/{world.support.code}")
    assert (status, shown["actions"]) == (200, ["answer", "change"])
    assert [person["role"] for person in shown["people"]] == ["requester"]
    _, thread = await world.call("ann", "GET", f"/tickets/{world.support.code}/messages")
    (message,) = thread["items"]
    assert (message["text"], message["direction"], message["ticket"]) == ("It is broken.", "in", world.support.code)
    assert [file["id"] for file in message["files"]] == [world.support.attachment]
    assert await world.call("ann", "GET", f"/messages/{message['id']}") == (200, message)


@pytest.mark.proves("R13.1", "T-M03")
async def test_pages_show_every_ticket_once_and_their_cursors_fit_no_other_list(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    place = world.support
    digest = await world.site.services.blobs.put(b"x")
    for number in range(2, 9):
        await world.site.services.db.write(
            add_ticket, world.site, place.department_id, place.channel_id, b"x", digest, number
        )
    seen: list[str] = []
    cursor = ""
    while True:
        _, page = await world.call("ann", "GET", f"/tickets?limit=3{cursor}")
        seen += [item["code"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(seen) == len(set(seen)) == 8
    for path in (f"/tickets?status=open{cursor}", f"/deliveries?limit=3{cursor}", "/tickets?cursor=AAAA"):
        status, problem = await world.call("ann", "GET", path)
        assert (status, problem["code"]) == (400, "bad_cursor"), path


@pytest.mark.proves("R13.1", "T-N02")
@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 1),
        ("?status=new", 1),
        ("?status=open&status=new", 1),
        ("?status=closed", 0),
        ("?agent=none", 1),
        ("?agent=me", 0),
        ("?q=HELP", 1),
        ("?q=%25", 0),
        ("?q=_", 0),
        ("?q=%5C", 0),
        ("?q=%27%20or%201%3D1%20--", 0),
        ("?delivery_status=sent", 0),
    ],
)
async def test_inbox_shows_what_the_filter_asks_for(make_site: MakeSite, query: str, count: int) -> None:
    world = await open_world(make_site)
    status, listed = await world.call("ann", "GET", f"/tickets{query}")
    assert (status, len(listed["items"])) == (200, count)


@pytest.mark.proves("R13.1", "R8.8")
async def test_change_shows_in_the_ticket_an_event_and_the_audit_log(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    path = f"/tickets/{world.support.code}"
    status, changed = await world.call("ann", "PATCH", path, {"status": "closed", "agent": "me", "version": 1})
    assert status == 200
    shown = changed["ticket"]
    assert (shown["status"], shown["agent"]["name"], shown["version"]) == ("closed", "ann", 2)
    assert shown["closed_at"] is not None
    _, changed = await world.call("ann", "PATCH", path, {"status": "open"})
    assert (changed["ticket"]["status"], changed["ticket"]["closed_at"]) == ("open", None)
    kinds = await world.site.services.db.read(lambda conn: list(conn.execute(sa.select(event.c.kind)).scalars()))
    assert kinds.count(events.TICKET_CHANGED) == 2


@pytest.mark.proves("T-N06", "T-G12", "T-N07")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "answered"}, "status"),
        ({"status": ["open"]}, "status"),
        ({"version": "1"}, "version"),
        ({"subject": ""}, "subject"),
        ({"code": "ABC"}, "code"),
        ({"department_id": 2}, "department_id"),
        ({"closed_at": None}, "closed_at"),
    ],
)
async def test_what_cannot_be_set_is_refused_by_name(make_site: MakeSite, body: dict[str, Any], field: str) -> None:
    world = await open_world(make_site)
    status, problem = await world.call("ann", "PATCH", f"/tickets/{world.support.code}", body)
    assert (status, problem["errors"][0]["field"]) == (422, field)


@pytest.mark.proves("T-N08")
async def test_of_two_changes_with_one_version_one_wins(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    path = f"/tickets/{world.support.code}"
    answers = await asyncio.gather(
        *(world.call("ann", "PATCH", path, {"subject": f"Subject {number}", "version": 1}) for number in range(2))
    )
    assert sorted(status for status, _ in answers) == [200, 409]
    _, shown = await world.call("ann", "GET", path)
    won = next(answer["ticket"]["subject"] for status, answer in answers if status == 200)
    assert (shown["subject"], shown["version"]) == (won, 2)


@pytest.mark.proves("T-M06")
async def test_ticket_sent_to_another_department_is_gone_for_those_outside_it(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    path = f"/tickets/{world.support.code}"
    await world.call("ann", "PATCH", path, {"agent": "me"})
    status, changed = await world.call("ann", "PATCH", path, {"department": world.sales.department})
    assert (status, changed) == (200, {"ticket": None})
    for gone in (path, f"{path}/messages", f"/messages/{world.support.inbound}",
                 f"/attachments/{world.support.attachment}/content"):  # fmt: skip
        assert (await world.call("ann", "GET", gone))[0] == 404, gone
        assert (await world.call("eve", "GET", gone))[0] == 200, gone
    _, listed = await world.call("ann", "GET", "/tickets")
    assert listed["items"] == []
    _, shown = await world.call("eve", "GET", path)
    assert shown["agent"] is None, "nobody holds a ticket that they do not see"


@pytest.mark.proves("T-M02", "T-M03")
async def test_code_of_a_linked_ticket_is_told_only_to_those_who_see_it(make_site: MakeSite) -> None:
    world = await open_world(make_site)

    def link(conn: sa.Connection) -> None:
        values = {"linked_ticket_id": world.sales.ticket_id, "link_kind": "may_belong"}
        conn.execute(sa.update(ticket).where(ticket.c.id == world.support.ticket_id).values(values))

    await world.site.services.db.write(link)
    _, for_ann = await world.call("ann", "GET", f"/tickets/{world.support.code}")
    _, for_both = await world.call("both", "GET", f"/tickets/{world.support.code}")
    assert for_ann["hints"] == []
    assert [hint["ticket"] for hint in for_both["hints"]] == [world.sales.code]


@pytest.mark.proves("R5.1", "R5.2")
async def test_answer_shows_one_indicator_and_each_recipient(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    sent = await send_answer(world.site, world.support, world.people["ann"].id)
    _, message = await world.call("ann", "GET", f"/messages/{sent.message}")
    assert message["indicator"] == {"status": "scheduled", "text": "scheduled", "counts": {"scheduled": 1}}
    assert [item["id"] for item in message["deliveries"]] == [sent.delivery]
    assert message["actions"] == ["cancel", "hold"]
    _, listed = await world.call("ann", "GET", "/tickets?delivery_status=scheduled")
    assert [item["delivery_status"] for item in listed["items"]] == ["scheduled"]
