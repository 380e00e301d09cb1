"""What servers and robots say about our answers becomes evidence, and nothing else (R2.4, F-S07 to F-S10)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from core import deliveries
from core.delivery import Fact
from core.store import schema
from gateway.normalize import tokens
from tests.ingest.desk import KEYS, Came, Desk, Sent
from tests.ingest.letters import DESK, JANE, MALLORY, complaint, dsn, legacy_bounce, letter, mdn

JANE_AT = "jane@customer.test"
BOB_AT = "bob@customer.test"


async def answered(desk: Desk, *to: str, accept: bool = True) -> Sent:
    first = await desk.receive(letter())
    assert first.ticket
    sent = await desk.answer(first.ticket["id"], *to)
    if accept:
        await desk.accept(sent)
        assert set((await desk.status(sent)).values()) == {"sent"}
    return sent


def is_evidence_only(came: Came) -> bool:
    return came.settled.outcome == "evidence" and came.message is None


#: How a report says which mail of ours it speaks of.
Road = Callable[[Sent, str, str], bytes]
ROADS: dict[str, Road] = {
    "return address": lambda sent, action, status: dsn(sent.return_address(), (JANE_AT, action, status)),
    "envelope id": lambda sent, action, status: dsn(DESK, (JANE_AT, action, status), envelope_id=sent.envelope_id()),
    "our Message-ID": lambda sent, action, status: dsn(DESK, (JANE_AT, action, status), original=sent.header),
}


@pytest.mark.proves("R2.4", "F-S07", "R5.1")
@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    ("action", "code", "status"),
    [
        ("failed", "5.1.1", "not_delivered"), ("delayed", "4.2.2", "delayed"), ("delivered", "2.0.0", "delivered"),
        ("relayed", "2.0.0", "sent"), ("expanded", "2.0.0", "sent"),
    ],
)  # fmt: skip
async def test_report_moves_the_status_by_whatever_names_our_mail(
    desk: Desk, road: str, action: str, code: str, status: str
) -> None:
    sent = await answered(desk)
    raw = ROADS[road](sent, action, code)
    came = await desk.receive(raw)
    assert is_evidence_only(came)
    assert came.ledger["ticket_id"] == sent.ticket_id
    assert await desk.status(sent) == {JANE_AT: status}
    assert len(await desk.rows(schema.ticket)) == 1
    facts = await desk.rows(schema.evidence)
    assert facts[-1]["ledger_id"] == came.ledger["id"], "the raw report has to be found again"

    again = await desk.receive(raw, uidvalidity=5)
    assert again.settled.outcome == "repeat"
    assert len(await desk.rows(schema.evidence)) == len(facts)


@pytest.mark.proves("F-S07", "R5.2")
async def test_report_about_one_of_several_recipients_moves_that_one(desk: Desk) -> None:
    sent = await answered(desk, JANE_AT, BOB_AT)
    await desk.receive(dsn(sent.return_address(), (BOB_AT, "failed", "5.1.1")))
    assert await desk.status(sent) == {JANE_AT: "sent", BOB_AT: "not_delivered"}
    await desk.receive(dsn(DESK, (JANE_AT, "delivered", "2.0.0"), (BOB_AT, "delivered", "2.0.0"), original=sent.header))
    assert await desk.status(sent) == {JANE_AT: "delivered", BOB_AT: "not_delivered"}


@pytest.mark.proves("F-S07", "F-W02")
@pytest.mark.parametrize("order", list(itertools.permutations([("delayed", "4.2.2"), ("delivered", "2.0.0")])))
async def test_order_of_reports_does_not_matter(desk: Desk, order: tuple[tuple[str, str], ...]) -> None:
    sent = await answered(desk)
    for action, status in order:
        await desk.receive(dsn(sent.return_address(), (JANE_AT, action, status)))
    assert await desk.status(sent) == {JANE_AT: "delivered"}


@pytest.mark.proves("F-S07")
async def test_same_report_told_twice_by_two_servers_is_one_fact(desk: Desk) -> None:
    sent = await answered(desk)
    for _ in range(2):
        await desk.receive(dsn(sent.return_address(), (JANE_AT, "failed", "5.1.1")))
    facts = [row["fact"] for row in await desk.rows(schema.evidence)]
    assert facts.count("dsn_failed") == 1


FORGED: dict[str, Road] = {
    "no sign at all": lambda _sent, action, status: dsn(DESK, (JANE_AT, action, status)),
    "an unknown id": lambda _sent, action, status: dsn(DESK, (JANE_AT, action, status), original="x@desk.test"),
    "an unknown envelope": lambda _sent, action, status: dsn(DESK, (JANE_AT, action, status), envelope_id="e" * 45),
    "our id, another recipient": lambda sent, action, status: dsn(
        DESK, ("eve@evil.test", action, status), original=sent.header
    ),
    "our id, no recipient": lambda sent, _action, _status: dsn(DESK, original=sent.header),
    "a token of another house": lambda sent, action, status: dsn(
        tokens.plus_address(DESK, tokens.sign(_token(sent), b"other")), (JANE_AT, action, status)
    ),
    "a damaged token": lambda sent, action, status: dsn(
        sent.return_address().replace("@", "a@"), (JANE_AT, action, status)
    ),
    "a reply token": lambda sent, action, status: dsn(sent.reply_address(), (JANE_AT, action, status)),
    "a token of no mail": lambda sent, action, status: dsn(
        replace(sent, nonce=sent.nonce ^ 1).return_address(), (JANE_AT, action, status)
    ),
}


def _token(sent: Sent) -> tokens.Token:
    found = tokens.of_address(sent.return_address(), KEYS.tokens, tokens.Purpose.RETURN)
    assert found is not None
    return found


@pytest.mark.proves("F-S09", "R2.4")
@pytest.mark.parametrize("forgery", FORGED)
@pytest.mark.parametrize("action", ["failed", "delivered"])
async def test_forged_report_is_listed_and_moves_nothing(desk: Desk, forgery: str, action: str) -> None:
    sent = await answered(desk, JANE_AT, BOB_AT)
    before = await desk.ticket(sent.ticket_id)
    came = await desk.receive(FORGED[forgery](sent, action, "5.1.1" if action == "failed" else "2.0.0"))
    assert is_evidence_only(came)
    assert "report" in came.ledger["reason"]
    assert await desk.status(sent) == {JANE_AT: "sent", BOB_AT: "sent"}
    assert await desk.ticket(sent.ticket_id) == before
    assert len(await desk.rows(schema.ticket)) == 1
    assert not any(row["suppressed_at"] for row in await desk.rows(schema.identity))


@pytest.mark.proves("F-S08")
@pytest.mark.parametrize(
    ("action", "code", "status"), [("failed", "5.1.1", "not_delivered"), ("delivered", "2.0.0", "delivered")]
)
async def test_report_before_the_reply_settles_the_attempt(desk: Desk, action: str, code: str, status: str) -> None:
    sent = await answered(desk, accept=False)
    claimed = await desk.claim(sent)
    assert is_evidence_only(await desk.receive(dsn(sent.return_address(), (JANE_AT, action, code))))
    assert await desk.status(sent) == {JANE_AT: status}
    assert await desk.finish(claimed, Fact.ACCEPTED) == "done"
    assert await desk.status(sent) == {JANE_AT: status}


@pytest.mark.proves("F-S08", "F-S03")
@pytest.mark.parametrize(
    ("action", "code", "status"), [("failed", "5.1.1", "not_delivered"), ("delivered", "2.0.0", "delivered")]
)
async def test_report_settles_a_doubt(desk: Desk, action: str, code: str, status: str) -> None:
    sent = await answered(desk, accept=False)
    assert await desk.finish(await desk.claim(sent), Fact.IN_DOUBT) == "doubt"
    assert await desk.status(sent) == {JANE_AT: "delayed"}
    await desk.receive(dsn(sent.return_address(), (JANE_AT, action, code)))
    assert await desk.status(sent) == {JANE_AT: status}
    assert [row["state"] for row in await desk.rows(schema.outbox)] == ["done"]


@pytest.mark.proves("F-S03", "R5.5")
@pytest.mark.parametrize(("sender", "status"), [(JANE, "sent"), (MALLORY, "delayed")])
async def test_reply_of_the_customer_settles_a_doubt_and_nobody_elses(desk: Desk, sender: str, status: str) -> None:
    sent = await answered(desk, accept=False)
    await desk.finish(await desk.claim(sent), Fact.IN_DOUBT)
    await desk.receive(letter(sender, In_Reply_To=f"<{sent.header}>"))
    assert await desk.status(sent) == {JANE_AT: status}


@pytest.mark.proves("F-S07", "R2.4")
async def test_bounce_in_plain_words_counts_by_its_return_address(desk: Desk) -> None:
    sent = await answered(desk, JANE_AT, BOB_AT)
    came = await desk.receive(legacy_bounce(sent.return_address(), BOB_AT))
    assert is_evidence_only(came)
    assert await desk.status(sent) == {JANE_AT: "sent", BOB_AT: "not_delivered"}
    other = await desk.receive(legacy_bounce(DESK, JANE_AT))
    assert is_evidence_only(other)
    assert "claims to be" in other.ledger["reason"]
    assert (await desk.status(sent))[JANE_AT] == "sent"


@pytest.mark.proves("R2.4", "F-S07")
async def test_bounce_that_nobody_can_read_stands_aside_in_its_ticket(desk: Desk) -> None:
    """No report by its form, but it came to the signed return address: the agent sees it, no customer is made of it."""
    sent = await answered(desk)
    raw = letter("postmaster@odd.test", to=sent.return_address(), subject="Hmm", text="Something was odd.")
    came = await desk.receive(b"Return-Path: <>\r\n" + raw)
    assert came.ticket
    assert came.message
    assert came.ticket["id"] == sent.ticket_id
    assert came.message["is_held_aside"]
    assert len(await desk.rows(schema.ticket)) == 1


@pytest.mark.proves("R2.4", "R5.1")
async def test_read_receipt_means_read(desk: Desk) -> None:
    sent = await answered(desk)
    assert is_evidence_only(await desk.receive(mdn(DESK, sent.header)))
    assert await desk.status(sent) == {JANE_AT: "read"}
    stranger = await answered(desk)
    came = await desk.receive(mdn(DESK, stranger.header, recipient="eve@evil.test", sender=MALLORY))
    assert is_evidence_only(came)
    assert await desk.status(stranger) == {JANE_AT: "sent"}


@pytest.mark.proves("R2.4", "R5.11")
async def test_complaint_suppresses_the_address(desk: Desk) -> None:
    sent = await answered(desk)
    assert is_evidence_only(await desk.receive(complaint(sent.return_address(), sent.header)))
    assert await desk.status(sent) == {JANE_AT: "sent"}
    (row,) = await desk.db.read(deliveries.of_message, sent.message_id)
    assert row["detail"] == "complaint"
    assert [bool(row["suppressed_at"]) for row in await desk.rows(schema.identity)] == [True]


@pytest.mark.proves("R5.11")
@pytest.mark.parametrize(
    ("road", "action", "code", "is_suppressed"),
    [
        ("return address", "failed", "5.1.1", True),
        ("envelope id", "failed", "5.1.1", True),
        ("our Message-ID", "failed", "5.1.1", False),  # anybody who saw the mail can say that
        ("return address", "failed", "5.2.2", False),  # full: not for good
        ("return address", "delayed", "4.2.2", False),
    ],
)
async def test_dead_address_is_suppressed_until_it_writes(
    desk: Desk, road: str, action: str, code: str, is_suppressed: bool
) -> None:
    sent = await answered(desk)
    await desk.receive(ROADS[road](sent, action, code))
    (row,) = await desk.rows(schema.identity)
    assert bool(row["suppressed_at"]) is is_suppressed
    assert bool(row["suppressed_why"]) is is_suppressed
    await desk.receive(letter())
    (row,) = await desk.rows(schema.identity)
    assert row["suppressed_at"] is None


@pytest.mark.proves("F-S10", "R2.4")
async def test_automatic_answer_to_nothing_is_skipped_with_its_reason(desk: Desk) -> None:
    raw = letter(subject="Out of office", Auto_Submitted="auto-replied", In_Reply_To="<gone@nowhere.test>")
    came = await desk.receive(raw)
    assert came.settled.outcome == "skipped"
    assert "automatic answer to nothing of ours" in came.ledger["reason"]
    assert "auto-replied" in came.ledger["reason"].lower()
    assert not await desk.rows(schema.ticket)
    assert came.ledger["raw_digest"], "its bytes are kept"


@pytest.mark.proves("F-S10")
async def test_out_of_office_to_the_return_address_reopens_nothing(desk: Desk) -> None:
    sent = await answered(desk)
    await desk.set_status(sent.ticket_id, "resolved")
    before = await desk.ticket(sent.ticket_id)
    came = await desk.receive(letter(to=sent.return_address(), subject="Away", Auto_Submitted="auto-replied"))
    assert came.message
    assert came.message["is_quiet"]
    assert await desk.ticket(sent.ticket_id) == before
    assert await desk.status(sent) == {JANE_AT: "sent"}


@pytest.mark.proves("R5.8", "F-S07")
async def test_bounce_reopens_the_ticket_and_tells_the_agent_once(desk: Desk) -> None:
    sent = await answered(desk)
    assert (await desk.ticket(sent.ticket_id))["status"] == "answered"
    for _ in range(2):
        await desk.receive(dsn(sent.return_address(), (JANE_AT, "failed", "5.1.1")))
    row: dict[str, Any] = await desk.ticket(sent.ticket_id)
    assert (row["status"], row["delivery_status"]) == ("open", "not_delivered")
    told = [event for event in await desk.rows(schema.event) if event["kind"] == "answer.not_delivered"]
    assert [event["data"]["agent_id"] for event in told] == [desk.agent_id]
