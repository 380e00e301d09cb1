"""The answers API: sent once, taken back, held, sent again; with files, recipients and limits."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from core import audit
from core import outbox as outbox_rules
from core.store.schema import delivery, message, outbox
from tests.web.conftest import MakeSite
from tests.web.world import World, open_world, quarantine, send_answer

TEXT = {"text": "We look into it."}


async def count(world: World, table: sa.Table) -> int:
    query = sa.select(sa.func.count()).select_from(table)
    if table is message:
        query = query.where(message.c.direction == "out")
    return await world.site.services.db.read(lambda conn: int(conn.execute(query).scalar_one()))


async def set_state(world: World, outbox_id: int, state: str) -> None:
    """As the worker would: the row is in hand, or done."""
    await world.site.services.db.write(
        lambda conn: conn.execute(sa.update(outbox).where(outbox.c.id == outbox_id).values(state=state))
    )


@pytest.mark.proves("R5.2", "R5.9", "R13.1")
async def test_answer_is_promised_with_its_recipients_and_files(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    content = b"\x00\xffscreenshot"
    body = TEXT | {
        "html": "<p>We <b>look</b> into it.<script>x()</script></p>",
        "to": [{"address": "jane@customer.test", "name": "Jane"}],
        "cc": [{"address": "joe@customer.test"}],
        "bcc": [{"address": "boss@customer.test"}],
        "attachments": [
            {"name": "../shot.png", "content_type": "image/png", "content": base64.b64encode(content).decode()}
        ],
        "version": 1,
    }
    status, made = await world.call("ann", "POST", f"/tickets/{world.support.code}/answers", body)
    assert status == 201
    assert [(item["kind"], item["address"]) for item in made["deliveries"]] == [
        ("to", "jane@customer.test"),
        ("cc", "joe@customer.test"),
        ("bcc", "boss@customer.test"),
    ]
    assert "boss" not in str(made["to"] + made["cc"])
    assert "script" not in made["html"]
    (file,) = made["files"]
    assert (file["name"], file["content_type"], file["size_bytes"]) == ("shot.png", "image/png", len(content))
    assert await world.call("ann", "GET", f"/attachments/{file['id']}/content") == (200, content)
    _, shown = await world.call("ann", "GET", f"/tickets/{world.support.code}")
    assert (shown["status"], shown["agent"]["name"], shown["delivery_status"]) == ("answered", "ann", "scheduled")


@pytest.mark.proves("F-K10", "F-S15", "T-N08", "R13.1")
async def test_twenty_parallel_repeats_with_one_key_are_one_message(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    path = f"/tickets/{world.support.code}/answers"
    answers = await asyncio.gather(*(world.call("ann", "POST", path, TEXT, Idempotency_Key="one") for _ in range(20)))
    done = [answer for status, answer in answers if status == 201]
    assert {status for status, _ in answers} <= {201, 409}
    assert len({answer["id"] for answer in done}) == 1
    assert (await count(world, message), await count(world, outbox)) == (1, 1)
    status, problem = await world.call("ann", "POST", path, {"text": "Other words"}, Idempotency_Key="one")
    assert (status, problem["code"]) == (409, "idempotency_key_reused")


@pytest.mark.proves("F-K10")
async def test_repeat_gets_the_first_answer_even_when_it_would_be_refused_now(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    path = f"/tickets/{world.support.code}/answers"
    body = TEXT | {"version": 1}
    first = await world.call("ann", "POST", path, body, Idempotency_Key="one")
    assert first[0] == 201
    await world.call("admin", "PATCH", f"/channels/{world.support.channel}", {"is_enabled": False})
    _, channel = await world.call("admin", "GET", f"/channels/{world.support.channel}")
    await world.call(
        "admin", "PATCH", f"/channels/{world.support.channel}", {"config": channel["config"] | {"smtp": None}}
    )
    assert (await world.call("ann", "POST", path, TEXT, Idempotency_Key="two"))[0] == 409
    assert await world.call("ann", "POST", path, body, Idempotency_Key="one") == first


@pytest.mark.proves("F-S15", "T-N08")
async def test_of_two_agents_who_answer_the_same_version_one_is_told(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    path = f"/tickets/{world.support.code}/answers"
    answers = await asyncio.gather(*(world.call(who, "POST", path, TEXT | {"version": 1}) for who in ("ann", "both")))
    assert sorted(status for status, _ in answers) == [201, 409]
    assert await count(world, message) == 1


@pytest.mark.proves("T-N07", "T-G12")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": 5}, "text"),
        (TEXT | {"from": "ceo@desk.test"}, "from"),
        (TEXT | {"agent_id": 1}, "agent_id"),
        (TEXT | {"to": [{"address": "not an address"}]}, "to"),
        (TEXT | {"to": [{"address": "a@b.test\r\nBcc: c@d.test"}]}, "to"),
        (TEXT | {"to": [{"address": f"a{n}@customer.test"} for n in range(51)]}, "to"),
        (TEXT | {"send_at": "2020-01-01T00:00:00Z"}, "send_at"),
        (TEXT | {"send_at": "2030-01-01T00:00:00"}, "send_at"),
        (TEXT | {"send_at": "0001-01-01T00:00:00+23:59"}, "send_at"),
        (TEXT | {"attachments": [{"name": "a", "content": "%%%"}]}, "attachments.0.content"),
        (TEXT | {"attachments": [{"name": "a", "content": "", "content_type": "text"}]}, "attachments.0.content_type"),
    ],
)  # fmt: skip
async def test_answer_that_cannot_be_sent_is_refused_by_field(
    make_site: MakeSite, body: dict[str, Any], field: str
) -> None:
    world = await open_world(make_site)
    status, problem = await world.call("ann", "POST", f"/tickets/{world.support.code}/answers", body)
    assert (status, problem["errors"][0]["field"].split(".0.address")[0]) == (422, field)
    assert await count(world, message) == 0


@pytest.mark.proves("R5.9", "F-S14", "R8.8")
async def test_undo_takes_the_answer_back_and_the_ticket_waits_for_us_again(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    _, made = await world.call("ann", "POST", f"/tickets/{world.support.code}/answers", TEXT)
    status, undone = await world.call("ann", "POST", f"/messages/{made['id']}/cancellation")
    assert (status, undone["indicator"]["status"], undone["outbox"]["state"]) == (200, "cancelled", "cancelled")
    assert undone["actions"] == ["send_again"]
    _, shown = await world.call("ann", "GET", f"/tickets/{world.support.code}")
    assert shown["status"] == "open"
    status, again = await world.call("ann", "POST", f"/messages/{made['id']}/resend", {})
    assert (status, again["indicator"]["status"], again["outbox"]["round"]) == (200, "scheduled", 2)
    entries = await world.site.services.db.read(audit.entries)
    assert [entry.action for entry in entries[:3]] == ["answer.send_again", "answer.cancel", "answer.send"]


@pytest.mark.proves("F-S14")
@pytest.mark.parametrize("state", ["leased", "done", "doubt"])
async def test_cancel_of_what_has_left_is_too_late(make_site: MakeSite, state: str) -> None:
    world = await open_world(make_site)
    sent = await send_answer(world.site, world.support, world.people["ann"].id)
    await set_state(world, sent.outbox_id, state)
    status, problem = await world.call("ann", "POST", f"/messages/{sent.message}/cancellation")
    assert (status, problem["code"]) == (409, "too_late")


@pytest.mark.proves("R5.9")
async def test_answer_is_held_and_released(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    sent = await send_answer(world.site, world.support, world.people["ann"].id)
    path = f"/messages/{sent.message}"
    status, held = await world.call("ann", "POST", f"{path}/hold", Idempotency_Key="h")
    assert (status, held["indicator"]["status"], held["actions"]) == (200, "held", ["cancel", "release"])
    assert await world.call("ann", "POST", f"{path}/hold", Idempotency_Key="h") == (200, held)
    status, released = await world.call("ann", "POST", f"{path}/release")
    assert (status, released["indicator"]["status"]) == (200, "scheduled")
    assert (await world.call("ann", "POST", f"{path}/release"))[0] == 409
    assert (await world.call("ann", "POST", f"{path}/sent-mark"))[0] == 409


@pytest.mark.proves("T-M02")
async def test_resend_names_only_deliveries_of_the_message(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    sent = await send_answer(world.site, world.support, world.people["ann"].id)
    other = await send_answer(world.site, world.sales, world.people["eve"].id)
    await world.call("ann", "POST", f"/messages/{sent.message}/cancellation")
    before = await count(world, delivery)
    status, _ = await world.call("ann", "POST", f"/messages/{sent.message}/resend", {"deliveries": [other.delivery]})
    assert (status, await count(world, delivery)) == (404, before)


@pytest.mark.proves("R5.9")
async def test_what_came_in_cannot_be_cancelled(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    status, problem = await world.call("ann", "POST", f"/messages/{world.support.inbound}/cancellation")
    assert (status, problem["code"]) == (409, "conflict")


@pytest.mark.proves("T-F01", "T-F04", "T-F07", "R7.7")
async def test_attachment_is_a_download_that_no_browser_runs(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    names = {"evil.html": "text/html", 'q"uo;te\\.svg': "image/svg+xml", "prüfung €.pdf": "application/pdf"}
    files = [{"name": name, "content_type": kind, "content": "PHA+"} for name, kind in names.items()]
    _, made = await world.call("ann", "POST", f"/tickets/{world.support.code}/answers", TEXT | {"attachments": files})
    told = []
    for file in made["files"]:
        url = f"/api/v1/attachments/{file['id']}/content"
        async with world.site.client.get(url, headers=world.headers["ann"] | {"Range": "bytes=0-0"}) as answer:
            assert (answer.status, await answer.read()) == (200, b"<p>")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
            told.append((answer.headers["Content-Type"], answer.headers["Content-Disposition"]))
        for method in ("HEAD", "OPTIONS"):
            async with world.site.client.request(method, url, headers=world.headers["eve"]) as answer:
                assert answer.status in (404, 405)
    assert [kind for kind, _ in told] == ["application/octet-stream", "application/octet-stream", "application/pdf"]
    assert told[0][1] == 'attachment; filename="evil.html"'
    assert told[2][1] == "attachment; filename=\"pr_fung _.pdf\"; filename*=UTF-8''pr%C3%BCfung%20%E2%82%AC.pdf"
    assert told[1][1].isascii()
    assert told[1][1].count('"') == 2


@pytest.mark.proves("R8.8", "R1.2")
async def test_raw_mail_is_for_admins_and_reading_it_is_audited(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    await quarantine(world.site, world.support)
    path = f"/messages/{world.support.inbound}/raw"
    assert (await world.call("ann", "GET", path))[0] == 403
    status, raw = await world.call("admin", "GET", path)
    assert (status, raw.startswith(b"From: jane")) == (200, True)
    entries = await world.site.services.db.read(audit.entries)
    assert (entries[0].action, entries[0].object) == ("message.read_raw", f"message:{world.support.inbound}")


@pytest.mark.proves("R5.9")
async def test_scheduled_answer_waits_for_its_time(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    at = world.site.services.db.clock.now() + timedelta(days=2)
    status, made = await world.call(
        "ann", "POST", f"/tickets/{world.support.code}/answers", TEXT | {"send_at": at.isoformat()}
    )
    assert (status, made["outbox"]["due_at"]) == (201, at.isoformat().replace("+00:00", "Z"))


@pytest.mark.proves("T-N08", "F-S15")
async def test_answer_to_an_older_version_is_refused_with_the_present_one(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    ticket = f"/tickets/{world.support.code}"
    change = {"status": "postponed", "agent": world.people["both"].public_id, "subject": "Help me", "version": 1}
    assert (await world.call("both", "PATCH", ticket, change))[0] == 200
    assert (await world.call("both", "POST", f"{ticket}/answers", TEXT))[0] == 201
    status, problem = await world.call("ann", "POST", f"{ticket}/answers", TEXT | {"version": 1})
    assert (status, problem["code"]) == (409, "stale")
    current = (await world.call("ann", "GET", ticket))[1]
    assert problem["current"] == {name: current[name] for name in problem["current"]}
    assert [(item["by"], item["what"]) for item in problem["missed"]] == [
        ("both", "answered"),
        ("both", "set the status to postponed and assigned it to both and changed the subject"),
    ]
    assert await count(world, message) == 1
    assert (await world.call("ann", "POST", f"{ticket}/answers", TEXT | {"version": current["version"]}))[0] == 201


@pytest.mark.proves("T-N08")
async def test_of_changes_to_one_version_one_wins_and_the_others_are_told(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    ticket = f"/tickets/{world.support.code}"
    statuses = ("open", "postponed", "resolved", "closed", "spam")
    calls = [world.call("ann", "PATCH", ticket, {"status": status, "version": 1}) for status in statuses]
    answers = await asyncio.gather(*calls)
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409]
    (winner,) = [body["ticket"]["status"] for status, body in answers if status == 200]
    for status, body in answers:
        if status == 409:
            assert (body["code"], body["current"]["status"]) == ("stale", winner)
            assert [item["what"] for item in body["missed"]] == [f"set the status to {winner}"]


@pytest.mark.proves("F-S16", "R5.9")
@pytest.mark.parametrize("what", ["release", "cancellation"])
async def test_planned_answer_of_a_ticket_that_moved_is_the_new_departments_to_decide(
    make_site: MakeSite, what: str
) -> None:
    world = await open_world(make_site)
    services = world.site.services
    at = services.db.clock.now() + timedelta(days=2)
    answers = f"/tickets/{world.support.code}/answers"
    _, made = await world.call("both", "POST", answers, TEXT | {"send_at": at.isoformat()})
    move = {"department": world.sales.department}
    assert (await world.call("ann", "PATCH", f"/tickets/{world.support.code}", move))[0] == 200
    await services.db.write(outbox_rules.sweep, services.keys, clock=services.db.clock)
    status, seen = await world.call("eve", "GET", f"/messages/{made['id']}")
    assert (status, seen["indicator"]["status"], seen["actions"]) == (200, "held", ["cancel", "release"])
    assert seen["outbox"]["held_why"] == "ticket_moved"
    assert "another department" in seen["outbox"]["held_because"]
    delivery_id = seen["deliveries"][0]["id"]
    _, report = await world.call("eve", "GET", f"/deliveries/{delivery_id}/report")
    assert "another department" in report["headline"]
    path = f"/messages/{made['id']}/{what}"
    assert (await world.call("ann", "POST", path))[0] == 404
    status, after = await world.call("eve", "POST", path)
    wanted = ("waiting", at.isoformat().replace("+00:00", "Z")) if what == "release" else ("cancelled", None)
    assert (status, after["outbox"]["state"]) == (200, wanted[0])
    assert wanted[1] in (None, after["outbox"]["due_at"])
    assert after["outbox"]["held_why"] == "" or what == "cancellation"
