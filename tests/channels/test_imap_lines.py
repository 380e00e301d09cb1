"""The IMAP reader: any split of the bytes gives the same responses, and any bytes give a value or Malformed."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels import imap_lines
from gateway.channels.imap_fetch import Listed, plan
from gateway.channels.imap_lines import Framer, Malformed, Response

STREAM = (
    b"* OK [ALERT] a status text ends like a literal {99}\r\n"
    b"\r\n"
    b"* 1 FETCH (UID 5 BODY[] {11}\r\n)\r\nA1 OK {3 FLAGS (\\Seen))\r\n"
    b'* LIST () "/" {3}\r\na\r\n\r\n'
    b"* 2 FETCH (UID 6 BODY[] {0}\r\n)\r\n"
    b"+ go on {5}\r\n"
    b"* 3 FETCH (UID 7 BODY[] ~{2}\r\nzz X {1+}\r\n\n)\n"
    b"A1 OK done {7}\r\n"
)


def framed(stream: bytes, cuts: list[int]) -> list[Response]:
    framer = Framer()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    found: list[Response] = []
    for start, end in pairwise(edges):
        found += framer.feed(stream[start:end])
    assert framer.pending == b""
    return found


@pytest.mark.proves("F-M08")
def test_literals_are_kept_apart_from_text_and_status_texts_have_none() -> None:
    heads = [response.parts for response in framed(STREAM, [])]
    assert heads == [
        (b"* OK [ALERT] a status text ends like a literal {99}",),
        (b"* 1 FETCH (UID 5 BODY[] {11}", b")\r\nA1 OK {3", b" FLAGS (\\Seen))"),
        (b'* LIST () "/" {3}', b"a\r\n", b""),
        (b"* 2 FETCH (UID 6 BODY[] {0}", b"", b")"),
        (b"+ go on {5}",),
        (b"* 3 FETCH (UID 7 BODY[] ~{2}", b"zz", b" X {1+}", b"\n", b")"),
        (b"A1 OK done {7}",),
    ]


@pytest.mark.proves("F-M01", "F-M08")
@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=40))
def test_responses_do_not_depend_on_how_the_bytes_are_split(cuts: list[int]) -> None:
    assert framed(STREAM, cuts) == framed(STREAM, [])


@pytest.mark.proves("F-M08", "T-C04")
@given(st.binary(max_size=2000), st.lists(st.integers(min_value=0, max_value=3000), max_size=20))
def test_any_literal_is_returned_byte_for_byte(raw: bytes, cuts: list[int]) -> None:
    stream = b"* 1 FETCH (UID 5 BODY[] {%d}\r\n%b)\r\nA1 OK done\r\n" % (len(raw), raw)
    found = framed(stream, cuts)
    assert [len(response.parts) for response in found] == [3, 1]
    assert imap_lines.fetched(found[0]) == {b"UID": b"5", b"BODY[]": raw}


PIECES = st.sampled_from([b"* ", b"1 FETCH (", b"{3}\r\n", b"(", b")", b'"', b"\\", b"[", b"]", b"NIL ", b"\r\n", b"+"])


@pytest.mark.proves("F-M08")
@given(st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=60))
def test_any_bytes_give_values_or_malformed(pieces: list[bytes]) -> None:
    try:
        for response in Framer().feed(b"".join(pieces)):
            imap_lines.fetched(response)
            imap_lines.searched([response])
            imap_lines.values(response)
    except Malformed:
        pass
    framer = Framer()
    for piece in pieces:
        try:
            list(framer.feed(piece))
        except Malformed:
            break
        assert len(framer.pending) <= 400


@pytest.mark.proves("F-M08")
@pytest.mark.parametrize(
    "stream",
    [
        b"* 1 FETCH (BODY[] {4294967296}\r\n",
        b"* 1 FETCH (BODY[] {65537}\r\n",
        b"* 1 FETCH (BODY[] {99999999999999999999}\r\n",
        b"* " + b"x" * imap_lines.MAX_TEXT_BYTES,
        b"* X " + b"{1}\r\nx " * 100,
        b"* X " + (b"{1}\r\nx " + b"y" * 100_000) * 20,
    ],
)
def test_what_goes_beyond_a_limit_is_refused(stream: bytes) -> None:
    with pytest.raises(Malformed):
        list(Framer().feed(stream))


@pytest.mark.proves("F-M08")
@pytest.mark.parametrize(
    ("line", "items"),
    [
        (b'* 1 FETCH (UID 5 BODY[] "a \\"b\\" \\\\")', {b"UID": b"5", b"BODY[]": b'a "b" \\'}),
        (b"* 1 fetch (uid 5 body[] nil)", {b"UID": b"5", b"BODY[]": None}),
        (b'* 1 FETCH (UID 5 X "NIL")', {b"UID": b"5", b"X": b"NIL"}),
        (b"* 1 FETCH (UID 5 UID 5)", {b"UID": b"5"}),
        (b"* 1 FETCH (FLAGS (\\Seen (a b)) UID 5)", {b"FLAGS": [b"\\Seen", [b"a", b"b"]], b"UID": b"5"}),
        (b"* 1 FETCH ()", {}),
        (b"* 1 FETCH (UID 5 UID 6)", None),
        (b"* 1 FETCH (UID)", None),
        (b"* 1 FETCH (UID 5", None),
        (b"* 1 FETCH (UID 5))", None),
        (b"* 1 FETCH (UID 5) extra", None),
        (b"* 1 FETCH ((UID) 5)", None),
        (b"* 1 FETCH (UID 5 BODY[ x)", None),
        (b"* 1 FETCH (" + b"(" * 1000 + b")" * 1000 + b" 1)", None),
        (b"* 1 EXISTS", None),
        (b"* x FETCH (UID 5)", None),
    ],
)
def test_fetch_items_are_read_or_the_line_is_none(line: bytes, items: object) -> None:
    assert imap_lines.fetched(Response((line,))) == items


def test_search_answers_are_added_up() -> None:
    lines = (b"* SEARCH 3 1", b"* 5 EXISTS", b"* search 7 (MODSEQ 917)", b"* SEARCH", b"* SEARCH 4294967296 -1")
    assert imap_lines.searched(Response((line,)) for line in lines) == {0, 1, 3, 7}


@pytest.mark.proves("F-M13")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"17-Jul-1996 02:44:25 -0700", datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)),
        (b" 1-JAN-2026 23:59:60 +0530", datetime(2026, 1, 1, 18, 29, 59, tzinfo=UTC)),
        (b"31-Feb-2026 00:00:00 +0000", None),
        (b"01-Foo-2026 00:00:00 +0000", None),
        (b"01-Jan-2026 00:00:00 +9900", None),
        (b"01-Jan-0001 00:00:00 +1200", None),
        (b"", None),
        (None, None),
    ],
)
def test_internal_date_is_utc_or_unknown(text: bytes | None, expected: datetime | None) -> None:
    assert imap_lines.internal_date(text) == expected


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("INBOX", "INBOX"),
        ("Sent Items", "Sent Items"),
        ("Q&A", "Q&-A"),
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 section 5.1.3
        ("Gelöschte Objekte", "Gel&APY-schte Objekte"),
        ("\N{PARTY POPPER}", "&2DzfiQ-"),
        ("a\r\nb", "a&AA0ACg-b"),
    ],
)
def test_folder_names_are_written_and_read_as_modified_utf7(name: str, wire: str) -> None:
    assert imap_lines.utf7_encode(name) == wire
    assert imap_lines.utf7_decode(wire.encode()) == name


@given(st.text(max_size=30))
def test_any_folder_name_survives_and_stays_on_one_line(name: str) -> None:
    argument = imap_lines.mailbox(name)
    assert argument.isascii()
    assert argument.isprintable()
    encodable = "".join(c for c in name if not 0xD800 <= ord(c) < 0xE000)
    assert imap_lines.utf7_decode(imap_lines.utf7_encode(encodable).encode()) == encodable


@given(st.binary(max_size=30))
def test_any_listed_folder_name_can_be_shown(raw: bytes) -> None:
    imap_lines.utf7_decode(raw).encode()


@given(st.sets(st.integers(min_value=1, max_value=60)))
def test_uid_set_names_exactly_these(uids: set[int]) -> None:
    named: set[int] = set()
    for part in filter(None, imap_lines.uid_set(list(uids)).split(",")):
        low, _, high = part.partition(":")
        named |= set(range(int(low), int(high or low) + 1))
    assert named == uids


def test_a_message_that_went_meanwhile_is_asked_for_alone_even_beside_an_empty_one() -> None:
    listed = {45: Listed(uid=45, size_bytes=0, internal_at=None), 46: Listed(uid=46, size_bytes=10, internal_at=None)}
    assert plan([44, 45, 46], listed, max_raw_bytes=1000)[0] == [44]
