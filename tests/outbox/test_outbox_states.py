"""What people, time and late news do to an answer that waits, is in hand, or may have left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from core import agents, departments, outbox, tickets
from core.errors import Conflict, TooLate
from gateway.normalize.values import Address
from gateway.outbox import send
from gateway.outbox.send import Answer as Wanted
from tests.desk.office import ADDRESS, JANE, Office, open_office, question, smtp
from tests.servers.smtp_peer import CUT, Answer, SmtpPeer, say

HOUR = timedelta(hours=1)
ANN, BOB = "ann@a.test", "bob@b.test"
TAKEN_AND_CUT = Answer(cut=True, is_accepting=True)


@pytest.fixture
async def office(store_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(store_url, tmp_path) as made:
        yield made


async def say_of(office: Office, what: str, message: int) -> None:
    """``cancel``, ``release``, ``mark_sent`` or ``send_again``, by an agent."""
    function = getattr(outbox, what)
    now = office.clock.now()
    await office.db.write(lambda conn: function(conn, office.keys, message, actor="agent:ana", now=now))


def report(return_path: str, recipient: str, action: str, status: str) -> bytes:
    """A delivery report as a mail server writes it (RFC 3464)."""
    return (
        f"From: MAILER-DAEMON@mx.test\r\nTo: {return_path}\r\nSubject: Report\r\nMessage-ID: <{action}@mx.test>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nThis is a report.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.test\r\n\r\n"
        f"Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n\r\n--b--\r\n"
    ).encode()


async def doubtful(office: Office, peer: SmtpPeer, **config: str) -> tuple[int, int]:
    """Return the ticket and the answer whose handover nobody knows the end of."""
    await office.furnish(smtp(peer.port), **config)
    ticket = await office.ticket()
    message = await office.answer(ticket)
    await office.work()
    assert await office.statuses(message) == {JANE: ("delayed", "in_doubt")}
    return ticket, message


@pytest.mark.proves("R5.9")
async def test_an_answer_can_be_undone_for_as_long_as_the_channel_says(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port), undo_seconds=120)
        ticket = await office.ticket()
        undone, sent = await office.answer(ticket), await office.answer(ticket)
        assert await office.work() == 0
        await say_of(office, "cancel", undone)
        await office.later(timedelta(seconds=121))
        assert await office.work() == 1
        assert await office.work() == 0
    assert await office.statuses(undone) == {JANE: ("cancelled", "cancelled")}
    assert [mail.message_id for mail in peer.accepted] == [await office.header(sent)]


@pytest.mark.proves("R5.9")
async def test_an_answer_for_later_leaves_then_and_is_not_late(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port), undo_seconds=120)
        message = await office.answer(await office.ticket(), send_at=office.clock.now() + 20 * HOUR)
        for _ in range(4):
            await office.later(4 * HOUR)
            await office.sweep()
            assert await office.work() == 0
        assert await office.statuses(message) == {JANE: ("scheduled", "queued")}
        await office.later(4 * HOUR)
        await office.work()
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}


@pytest.mark.proves("F-S14")
@pytest.mark.parametrize("at", ["rcpt", "dot"])
async def test_cancel_comes_too_late_once_a_worker_has_it(office: Office, at: str) -> None:
    go_on = asyncio.Event()
    async with SmtpPeer(script={at: [Answer(raw=b"250 2.0.0 ok", after=go_on)]}) as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        working = asyncio.create_task(office.work())
        await peer.reached[at].wait()
        for what in ("cancel", "mark_sent", "send_again", "release"):
            with pytest.raises((TooLate, Conflict)):
                await say_of(office, what, message)
        go_on.set()
        await working
        with pytest.raises(TooLate):
            await say_of(office, "cancel", message)
        assert await office.facts(message) == ["final_dot_pending", "accepted"]
    assert len(peer.accepted) == 1


@pytest.mark.proves("F-S14")
async def test_of_cancel_and_claim_one_wins(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        for number in range(8):
            message = await office.answer(await office.ticket(question(f"q{number}")))
            taken, cancelled = await asyncio.gather(
                office.work(), say_of(office, "cancel", message), return_exceptions=True
            )
            is_cancelled = not isinstance(cancelled, TooLate)
            assert taken == (0 if is_cancelled else 1)
            assert peer.accepts(await office.header(message), JANE) == taken
            wanted = ("cancelled", "cancelled") if is_cancelled else ("sent", "accepted")
            assert await office.statuses(message) == {JANE: wanted}


@pytest.mark.proves("R5.9")
async def test_an_answer_is_held_when_the_customer_writes_first_until_it_is_released(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port), undo_seconds=60)
        ticket = await office.ticket()
        held = await office.answer(ticket, hold_if_they_write=True)
        other = await office.answer(ticket)
        again = question("q2", more=f"In-Reply-To: <{await office.header(other)}>\r\n")
        assert (await office.receive(again)).ticket_id == ticket
        assert await office.statuses(held) == {JANE: ("held", "held")}
        assert (await office.outbox(held))["held_why"] == "customer_wrote_first"
        await office.later(2 * HOUR)
        await office.work()
        assert [mail.message_id for mail in peer.accepted] == [await office.header(other)]
        await say_of(office, "release", held)
        await office.receive(question("q3", more=f"In-Reply-To: <{await office.header(other)}>\r\n"))
        await office.work()
        assert await office.statuses(held) == {JANE: ("sent", "accepted")}


@pytest.mark.proves("R5.9")
async def test_an_answer_is_held_at_once_when_the_customer_wrote_while_it_was_written(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        ticket = await office.ticket()
        prepared = await office.prepare(ticket, Wanted(text="Hello", hold_if_they_write=True))
        await office.receive(question("q2", more="In-Reply-To: <q1@customer.test>\r\n"))
        message = await office.db.write(send.commit, office.keys, prepared, now=office.clock.now())
        assert await office.work() == 0
        assert await office.statuses(message) == {JANE: ("held", "held")}
        await say_of(office, "cancel", message)
        assert await office.statuses(message) == {JANE: ("cancelled", "cancelled")}


Change = Callable[[Office, int], Awaitable[None]]


def status_to(status: str) -> Change:
    async def change(office: Office, ticket: int) -> None:
        await change_ticket(office, ticket, status=status)

    return change


async def move(office: Office, ticket: int) -> None:
    other = await office.db.write(departments.create, office.house, name="Sales")
    await change_ticket(office, ticket, department_id=other.id)


async def deactivate(office: Office, ticket: int) -> None:
    author = await office.db.read(agents.find_by_id, office.agent_id)
    assert author is not None
    await office.db.write(agents.set_active, office.house, author.public_id, is_active=False)


async def leave(office: Office, ticket: int) -> None:
    author = await office.db.read(agents.find_by_id, office.agent_id)
    assert author is not None
    await office.db.write(agents.set_departments, office.house, author.public_id, frozenset())


async def change_ticket(office: Office, ticket: int, **values: object) -> None:
    def change(conn: Connection) -> None:
        row = tickets.get(conn, ticket)
        tickets.change(conn, row, dict(values), version=None, actor="agent:bob", now=office.clock.now())

    await office.db.write(change)


OBJECTED: list[tuple[Change, str]] = [
    (move, "ticket_moved"),
    (deactivate, "author_inactive"),
    (leave, "author_left"),
    (status_to("closed"), "ticket_closed"),
    (status_to("resolved"), "ticket_closed"),
    (status_to("deleted"), "ticket_deleted"),
    (status_to("spam"), "ticket_spam"),
]


@pytest.mark.proves("F-S16", "R5.9")
@pytest.mark.parametrize("is_swept", [True, False], ids=["seen early", "changed just before it is due"])
@pytest.mark.parametrize(
    ("change", "why"), OBJECTED, ids=[f"{number}-{why}" for number, (_, why) in enumerate(OBJECTED)]
)
async def test_a_planned_answer_is_held_when_what_it_was_planned_for_changed(
    office: Office, change: Change, why: str, is_swept: bool
) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        ticket = await office.ticket()
        message = await office.answer(ticket, send_at=office.clock.now() + HOUR)
        if not is_swept:
            await office.later(2 * HOUR)
        await change(office, ticket)
        if is_swept:
            await office.sweep()
            assert (await office.outbox(message))["held_why"] == why
            await office.later(2 * HOUR)
        assert await office.work() == 0
        await office.sweep()
        assert await office.work() == 0
        assert await office.statuses(message) == {JANE: ("held", "held")}
        assert (await office.outbox(message))["held_why"] == why
        await say_of(office, "release", message)
        await office.sweep()
        assert await office.work() == 1
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}


@pytest.mark.proves("F-S16")
@pytest.mark.parametrize("change", [move, deactivate, status_to("closed")], ids=["moved", "deactivated", "closed"])
async def test_an_answer_that_was_to_leave_at_once_leaves_all_the_same(office: Office, change: Change) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port), undo_seconds=120)
        ticket = await office.ticket()
        message = await office.answer(ticket)
        await change(office, ticket)
        await office.sweep()
        await office.later(HOUR)
        assert await office.work() == 1
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}


@pytest.mark.proves("F-S16")
async def test_a_release_agrees_to_what_was_shown_and_not_to_what_comes_later(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        ticket = await office.ticket()
        message = await office.answer(ticket, send_at=office.clock.now() + 2 * HOUR)
        await move(office, ticket)
        await deactivate(office, ticket)  # whoever releases it stands in for the author
        await office.sweep()
        await say_of(office, "release", message)
        await office.sweep()
        assert (await office.outbox(message))["state"] == "waiting"
        await change_ticket(office, ticket, status="deleted")
        await office.later(3 * HOUR)
        assert await office.work() == 0
        await office.sweep()
        assert (await office.outbox(message))["held_why"] == "ticket_deleted"
        await say_of(office, "cancel", message)
        assert await office.statuses(message) == {JANE: ("cancelled", "cancelled")}
    assert peer.accepted == []


@pytest.mark.proves("F-S16")
async def test_of_a_move_and_a_claim_that_race_one_comes_first(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        other = await office.db.write(departments.create, office.house, name="Sales")
        for number in range(6):
            ticket = await office.ticket(question(f"q{number}"))
            message = await office.answer(ticket, send_at=office.clock.now() + HOUR)
            await office.later(2 * HOUR)
            taken, _moved = await asyncio.gather(office.work(), change_ticket(office, ticket, department_id=other.id))
            await office.sweep()
            state = (await office.outbox(message))["state"]
            assert (taken, state) in {(1, "done"), (0, "held")}
            assert peer.accepts(await office.header(message), JANE) == taken


@pytest.mark.proves("R5.3")
async def test_what_waits_longer_than_expected_is_said_to_be_delayed_once(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port), delayed_after=HOUR)
        message = await office.answer(await office.ticket())
        await office.later(timedelta(minutes=59))
        await office.sweep()
        assert await office.statuses(message) == {JANE: ("scheduled", "queued")}
        await office.later(timedelta(minutes=2))
        await office.sweep()
        await office.sweep()
        assert await office.statuses(message) == {JANE: ("delayed", "overdue")}
        assert await office.facts(message) == ["overdue"]
        await office.work()
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}


async def mark(office: Office, ticket: int, message: int, return_path: str) -> None:
    await say_of(office, "mark_sent", message)


async def reply(office: Office, ticket: int, message: int, return_path: str) -> None:
    await office.receive(question("answer", more=f"In-Reply-To: <{await office.header(message)}>\r\n"))


async def bounce(office: Office, ticket: int, message: int, return_path: str) -> None:
    await office.receive(report(return_path, JANE, "failed", "5.1.1"))


async def deliver(office: Office, ticket: int, message: int, return_path: str) -> None:
    await office.receive(report(return_path, JANE, "delivered", "2.0.0"))


@pytest.mark.proves("R5.5", "F-S08", "F-S07")
@pytest.mark.parametrize(
    ("settle", "status"),
    [
        (mark, ("sent", "marked_sent")),
        (reply, ("sent", "replied")),
        (bounce, ("not_delivered", "bounced")),
        (deliver, ("delivered", "delivered")),
    ],
)
async def test_a_doubt_is_settled_by_news_or_a_person(
    office: Office, settle: Callable[[Office, int, int, str], Awaitable[None]], status: tuple[str, str]
) -> None:
    async with SmtpPeer(script={"dot": [TAKEN_AND_CUT]}) as peer:
        ticket, message = await doubtful(office, peer, in_doubt="resend-once")
        await settle(office, ticket, message, peer.accepted[0].sender)
        assert await office.statuses(message) == {JANE: status}
        assert (await office.outbox(message))["state"] == "done"
        await office.later(HOUR)
        await office.sweep()
        assert await office.work() == 0
    assert len(peer.accepted) == 1


@pytest.mark.proves("R5.5")
async def test_a_person_sends_a_doubtful_answer_again_as_the_very_same_mail(office: Office) -> None:
    async with SmtpPeer(script={"dot": [TAKEN_AND_CUT]}) as peer:
        _ticket, message = await doubtful(office, peer)
        await say_of(office, "send_again", message)
        assert await office.work() == 1
        first, second = peer.accepted
        assert first.content == second.content
        assert first.message_id == second.message_id
        assert first.sender != second.sender  # the return token names the round
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}
        await office.receive(report(first.sender, JANE, "failed", "5.1.1"))
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}  # the older copy failed, not this one
        with pytest.raises(Conflict):
            await say_of(office, "send_again", message)


@pytest.mark.proves("R5.5")
async def test_resend_once_sends_again_exactly_once_after_a_quarter_of_an_hour(office: Office) -> None:
    async with SmtpPeer(script={"dot": [TAKEN_AND_CUT, TAKEN_AND_CUT]}) as peer:
        _ticket, message = await doubtful(office, peer, in_doubt="resend-once")
        await office.later(timedelta(minutes=14))
        await office.sweep()
        assert await office.work() == 0
        await office.later(timedelta(minutes=2))
        await asyncio.gather(office.sweep("one"), office.sweep("two"))
        assert await office.work() == 1
        for _ in range(3):
            await office.later(HOUR)
            await office.sweep()
            assert await office.work() == 0
        assert peer.accepts(await office.header(message), JANE) == 2
        assert await office.statuses(message) == {JANE: ("delayed", "in_doubt")}


@pytest.mark.proves("R5.5")
async def test_resend_once_leaves_alone_who_refused_the_first_copy(office: Office) -> None:
    script = {"rcpt": [say("250 ok"), say("550 5.1.1 no such user")], "dot": [CUT]}
    async with SmtpPeer(script=script) as peer:
        await office.furnish(smtp(peer.port), in_doubt="resend-once")
        to = (Address(address=ANN), Address(address=BOB))
        message = await office.answer(await office.ticket(), to=to)
        await office.work()
        await office.later(HOUR)
        await office.sweep()
        await office.work()
        assert [mail.recipients for mail in peer.accepted] == [(ANN,)]
        assert (await office.statuses(message))[BOB] == ("not_delivered", "refused")


@pytest.mark.proves("R5.5", "R5.9")
async def test_a_doubt_can_be_settled_while_another_recipient_waits_and_after_that_one_is_cancelled(
    office: Office,
) -> None:
    async with SmtpPeer(script={"rcpt": [say("250 ok"), say("451 later")] * 2, "dot": [CUT, CUT]}) as peer:
        await office.furnish(smtp(peer.port))
        to = (Address(address=ANN), Address(address=BOB))
        waiting = await office.answer(await office.ticket(), to=to)
        await office.work()
        cancelled = await office.answer(await office.ticket(question("q2")), to=to)
        await office.work()
        await say_of(office, "mark_sent", waiting)
        assert (await office.statuses(waiting))[ANN] == ("sent", "marked_sent")
        assert (await office.outbox(waiting))["state"] == "waiting"
        await say_of(office, "cancel", cancelled)
        assert (await office.outbox(cancelled))["state"] == "doubt"
        await say_of(office, "mark_sent", cancelled)
        assert (await office.outbox(cancelled))["state"] == "done"
        assert await office.statuses(cancelled) == {ANN: ("sent", "marked_sent"), BOB: ("cancelled", "cancelled")}


@pytest.mark.proves("F-S09")
async def test_a_report_without_our_signature_moves_nothing(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.furnish(smtp(peer.port))
        message = await office.answer(await office.ticket())
        await office.work()
        local, _, domain = peer.accepted[0].sender.rpartition("@")
        for forged in (ADDRESS, f"{local[:-1]}{'a' if local[-1] != 'a' else 'b'}@{domain}"):
            await office.receive(report(forged, JANE, "failed", "5.1.1"))
        assert await office.statuses(message) == {JANE: ("sent", "accepted")}


@pytest.mark.proves("F-S08", "F-S07")
async def test_a_bounce_may_come_before_the_reply_to_the_dot(office: Office) -> None:
    go_on = asyncio.Event()
    async with SmtpPeer(script={"dot": [Answer(raw=b"250 2.0.0 ok", after=go_on)]}) as peer:
        await office.furnish(smtp(peer.port))
        ticket = await office.ticket()
        message = await office.answer(ticket)
        working = asyncio.create_task(office.work())
        await peer.reached["dot"].wait()
        sent_as = next(line for step, line in peer.transcript if step == "mail").partition("<")[2].partition(">")[0]
        await office.receive(report(sent_as, JANE, "failed", "5.1.1"))
        go_on.set()
        await working
        assert await office.statuses(message) == {JANE: ("not_delivered", "bounced")}
        assert (await office.outbox(message))["state"] == "done"
        assert await office.events("answer.not_delivered") == 1
        assert await office.ticket_status(ticket) == "open"
