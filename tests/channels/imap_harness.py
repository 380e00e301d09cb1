"""What the IMAP tests share: a configuration, and a supervisor without delays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from gateway.channels import email_imap
from gateway.channels.email_config import EmailConfig, Imap
from gateway.channels.oauth import TokenSource
from gateway.errors import ChannelError, PeerBroke, PeerUnavailable
from tests.servers.memory_journal import MemoryJournal

CANARY = "canary-pass-7Q"


def settings(port: int, **changes: Any) -> EmailConfig:
    """An account on loopback; the poll is fast so that no test waits for it."""
    fields: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "security": "plain",
        "user": "support",
        "password": "secret",
        "timeout_seconds": 5,
        "poll_seconds": 60,
    }
    return EmailConfig(address="support@example.test", imap=Imap(**(fields | changes)))


def mail(number: int, *, size_bytes: int = 0) -> bytes:
    head = f"From: a@example.test\r\nSubject: mail {number}\r\nMessage-ID: <{number}@example.test>\r\n\r\n"
    return head.encode() + b"text)\r\n" + b"x" * size_bytes


@asynccontextmanager
async def listening(
    config: EmailConfig,
    journal: MemoryJournal,
    *,
    nudge: asyncio.Event | None = None,
    tokens: TokenSource | None = None,
    restarts: int = 0,
) -> AsyncIterator[list[ChannelError]]:
    """Run ``listen`` beside the block, again after a fault as often as ``restarts`` allows; yields the faults."""
    faults: list[ChannelError] = []
    journal.broken = None
    task = asyncio.create_task(_supervised(config, journal, nudge, tokens, restarts, faults))
    try:
        yield faults
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _supervised(
    config: EmailConfig,
    journal: MemoryJournal,
    nudge: asyncio.Event | None,
    tokens: TokenSource | None,
    restarts: int,
    faults: list[ChannelError],
) -> None:
    while True:
        try:
            await email_imap.listen(config, journal, tokens=tokens, nudge=nudge)
        except (PeerUnavailable, PeerBroke) as error:
            faults.append(error)
            if len(faults) > restarts:
                journal.give_up(error)
                return
        except Exception as error:
            journal.give_up(error)
            return


async def run_until(
    config: EmailConfig, journal: MemoryJournal, holds: Callable[[], bool], *, restarts: int = 0
) -> list[ChannelError]:
    """Listen until the condition holds; a fault that is not allowed for is raised at once."""
    async with listening(config, journal, restarts=restarts) as faults:
        await journal.until(holds)
    return faults
