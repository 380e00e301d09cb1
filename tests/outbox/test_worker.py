"""Handing over: what each answer of the next server makes of each recipient, and what is tried again when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core import channels, outbox
from core.errors import Conflict
from core.store import schema
from gateway.normalize.values import Address
from gateway.outbox import worker as worker_module
from gateway.outbox.limits import Limit
from gateway.outbox.send import Upload
from tests.desk.office import ADDRESS, JANE, Office, open_office, question, smtp
from tests.servers.smtp_peer import CUT, SILENT, Answer, SmtpPeer, say

MINUTE = timedelta(minutes=1)
ANN, BOB, CAT = "ann@a.test", "bob@b.test", "cat@c.test"


def people(*addresses: str) -> tuple[Address, ...]:
    return tuple(Address(address=address) for address in addresses)


@pytest.fixture
async def office(store_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(store_url, tmp_path) as made:
        yield made


@pytest.mark.proves("R5.1", "R4.2")
async def test_an_answer_is_scheduled_then_sent_once_and_never_looked_at_again(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        ticket = await office.ticket()
        message = await office.answer(ticket)
        assert await office.statuses(message) == {JANE: ("scheduled", "queued")}
        assert await office.work() == 1
        assert await office.work() == 0
    (mail,) = peer.accepted
    assert mail.message_id == await office.header(message)
    assert "NOTIFY=FAILURE,DELAY" in mail.recipient_options[0]
    assert mail.sender.startswith("support+b")
    assert await office.statuses(message) == {JANE: ("sent", "accepted")}
    assert (await office.outbox(message))["state"] == "done"
    assert await office.ticket_status(ticket) == "answered"
    shown = await office.channel()
    assert (shown["out_state"], shown["last_out_at"]) == ("working", office.clock.now())


@pytest.mark.proves("R4.2")
async def test_reports_of_success_are_asked_for_where_the_channel_says_so(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port, notify_success=True))
        await office.answer(await office.ticket())
        await office.work()
    assert "NOTIFY=SUCCESS,FAILURE,DELAY" in peer.accepted[0].recipient_options[0]


@pytest.mark.proves("R5.2", "F-S02")
async def test_after_a_partial_refusal_only_those_who_are_still_open_are_tried_again(office: Office) -> None:
    script = {"rcpt": [say("250 2.1.5 ok"), say("550 5.1.1 no such user"), say("450 4.2.1 mailbox busy")]}
    async with SmtpPeer(script=script) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket(), to=people(ANN, BOB), cc=people(CAT))
        await office.work()
        assert await office.statuses(message) == {
            ANN: ("sent", "accepted"),
            BOB: ("not_delivered", "refused"),
            CAT: ("delayed", "temporarily_refused"),
        }
        await office.later(6 * MINUTE)
        await office.work()
    assert [mail.recipients for mail in peer.accepted] == [(ANN,), (CAT,)]
    assert {mail.message_id for mail in peer.accepted} == {await office.header(message)}
    assert peer.accepted[0].content == peer.accepted[1].content
    assert (await office.statuses(message))[CAT] == ("sent", "accepted")


@pytest.mark.proves("F-S02")
async def test_who_was_crowded_out_goes_right_after_the_others(office: Office) -> None:
    async with SmtpPeer(script={"rcpt": [say("250 ok"), say("452 4.5.3 too many recipients")]}) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket(), to=people(ANN, BOB))
        await office.work()
        await office.work()
    assert [mail.recipients for mail in peer.accepted] == [(ANN,), (BOB,)]
    assert (await office.outbox(message))["state"] == "done"


@pytest.mark.proves("R5.3", "R5.4", "F-S11")
@pytest.mark.parametrize(
    ("reply", "wait"),
    [
        ("451 4.3.0 something is wrong here", 5 * MINUTE),
        ("450 4.7.1 greylisted, try again in 7 minutes", 7 * MINUTE),
        ("450 4.7.1 please come back in 00:00:40", timedelta(seconds=40)),
    ],
)
async def test_a_temporary_refusal_delays_until_the_schedule_or_the_server_says(
    office: Office, reply: str, wait: timedelta
) -> None:
    async with SmtpPeer(script={"rcpt": [say(reply)]}) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        await office.work()
        assert await office.statuses(message) == {JANE: ("delayed", "temporarily_refused")}
        row = await office.outbox(message)
        assert (row["state"], row["due_at"] - office.clock.now()) == ("waiting", wait)
        assert await office.work() == 0
        await office.later(wait)
        assert await office.work() == 1
    assert len(peer.accepted) == 1


@pytest.mark.proves("R5.4", "F-S12")
async def test_waits_grow_by_the_schedule_of_each_round(office: Office) -> None:
    async with SmtpPeer(script={"rcpt": [say("451 later")] * 5}) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        waits = []
        for _ in range(4):
            await office.work()
            wait = (await office.outbox(message))["due_at"] - office.clock.now()
            waits.append(wait)
            await office.later(wait)
        assert waits == [5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE]
        now = office.clock.now()
        await office.db.write(outbox.cancel, office.keys, message, actor="agent:ana", now=now)
        await office.db.write(outbox.send_again, office.keys, message, actor="agent:ana", now=now)
        await office.work()
        assert (await office.outbox(message))["due_at"] - now == 5 * MINUTE


@pytest.mark.proves("F-S13", "R5.8")
async def test_when_the_window_is_over_the_agent_is_told_once_and_the_ticket_opens(office: Office) -> None:
    async with SmtpPeer(script={"rcpt": [say("451 4.3.0 later")] * 9}) as peer:
        await office.furnish(smtp(peer.port), retry_days=1.0)
        ticket = await office.ticket()
        message = await office.answer(ticket)
        await office.work()
        await office.later(timedelta(hours=23, minutes=50))
        await office.work()
        row = await office.outbox(message)
        assert row["due_at"] == row["give_up_at"]  # the last try comes at the end of the window
        await office.later(11 * MINUTE)
        await office.work()
        for _ in range(2):
            await office.later(timedelta(days=1))
            assert await office.work() == 0
            await office.sweep()
    assert await office.statuses(message) == {JANE: ("not_delivered", "expired")}
    assert (await office.outbox(message))["state"] == "done"
    assert await office.events("answer.not_delivered") == 1
    assert await office.ticket_status(ticket) == "open"
    assert peer.steps().count("rcpt") == 3


LOGIN = {"user": "u", "password": "p"}
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "login": ({"script": {"auth": [say("535 5.7.8 wrong")] * 4}, "auth": "PLAIN"}, LOGIN, "login"),
    "tls": ({}, {"security": "starttls"}, "tls"),
    "sender": ({"script": {"mail": [say("553 5.7.1 not your address")] * 4}}, {}, "sender"),
}


@pytest.mark.proves("F-S06", "R5.4", "F-S12")
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_ours_pauses_the_channel_and_fails_no_answer(office: Office, name: str) -> None:
    of_peer, of_account, code = FAULTS[name]
    async with SmtpPeer(**of_peer) as bad, SmtpPeer() as good:
        await office.furnish(smtp(bad.port, **of_account))
        tickets = [await office.ticket(question(f"q{number}")) for number in range(3)]
        messages = [await office.answer(ticket) for ticket in tickets]
        while await office.work():
            pass
        shown = await office.channel()
        assert (shown["out_state"], shown["out_code"]) == ("failing", code)
        assert shown["out_resume_at"] - office.clock.now() == timedelta(seconds=30)  # three tries met one fault
        tried = bad.steps().count("ehlo") + bad.steps().count("mail")
        await office.later(timedelta(seconds=31))
        office.clock.move(timedelta(seconds=31))
        assert await office.work() == 1  # one probe, not the queue
        assert (await office.channel())["out_resume_at"] - office.clock.now() == MINUTE
        assert bad.steps().count("ehlo") + bad.steps().count("mail") in (tried + 1, tried + 2)
        await office.later(timedelta(days=9))  # three times the window for answers
        await office.configure(smtp(good.port))
        assert await office.work() == 1
        assert await office.work() == 2  # and the others at once, when it works again
        for message in messages:
            assert await office.statuses(message) == {JANE: ("sent", "accepted")}
    assert len(good.accepted) == 3
    assert (await office.channel())["out_state"] == "working"
    assert await office.events("answer.not_delivered") == 0


@pytest.mark.proves("F-S06")
async def test_a_long_fault_of_ours_takes_nothing_from_the_time_for_trying(office: Office) -> None:
    script = {"auth": [say("535 5.7.8 wrong")], "rcpt": [say("451 4.7.1 greylisted")]}
    async with SmtpPeer(script=script, auth="PLAIN") as peer:
        await office.furnish(smtp(peer.port, **LOGIN))
        message = await office.answer(await office.ticket())
        await office.work()
        await office.later(timedelta(days=5))
        await office.work()
        row = await office.outbox(message)
        assert (row["state"], row["give_up_at"]) == ("waiting", office.clock.now() + timedelta(days=3))
        await office.later(5 * MINUTE)
        await office.work()
    assert await office.statuses(message) == {JANE: ("sent", "accepted")}


@pytest.mark.proves("F-S06")
async def test_a_refused_recipient_proves_that_the_channel_works_again(office: Office) -> None:
    script = {"auth": [say("535 5.7.8 wrong")], "rcpt": [say("550 5.1.1 no such user")]}
    async with SmtpPeer(script=script, auth="PLAIN") as peer:
        await office.furnish(smtp(peer.port, **LOGIN))
        for number in range(2):
            await office.answer(await office.ticket(question(f"q{number}")))
        office.worker(limits={})
        await office.work()
        await office.later(timedelta(hours=1))
        await office.work()
        shown = await office.channel()
        assert (shown["out_state"], shown["out_resume_at"]) == ("working", None)


@pytest.mark.proves("R5.4")
async def test_a_channel_without_a_way_out_keeps_its_answers(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        await office.configure(None)
        await office.work()
        assert await office.statuses(message) == {JANE: ("scheduled", "own_fault")}
        shown = await office.channel()
        assert (shown["out_state"], shown["out_code"]) == ("failing", "configuration")
        await office.configure(smtp(peer.port))
        await office.later(timedelta(hours=1))
        await office.work()
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}


@pytest.mark.proves("F-D05", "R5.8")
async def test_a_damaged_mail_fails_alone_and_its_channel_goes_on(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        ticket, other = await office.ticket(), await office.ticket(question("q2"))
        big = Upload(name="a.bin", content_type="application/x-any", content=b"x" * 100_000)
        message = await office.answer(ticket, files=(big,))
        digest = (await office.outbox(message))["bytes_digest"]
        path = office.blobs.path(digest)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        second = await office.answer(other)
        await office.work()
        assert await office.statuses(message) == {JANE: ("not_delivered", "expired")}
        assert await office.ticket_status(ticket) == "open"
        assert await office.statuses(second) == {JANE: ("sent", "accepted")}
    assert (await office.channel())["out_state"] == "working"
    assert len(peer.accepted) == 1


@pytest.mark.proves("F-S06")
async def test_a_configuration_that_cannot_be_read_stops_no_other_channel(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        broken: dict[str, Any] = {
            "config": {"address": 7},
            "secrets": {},
            "kind": "email",
            "name": "Old",
            "account": "",
        }
        broken |= {"address": "old@desk.test", "department_id": office.department_id, "now": office.clock.now()}
        await office.db.write(lambda conn: channels.add(conn, office.keys, **broken))
        await office.sweep(is_start=True)
        await office.work()
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}


@pytest.mark.proves("F-N05")
async def test_two_nodes_claim_each_answer_once(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        messages = [await office.answer(await office.ticket(question(f"q{number}"))) for number in range(12)]
        limits: dict[str, Any] = {}
        office.worker("one", limits=limits), office.worker("two", limits=limits)
        while sum(await asyncio.gather(office.work("one"), office.work("two"))):
            pass
        for message in messages:
            assert peer.accepts(await office.header(message), JANE) == 1
    query = sa.select(sa.func.count()).select_from(schema.attempt)
    assert await office.db.read(lambda conn: conn.execute(query).scalar_one()) == 12


@pytest.mark.proves("F-K23", "F-N06", "F-K11")
async def test_a_node_whose_lease_ran_out_says_no_final_dot(office: Office) -> None:
    go_on = asyncio.Event()
    async with SmtpPeer(script={"data": [Answer(raw=b"354 go ahead", after=go_on)]}) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        sleeper = asyncio.create_task(office.work("one"))
        await peer.reached["data"].wait()
        await office.later(timedelta(minutes=2))
        await office.sweep("two")
        assert await office.work("two") == 1
        go_on.set()
        await sleeper
        assert [mail.recipients for mail in peer.accepted] == [(JANE,)]
    assert peer.steps().count("dot") == 1
    assert (await office.outbox(message))["attempts"] == 2
    assert await office.facts(message) == ["final_dot_pending", "accepted"]


@pytest.mark.proves("R5.10", "F-S11")
async def test_a_mailbox_sends_no_more_an_hour_than_its_account_allows(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port, per_hour=20))
        for number in range(5):
            await office.answer(await office.ticket(question(f"q{number}")))
        await office.sweep(is_start=True)
        sent = []
        for _ in range(4):
            await office.work()
            sent.append(len(peer.accepted))
            office.clock.move(3 * MINUTE)
        assert sent == [2, 3, 4, 5]  # a tenth of it at once, then evenly


@pytest.mark.proves("R5.10", "F-S12")
async def test_nobody_waits_behind_what_a_limit_keeps_back(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LOOK", 4)
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        office.worker(limits={"recipient": (Limit(per=timedelta(hours=1), count=1, burst=1),)})
        for number in range(9):
            await office.answer(await office.ticket(question(f"q{number}")), to=people(ANN))
        await office.answer(await office.ticket(question("other")), to=people(BOB))
        await office.work()
        assert sorted(mail.recipients for mail in peer.accepted) == [(ANN,), (BOB,)]


@pytest.mark.proves("R5.10")
async def test_a_worker_sleeps_while_nothing_may_go(office: Office) -> None:
    async with SmtpPeer(script={"auth": [say("535 wrong")]}, auth="PLAIN") as peer:
        await office.furnish(smtp(peer.port, **LOGIN))
        office.worker(limits={"recipient": (Limit(per=timedelta(hours=1), count=1, burst=1),)})
        assert await office.worker()._idle_seconds() == worker_module.POLL_SECONDS
        for number in range(2):
            await office.answer(await office.ticket(question(f"q{number}")))
        await office.work()
        assert await office.work() == 0
        assert await office.worker()._idle_seconds() == worker_module.POLL_SECONDS  # the channel rests
        await office.later(timedelta(hours=1))
        await office.work()
        assert await office.work() == 0
        assert await office.worker()._idle_seconds() == worker_module.POLL_SECONDS  # the limit of the recipient


@pytest.mark.proves("F-V04")
async def test_a_worker_that_stops_ends_what_it_began_and_begins_nothing(office: Office) -> None:
    go_on = asyncio.Event()
    async with SmtpPeer(script={"dot": [Answer(raw=b"250 2.0.0 ok", after=go_on)]}) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        running = asyncio.create_task(office.worker().run())
        await peer.reached["dot"].wait()
        drained = asyncio.create_task(office.worker().drain(20))
        later = await office.answer(await office.ticket(question("q2")))
        office.hub.wake("outbox")
        go_on.set()
        await drained
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}
        assert await office.statuses(later) == {JANE: ("scheduled", "queued")}
    assert (await office.outbox(later))["attempts"] == 0


@pytest.mark.proves("F-S01", "F-S03")
@pytest.mark.parametrize("step", ["greeting", "ehlo", "mail", "rcpt", "data"])
async def test_a_line_that_breaks_before_the_dot_is_tried_again(office: Office, step: str) -> None:
    async with SmtpPeer(script={step: [CUT]}) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        await office.work()
        assert await office.statuses(message) == {JANE: ("delayed", "unreachable")}
        await office.later(6 * MINUTE)
        await office.work()
    assert len(peer.accepted) == 1
    assert await office.statuses(message) == {JANE: ("sent", "accepted")}


@pytest.mark.proves("F-S03", "R5.5")
@pytest.mark.parametrize("end", [CUT, SILENT, Answer(cut=True, is_accepting=True)], ids=["cut", "silence", "taken"])
async def test_a_line_that_breaks_after_the_dot_is_in_doubt_and_not_tried_again(office: Office, end: Answer) -> None:
    async with SmtpPeer(script={"dot": [end]}) as peer:
        await office.furnish(smtp(peer.port, final_reply_seconds=0.3))
        message = await office.answer(await office.ticket())
        await office.work()
        for _ in range(3):
            await office.later(timedelta(days=2))
            await office.sweep()
            assert await office.work() == 0
        assert await office.statuses(message) == {JANE: ("delayed", "in_doubt")}
        assert (await office.outbox(message))["state"] == "doubt"
    assert peer.steps().count("dot") == 1


@pytest.mark.proves("F-S03")
async def test_a_recipient_in_doubt_is_left_alone_while_another_is_tried_again(office: Office) -> None:
    async with SmtpPeer(script={"rcpt": [say("250 ok"), say("451 later")], "dot": [CUT]}) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket(), to=people(ANN, BOB))
        await office.work()
        await office.later(6 * MINUTE)
        await office.work()
        assert [mail.recipients for mail in peer.accepted] == [(BOB,)]
        assert await office.statuses(message) == {ANN: ("delayed", "in_doubt"), BOB: ("sent", "accepted")}
        assert (await office.outbox(message))["state"] == "doubt"


@pytest.mark.proves("F-K12", "F-K13")
async def test_a_worker_that_died_behind_the_line_leaves_a_doubt(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())

        def die(conn: sa.Connection) -> None:
            due = outbox.due(conn, limit=5, clock=office.clock)
            (claimed,) = outbox.claim(conn, [row.id for row in due], owner="dead", lease=MINUTE, clock=office.clock)
            ids = list(claimed.open_addresses.values())
            outbox.cross_line_of_doubt(conn, office.keys, claimed, ids, clock=office.clock)

        await office.db.write(die)
        await office.sweep()
        assert (await office.outbox(message))["state"] == "leased"
        await office.later(2 * MINUTE)
        await office.sweep()
        assert await office.statuses(message) == {JANE: ("delayed", "in_doubt")}
        assert await office.work() == 0
        with pytest.raises(Conflict):
            await office.db.write(outbox.release, office.keys, message, actor="agent:ana", now=office.clock.now())
    assert peer.accepted == []


@pytest.mark.proves("T-C08", "T-C05")
async def test_what_leaves_comes_from_the_channel_and_to_nobody_hidden(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        await office.answer(await office.ticket(), to=people(ANN), bcc=people(BOB))
        await office.work()
    (mail,) = peer.accepted
    assert mail.recipients == (ANN, BOB)
    assert BOB.encode() not in mail.content
    assert f"From: Ana <{ADDRESS}>\r\n".encode() in mail.content
