"""Delivery status as a function of the set of evidence (FAULTS 4.3), with the planted faults it must not have."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations_with_replacement, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.delivery import (
    Detail,
    Evidence,
    Fact,
    Status,
    Verdict,
    canonical,
    chain,
    current_round,
    fingerprint,
    next_hold,
    roll_up,
    status_of,
    verify_chain,
)

Judge = Callable[[Iterable[Evidence]], Verdict]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_ATTEMPT = {
    *(fact for fact in Fact if fact.name.startswith("DSN_")),
    Fact.COMPLAINT,
    Fact.READ,
    Fact.MARKED_SENT,
    Fact.SEND_AGAIN,
    Fact.GAVE_UP,
    Fact.CANCELLED,
    Fact.OVERDUE,
    Fact.AUTO_REPLIED,
    Fact.CUSTOMER_REPLIED,
}


def facts(words: str) -> list[Evidence]:
    """Read ``deferred:1 send_again/2 refused:2/2``: fact, colon attempt (default 1 or none), slash round."""
    return [_fact(word) for word in words.split()]


def _fact(word: str) -> Evidence:
    head, _, number = word.partition("/")
    name, _, attempt = head.partition(":")
    fact = Fact(name)
    default = 0 if fact in NO_ATTEMPT else 1
    return Evidence(fact=fact, attempt=int(attempt or default), round=int(number or 1))


ONE_ROUND = {
    "": "scheduled queued",
    "attempt_started": "scheduled handing_over",
    "attempt_started final_dot_pending": "delayed in_doubt",
    "attempt_started final_dot_pending accepted": "sent accepted",
    "attempt_started final_dot_pending refused": "not_delivered refused",
    "attempt_started final_dot_pending deferred": "delayed temporarily_refused",
    "attempt_started final_dot_pending in_doubt": "delayed in_doubt",
    "final_dot_pending unreachable": "delayed unreachable",
    "final_dot_pending channel_fault": "scheduled own_fault",
    # an explicit doubt outweighs "provably before": two copies are worse than a question
    "in_doubt unreachable": "delayed in_doubt",
    # the rank inside one attempt
    "dsn_failed dsn_delivered accepted refused deferred in_doubt": "not_delivered bounced",
    "dsn_delivered accepted refused deferred in_doubt": "delivered delivered",
    "accepted refused deferred in_doubt": "sent accepted",
    "refused deferred in_doubt": "not_delivered refused",
    "deferred in_doubt": "delayed temporarily_refused",
    # later attempts
    "deferred:1 attempt_started:2": "delayed temporarily_refused",
    "deferred:1 unreachable:2": "delayed unreachable",
    "unreachable:1 deferred:2": "delayed temporarily_refused",
    "deferred:1 final_dot_pending:2": "delayed in_doubt",
    "deferred:1 accepted:2": "sent accepted",
    "deferred:1 refused:2": "not_delivered refused",
    "deferred:1 gave_up": "not_delivered expired",
    "in_doubt:1 deferred:2": "delayed temporarily_refused",
    "in_doubt:1 accepted:2": "sent accepted",
    # a doubt may be an accept: nothing that another attempt met can deny it
    "in_doubt:1 refused:2": "delayed in_doubt",
    "in_doubt:1 deferred:2 gave_up": "delayed in_doubt",
    "in_doubt gave_up": "delayed in_doubt",
    "final_dot_pending cancelled": "delayed in_doubt",
    "in_doubt held": "delayed in_doubt",
    "in_doubt:1 refused:2 dsn_failed": "not_delivered bounced",
    # what settles a doubt
    "in_doubt dsn_failed": "not_delivered bounced",
    "in_doubt dsn_delayed": "delayed delay_reported",
    "in_doubt dsn_delivered": "delivered delivered",
    "in_doubt dsn_relayed": "sent relayed",
    "in_doubt customer_replied": "sent replied",
    "in_doubt complaint": "sent complaint",
    "in_doubt read": "read read",
    "in_doubt marked_sent": "sent marked_sent",
    "in_doubt marked_sent dsn_failed": "not_delivered bounced",
    "in_doubt auto_replied": "delayed in_doubt",
    # our own set-up fails no answer
    "channel_fault": "scheduled own_fault",
    "channel_fault overdue": "delayed own_fault",
    "deferred:1 channel_fault:2": "delayed own_fault",
    "channel_fault:1 deferred:2": "delayed temporarily_refused",
    "in_doubt:1 channel_fault:2": "delayed in_doubt",
    "channel_fault:1 channel_fault:2 channel_fault:3": "scheduled own_fault",
    # reports after the accept
    "accepted dsn_delayed": "delayed delay_reported",
    "accepted dsn_delayed dsn_delivered": "delivered delivered",
    "accepted dsn_delayed dsn_relayed": "sent relayed",
    "accepted dsn_delayed dsn_failed": "not_delivered bounced",
    "accepted dsn_relayed": "sent relayed",
    "accepted dsn_expanded": "sent expanded",
    "accepted read dsn_delivered": "read read",
    "accepted dsn_delivered complaint": "delivered delivered",
    "accepted complaint": "sent complaint",
    "accepted auto_replied": "sent accepted",
    "auto_replied": "scheduled queued",
    "dsn_delivered": "delivered delivered",  # the report was faster than our commit
    "dsn_failed": "not_delivered bounced",
    # waiting
    "overdue": "delayed overdue",
    "overdue attempt_started": "delayed overdue",
    "overdue accepted": "sent accepted",
    "held": "held held",
    "held:1 released:1": "scheduled queued",
    "held:1 released:1 held:2": "held held",
    "held:1 released:1 held:2 released:2": "scheduled queued",
    "deferred held": "held held",
    "held accepted": "sent accepted",
    "held cancelled": "cancelled cancelled",
    "cancelled": "cancelled cancelled",
    "deferred cancelled": "cancelled cancelled",
    "cancelled accepted": "sent accepted",
    "cancelled refused": "not_delivered refused",
}

MORE_ROUNDS = {
    "refused send_again/2": "scheduled queued",
    "refused send_again/2 accepted/2": "sent accepted",
    "refused send_again/2 deferred/2": "delayed temporarily_refused",
    "refused send_again/2 cancelled/2": "not_delivered refused",
    # "scheduled" promises that nobody has a copy
    "in_doubt send_again/2": "delayed queued",
    "in_doubt send_again/2 attempt_started/2": "delayed handing_over",
    "accepted dsn_failed send_again/2": "delayed queued",
    "accepted dsn_failed send_again/2 held/2": "held held",
    "accepted dsn_delayed send_again/2": "delayed queued",
    # a failure of the first copy does not hurt the second
    "accepted dsn_failed send_again/2 accepted/2": "sent accepted",
    "accepted dsn_failed send_again/2 dsn_delivered/2": "delivered delivered",
    "in_doubt send_again/2 accepted/2 dsn_failed": "sent accepted",
    "in_doubt send_again/2 accepted/2 dsn_failed/2": "not_delivered bounced",
    # what the first copy achieved stands
    "accepted send_again/2": "sent accepted",
    "accepted send_again/2 refused/2": "sent accepted",
    "accepted send_again/2 deferred/2": "sent accepted",
    "accepted read send_again/2 accepted/2": "read read",
    "dsn_delivered send_again/2 dsn_failed/2": "delivered delivered",
    "accepted send_again/2 dsn_failed/2": "not_delivered bounced",
    "customer_replied send_again/2 dsn_failed/2": "sent replied",
    "in_doubt auto_replied/2": "delayed in_doubt",
    "dsn_delivered dsn_failed send_again/2 refused/2": "not_delivered refused",
    # an older doubt comes back when the newer round fails
    "in_doubt send_again/2 refused/2": "delayed in_doubt",
    "in_doubt send_again/2 deferred/2 gave_up/2": "delayed in_doubt",
    "in_doubt send_again/2 cancelled/2": "delayed in_doubt",
    "accepted dsn_delayed send_again/2 refused/2": "delayed delay_reported",
    "in_doubt dsn_failed send_again/2 refused/2": "not_delivered refused",
    # "Send again" withdraws the mark; cancelling brings it back
    "in_doubt marked_sent send_again/2 refused/2": "delayed in_doubt",
    "in_doubt marked_sent send_again/2 cancelled/2": "sent marked_sent",
    "refused marked_sent send_again/2": "scheduled queued",
    "in_doubt send_again/2 in_doubt/2 customer_replied": "sent replied",
    "refused send_again/2 refused/2 send_again/3": "scheduled queued",
    "final_dot_pending:1 unreachable:2 send_again/2": "delayed queued",
    "final_dot_pending:1 unreachable:2 send_again/2 refused/2 send_again/3 refused/3": "delayed in_doubt",
}


@pytest.mark.proves(
    "R5.1", "R5.3", "R5.5", "F-K12", "F-K13", "F-K14", "F-S06", "F-S07", "F-S08", "F-S10", "F-S13", "F-S14"
)
@pytest.mark.parametrize(("words", "expected"), (ONE_ROUND | MORE_ROUNDS).items())
def test_status_follows_the_truth_table(words: str, expected: str) -> None:
    verdict = status_of(facts(words))
    assert f"{verdict.status} {verdict.detail}" == expected


POOL = facts(
    "final_dot_pending accepted refused deferred in_doubt:2 channel_fault:2 dsn_failed dsn_delayed dsn_delivered "
    "marked_sent gave_up cancelled held send_again/2 deferred/2 accepted/2"
)
WIDE_POOL = [
    *POOL,
    *(Evidence(fact=fact, attempt=n, round=r) for fact in Fact for n in (0, 1, 2) for r in (1, 2)),
    Evidence(fact=Fact.REFUSED, attempt=1, at=NOON, code=550, enhanced="5.1.1", text="no such user"),
    Evidence(fact=Fact.REFUSED, attempt=1, at=NOON.replace(tzinfo=None), code=550, text="NO such user"),
    Evidence(fact=Fact.DSN_FAILED, at=NOON + timedelta(days=1), enhanced="4.4.7"),
    Evidence(fact=Fact.DSN_FAILED, at=NOON, enhanced="5.0.0"),
]


def orders(items: Sequence[Evidence]) -> Iterator[Sequence[Evidence]]:
    yield from permutations(items)
    for item in items:
        yield (item, *items)
        yield (*items, item)


def order_that_matters(judge: Judge, size: int) -> Sequence[Evidence] | None:
    """Return a multiset on which ``judge`` depends on order or repeats; None when there is none in the pool."""
    for items in combinations_with_replacement(POOL, size):
        expected = judge(items)
        if any(judge(order) != expected for order in orders(items)):
            return items
    return None


@pytest.mark.proves("R5.1", "F-W02", "F-S07")
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_no_order_and_no_repeat_changes_the_verdict(size: int) -> None:
    assert order_that_matters(status_of, size) is None


@pytest.mark.proves("R5.1", "F-W02")
@given(st.lists(st.sampled_from(WIDE_POOL), max_size=6), st.randoms(use_true_random=False))
def test_any_evidence_in_any_order_gives_one_verdict(items: list[Evidence], chance: random.Random) -> None:
    shuffled = items + chance.choices(items, k=3) if items else []
    chance.shuffle(shuffled)
    assert status_of(iter(shuffled)) == status_of(items)


@pytest.mark.proves("R5.1", "F-T02")
@given(st.lists(st.sampled_from(WIDE_POOL), max_size=6), st.integers(-(10**6), 10**6))
def test_times_of_evidence_decide_nothing(items: list[Evidence], minutes: int) -> None:
    moved = [replace(item, at=NOON + n * timedelta(minutes=minutes)) for n, item in enumerate(items)]
    before, after = status_of(items), status_of(moved)
    assert (before.status, before.detail) == (after.status, after.detail)


def last_writer_wins(evidence: Iterable[Evidence]) -> Verdict:
    verdict = status_of([])
    for item in evidence:
        verdict = status_of([item])
    return verdict


@pytest.mark.proves("R5.1", "F-W02")
def test_planted_last_writer_wins_is_caught() -> None:
    assert order_that_matters(last_writer_wins, 2) is not None


@dataclass
class World:
    """What the far server saw (``accepts`` per round) beside what our evidence says of it."""

    evidence: list[Evidence] = field(default_factory=list)
    accepts: int = 0
    is_bounced: bool = False


def make_world(chance: random.Random) -> World:
    """Play a delivery with crashes, doubts, resends by policy and by a person, and late reports."""
    world = World()
    for number in range(1, chance.randint(1, 3) + 1):
        if number > 1:
            world.evidence.append(Evidence(fact=Fact.SEND_AGAIN, round=number))
        _play_round(world, chance, number)
    return world


def _play_round(world: World, chance: random.Random, number: int) -> None:
    taken = 0
    for attempt in range(1, chance.randint(0, 3) + 1):
        end = chance.choice(["before", "dot", "lost", "accepted", "refused", "deferred", "unreachable", "fault"])
        told = [Fact.ATTEMPT_STARTED]
        if end in {"dot", "lost", "accepted"} or (end in {"refused", "deferred"} and chance.random() < 0.5):
            told.append(Fact.FINAL_DOT_PENDING)
        if end in {"lost", "accepted"}:
            taken += 1
        if end in {"dot", "lost"} and chance.random() < 0.5:
            told.append(Fact.IN_DOUBT)
        if end in {"accepted", "refused", "deferred", "unreachable"}:
            told.append(Fact(end))
        if end == "fault":
            told.append(Fact.CHANNEL_FAULT)
        world.evidence += [Evidence(fact=fact, attempt=attempt, round=number) for fact in told]
        if end in {"accepted", "refused"}:
            break
    world.accepts += taken
    if chance.random() < 0.2:
        world.evidence.append(Evidence(fact=chance.choice([Fact.GAVE_UP, Fact.CANCELLED]), round=number))
    for report in (Fact.DSN_DELAYED, Fact.DSN_DELIVERED, Fact.DSN_FAILED):
        if taken and chance.random() < 0.15:
            world.evidence.append(Evidence(fact=report, round=number))
            world.is_bounced |= report is Fact.DSN_FAILED


def untruth(judge: Judge, worlds: int = 4000) -> str | None:
    """Return the first status that the wire log of 4.3 does not bear out."""
    for seed in range(worlds):
        world = make_world(random.Random(seed))
        status = judge(world.evidence).status
        is_true = {
            Status.SCHEDULED: world.accepts == 0,
            Status.CANCELLED: world.accepts == 0,
            Status.SENT: world.accepts > 0,
            Status.DELIVERED: world.accepts > 0,
            Status.NOT_DELIVERED: world.accepts == 0 or world.is_bounced,
        }
        if not is_true.get(status, True):
            return f"seed {seed}: {status} with {world.accepts} accepts: {[e.fact for e in world.evidence]}"
    return None


@pytest.mark.proves("R5.1", "R5.5", "F-K11", "F-K12", "F-K13", "F-K14", "F-K15")
def test_status_is_true_to_the_wire_log_in_random_worlds() -> None:
    assert untruth(status_of) is None


def sent_at_the_dot(evidence: Iterable[Evidence]) -> Verdict:
    items = list(evidence)
    dots = [e for e in items if e.fact is Fact.FINAL_DOT_PENDING]
    return status_of(items + [replace(dot, fact=Fact.ACCEPTED) for dot in dots])


def doubt_shown_as_failure(evidence: Iterable[Evidence]) -> Verdict:
    verdict = status_of(evidence)
    return replace(verdict, status=Status.NOT_DELIVERED) if verdict.is_in_doubt else verdict


def doubt_denied_by_a_later_refusal(evidence: Iterable[Evidence]) -> Verdict:
    items = list(evidence)
    refused = [e for e in items if e.fact is Fact.REFUSED]
    return Verdict(status=Status.NOT_DELIVERED, detail=Detail.REFUSED) if refused else status_of(items)


def auth_failure_as_refusal(evidence: Iterable[Evidence]) -> Verdict:
    return status_of(replace(e, fact=Fact.REFUSED) if e.fact is Fact.CHANNEL_FAULT else e for e in evidence)


@pytest.mark.proves("R5.1", "R5.5")
@pytest.mark.parametrize("planted", [sent_at_the_dot, doubt_shown_as_failure, doubt_denied_by_a_later_refusal])
def test_planted_untruth_is_caught(planted: Judge) -> None:
    assert untruth(planted) is not None


@pytest.mark.proves("R5.4", "F-S06")
def test_own_fault_alone_never_fails_an_answer_and_the_planted_mix_up_does() -> None:
    faults = [Evidence(fact=Fact.CHANNEL_FAULT, attempt=n, code=535) for n in range(1, 30)]
    assert status_of([*faults, Evidence(fact=Fact.OVERDUE)]).status is Status.DELAYED
    assert auth_failure_as_refusal(faults).status is Status.NOT_DELIVERED


@pytest.mark.proves("R5.5", "F-K12")
@given(st.lists(st.sampled_from(WIDE_POOL), max_size=6))
def test_doubt_is_always_shown_as_delayed_and_is_never_final(items: list[Evidence]) -> None:
    verdict = status_of(items)
    assert not verdict.is_in_doubt or (verdict.status is Status.DELAYED and not verdict.is_final)
    assert verdict.decisive is None or verdict.decisive in items


@pytest.mark.proves("R5.2")
def test_decisive_evidence_is_the_last_refusal_and_the_first_of_its_repeats() -> None:
    first = Evidence(fact=Fact.DEFERRED, attempt=2, at=NOON, code=450, text="busy")
    repeat = replace(first, at=NOON + timedelta(hours=1))
    older = replace(first, attempt=1, at=NOON + timedelta(hours=2))
    assert status_of([repeat, older, first]).decisive is first


@pytest.mark.proves("R5.9")
def test_holds_are_numbered_inside_the_newest_round() -> None:
    items = facts("held:1 released:1 held:2")
    assert (next_hold([]), next_hold(items), next_hold([*items, *facts("send_again/2")])) == (1, 3, 1)
    assert (current_round([]), current_round(facts("refused send_again/2"))) == (1, 2)


@pytest.mark.proves("R5.2")
@pytest.mark.parametrize(
    ("statuses", "status", "text"),
    [
        ("sent", "sent", "sent"),
        ("not_delivered", "not_delivered", "not delivered"),
        ("sent sent", "sent", "2 of 2 sent"),
        ("sent sent not_delivered", "not_delivered", "2 of 3 sent"),
        ("sent delivered delayed", "delayed", "2 of 3 sent"),
        ("delivered delivered sent", "sent", "2 of 3 delivered"),
        ("read delivered sent", "sent", "2 of 3 delivered"),
        ("read delivered", "delivered", "1 of 2 read"),
        ("delayed scheduled", "delayed", "1 of 2 delayed"),
        ("scheduled sent", "scheduled", "1 of 2 sent"),
        ("held scheduled scheduled", "held", "1 of 3 held"),
        ("cancelled sent", "sent", "1 of 2 sent"),
        ("cancelled read", "read", "1 of 2 sent"),
        ("cancelled cancelled", "cancelled", "2 of 2 cancelled"),
        ("cancelled not_delivered delayed", "not_delivered", "1 of 3 not delivered"),
    ],
)
def test_roll_up_shows_the_worst_and_counts_the_progress(statuses: str, status: str, text: str) -> None:
    rolled = roll_up([Status(word) for word in statuses.split()])
    assert (rolled.status, rolled.text) == (Status(status), text)
    assert sum(rolled.counts.values()) == len(statuses.split())


@given(st.lists(st.sampled_from(Status), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_roll_up_has_words_for_every_mix_in_any_order(statuses: list[Status], chance: random.Random) -> None:
    shuffled = chance.sample(statuses, len(statuses))
    assert roll_up(shuffled) == roll_up(statuses)
    assert roll_up(statuses).text


def test_roll_up_of_nobody_is_an_error() -> None:
    with pytest.raises(ValueError, match="recipients"):
        roll_up([])


BASE = Evidence(fact=Fact.REFUSED, attempt=2, at=NOON, code=550, enhanced="5.1.1", text="No such  User", source="smtp")


@pytest.mark.proves("R5.2", "F-S07")
@pytest.mark.parametrize(
    ("change", "is_repeat"),
    [
        ({"at": NOON + timedelta(days=1)}, True),
        ({"text": "no such\r\n user"}, True),
        ({"server": "mx2.example.test"}, True),
        ({"fact": Fact.DEFERRED}, False),
        ({"round": 2}, False),
        ({"attempt": 3}, False),
        ({"code": 551}, False),
        ({"enhanced": "5.7.1"}, False),
        ({"text": "no such host"}, False),
        ({"source": "dsn"}, False),
    ],
)
def test_fingerprint_tells_repeats_from_new_facts(change: dict[str, object], is_repeat: bool) -> None:
    assert (fingerprint(replace(BASE, **change)) == fingerprint(BASE)) is is_repeat  # type: ignore[arg-type]  # one field per case


@pytest.mark.proves("R5.2")
def test_canonical_form_names_an_instant_once_and_every_field_counts() -> None:
    elsewhere = BASE.at.astimezone(timezone(timedelta(hours=5, minutes=30))) if BASE.at else None
    assert canonical(replace(BASE, at=elsewhere)) == canonical(BASE)
    others = [
        replace(BASE, server="a"),
        replace(BASE, queue_id="a"),
        replace(BASE, reason="a"),
        replace(BASE, text="No such User"),
        replace(BASE, at=None),
        replace(BASE, at=datetime.min.replace(tzinfo=timezone(timedelta(hours=9)))),
        replace(BASE, text="\ud800 \x00 é"),
    ]
    assert len({canonical(item) for item in [BASE, *others]}) == len(others) + 1
    assert all(len(fingerprint(item)) == 64 for item in others)


KEY = b"k" * 32


def linked(items: Sequence[Evidence], *, anchor: bytes = b"delivery-7") -> list[tuple[bytes, bytes]]:
    link, pairs = anchor, []
    for item in items:
        link = chain(link, KEY, canonical(item))
        pairs.append((canonical(item), link))
    return pairs


@pytest.mark.proves("R5.2", "T-O05")
def test_chain_finds_every_edit_delete_swap_and_cut() -> None:
    pairs = linked(facts("attempt_started deferred attempt_started:2 refused:2"))
    head, count = pairs[-1][1], len(pairs)

    def first_bad(items: Sequence[tuple[bytes, bytes]], key: bytes = KEY, anchor: bytes = b"delivery-7") -> int | None:
        return verify_chain(items, key, head, count, anchor=anchor)

    assert first_bad(pairs) is None
    for n in range(count):
        edited = [(content.replace(b'"code":null', b'"code":250'), link) for content, link in pairs]
        assert first_bad([*pairs[:n], edited[n], *pairs[n + 1 :]]) == n
        assert first_bad([*pairs[:n], *pairs[n + 1 :]]) == n
        assert first_bad([*pairs[:n], pairs[n], *pairs[n:]]) == n + 1
        assert first_bad(pairs[:n]) == n
    assert first_bad([pairs[1], pairs[0], *pairs[2:]]) == 0
    assert first_bad(pairs, key=b"other") == 0
    assert first_bad(pairs, anchor=b"delivery-8") == 0
    assert first_bad([*pairs, (b"{}", chain(head, KEY, b"{}"))]) == count
    assert verify_chain(pairs, KEY, b"\0" * 32, count, anchor=b"delivery-7") == count - 1


@pytest.mark.proves("T-O05")
def test_an_empty_chain_holds_only_when_nothing_was_written() -> None:
    assert verify_chain([], KEY, b"", 0) is None
    assert verify_chain([], KEY, b"x" * 32, 2) == 0


@pytest.mark.proves("T-O05")
def test_no_bytes_wander_between_link_and_content() -> None:
    assert chain(b"ab", KEY, b"c") != chain(b"a", KEY, b"bc")
