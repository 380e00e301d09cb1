"""Email in: every message of the configured folders becomes one journal row before the server is told anything.

The cycle: open the folder, list its UIDs, fetch what the journal does not hold, hand it over, and only then mark, move
or delete. What is fetched depends on UIDs alone: never on age, number, or whether somebody has read it. IDLE only says
"look"; a poll looks anyway. A message that breaks the connection is found by fetching its window one by one, and the
others go on.

Source: RFC 3501, RFC 2177, RFC 4315, RFC 6851. It does not parse mail, and it does not wait for a dead server: it
raises ``ChannelError``, and whoever started it decides when to come back.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from gateway.channels.contract import Journal
from gateway.channels.email_config import EmailConfig, Imap
from gateway.channels.imap_folder import FetchBroke, Folder, Memory
from gateway.channels.imap_session import Session, opened
from gateway.channels.oauth import TokenSource
from gateway.errors import ChannelError, ChannelMisconfigured

KIND = "email"
MAX_BARREN = 6  # connections lost in a row without one message fetched: then the supervisor's delay is due


async def listen(
    config: EmailConfig,
    journal: Journal,
    *,
    tokens: TokenSource | None = None,
    nudge: asyncio.Event | None = None,
) -> None:
    """Fetch from all configured folders until cancelled; ``nudge`` set means poll now.

    Raises PeerUnavailable, PeerBroke, ChannelMisconfigured, and what the journal raises (LeaseLost).
    """
    imap = _imap(config)
    nudges = {name: asyncio.Event() for name in imap.folders}
    try:
        async with asyncio.TaskGroup() as group:
            for name, own in nudges.items():
                group.create_task(_watch(imap, name, journal, tokens, own), name=f"imap {name}")
            if nudge is not None:
                group.create_task(_relay(nudge, list(nudges.values())), name="imap nudge")
    except BaseExceptionGroup as several:
        raise _worst(several) from several


async def _relay(nudge: asyncio.Event, own: list[asyncio.Event]) -> NoReturn:
    while True:
        await nudge.wait()
        nudge.clear()
        for event in own:
            event.set()


def _worst(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one to act on: a fault of ours first, then what a person must mend."""
    flat: list[BaseException] = []
    for error in group.exceptions:
        flat += [_worst(error)] if isinstance(error, BaseExceptionGroup) else [error]
    return min(flat, key=_urgency)


def _urgency(error: BaseException) -> int:
    if not isinstance(error, ChannelError):
        return 0
    return 1 if isinstance(error, ChannelMisconfigured) else 2


async def _watch(imap: Imap, name: str, journal: Journal, tokens: TokenSource | None, nudge: asyncio.Event) -> NoReturn:
    memory = Memory()
    while True:
        try:
            async with opened(imap, tokens) as session:
                await Folder(session, imap, name, journal, memory, nudge).serve()
        except FetchBroke as broke:
            if memory.barren >= MAX_BARREN:
                raise broke.cause from broke
        except ChannelMisconfigured as error:
            if error.code != "folder" or len(imap.folders) == 1:
                raise
            # one missing folder must not stop the others; it may come back
            await journal.trouble("folder", str(error))
            await asyncio.sleep(imap.poll_seconds)


async def check(config: EmailConfig, *, tokens: TokenSource | None = None) -> list[str]:
    """Try the settings and return what was found, a line each; raise the error that stops it."""
    imap = _imap(config)
    async with opened(imap, tokens) as session:
        folders = await session.folders()
        return [
            f"{imap.host}:{imap.port} answers, {_encryption(session)}",
            "login works",
            "new mail is pushed (IDLE)" if session.can("IDLE") else f"no IDLE: polled every {imap.poll_seconds:g} s",
            f"folders: {', '.join(folders)[:2000]}",
            *[await _folder_finding(session, name) for name in imap.folders],
            *_after_findings(session, imap, folders),
        ]


def _imap(config: EmailConfig) -> Imap:
    if config.imap is None:
        raise ChannelMisconfigured("no IMAP account is set", code="login")
    return config.imap


def _encryption(session: Session) -> str:
    tls = session.wire.transport.get_extra_info("ssl_object")
    return f"{tls.version()}, certificate verified" if tls else "NOT encrypted"


async def _folder_finding(session: Session, name: str) -> str:
    try:
        selected = await session.select(name, read_only=True)
    except ChannelMisconfigured as error:
        return str(error)
    return f"folder {name!r}: {selected.exists} messages"


def _after_findings(session: Session, imap: Imap, folders: list[str]) -> list[str]:
    if imap.after != "move":
        return []
    findings = []
    if imap.move_to not in folders:
        findings.append(f"folder {imap.move_to!r} to move to does not exist")
    if not session.can("MOVE") and not session.can("UIDPLUS"):
        findings.append("the server can move no single messages: they stay where they are")
    return findings
