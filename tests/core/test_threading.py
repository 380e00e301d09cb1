"""The decision by itself: any findings in any order give one place, and only a participant's evidence joins (R3.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.threading import SIGNED, WORDS, Finding, Place, Sign, decide

FINDINGS = st.lists(
    st.builds(
        Finding, sign=st.sampled_from(Sign), ticket_id=st.integers(1, 3), detail=st.just("x"),
        is_participant=st.booleans(),
    ),
    max_size=6,
)  # fmt: skip
ORDER = list(Sign)


@pytest.mark.proves("R3.1", "R3.2", "T-A01", "T-A02")
@given(FINDINGS, st.booleans(), st.randoms(use_true_random=False))
def test_best_finding_decides_whatever_the_order(findings: list[Finding], is_unclear: bool, random: object) -> None:
    decision = decide(findings, is_sender_unclear=is_unclear)
    best_sign = min((finding.sign for finding in findings), key=ORDER.index, default=None)
    assert decision.sign == best_sign
    assert decision.words
    best = [finding for finding in findings if finding.sign == best_sign]
    if decision.place is Place.JOIN:
        assert not is_unclear
        assert best_sign is not Sign.SUBJECT_CODE
        assert any(finding.is_participant and finding.ticket_id == decision.ticket_id for finding in best)
        assert decision.sureness == ("certain" if best_sign in SIGNED else "likely")
    elif decision.place is Place.HOLD_ASIDE:
        assert best_sign in SIGNED
        assert is_unclear or not any(finding.is_participant for finding in best)
        assert decision.ticket_id in {finding.ticket_id for finding in best}
    else:
        assert decision.ticket_id is None
        assert (decision.hint_ticket_id is None) == (not findings)
    shuffled = list(findings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis calls it an object
    again = decide(shuffled, is_sender_unclear=is_unclear)
    assert (again.place, again.sign, again.sureness) == (decision.place, decision.sign, decision.sureness)


@pytest.mark.proves("R3.2")
def test_every_sign_has_its_words() -> None:
    assert set(WORDS) == set(Sign)
    assert len(set(WORDS.values())) == len(Sign)
