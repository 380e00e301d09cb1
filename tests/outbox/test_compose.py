"""What we build is what two parsers read back, whatever customers put into it (THREATS T-C01, T-C03)."""

from __future__ import annotations

import base64
import email
import email.message
import email.policy
import email.utils
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gateway.channels.smtp_session import dot_stuff
from gateway.normalize.values import Address
from gateway.outbox.compose import OutgoingFile, OutgoingMail, compose, reply_subject, trim_references

DATE = datetime(2026, 11, 21, 9, 5, 7, tzinfo=UTC)
PLAIN = OutgoingMail(
    sender_name="Support desk",
    sender_address="desk@example.test",
    reply_to="desk+c-1001-k7q2m4x9w3ab@example.test",
    to=(Address(name="Customer One", address="one@customer.test"),),
    cc=(Address(address="two@customer.test"),),
    subject="Re: [Desk #1001] Where is my order?",
    text="Hello,\n\nit is on its way.\n-- \nJane\n",
    message_id="c1001.77.k7q2m4x9@example.test",
    in_reply_to="abc@mail.customer.test",
    references=("first@mail.customer.test", "abc@mail.customer.test"),
    date=DATE,
    loop_marker="gh1.c2ln",
)
HEADERS = [
    *("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "In-Reply-To", "References"),
    *("X-Gatehouse-Loop", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
]
PDF = OutgoingFile(name="invoice.pdf", content_type="application/pdf", content=bytes(range(256)) * 3)
LOGO = OutgoingFile(name="logo.png", content_type="image/png", content=b"\x89PNG", content_id="logo@x", is_inline=True)

#: What breaks naive builders, in pieces that combine.
NASTY = st.sampled_from(
    [
        *("\r\n", "\n", "\r", "\0", "\x1b[31m", "\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\ud800", "\udcff"),
        *("Bcc: evil@x.test", "\r\n\r\nbody", "=?utf-8?q?=0d=0aBcc:_a@b?=", "=?utf-8?b?", "?=", "=?", "=0D=0A"),
        *('"', "\\", "<", ">", ",", ";", ":", "(", ")", "@", "[", "]", "'", "%", "*", "  ", "\t", "."),
        *("ü", "Ж", "漢字", "🙂", "👩‍👩‍👧", "e\u0301", "\u200b", "\u202e", "a" * 90, "ж" * 90, "x y " * 40, "From "),
    ]
)
ANYTHING = st.lists(st.one_of(NASTY, st.text(max_size=12)), max_size=8).map("".join)
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(value: str) -> str:
    """What may be left of a customer's value in a header."""
    return re.sub("[\ud800-\udfff]", "\ufffd", CONTROLS.sub(" ", value)).strip()


def body_text(value: str) -> str:
    lines = value.replace("\r\n", "\n").replace("\r", "\n")
    lines = re.sub("[\ud800-\udfff]", "?", re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", " ", lines))
    return lines if lines.endswith("\n") else lines + "\n"


def parsed(raw: bytes) -> email.message.Message:
    return email.message_from_bytes(raw)


def unfolded(value: object) -> str:
    return re.sub(r"\r?\n(?=[ \t])", "", str(value))


def decoded(value: object) -> str:
    return str(make_header(decode_header(unfolded(value))))


def text_of(part: email.message.Message) -> str:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8").replace("\r\n", "\n")


def assert_well_formed(raw: bytes) -> None:
    assert raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r")
    assert raw.endswith(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\0" not in raw


@pytest.mark.proves("R4.2", "T-C01")
def test_a_plain_mail_is_written_as_planned() -> None:
    assert compose(PLAIN) == (
        b"From: Support desk <desk@example.test>\r\n"
        b"To: Customer One <one@customer.test>\r\n"
        b"Cc: two@customer.test\r\n"
        b"Reply-To: Support desk <desk+c-1001-k7q2m4x9w3ab@example.test>\r\n"
        b"Subject: Re: [Desk #1001] Where is my order?\r\n"
        b"Date: Sat, 21 Nov 2026 09:05:07 +0000\r\n"
        b"Message-ID: <c1001.77.k7q2m4x9@example.test>\r\n"
        b"In-Reply-To: <abc@mail.customer.test>\r\n"
        b"References: <first@mail.customer.test>\r\n"
        b" <abc@mail.customer.test>\r\n"
        b"X-Gatehouse-Loop: gh1.c2ln\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Hello,\r\n\r\nit is on its way.\r\n-- \r\nJane\r\n"
    )


@given(ANYTHING, ANYTHING, ANYTHING, st.one_of(st.none(), ANYTHING), ANYTHING, ANYTHING)
@example("", "", "", None, "", "")
@settings(max_examples=400, deadline=None)
@pytest.mark.proves("T-C01", "T-C03", "F-Z06")
def test_header_lines_are_the_planned_ones_whatever_a_customer_wrote(
    subject: str, name: str, text: str, html: str | None, address: str, an_id: str
) -> None:
    mail = replace(
        PLAIN,
        subject=subject,
        text=text,
        html=html,
        to=(Address(name=name, address="one@customer.test"), Address(name=name, address=address)),
        cc=(),
        in_reply_to=an_id,
        references=(an_id, "abc@mail.customer.test"),
        attachments=(OutgoingFile(name=name, content_type=text, content=text.encode("utf-8", "replace")),),
    )
    raw = compose(mail)
    assert_well_formed(raw)
    assert compose(mail) == raw
    message = parsed(raw)
    names = [key for key in message if key != "In-Reply-To"]  # left out when the id is illegible
    expected = [one for one in HEADERS if one not in ("Cc", "In-Reply-To", "Content-Transfer-Encoding")]
    assert names == expected
    assert message.defects == []
    assert decoded(message["Subject"]) == one_line(subject)
    assert unfolded(message["References"]).endswith("<abc@mail.customer.test>")
    leaves = [part for part in message.walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in leaves[:-1]] == (
        ["text/plain"] if html is None else ["text/plain", "text/html"]
    )
    assert text_of(leaves[0]) == body_text(text)
    if html is not None:
        assert text_of(leaves[1]) == body_text(html)
    assert leaves[-1].get_payload(decode=True) == mail.attachments[0].content


@given(ANYTHING)
@example("a" * 200)
@settings(max_examples=400, deadline=None)
@pytest.mark.proves("T-C01")
def test_names_come_back_from_both_parsers(name: str) -> None:
    raw = compose(replace(PLAIN, to=(Address(name=name, address="one@customer.test"),)))
    expected = " ".join(one_line(name).split())
    ((shown, address),) = email.utils.getaddresses([unfolded(parsed(raw)["To"])])
    assert address == "one@customer.test"
    assert decoded(shown) == expected
    header = email.message_from_bytes(raw, policy=email.policy.default)["To"]
    assert [one.addr_spec for one in header.addresses] == ["one@customer.test"]
    if "\n" not in str(parsed(raw)["To"]):  # the new parser keeps the blank between two encoded words
        assert header.addresses[0].display_name == expected


@pytest.mark.proves("T-C01", "F-Z06")
def test_a_mail_whose_subject_decodes_to_header_lines_can_be_answered() -> None:
    received = str(make_header(decode_header("=?utf-8?q?Hi=0D=0ABcc:_evil@x.test=0D=0A=0D=0Abody?=")))
    assert "\r\n" in received
    message = parsed(compose(replace(PLAIN, subject=reply_subject(received))))
    assert list(message.keys()) == HEADERS
    assert message["Subject"] == "Re: Hi Bcc: evil@x.test body"


@given(ANYTHING)
@settings(max_examples=400, deadline=None)
@pytest.mark.proves("T-C01")
def test_the_subject_comes_back_from_the_new_parser_too(subject: str) -> None:
    raw = compose(replace(PLAIN, subject=subject))
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert str(message["Subject"]) == one_line(subject)
    assert list(message.keys()) == HEADERS


@given(ANYTHING)
@settings(max_examples=400, deadline=None)
@pytest.mark.proves("T-C01")
def test_file_names_come_back(name: str) -> None:
    expected = one_line(name)
    assume(0 < len(expected) <= 200)
    raw = compose(replace(PLAIN, attachments=(replace(PDF, name=name),)))
    part = [one for one in parsed(raw).walk() if one.get_content_type() == "application/pdf"][-1]
    assert part.get_filename() == expected
    for_old_programs = part.get_param("name")
    assert decoded(for_old_programs).replace("\r\n", "") == expected


def test_a_file_name_beyond_all_measure_is_cut_before_its_ending() -> None:
    raw = compose(replace(PLAIN, attachments=(replace(PDF, name="ж" * 5000 + ".pdf"),)))
    (name,) = [one.get_filename() for one in parsed(raw).walk() if one.get_filename()]
    assert name == "ж" * 196 + ".pdf"


@given(ANYTHING)
@settings(max_examples=300, deadline=None)
@pytest.mark.proves("T-C01")
def test_an_encoded_word_never_splits_a_character(subject: str) -> None:
    raw = compose(replace(PLAIN, subject=subject)).partition(b"Subject: ")[2].partition(b"\r\nDate: ")[0]
    for word in re.findall(rb"=\?utf-8\?[qb]\?[^?]*\?=", raw):
        assert len(word) <= 75
        decode_header(word.decode())[0][0].decode("utf-8")
    assert max(map(len, raw.split(b"\r\n"))) + len("Subject: ") <= 90


# --- bodies ---


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("short lines\nonly\n", "7bit"),
        ("x" * 79, "quoted-printable"),
        ("x" * 100_000, "quoted-printable"),
        ("Grüße aus Köln, mehr nicht und nichts weiter", "quoted-printable"),
        ("Здравейте, поръчката е на път.", "base64"),
        ("--=_gh-guess\n", "quoted-printable"),
        ("", "7bit"),
    ],
)
def test_a_text_travels_in_its_cheapest_encoding(text: str, encoding: str) -> None:
    raw = compose(replace(PLAIN, text=text))
    assert_well_formed(raw)
    assert parsed(raw)["Content-Transfer-Encoding"] == encoding
    assert text_of(parsed(raw)) == body_text(text)
    assert max(map(len, raw.partition(b"\r\n\r\n")[2].split(b"\r\n"))) <= 78


SMUGGLED = [
    *("a\n.\nMAIL FROM:<evil@x.test>", "a\r\n.\r\nRCPT", "a\r.\rDATA", "a\r\n.\rQUIT", "a\n.\r\nRSET", "a\r\n.\nNOOP"),
    *(".", "..", "\n.\n", ".\r\n.", "a\x00\r\n.\x00\r\n", "a\n\r.\n\r", "x" * 5000 + "\n.\n" + "ж" * 50),
]
#: End-of-data as different servers read it: strict, LF-tolerant, CR-tolerant, and two mixed ones seen in the wild.
DIALECTS = [
    rb"\r\n\.\r\n",
    rb"(?:\r\n|\n)\.(?:\r\n|\n)",
    rb"(?:\r\n|\r)\.(?:\r\n|\r)",
    rb"(?:\r\n|\n)\.(?:\r\n|\r)",
    rb"[\r\n]\.[\r\n]",
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("text", SMUGGLED)
@pytest.mark.proves("T-C03")
def test_every_dialect_of_server_sees_one_mail(text: str, dialect: bytes) -> None:
    mail = replace(PLAIN, text=text, html=f"<p>{text}</p>", subject=text, attachments=(replace(PDF, name=text),))
    for one in (mail, replace(mail, html=None, attachments=())):
        sent = dot_stuff(compose(one)) + b".\r\n"
        dots = [match.start() + match[0].index(b".") for match in re.finditer(dialect, sent)]
        assert dots == [len(sent) - len(b".\r\n")]


@given(st.lists(st.sampled_from(["\r", "\n", ".", "a", "\0", "ж"]), max_size=30).map("".join))
@pytest.mark.proves("T-C03")
def test_no_mix_of_line_ends_and_dots_ends_a_mail_early(text: str) -> None:
    sent = dot_stuff(compose(replace(PLAIN, text=text))) + b".\r\n"
    assert len(re.findall(DIALECTS[-1], sent)) == 1


def test_html_images_and_files_nest_as_mail_programs_expect() -> None:
    mail = replace(PLAIN, html='<p>Hi <img src="cid:logo@x"></p>', attachments=(LOGO, PDF))
    message = parsed(compose(mail))
    assert [part.get_content_type() for part in message.walk()] == [
        *("multipart/mixed", "multipart/alternative", "text/plain"),
        *("multipart/related", "text/html", "image/png", "application/pdf"),
    ]
    image, pdf = list(message.walk())[-2:]
    assert (image["Content-ID"], image.get_content_disposition()) == ("<logo@x>", "inline")
    assert (pdf.get_content_disposition(), pdf.get_filename()) == ("attachment", "invoice.pdf")
    assert pdf.get_payload(decode=True) == PDF.content


def test_an_inline_image_without_html_is_an_ordinary_file() -> None:
    message = parsed(compose(replace(PLAIN, attachments=(LOGO,))))
    assert [part.get_content_type() for part in message.walk()] == ["multipart/mixed", "text/plain", "image/png"]


@pytest.mark.parametrize("kind", ["multipart/mixed", "message/rfc822", "", "pdf", "a/b; x=y", "a/b\r\nX: y", "ж/ж"])
@pytest.mark.proves("T-C01")
def test_a_file_type_that_cannot_stand_is_sent_as_bytes(kind: str) -> None:
    message = parsed(compose(replace(PLAIN, attachments=(replace(PDF, content_type=kind),))))
    assert list(message.walk())[-1].get_content_type() == "application/octet-stream"


def test_large_files_are_coded_in_full_lines() -> None:
    content = bytes(range(256)) * 5000
    raw = compose(replace(PLAIN, attachments=(replace(PDF, content=content),)))
    assert_well_formed(raw)
    coded = raw.partition(b'filename="invoice.pdf"\r\n\r\n')[2].partition(b"\r\n\r\n--")[0]
    assert base64.b64decode(coded) == content
    assert {len(line) for line in coded.split(b"\r\n")[:-1]} == {76}


# --- single headers ---


@pytest.mark.parametrize("automatic", [None, "auto-replied"])
def test_only_mail_that_no_person_wrote_says_so(automatic: str | None) -> None:
    assert parsed(compose(replace(PLAIN, auto_submitted=automatic)))["Auto-Submitted"] == automatic


def test_without_visible_recipients_the_mail_says_so() -> None:
    message = parsed(compose(replace(PLAIN, to=(), cc=())))
    assert message["To"] == "undisclosed-recipients:;"
    assert message["Cc"] is None


@pytest.mark.parametrize(
    ("address", "header"),
    [
        ("one@bücher.test", b"one@xn--bcher-kva.test"),
        ("юзер@пример.test", "юзер@xn--e1afmkfd.test".encode()),
        ('"john doe"@x.test', b'"john doe"@x.test'),
        ("a@b.test>\r\nBcc: <c@d.test", b"a@b.testBcc:c@d.test"),
        ("a,b@c.test", b"ab@c.test"),
    ],
)
@pytest.mark.proves("T-C01")
def test_addresses_stand_in_one_piece(address: str, header: bytes) -> None:
    raw = compose(replace(PLAIN, to=(Address(address=address),)))
    assert header.replace(b":", b"") in raw.replace(b"Bcc:", b"Bcc")
    assert "Bcc" not in parsed(raw)


@pytest.mark.parametrize("hours", [-12, 0, 2, 14])
def test_the_date_is_the_same_moment_in_utc(hours: int) -> None:
    moment = DATE.astimezone(timezone(timedelta(hours=hours)))
    assert compose(replace(PLAIN, date=moment)) == compose(PLAIN)
    assert email.utils.parsedate_to_datetime(parsed(compose(PLAIN))["Date"]) == DATE


@given(st.lists(st.from_regex(r"[a-z0-9]{1,40}@[a-z]{1,20}\.test", fullmatch=True), max_size=80))
@pytest.mark.proves("R3.1")
def test_references_keep_the_root_and_the_newest(ids: list[str]) -> None:
    kept = trim_references(ids)
    assert sum(len(one) + 3 for one in kept) <= 1500
    if ids:
        assert kept[0] == ids[0]
        assert list(kept[1:]) == ids[len(ids) - len(kept) + 1 :]
        assert kept == tuple(ids) or len(kept) > 20


def test_references_are_one_id_a_line() -> None:
    ids = tuple(f"{number}.{'x' * 100}@mail.customer.test" for number in range(40))
    raw = compose(replace(PLAIN, references=ids))
    lines = raw.partition(b"References: ")[2].partition(b"\r\nX-")[0].split(b"\r\n")
    assert lines[0] == f"<{ids[0]}>".encode()
    assert lines[-1] == f" <{ids[-1]}>".encode()
    assert all(earlier != later for earlier, later in pairwise(lines))


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("Where is my order?", "Re: Where is my order?"),
        ("Re: Where", "Re: Where"),
        ("RE: re : Re[2]: Where", "Re: Where"),
        ("AW: WG: Fwd: Fw: Where", "Re: Where"),
        ("SV: VS: TR: RES: ENC: R: I: Where", "Re: Where"),
        ("回复：Where", "Re: Where"),
        ("Отг: Къде е", "Re: Къде е"),
        ("Re: [Desk #1001] Where", "Re: [Desk #1001] Where"),
        ("Reality: a talk", "Re: Reality: a talk"),
        ("Order: 5", "Re: Order: 5"),
        ("", "Re:"),
        ("  Re:  ", "Re:"),
        ("Re:\r\nBcc: evil@x.test", "Re: Bcc: evil@x.test"),
    ],
)
def test_a_reply_is_marked_once(subject: str, expected: str) -> None:
    assert reply_subject(subject) == expected
    assert reply_subject(expected) == expected


@given(ANYTHING)
@example("re:" * 20_000)
@settings(deadline=None)
def test_marking_a_reply_twice_changes_nothing(subject: str) -> None:
    once = reply_subject(subject)
    assert reply_subject(once) == once


@pytest.mark.parametrize(
    "hostile", ["re " * 30_000, "re[" * 30_000, "=?" * 30_000, "a" * 100_000, " " * 100_000, "ж" * 50_000]
)
@pytest.mark.proves("T-C01")
def test_building_takes_linear_time(hostile: str) -> None:
    started = time.process_time()
    reply_subject(hostile)
    compose(replace(PLAIN, subject=hostile, to=(Address(name=hostile, address=hostile),), text=hostile))
    assert time.process_time() - started < 5.0  # milliseconds in truth; quadratic would be minutes
