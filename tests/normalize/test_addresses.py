"""Who wrote it and to whom: tolerant where harmless, "unclear" where two readers could see two people."""

from __future__ import annotations

import email.policy
import email.utils
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.normalize import addresses
from gateway.normalize.addresses import identity_key, is_confusable, parse_address_list, parse_sender
from gateway.normalize.values import Address


@pytest.mark.proves("R2.1")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b.c", [("", "a@b.c")]),
        ("<a@b.c>", [("", "a@b.c")]),
        ("Ann <a@b.c>", [("Ann", "a@b.c")]),
        ('"Doe, Ann" <a@b.c>', [("Doe, Ann", "a@b.c")]),
        ("Doe, Ann <a@b.c>", [("Doe, Ann", "a@b.c")]),
        ("a@b.c (Ann)", [("Ann", "a@b.c")]),
        ("a@b.c, d@e.f", [("", "a@b.c"), ("", "d@e.f")]),
        ("a@b.c; d@e.f", [("", "a@b.c"), ("", "d@e.f")]),
        ("Team: Ann <a@b.c>, d@e.f;, g@h.i", [("Ann", "a@b.c"), ("", "d@e.f"), ("", "g@h.i")]),
        ("undisclosed-recipients:;", []),
        ("Ann (x) Doe <a@b.c>", [("Ann Doe", "a@b.c")]),
        ("foo@bar.com <a@x>", [("foo@bar.com", "a@x")]),
        ("=?utf-8?q?J=C3=BCrgen?= <j@b.c>", [("Jürgen", "j@b.c")]),
        ('"=?utf-8?q?J=C3=BCrgen?=" <j@b.c>', [("Jürgen", "j@b.c")]),
        ("=?utf-8?q?Doe=2C_Ann?= <a@b.c>, d@e.f", [("Doe, Ann", "a@b.c"), ("", "d@e.f")]),
        ("Jürgen <jürgen@bücher.example>", [("Jürgen", "jürgen@bücher.example")]),
        ('"a b"@c.d', [("", '"a b"@c.d')]),
        ("<@route.x,@y.z:a@b.c>", [("", "a@b.c")]),
        ("mailto:a@b.c", [("", "a@b.c")]),
        ("'a@b.c'", [("", "a@b.c")]),
        ("'Ann' <a@b.c>", [("Ann", "a@b.c")]),
        ('"Ann \\"A\\" Doe" <a@b.c>', [('Ann "A" Doe', "a@b.c")]),
        ("<root>", [("", "root")]),
        ("No Address Here", []),
        ("", []),
        (", ,;,", []),
        ('"Unclosed <a@b.c>, d@e.f', [("Unclosed", "a@b.c"), ("", "d@e.f")]),
        ("Ann <a@b.c", [("Ann", "a@b.c")]),
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
        ("<a@[IPv6:2001:db8::1]>", [("", "a@[IPv6:2001:db8::1]")]),
    ],
)
def test_address_list(text: str, expected: list[tuple[str, str]]) -> None:
    assert parse_address_list(text) == [Address(name=name, address=address) for name, address in expected]


@pytest.mark.proves("T-A07")
@pytest.mark.parametrize(
    "value",
    [
        "a@b.c, d@e.f",
        "Team: a@b.c;",
        "boss@good.com <b@evil.com>",
        "boss@good.com (<b@evil.com>)",
        "alice@good.com(<b@evil.com>",
        "<boss@good.com> <b@evil.com>",
        "=?utf-8?q?boss=40good=2Ecom?= <b@evil.com>",
        "<=?utf-8?q?boss=40good=2Ecom?=>",
        '"boss@good.com"@evil.com',
        '"boss,x"@evil.com',
        "boss@good.com\x00 <b@evil.com>",
        "boss@good.com@evil.com",
        "<boss@good.com,b@evil.com>",
        "<@good.com:b@evil.com>",
        "b@evil.com boss@good.com",
        "<b@evil.com> boss@good.com",
        "boss＠good.com <b@evil.com>",
        '"boss <boss@good.com> <b@evil.com>',
        "boss\u202e@good.com",
        "Boss <boss@good.com",
        "Boss",
        "<boss>",
        "",
    ],
)
def test_sender_that_readers_may_disagree_about_is_unclear(value: str) -> None:
    assert parse_sender((value.encode(),))[1] is True


@pytest.mark.proves("T-A07")
def test_several_from_fields_are_unclear() -> None:
    sender, is_unclear = parse_sender((b"a@b.c", b"d@e.f"))
    assert (sender, is_unclear) == (Address(address="a@b.c"), True)


@pytest.mark.proves("T-A07")
@pytest.mark.parametrize(
    "value",
    [
        "a@b.c",
        "<a@b.c>",
        "Ann <a@b.c>",
        '"Doe, Ann" <a@b.c>',
        "a@b.c <a@b.c>",
        '"a@b.c" <a@b.c>',
        "a@b.c (Ann)",
        "=?utf-8?q?J=C3=BCrgen?= <j@b.c>",
        "Ann O'Neil-Smith (Sales) <ann.o'neil+x@b-c.example>",
    ],
)
def test_ordinary_sender_is_clear(value: str) -> None:
    sender, is_unclear = parse_sender((value.encode(),))
    assert sender is not None
    assert is_unclear is False


_FRAGMENTS = st.sampled_from(
    [
        *'<>()",;:@\\. ',
        "a",
        "boss@good.com",
        "b@evil.com",
        "<b@evil.com>",
        '"x"',
        "=?utf-8?q?c=40d.e?=",
        "\t",
        "=?",
        "?=",
    ]
)


@pytest.mark.proves("T-A07")
@given(st.lists(_FRAGMENTS, min_size=1, max_size=8).map("".join))
@example('"a" <b@c.d>, ')
@example("@b@evil.com<b@evil.com>")
@example('<b@evil.com>"boss@good.com"')
@example("\\\\(<b@evil.com>")
def test_where_the_standard_readers_differ_from_us_the_sender_is_unclear(value: str) -> None:
    sender, is_unclear = parse_sender((value.encode(),))
    if is_unclear:
        return
    assert sender is not None
    seen = {address.rstrip(".") for _, address in email.utils.getaddresses([value]) if "@" in address}
    assert seen <= {sender.address.rstrip(".")}


@pytest.mark.proves("F-Z01", "T-D05")
@given(st.text(max_size=300))
def test_any_text_is_an_address_list(text: str) -> None:
    for found in parse_address_list(text):
        assert found.address
        assert not set(found.name + found.address) & set("\r\n\x00")
    parse_sender((text.encode("utf-8", "surrogatepass"),))


@given(st.emails(), st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=20))
def test_standard_mailbox_comes_back(address: str, name: str) -> None:
    written = email.utils.formataddr((name, address))
    found = parse_address_list(written)
    assert [(one.name, one.address) for one in found] == [(name, address)]


@pytest.mark.proves("T-D02", "T-D03")
@pytest.mark.parametrize(
    "text",
    [
        "a@b.c, " * 45_000,
        "(" * 60_000,
        "<" * 60_000,
        '"' * 60_001,
        "a:" * 30_000,
        "(a" * 1000 + "a@b.c",
        "@" * 60_000,
        "a@" * 30_000,
        "\\" * 60_000,
    ],
    ids=["45000 recipients", "comments", "angles", "quotes", "groups", "nested comments", "ats", "a@", "backslashes"],
)
def test_address_floods_are_linear(text: str) -> None:
    begun = time.process_time()
    assert len(parse_address_list(text)) <= addresses.MAX_ADDRESSES
    parse_sender((text.encode(),))
    assert time.process_time() - begun < 2


@pytest.mark.proves("T-A12")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann@Example.COM", "ann@example.com"),
        ("ann@example.com.", "ann@example.com"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@xn--BCHER-kva.example", "ann@bücher.example"),
        ("ju\u0308rgen@b.c", "j\u00fcrgen@b.c"),
        ('"ann"@b.c', "ann@b.c"),
        (" ann@b.c ", "ann@b.c"),
    ],
)
def test_same_mailbox_has_the_same_key(one: str, other: str) -> None:
    assert identity_key(one) == identity_key(other) is not None


@pytest.mark.proves("T-A12")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("m\u0131ke@b.c", "mike@b.c"),
        ("\u212aate@b.c", "kate@b.c"),
        ("\u017fam@b.c", "sam@b.c"),
        ("\uff41nn@b.c", "ann@b.c"),
        ("ann@ｅxample.com", "ann@example.com"),
        ("ann@ex\u0430mple.com", "ann@example.com"),
        ("\ufb01x@b.c", "fix@b.c"),
        ("stra\u00dfe@b.c", "strasse@b.c"),
        ("ann+a@b.c", "ann@b.c"),
        ("a.nn@b.c", "ann@b.c"),
        ('"a nn"@b.c', "ann@b.c"),
        ("Ä@b.c", "ä@b.c"),
    ],
)
def test_unicode_look_alikes_have_different_keys(one: str, other: str) -> None:
    assert identity_key(one) != identity_key(other)


@pytest.mark.proves("T-A12")
@given(st.characters(codec="utf-8"), st.characters(codec="utf-8"))
def test_keys_are_equal_only_for_canonically_equal_or_ascii_case(one: str, other: str) -> None:
    first, second = identity_key(f"x{one}y@b.c"), identity_key(f"x{other}y@b.c")
    if first is not None and first == second:
        same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
        assert (same and one.isascii() == other.isascii()) or (one.isascii() and one.lower() == other.lower())


@pytest.mark.proves("T-A12")
@pytest.mark.parametrize("text", ["", "ann", "@b.c", "ann@", "ann@.", "ann\x00@b.c", "ann\u200b@b.c"])
def test_what_is_no_address_has_no_key(text: str) -> None:
    assert identity_key(text) is None


@pytest.mark.proves("T-A12")
@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("example.com", False),
        ("bücher.example", False),
        ("ex\u0430mple.com", True),
        ("аррӏе.com", True),
        ("xn--80ak6aa92e.com", True),
        ("почта.рф", False),
        ("例え.テスト", False),
        ("東京tokyo.jp", False),
        ("exa\u200dmple.com", True),
        ("ｅxample.com", True),
        ("ελλάδα.gr", False),
        ("googlе.com", True),
    ],
)
def test_look_alike_domains_are_told(domain: str, expected: bool) -> None:
    assert is_confusable(domain) is expected
