"""Signed tokens: what we signed is read back whatever a relay does to its case, and nothing else is (T-A03)."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.normalize import tokens
from gateway.normalize.tokens import Purpose, Token

KEY = bytes(range(32))
NUMBERS = st.integers(0, 2**40 - 1)
TOKENS = st.builds(Token, purpose=st.sampled_from(Purpose), ticket_id=NUMBERS, nonce=NUMBERS, round=st.integers(0, 255))
READERS: dict[Purpose, Callable[[str], Token | None]] = {
    Purpose.REPLY: lambda text: tokens.of_address(f"support+{text}@desk.test", KEY, Purpose.REPLY),
    Purpose.RETURN: lambda text: tokens.of_address(f"support+{text}@desk.test", KEY, Purpose.RETURN),
    Purpose.MESSAGE: lambda text: tokens.of_message_id(f"gh.{text}@desk.test", KEY),
    Purpose.ENVELOPE: lambda text: tokens.of_envelope_id(text, KEY),
    Purpose.LOOP: lambda text: tokens.of_loop_marker(text, KEY),
}


@pytest.mark.proves("T-A03", "T-G13")
@given(TOKENS, st.randoms())
def test_token_is_read_back_in_any_case(token: Token, random: object) -> None:
    text = tokens.sign(token, KEY)
    assert re.fullmatch(r"[rmbel][a-z2-7]{44}", text)
    mixed = "".join(char.upper() if random.random() < 0.5 else char for char in text)  # type: ignore[attr-defined]
    for form in (text, text.upper(), text.title(), mixed):
        assert tokens.read(form, KEY) == token
        assert READERS[token.purpose](form) == token


@pytest.mark.proves("T-A03", "T-G13")
@given(TOKENS, st.data())
def test_any_other_text_is_no_token(token: Token, data: st.DataObject) -> None:
    text = tokens.sign(token, KEY)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789=+ıſKé"))
    assume(other.lower() != text[place])
    changed = [
        text[:place] + other + text[place + 1 :],
        text[:place],
        text[:place] + text[place + 1 :],
        text[:place] + other + text[place:],
        text + other,
        text * 2,
    ]
    for wrong in changed:
        assert tokens.read(wrong, KEY) is None, wrong
    assert tokens.read(text, KEY + b"x") is None


@pytest.mark.proves("T-A03")
@given(TOKENS)
def test_token_of_one_purpose_serves_no_other(token: Token) -> None:
    text = tokens.sign(token, KEY)
    for purpose, reader in READERS.items():
        assert (reader(text) == token) == (purpose is token.purpose)
        if purpose is not token.purpose:
            assert reader(purpose.value + text[1:]) is None


@pytest.mark.proves("T-A03")
@given(st.text(max_size=80))
def test_no_text_of_strangers_is_a_token_or_an_error(text: str) -> None:
    for reader in READERS.values():
        assert reader(text) is None
    assert tokens.of_address(text, KEY, Purpose.REPLY) is None
    assert tokens.of_message_id(text, KEY) is None


WRAPPED = [
    "{}", "<{}>", "  {} ", "SRS0=ab={}", "{}.relay.test", "20260302.{}", "x{}", "{}-copy",
]  # fmt: skip


@pytest.mark.proves("R3.1")
@pytest.mark.parametrize("form", WRAPPED)
def test_message_id_is_known_again_in_what_relays_put_around_it(form: str) -> None:
    token = Token(purpose=Purpose.MESSAGE, ticket_id=7, nonce=2**39)
    assert tokens.of_message_id(form.format(tokens.message_id(token, "desk.test", KEY)), KEY) == token


@pytest.mark.proves("R4.2")
@pytest.mark.parametrize(("local", "is_tagged"), [("support", True), ("a" * 18, True), ("a" * 19, False)])
def test_plus_part_never_makes_a_local_part_too_long(local: str, is_tagged: bool) -> None:
    text = tokens.sign(Token(purpose=Purpose.REPLY, ticket_id=1, nonce=1), KEY)
    address = tokens.plus_address(f"{local}@desk.test", text)
    assert len(address.rpartition("@")[0]) <= tokens.MAX_LOCAL_PART
    assert (tokens.of_address(address, KEY, Purpose.REPLY) is not None) == is_tagged
    assert address.endswith("@desk.test")


@pytest.mark.proves("T-G13")
def test_token_carries_a_mac_of_128_bits_and_is_bound_to_what_it_says() -> None:
    assert tokens.MAC_BYTES * 8 >= 128
    signed = {
        tokens.sign(Token(purpose=Purpose.REPLY, ticket_id=ticket, nonce=nonce, round=number), KEY)
        for ticket in (1, 2) for nonce in (1, 2) for number in (1, 2)
    }  # fmt: skip
    assert len({text[-26:] for text in signed}) == 8


def test_round_above_what_fits_is_the_last_one() -> None:
    text = tokens.sign(Token(purpose=Purpose.RETURN, ticket_id=1, nonce=1, round=1000), KEY)
    read = tokens.read(text, KEY)
    assert read is not None
    assert read.round == 255
