"""What became of one message to one recipient: evidence is collected, the status is computed from it.

Status never moves by assignment. ``status_of`` reads the *set* of evidence, so neither order of arrival nor
repeats can matter; times of evidence are content and decide nothing. Numbers order things instead:

- ``round``: 1 for the first copy; a person's *Send again* carries the next number and opens a new rank. A
  report carries the round of the token that it came back with.
- ``attempt``: the number of one try inside its round; 0 where a fact belongs to no try. For ``HELD`` and
  ``RELEASED`` it is the number of the hold (``next_hold``): a release ends that hold and all before it.

Inside one round the first fact of ``RANK`` that is present decides; the last attempt explains the rest.
A doubt (the line broke when the other side may have taken the message) is settled by the reply of its own
attempt, by a report or by a person. Another attempt that was refused does not settle it: the first copy may
have arrived, so "not delivered" would be a guess.

Between rounds: a copy that arrived has arrived, and a copy that a server took stays sent, whatever a further
copy met - except that a failed report on the newest copy is the newest word and wins over a mere "sent".
Failures of an older round do not hurt a newer one. *Send again* withdraws a former *Mark as sent*, and
cancelling a further round brings back what stood before it.

Source: RFC 5321 section 4.2, RFC 3461, RFC 3464 section 2.3.3 (actions), RFC 8098, RFC 5965.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum


class Status(StrEnum):
    """What people see beside an answer."""

    SCHEDULED = "scheduled"  #: committed; nobody can have it yet
    SENT = "sent"  #: the next server took it, or a person said so
    DELAYED = "delayed"  #: waits longer than expected, or the handover is not confirmed
    NOT_DELIVERED = "not_delivered"
    DELIVERED = "delivered"
    READ = "read"
    HELD = "held"  #: waits for a decision of ours, before handover
    CANCELLED = "cancelled"  #: by a person, before handover


class Fact(StrEnum):
    """One thing that happened to a delivery."""

    ATTEMPT_STARTED = "attempt_started"
    FINAL_DOT_PENDING = "final_dot_pending"  #: written before the final dot: the line of doubt
    ACCEPTED = "accepted"  #: 2xx to the final dot, or the API's yes
    REFUSED = "refused"  #: for good, and meant for this recipient or message
    DEFERRED = "deferred"  #: a temporary refusal
    UNREACHABLE = "unreachable"  #: connection trouble, provably before the final dot
    CHANNEL_FAULT = "channel_fault"  #: our own set-up (login, TLS, token): no message's fault
    IN_DOUBT = "in_doubt"  #: the line broke after the final dot, or a crash was recovered there
    DSN_FAILED = "dsn_failed"
    DSN_DELAYED = "dsn_delayed"
    DSN_DELIVERED = "dsn_delivered"
    DSN_RELAYED = "dsn_relayed"  #: handed to a system that sends no reports
    DSN_EXPANDED = "dsn_expanded"  #: went to a list
    COMPLAINT = "complaint"  #: ARF: reported as spam, so it arrived
    READ = "read"  #: MDN "displayed", or a platform's read receipt
    MARKED_SENT = "marked_sent"  #: a person settled a doubt
    SEND_AGAIN = "send_again"  #: a person opened the round that this evidence carries
    GAVE_UP = "gave_up"  #: the retry window is over
    CANCELLED = "cancelled"
    HELD = "held"
    RELEASED = "released"
    OVERDUE = "overdue"  #: queued for longer than the expected time
    AUTO_REPLIED = "auto_replied"  #: out of office: changes nothing
    CUSTOMER_REPLIED = "customer_replied"  #: a reply to this Message-ID: the customer has it


class Detail(StrEnum):
    """Why the status is what it is; the key of the plain-words tables."""

    QUEUED = "queued"
    HANDING_OVER = "handing_over"
    ACCEPTED = "accepted"
    TEMPORARILY_REFUSED = "temporarily_refused"
    UNREACHABLE = "unreachable"
    OWN_FAULT = "own_fault"
    IN_DOUBT = "in_doubt"
    DELAY_REPORTED = "delay_reported"
    REFUSED = "refused"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    MARKED_SENT = "marked_sent"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    REPLIED = "replied"
    DELIVERED = "delivered"
    READ = "read"
    COMPLAINT = "complaint"
    HELD = "held"
    CANCELLED = "cancelled"
    OVERDUE = "overdue"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """One append-only fact about one delivery. The texts are the peer's words: data."""

    fact: Fact
    round: int = 1
    attempt: int = 0
    at: datetime | None = None
    code: int | None = None  #: three-digit SMTP or HTTP code
    enhanced: str | None = None  #: RFC 3463, e.g. ``5.1.1``
    text: str = ""
    server: str = ""
    queue_id: str = ""
    reason: str = ""  #: a reason word, e.g. ``no_such_mailbox``
    source: str = ""  #: smtp | dsn | bounce | mdn | arf | agent | system | a channel kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the evidence amounts to."""

    status: Status
    detail: Detail
    decisive: Evidence | None = None  #: the piece that decided; None when nothing has happened yet

    @property
    def is_final(self) -> bool:
        """No try and no decision of ours is open; only a later report or a person changes it."""
        return self.status in FINAL

    @property
    def is_in_doubt(self) -> bool:
        """The other side may have it and nobody knows: no automatic second copy, a person may decide."""
        return self.detail is Detail.IN_DOUBT


FINAL = frozenset({Status.SENT, Status.DELIVERED, Status.READ, Status.NOT_DELIVERED, Status.CANCELLED})

#: Inside one round, the first fact that is present decides.
RANK: Mapping[Fact, tuple[Status, Detail]] = {
    Fact.DSN_FAILED: (Status.NOT_DELIVERED, Detail.BOUNCED),
    Fact.READ: (Status.READ, Detail.READ),
    Fact.DSN_DELIVERED: (Status.DELIVERED, Detail.DELIVERED),
    Fact.COMPLAINT: (Status.SENT, Detail.COMPLAINT),
    Fact.CUSTOMER_REPLIED: (Status.SENT, Detail.REPLIED),
    Fact.DSN_RELAYED: (Status.SENT, Detail.RELAYED),
    Fact.DSN_EXPANDED: (Status.SENT, Detail.EXPANDED),
    Fact.DSN_DELAYED: (Status.DELAYED, Detail.DELAY_REPORTED),
    Fact.ACCEPTED: (Status.SENT, Detail.ACCEPTED),
    Fact.MARKED_SENT: (Status.SENT, Detail.MARKED_SENT),
    Fact.REFUSED: (Status.NOT_DELIVERED, Detail.REFUSED),
    Fact.GAVE_UP: (Status.NOT_DELIVERED, Detail.EXPIRED),
    Fact.CANCELLED: (Status.CANCELLED, Detail.CANCELLED),
}
#: These would deny an accept, so they do not count while a doubt is open.
DENIALS = frozenset({Fact.REFUSED, Fact.GAVE_UP, Fact.CANCELLED})

#: How one attempt ended, strongest first, when it did not end for good.
OUTCOMES: Mapping[Fact, Detail] = {
    Fact.DEFERRED: Detail.TEMPORARILY_REFUSED,
    Fact.IN_DOUBT: Detail.IN_DOUBT,
    Fact.UNREACHABLE: Detail.UNREACHABLE,
    Fact.CHANNEL_FAULT: Detail.OWN_FAULT,
    Fact.FINAL_DOT_PENDING: Detail.IN_DOUBT,
}
#: Every way an attempt can end, strongest first.
ENDS = (Fact.ACCEPTED, Fact.REFUSED, *OUTCOMES)


def status_of(evidence: Iterable[Evidence]) -> Verdict:
    """Return the verdict of a set of evidence about one delivery; same for every order and with repeats."""
    rounds: dict[int, list[Evidence]] = defaultdict(list)
    for item in evidence:
        if item.fact is not Fact.AUTO_REPLIED:
            rounds[item.round].append(item)
    if not rounds:
        return Verdict(status=Status.SCHEDULED, detail=Detail.QUEUED)
    *older, newest = (rounds[number] for number in sorted(rounds))
    return _over_rounds(older, newest)


def _over_rounds(older: list[list[Evidence]], newest: list[Evidence]) -> Verdict:
    now = _of_round(newest)
    if not older:
        return now
    if now.status is Status.CANCELLED:
        return _over_rounds(older[:-1], older[-1])
    older = [[item for item in items if item.fact is not Fact.MARKED_SENT] for items in older]
    before = [_of_round(items) for items in older]
    copies = [*before, now]
    for arrived in (Status.READ, Status.DELIVERED):
        if there := [copy for copy in copies if copy.status is arrived]:
            return there[-1]
    if answered := [copy for copy in copies if copy.detail in {Detail.REPLIED, Detail.COMPLAINT}]:
        return answered[-1]
    if now.detail is Detail.BOUNCED:
        return now
    if taken := [copy for copy in copies if copy.status is Status.SENT]:
        return taken[-1]
    unsettled = [open_end for items in older if (open_end := _unsettled(items))]
    if unsettled and now.status is Status.NOT_DELIVERED:
        return unsettled[-1]
    bounced = any(copy.detail is Detail.BOUNCED for copy in before)
    if now.status is Status.SCHEDULED and (unsettled or bounced):  # "scheduled" promises that nobody has a copy
        return replace(now, status=Status.DELAYED)
    return now


def _unsettled(items: Sequence[Evidence]) -> Verdict | None:
    """Return how an older round may still turn out well, whatever its later attempts met; None when it cannot."""
    verdict = _of_round(items)
    if verdict.detail is Detail.DELAY_REPORTED:
        return verdict
    doubt = _open_doubt(items)
    if doubt is None or verdict.detail is Detail.BOUNCED:
        return None
    return Verdict(status=Status.DELAYED, detail=Detail.IN_DOUBT, decisive=doubt)


def _of_round(items: Sequence[Evidence]) -> Verdict:
    present = {item.fact for item in items}
    doubt = _open_doubt(items)
    for fact, (status, detail) in RANK.items():
        if fact in present and not (doubt and fact in DENIALS):
            return Verdict(status=status, detail=detail, decisive=_pick(items, fact))
    if doubt and (present & DENIALS):
        return Verdict(status=Status.DELAYED, detail=Detail.IN_DOUBT, decisive=doubt)
    if not doubt and (hold := _open_hold(items)):
        return Verdict(status=Status.HELD, detail=Detail.HELD, decisive=hold)
    return _waiting(items)


def _open_doubt(items: Iterable[Evidence]) -> Evidence | None:
    """Return the doubt of the last attempt whose own end is not known, None when every end is known."""
    ends = _ends(items)
    open_attempts = [attempt for attempt, end in ends.items() if OUTCOMES.get(end.fact) is Detail.IN_DOUBT]
    return ends[max(open_attempts)] if open_attempts else None


def _ends(items: Iterable[Evidence]) -> dict[int, Evidence]:
    """Return how each attempt ended, by its strongest fact; an attempt that only started has no end yet."""
    by_attempt: dict[int, list[Evidence]] = defaultdict(list)
    for item in items:
        if item.fact in ENDS:
            by_attempt[item.attempt].append(item)
    return {
        attempt: _pick(facts, min((item.fact for item in facts), key=ENDS.index))
        for attempt, facts in by_attempt.items()
    }


def _pick(items: Iterable[Evidence], fact: Fact) -> Evidence:
    """Return the piece of ``fact`` from the last attempt; among repeats the one that was written first."""
    matching = [item for item in items if item.fact is fact]
    if len(matching) == 1:
        return matching[0]
    last = max(item.attempt for item in matching)
    return min((item for item in matching if item.attempt == last), key=lambda e: (instant(e.at), canonical(e)))


def _open_hold(items: Iterable[Evidence]) -> Evidence | None:
    holds = [item for item in items if item.fact is Fact.HELD]
    released = max((item.attempt for item in items if item.fact is Fact.RELEASED), default=-1)
    if not holds or max(item.attempt for item in holds) <= released:
        return None
    return _pick(holds, Fact.HELD)


def _waiting(items: Sequence[Evidence]) -> Verdict:
    """Explain a delivery that is neither handed over nor over: by its last attempt, or by the lack of one."""
    ends = _ends(items)
    faults = [attempt for attempt, end in ends.items() if end.fact is Fact.CHANNEL_FAULT]
    tried = [attempt for attempt in ends if attempt not in faults]
    present = {item.fact for item in items}
    status = Status.DELAYED if tried or Fact.OVERDUE in present else Status.SCHEDULED
    last = ends[max(tried)] if tried else None
    is_fault_newer = bool(faults) and (last is None or max(faults) > max(tried))
    if is_fault_newer and (last is None or OUTCOMES[last.fact] is not Detail.IN_DOUBT):
        return Verdict(status=status, detail=Detail.OWN_FAULT, decisive=ends[max(faults)])
    if last is not None:
        return Verdict(status=status, detail=OUTCOMES[last.fact], decisive=last)
    if Fact.OVERDUE in present:
        return Verdict(status=status, detail=Detail.OVERDUE, decisive=_pick(items, Fact.OVERDUE))
    if Fact.ATTEMPT_STARTED in present:
        started = _pick(items, Fact.ATTEMPT_STARTED)
        return Verdict(status=status, detail=Detail.HANDING_OVER, decisive=started)
    return Verdict(status=status, detail=Detail.QUEUED)


def current_round(evidence: Iterable[Evidence]) -> int:
    """Return the number of the newest round: what the next attempt and its report token carry."""
    return max((item.round for item in evidence), default=1)


def next_hold(evidence: Iterable[Evidence]) -> int:
    """Return the number that the next ``HELD`` of the newest round carries as its ``attempt``."""
    items = list(evidence)
    newest = current_round(items)
    numbers = (item.attempt for item in items if item.fact is Fact.HELD and item.round == newest)
    return max(numbers, default=0) + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RollUp:
    """All recipients of one answer in one indicator."""

    status: Status
    counts: Mapping[Status, int]
    text: str  #: e.g. ``2 of 3 sent``


#: What people must see first. Cancelled is last: it was somebody's own wish, and no news.
WORST_FIRST = (
    Status.NOT_DELIVERED,
    Status.DELAYED,
    Status.HELD,
    Status.SCHEDULED,
    Status.SENT,
    Status.DELIVERED,
    Status.READ,
    Status.CANCELLED,
)
#: From "somebody took it" to "somebody read it".
PROGRESS = (Status.SENT, Status.DELIVERED, Status.READ)


def roll_up(statuses: Sequence[Status]) -> RollUp:
    """Return the indicator of an answer to several recipients; raise ValueError when there are none."""
    if not statuses:
        raise ValueError("an answer without recipients has no delivery status")
    worst = min(statuses, key=WORST_FIRST.index)
    return RollUp(status=worst, counts=dict(Counter(statuses)), text=_roll_up_text(statuses, worst))


def _roll_up_text(statuses: Sequence[Status], worst: Status) -> str:
    total = len(statuses)
    if total == 1:
        return label(worst)
    if set(statuses) == {worst}:
        return f"{total} of {total} {label(worst)}"
    goal = Status.SENT
    if worst in PROGRESS and Status.CANCELLED not in statuses:
        goal = PROGRESS[PROGRESS.index(worst) + 1]
    reached = sum(status in PROGRESS[PROGRESS.index(goal) :] for status in statuses)
    if not reached:
        return f"{statuses.count(worst)} of {total} {label(worst)}"
    return f"{reached} of {total} {label(goal)}"


def label(status: Status) -> str:
    """Return the English words of a status."""
    return status.value.replace("_", " ")


def fingerprint(evidence: Evidence) -> str:
    """Return a stable key of what was said, so that a repeat of the same report is stored once.

    The time of arrival, the server's name and the queue id are left out: a repeat may differ in them.
    """
    said = [
        evidence.fact.value,
        evidence.round,
        evidence.attempt,
        evidence.code,
        evidence.enhanced,
        " ".join(evidence.text.split()).casefold(),
        evidence.source,
    ]
    return hashlib.sha256(json.dumps(said).encode("ascii")).hexdigest()


def canonical(evidence: Evidence) -> bytes:
    """Return the evidence as deterministic ASCII JSON: sorted names, UTC, no spaces. Every field is in it."""
    values = {field.name: getattr(evidence, field.name) for field in fields(evidence)}
    values["at"] = instant(evidence.at) or None
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")


def instant(at: datetime | None) -> str:
    """Return the one text of an instant: UTC, microseconds; a naive time is taken as UTC."""
    if at is None:
        return ""
    if at.tzinfo is not None:
        try:
            at = at.astimezone(UTC)
        except OverflowError:  # within a day of year 1 or 9999: keep the offset as it stands
            return at.isoformat(timespec="microseconds")
    return at.replace(tzinfo=UTC).isoformat(timespec="microseconds")


def chain(previous: bytes, key: bytes, canonical: bytes) -> bytes:
    """Return the link that ties one piece of evidence to all before it (HMAC-SHA256).

    ``previous`` is the link before, or the anchor of the chain (empty, or what names the delivery). Its
    length is part of the input, so no bytes can wander between the two.
    """
    return hmac.digest(key, len(previous).to_bytes(8, "big") + previous + canonical, "sha256")


def verify_chain(
    items: Sequence[tuple[bytes, bytes]], key: bytes, head: bytes, count: int, *, anchor: bytes = b""
) -> int | None:
    """Return the index of the first bad link of ``(canonical, link)`` pairs, or None when the chain holds.

    ``head`` and ``count`` are kept apart from the items: without them a cut-off end would leave a shorter but
    valid chain. A missing item is reported at the index where it should be, a surplus one at its own.
    """
    link = anchor
    for index, (content, stored) in enumerate(items):
        link = chain(link, key, content)
        if index >= count or not hmac.compare_digest(link, stored):
            return index
    if len(items) < count:
        return len(items)
    return None if hmac.compare_digest(link, head) else max(count - 1, 0)
