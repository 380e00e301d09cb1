"""The timetable runs jobs in the order of their due times, by itself or when told."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import pytest

from core.clock import Clock
from gateway.sandbox.timetable import Timetable
from tests.sandbox.conftest import STARTED_AT, StandingClock


@pytest.fixture
def done() -> list[str]:
    return []


async def note(done: list[str], word: str) -> None:
    done.append(word)


def standing() -> Timetable:
    return Timetable(clock=StandingClock(), speed=0.0)


async def test_jobs_run_in_due_order_and_equal_times_in_the_order_given(done: list[str]) -> None:
    timetable = standing()
    for seconds, word in [(5, "late"), (1, "first"), (1, "second"), (9, "never")]:
        timetable.later(seconds, partial(note, done, word), name=word)
    await timetable.advance(5)
    assert done == ["first", "second", "late"]
    assert timetable.waiting() == [(4.0, "never")]


async def test_job_added_by_a_job_runs_in_the_same_step_at_its_own_time(done: list[str]) -> None:
    timetable = standing()
    times: list[float] = []

    async def again() -> None:
        times.append(timetable.seconds())
        if len(times) < 3:
            timetable.later(2, again, name="again")

    timetable.later(1, again, name="again")
    await timetable.advance(10)
    assert times == [1.0, 3.0, 5.0]
    assert (timetable.now() - STARTED_AT).total_seconds() == 10


async def test_failing_job_is_logged_and_the_next_one_runs(done: list[str], caplog: pytest.LogCaptureFixture) -> None:
    timetable = Timetable(clock=Clock(), speed=1000.0)
    finished = asyncio.Event()

    async def fail() -> None:
        raise ValueError("spilt ink")

    async def finish() -> None:
        finished.set()

    timetable.later(0, fail, name="fail")
    timetable.later(1, finish, name="finish")
    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(timetable.run())
        await finished.wait()
        task.cancel()
    assert "spilt ink" in caplog.text


async def test_failing_job_fails_the_one_who_advances() -> None:
    timetable = standing()

    async def fail() -> None:
        raise ValueError("spilt ink")

    timetable.later(1, fail, name="fail")
    with pytest.raises(ValueError, match="spilt ink"):
        await timetable.advance(1)


async def test_job_added_while_the_list_sleeps_wakes_it() -> None:
    timetable = Timetable(clock=Clock(), speed=1000.0)
    task = asyncio.create_task(timetable.run())
    timetable.later(10_000_000, partial(note, [], "far"), name="far")
    await asyncio.sleep(0)
    finished = asyncio.Event()

    async def finish() -> None:
        finished.set()

    timetable.later(0, finish, name="near")
    async with asyncio.timeout(10):
        await finished.wait()
    task.cancel()
