"""What a customer can do: read, write, answer."""

from __future__ import annotations

import email
import email.policy

import pytest

from gateway.sandbox.compose import File
from gateway.sandbox.mail_server import MailSandbox
from gateway.sandbox.postbox import KEPT_MAILS
from tests.sandbox.conftest import inbox

ANSWER = (
    "From: =?utf-8?q?Nina_M=C3=BCller?= <support@desk.test>\r\nTo: Ana Silva <ana@customer.test>\r\n"
    "Reply-To: support+tok1@desk.test\r\nSubject: {subject}\r\nMessage-ID: <d2@desk.test>\r\n"
    "References: <a1@mail.customer.test>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    "SGVsbG8gQW5hLAoKd2Ugc2VuZCBhIG5ldyBvbmUg4oCTIGJ5IEZyaWRheS4K\r\n"
)


async def answered(sandbox: MailSandbox, subject: str = "Broken teapot") -> None:
    raw = ANSWER.format(subject=subject).encode()
    await sandbox.deliver(raw, "support+b1@desk.test", ["ana@customer.test"])


@pytest.mark.parametrize("which", [0, -1, "<d2@desk.test>", "d2@desk.test"])
async def test_reply_goes_to_the_reply_address_and_quotes_the_mail(sandbox: MailSandbox, which: int | str) -> None:
    sandbox.introduce("Ana Silva", "ana@customer.test")
    await answered(sandbox)
    message_id = await sandbox.reply("ana@customer.test", which, "Thank you!")
    (raw,) = await inbox(sandbox)
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail["Delivered-To"] == "support+tok1@desk.test"
    assert mail["Return-Path"] == "<ana@customer.test>"
    assert mail["From"] == "Ana Silva <ana@customer.test>"
    assert mail["Subject"] == "Re: Broken teapot"
    assert mail["In-Reply-To"] == "<d2@desk.test>"
    assert mail["References"] == "<a1@mail.customer.test> <d2@desk.test>"
    assert mail["Message-ID"] == message_id
    assert mail.get_content().replace("\r\n", "\n") == (
        "Thank you!\n\nOn Mon, 04 May 2026 at 09:30, Nina Müller <support@desk.test> wrote:\n"
        "> Hello Ana,\n>\n> we send a new one – by Friday.\n"
    )


@pytest.mark.parametrize("subject", ["Re: Teapot", "AW: Teapot"])
async def test_reply_keeps_one_prefix(sandbox: MailSandbox, subject: str) -> None:
    await answered(sandbox, subject)
    await sandbox.reply("ana@customer.test", 0, "Thanks")
    (raw,) = await inbox(sandbox)
    assert f"\r\nSubject: {subject}\r\n".encode() in raw


@pytest.mark.parametrize("which", [3, "<other@desk.test>"])
async def test_reply_to_a_mail_that_is_not_there_is_an_error(sandbox: MailSandbox, which: int | str) -> None:
    await answered(sandbox)
    with pytest.raises(LookupError):
        await sandbox.reply("ana@customer.test", which, "Thanks")


async def test_new_mail_carries_both_bodies_and_its_files(sandbox: MailSandbox) -> None:
    files = [File(name="größe.txt", content_type="text/plain", content=b"90 x 60\n")]
    await sandbox.write(
        "Žiga Kovač", "ziga@customer.test", "support@desk.test", "Mere 📏", "Prilagam.", "<p>Prilagam.</p>", files
    )
    (raw,) = await inbox(sandbox)
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert (mail["From"], mail["Subject"]) == ("Žiga Kovač <ziga@customer.test>", "Mere 📏")
    assert [part.get_content_type() for part in mail.walk() if not part.is_multipart()] == [
        "text/plain",
        "text/html",
        "text/plain",
    ]
    assert [part.get_filename() for part in mail.walk() if part.get_filename()] == ["größe.txt"]
    assert sandbox.people() == ["ziga@customer.test"]


async def test_postbox_keeps_the_newest_mails(sandbox: MailSandbox) -> None:
    for number in range(KEPT_MAILS + 3):
        await sandbox.deliver(b"Subject: %d\r\n\r\nx\r\n" % number, "support@desk.test", ["ana@customer.test"])
    subjects = [mail.subject for mail in sandbox.postbox("Ana@Customer.test")]
    assert (len(subjects), subjects[0], subjects[-1]) == (KEPT_MAILS, "3", str(KEPT_MAILS + 2))


STRANGE = [
    b"",
    b"\r\n\r\n",
    b"no header at all",
    b"\xff\xfe\x00: x\r\n\r\n\x80\x81",
    b"Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n",
    b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n",
    b"Content-Type: text/plain; charset=nonsense\r\nReply-To: <<>>,\r\nFrom: @\r\n\r\ntext \xe4\r\n",
    b"Message-ID: <unclosed\r\nReferences: <a> <b\r\nSubject: =?x?q?=ZZ?=\r\n\r\ntext",
]


@pytest.mark.parametrize("raw", STRANGE)
async def test_strange_mail_can_be_read_and_answered(sandbox: MailSandbox, raw: bytes) -> None:
    await sandbox.deliver(raw, "support@desk.test", ["ana@customer.test"])
    (mail,) = sandbox.postbox("ana@customer.test")
    assert isinstance(mail.text + (mail.html or "") + mail.sender + mail.subject, str)
    await sandbox.reply("ana@customer.test", 0, "What?")
    (answer,) = await inbox(sandbox)
    assert b"What?" in answer
