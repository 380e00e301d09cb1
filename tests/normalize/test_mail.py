"""Whole mails: what a person would read is what the reader gives, and nothing is invented."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.normalize import filenames, flowed, mail
from gateway.normalize.mail import read_head_only, read_mail
from gateway.normalize.values import Address, Kind, Mail

CORPUS = Path(__file__).parent / "corpus"


def load(name: str) -> Mail:
    return read_mail((CORPUS / f"{name}.eml").read_bytes())


@pytest.mark.proves("R2.1", "T-D04", "T-D10")
@pytest.mark.parametrize(
    ("name", "text", "files", "warnings"),
    [
        ("plain", "Where is my order?", [], []),
        ("alternative", "Where is my order?", [], []),
        ("html-only", "Grüße,\nwo ist meine Bestellung?", [], []),
        ("stub-alternative", "Where is my order?", [], []),
        ("empty-alternative", "Where is my order?", [], []),
        ("related-inline", "See picture", ["pic.png"], []),
        ("mixed-several-texts", "First words\n\nLast words", ["a.png", "log.txt"], []),
        ("apple-mixed-html", "Before\nAfter", ["x.pdf"], []),
        ("flowed-delsp", "This is a long line that goes on.\n\n> quoted more\n-- \nAnn", [], []),
        ("forwarded-message", "See below", ["Inner_ words.eml"], []),
        ("calendar", "Meeting on Monday", ["invite.ics"], []),
        ("pgp-signed", "Signed words", ["signature.asc"], ["signed-pgp"]),
        ("pgp-encrypted", "", ["attachment-1.txt", "encrypted.asc"], ["encrypted-pgp"]),
        ("smime-opaque", "", ["smime.p7m"], ["encrypted-smime"]),
        (
            "base64-list-footer",
            "Where is my order? Grüße, Ann and some more words\n_______________\nlist mailing list\nhttp://list.test/",
            [],
            ["base64-damaged"],
        ),
        ("missing-end", "Where is my order?", [], []),
        ("wrong-boundary", "Where is my order?", [], ["boundary-wrong"]),
        ("no-separator", "Where is my order?", [], ["header-separator-missing"]),
        ("bare-cr", "Where is my order?\nThanks", [], []),
        ("mbox-line", "Where is my order?", [], []),
        ("latin1-undeclared", "Grüße aus Köln, wo ist meine Bestellung? Schöne Grüße.", [], ["charset-wrong"]),
        ("iso-2022-jp", "注文はどこですか", [], []),
        ("uuencode", "See file\nBye", ["data.bin"], ["uuencoded-file"]),
        ("winmail", "See file", ["winmail.dat"], ["tnef"]),
        ("external-body", "See file", ["attachment-1.txt"], ["not-fetched-external-body"]),
        ("enriched", "Where is my <order>?\nAnn", [], []),
        ("attached-only", "", ["a.pdf"], []),
    ],
)
def test_text_and_files_of_the_corpus(name: str, text: str, files: list[str], warnings: list[str]) -> None:
    read = load(name)
    assert read.text == text
    assert [one.name for one in read.attachments] == files
    assert list(read.warnings) == warnings
    assert read.kind is Kind.MESSAGE


@pytest.mark.proves("R2.1")
def test_fields_are_read() -> None:
    read = read_mail(
        b"Return-Path: <bounce@customer.test>\r\nDelivered-To: help@desk.test\r\nX-Original-To: alias@desk.test\r\n"
        b"Received: by a\r\nReceived: by b\r\n"
        b"Authentication-Results: mx.desk.test; dmarc=pass\r\nAuthentication-Results: mx.desk.test; dmarc=fail\r\n"
        b"From: =?utf-8?q?J=C3=BCrgen?= <j@customer.test>\r\nTo: a@desk.test\r\n"
        b"To: b@desk.test\r\nCc: Team: c@x.test;\r\n"
        b"Reply-To: other@customer.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"Date: Mon, 5 May 2025 10:00:00 +0200 (CEST)\r\nMessage-ID:\r\n <[id]@customer.test>\r\n"
        b"In-Reply-To: <p@desk.test> (your words)\r\nReferences: <o@desk.test>\r\n <p@desk.test> <o@desk.test>\r\n"
        b"Thread-Index: AdPKmC3dEDLsPK7vQoCOhT9kE1VhmQ==\r\nX-Gatehouse-Loop: t1\r\n\r\nHello\r\n"
    )
    assert read.sender == Address(name="Jürgen", address="j@customer.test")
    assert not read.is_sender_unclear
    assert [one.address for one in read.to] == ["a@desk.test", "b@desk.test"]
    assert [one.address for one in read.cc] == ["c@x.test"]
    assert [one.address for one in read.reply_to] == ["other@customer.test"]
    assert read.delivered_to == ("help@desk.test", "alias@desk.test")
    assert read.return_path == "bounce@customer.test"
    assert read.subject == "Grüße"
    assert read.date == datetime(2025, 5, 5, 8, 0, tzinfo=UTC)
    assert read.message_id == "[id]@customer.test"
    assert read.in_reply_to == ("p@desk.test",)
    assert read.references == ("o@desk.test", "p@desk.test")
    assert read.thread_index is not None
    assert len(read.thread_index) == 44
    assert read.authentication == {"mx.desk.test": "mx.desk.test; dmarc=pass"}
    assert read.loop_marker == "t1"
    assert read.received_count == 2


@pytest.mark.proves("R2.1")
def test_what_is_absent_is_not_invented() -> None:
    read = read_mail(b"")
    assert (read.sender, read.date, read.message_id, read.html, read.bounce, read.language) == (None,) * 6
    assert (read.text, read.subject, read.to, read.references, read.return_path) == ("", "", (), (), None)
    assert read_mail(b"Return-Path: <>\r\n\r\nx").return_path == ""


@pytest.mark.proves("R2.1", "T-D02")
def test_only_the_newest_references_are_kept() -> None:
    ids = [f"{number}@x.test" for number in range(200)]
    raw = "References: " + " ".join(f"<{one}>" for one in ids) + "\r\n\r\n"
    assert read_mail(raw.encode()).references == tuple(ids[-50:])


@pytest.mark.proves("T-D11", "F-Z01")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Mon, 05 May 2025 10:00:00 +0200", datetime(2025, 5, 5, 8, 0, tzinfo=UTC)),
        ("Mon, 05 May 2025 10:00:00 GMT+02:00", datetime(2025, 5, 5, 8, 0, tzinfo=UTC)),
        ("5 May 25 10:00 GMT", datetime(2025, 5, 5, 10, 0, tzinfo=UTC)),
        ("2025-05-05T10:00:00Z", datetime(2025, 5, 5, 10, 0, tzinfo=UTC)),
        ("Mon, 5 May 2025 10:00:00", datetime(2025, 5, 5, 10, 0, tzinfo=UTC)),
        ("Mon, 5 May 2025 10:00:00 +9999", None),
        ("Mon, 31 Feb 2025 10:00:00 +0000", None),
        ("Mon, 5 May 99999 10:00:00 +0000", None),
        ("yesterday", None),
        ("", None),
        ("0" * 5000, None),
        (", , ,", None),
    ],
)
def test_date_is_read_or_absent(value: str, expected: datetime | None) -> None:
    found = read_mail(f"Date: {value}\r\nSubject: x\r\n\r\n".encode()).date
    if value.endswith("+9999"):
        assert found is None or found.tzinfo is UTC
    else:
        assert found == expected


@pytest.mark.proves("R2.1")
def test_inline_image_is_told_by_its_content_id() -> None:
    read = load("related-inline")
    assert [(one.is_inline, one.content_id) for one in read.attachments] == [(True, "pic@1")]
    assert read.html == '<p>See <img src="cid:pic%401"></p>'
    content = read.attachments[0].content
    assert read.attachments[0].sha256 == hashlib.sha256(content).hexdigest()
    assert content.startswith(b"\x89PNG")


@pytest.mark.proves("R2.4")
def test_reports_and_automatic_answers_are_set_apart() -> None:
    report = load("report")
    assert report.kind is Kind.BOUNCE
    assert report.bounce is not None
    assert [(one.address, one.status) for one in report.bounce.recipients] == [("x@y.test", "5.1.1")]
    vacation = load("vacation")
    assert vacation.kind is Kind.AUTO_REPLY
    assert not vacation.automatic.may_answer


@pytest.mark.proves("T-A07")
def test_second_from_field_makes_the_sender_unclear() -> None:
    assert load("two-from").is_sender_unclear


@pytest.mark.proves("R2.1", "R2.3")
@pytest.mark.parametrize(
    ("plain", "new"),
    [
        ("My words are here\nOld words which you wrote to me yesterday about the lamp\nOnly in this view", None),
        ("My words are here\nOld words which you wrote to me yesterday about the lamp", "My words are here"),
    ],
)
def test_quote_that_only_the_html_shows_hides_no_word_of_the_plain_view(plain: str, new: str | None) -> None:
    raw = (
        f"Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\n{plain}\n--b\n"
        'Content-Type: text/html\n\n<p>My words are here</p><blockquote type="cite">Old words which you wrote to me '
        "yesterday about the lamp</blockquote>\n--b--\n"
    )
    read = read_mail(raw.encode())
    assert sorted(f"{read.reply.text} {read.reply.quoted}".split()) == sorted(plain.split())
    assert read.reply.text == (new or "My words are here\n\nOnly in this view")
    assert read.reply.quoted == "Old words which you wrote to me yesterday about the lamp"


@pytest.mark.proves("T-D09")
def test_views_that_say_different_things_are_flagged() -> None:
    raw = (
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n"
        b"Please transfer seventy thousand dollars immediately\r\n--b\r\nContent-Type: text/html\r\n\r\n"
        b"<p>Lovely weather, isn't it?</p>\r\n--b--\r\n"
    )
    read = read_mail(raw)
    assert "alternatives-differ" in read.warnings
    assert read.text.startswith("Please transfer")
    assert read.html is not None
    assert "Lovely" in read.html


@pytest.mark.proves("R2.2", "F-Z05", "T-D03")
def test_html_too_deep_to_build_is_shown_as_text() -> None:
    read = read_mail(b"Content-Type: text/html\r\n\r\n<p>Words</p>" + b"<div>" * 100_000 + b"inside")
    assert read.html is None
    assert read.text.split() == ["Words", "inside"]
    assert "html-too-complex" in read.warnings


@pytest.mark.proves("T-D02")
def test_very_long_text_is_cut_with_a_notice() -> None:
    read = read_mail(b"Content-Type: text/plain\r\n\r\n" + b"word " * 400_000)
    assert len(read.text) <= mail.MAX_TEXT_CHARS + 10
    assert read.text.endswith("[…]")
    assert "text-cut" in read.warnings


@pytest.mark.proves("T-C01", "T-D05", "F-Z04")
def test_encoded_line_breaks_and_nul_are_gone_from_every_field() -> None:
    raw = (
        b"From: =?utf-8?q?A=0D=0ABcc=3A_x?= <a@b.test>\r\nSubject: =?utf-8?q?x=0D=0ABcc:_v@w.test=00?=\r\n"
        b"Message-ID: <a\x00b@c.test>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\na\x00b\xed\xa0\x80c"
    )
    read = read_mail(raw)
    assert read.subject == "x Bcc: v@w.test"
    assert read.sender is not None
    for text in (read.sender.name, read.subject, read.message_id or "", read.text):
        assert not set(text) & set("\x00\r\n")
        text.encode()


@pytest.mark.proves("T-D08")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\report.pdf", "report.pdf"),
        ("a\x00b\x07.pdf", "ab.pdf"),
        ("in\u202efdp.exe", "infdp.exe"),
        ("\u200b\u200breport.pdf", "report.pdf"),
        (".htaccess", "htaccess"),
        ("con.txt", "_con.txt"),
        ("LPT1", "_LPT1"),
        ("report.pdf. . .", "report.pdf"),
        ('a<b>:"c|d?*.pdf', "a_b___c_d__.pdf"),
        ("Übersicht  Köln.pdf", "Übersicht Köln.pdf"),
        ("...", ""),
        ("/", ""),
        ("a\r\nb.pdf", "a b.pdf"),
    ],
)
def test_shown_file_name_is_harmless(name: str, shown: str) -> None:
    assert filenames.safe_name(name) == shown


@pytest.mark.proves("T-D08")
@given(st.text(max_size=400))
def test_any_file_name_is_short_and_stays_as_it_is_the_second_time(name: str) -> None:
    safe = filenames.safe_name(name)
    assert len(safe) <= filenames.MAX_NAME_CHARS
    assert len(safe.encode()) <= filenames.MAX_NAME_BYTES
    assert not set(safe) & set("/\\\x00\r\n")
    assert filenames.safe_name(safe) == safe


@pytest.mark.proves("R2.1")
@pytest.mark.parametrize(
    ("text", "delete_space", "expected"),
    [
        ("a \nb\nc", False, "a b\nc"),
        ("a \nb", True, "ab"),
        ("> a \n> b\nc", False, "> a b\nc"),
        ("> a \n>> b", False, "> a \n>> b"),
        (" >from\n  x", False, ">from\n x"),
        ("text \n-- \nAnn", False, "text \n-- \nAnn"),
        ("", False, ""),
        ("a \n\nb", False, "a \n\nb"),
        (">\n> a", False, ">\n> a"),
    ],
)
def test_flowed_lines_are_joined(text: str, delete_space: bool, expected: str) -> None:
    assert flowed.unflow(text, delete_space=delete_space) == expected


@given(st.text(st.sampled_from("ab> \n-"), max_size=80), st.booleans())
def test_flowed_loses_no_letter(text: str, delete_space: bool) -> None:
    joined = flowed.unflow(text, delete_space=delete_space)
    assert [char for char in joined if char in "ab-"] == [char for char in text if char in "ab-"]


DIGESTED = (
    b"From: a@b.test\r\nTo: c@d.test\r\nSubject: some longer\r\n words\r\nMessage-ID: <x@y>\r\n\r\nBody\r\nline\r\n"
)


@pytest.mark.proves("F-M04")
@pytest.mark.parametrize(
    "same",
    [
        DIGESTED.replace(b"\r\n", b"\n"),
        DIGESTED + b"\r\n\r\n",
        b"Received: by x\r\nX-Spam: no\r\nDelivered-To: z\r\n" + DIGESTED,
        DIGESTED.replace(b"\r\n words", b" words"),
        b"\xef\xbb\xbf" + DIGESTED,
    ],
)
def test_digest_survives_what_servers_change(same: bytes) -> None:
    assert read_mail(same).canonical_digest == read_mail(DIGESTED).canonical_digest


@pytest.mark.proves("F-M04")
@pytest.mark.parametrize("part", [b"a@b.test", b"c@d.test", b"longer", b"x@y", b"Body", b"line"])
def test_digest_changes_with_what_was_said(part: bytes) -> None:
    assert read_mail(DIGESTED.replace(part, b"other")).canonical_digest != read_mail(DIGESTED).canonical_digest


def test_peek_gives_the_same_fields_without_the_body() -> None:
    raw = (CORPUS / "alternative.eml").read_bytes()
    peek, whole = read_head_only(raw), read_mail(raw)
    assert (peek.sender, peek.to, peek.subject, peek.date) == (whole.sender, whole.to, whole.subject, whole.date)
    assert peek.text == ""
