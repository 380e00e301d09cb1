"""Hostile and damaged mail: no exception, bounded time, storable text, raw bytes untouched.

``GATEHOUSE_FUZZ=20000`` runs the long version; the seed is fixed, so a failure comes back.
"""

from __future__ import annotations

import base64
import os
import random
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.inspect import inspect_mail
from gateway.normalize.mail import read_mail
from gateway.normalize.values import Mail

CORPUS = Path(__file__).parent / "corpus"
INPUTS: Final = int(os.environ.get("GATEHOUSE_FUZZ", "2000"))
MAX_CPU_SECONDS: Final = 2.0
TOKENS: Final = [
    *(
        b"\x00",
        b"\xff",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"--bound",
        b"--bound--",
        b'"',
        b"<",
        b">",
        b"(",
        b";",
        b":",
    ),
    *(
        b"=?utf-8?q?=00=0D=0A?=",
        b"=?utf-7?q?+ADw-?=",
        b"=?x?b?====?=",
        b"=?utf-8?B?",
        b"\x1b$B",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(b"charset=\x00", b"charset=idna", b"charset=utf-16", b"charset*0*=utf-8''%", b"boundary=", b"name*99999999999=x"),
    *(
        b"Content-Type: multipart/mixed; boundary=bound\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: text/html\r\n",
    ),
    *(
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"format=flowed; delsp=yes",
    ),
    *(
        b"Message-ID: <[x@y]>\r\n",
        b"Date: \xff\r\n",
        b"From: ((((((((\r\n",
        b"begin 644 x\n",
        b"\n`\nend\n",
        b"<div>",
        b"</p>",
        b"&#0;",
    ),
    *(
        b"multipart/report",
        b"message/delivery-status",
        b"Auto-Submitted: x\r\n",
        b"On Mon, Ann wrote:\r\n> ",
        b"\xe2\x80\xae",
        b"-- \r\n",
    ),
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a few places the way transports, broken writers and attackers do."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 12))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(7):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at : at + rng.randrange(40)]
            case 2:
                out[at:at] = rng.choice(TOKENS)
            case 3:
                out[at:at] = rng.choice(TOKENS) * rng.randrange(2, 60)
            case 4:
                begin = rng.randrange(len(out) + 1)
                out[at:at] = out[begin : begin + rng.randrange(300)]
            case 5:
                del out[at:]
            case _:
                lines = bytes(out).split(b"\n")
                rng.shuffle(lines) if rng.random() < 0.2 else lines.insert(
                    rng.randrange(len(lines) + 1), rng.choice(lines)
                )
                out = bytearray(b"\n".join(lines))
    return bytes(out)


def texts_in(value: Any) -> list[str]:
    """Every text anywhere inside a value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in texts_in(one)]
    if isinstance(value, (tuple, list)):
        return [text for one in value for text in texts_in(one)]
    if is_dataclass(value):
        return [text for one in fields(value) for text in texts_in(getattr(value, one.name))]
    return []


def check(raw: bytes) -> Mail:
    before = bytes(bytearray(raw))
    begun = time.process_time()
    read = read_mail(raw)
    spent = time.process_time() - begun
    assert raw == before
    assert "reader-failed" not in read.warnings
    for text in texts_in(read):
        assert "\x00" not in text
        text.encode("utf-8")
    assert spent < MAX_CPU_SECONDS
    return read


@pytest.mark.proves("F-Z01", "F-Z04", "T-D05", "T-D12", "R2.1")
def test_mutated_mail_is_always_read() -> None:
    rng = random.Random(20250505)
    corpus = [path.read_bytes() for path in sorted(CORPUS.glob("*.eml"))]
    for number in range(INPUTS):
        raw = mutate(corpus[number % len(corpus)], rng)
        try:
            check(raw)
        except BaseException as error:
            error.add_note(f"input {number}: {raw[:3000]!r}")
            raise


@pytest.mark.proves("F-Z01", "T-D05")
def test_noise_is_always_read() -> None:
    rng = random.Random(7)
    for _ in range(INPUTS // 10):
        check(rng.randbytes(rng.randrange(600)))
        check(b"".join(rng.choice(TOKENS) for _ in range(rng.randrange(40))))


def nested(depth: int) -> bytes:
    return (
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth))
        + b"\r\ndeep"
    )


def html(body: bytes) -> bytes:
    return b"From: a@b.test\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>first</p>" + body


def head(name: bytes, value: bytes) -> bytes:
    return b"From: a@b.test\r\n" + name + b": " + value + b"\r\nContent-Type: text/plain\r\n\r\nfirst"


BOMBS: dict[str, Callable[[], bytes]] = {
    "10000 multiparts deep": lambda: nested(10_000),
    "rfc822 chain": lambda: b"Content-Type: message/rfc822\r\n\r\n" * 20_000 + b"Subject: x\r\n\r\nfirst",
    "100000 parts": lambda: b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nfirst\r\n" * 100_000,
    "100000 HTML parts": lambda: (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Type: text/html\r\n\r\n<p>first</p>\r\n" * 100_000
    ),
    "100000 headers": lambda: b"X-A: b\r\n" * 100_000 + b"\r\nfirst",
    "100000 header names": lambda: b"".join(b"X-%d: b\r\n" % n for n in range(100_000)) + b"\r\nfirst",
    "20 MB header line": lambda: head(b"Subject", b"x" * 20_000_000),
    "20 MB folded header": lambda: head(b"Subject", b"x\r\n " * 5_000_000),
    "300 kB To": lambda: head(b"To", b"a@b.test, " * 30_000),
    "To of brackets": lambda: head(b"To", b'<("' * 100_000),
    "20000 parameters": lambda: (
        b"Content-Type: text/plain; " + b"; ".join(b"p%d=v" % n for n in range(20_000)) + b"\r\n\r\nfirst"
    ),
    "20000 continuations": lambda: (
        b"Content-Type: text/plain; " + b"; ".join(b"n*%d*=v" % n for n in range(20_000)) + b"\r\n\r\nfirst"
    ),
    "quotes in parameters": lambda: b"Content-Type: text/plain; x=" + b'"\\' * 100_000 + b"\r\n\r\nfirst",
    "64 kB of encoded words": lambda: head(b"Subject", b"=?utf-8?q?a?= " * 5000),
    "open encoded words": lambda: head(b"Subject", b"=?utf-8?q?" * 6000),
    "charset per word": lambda: head(b"Subject", b" ".join(b"=?x-%d?q?=FC?=" % n for n in range(4000))),
    "giant base64 line": lambda: (
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.b64encode(b"first " * 2_000_000)
    ),
    "giant damaged base64": lambda: (
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(b"first " * 1_000_000).replace(b"maXJz", b"ma*Jz")
    ),
    "base64 pads": lambda: (
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"Zmlyc3Q=\r\n" * 200_000
    ),
    "100000 divs": lambda: html(b"<div>" * 100_000),
    "formatting elements": lambda: html(
        b"".join(b"<b %d>" % n for n in range(6000)) + b"".join(b"<i %d>x</b>" % n for n in range(6000))
    ),
    "lists in lists": lambda: html(b"<ul><li>" * 60_000),
    "items in items": lambda: html(b"<li><dd>" * 60_000),
    "open brackets": lambda: html(b"<" * 1_000_000),
    "quotes of quotes": lambda: html(b"<blockquote type=cite>x" * 250),
    "5000 paragraphs": lambda: html(b"<p class=MsoNormal>words and words</p>" * 5000),
    "10 MB text line": lambda: b"Content-Type: text/plain\r\n\r\nfirst" + b"x" * 10_000_000,
    "10 MB of blanks": lambda: b"Content-Type: text/plain\r\n\r\nfirst" + b" " * 10_000_000 + b"x",
    "10 MB of tabs and lines": lambda: b"Content-Type: text/plain\r\n\r\nfirst" + b"\t\r\n" * 3_000_000,
    "flowed": lambda: b"Content-Type: text/plain; format=flowed\r\n\r\nfirst" + b"x \r\n" * 500_000,
    "quote marks": lambda: b"Content-Type: text/plain\r\n\r\nfirst\r\n" + b">" * 500_000,
    "quoted lines": lambda: b"Content-Type: text/plain\r\n\r\nfirst\r\n" + b"> x\r\n" * 30_000,
    "attributions": lambda: (
        b"Content-Type: text/plain\r\n\r\nfirst\r\n" + b"On Mon, Ann <a@b.test> wrote:\r\n" * 10_000
    ),
    "false uuencode": lambda: b"Content-Type: text/plain\r\n\r\nfirst\r\n" + b"begin 644 x\r\n" * 100_000 + b"end\r\n",
    "false boundaries": lambda: (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst\r\n" + b"--bx\r\n" * 300_000
    ),
    "null charset": lambda: b"Content-Type: text/plain; charset*=utf-8\x00''x%00\r\n\r\nfirst",
    "odd UTF-16": lambda: b"Content-Type: text/plain; charset=utf-16\r\n\r\nfirst\xd8\x00",
    "nested comments": lambda: b"From: " + b"(" * 30_000 + b" a@b.test\r\n\r\nfirst",
    "bare CR": lambda: b"Subject: x\r\r" + b"first\r" * 300_000,
    "empty lines first": lambda: b"\r\n" * 300_000 + b"Subject: x\r\n\r\nfirst",
    "mbox lines first": lambda: b"From x\r\n" * 100_000 + b"Subject: x\r\n\r\nfirst",
    "references": lambda: head(b"References", b"<a@b> " * 10_000),
    "zalgo": lambda: b"Content-Type: text/plain; charset=utf-8\r\n\r\nfirst" + "a\u0300\u0301\u0302".encode() * 200_000,
}


@pytest.mark.proves("T-D01", "T-D02", "T-D03", "T-D04", "T-D12", "F-Z01")
@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_read_in_time(name: str) -> None:
    read = check(BOMBS[name]())
    shown = read.text + "".join(one.content.decode("latin-1") for one in read.attachments)
    assert "first" in shown or "deep" in shown or name in {"rfc822 chain", "odd UTF-16"}


@pytest.mark.proves("T-C01", "F-Z06")
def test_encoded_line_break_in_the_subject_is_one_line() -> None:
    read = check(head(b"Subject", b"=?utf-8?b?" + base64.b64encode(b"Hi\r\nBcc: victim@x.test") + b"?="))
    assert read.subject == "Hi Bcc: victim@x.test"


def test_inspect_describes_every_bomb_of_the_corpus() -> None:
    for path in sorted(CORPUS.glob("*.eml")):
        raw = path.read_bytes()
        for cut in range(0, len(raw), max(1, len(raw) // 40)):
            assert inspect_mail(raw[:cut], path.name)["file"] == path.name
