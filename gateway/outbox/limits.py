"""How fast answers may go, and whose turn it is: rates per account, hour, recipient and destination domain.

The rate limiter is GCRA (generic cell rate algorithm, ITU-T I.371): one number per key, the theoretical arrival time,
and no timer. It is kept in memory by the caller; forgetting it after a restart allows at most one burst more.
Nothing here drops an item: what may not go now stays due, and the caller is told when to look again.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

TIDY_EVERY = timedelta(seconds=5)
EPOCH = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """``count`` per ``per``, evenly spaced, of which ``burst`` may go at once."""

    per: timedelta
    count: int
    burst: int = 1

    def __post_init__(self) -> None:
        if self.per <= timedelta(0) or self.count < 1 or self.burst < 1:
            raise ValueError(f"a limit needs a time, a count and a burst above zero: {self}")

    @property
    def spacing(self) -> timedelta:
        return self.per / self.count


@dataclass(frozen=True, kw_only=True, slots=True)
class Gcra:
    """The state of one key: when its next item would be due if all came evenly spaced."""

    limit: Limit
    due_at: datetime = EPOCH

    def allow_at(self, now: datetime) -> datetime:
        """Return the earliest time at which one item may go: ``now`` when it may go at once."""
        allowance = self.limit.spacing * (self.limit.burst - 1)
        return max(now, self.due_at - allowance) if self.due_at > now else now

    def spent(self, at: datetime) -> Gcra:
        """Return the state after one item went at ``at``."""
        return Gcra(limit=self.limit, due_at=max(self.due_at, at) + self.limit.spacing)

    def is_idle(self, now: datetime) -> bool:
        """Say whether the state may be forgotten: it allows what a fresh one allows."""
        return self.due_at <= now


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """One outbox item whose time has come. ``order_key`` names what must leave in order: the conversation."""

    id: int
    due_at: datetime
    department: str
    keys: tuple[str, ...] = ()  #: what its limits count, e.g. ``account:3``, ``domain:example.test``
    order_key: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What may go now, in this order, and when the first of the others may."""

    go: tuple[Due, ...] = ()
    look_again_at: datetime | None = None


@dataclass(kw_only=True, slots=True)
class Pacer:
    """Decides which due items go now: within every limit, in turn between departments, oldest first inside.

    ``limits`` maps the kind of a key (the part before its colon) to its limits; a kind without limits is free.
    """

    limits: Mapping[str, tuple[Limit, ...]]
    _states: dict[tuple[str, Limit], Gcra] = field(default_factory=dict)
    _last_department: str = ""
    _tidied_at: datetime | None = None

    def take(self, due: Iterable[Due], now: datetime, room: int) -> Turn:
        """Return at most ``room`` items that may go now and count them as gone.

        Ask again once these are done, at ``look_again_at``, and when something new is due.
        """
        if self._tidied_at is None or not self._tidied_at <= now < self._tidied_at + TIDY_EVERY:
            self._tidy(now)
        ready = sorted((item for item in due if item.due_at <= now), key=lambda item: (item.due_at, item.id))
        queues: dict[str, deque[Due]] = defaultdict(deque)
        conversations: dict[str, deque[int]] = defaultdict(deque)
        for item in ready:
            queues[item.department].append(item)
            conversations[item.order_key].append(item.id)
        turns = deque(_after(sorted(queues), self._last_department))
        go: list[Due] = []
        waits: list[datetime] = []
        while turns and len(go) < room:
            department = turns.popleft()
            queue = queues[department]
            while queue:
                item = queue.popleft()
                if item.order_key and conversations[item.order_key][0] != item.id:
                    continue  # an older one of its conversation has not gone: order before speed
                allowed_at = self._allow_at(item, now)
                if allowed_at > now:
                    waits.append(allowed_at)
                    continue
                self._spend(item, now)
                conversations[item.order_key].popleft()
                go.append(item)
                self._last_department = department
                turns.append(department)
                break
        return Turn(go=tuple(go), look_again_at=min(waits, default=None))

    def _allow_at(self, item: Due, now: datetime) -> datetime:
        return max((self._state(*each).allow_at(now) for each in self._limits_of(item)), default=now)

    def _spend(self, item: Due, now: datetime) -> None:
        for each in self._limits_of(item):
            self._states[each] = self._state(*each).spent(now)

    def _limits_of(self, item: Due) -> list[tuple[str, Limit]]:
        keys = dict.fromkeys(item.keys)
        return [(key, limit) for key in keys for limit in self.limits.get(key.partition(":")[0], ())]

    def _state(self, key: str, limit: Limit) -> Gcra:
        return self._states.get((key, limit), Gcra(limit=limit))

    def _tidy(self, now: datetime) -> None:
        """Forget idle keys, and cut what a clock that went back left further ahead than any burst could."""
        self._tidied_at = now
        self._states = {
            each: replace(state, due_at=min(state.due_at, now + state.limit.spacing * state.limit.burst))
            for each, state in self._states.items()
            if not state.is_idle(now)
        }


def _after(departments: list[str], last: str) -> list[str]:
    """Return the departments beginning with the one after ``last``, so that a small ``room`` starves nobody."""
    split = next((n for n, name in enumerate(departments) if name > last), 0)
    return departments[split:] + departments[:split]
