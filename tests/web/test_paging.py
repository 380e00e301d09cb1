"""What a cursor tells its holder: nothing."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.keys import Keys
from gateway.web import paging
from gateway.web.problems import Problem

KEYS = Keys(b"k" * 32)
POSITION = ["2026-03-02T09:00:00+00:00", 123456]


def test_cursor_tells_neither_an_inner_id_nor_how_long_it_is() -> None:
    near, far = (paging.encode(KEYS, "tickets", [POSITION[0], number]) for number in (7, 7_000_000_000))
    assert len(near) == len(far)
    assert b"2026" not in base64.urlsafe_b64decode(near + "==")
    assert paging.encode(KEYS, "tickets", POSITION) != paging.encode(KEYS, "tickets", POSITION)


@given(st.lists(st.one_of(st.text(max_size=300), st.integers(0, 2**62)), max_size=4))
def test_cursor_leads_back_to_its_position(position: list[Any]) -> None:
    assert paging.decode(KEYS, "tickets", paging.encode(KEYS, "tickets", position)) == position


@pytest.mark.parametrize(
    ("keys", "purpose"), [(KEYS, "ledger"), (Keys(b"x" * 32), "tickets")], ids=["another list", "another house"]
)
def test_cursor_of_another_place_is_refused(keys: Keys, purpose: str) -> None:
    with pytest.raises(Problem):
        paging.decode(keys, purpose, paging.encode(KEYS, "tickets", POSITION))


@given(st.text(max_size=200))
def test_made_up_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Problem):
        paging.decode(KEYS, "tickets", cursor)
