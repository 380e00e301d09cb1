"""Reports and outcomes as evidence: every word of theirs has one fact, and an address dies only for good reasons."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.delivery import Evidence, Fact
from gateway.channels.contract import Outcome, OutcomeKind
from gateway.normalize.bounce_reasons import REASONS
from gateway.normalize.mail import read_mail
from gateway.normalize.values import Bounce, BouncedRecipient, Kind, Mail, Report
from gateway.outbox.evidence import DEAD, MAX_TEXT, facts_of, is_address_dead, of_outcome
from tests.ingest.letters import DESK, complaint, dsn, letter, mdn

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
JANE = "jane@customer.test"


def facts(mail: Mail) -> list[tuple[str | None, Fact, str]]:
    found = list(facts_of(mail, round_number=3, at=NOON))
    assert all(fact.round == 3 and fact.at == NOON and fact.attempt == 0 for _recipient, fact in found)
    return [(recipient, fact.fact, fact.source) for recipient, fact in found]


@pytest.mark.proves("F-S07", "R2.4")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (dsn(DESK, (JANE, "failed", "5.1.1")), [(JANE, Fact.DSN_FAILED, "dsn")]),
        (dsn(DESK, (JANE, "delayed", "4.2.2")), [(JANE, Fact.DSN_DELAYED, "dsn")]),
        (dsn(DESK, (JANE, "delivered", "2.0.0")), [(JANE, Fact.DSN_DELIVERED, "dsn")]),
        (dsn(DESK, (JANE, "relayed", "2.0.0")), [(JANE, Fact.DSN_RELAYED, "dsn")]),
        (dsn(DESK, (JANE, "expanded", "2.0.0")), [(JANE, Fact.DSN_EXPANDED, "dsn")]),
        (
            dsn(DESK, (JANE, "failed", "5.1.1"), ("b@b.test", "delivered", "2.0.0")),
            [(JANE, Fact.DSN_FAILED, "dsn"), ("b@b.test", Fact.DSN_DELIVERED, "dsn")],
        ),
        (mdn(DESK, "x@desk.test"), [(JANE, Fact.READ, "mdn")]),
        (complaint(DESK, "x@desk.test"), [(JANE, Fact.COMPLAINT, "arf")]),
        (letter(), []),
    ],
)
def test_what_a_report_says_is_evidence(raw: bytes, expected: list[tuple[str | None, Fact, str]]) -> None:
    assert facts(read_mail(raw)) == expected


@pytest.mark.proves("R2.4")
@pytest.mark.parametrize("disposition", ["deleted", "dispatched", "denied", None])
def test_receipt_that_does_not_say_displayed_says_nothing(disposition: str | None) -> None:
    mail = Mail(kind=Kind.REPORT, report=Report(kind="mdn", disposition=disposition, recipient=JANE))
    assert facts(mail) == []


@pytest.mark.proves("F-S07")
def test_recipient_as_we_named_it_counts_before_where_it_went() -> None:
    went = BouncedRecipient(address="inner@customer.test", original_address=JANE, action="failed", status="5.1.1")
    assert facts(Mail(kind=Kind.BOUNCE, bounce=Bounce(recipients=(went,)))) == [(JANE, Fact.DSN_FAILED, "bounce")]


@pytest.mark.proves("F-S07")
def test_bounce_that_names_nobody_is_a_failure_of_nobody_in_particular() -> None:
    assert facts(Mail(kind=Kind.BOUNCE, bounce=Bounce())) == [(None, Fact.DSN_FAILED, "bounce")]


@pytest.mark.proves("F-S05")
def test_words_of_servers_are_cut() -> None:
    long = BouncedRecipient(address=JANE, action="failed", diagnostic="x" * 10_000)
    ((_recipient, fact),) = facts_of(Mail(kind=Kind.BOUNCE, bounce=Bounce(recipients=(long,))), round_number=1, at=NOON)
    assert len(fact.text) == MAX_TEXT


@pytest.mark.proves("R5.2", "F-S02")
@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        (OutcomeKind.ACCEPTED, Fact.ACCEPTED), (OutcomeKind.REFUSED, Fact.REFUSED),
        (OutcomeKind.DEFERRED, Fact.DEFERRED), (OutcomeKind.UNREACHABLE, Fact.UNREACHABLE),
        (OutcomeKind.CHANNEL_FAULT, Fact.CHANNEL_FAULT), (OutcomeKind.IN_DOUBT, Fact.IN_DOUBT),
    ],
)  # fmt: skip
def test_every_outcome_of_a_try_is_a_fact_with_all_that_was_said(kind: OutcomeKind, fact: Fact) -> None:
    outcome = Outcome(kind=kind, code=550, enhanced="5.1.1", text="no such user", server="mx", queue_id="Q1")
    said = of_outcome(outcome, round_number=2, attempt=5, at=NOON)
    assert (said.fact, said.round, said.attempt, said.at, said.source) == (fact, 2, 5, NOON, "smtp")
    assert (said.code, said.enhanced, said.text, said.server) == (550, "5.1.1", "no such user", "mx")
    assert said.queue_id == "Q1"
    assert bool(said.reason) == (kind not in (OutcomeKind.ACCEPTED, OutcomeKind.IN_DOUBT))


@pytest.mark.proves("R5.11")
@pytest.mark.parametrize("fact", Fact)
def test_address_is_dead_only_for_a_hard_bounce_of_itself_or_a_complaint(fact: Fact) -> None:
    for reason in [*REASONS, ""]:
        is_hard = fact in (Fact.DSN_FAILED, Fact.REFUSED) and reason in DEAD
        assert is_address_dead(Evidence(fact=fact, reason=reason)) == (is_hard or fact is Fact.COMPLAINT), reason


def test_every_reason_that_kills_an_address_is_one_that_is_given() -> None:
    assert set(REASONS) >= DEAD
