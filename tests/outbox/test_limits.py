"""Rates and fairness (R5.10): nothing too fast, nobody starved, nothing lost, order kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbox.limits import Due, Gcra, Limit, Pacer, Turn

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PER_MINUTE = Limit(per=60 * SECOND, count=6, burst=2)


def due(id: int, department: str = "a", *keys: str, order_key: str = "") -> Due:
    return Due(id=id, due_at=NOON + timedelta(microseconds=id), department=department, keys=keys, order_key=order_key)


def ids(turn: Turn) -> list[int]:
    return [item.id for item in turn.go]


@pytest.mark.proves("R5.10")
@given(
    st.builds(
        lambda per, count, burst: Limit(per=timedelta(seconds=per), count=count, burst=burst),
        st.integers(1, 100),
        st.integers(1, 20),
        st.integers(1, 10),
    ),
    st.lists(st.integers(0, 30), max_size=60),
)
def test_no_window_ever_holds_more_than_its_count_and_the_burst(limit: Limit, steps: list[int]) -> None:
    state, now, gone = Gcra(limit=limit), NOON, []
    for step in steps:
        now += step * SECOND
        if state.allow_at(now) == now:
            state = state.spent(now)
            gone.append(now)
    for first in gone:
        window = [at for at in gone if first <= at < first + limit.per]
        assert len(window) <= limit.count + limit.burst


@pytest.mark.proves("R5.10")
def test_burst_goes_at_once_and_then_one_each_spacing() -> None:
    state, at = Gcra(limit=PER_MINUTE), []
    now = NOON
    for _ in range(5):
        now = state.allow_at(now)
        state = state.spent(now)
        at.append((now - NOON) / SECOND)
    assert at == [0, 0, 10, 20, 30]
    assert not state.is_idle(now)
    assert state.is_idle(now + timedelta(minutes=1))


@pytest.mark.parametrize("bad", [{"per": timedelta(0)}, {"count": 0}, {"burst": 0}])
def test_a_limit_that_would_allow_nothing_or_all_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Limit(**({"per": SECOND, "count": 1, "burst": 1} | bad))  # type: ignore[arg-type]  # one wrong field per case


@pytest.mark.proves("R5.10", "F-S12")
def test_departments_take_turns_and_inside_one_the_oldest_goes_first() -> None:
    flood = [due(n, "flood") for n in range(50, 100)]
    calm = [due(3, "calm"), due(2, "calm")]
    other = [due(1, "other")]
    turn = Pacer(limits={}).take([*flood, *calm, *other], NOON + SECOND, 6)
    assert ids(turn) == [2, 50, 1, 3, 51, 52]


@pytest.mark.proves("R5.10")
def test_one_place_at_a_time_still_serves_every_department() -> None:
    pacer, waiting, served = Pacer(limits={}), [due(n, "abc"[n % 3]) for n in range(9)], []
    while waiting:
        (item,) = pacer.take(waiting, NOON + SECOND, 1).go
        waiting.remove(item)
        served.append(item.department)
    assert served == ["a", "b", "c"] * 3


@pytest.mark.proves("R5.10", "F-S11")
def test_every_limit_of_an_item_must_agree_and_the_next_look_is_told() -> None:
    pacer = Pacer(limits={"domain": (PER_MINUTE,), "account": (Limit(per=60 * SECOND, count=60, burst=10),)})
    items = [due(n, "a", "account:1", "domain:slow.test") for n in range(4)] + [
        due(9, "a", "account:1", "domain:b.test")
    ]
    turn = pacer.take(items, NOON + SECOND, 10)
    assert ids(turn) == [0, 1, 9]
    assert turn.look_again_at == NOON + 11 * SECOND
    assert ids(pacer.take(items[2:4], NOON + 11 * SECOND, 10)) == [2]


@pytest.mark.proves("R5.10")
def test_same_limit_on_two_kinds_is_counted_apart_and_a_key_named_twice_once() -> None:
    pacer = Pacer(limits={"recipient": (PER_MINUTE,), "domain": (PER_MINUTE,)})
    items = [due(n, "a", "recipient:x", "recipient:x", "domain:x") for n in range(3)]
    assert ids(pacer.take(items, NOON + SECOND, 10)) == [0, 1]


@pytest.mark.proves("F-S11")
def test_a_later_message_of_a_conversation_never_overtakes_one_that_waits() -> None:
    pacer = Pacer(limits={"domain": (Limit(per=60 * SECOND, count=1, burst=1),)})
    items = [
        due(1, "a", "domain:slow.test"),
        due(2, "a", "domain:slow.test", order_key="ticket:7"),
        due(3, "b", "domain:fast.test", order_key="ticket:7"),
        due(4, "b", "domain:free.test"),
    ]
    assert ids(pacer.take(items, NOON + SECOND, 10)) == [1, 4]


@pytest.mark.proves("R5.10")
def test_what_is_not_due_yet_waits() -> None:
    assert Pacer(limits={}).take([due(1)], NOON, 10) == Turn()


@pytest.mark.proves("F-T02")
def test_a_clock_that_goes_back_freezes_no_key() -> None:
    pacer = Pacer(limits={"domain": (PER_MINUTE,)})
    future = NOON + timedelta(days=3650)
    assert ids(pacer.take([due(1, "a", "domain:x"), due(2, "a", "domain:x")], future, 10)) == [1, 2]
    assert ids(pacer.take([due(3, "a", "domain:x")], NOON + SECOND, 10)) == []
    assert ids(pacer.take([due(3, "a", "domain:x")], NOON + 61 * SECOND, 10)) == [3]


ITEMS = st.lists(
    st.builds(
        Due,
        id=st.integers(0, 10**6),
        due_at=st.integers(0, 50).map(lambda n: NOON + n * SECOND),
        department=st.sampled_from("abc"),
        keys=st.sampled_from([(), ("account:1",), ("account:1", "domain:x"), ("domain:y",)]),
        order_key=st.sampled_from(["", "ticket:1", "ticket:2"]),
    ),
    unique_by=lambda item: item.id,
    max_size=25,
)


@pytest.mark.proves("R5.10", "F-S11", "F-S12")
@given(ITEMS, st.integers(1, 5))
def test_everything_goes_once_in_the_order_of_its_conversation(items: list[Due], room: int) -> None:
    pacer = Pacer(limits={"account": (PER_MINUTE,), "domain": (Limit(per=SECOND, count=1), PER_MINUTE)})
    waiting, gone, now = list(items), list[Due](), NOON + 50 * SECOND
    for _ in range(2 * len(items) + 1):
        turn = pacer.take(waiting, now, room)
        assert len(turn.go) <= room
        assert turn.go or not waiting or turn.look_again_at is not None
        gone += turn.go
        waiting = [item for item in waiting if item not in turn.go]
        now = now if turn.go else turn.look_again_at or now
    assert sorted(item.id for item in gone) == sorted(item.id for item in items)
    for key in ("ticket:1", "ticket:2"):
        of_one = [(item.due_at, item.id) for item in gone if item.order_key == key]
        assert of_one == sorted(of_one)
