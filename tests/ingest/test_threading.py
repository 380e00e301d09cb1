"""Into which ticket a mail goes: evidence, trust, tricks with addresses and headers (R3.1 to R3.3, T-A01 to T-A14)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.store import schema
from gateway.normalize import tokens
from tests.ingest.desk import KEYS, Came, Desk, Sent, open_desk
from tests.ingest.letters import DESK, JANE, MALLORY, letter


async def ask(desk: Desk, **letter_fields: Any) -> tuple[Came, Sent]:
    """Jane asks, and we answer."""
    first = await desk.receive(letter(**letter_fields))
    assert first.ticket is not None
    return first, await desk.answer(first.ticket["id"])


def signs(first: Came, sent: Sent) -> dict[str, dict[str, str]]:
    """What a mail may carry that points to the ticket."""
    assert first.message is not None
    assert first.ticket is not None
    theirs = first.message["message_id_header"]
    return {
        "reply_address": {"to": sent.reply_address()},
        "delivered_to": {"Delivered_To": sent.reply_address()},
        "return_address": {"to": sent.return_address()},
        "our_message_id": {"In_Reply_To": f"<{sent.header}>"},
        "our_message_id_in_references": {"References": f"<a@b.test> <{sent.header}>"},
        "in_reply_to": {"In_Reply_To": f"<{theirs}>"},
        "references": {"References": f"<{theirs}> <unknown@customer.test>"},
        "subject_code": {"subject": f"Re: [{first.ticket['code']}] Where is my order?"},
        "nothing": {},
    }


STORES = ("sqlite",)
SIGNED = ("reply_address", "delivered_to", "return_address", "our_message_id", "our_message_id_in_references")
HEADERS = ("in_reply_to", "references")
HINTS = ("subject_code", "nothing")


@pytest.mark.proves("R3.1", "R3.2", "T-A01")
@pytest.mark.parametrize("sign", [*SIGNED, *HEADERS, *HINTS])
async def test_mail_of_a_participant_joins_by_a_token_or_a_known_id_and_by_nothing_else(desk: Desk, sign: str) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    came = await desk.receive(letter(**signs(first, sent)[sign]))
    assert came.message
    assert came.ticket
    if sign in HINTS:
        assert came.ticket["id"] != first.ticket["id"]
        return
    assert came.ticket["id"] == first.ticket["id"]
    assert came.ticket["status"] == "open"
    assert not came.message["is_held_aside"]
    assert came.message["threading"]["sureness"] == ("certain" if sign in SIGNED else "likely")
    assert came.message["sender_state"] == "not_verified"
    assert came.message["threading"]["words"]


@pytest.mark.proves("R3.1", "R3.2", "T-A01", "T-A02", "T-A03")
@pytest.mark.parametrize("sign", [*SIGNED, *HEADERS, *HINTS])
@pytest.mark.parametrize("passed", ["evil.test", None])
async def test_stranger_never_joins_whatever_the_mail_carries(desk: Desk, sign: str, passed: str | None) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    before = await desk.ticket(first.ticket["id"])
    came = await desk.receive(letter(MALLORY, passed=passed, **signs(first, sent)[sign]))
    assert came.message
    assert came.ticket
    after = await desk.ticket(first.ticket["id"])
    assert after == before, "a stranger changed the ticket"
    assert await desk.people(first.ticket["id"]) == {"jane@customer.test": True}
    if sign in SIGNED:
        assert came.ticket["id"] == first.ticket["id"]
        assert came.message["is_held_aside"]
        assert came.message["threading"]["sureness"] == "hint"
        kinds = [row["kind"] for row in await desk.rows(schema.event) if row["message_id"] == came.message["id"]]
        assert kinds == ["message.held_aside"]
    else:
        assert came.ticket["id"] != first.ticket["id"]
        hint = (first.ticket["id"], "may_belong") if sign != "nothing" else (None, None)
        assert (came.ticket["linked_ticket_id"], came.ticket["link_kind"]) == hint


@pytest.mark.proves("T-A01", "T-A02", "T-A03", "F-S10")
@pytest.mark.parametrize("sign", [*SIGNED, *HEADERS, *HINTS])
async def test_automatic_answer_of_a_stranger_is_held_aside_or_skipped(desk: Desk, sign: str) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    before = await desk.ticket(first.ticket["id"])
    fields = {"subject": "Automatic reply: Where is my order?"} | signs(first, sent)[sign]
    came = await desk.receive(letter(MALLORY, Auto_Submitted="auto-replied", **fields))
    assert await desk.ticket(first.ticket["id"]) == before
    assert len(await desk.rows(schema.ticket)) == 1, "an automatic answer opened a ticket"
    if sign in HINTS:
        assert came.settled.outcome == "skipped"
        assert "automatic answer" in came.ledger["reason"]
    else:
        assert came.message
        assert came.message["is_held_aside"]
        assert came.message["is_quiet"]


@pytest.mark.proves("F-S10", "R2.4")
@pytest.mark.parametrize("sign", [*SIGNED, *HEADERS])
@pytest.mark.parametrize("status", ["open", "closed"])
async def test_out_of_office_of_a_participant_is_a_quiet_entry(desk: Desk, sign: str, status: str) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    await desk.set_status(first.ticket["id"], status)
    before = await desk.ticket(first.ticket["id"])
    fields = {"subject": "Out of office"} | signs(first, sent)[sign]
    came = await desk.receive(letter(Auto_Submitted="auto-replied", **fields))
    assert came.message
    assert came.message["is_quiet"]
    assert not came.message["is_held_aside"]
    assert came.message["threading"]["evidence"] != "none", "the explanation has to say why it stands here"
    assert await desk.ticket(first.ticket["id"]) == before
    assert await desk.status(sent) == {"jane@customer.test": "scheduled"}


@pytest.mark.proves("R3.1", "R3.2")
async def test_strongest_sign_wins_and_the_others_are_named(desk: Desk) -> None:
    first, sent = await ask(desk)
    other, _ = await ask(desk, subject="Another matter")
    assert first.ticket
    assert other.message
    came = await desk.receive(
        letter(to=sent.reply_address(), In_Reply_To=f"<{other.message['message_id_header']}>", subject="Re: it")
    )
    assert came.ticket
    assert came.message
    assert came.ticket["id"] == first.ticket["id"]
    assert came.message["threading"]["evidence"] == "reply_address"
    assert "other ticket" in came.message["threading"]["words"]


@pytest.mark.proves("R3.1")
async def test_outlook_thread_index_joins_a_participant(desk: Desk) -> None:
    index = "AdoLhrWkZLm8kPdbQ0u7n5YB2F1c7w=="
    first = await desk.receive(letter(Thread_Index=index))
    came = await desk.receive(letter(Thread_Index="AdoLhrWkZLm8kPdbQ0u7n5YB2F1c7wABAgME"))
    stranger = await desk.receive(letter(MALLORY, Thread_Index=index))
    assert first.ticket
    assert came.ticket
    assert came.message
    assert stranger.ticket
    assert came.ticket["id"] == first.ticket["id"]
    assert came.message["threading"]["evidence"] == "thread_index"
    assert stranger.ticket["link_kind"] == "may_belong"


@pytest.mark.proves("T-A03")
async def test_token_of_another_ticket_is_held_aside_there(desk: Desk) -> None:
    """Jane's own token opens nothing of Bob's, and Bob's token in her hands changes nothing in his ticket."""
    jane, _ = await ask(desk)
    bob, to_bob = await ask(desk, sender="bob@other.test")
    assert jane.ticket
    assert bob.ticket
    came = await desk.receive(letter(to=to_bob.reply_address()))
    assert came.message
    assert came.message["is_held_aside"]
    assert came.message["ticket_id"] == bob.ticket["id"]
    assert await desk.people(bob.ticket["id"]) == {"bob@other.test": True}


@pytest.mark.proves("T-A03")
@pytest.mark.parametrize("change", ["upper", "title", "cut", "flipped", "doubled", "other purpose"])
async def test_token_survives_case_folding_and_nothing_else(desk: Desk, change: str) -> None:
    first, sent = await ask(desk)
    address = sent.reply_address()
    tag = address.partition("+")[2].partition("@")[0]
    changed = {
        "upper": tag.upper(),
        "title": tag.title(),
        "cut": tag[:-1],
        "flipped": tag[:-3] + ("b" if tag[-3] == "a" else "a") + tag[-2:],
        "doubled": tag + tag,
        "other purpose": "m" + tag[1:],
    }[change]
    came = await desk.receive(letter(to=f"support+{changed}@desk.test"))
    assert came.ticket
    assert first.ticket
    assert (came.ticket["id"] == first.ticket["id"]) == (change in ("upper", "title"))


@pytest.mark.proves("R3.3")
@pytest.mark.parametrize(
    ("status", "days", "is_joined"),
    [
        ("closed", 13, True), ("resolved", 13, True), ("closed", 15, False), ("resolved", 15, False),
        ("postponed", 400, True), ("spam", 400, True), ("deleted", 1, False),
    ],
)  # fmt: skip
async def test_reply_reopens_within_the_days_and_is_linked_after(
    desk: Desk, status: str, days: int, is_joined: bool
) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    await desk.set_status(first.ticket["id"], status)
    before = await desk.ticket(first.ticket["id"])
    desk.now += timedelta(days=days)
    came = await desk.receive(letter(to=sent.reply_address()))
    assert came.ticket
    if is_joined:
        assert came.ticket["id"] == first.ticket["id"]
        assert came.ticket["status"] == ("spam" if status == "spam" else "open")
        assert came.ticket["closed_at"] is None
    else:
        assert came.ticket["id"] != first.ticket["id"]
        assert (came.ticket["linked_ticket_id"], came.ticket["link_kind"]) == (first.ticket["id"], "follow_up")
        assert await desk.ticket(first.ticket["id"]) == before


UNCLEAR = [
    [JANE, MALLORY],
    ["Jane <jane@customer.test>, Mallory <mallory@evil.test>"],
    ["jane@customer.test <mallory@evil.test> <jane@customer.test>"],
    ["Friends: jane@customer.test;"],
    [""],
]


@pytest.mark.proves("T-A07")
@pytest.mark.parametrize("senders", UNCLEAR)
async def test_unclear_sender_is_a_fresh_contact_that_never_joins(desk: Desk, senders: list[str]) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    before = await desk.ticket(first.ticket["id"])
    came = await desk.receive(letter(senders, to=sent.reply_address(), passed="customer.test"))
    assert came.message
    assert came.message["sender_state"] == "unclear"
    assert came.message["is_held_aside"]
    assert came.message["contact_id"] is None
    assert await desk.ticket(first.ticket["id"]) == before

    alone = await desk.receive(letter(senders, passed="customer.test"))
    assert alone.ticket
    assert alone.ticket["contact_id"] != first.ticket["contact_id"]
    assert not any((await desk.people(alone.ticket["id"])).values()), "an unclear sender was confirmed"


@pytest.mark.proves("T-A14")
@pytest.mark.parametrize("address", [DESK, "Support@Desk.Test", "support+anything@desk.test", "help@desk.test"])
async def test_mail_that_claims_to_be_ours_is_never_trusted(store: Any, address: str) -> None:
    desk = await open_desk(store, aliases=("help@desk.test",))
    first, sent = await ask(desk)
    assert first.ticket
    for fields in ({}, {"to": sent.reply_address()}, {"X_Gatehouse_Loop": sent.loop_marker()}):
        came = await desk.receive(letter(f"Support <{address}>", passed="desk.test", **fields))
        assert came.settled.outcome == "ticketed"
        assert came.message
        assert came.message["sender_state"] == "unclear"
        assert "claims-our-address" in came.message["warnings"]
        assert came.message["is_held_aside"] or came.message["ticket_id"] != first.ticket["id"]
    assert address not in [row["address"] for row in await desk.rows(schema.identity) if "unclear" not in row["key"]]


AUTHENTICATION = [
    ("nothing", [], "not_verified"),
    ("ours passes", ["mx.desk.test; dmarc=pass header.from=customer.test"], "verified"),
    ("ours passes, other case", ["MX.Desk.Test; DMARC=Pass header.from=Customer.Test"], "verified"),
    ("ours with a version", ["mx.desk.test 1; dmarc=pass header.from=customer.test"], "verified"),
    ("dkim of the same domain", ["mx.desk.test; dkim=pass header.d=customer.test"], "verified"),
    ("dkim of another domain", ["mx.desk.test; dkim=pass header.d=evil.test"], "not_verified"),
    ("dmarc of another domain", ["mx.desk.test; dmarc=pass header.from=evil.test"], "not_verified"),
    ("spf alone", ["mx.desk.test; spf=pass smtp.mailfrom=jane@customer.test"], "not_verified"),
    ("ours fails", ["mx.desk.test; dmarc=fail header.from=customer.test"], "not_verified"),
    ("somebody else's", ["mx.evil.test; dmarc=pass header.from=customer.test"], "not_verified"),
    (
        "forged below ours",
        ["mx.desk.test; dmarc=fail", "mx.desk.test; dmarc=pass header.from=customer.test"],
        "not_verified",
    ),
    ("pass in a comment", ["mx.desk.test; dmarc=fail (dmarc=pass header.from=customer.test)"], "not_verified"),
    ("pass in a quoted reason", ['mx.desk.test; dmarc=fail reason="x; dmarc=pass"'], "not_verified"),
    ("dmarc without saying whose", ["mx.desk.test; dmarc=pass (p=none)"], "verified"),
    ("dkim without saying whose", ["mx.desk.test; dkim=pass"], "not_verified"),
    ("not legible", ["mx.desk.test; dmarc=pass;;= header.from=customer.test ="], "not_verified"),
    ("a longer name", ["mx.desk.test.evil.test; dmarc=pass header.from=customer.test"], "not_verified"),
    ("none", ["mx.desk.test; none"], "not_verified"),
]


@pytest.mark.proves("T-A08", "R3.1")
@pytest.mark.parametrize(("_name", "values", "state"), AUTHENTICATION, ids=[row[0] for row in AUTHENTICATION])
async def test_only_the_border_host_says_who_is_verified(desk: Desk, _name: str, values: list[str], state: str) -> None:
    lines = "".join(f"Authentication-Results: {value}\r\n" for value in values).encode()
    raw = lines + letter()
    came = await desk.receive(raw)
    assert came.message
    assert came.message["sender_state"] == state
    unset = await desk.receive(lines + letter(), authserv_id=None)
    assert unset.message
    assert unset.message["sender_state"] == "unknown"


@pytest.mark.proves("T-A05")
@pytest.mark.parametrize(("passed", "is_confirmed"), [("customer.test", True), ("evil.test", False), (None, False)])
async def test_copied_address_takes_part_only_on_an_authenticated_word(
    desk: Desk, passed: str | None, is_confirmed: bool
) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    for to in (DESK, sent.reply_address()):
        came = await desk.receive(letter(to=to, passed=passed, Cc="Eve <eve@evil.test>, support+x@desk.test"))
        assert came.ticket
        people = await desk.people(came.ticket["id"])
        assert people == {"jane@customer.test": True, "eve@evil.test": is_confirmed}
        by_eve = await desk.receive(letter("eve@evil.test", In_Reply_To=f"<{sent.header}>"))
        assert by_eve.message
        if to != DESK:
            assert by_eve.message["is_held_aside"] is not is_confirmed


@pytest.mark.proves("T-A05", "T-A03")
async def test_stranger_with_a_token_brings_nobody_along(desk: Desk) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    await desk.receive(letter(MALLORY, to=sent.reply_address(), passed="evil.test", Cc="eve@evil.test"))
    assert await desk.people(first.ticket["id"]) == {"jane@customer.test": True}


@pytest.mark.proves("T-A06")
@pytest.mark.parametrize(
    ("reply_to", "goes_to"),
    [
        ("mallory@evil.test", "jane@customer.test"),
        ("office@customer.test", "office@customer.test"),
        ("a@customer.test, b@customer.test", "jane@customer.test"),
        ("jane@customer.test.evil.test", "jane@customer.test"),
    ],
)
async def test_reply_to_of_another_domain_is_shown_and_not_followed(desk: Desk, reply_to: str, goes_to: str) -> None:
    first, sent = await ask(desk, Reply_To=reply_to)
    assert first.message
    assert first.ticket
    assert first.message["from_address"] == "jane@customer.test"
    assert ", ".join(one["address"] for one in first.message["reply_to"]) == reply_to
    assert list(await desk.status(sent)) == [goes_to]


@pytest.mark.proves("T-A11", "R1.4")
async def test_other_content_under_a_used_message_id_is_a_message_of_its_own(desk: Desk) -> None:
    early = await desk.receive(letter(MALLORY, message_id="next@customer.test", text="I was first"))
    came = await desk.receive(letter(message_id="next@customer.test", text="the real one"))
    assert early.settled.outcome == came.settled.outcome == "ticketed"
    assert early.message
    assert came.message
    assert came.ticket
    assert came.message["text"].strip() == "the real one"
    assert "message-id-reused" in came.message["warnings"]
    assert "message-id-reused" not in early.message["warnings"]
    # what names that id leads each writer only to where they take part
    for sender, message in ((JANE, came.message), (MALLORY, early.message)):
        more = await desk.receive(letter(sender, In_Reply_To="<next@customer.test>"))
        assert more.message
        assert more.message["ticket_id"] == message["ticket_id"]


@pytest.mark.proves("R3.1", "T-A01")
async def test_five_thousand_references_cost_little_and_the_newest_count(desk: Desk) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    for count, more in ((2000, {}), (5000, {"In_Reply_To": f"<{sent.header}>"})):
        many = [f"<x{number}@evil.test>" for number in range(count)]
        field = "\r\n ".join([*many, f"<{sent.header}>"])
        came = await desk.receive(letter(References=field, **more))
        assert came.ticket
        assert came.message
        assert came.ticket["id"] == first.ticket["id"]
        assert len(came.message["references"]) <= 50


LOOK_ALIKES = [
    "jane@customer.test",
    "\u0131ane@customer.test",  # dotless i
    "jane@customer.test.evil.test",
    "\uff4aane@customer.test",  # full width j
    "jane+tag@customer.test",
    "j.ane@customer.test",
    "jan\u0435@customer.test",  # Cyrillic
    "\u212aate@customer.test",  # the kelvin sign
    "kate@customer.test",
    "\u017fam@customer.test",  # long s
    "sam@customer.test",
    "jane@custom\u0435r.test",
    "stra\u00dfe@customer.test",
    "strasse@customer.test",
    "\ufb01@customer.test",  # the ligature
    "fi@customer.test",
]


@pytest.mark.proves("T-A12")
async def test_addresses_that_look_alike_stay_different_contacts(desk: Desk) -> None:
    found = {}
    for address in LOOK_ALIKES:
        came = await desk.receive(letter(f"<{address}>"))
        assert came.ticket
        found[address] = came.ticket["contact_id"]
    assert len(set(found.values())) == len(LOOK_ALIKES)
    for same in ("JANE@CUSTOMER.TEST", "Jane@Customer.Test."):
        came = await desk.receive(letter(f"<{same}>"))
        assert came.ticket
        assert came.ticket["contact_id"] == found["jane@customer.test"]
    stored = {row["contact_id"]: row["address"] for row in await desk.rows(schema.identity)}
    assert stored[found["jane@customer.test"]] == "jane@customer.test", "the address as first seen is written to"


@pytest.mark.proves("T-A10")
@pytest.mark.parametrize("name", ["X-Ticket", "X-Gatehouse-Ticket", "X-Agent", "X-Priority", "X-Gatehouse-Loop"])
async def test_no_header_of_a_stranger_steers_anything(desk: Desk, name: str) -> None:
    first, _ = await ask(desk)
    assert first.ticket
    before = await desk.ticket(first.ticket["id"])
    came = await desk.receive(letter(MALLORY, **{name.replace("-", "_"): f"{first.ticket['code']} closed l{'a' * 44}"}))
    assert came.settled.outcome == "ticketed"
    assert came.ticket
    assert came.ticket["id"] != first.ticket["id"]
    assert came.ticket["linked_ticket_id"] is None
    assert await desk.ticket(first.ticket["id"]) == before


@pytest.mark.proves("T-A03")
async def test_token_of_another_house_means_nothing(desk: Desk) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    token = tokens.of_address(sent.reply_address(), KEYS.tokens, tokens.Purpose.REPLY)
    assert token is not None
    forged = tokens.sign(token, b"another key")
    came = await desk.receive(letter(to=tokens.plus_address(DESK, forged)))
    assert came.ticket
    assert came.ticket["id"] != first.ticket["id"]


@pytest.mark.proves("T-A03", "R3.1")
async def test_signed_token_of_a_ticket_of_another_channel_leads_nowhere(desk: Desk) -> None:
    first, sent = await ask(desk)
    assert first.ticket
    ghost = Sent(message_id=0, header="", nonce=sent.nonce, ticket_id=10**9)
    for to in (ghost.reply_address(), ghost.return_address()):
        came = await desk.receive(letter(to=to))
        assert came.ticket
        assert came.ticket["id"] != first.ticket["id"]
        assert came.ticket["linked_ticket_id"] is None


@pytest.mark.proves("T-B08")
async def test_mail_that_went_round_is_kept_and_flagged(desk: Desk) -> None:
    hops = b"".join(b"Received: from a by b; Mon, 2 Mar 2026 10:00:00 +0000\r\n" for _ in range(51))
    came = await desk.receive(hops + letter())
    assert came.message
    assert "mail-loop" in came.message["warnings"]


@pytest.mark.proves("R2.4")
async def test_newsletter_is_an_ordinary_ticket_that_nothing_answers_by_itself(desk: Desk) -> None:
    came = await desk.receive(
        letter("News <news@shop.test>", List_Id="<news.shop.test>", Precedence="bulk", List_Unsubscribe="<mailto:u@x>")
    )
    assert came.settled.outcome == "ticketed"
    assert came.message
    assert not came.message["is_quiet"]
    assert came.message["automatic"]["may_answer"] is False


@pytest.mark.proves("R3.2", "R2.3")
async def test_quoted_words_of_ours_are_told_from_the_new_ones(desk: Desk) -> None:
    first = await desk.receive(letter())
    assert first.ticket
    sent = await desk.answer(first.ticket["id"], text="Your parcel left on Monday.\nIt needs three days.")
    text = "Thank you!\n\nYour parcel left on Monday.\nIt needs three days.\n"
    came = await desk.receive(letter(In_Reply_To=f"<{sent.header}>", text=text))
    assert came.message
    assert came.message["reply_text"].strip() == "Thank you!"
    assert came.message["text"].strip() == text.strip()


@pytest.mark.proves("T-A12")
@pytest.mark.parametrize(
    ("domain", "is_told"), [("customer.test", False), ("b\u00fccher.test", False), ("ex\u0430mple.test", True)]
)
async def test_sender_with_a_look_alike_domain_is_told(desk: Desk, domain: str, is_told: bool) -> None:
    came = await desk.receive(letter(f"jane@{domain}"))
    assert came.message is not None
    assert ("sender-look-alike" in came.message["warnings"]) is is_told
