"""Random pairs of sender, reference and token: what joins as trusted is what the model says (T-A01, T-A03)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ingest.desk import Desk, Sent, open_desk
from tests.ingest.letters import DESK, letter
from tests.stores import open_store

STORES = ("sqlite",)

#: Sender -> the ticket that they take part in.
SENDERS: dict[str | tuple[str, ...], str | None] = {
    "jane@customer.test": "A",
    "JANE@Customer.Test": "A",
    "bob@other.test": "B",
    "mallory@evil.test": None,
    "jane@customer.test.evil.test": None,
    ("jane@customer.test", "bob@other.test"): None,
    DESK: None,
}
ADDRESSES = ["bare", "reply A", "reply B", "return A", "return B", "damaged A", "damaged B"]
NAMES = ["none", "ours A", "ours B", "theirs A", "theirs B", "unknown"]
CODES = ["none", "code A", "code B"]


@dataclass(frozen=True, slots=True)
class World:
    desk: Desk
    tickets: dict[str, int]
    codes: dict[str, str]
    sent: dict[str, Sent]
    theirs: dict[str, str]


async def build(url: str) -> World:
    desk = await open_desk(open_store(url))
    tickets, codes, sent, theirs = {}, {}, {}, {}
    for name, sender in (("A", "jane@customer.test"), ("B", "bob@other.test")):
        first = await desk.receive(letter(sender))
        assert first.ticket
        assert first.message
        tickets[name], codes[name] = first.ticket["id"], first.ticket["code"]
        sent[name] = await desk.answer(first.ticket["id"])
        theirs[name] = first.message["message_id_header"]
    return World(desk, tickets, codes, sent, theirs)


def address_of(world: World, choice: str) -> str:
    kind, _, name = choice.partition(" ")
    if kind == "bare":
        return DESK
    address = world.sent[name].return_address() if kind == "return" else world.sent[name].reply_address()
    if kind == "damaged":
        at = address.index("@") - 5
        address = address[:at] + ("a" if address[at] != "a" else "b") + address[at + 1 :]
    return address


def id_of(world: World, choice: str) -> str | None:
    kind, _, name = choice.partition(" ")
    known = {"none": None, "unknown": "<nobody@nowhere.test>"}
    if kind in known:
        return known[kind]
    return f"<{world.sent[name].header if kind == 'ours' else world.theirs[name]}>"


def expected(part_of: str | None, address: str, in_reply_to: str, references: str) -> str | None:
    """The ticket that it joins as trusted, or None."""
    ranked: list[set[str]] = [
        {address[-1]} if address.startswith("reply") else set(),
        {address[-1]} if address.startswith("return") else set(),
        {one[-1] for one in (in_reply_to, references) if one.startswith("ours")},
        {in_reply_to[-1]} if in_reply_to.startswith(("ours", "theirs")) else set(),
        {references[-1]} if references.startswith(("ours", "theirs")) else set(),
    ]
    best = next((names for names in ranked if names), set())
    return part_of if part_of in best else None


@pytest.mark.proves("T-A01", "T-A02", "T-A03", "R3.1", "R3.2")
def test_what_joins_as_trusted_is_what_the_model_says(store_url: str) -> None:
    with asyncio.Runner() as runner:
        world = runner.run(build(store_url))
        number_of = {ticket: name for name, ticket in world.tickets.items()}

        @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(
            st.sampled_from(list(SENDERS)),
            st.sampled_from(ADDRESSES),
            st.sampled_from(NAMES),
            st.sampled_from(NAMES),
            st.sampled_from(CODES),
        )
        def check(sender: str | tuple[str, ...], address: str, in_reply_to: str, references: str, code: str) -> None:
            fields = {"In_Reply_To": id_of(world, in_reply_to), "References": id_of(world, references)}
            subject = "Re: it" if code == "none" else f"[{world.codes[code[-1]]}] it"
            raw = letter(
                sender, to=address_of(world, address), subject=subject,
                **{name: value for name, value in fields.items() if value},
            )  # fmt: skip
            came = runner.run(world.desk.receive(raw))
            assert came.settled.outcome == "ticketed", "no mail of a person may vanish"
            assert came.message
            trusted = number_of.get(came.message["ticket_id"]) if not came.message["is_held_aside"] else None
            assert trusted == expected(SENDERS[sender], address, in_reply_to, references)

        check()
        for name, person in (("A", "jane@customer.test"), ("B", "bob@other.test")):
            assert runner.run(world.desk.people(world.tickets[name])) == {person: True}
        runner.run(world.desk.db.close())
