"""One sandbox whose time stands still until the test moves it, and a client for each protocol."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aioimaplib
import aiosmtplib
import pytest

from core.clock import Clock
from gateway.sandbox.mail_server import MailSandbox

SUPPORT = "support@desk.test"
PASSWORD = "correct horse"
STARTED_AT = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)


class StandingClock(Clock):
    def now(self) -> datetime:
        return STARTED_AT

    def monotonic(self) -> float:
        return 1000.0


@asynccontextmanager
async def open_sandbox() -> AsyncIterator[MailSandbox]:
    users = {SUPPORT: PASSWORD, "sales@desk.test": PASSWORD}
    async with MailSandbox(desk_users=users, clock=StandingClock(), speed=0.0, rng=random.Random(7)) as sandbox:
        yield sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[MailSandbox]:
    async with open_sandbox() as opened:
        yield opened


@asynccontextmanager
async def smtp_client(sandbox: MailSandbox) -> AsyncIterator[aiosmtplib.SMTP]:
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=sandbox.smtp_port, use_tls=False, start_tls=False, timeout=10.0)
    await client.connect()
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def imap_client(sandbox: MailSandbox, user: str = SUPPORT) -> AsyncIterator[aioimaplib.IMAP4]:
    client = aioimaplib.IMAP4("127.0.0.1", sandbox.imap_port, timeout=10.0)
    await client.wait_hello_from_server()
    assert (await client.login(user, PASSWORD)).result == "OK"
    await client.select("INBOX")
    try:
        yield client
    finally:
        await client.logout()


async def inbox(sandbox: MailSandbox, user: str = SUPPORT) -> list[bytes]:
    """Return the raw mails of one desk mailbox, fetched over IMAP, oldest first."""
    async with imap_client(sandbox, user) as client:
        uids = (await client.uid_search("ALL")).lines[0].split()
        return [await fetch(client, uid.decode()) for uid in uids]


async def fetch(client: aioimaplib.IMAP4, uid: str) -> bytes:
    response = await client.uid("fetch", uid, "BODY.PEEK[]")
    return bytes(response.lines[1])
