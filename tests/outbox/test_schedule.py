"""When a delivery is tried again (R5.4), and what clocks and peers may do to it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbox.schedule import (
    MAX_RETRY_AFTER,
    Backoff,
    RetryPolicy,
    is_clock_jump,
    next_attempt_at,
    social_policy,
    survived,
    try_again_hint,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EMAIL = RetryPolicy()


def never() -> float:
    return 0.0


def always() -> float:
    return 1.0


def played(policy: RetryPolicy) -> list[timedelta]:
    """Return the waits of a delivery whose every attempt fails at once, without jitter."""
    now, waits = NOON, []
    for attempt in range(1, 10_000):
        due = next_attempt_at(policy, attempt=attempt, first_due_at=NOON, now=now, rng=never)
        if due is None:
            break
        waits.append(due - now)
        now = due
    return waits


@pytest.mark.proves("R5.4", "F-S13")
def test_email_is_tried_by_the_promised_steps_and_last_at_the_end_of_three_days() -> None:
    waits = played(EMAIL)
    assert [wait / MINUTE for wait in waits[:8]] == [0, 5, 15, 30, 60, 120, 240, 240]
    assert sum(waits, timedelta(0)) == timedelta(days=3)
    assert set(waits[6:-1]) == {timedelta(hours=4)}


@pytest.mark.proves("R5.4")
def test_social_waits_double_from_five_seconds_to_ten_minutes() -> None:
    waits = played(social_policy(timedelta(hours=1)))
    assert [wait.total_seconds() for wait in waits[:10]] == [0, 5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert sum(waits, timedelta(0)) == timedelta(hours=1)


@pytest.mark.proves("R5.4", "F-S11", "F-L01")
@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        (timedelta(seconds=1), timedelta(seconds=1)),
        (timedelta(hours=10), timedelta(hours=10)),
        (timedelta(days=400), MAX_RETRY_AFTER),
        (timedelta(seconds=-5), timedelta(0)),
    ],
)
def test_the_wait_that_the_peer_asks_for_wins_within_reason(asked: timedelta, wait: timedelta) -> None:
    due = next_attempt_at(EMAIL, attempt=3, first_due_at=NOON, now=NOON, retry_after=asked, rng=never)
    assert due == NOON + wait


@pytest.mark.proves("R5.4", "F-S13")
def test_asked_wait_beyond_the_window_ends_it_instead_of_disturbing_the_peer_earlier() -> None:
    late = NOON + timedelta(days=2, hours=20)
    due = next_attempt_at(EMAIL, attempt=9, first_due_at=NOON, now=late, retry_after=5 * MINUTE * 100, rng=never)
    assert due is None


@pytest.mark.proves("R5.9")
def test_first_attempt_of_a_scheduled_answer_waits_for_its_time() -> None:
    tomorrow = NOON + timedelta(days=1)
    assert next_attempt_at(EMAIL, attempt=1, first_due_at=tomorrow, now=NOON, rng=always) == tomorrow


@pytest.mark.proves("R5.4", "F-S12")
def test_jitter_only_lengthens_and_by_a_tenth_at_most() -> None:
    due = [
        next_attempt_at(EMAIL, attempt=7, first_due_at=NOON, now=NOON, rng=rng) for rng in (never, lambda: 0.5, always)
    ]
    assert due == [NOON + timedelta(hours=4) * share for share in (1, 1.05, 1.1)]


@pytest.mark.proves("R5.4", "F-T01", "F-T02")
@given(
    st.integers(-3, 10**9),
    st.datetimes(timezones=st.just(UTC)),
    st.datetimes(timezones=st.just(UTC)),
    st.none() | st.timedeltas(),
    st.floats(0, 1),
)
def test_no_attempt_is_due_in_the_past_or_after_the_window(
    attempt: int, first_due_at: datetime, now: datetime, retry_after: timedelta | None, chance: float
) -> None:
    due = next_attempt_at(
        EMAIL, attempt=attempt, first_due_at=first_due_at, now=now, retry_after=retry_after, rng=lambda: chance
    )
    if due is not None:
        assert due >= now
        assert due == datetime.max.replace(tzinfo=UTC) or due - first_due_at <= EMAIL.window


HINTS = {
    "450 4.2.0 <a@b.test>: Recipient address rejected: Greylisted, try again in 10 minutes": 600,
    "451 4.7.1 Greylisting in action, please come back in 00:04:59": 299,
    "450 4.7.1 Greylisted for 300 seconds (see http://help.example.test/?id=12)": 300,
    "451 Try again later, retry after 300 seconds": 300,
    "421 Too many messages. Please wait 2 hours before sending more": 7200,
    "Retry-After: 30s": 30,
    "please retry in 5 min": 300,
    "451 4.7.1 Please try again in 1 minute(s)": 60,
    "try again in 2.5 hours": 9000,
    "deferred for 05:30 more": 330,
    "try again after 12:30:00": None,
    "Wait 3 days": 86400,
    "try again in 9999999 days": 86400,
    "450 4.2.0 Greylisted": 300,
    "451 4.7.1 Graylisted, see http://postgrey.example.test/help/b.test.html": 300,
    "450 4.1.1 mailbox busy": None,
    "452 4.2.2 mailbox full, try again later": None,
    "we tried 3 times": None,
    "550 5.1.1 no such user": None,
    "": None,
    "-" * 2000 + "try again in 5 minutes": None,
}


@pytest.mark.proves("R5.4", "F-S11")
@pytest.mark.parametrize(("text", "seconds"), HINTS.items())
def test_hint_in_a_reply_is_read(text: str, seconds: int | None) -> None:
    hint = try_again_hint(text)
    assert hint == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.proves("F-S04")
@given(st.text())
def test_any_reply_gives_a_bounded_hint(text: str) -> None:
    hint = try_again_hint(text)
    assert hint is None or timedelta(0) <= hint <= MAX_RETRY_AFTER


@pytest.mark.proves("F-S04")
@pytest.mark.parametrize("word", ["try ", "retry retry", "9", "wait 1:", "grey", " ", "try 1234567", "try\u0669 s"])
def test_hostile_reply_costs_no_more_than_its_first_lines(word: str) -> None:
    before = time.process_time()
    try_again_hint(word * 200_000)
    assert time.process_time() - before < 1.0  # CPU time of this process: a backtracking pattern takes minutes


@pytest.mark.proves("F-T01")
@pytest.mark.parametrize(
    ("wall", "monotonic", "jumped"),
    [(60, 0, False), (61, 0, True), (-3600, 5, True), (8 * 3600, 8 * 3600, False), (5, 5 + 61, True)],
)
def test_clock_that_leaves_the_monotonic_one_is_noticed(wall: int, monotonic: int, jumped: bool) -> None:
    assert is_clock_jump(timedelta(seconds=wall), timedelta(seconds=monotonic)) is jumped


@pytest.mark.proves("F-M09", "F-M01")
def test_backoff_grows_to_its_cap_and_never_overflows() -> None:
    backoff = Backoff(initial=timedelta(seconds=2), cap=timedelta(seconds=30))
    seconds = [backoff.delay(failures, never).total_seconds() for failures in (0, 1, 2, 3, 4, 5, 6, 10**9)]
    assert seconds == [0, 2, 4, 8, 16, 30, 30, 30]
    assert Backoff().delay(10**9, always) == timedelta(minutes=33)
    assert Backoff(factor=1.0).delay(10**18, never) == timedelta(seconds=1)


@pytest.mark.proves("F-M09")
def test_only_a_run_that_lasted_forgets_its_failures() -> None:
    assert survived(NOON, NOON + 5 * MINUTE, 5 * MINUTE)
    assert not survived(NOON, NOON + 4 * MINUTE, 5 * MINUTE)
    assert not survived(NOON, NOON - timedelta(days=1), 5 * MINUTE)
