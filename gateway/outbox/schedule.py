"""When a delivery is tried again, and when a supervisor may restart what fell over. Pure: time and chance come in.

Source: RFC 5321 section 4.5.4.1 (retry strategies), RFC 9110 section 10.2.3 (Retry-After). The steps are sized for
greylisting, which wants the same sender, recipient and server again after 1 to 15 minutes.

Whether a clock may be believed is asked by ``is_clock_jump``: after a jump, nobody calls the functions here until
the database's clock has confirmed the time, so that nothing is sent early or expires in bulk.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

Chance = Callable[[], float]  #: a number in [0, 1)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
EMAIL_STEPS = (timedelta(0), 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR)
#: A longer wait is not taken at its word: a hostile or broken header parks nothing for ever.
MAX_RETRY_AFTER = timedelta(hours=24)
CLOCK_JUMP = timedelta(seconds=60)
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """The waits before attempts 1, 2, 3 ..., then one wait for ever, until ``window`` after the due time is over."""

    steps: tuple[timedelta, ...] = EMAIL_STEPS
    then_every: timedelta = 4 * HOUR
    window: timedelta = timedelta(days=3)
    jitter: float = 0.1  #: a wait is made longer by up to this share, never shorter


def social_policy(window: timedelta = timedelta(hours=24)) -> RetryPolicy:
    """Return 5 seconds doubling to 10 minutes, until the platform's reply window ends."""
    doubling = tuple(timedelta(seconds=5 * 2**n) for n in range(7))
    return RetryPolicy(steps=(timedelta(0), *doubling), then_every=10 * MINUTE, window=window)


def next_attempt_at(
    policy: RetryPolicy,
    *,
    attempt: int,
    first_due_at: datetime,
    now: datetime,
    retry_after: timedelta | None = None,
    rng: Chance,
) -> datetime | None:
    """Return when ``attempt`` (counted from 1) is due, or None when the retry window is over.

    The wait counts from ``now``, the end of the attempt before. A wait that the peer asked for wins over the steps,
    shorter or longer. A last attempt is moved to the end of the window rather than dropped; what the peer asked for
    is not shortened for it.
    """
    asked = None if retry_after is None else min(max(retry_after, timedelta(0)), MAX_RETRY_AFTER)
    wait = _step(policy, attempt) if asked is None else asked
    due = later(max(now, first_due_at) if attempt <= 1 else now, jittered(wait, policy.jitter, rng))
    closes_at = later(first_due_at, policy.window)
    if due <= closes_at:
        return due
    return closes_at if retry_after is None and now < closes_at else None


def _step(policy: RetryPolicy, attempt: int) -> timedelta:
    index = max(attempt, 1) - 1
    return policy.steps[index] if index < len(policy.steps) else policy.then_every


def jittered(wait: timedelta, share: float, rng: Chance) -> timedelta:
    """Return ``wait`` made longer by chance, so that a queue that failed together does not come back together."""
    return wait + wait * (share * min(max(rng(), 0.0), 1.0))


def later(at: datetime, wait: timedelta) -> datetime:
    """Return ``at + wait``, or the end of time where a datetime ends: clocks have been seen in the year 9999."""
    try:
        return at + wait
    except OverflowError:
        return END_OF_TIME


#: Only the beginning of a reply is read: servers put the hint in the first line or two.
HINT_CHARS = 2000
_UNITS = {
    "s": timedelta(seconds=1),
    "m": MINUTE,
    "h": HOUR,
    "d": timedelta(days=1),
}
_NUMBER = r"(?P<number>\d{1,7}(?:\.\d{1,3})?)"
_UNIT = r"(?P<unit>seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)\b"
_CLOCK = r"(?<=in |or )(?P<clock>\d{1,3}(?::\d{2}){1,2})(?!\d)"
#: A time of day ("not before 12:30:00") is no wait, so a clock counts after "in" and "for" only.
#: "try again in 10 minutes", "retry after 300 seconds", "come back in 00:05:00", "greylisted for 300 seconds".
_HINT = re.compile(
    r"(?:\b(?:re-?try|re-?sen[dt]|try|tried|attempt|come\s{1,3}back|wait|gr[ae]y-?\s?list(?:ed|ing)?|defer(?:red)?|delay(?:ed)?)\b"
    r"[^\d\n]{0,60}?)"
    rf"(?:{_CLOCK}|{_NUMBER}\s{{0,3}}{_UNIT})",
    re.IGNORECASE,
)
#: Postgrey and friends: "Greylisted, see http://.../help/example.com.html" carries no number at all.
_GREYLISTED = re.compile(r"gr[ae]y-?\s?list", re.IGNORECASE)
GREYLIST_WAIT = 5 * MINUTE


def try_again_hint(text: str) -> timedelta | None:
    """Return how long a reply asks us to wait, None when it does not say. Any text; time is linear and bounded.

    A reply that says "greylisted" without a time gets ``GREYLIST_WAIT``. The result is at most ``MAX_RETRY_AFTER``.
    """
    head = text[:HINT_CHARS]
    if found := _HINT.search(head):
        return min(_duration(found), MAX_RETRY_AFTER)
    return GREYLIST_WAIT if _GREYLISTED.search(head) else None


def _duration(found: re.Match[str]) -> timedelta:
    if clock := found["clock"]:
        parts = [int(part) for part in clock.split(":")]
        hours, minutes, seconds = [0, *parts] if len(parts) == 2 else parts
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return float(found["number"]) * _UNITS[found["unit"][0].lower()]


def is_clock_jump(wall_elapsed: timedelta, monotonic_elapsed: timedelta) -> bool:
    """Say whether the wall clock left the monotonic one by more than a minute, forwards or backwards (F-T01)."""
    return abs(wall_elapsed - monotonic_elapsed) > CLOCK_JUMP


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """Growing waits between restarts of what keeps failing, e.g. a mailbox whose login is refused."""

    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    cap: timedelta = 30 * MINUTE
    jitter: float = 0.1

    def delay(self, failures: int, rng: Chance) -> timedelta:
        """Return the wait after ``failures`` failures in a row (the first is 1); none after success."""
        if failures <= 0:
            return timedelta(0)
        wait = self.initial
        for _ in range(min(failures - 1, 64)):  # a factor of 1 never reaches the cap
            if wait >= self.cap:
                break
            wait = min(wait * self.factor, self.cap)
        return jittered(min(wait, self.cap), self.jitter, rng)


def survived(started_at: datetime, now: datetime, at_least: timedelta) -> bool:
    """Say whether a run lasted long enough to forget its failures: one that starts and falls at once has not."""
    return now - started_at >= at_least
