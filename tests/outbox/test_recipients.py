"""Whom an answer goes to by itself: one rule for the composer and for what leaves."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.normalize.values import Address
from gateway.outbox.recipients import choose

JANE = Address(name="Jane", address="jane@shop.test")
ORDERS = Address(name="Orders", address="orders@shop.test")


def heard(*reply_to: str, sender: str = "jane@shop.test") -> dict[str, Any]:
    return {"from_address": sender, "reply_to": [{"name": "Orders", "address": address} for address in reply_to]}


def person(role: str = "requester", address: str | None = "jane@shop.test", name: str = "Jane") -> dict[str, Any]:
    return {"role": role, "address": address, "name": name}


@pytest.mark.proves("T-A06")
@pytest.mark.parametrize(
    ("last", "people", "wanted"),
    [
        (heard(), [person()], [JANE]),
        (heard("orders@shop.test"), [person()], [ORDERS]),
        (heard("ORDERS@SHOP.TEST"), [person()], [Address(name="Orders", address="ORDERS@SHOP.TEST")]),
        (heard("mallory@evil.test"), [person()], [JANE]),
        (heard("orders@mail.shop.test"), [person()], [JANE]),
        (heard("orders@shop.test.evil.test"), [person()], [JANE]),
        (heard("orders@shop.test@evil.test"), [person()], [JANE]),
        (heard("not an address"), [person()], [JANE]),
        (heard("a@shop.test", "b@shop.test"), [person()], [JANE]),
        (heard("orders@shop.test", sender=""), [person()], [JANE]),
        (heard("orders@shop.test", sender="joe@else.test"), [person()], [JANE]),
        (None, [person()], [JANE]),
        (None, [person("cc")], []),
        (None, [person(address=None)], []),
        (None, [], []),
        (heard(), [person(), person("cc", "joe@else.test", "Joe")], [JANE]),
        (
            heard(),
            [person(), person(address="ann@shop.test", name="Ann")],
            [JANE, Address(name="Ann", address="ann@shop.test")],
        ),
    ],
)
def test_an_answer_goes_to_a_near_reply_to_or_else_to_whoever_asked(
    last: dict[str, Any] | None, people: list[dict[str, Any]], wanted: list[Address]
) -> None:
    assert list(choose(last, people)) == wanted
