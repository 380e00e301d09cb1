"""Header blocks of every kind of writer: where they end, what the fields say, how much is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.normalize import headers, words
from gateway.normalize.headers import read_head


@pytest.mark.proves("R2.1")
@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"Subject: x\r\nFrom: a@b.c\r\n\r\nbody", b"body"),
        (b"Subject: x\nFrom: a@b.c\n\nbody", b"body"),
        (b"Subject: x\rFrom: a@b.c\r\rbody", b"body"),
        (b"Subject: x\r\nFrom: a@b.c\n\r\nbody", b"body"),
        (b"From joe@x Mon May  5 10:00:00 2025\nSubject: x\nFrom: a@b.c\n\nbody", b"body"),
        (b">From joe@x Mon May  5 10:00:00 2025\r\nSubject: x\r\n\r\nbody", b"body"),
        (b"\r\n\r\nSubject: x\r\n\r\nbody", b"body"),
        (b"\xef\xbb\xbfSubject: x\r\n\r\nbody", b"body"),
        (b"From: a@b.c\r\nSubject: x\r\nHello without a gap\r\nmore", b"Hello without a gap\r\nmore"),
        (b"From: a@b.c\r\ngarbage line\r\nSubject: x\r\n\r\nbody", b"body"),
        (b"From: a@b.c\r\nSubject: x\r\n", b""),
        (b"From: a@b.c\r\nSubject: x", b""),
        (b"Received: by h\r\n\tfor x\r\n \r\nSubject: x\r\n\r\nbody", b"body"),
        (b"Subject : x\r\n\r\nbody", b"body"),
        (b"SUBJECT:x\r\n\r\nbody", b"body"),
    ],
)
def test_body_begins_where_a_person_would_say(raw: bytes, body: bytes) -> None:
    head, offset, _ = read_head(raw)
    assert head.first("Subject") == "x"
    assert raw[offset:] == body


@pytest.mark.proves("R2.1")
@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"Just words\nand more", b"Note: words, not a field\nmore", b"\x00\xff" * 50]
)
def test_text_without_header_is_all_body(raw: bytes) -> None:
    head, offset, warnings = read_head(raw)
    assert head.fields == ()
    assert raw[offset:].strip() == raw.strip()
    assert "header-missing" in warnings


@pytest.mark.proves("R2.1")
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?utf-8?B?R3LDvMOfZQ==?=", "Grüße"),
        (b"=?utf-8?B?R3LD?= =?utf-8?B?vMOfZQ==?=", "Grüße"),
        (b"=?UTF-8?Q?Gr=C3?=\r\n =?utf-8?Q?=BC=C3=9Fe?=", "Grüße"),
        (b"=?utf-8?B?R3LDv?= =?utf-8?B?MOfZQ==?=", "Grüße"),
        (b"Re:=?utf-8?q?Gr=C3=BC=C3=9Fe?=an", "Re:Grüßean"),
        (b'"=?utf-8?q?Gr=C3=BC=C3=9Fe?=" x', '"Grüße" x'),
        (b"a =?utf-8?q?b?= =?utf-8?q?c?= d", "a bc d"),
        (b"a =?utf-8?q?b?= x =?utf-8?q?c?= d", "a b x c d"),
        (b"=?iso-8859-1?q?Gr=FC?= =?utf-8?q?=C3=9Fe?=", "Grüße"),
        (b"=?utf-8*de?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?utf-8?q?illegal spaces inside?=", "illegal spaces inside"),
        (b"=?utf-8?q?Really=3F?=", "Really?"),
        (b"=?utf-8?q?Really??=", "Really?"),
        (b"=?utf-8?q??=", ""),
        (b"=?utf-8?x?unknown?=", "=?utf-8?x?unknown?="),
        (b"=?utf-8?q?unfinished", "=?utf-8?q?unfinished"),
        (b"=?nonsense?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?iso-2022-jp?B?GyRCJDMkcyRLGyhC?= =?iso-2022-jp?B?GyRCJEEkTxsoQg==?=", "こんにちは"),
        (b"=?gb2312?B?xPq6ww==?=", "您好"),
        (b"=?ks_c_5601-1987?B?vsiz5w==?=", "안녕"),
        (b"=?koi8-r?Q?=F0=D2=C9=D7=C5=D4?=", "Привет"),
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"a\r\n b\r\n\tc", "a b\tc".replace("\t", " ")),
        (b"=?utf-8?q?a=0D=0ABcc:_evil?=", "a Bcc: evil"),
        (b"a\x00b\x07c", "ab c"),
    ],
)
def test_field_text_is_what_a_person_reads(raw: bytes, text: str) -> None:
    assert words.decode_field(raw) == text


@pytest.mark.proves("R2.1", "T-D08")
@pytest.mark.parametrize(
    ("raw", "params"),
    [
        (b'text/plain; charset="utf-8"', {"charset": "utf-8"}),
        (b"text/plain; charset=utf-8; format=flowed", {"charset": "utf-8", "format": "flowed"}),
        (b"a/b; name=my file.pdf", {"name": "my file.pdf"}),
        (b"a/b; name=one; two.pdf", {"name": "one; two.pdf"}),
        (b'a/b; name="one; two.pdf"', {"name": "one; two.pdf"}),
        (b'a/b; name="a \\"b\\".pdf"', {"name": 'a "b".pdf'}),
        (b"a/b; name*=utf-8''Gr%C3%BC%C3%9Fe.pdf", {"name": "Grüße.pdf"}),
        (b"a/b; name*0*=utf-8''Gr%C3; name*1*=%BC; name*2=.pdf", {"name": "Grü.pdf"}),
        (b"a/b; name*1=b.pdf; name*0=a", {"name": "ab.pdf"}),
        (b"a/b; name=plain.pdf; name*=utf-8''ext.pdf", {"name": "ext.pdf"}),
        (b"a/b; name==?utf-8?q?Gr=C3=BC.pdf?=", {"name": "Grü.pdf"}),
        (b'a/b; name="=?utf-8?q?Gr=C3=BC.pdf?="', {"name": "Grü.pdf"}),
        (b"a/b; name*0==?utf-8?B?R3LD?=; name*1= =?utf-8?B?vA==?=", {"name": "Grü"}),
        ('a/b; name="Grüße.pdf"'.encode("latin-1"), {"name": "Grüße.pdf"}),
        ('a/b; name="Grüße.pdf"'.encode(), {"name": "Grüße.pdf"}),
        (b"a/b; charset=utf-8; charset=latin1", {"charset": "utf-8"}),
        (b"a/b;;; ; x", {}),
        (b"a/b; name*=utf-8\x00''x%00y", {"name": "xy"}),
    ],
)
def test_parameters_are_put_together(raw: bytes, params: dict[str, str]) -> None:
    assert headers.parse_parameters(raw).params == params


@pytest.mark.proves("R2.1")
@pytest.mark.parametrize(
    ("raw", "main"),
    [
        (b"text/html", "text/html"),
        (b"TEXT/HTML; charset=x", "text/html"),
        (b"text", "text/plain"),
        (b"", "text/plain"),
        (b"garbage here", "text/plain"),
        (b"text/plain (comment); charset=x", "text/plain"),
        (b"multipart", "multipart/mixed"),
        (b"text /html", "text/html"),
    ],
)
def test_content_type_is_never_illegible(raw: bytes, main: str) -> None:
    assert read_head(b"Content-Type: " + raw + b"\r\n\r\n")[0].content_type().main == main


@pytest.mark.proves("T-D02", "T-D03")
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"X: y\r\n" * 100_000 + b"Subject: kept\r\n\r\nbody", "header-block-cut"),
        (b"To: " + b"a" * 20_000_000 + b"\r\nSubject: kept\r\n\r\nbody", "header-field-cut"),
        (
            b"X-A: "
            + b"b" * 60_000
            + b"\r\n"
            + (b"X-A: " + b"b" * 60_000 + b"\r\n") * 9
            + b"Subject: kept\r\n\r\nbody",
            "header-block-cut",
        ),
    ],
    ids=["100000 fields", "20 MB line", "600 kB block"],
)
def test_floods_are_cut_and_the_vital_fields_are_kept(raw: bytes, code: str) -> None:
    head, offset, warnings = read_head(raw)
    assert head.first("subject") == "kept"
    assert raw[offset:] == b"body"
    assert code in warnings
    assert sum(len(value) for _, value in head.fields) <= headers.MAX_BLOCK_BYTES + headers.MAX_FIELD_BYTES
    assert len(head.fields) <= headers.MAX_FIELDS + 1


@pytest.mark.proves("T-D02")
def test_twenty_thousand_parameters_are_cut() -> None:
    raw = b"text/plain; charset=utf-8; " + b"; ".join(b"p%d=v" % number for number in range(20_000))
    assert len(headers.parse_parameters(raw).params) <= headers.MAX_PARAMS


@pytest.mark.proves("F-Z01", "T-D05")
@given(st.binary(max_size=400))
def test_any_bytes_are_a_header_block(raw: bytes) -> None:
    head, offset, _ = read_head(raw)
    assert 0 <= offset <= len(raw)
    for name, _ in head.fields:
        text = head.first(name)
        assert text is not None
        assert "\n" not in text
        text.encode()
    head.content_type()
    head.disposition()


@pytest.mark.proves("F-Z01", "T-C01")
@given(st.text(max_size=200))
def test_any_text_is_a_field_of_one_storable_line(text: str) -> None:
    shown = words.decode_field(text.encode("utf-8", "surrogatepass"))
    assert not set(shown) & set("\r\n\x00\x7f")
    shown.encode()


@given(st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=60), st.sampled_from("bq"))
def test_standard_encoded_words_come_back(text: str, encoding: str) -> None:
    from email.charset import BASE64, QP, Charset
    from email.header import Header

    coder = Charset("utf-8")
    coder.header_encoding = BASE64 if encoding == "b" else QP
    encoded = Header(text, coder, header_name="Subject").encode().encode("ascii")
    assert words.decode_field(encoded) == text
