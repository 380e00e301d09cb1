"""Trees of parts: three engines agree on good mail; damaged mail keeps every word and every file."""

from __future__ import annotations

import base64
import binascii
import email
import email.policy
import time
from collections.abc import Iterator
from email.message import EmailMessage, Message
from typing import Any

import fast_mail_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.normalize import mime
from gateway.normalize.headers import Leaf, read_head


def read(raw: bytes) -> tuple[list[Leaf], list[str]]:
    head, offset, _ = read_head(raw)
    root, warnings = mime.read_tree(head, raw, offset)
    return list(mime.leaves(root)), warnings


def shapes(leaves: list[Leaf]) -> list[tuple[str, bytes]]:
    return [(leaf.content_type, leaf.payload.strip()) for leaf in leaves]


def mixed(*parts: bytes, boundary: bytes = b"b", tail: bytes = b"--b--\r\n") -> bytes:
    top = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n"
    return top + b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + tail


TEXT = b"Content-Type: text/plain\r\n\r\nHello"
FILE = b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8="


@pytest.mark.proves("R2.1", "T-D04")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (mixed(TEXT, FILE), [("text/plain", b"Hello"), ("application/pdf", b"hello")]),
        (mixed(TEXT, FILE, tail=b""), [("text/plain", b"Hello"), ("application/pdf", b"hello")]),
        (mixed(TEXT, FILE, boundary=b'" b "'), [("text/plain", b"Hello"), ("application/pdf", b"hello")]),
        (mixed(TEXT, FILE, boundary=b"other"), [("text/plain", b"Hello"), ("application/pdf", b"hello")]),
        (mixed(TEXT, FILE, boundary=b'""'), [("text/plain", b"Hello"), ("application/pdf", b"hello")]),
        (mixed(TEXT, FILE).replace(b"\r\n", b"\n"), [("text/plain", b"Hello"), ("application/pdf", b"hello")]),
        (mixed(TEXT, b"--b--", TEXT), [("text/plain", b"Hello")] * 2),
        (mixed(b"\r\nNo header"), [("text/plain", b"No header")]),
        (mixed(b"No header and no gap"), [("text/plain", b"No header and no gap")]),
        (mixed(b"Note: prose with a colon\r\n\r\nmore"), [("text/plain", b"Note: prose with a colon\r\n\r\nmore")]),
        (mixed(b"Content-Type: text/plain\r\n\r\n--bb\r\nstays"), [("text/plain", b"--bb\r\nstays")]),
        (mixed(b"Content-Type: text/plain\r\n\r\n--b stays"), [("text/plain", b"--b stays")]),
        (mixed(b"Content-Type: text/plain\r\n\r\nx --b"), [("text/plain", b"x --b")]),
        (b"Content-Type: multipart/mixed\r\n\r\njust words", [("text/plain", b"just words")]),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\njust words", [("text/plain", b"just words")]),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n<html>x", [("text/html", b"<html>x")]),
        (
            b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\ny\r\n--b--",
            [("message/rfc822", b"Subject: x\r\n\r\ny")],
        ),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.b64encode(b"--b\r\n" + TEXT + b"\r\n--b--"),
            [("text/plain", b"Hello")],
        ),
        (
            mixed(b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n" + TEXT + b"\r\n--b--", FILE),
            [("text/plain", b"Hello"), ("application/pdf", b"hello")],
        ),
        (
            mixed(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeAoKeQ=="),
            [("message/rfc822", b"Subject: x\n\ny")],
        ),
    ],
)
def test_parts_are_found(raw: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert [shape for shape in shapes(read(raw)[0]) if shape[1]] == expected


LINE = base64.encodebytes(bytes(range(200))).replace(b"\n", b"\r\n")


@pytest.mark.proves("R2.1", "T-D04")
@pytest.mark.parametrize(
    ("data", "payload", "footer"),
    [
        (LINE, bytes(range(200)), b""),
        (LINE.replace(b"\r\n", b""), bytes(range(200)), b""),
        (LINE.replace(b"AAEC", b"AA*EC", 1), bytes(range(200)), b""),
        (LINE.replace(b"AAEC", b"AA\x00EC", 1), bytes(range(200)), b""),
        (LINE.rstrip(b"=\r\n"), bytes(range(200)), b""),
        (
            LINE + b"\r\n-- \r\nList footer\r\nhttp://list.test/\r\n",
            bytes(range(200)),
            b"-- \r\nList footer\r\nhttp://list.test/",
        ),
        (
            LINE + b"_______________\r\nlist mailing list\r\n",
            bytes(range(200)),
            b"_______________\r\nlist mailing list",
        ),
        (LINE + b"\r\nRegards\r\n", bytes(range(200)), b"Regards"),
        (base64.encodebytes(b"ab") + base64.encodebytes(bytes(range(60))), b"ab" + bytes(range(60)), b""),
        (b"Hello, this is no base64 at all.\r\n", b"Hello, this is no base64 at all.\r\n", b""),
        (b"", b"", b""),
    ],
)
def test_damaged_base64_loses_nothing(data: bytes, payload: bytes, footer: bytes) -> None:
    assert mime.decode_base64(data)[:2] == (payload, footer)


@pytest.mark.proves("T-D04", "F-Z01")
@given(st.binary(max_size=400))
def test_any_bytes_are_base64_of_something(data: bytes) -> None:
    mime.decode_base64(data)
    mime.decode_base64(base64.b64encode(data) + data)


@pytest.mark.proves("R2.1")
@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        (b"Gr=C3=BC=C3=9Fe", "Grüße".encode()),
        (b"soft=\r\nbreak", b"softbreak"),
        (b"soft= \t\r\nbreak", b"softbreak"),
        (b"50=% off =ZZ", b"50=% off =ZZ"),
        (b"=c3=bc", "ü".encode()),
        (b"line\nend", b"line\nend"),
        (b"end=", b"end"),
    ],
)
def test_quoted_printable(encoded: bytes, decoded: bytes) -> None:
    raw = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n" + encoded
    assert read(raw)[0][0].payload == decoded


@pytest.mark.proves("R2.1", "T-D04")
def test_uuencoded_file_is_taken_out_of_the_text() -> None:
    content = bytes(range(256))
    coded = b"".join(binascii.b2a_uu(content[at : at + 45]) for at in range(0, 256, 45))
    text = b"Hello\nbegin 644 data.bin\n" + coded + b"`\nend\nBye\n"
    assert mime.extract_uuencoded(text) == (b"Hello\nBye\n", [(b"data.bin", content)])
    crlf = text.replace(b"\n", b"\r\n")
    rest, files = mime.extract_uuencoded(crlf)
    assert (rest.split(), files) == ([b"Hello", b"Bye"], [(b"data.bin", content)])


@pytest.mark.proves("R2.1")
@pytest.mark.parametrize(
    "prose",
    [
        b"x\nbegin 644 words here\nthis is prose, not a file at all, and long\nend\n",
        b"begin 644 x\nno end",
        b"begin again",
    ],
)
def test_prose_that_begins_like_uuencode_stays(prose: bytes) -> None:
    assert mime.extract_uuencoded(prose) == (prose, [])


@pytest.mark.proves("T-D01", "T-D02")
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (
            b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(10_000)),
            "mime-too-deep",
        ),
        (mixed(*[TEXT] * 100_000), "mime-too-many-parts"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 100_000, "mime-too-many-parts"),
    ],
    ids=["10000 deep", "100000 parts", "100000 empty parts"],
)
def test_limits_hold_and_say_so(raw: bytes, code: str) -> None:
    begun = time.process_time()
    leaves, warnings = read(raw)
    assert code in warnings
    assert len(leaves) <= mime.MAX_PARTS
    assert max((leaf.depth for leaf in leaves), default=0) <= mime.MAX_DEPTH
    assert time.process_time() - begun < 2


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), min_size=1, max_size=200).map(
    lambda text: text + "\n"
)


@st.composite
def good_mails(draw: st.DrawFn) -> EmailMessage:
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["From"], mail["Subject"] = "a@b.test", "x"
    mail.set_content(draw(TEXTS), cte=draw(st.sampled_from(["base64", "quoted-printable"])))
    if draw(st.booleans()):
        mail.add_alternative(
            f"<p>{draw(TEXTS)}</p>", subtype="html", cte=draw(st.sampled_from(["base64", "quoted-printable"]))
        )
    for number in range(draw(st.integers(0, 3))):
        mail.add_attachment(draw(st.binary(max_size=300)), "application", "octet-stream", filename=f"f{number}.bin")
    return mail


def stdlib_leaves(raw: bytes) -> list[tuple[str, bytes]]:
    def walk(message: Message) -> Iterator[Message]:
        if message.is_multipart():
            for part in message.get_payload():
                assert isinstance(part, Message)
                yield from walk(part)
        else:
            yield message

    parsed = email.message_from_bytes(raw)
    found = []
    for part in walk(parsed):
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found.append((part.get_content_type(), payload))
    return found


def fast_leaves(raw: bytes) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    stack: list[Any] = [fast_mail_parser.parse_email_tree(raw, mode="lazy")]
    while stack:
        node = stack.pop()
        if node.children:
            stack.extend(reversed(node.children))
        else:
            found.append((node.content_type, node.content))
    return found


@pytest.mark.proves("R2.1", "T-D04")
@settings(max_examples=150)
@given(good_mails())
def test_three_engines_see_the_same_parts_of_good_mail(mail: EmailMessage) -> None:
    raw = mail.as_bytes()
    ours = [(leaf.content_type, leaf.payload) for leaf in read(raw)[0]]
    assert ours == stdlib_leaves(raw)

    def lines(found: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:  # it writes CRLF into quoted-printable
        return [(kind, data.replace(b"\r\n", b"\n") if kind.startswith("text/") else data) for kind, data in found]

    assert lines(ours) == lines(fast_leaves(raw))


@pytest.mark.proves("F-Z01", "T-D01")
@given(
    st.lists(
        st.sampled_from(
            [
                b"--b",
                b"--b--",
                b"\r\n",
                b"\n",
                b"\r",
                b"Content-Type: multipart/mixed; boundary=b",
                TEXT,
                FILE,
                b"x",
                b"--",
            ]
        ),
        max_size=30,
    )
)
def test_any_order_of_lines_is_a_tree(lines: list[bytes]) -> None:
    read(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"\r\n".join(lines))
