"""Each recipient that does something, spoken to over a real socket; what comes back is read over IMAP."""

from __future__ import annotations

import asyncio
import email
import email.policy
from email.message import EmailMessage

import aiosmtplib
import pytest
from flufl.bounce import all_failures

from gateway.sandbox.behaviours import BEHAVIOURS
from gateway.sandbox.mail_server import MailSandbox
from tests.sandbox.conftest import inbox, smtp_client

SENDER = "support+b-77-9f2c@desk.test"
MAIL = (
    b"From: Support <support@desk.test>\r\nTo: <someone@customer.test>\r\n"
    b"Subject: =?utf-8?q?Re=3A_Gr=C3=B6=C3=9Fe?=\r\n"
    b"Message-ID: <d77.9f2c@desk.test>\r\nReply-To: support+tok1@desk.test\r\n\r\nThe answer.\r\n"
)
EVERYTHING = "NOTIFY=SUCCESS,FAILURE,DELAY"


async def hand_over(sandbox: MailSandbox, recipient: str, *, notify: str = EVERYTHING, ret: str = "RET=HDRS") -> None:
    async with smtp_client(sandbox) as smtp:
        await smtp.ehlo()
        await smtp.mail(SENDER, options=[ret, "ENVID=d+2B77"])
        await smtp.rcpt(recipient, options=[*([notify] if notify else []), f"ORCPT=rfc822;{recipient}"])
        await smtp.data(MAIL)


async def reports(sandbox: MailSandbox) -> list[EmailMessage]:
    return [email.message_from_bytes(raw, policy=email.policy.default) for raw in await inbox(sandbox)]


def part(report: EmailMessage, content_type: str) -> str:
    """Return the fields of the machine-readable part as one text."""
    for each in report.walk():
        if each.get_content_type() == content_type:
            inner = each.get_payload()
            return "\n".join(str(block) for block in inner) if isinstance(inner, list) else str(inner)
    raise AssertionError(f"no {content_type} in {report}")


REPORTED = [
    ("gone@bounce.test", 2, [("failed", "5.1.1")]),
    ("full@bounce.test", 2, [("failed", "5.2.2")]),
    ("late@slow.test", 2, [("delayed", "4.4.1")]),
    ("late@slow.test", 60, [("delayed", "4.4.1"), ("delivered", "2.1.5")]),
    ("relay@relay.test", 2, [("relayed", "2.0.0")]),
    ("ana@customer.test", 2, [("delivered", "2.1.5")]),
]


@pytest.mark.parametrize(("recipient", "seconds", "expected"), REPORTED)
async def test_report_comes_back_to_the_envelope_sender(
    sandbox: MailSandbox, recipient: str, seconds: float, expected: list[tuple[str, str]]
) -> None:
    await hand_over(sandbox, recipient)
    await sandbox.advance(seconds - 0.1)
    assert len(await reports(sandbox)) == len(expected) - 1
    await sandbox.advance(0.1)
    found = await reports(sandbox)
    for report, (action, status) in zip(found, expected, strict=True):
        fields = part(report, "message/delivery-status")
        assert report["Return-Path"] == "<>"
        assert report["Delivered-To"] == SENDER
        assert report.get_param("report-type") == "delivery-status"
        assert "Original-Envelope-Id: d+77" in fields
        assert f"Original-Recipient: rfc822;{recipient}" in fields
        assert f"Action: {action}\nStatus: {status}" in fields
        assert ("Will-Retry-Until" in fields) == (action == "delayed")


@pytest.mark.parametrize(
    ("ret", "content_type", "has_body"),
    [("RET=FULL", "message/rfc822", True), ("RET=HDRS", "text/rfc822-headers", False)],
)
async def test_failed_report_returns_as_much_as_was_asked_for(
    sandbox: MailSandbox, ret: str, content_type: str, has_body: bool
) -> None:
    await hand_over(sandbox, "gone@bounce.test", ret=ret)
    await sandbox.advance(2)
    (report,) = await reports(sandbox)
    assert "d77.9f2c@desk.test" in part(report, content_type)
    assert ("The answer." in str(report)) is has_body


UNWANTED = [
    ("gone@bounce.test", "NOTIFY=NEVER", 0),
    ("gone@bounce.test", "NOTIFY=SUCCESS", 0),
    ("gone@bounce.test", "", 1),
    ("late@slow.test", "NOTIFY=FAILURE", 0),
    ("late@slow.test", "", 2),
    ("late@slow.test", "NOTIFY=FAILURE,DELAY", 2),
    ("relay@relay.test", "NOTIFY=FAILURE,DELAY", 0),
    ("ana@customer.test", "", 0),
]


@pytest.mark.parametrize(("recipient", "notify", "count"), UNWANTED)
async def test_report_comes_only_to_those_who_asked(
    sandbox: MailSandbox, recipient: str, notify: str, count: int
) -> None:
    await hand_over(sandbox, recipient, notify=notify)
    await sandbox.advance(100)
    assert len(await reports(sandbox)) == count


async def test_old_bounce_is_plain_text_with_a_copy(sandbox: MailSandbox) -> None:
    await hand_over(sandbox, "legacy@bounce.test")
    await sandbox.advance(2)
    (bounce,) = await reports(sandbox)
    text = bounce.get_payload()
    assert bounce.get_content_type() == "text/plain"
    assert "<legacy@bounce.test>:" in text
    assert "(#5.1.1)" in text
    assert MAIL.decode().replace("\r\n", "\n") in str(text).replace("\r\n", "\n")


REFUSED = [("nobody@bounce.test", 550, "5.1.1"), ("never@slow.test", 450, "4.2.0")]


@pytest.mark.parametrize(("recipient", "code", "status"), REFUSED)
async def test_refusal_comes_at_rcpt_every_time(sandbox: MailSandbox, recipient: str, code: int, status: str) -> None:
    for _ in range(5):
        with pytest.raises(aiosmtplib.SMTPRecipientRefused) as refusal:
            await hand_over(sandbox, recipient)
        assert (refusal.value.code, refusal.value.message.split()[0]) == (code, status)
    assert sandbox.accepted == []


async def test_greylisting_ends_after_three_tries_of_the_same_sender(sandbox: MailSandbox) -> None:
    for _ in range(3):
        with pytest.raises(aiosmtplib.SMTPRecipientRefused) as refusal:
            await hand_over(sandbox, "slow@slow.test")
        assert refusal.value.code == 451
    await hand_over(sandbox, "slow@slow.test")
    assert len(sandbox.postbox("slow@slow.test")) == 1
    with pytest.raises(aiosmtplib.SMTPRecipientRefused):
        await sandbox_mail_from_another_sender(sandbox)


async def sandbox_mail_from_another_sender(sandbox: MailSandbox) -> None:
    async with smtp_client(sandbox) as smtp:
        await smtp.mail("sales@desk.test")
        await smtp.rcpt("slow@slow.test")


@pytest.mark.parametrize(("recipient", "arrived"), [("doubt@doubt.test", 1), ("lost@doubt.test", 0)])
async def test_connection_ends_without_an_answer_to_the_final_dot(
    sandbox: MailSandbox, recipient: str, arrived: int
) -> None:
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await hand_over(sandbox, recipient)
    assert len(sandbox.accepted) == arrived
    assert len(sandbox.postbox(recipient)) == arrived


@pytest.mark.parametrize(
    ("recipient", "commands", "arrived"),
    [
        ("stall@slow.test", b"", 0),
        ("silent@doubt.test", b"DATA\r\n" + MAIL + b".\r\n", 1),
    ],
)
async def test_connection_stalls_until_the_client_leaves(
    sandbox: MailSandbox, recipient: str, commands: bytes, arrived: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.smtp_port)
    head = f"EHLO desk.test\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\n".encode()
    writer.write(head + commands + b"NOOP\r\n")
    answers = await reader.readuntil(b"250 HELP\r\n") + await reader.readline()
    if commands:
        answers += await reader.readline() + await reader.readline()
        assert answers.endswith(b"354 End data with <CR><LF>.<CR><LF>\r\n")
    await drained(sandbox, arrived)
    waiting = asyncio.ensure_future(reader.readline())
    await smtp_round_trip(sandbox)
    assert not waiting.done()
    writer.close()
    assert await waiting == b""
    assert len(sandbox.accepted) == arrived


async def drained(sandbox: MailSandbox, arrived: int) -> None:
    """Let the server read what was written: another client's conversation goes through the same loop."""
    while len(sandbox.accepted) < arrived:
        await smtp_round_trip(sandbox)


async def smtp_round_trip(sandbox: MailSandbox) -> None:
    async with smtp_client(sandbox) as smtp:
        await smtp.noop()


async def test_late_mail_arrives_a_minute_later(sandbox: MailSandbox) -> None:
    await hand_over(sandbox, "late@slow.test")
    await sandbox.advance(59)
    assert sandbox.postbox("late@slow.test") == []
    await sandbox.advance(1)
    assert [mail.raw for mail in sandbox.postbox("late@slow.test")] == [MAIL]


async def test_holiday_note_names_the_mail_that_it_answers(sandbox: MailSandbox) -> None:
    await hand_over(sandbox, "away@holiday.test", notify="")
    await sandbox.advance(2)
    (note,) = await reports(sandbox)
    assert note["Auto-Submitted"] == "auto-replied"
    assert note["In-Reply-To"] == "<d77.9f2c@desk.test>"
    assert note["Subject"] == "Out of office: Re: Größe"
    assert note["Return-Path"] == "<>"


async def test_holiday_note_never_answers_a_machine(sandbox: MailSandbox) -> None:
    await sandbox.deliver(b"Auto-Submitted: auto-replied\r\n" + MAIL, SENDER, ["away@holiday.test"])
    await sandbox.deliver(MAIL, "", ["away@holiday.test", "gone@bounce.test", "complains@arf.test"])
    await sandbox.advance(100)
    assert await reports(sandbox) == []


async def test_read_receipt_says_displayed(sandbox: MailSandbox) -> None:
    await hand_over(sandbox, "reader@mdn.test", notify="")
    await sandbox.advance(2)
    (receipt,) = await reports(sandbox)
    fields = part(receipt, "message/disposition-notification")
    assert "Original-Message-ID: <d77.9f2c@desk.test>" in fields
    assert "Disposition: manual-action/MDN-sent-manually; displayed" in fields
    assert receipt.get_param("report-type") == "disposition-notification"


async def test_read_receipt_goes_where_the_mail_wants_it(sandbox: MailSandbox) -> None:
    raw = b"Disposition-Notification-To: Desk <sales+r1@desk.test>\r\n" + MAIL
    await sandbox.deliver(raw, SENDER, ["reader@mdn.test"])
    await sandbox.advance(2)
    (receipt,) = await inbox(sandbox, "sales@desk.test")
    assert b"\r\nTo: sales+r1@desk.test\r\n" in receipt


async def test_complaint_carries_the_whole_mail(sandbox: MailSandbox) -> None:
    await hand_over(sandbox, "complains@arf.test", notify="")
    await sandbox.advance(2)
    (report,) = await reports(sandbox)
    assert "Feedback-Type: abuse" in part(report, "message/feedback-report")
    assert "d77.9f2c@desk.test" in part(report, "message/rfc822")
    assert report["Return-Path"] == "<fbl@arf.test>"


async def test_report_for_an_unknown_mailbox_of_the_desk_goes_nowhere(sandbox: MailSandbox) -> None:
    await sandbox.deliver(MAIL, "nosuch@desk.test", ["gone@bounce.test"])
    await sandbox.advance(2)
    assert sandbox.waiting() == []
    assert await inbox(sandbox) == []


def test_table_names_each_address_once_and_says_what_happens() -> None:
    addresses = [behaviour.address for behaviour in BEHAVIOURS]
    assert len(addresses) == len(set(addresses))
    assert all(len(behaviour.what_happens) > 20 for behaviour in BEHAVIOURS)


RECOGNISED = [
    ("gone@bounce.test", {b"gone@bounce.test"}, set()),
    ("full@bounce.test", {b"full@bounce.test"}, set()),
    ("legacy@bounce.test", {b"legacy@bounce.test"}, set()),
    ("late@slow.test", set(), {b"late@slow.test"}),
]


@pytest.mark.parametrize(("recipient", "permanent", "temporary"), RECOGNISED)
async def test_foreign_bounce_reader_recognises_the_form(
    sandbox: MailSandbox, recipient: str, permanent: set[bytes], temporary: set[bytes]
) -> None:
    await hand_over(sandbox, recipient)
    await sandbox.advance(2)
    (raw,) = await inbox(sandbox)
    failures = all_failures(email.message_from_bytes(raw))
    assert (set(failures[1]), set(failures[0])) == (permanent, temporary)
