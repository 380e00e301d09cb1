"""Delivery reports, receipts and complaints in form (RFC 3464, 6533, 8098, 5965), neat and damaged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.normalize import dsn
from gateway.normalize.headers import Head, Leaf, read_head
from gateway.normalize.values import Bounce, BouncedRecipient, Report

REPORT = (
    "From: MAILER-DAEMON@mx.test\nTo: desk@example.test\nReturn-Path: <>\n"
    "Content-Type: multipart/report; report-type={}\nSubject: {}\n\n"
)


def leaf(kind: str, payload: bytes | str) -> Leaf:
    raw = payload.encode() if isinstance(payload, str) else payload
    return Leaf(kind, {}, None, None, None, raw, Head(), 1)


def head(kind: str = "delivery-status", subject: str = "Undelivered Mail Returned to Sender") -> Head:
    return read_head(REPORT.format(kind, subject).encode())[0]


def bounce(form: bytes | str, *, text: str = "", original: str | None = None, subject: str = "Undelivered") -> Bounce:
    parts = [leaf("text/plain", text), leaf("message/delivery-status", form)]
    if original is not None:
        parts.append(leaf("text/rfc822-headers", original))
    report = dsn.read_report(parts, head(subject=subject), text)
    assert isinstance(report, Bounce)
    return report


FULL = """Original-Envelope-Id: delivery+2D77
Reporting-MTA: dns; mx.example.test
Arrival-Date: Thu, 1 Jan 2026 00:00:00 +0000

Original-Recipient: rfc822;customer.one@customer.test
Final-Recipient: rfc822; one@inner.customer.test
Action: failed
Status: 5.1.1
Remote-MTA: dns; in.customer.test
Diagnostic-Code: smtp; 550 5.1.1 <one@inner.customer.test>: no such
 user

Final-Recipient: rfc822; second@customer.test
Action: delayed
Status: 4.2.2
Diagnostic-Code: smtp; 452 4.2.2 mailbox full
Will-Retry-Until: Tue, 6 Jan 2026 00:00:00 +0000
"""
EXPECTED = Bounce(
    recipients=(
        BouncedRecipient(
            address="customer.one@customer.test",
            action="failed",
            status="5.1.1",
            code=550,
            diagnostic="550 5.1.1 <one@inner.customer.test>: no such user",
            reason="no_such_mailbox",
            is_permanent=True,
            original_address="customer.one@customer.test",
        ),
        BouncedRecipient(
            address="second@customer.test",
            action="delayed",
            status="4.2.2",
            code=452,
            diagnostic="452 4.2.2 mailbox full",
            reason="mailbox_full",
        ),
    ),
    original_message_id="d77.9f2c@example.test",
    envelope_id="delivery-77",
    reporting_mta="mx.example.test",
)
RETURNED = "From: desk@example.test\nMessage-ID: <d77.9f2c@example.test>\n"
SPACED = FULL.replace("\nAction", "\n\nAction").replace("\nStatus", "\n\n\nStatus")


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize(
    "form",
    [
        FULL,
        FULL.replace("\n", "\r\n"),
        FULL.replace("\n", "\r"),
        FULL.replace("\n\n", "\n\n\n \n"),
        FULL.replace("\n\n", "\n"),
        "\n\n" + FULL,
        SPACED,
        FULL.upper()
        .replace("CUSTOMER", "customer")
        .replace("ONE", "one")
        .replace("INNER", "inner")
        .replace(".TEST", ".test")
        .replace("SECOND", "second")
        .replace("NO SUCH", "no such")
        .replace("USER", "user")
        .replace("DELIVERY+", "delivery+")
        .replace("MX.EXAMPLE", "mx.example")
        .replace("MAILBOX FULL", "mailbox full"),
        FULL.replace("Final-Recipient: rfc822; second@customer.test", "Final-Recipient: <second@customer.test>"),
        "This is noise without a colon\n" + FULL,
    ],
    ids=[
        "neat",
        "crlf",
        "cr",
        "blank lines",
        "merged blocks",
        "leading blanks",
        "spaced",
        "capitals",
        "no type",
        "noise",
    ],
)
def test_form_is_read_however_it_is_laid_out(form: str) -> None:
    assert bounce(form, original=RETURNED) == EXPECTED


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize(
    ("fields", "action", "is_permanent"),
    [
        ("Action: failed\nStatus: 5.1.1", "failed", True),
        ("Action: failed\nStatus: 4.4.1", "failed", False),
        ("Action: failed\nStatus: 4.4.7", "failed", True),
        ("Action: delayed\nStatus: 4.4.7", "delayed", False),
        ("Action: delivered\nStatus: 2.0.0", "delivered", False),
        ("Action: relayed\nStatus: 2.0.0", "relayed", False),
        ("Action: expanded\nStatus: 2.0.0", "expanded", False),
        ("Action: Failure\nStatus: 5.0.0", "failed", True),
        ("Action: <failed>", "failed", False),
        ("Status: 5.1.1", "failed", True),
        ("Status: 2.1.5", "delivered", False),
        ("Status: 4.0.0 (temporary)", "failed", False),
        ("Diagnostic-Code: smtp; 550 no such user", "failed", True),
    ],
)
def test_action_comes_from_the_field_or_from_the_codes(fields: str, action: str, is_permanent: bool) -> None:
    told = bounce(f"Reporting-MTA: dns; mx.test\n\nFinal-Recipient: rfc822; a@b.test\n{fields}\n").recipients
    assert [(one.action, one.is_permanent) for one in told] == [(action, is_permanent)]


@pytest.mark.proves("R2.4", "F-S07")
def test_missing_action_of_a_delay_notice_is_delayed() -> None:
    told = bounce("Final-Recipient: rfc822; a@b.test\nStatus: 4.4.1\n", subject="Delayed Mail (still being retried)")
    assert told.recipients[0].action == "delayed"


@pytest.mark.proves("R2.4", "F-S02")
@pytest.mark.parametrize(
    ("status", "diagnostic", "expected"),
    [
        ("5.0.0", "smtp; 550 5.1.1 no such user", ("5.1.1", 550, "no_such_mailbox", True)),
        ("5.0.0", "smtp; 552-5.2.2 over quota", ("5.2.2", 552, "mailbox_full", False)),
        ("4.0.0", "smtp; 550 5.1.1 no such user", ("5.1.1", 550, "no_such_mailbox", True)),
        ("5.1.1", "smtp; 450 user unknown", ("5.1.1", 450, "no_such_mailbox", False)),
        ("5.2.2", "x-postfix; host mx[192.0.2.4] said: 552 mailbox full", ("5.2.2", 552, "mailbox_full", False)),
        ("5.7.1", "smtp; 550 5.7.1 blocked using zen.spamhaus.org", ("5.7.1", 550, "blocked", True)),
        ("", "smtp; 550 #5.1.0 Address rejected.", ("5.1.0", 550, "bad_address", True)),
    ],
)
def test_first_digit_of_the_reply_decides_and_a_vague_status_gives_way(
    status: str, diagnostic: str, expected: tuple[str, int, str, bool]
) -> None:
    form = f"Final-Recipient: rfc822; a@b.test\nAction: failed\nStatus: {status}\nDiagnostic-Code: {diagnostic}\n"
    told = bounce(form).recipients[0]
    assert (told.status, told.code, told.reason, told.is_permanent) == expected


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("rfc822; jane@b.test", "jane@b.test"),
        ("RFC822;<jane@b.test>", "jane@b.test"),
        ("rfc822; jane+2Btag@b.test", "jane+tag@b.test"),
        ("rfc822; jane+2024@b.test", "jane+2024@b.test"),
        ("utf-8; jäne@b.test", "jäne@b.test"),
        (r"utf-8; j\x{E4}ne@b.test", "jäne@b.test"),
        ("Jane Doe <jane@b.test>", "jane@b.test"),
        ("jane@b.test", "jane@b.test"),
        ("rfc822; jane@b.test (expanded)", "jane@b.test"),
        ("X400; /c=de/s=jane", None),
        ("rfc822; unknown", None),
        ("", None),
    ],
)
def test_address_of_a_recipient(value: str, address: str | None) -> None:
    told = bounce(f"Final-Recipient: {value}\nAction: failed\nStatus: 5.1.1\n").recipients
    assert [one.address for one in told] == [address]


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize(
    "where",
    [
        {"original": "Message-ID: <id@example.test>\n"},
        {"original": "Message-ID:\n <id@example.test>\nSubject: x\n"},
        {"form": "X-Original-Message-ID: <id@example.test>\n"},
        {"text": "It failed.\n\n> Message-Id: <id@example.test>\n> Subject: x\n"},
        {"extra": "In-Reply-To:\n <id@example.test>\n"},
        {"extra": "References: <older@example.test>\n <id@example.test>\n"},
    ],
)
def test_message_id_of_the_original_is_found_in_many_places(where: dict[str, str]) -> None:
    form = f"Reporting-MTA: dns; mx.test\n{where.get('form', '')}\nFinal-Recipient: rfc822; a@b.test\nAction: failed\n"
    parts = [leaf("message/delivery-status", form)]
    if "original" in where:
        parts.append(leaf("message/rfc822", where["original"]))
    top = read_head((where.get("extra", "") + REPORT.format("delivery-status", "x")).encode())[0]
    report = dsn.read_report(parts, top, where.get("text", ""))
    assert isinstance(report, Bounce)
    assert report.original_message_id == "id@example.test"


@pytest.mark.proves("R2.4")
def test_fields_written_into_the_text_count_as_a_form() -> None:
    text = "Sorry.\n\nReporting-MTA: dns; mx.test\n\nFinal-Recipient: rfc822; a@b.test\nAction: failed\nStatus: 5.1.1\n"
    report = dsn.read_report([leaf("text/plain", text)], head(), text)
    assert isinstance(report, Bounce)
    assert [(one.address, one.action, one.status) for one in report.recipients] == [("a@b.test", "failed", "5.1.1")]


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize("form", ["", "garbage", "Reporting-MTA: dns; mx.test\n", "\x00\xff"])
def test_report_without_a_recipient_is_still_a_bounce(form: str) -> None:
    assert bounce(form).recipients == ()


@pytest.mark.proves("R2.4")
def test_empty_form_leaves_the_word_to_the_text() -> None:
    text = "This is the mail system at host mx.test.\n\n<a@b.test>: host mx.b.test said: 550 5.1.1 user unknown\n"
    told = bounce("Reporting-MTA: dns; mx.test\n", text=text).recipients
    assert [(one.address, one.status) for one in told] == [("a@b.test", "5.1.1")]


@pytest.mark.proves("R2.4", "F-S09")
def test_bounce_that_a_person_forwards_is_a_message() -> None:
    person = read_head(b"From: Jane <jane@b.test>\nReturn-Path: <jane@b.test>\nContent-Type: multipart/mixed\n\n")[0]
    parts = [leaf("text/plain", "look"), leaf("message/delivery-status", FULL), leaf("message/rfc822", RETURNED)]
    assert dsn.read_report(parts, person, "look") is None


@pytest.mark.proves("R2.4")
@pytest.mark.parametrize("said", ["displayed", "deleted", "processed/error", "displayed,extended"])
def test_read_receipt_is_a_report(said: str) -> None:
    form = (
        "Reporting-UA: mail.customer.test; ExampleMail 1.0\nOriginal-Recipient: rfc822;one@customer.test\n"
        "Final-Recipient: rfc822;one@customer.test\nOriginal-Message-ID: <d77@example.test>\n"
        f"Disposition: manual-action/MDN-sent-manually; {said}\n"
    )
    report = dsn.read_report([leaf("message/disposition-notification", form)], head("disposition-notification"), "")
    word = said.replace(",", "/").partition("/")[0]
    assert report == Report(
        kind="mdn", disposition=word, recipient="one@customer.test", original_message_id="d77@example.test"
    )


@pytest.mark.proves("R2.4")
def test_complaint_is_a_report() -> None:
    form = (
        "Feedback-Type: abuse\nUser-Agent: ExampleFBL/1.0\nVersion: 1\nOriginal-Mail-From: <desk+b-77@example.test>\n"
        "Original-Rcpt-To: <one@customer.test>\n"
    )
    parts = [leaf("message/feedback-report", form), leaf("message/rfc822", RETURNED)]
    report = dsn.read_report(parts, head("feedback-report"), "")
    assert report == Report(
        kind="complaint",
        disposition="abuse",
        recipient="one@customer.test",
        original_message_id="d77.9f2c@example.test",
    )


@pytest.mark.proves("R2.4", "T-D04")
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.text(max_size=300), st.sampled_from(["delivery-status", "feedback-report", "x"]))
def test_any_bytes_are_read_without_an_error(payload: bytes, text: str, kind: str) -> None:
    for content_type in ("message/delivery-status", "message/disposition-notification", "message/feedback-report"):
        report = dsn.read_report([leaf(content_type, payload), leaf("message/rfc822", payload)], head(kind), text)
        assert isinstance(report, Bounce | Report)


@pytest.mark.proves("T-D03", "T-D12")
def test_form_of_many_recipients_is_cut() -> None:
    one = (
        "Final-Recipient: rfc822; a@b.test\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; "
        + "user " * 400
        + "\n\n"
    )
    assert len(bounce(one * 2000).recipients) <= dsn.MAX_RECIPIENTS


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize(
    ("fields", "text", "status", "code", "reason"),
    [
        ("Status: 5.0.0 (recipient reached disk quota)", "", "5.0.0", None, "mailbox_full"),
        ("Status: 553 Exceeded maximum inbound message size", "", None, 553, "too_big"),
        ("Status: 5.0.0", "<one@customer.test>: Domain does not exist\n", "5.0.0", None, "no_such_domain"),
        (
            'Status: 5.0.0\nDiagnostic-Code: Reason 1 (x)\nX400-Supplementary-Info: "gives 5.7.1 Unable to relay"',
            "",
            "5.7.1",
            None,
            "relay_denied",
        ),
        ("Status: 5.1.1", "<one@customer.test>\n    (reason: 550 user unknown)\n", "5.1.1", 550, "no_such_mailbox"),
        ("Diagnostic-Code: smtp; 550 5.2.2 <x>", "<one@customer.test>: 550 5.1.1 no\n", "5.2.2", 550, "mailbox_full"),
    ],
)
def test_reason_is_found_where_systems_put_it(
    fields: str, text: str, status: str | None, code: int | None, reason: str
) -> None:
    (told,) = bounce(f"Final-Recipient: rfc822; one@customer.test\nAction: failed\n{fields}\n", text=text).recipients
    assert (told.status, told.code, told.reason) == (status, code, reason)


@pytest.mark.proves("R2.4", "F-S07")
def test_same_words_of_the_same_recipient_count_once() -> None:
    one = "Final-Recipient: rfc822; {}\nAction: failed\nStatus: 5.1.1\n\n"
    told = bounce(one.format("a@b.test") * 3 + one.format("c@b.test")).recipients
    assert [recipient.address for recipient in told] == ["a@b.test", "c@b.test"]


@pytest.mark.proves("R2.4", "F-S07")
def test_recipients_of_one_alias_are_told_apart_by_their_final_address() -> None:
    one = "Original-Recipient: rfc822;all@customer.test\nFinal-Recipient: rfc822; {}@in.test\nAction: failed\n\n"
    told = bounce(one.format("jane") + one.format("john")).recipients
    assert [recipient.address for recipient in told] == ["jane@in.test", "john@in.test"]
    assert [recipient.original_address for recipient in told] == ["all@customer.test"] * 2


@pytest.mark.proves("R2.4", "F-S07")
def test_report_inside_the_mail_of_a_gateway_is_read() -> None:
    inner = (
        "From: postmaster@mx.test\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        "--b\nContent-Type: text/plain\n\nSorry\n--b\nContent-Type: message/delivery-status\n\n"
        "Final-Recipient: rfc822; one@customer.test\nAction: failed\nStatus: 5.1.1\n\n--b--\n"
    )
    outer = read_head(b"From: postmaster@gate.test\nContent-Type: multipart/mixed; report-type=delivery-status\n\n")[0]
    report = dsn.read_report([leaf("message/rfc822", inner)], outer, "")
    assert isinstance(report, Bounce)
    assert [(one.address, one.status) for one in report.recipients] == [("one@customer.test", "5.1.1")]
    person = read_head(b"From: Jane <jane@customer.test>\nSubject: look at this\n\n")[0]
    assert dsn.read_report([leaf("message/rfc822", inner)], person, "") is None


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize(
    ("words", "reason", "is_permanent"),
    [("Quota exceeded", "mailbox_full", False), ("I want no mail from shops", "not_allowed", True)],
)
def test_receipt_of_a_filter_that_rejects_is_a_bounce(words: str, reason: str, is_permanent: bool) -> None:
    form = (
        "Final-Recipient: rfc822; one@customer.test\nOriginal-Message-ID: <d77@example.test>\n"
        "Disposition: automatic-action/MDN-sent-automatically; deleted\n"
    )
    text = f"Your message to <one@customer.test> was automatically rejected:\n{words}\n"
    report = dsn.read_report([leaf("message/disposition-notification", form)], head("disposition-notification"), text)
    assert isinstance(report, Bounce)
    (told,) = report.recipients
    assert (told.address, told.action, told.reason) == ("one@customer.test", "failed", reason)
    assert told.is_permanent is is_permanent
    assert report.original_message_id == "d77@example.test"


@pytest.mark.proves("R2.4")
@pytest.mark.parametrize(
    ("fields", "extra", "recipient"),
    [
        ("Subject: complaint about message from 192.0.2.1", "X-HmXmrOriginalRecipient: one@customer.test\n", True),
        ("Subject: complaint about message from 192.0.2.1", "", False),
        ("Subject: Email Feedback Report for IP 192.0.2.1\nX-Loop: scomp", "", False),
    ],
)
def test_complaint_of_before_the_standard_is_a_report(fields: str, extra: str, recipient: bool) -> None:
    top = read_head(f"From: staff@post.test\n{fields}\nContent-Type: multipart/mixed\n\n".encode())[0]
    report = dsn.read_report([leaf("message/rfc822", extra + RETURNED)], top, "")
    assert report == Report(
        kind="complaint",
        disposition="abuse",
        recipient="one@customer.test" if recipient else None,
        original_message_id="d77.9f2c@example.test",
    )


@pytest.mark.proves("R2.4")
def test_mail_that_a_person_sends_along_is_no_complaint() -> None:
    person = read_head(b"From: Jane <jane@customer.test>\nSubject: A complaint about your message\n\n")[0]
    assert dsn.read_report([leaf("message/rfc822", RETURNED)], person, "see attached") is None
