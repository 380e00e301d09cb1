"""Leases: one owner at a time by database time, and a fence that only grows (F-N04, F-K23)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import leases
from core.leases import Lease
from core.store.database import PostgresDatabase, SqliteDatabase
from tests import stores
from tests.stores import FakeClock

Store = SqliteDatabase | PostgresDatabase
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


async def acquire(store: Store, owner: str, clock: FakeClock, length: timedelta = HOUR) -> Lease | None:
    return await store.write(leases.acquire, "mailbox", owner, length=length, clock=clock)


async def run_out(store: Store, held: Lease, clock: FakeClock) -> None:
    """Let the time pass that a lease has: on PostgreSQL it is the server's, so it is set to have passed."""
    clock.move(HOUR + SECOND)
    await store.write(leases.renew, held, length=-SECOND, clock=FakeClock(clock.now() - HOUR - SECOND))


@pytest.mark.proves("F-N04")
async def test_lease_is_one_owners_until_it_runs_out(store: Store, clock: FakeClock) -> None:
    first = await acquire(store, "a", clock)
    assert first is not None
    assert await acquire(store, "b", clock) is None
    assert await store.write(leases.holds, first, clock=clock)

    await run_out(store, first, clock)
    second = await acquire(store, "b", clock)
    assert second is not None
    assert second.fence > first.fence
    assert await acquire(store, "a", clock) is None


@pytest.mark.proves("F-K23", "F-N04")
async def test_sleeper_that_wakes_can_do_nothing(store: Store, clock: FakeClock) -> None:
    sleeper = await acquire(store, "a", clock)
    assert sleeper is not None
    await run_out(store, sleeper, clock)
    assert not await store.write(leases.holds, sleeper, clock=clock), "run out, though nobody took it yet"
    assert not await store.write(leases.renew, sleeper, length=HOUR, clock=clock)
    owner = await acquire(store, "b", clock)
    assert owner is not None
    assert not await store.write(leases.holds, sleeper, clock=clock)
    assert not await store.write(leases.renew, sleeper, length=HOUR, clock=clock)
    await store.write(leases.release, sleeper, clock=clock)
    assert await store.write(leases.holds, owner, clock=clock), "the sleeper gave away what was not its own"


@pytest.mark.proves("F-N04")
async def test_second_start_of_one_owner_outdates_the_first(store: Store, clock: FakeClock) -> None:
    before = await acquire(store, "a", clock)
    after = await acquire(store, "a", clock)
    assert before is not None
    assert after is not None
    assert after.fence > before.fence
    assert not await store.write(leases.holds, before, clock=clock)
    assert await store.write(leases.holds, after, clock=clock)


async def test_lease_that_was_given_back_is_free_at_once(store: Store, clock: FakeClock) -> None:
    held = await acquire(store, "a", clock)
    assert held is not None
    await store.write(leases.release, held, clock=clock)
    assert not await store.write(leases.holds, held, clock=clock)
    other = await acquire(store, "b", clock)
    assert other is not None
    assert other.fence > held.fence


@pytest.mark.proves("F-T03", "F-N04")
@pytest.mark.parametrize("skew", [timedelta(days=-400), timedelta(days=400)])
async def test_clock_of_a_node_decides_nothing_where_several_share_a_store(store: Store, skew: timedelta) -> None:
    if isinstance(store, SqliteDatabase):
        pytest.skip("one process has one clock")
    wrong = FakeClock(store.clock.now() + skew)
    held = await acquire(store, "a", wrong)
    assert held is not None
    right = FakeClock(store.clock.now())
    assert await acquire(store, "b", right) is None
    assert await acquire(store, "b", wrong) is None
    assert await store.write(leases.holds, held, clock=right)


@pytest.mark.proves("F-N04")
async def test_nodes_that_ask_at_once_get_one_owner(store: Store, clock: FakeClock) -> None:
    first = await acquire(store, "z", clock)
    assert first is not None
    await run_out(store, first, clock)
    got = await asyncio.gather(*(acquire(store, f"n{number}", clock) for number in range(8)))
    assert len([lease for lease in got if lease is not None]) == 1


Step = tuple[str, str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["acquire", "renew", "release", "write"]), st.sampled_from("abc"), st.integers(0, 40)),
    max_size=40,
)


@pytest.mark.proves("F-N04", "F-K23")
def test_whoever_may_write_is_the_last_who_got_it(store_url: str) -> None:
    """Random nodes and pauses: at any moment at most one node may write, and it is the owner of the highest fence."""

    async def play(store: Store, name: str, steps: list[Step]) -> None:
        clock = FakeClock()
        held: dict[str, Lease] = {}
        newest, until = 0, clock.now()
        for what, node, seconds in steps:
            clock.move(timedelta(seconds=seconds))
            mine = held.get(node)
            if what == "acquire":
                got = await store.write(leases.acquire, name, node, length=30 * SECOND, clock=clock)
                is_mine = mine is not None and mine.fence == newest
                assert (got is not None) == (until <= clock.now() or is_mine)
                if got is not None:
                    assert got.fence > newest
                    held[node], newest, until = got, got.fence, clock.now() + 30 * SECOND
            elif mine is not None:
                is_owner = mine.fence == newest and until > clock.now()
                if what == "renew":
                    assert await store.write(leases.renew, mine, length=30 * SECOND, clock=clock) == is_owner
                    until = clock.now() + 30 * SECOND if is_owner else until
                elif what == "release":
                    await store.write(leases.release, mine, clock=clock)
                    until = clock.now() if mine.fence == newest else until
                else:
                    assert await store.write(leases.holds, mine, clock=clock) == is_owner

    if not store_url.startswith("sqlite"):
        pytest.skip("the time of a server cannot be moved")
    with asyncio.Runner() as runner:
        store = stores.open_store(store_url)
        names = iter(range(10**6))

        @settings(max_examples=60, deadline=None)
        @given(STEPS)
        def check(steps: list[Step]) -> None:
            runner.run(play(store, f"lease-{next(names)}", steps))

        check()
        runner.run(store.close())
