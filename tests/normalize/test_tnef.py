"""Files inside winmail.dat, built here by MS-OXTNEF's layout."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.normalize import tnef
from gateway.normalize.mail import read_mail


def attribute(number: int, value: bytes, level: int = 2) -> bytes:
    return struct.pack("<BII", level, number, len(value)) + value + struct.pack("<H", sum(value) & 0xFFFF)


def text_property(tag: int, text: str) -> bytes:
    raw = (text + "\x00").encode("utf-16-le")
    return struct.pack("<HHII", 0x001F, tag, 1, len(raw)) + raw + bytes(-len(raw) % 4)


def properties(*made: bytes) -> bytes:
    return struct.pack("<I", len(made)) + b"".join(made)


FIXED = struct.pack("<HHI", 0x0003, 0x3705, 1)
NAMED = struct.pack("<HH", 0x0003, 0x8001) + bytes(16) + struct.pack("<III", 0, 7, 1)
WINMAIL = (
    struct.pack("<IH", 0x223E9F78, 1)
    + attribute(0x00089006, b"\x00\x00\x01\x00", level=1)
    + attribute(0x00069002, bytes(14))
    + attribute(0x00018010, b"REPORT~1.PDF\x00")
    + attribute(0x0006800F, b"%PDF data")
    + attribute(
        0x00069005,
        properties(FIXED, NAMED, text_property(0x3707, "Grüße report.pdf"), text_property(0x370E, "application/pdf")),
    )
    + attribute(0x00069002, bytes(14))
    + attribute(0x00018010, b"notes.txt\x00")
    + attribute(0x0006800F, b"words")
)


@pytest.mark.proves("R2.1")
def test_files_are_listed_with_their_long_names() -> None:
    assert tnef.read_files(WINMAIL) == [
        ("Grüße report.pdf", "application/pdf", b"%PDF data"),
        ("notes.txt", "", b"words"),
    ]


@pytest.mark.proves("R2.1", "T-D10")
def test_mail_keeps_the_container_and_shows_its_files() -> None:
    raw = b"Content-Type: application/ms-tnef; name=winmail.dat\r\nFrom: a@b.test\r\n\r\n" + WINMAIL
    read = read_mail(raw)
    assert [one.name for one in read.attachments] == ["winmail.dat", "Grüße report.pdf", "notes.txt"]
    assert read.attachments[1].content == b"%PDF data"
    assert "tnef" in read.warnings


@pytest.mark.proves("F-Z01", "T-D04")
@given(st.integers(0, len(WINMAIL)), st.integers(0, len(WINMAIL) - 1), st.integers(0, 255), st.binary(max_size=200))
def test_damaged_streams_give_what_was_read_before(cut: int, at: int, byte: int, noise: bytes) -> None:
    changed = bytearray(WINMAIL)
    changed[at] = byte
    for data in (WINMAIL[:cut], bytes(changed), WINMAIL[:6] + noise, noise):
        for name, kind, _ in tnef.read_files(data):
            (name + kind).encode()
