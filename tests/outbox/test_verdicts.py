"""Delivery reports in plain words (R5.6): true for every verdict, safe against what servers write."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.delivery import Detail, Evidence, Fact, Status, status_of
from core.review import OBJECTIONS
from gateway.normalize.bounce_reasons import REASONS
from gateway.outbox.verdicts import (
    ALSO_CALLED,
    NO_REASON,
    SIDE_TEXTS,
    WHAT,
    WHY,
    Action,
    Reader,
    Report,
    Side,
    clean_reply,
    explain,
    why_held,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADDRESS = "customer@example.test"
JARGON = re.compile(r"\b(SMTP|DSN|MX|SPF|DKIM|DMARC|TLS|envelope|bounce|deferred|recipient|5\d\d|4\d\d)\b")


def report(*evidence: Evidence, reader: Reader = "agent", recipient: str = ADDRESS) -> Report:
    return explain(status_of(evidence), evidence, recipient=recipient, reader=reader)


def refused(reason: str = "", **more: object) -> Evidence:
    return Evidence(fact=Fact.REFUSED, attempt=1, reason=reason, code=550, **more)  # type: ignore[arg-type]  # fields


@pytest.mark.proves("R5.6")
@pytest.mark.parametrize(
    ("fact", "reason", "side", "action", "words"),
    [
        (Fact.REFUSED, "no_such_mailbox", Side.ADDRESS, Action.CORRECT_ADDRESS, "customer@example.test does not exist"),
        (
            Fact.DSN_FAILED,
            "no_such_domain",
            Side.ADDRESS,
            Action.CORRECT_ADDRESS,
            "came back undelivered: example.test",
        ),
        (Fact.DSN_FAILED, "mailbox_full", Side.THEIRS, Action.SEND_AGAIN, "is full"),
        (Fact.REFUSED, "too_big", Side.CONTENT, Action.SEND_AS_LINK, "larger"),
        (Fact.REFUSED, "content_refused", Side.CONTENT, Action.SEND_AS_LINK, "not allowed"),
        (Fact.DSN_FAILED, "spam", Side.CONTENT, Action.OTHER_ROAD, "filter"),
        (Fact.REFUSED, "policy", Side.THEIRS, Action.TELL_ADMIN, "rules"),
        (Fact.REFUSED, "authentication_ours", Side.OURS, Action.TELL_ADMIN, "could not prove"),
        (Fact.REFUSED, "spam_suspected", Side.CONTENT, Action.OTHER_ROAD, "filter"),
        (Fact.DSN_FAILED, "owner_changed", Side.ADDRESS, Action.CORRECT_ADDRESS, "somebody else"),
        (Fact.REFUSED, "other", Side.UNKNOWN, Action.SEND_AGAIN, "no reason that we can read"),
        (Fact.REFUSED, "loop", Side.THEIRS, Action.OTHER_ROAD, "circles"),
        (Fact.REFUSED, "a_word_of_next_year", Side.UNKNOWN, Action.SEND_AGAIN, "no reason that we can read"),
        (Fact.REFUSED, "", Side.UNKNOWN, Action.OTHER_ROAD, "refused the message"),
        (Fact.DEFERRED, "greylisted", Side.THEIRS, Action.WAIT, "wait for some minutes"),
        (Fact.DEFERRED, "no_such_domain", Side.ADDRESS, Action.CORRECT_ADDRESS, "not take the message yet"),
        (Fact.DEFERRED, "", Side.THEIRS, Action.WAIT, "try again later"),
        (Fact.UNREACHABLE, "", Side.THEIRS, Action.WAIT, "did not answer"),
        (Fact.DSN_DELAYED, "unreachable", Side.THEIRS, Action.WAIT, "still on its way"),
        (Fact.CHANNEL_FAULT, "login_ours", Side.OURS, Action.TELL_ADMIN, "login"),
        (Fact.CHANNEL_FAULT, "", Side.OURS, Action.CANCEL, "our own account"),
        (Fact.IN_DOUBT, "", Side.UNKNOWN, Action.MARK_AS_SENT, "not certain"),
        (Fact.HELD, "", Side.OURS, Action.RELEASE, "held back"),
        (Fact.HELD, "ticket_moved", Side.OURS, Action.CANCEL, "went to another department"),
        (Fact.GAVE_UP, "", Side.UNKNOWN, Action.SEND_AGAIN, "every try failed"),
    ],
)
def test_report_names_what_happened_whose_side_and_what_helps(
    fact: Fact, reason: str, side: Side, action: Action, words: str
) -> None:
    told = report(Evidence(fact=fact, attempt=1, reason=reason))
    assert words in told.headline
    assert told.side is side
    assert action in told.actions


@pytest.mark.proves("F-S16")
def test_every_reason_to_hold_a_planned_answer_has_words_of_its_own() -> None:
    words = {reason: why_held(reason) for reason in (*OBJECTIONS, "customer_wrote_first", "held_by_agent")}
    assert all(words.values())
    assert len(set(words.values())) == len(words)
    assert why_held("a_word_of_next_year") == ""


@pytest.mark.proves("R5.6")
@pytest.mark.parametrize(
    ("trouble", "reason", "side"),
    [
        (Fact.UNREACHABLE, "", Side.THEIRS),
        (Fact.DEFERRED, "mailbox_full", Side.THEIRS),
        (Fact.CHANNEL_FAULT, "login_ours", Side.OURS),
    ],
)
def test_expiry_is_explained_by_the_last_trouble(trouble: Fact, reason: str, side: Side) -> None:
    told = report(
        Evidence(fact=Fact.DEFERRED, attempt=1, reason="greylisted"),
        Evidence(fact=trouble, attempt=2, reason=reason),
        Evidence(fact=Fact.GAVE_UP, reason="expired"),
    )
    assert "in the time allowed" in told.headline
    assert "some minutes" not in told.headline
    assert told.side is side


@pytest.mark.proves("R5.5", "R5.6")
def test_doubt_with_a_refused_second_try_tells_both() -> None:
    told = report(
        Evidence(fact=Fact.IN_DOUBT, attempt=1), Evidence(fact=Fact.REFUSED, attempt=2, reason="no_such_mailbox")
    )
    assert "not certain" in told.headline
    assert "Another try was refused: the address customer@example.test does not exist there." in told.what_to_do
    assert {Action.CORRECT_ADDRESS, Action.MARK_AS_SENT, Action.SEND_AGAIN} <= set(told.actions)


@pytest.mark.proves("R5.6")
def test_sent_copy_with_a_refused_second_copy_tells_of_the_refusal() -> None:
    first = Evidence(fact=Fact.ACCEPTED, attempt=1)
    again = Evidence(fact=Fact.SEND_AGAIN, round=2)
    second = Evidence(fact=Fact.REFUSED, attempt=1, round=2, reason="mailbox_full")
    assert "is full" in report(first, again, second).what_to_do
    assert report(first, again).what_to_do == "Nothing needs to be done."


@pytest.mark.proves("R5.6")
def test_report_of_the_round_answers_its_refused_try() -> None:
    told = report(refused("mailbox_full"), Evidence(fact=Fact.DSN_DELIVERED))
    assert told.what_to_do == "Nothing needs to be done."


@pytest.mark.proves("R5.6", "F-S05")
def test_hostile_words_are_cleaned_wherever_they_are_shown() -> None:
    hostile = "a\u202e\x1b[2Jb" + "c" * 10_000
    item = refused("no_such_mailbox", text=hostile, server=hostile, queue_id=hostile, enhanced=hostile)
    told = report(item, reader="owner", recipient=hostile)
    (raw,) = told.raw
    for shown in (told.headline, told.code, raw.text, raw.server, raw.queue_id, raw.enhanced or ""):
        assert len(shown) <= 500
        assert not {"\u202e", "\x1b"} & set(shown)


@pytest.mark.proves("R5.6")
@pytest.mark.parametrize(
    ("reader", "can_reconnect", "can_tell"), [("agent", False, True), ("admin", True, False), ("owner", True, False)]
)
def test_only_those_who_can_are_offered_to_reconnect(reader: Reader, can_reconnect: bool, can_tell: bool) -> None:
    actions = report(Evidence(fact=Fact.CHANNEL_FAULT, attempt=1, reason="login_ours"), reader=reader).actions
    assert (Action.RECONNECT_ACCOUNT in actions, Action.TELL_ADMIN in actions) == (can_reconnect, can_tell)


@pytest.mark.proves("R5.6", "R5.8")
def test_raw_evidence_is_for_admins_and_owners_oldest_first_and_agents_never_see_it() -> None:
    canary = "internal-host.example.test said 550 canary"
    later = refused("policy", at=NOON + timedelta(hours=1), text=canary, enhanced="5.7.1")
    earlier = Evidence(fact=Fact.DEFERRED, attempt=1, at=NOON, text="busy", code=450)
    for reader in get_args(Reader):
        told = report(later, earlier, later, reader=reader)
        assert (canary in repr(told)) is (reader != "agent")
        assert told.code == "550 5.7.1"
    assert [item.text for item in report(later, earlier, reader="owner").raw] == ["busy", canary]


@pytest.mark.proves("R5.6")
def test_every_detail_and_reason_reads_as_sentences_without_jargon() -> None:
    assert set(WHAT) == set(Detail)
    assert set(SIDE_TEXTS) == set(Side)
    for detail, reason in product(WHAT, [*WHY, ""]):
        what = WHAT[detail]
        clause = WHY[reason].clause if reason else NO_REASON.get(detail, "")
        texts = [what.headline, what.what_to_do, clause, *([WHY[reason].what_to_do] if reason else [])]
        assert not any(JARGON.search(re.sub(r"\{\w+\}", "", text)) for text in texts), (detail, reason)
        assert what.headline.endswith(".")
        assert what.what_to_do.endswith(".")
        assert ("{why}" in what.headline) is what.heeds_reason


@pytest.mark.proves("R5.6")
def test_every_reason_that_a_bounce_can_have_has_words() -> None:
    assert set(REASONS) - set(WHY) == {"other"}
    assert set(ALSO_CALLED.values()) <= set(WHY)


EVIDENCE = st.builds(
    Evidence,
    fact=st.sampled_from(Fact),
    round=st.integers(1, 2),
    attempt=st.integers(0, 3),
    at=st.none() | st.datetimes() | st.datetimes(timezones=st.timezones()),
    code=st.none() | st.integers(),
    enhanced=st.none() | st.text(max_size=30),
    text=st.text(),
    reason=st.sampled_from([*WHY, "unknown", "{why}", ""]),
)


@pytest.mark.proves("R5.6", "F-S05")
@given(st.lists(EVIDENCE, max_size=5), st.text(), st.sampled_from(get_args(Reader)))
def test_any_evidence_and_any_recipient_have_a_report(items: list[Evidence], recipient: str, reader: Reader) -> None:
    told = explain(status_of(items), items, recipient=recipient, reader=reader)
    assert told.headline
    assert told.what_to_do
    assert told.side_text
    assert told == explain(status_of(items), items[::-1], recipient=recipient, reader=reader)


@pytest.mark.proves("R5.6")
def test_braces_in_an_address_fill_nothing() -> None:
    told = report(refused("no_such_mailbox"), recipient="{why}{0.__class__}@{domain}")
    assert "{why}{0.__class__}@{domain} does not exist" in told.headline


@pytest.mark.proves("R5.6")
def test_translation_is_applied_before_the_words_are_filled_in() -> None:
    seen: list[str] = []

    def shout(template: str) -> str:
        seen.append(template)
        return f"«{template}»"

    item = refused("no_such_mailbox")
    told = explain(status_of([item]), [item], recipient=ADDRESS, reader="agent", translate=shout)
    assert told.headline == f"«The other side refused the message: «the address {ADDRESS} does not exist there».»"
    assert not any(ADDRESS in template for template in seen)


@pytest.mark.proves("F-S05", "T-O04")
@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        ("250 2.0.0 Ok: queued as 4F1\r\n", "250 2.0.0 Ok: queued as 4F1"),
        ("550-first\r\n550 second", "550-first 550 second"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("\x1b[31mred\x1b[0m \x00\x07\x9b", "[31mred [0m"),
        ("abc\u202edef\u2066\u200b", "abc def"),
        ("lone \ud800 half", "lone half"),
        ("línea añadida 已满", "línea añadida 已满"),
        ("", ""),
    ],
)
def test_reply_of_a_server_is_shown_as_one_clean_line(reply: str, shown: str) -> None:
    assert clean_reply(reply) == shown


@pytest.mark.proves("F-S04", "F-S05")
@given(st.text(max_size=200), st.integers(1, 50))
def test_cleaned_reply_is_never_longer_than_its_limit_and_cleaning_it_again_changes_nothing(
    text: str, limit: int
) -> None:
    shown = clean_reply(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable() or not shown.isascii()
    assert clean_reply(shown, limit) == shown


@pytest.mark.proves("F-S04", "F-S05")
def test_a_huge_reply_is_cut_and_costs_no_more_than_a_short_one() -> None:
    before = time.process_time()
    shown = clean_reply("250 queued as " + "x\x00" * 5_000_000)
    assert time.process_time() - before < 1.0
    assert len(shown) == 500
    assert shown.endswith("…")


def test_verdict_of_nothing_is_a_quiet_report() -> None:
    told = explain(status_of([]), [], recipient="", reader="owner")
    assert (told.side, told.raw, told.code) == (Side.NOBODY, (), "")
    assert status_of([]).status is Status.SCHEDULED
