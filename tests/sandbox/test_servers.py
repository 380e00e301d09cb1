"""The two servers, spoken to by the clients that the gateway uses."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import aioimaplib
import aiosmtplib
import pytest

from gateway.sandbox.mail_server import MailSandbox
from tests.sandbox.conftest import PASSWORD, SUPPORT, fetch, imap_client, inbox, open_sandbox, smtp_client

MAIL = b"From: Ana <ana@customer.test>\r\nMessage-ID: <one@customer.test>\r\nSubject: hi\r\n\r\nhello\r\n.dot\r\n"


async def test_mail_from_smtp_wakes_an_idle_imap_client(sandbox: MailSandbox) -> None:
    async with imap_client(sandbox) as imap, smtp_client(sandbox) as smtp:
        idle = await imap.idle_start(timeout=10)
        await smtp.sendmail("ana@customer.test", [SUPPORT], MAIL)
        pushed = await imap.wait_server_push(timeout=10)
        imap.idle_done()
        await idle
        assert b"1 EXISTS" in pushed
        assert (await fetch(imap, "101")).endswith(MAIL)


async def test_mail_that_came_before_idle_is_told_when_idle_begins(sandbox: MailSandbox) -> None:
    async with imap_client(sandbox) as imap:
        await sandbox.deliver(MAIL, "ana@customer.test", [SUPPORT])
        idle = await imap.idle_start(timeout=10)
        pushed = await imap.wait_server_push(timeout=10)
        imap.idle_done()
        await idle
    assert b"1 EXISTS" in pushed


async def test_each_of_many_mails_wakes_the_idle_client(sandbox: MailSandbox) -> None:
    async with imap_client(sandbox) as imap:
        idle = await imap.idle_start(timeout=10)
        for number in range(1, 21):
            await sandbox.deliver(MAIL, "ana@customer.test", [SUPPORT])
            while f"{number} EXISTS".encode() not in await imap.wait_server_push(timeout=10):
                continue
        imap.idle_done()
        assert (await idle).result == "OK"


async def test_uid_commands_find_mail_that_nothing_has_told_yet(sandbox: MailSandbox) -> None:
    async with imap_client(sandbox) as imap:
        await sandbox.deliver(MAIL, "ana@customer.test", [SUPPORT])
        assert (await imap.uid_search("ALL")).lines[0] == b"101"
        await sandbox.deliver(MAIL, "ana@customer.test", [SUPPORT])
        fetched = await imap.uid("fetch", "102:*", "(UID)")
        assert fetched.lines[0].startswith(b"2 FETCH (UID 102")


async def test_mail_for_a_desk_mailbox_says_how_it_came(sandbox: MailSandbox) -> None:
    async with smtp_client(sandbox) as smtp:
        await smtp.sendmail("ana@customer.test", ["Support+Tok.9@desk.test"], MAIL)
    (raw,) = await inbox(sandbox)
    head = raw.removesuffix(MAIL).decode()
    assert head.startswith("Return-Path: <ana@customer.test>\r\nDelivered-To: Support+Tok.9@desk.test\r\nReceived: ")
    assert "Mon, 04 May 2026 09:30:00 +0000" in head


async def test_plus_part_does_not_choose_the_mailbox(sandbox: MailSandbox) -> None:
    async with smtp_client(sandbox) as smtp:
        await smtp.sendmail("ana@customer.test", ["sales+support@desk.test"], MAIL)
    assert await inbox(sandbox) == []
    assert len(await inbox(sandbox, "sales@desk.test")) == 1


async def test_imap_moves_a_mail_to_another_folder(sandbox: MailSandbox) -> None:
    await sandbox.deliver(MAIL, "ana@customer.test", [SUPPORT])
    async with imap_client(sandbox) as imap:
        assert (await imap.uid("move", "101", "Processed")).result == "OK"
        assert (await imap.uid_search("ALL")).lines[0] == b""
        await imap.select("Processed")
        assert len((await imap.uid_search("ALL")).lines[0].split()) == 1


async def test_wrong_imap_password_is_refused(sandbox: MailSandbox) -> None:
    client = aioimaplib.IMAP4("127.0.0.1", sandbox.imap_port, timeout=10.0)
    await client.wait_hello_from_server()
    assert (await client.login(SUPPORT, "wrong")).result == "NO"
    assert (await client.login("nobody", "")).result == "NO"
    await client.logout()


async def test_smtp_login_is_optional_but_checked(sandbox: MailSandbox, caplog: pytest.LogCaptureFixture) -> None:
    async with smtp_client(sandbox) as smtp:
        with pytest.raises(aiosmtplib.SMTPAuthenticationError):
            await smtp.login(SUPPORT, "wrong")
        assert (await smtp.login(SUPPORT, PASSWORD)).code == 235
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_unknown_mailbox_of_the_desk_is_refused_alone(sandbox: MailSandbox) -> None:
    async with smtp_client(sandbox) as smtp:
        refused, _ = await smtp.sendmail("ana@customer.test", [SUPPORT, "nosuch@desk.test"], MAIL)
    assert {address: reply.code for address, reply in refused.items()} == {"nosuch@desk.test": 550}
    assert len(await inbox(sandbox)) == 1


async def test_mail_to_anyone_else_reaches_their_postbox_byte_for_byte(sandbox: MailSandbox) -> None:
    async with smtp_client(sandbox) as smtp:
        await smtp.sendmail("", ["Ana@Customer.test"], MAIL)
    (mail,) = sandbox.postbox("ana@customer.test")
    assert (mail.raw, mail.envelope_from, mail.subject) == (MAIL, "", "hi")
    assert [(entry.message_id, entry.recipient) for entry in sandbox.accepted] == [
        ("<one@customer.test>", "Ana@Customer.test")
    ]


BAD_PARAMETERS = [
    ("RET=SOME", ""),
    ("ENVID=a=b", ""),
    ("ENVID=+2b", ""),
    ("ENVID=a+0D+0AX-Injected:+20yes", ""),
    (f"ENVID={'e' * 101}", ""),
    ("", "NOTIFY=NEVER,SUCCESS"),
    ("", "NOTIFY=LATER"),
    ("", "ORCPT=ana@customer.test"),
    ("", "ORCPT=rfc822;a=b"),
]


@pytest.mark.parametrize(("mail_option", "recipient_option"), BAD_PARAMETERS)
async def test_illegal_dsn_parameter_is_refused(sandbox: MailSandbox, mail_option: str, recipient_option: str) -> None:
    async with smtp_client(sandbox) as smtp:
        await smtp.ehlo()
        assert "dsn" in smtp.esmtp_extensions
        with pytest.raises(aiosmtplib.SMTPResponseException) as refusal:
            await smtp.mail("a@desk.test", options=[mail_option] if mail_option else [])
            await smtp.rcpt("ana@customer.test", options=[recipient_option])
    assert refusal.value.code == 501


async def test_stopping_ends_every_connection_and_task() -> None:
    async with open_sandbox() as sandbox:
        sandbox.later(60, partial(sandbox.deliver, MAIL, "", [SUPPORT]), name="never due")
        reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.smtp_port)
        writer.write(b"EHLO desk.test\r\nMAIL FROM:<a@desk.test>\r\nRCPT TO:<stall@slow.test>\r\n")
        await reader.readuntil(b"250 HELP\r\n")
        imap = aioimaplib.IMAP4("127.0.0.1", sandbox.imap_port, timeout=10.0)
        await imap.wait_hello_from_server()
        await imap.login(SUPPORT, PASSWORD)
        await imap.select("INBOX")
        await imap.idle_start(timeout=10)
        during = server_tasks()
    assert len(during) >= 3
    assert server_tasks() == []
    writer.close()


def server_tasks() -> list[str]:
    """Return the unfinished tasks of the sandbox and its libraries, clients not counted."""
    words = ("gateway/sandbox", "aiosmtpd", "pymap")
    return [repr(task) for task in asyncio.all_tasks() if any(word in repr(task) for word in words)]


LEGAL_COMMANDS = [
    ('MAIL FROM:<"odd > RET=FULL name"@desk.test> ENVID=a RET=HDRS', "RCPT TO:<ana@customer.test> ORCPT=rfc822;<x>"),
    ("MAIL FROM:<> BODY=8BITMIME SMTPUTF8", "RCPT TO:<ana@customer.test> notify=never"),
    ("mail from: <a@desk.test> size=10", "rcpt to: <ana@customer.test> NOTIFY=delay,FAILURE"),
]


@pytest.mark.parametrize(("mail", "recipient"), LEGAL_COMMANDS)
async def test_legal_parameters_are_taken(sandbox: MailSandbox, mail: str, recipient: str) -> None:
    async with smtp_client(sandbox) as smtp:
        await smtp.ehlo()
        replies = [await smtp.execute_command(command.encode()) for command in (mail, recipient)]
    assert [reply.code for reply in replies] == [250, 250]
