"""A small IMAP server on a real socket that does what a test scripts, and writes down every byte.

It behaves well until told otherwise. A script belongs to a verb (``FETCH``, ``LOGIN``, ``GREETING``...); it may answer
in the server's place, or return False so that the normal answer follows. ``ImapPeer.marks`` says of each STORE, MOVE,
COPY and EXPUNGE whether the journal held the message at that moment: the ground truth of "taken before told".
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType

CAPABILITIES = "IMAP4rev1 IDLE UIDPLUS MOVE SASL-IR AUTH=PLAIN AUTH=XOAUTH2"
Script = Callable[["Conversation", str, str], Awaitable[bool]]


@dataclass(slots=True)
class Mail:
    raw: bytes
    flags: set[str] = field(default_factory=set)
    date: str = "01-Jan-2026 10:00:00 +0000"
    claimed_bytes: int | None = None  #: RFC822.SIZE, if it is a lie


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A word of the client that says "I have it"."""

    verb: str
    uid: int
    was_taken: bool


class Hangup(Exception):
    """The script closes the connection."""


class Conversation:
    """One client's connection."""

    def __init__(self, peer: ImapPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.reader = reader
        self.writer = writer
        self.is_idle = False

    async def send(self, *lines: str | bytes) -> None:
        for line in lines:
            await self.send_raw((line.encode() if isinstance(line, str) else line) + b"\r\n")

    async def send_raw(self, data: bytes) -> None:
        self.peer.log.append((">", data[:2000]))
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> str:
        data = await self.reader.readline()
        if not data:
            raise Hangup
        self.peer.log.append(("<", data))
        self.peer.heard.set()
        return data.decode("latin-1").rstrip("\r\n")

    async def silence(self) -> None:
        """Never answer; ends when the client goes."""
        while await self.reader.read(4096):
            pass
        raise Hangup


class ImapPeer:
    """One mailbox. ``mails`` is what it holds by UID, in mailbox order; tests change it as they like."""

    def __init__(
        self,
        mails: dict[int, bytes] | None = None,
        *,
        uidvalidity: int | None = 7,
        capabilities: str = CAPABILITIES,
        context: ssl.SSLContext | None = None,
        starttls: ssl.SSLContext | None = None,
        password: str = "secret",
    ) -> None:
        self.mails = {uid: Mail(raw) for uid, raw in (mails or {}).items()}
        self.moved: list[bytes] = []
        self.uidvalidity = uidvalidity
        self.capabilities = capabilities
        self.password = password
        self.scripts: dict[str, Script] = {}
        self.log: list[tuple[str, bytes]] = []
        self.heard = asyncio.Event()
        self.idling = asyncio.Event()
        self.marks: list[Mark] = []
        self.is_taken: Callable[[int], bool] = lambda uid: False
        self.connections = 0
        self.port = 0
        self._context = context
        self._starttls = starttls
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self.open: set[Conversation] = set()

    async def __aenter__(self) -> ImapPeer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def arrive(self, uid: int, raw: bytes, *, is_told: bool = True) -> None:
        """A mail comes; idling clients are told, unless the server keeps it to itself."""
        self.mails[uid] = Mail(raw)
        for talk in list(self.open):
            if talk.is_idle and is_told:
                await talk.send(f"* {len(self.mails)} EXISTS")

    def said(self, text: str) -> bool:
        """Whether any client said this."""
        return any(text.encode() in data for side, data in self.log if side == "<")

    def count(self, text: str) -> int:
        return sum(text.encode() in data for side, data in self.log if side == "<")

    async def until_said(self, text: str, *, seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not self.said(text):
                self.heard.clear()
                await self.heard.wait()

    async def until_idle(self, *, seconds: float = 10.0) -> None:
        """Wait until a client is in IDLE."""
        async with asyncio.timeout(seconds):
            while not any(talk.is_idle for talk in self.open):
                self.idling.clear()
                await self.idling.wait()

    @property
    def untaken_marks(self) -> list[Mark]:
        """Oracle 2: what the client claimed to have before its journal had it."""
        return [mark for mark in self.marks if not mark.was_taken]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        self.connections += 1
        talk = Conversation(self, reader, writer)
        self.open.add(talk)
        try:
            if not await self._scripted(talk, "GREETING", "", ""):
                await talk.send("* OK ready")
            while True:
                tag, _, rest = (await talk.line()).partition(" ")
                await self._answer(talk, tag, rest)
        except (Hangup, OSError, asyncio.CancelledError, ValueError):
            pass  # the client left, the script hung up, or the test is over
        finally:
            self.open.discard(talk)
            writer.close()

    async def _scripted(self, talk: Conversation, verb: str, tag: str, rest: str) -> bool:
        script = self.scripts.get(verb)
        return script is not None and await script(talk, tag, rest)

    async def _answer(self, talk: Conversation, tag: str, line: str) -> None:
        verb, _, rest = line.partition(" ")
        prefix = ""
        if verb.upper() == "UID":
            prefix = "UID "
            verb, _, rest = rest.partition(" ")
        verb = verb.upper()
        if verb in ("STORE", "MOVE", "EXPUNGE", "COPY"):
            self._note(verb, rest)
        if await self._scripted(talk, verb, tag, rest):
            return
        handler: Script | None = getattr(self, f"_do_{verb.lower()}", None)
        if handler is None:
            await talk.send(f"{tag} BAD {prefix}{verb} is unknown")
        else:
            await handler(talk, tag, rest)

    def _note(self, verb: str, rest: str) -> None:
        for uid in self.asked(rest):
            self.marks.append(Mark(verb=verb, uid=uid, was_taken=self.is_taken(uid)))

    def asked(self, rest: str) -> list[int]:
        """Return the UIDs of a set that exist, in mailbox order."""
        wanted: set[int] = set()
        for part in rest.split(" ")[0].split(","):
            low, _, high = part.partition(":")
            top = max(self.mails, default=0)
            first, last = (top if n == "*" else int(n) for n in (low, high or low))
            wanted |= {uid for uid in self.mails if min(first, last) <= uid <= max(first, last)}
        return [uid for uid in self.mails if uid in wanted]

    # The verbs

    async def _do_capability(self, talk: Conversation, tag: str, rest: str) -> None:
        extra = " STARTTLS" if self._starttls else ""
        await talk.send(f"* CAPABILITY {self.capabilities}{extra}", f"{tag} OK done")

    async def _do_starttls(self, talk: Conversation, tag: str, rest: str) -> None:
        assert self._starttls is not None
        await talk.send(f"{tag} OK begin")
        context, self._starttls = self._starttls, None
        await talk.writer.start_tls(context)

    async def _do_login(self, talk: Conversation, tag: str, rest: str) -> None:
        is_right = rest.endswith(f'"{self.password}"')
        await talk.send(f"{tag} OK hello" if is_right else f"{tag} NO [AUTHENTICATIONFAILED] wrong")

    async def _do_list(self, talk: Conversation, tag: str, rest: str) -> None:
        await talk.send('* LIST () "/" INBOX', '* LIST () "/" "&AOk-t&AOk-"', f"{tag} OK done")

    async def _do_select(self, talk: Conversation, tag: str, rest: str) -> None:
        await talk.send(f"* {len(self.mails)} EXISTS", r"* FLAGS (\Seen \Deleted)")
        if self.uidvalidity is not None:
            await talk.send(f"* OK [UIDVALIDITY {self.uidvalidity}] valid")
        await talk.send(f"{tag} OK [READ-WRITE] open")

    async def _do_examine(self, talk: Conversation, tag: str, rest: str) -> None:
        await self._do_select(talk, tag, rest)

    async def _do_noop(self, talk: Conversation, tag: str, rest: str) -> None:
        await talk.send(f"{tag} OK done")

    async def _do_search(self, talk: Conversation, tag: str, rest: str) -> None:
        if rest == "ALL":
            found = list(self.mails)
        elif rest.startswith("UID "):
            found = self.asked(rest.removeprefix("UID "))
        else:
            found = list(self.mails)[int(rest) - 1 : int(rest)]
        await talk.send(f"* SEARCH {' '.join(map(str, found))}".rstrip(), f"{tag} OK done")

    async def _do_fetch(self, talk: Conversation, tag: str, rest: str) -> None:
        for uid in self.asked(rest):
            await talk.send_raw(self.fetch_line(uid, rest))
        await talk.send(f"{tag} OK done")

    def fetch_line(self, uid: int, rest: str) -> bytes:
        """Return the honest FETCH response for one message."""
        mail = self.mails[uid]
        number = list(self.mails).index(uid) + 1
        if "RFC822.SIZE" in rest:
            size = len(mail.raw) if mail.claimed_bytes is None else mail.claimed_bytes
            return f'* {number} FETCH (UID {uid} INTERNALDATE "{mail.date}" RFC822.SIZE {size})\r\n'.encode()
        body = mail.raw
        section = "BODY[]"
        if "[HEADER]" in rest:
            body, section = body.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", "BODY[HEADER]"
        part = re.search(r"<(\d+)\.(\d+)>", rest)
        if part:
            start, length = int(part[1]), int(part[2])
            body, section = body[start : start + length], f"{section}<{start}>"
        return f"* {number} FETCH (UID {uid} {section} {{{len(body)}}}\r\n".encode() + body + b")\r\n"

    async def _do_store(self, talk: Conversation, tag: str, rest: str) -> None:
        flags = rest[rest.index("(") + 1 : -1].split()
        for uid in self.asked(rest):
            self.mails[uid].flags.update(flags)
        await talk.send(f"{tag} OK done")

    async def _do_copy(self, talk: Conversation, tag: str, rest: str) -> None:
        self.moved += [self.mails[uid].raw for uid in self.asked(rest)]
        await talk.send(f"{tag} OK done")

    async def _do_expunge(self, talk: Conversation, tag: str, rest: str) -> None:
        for uid in self.asked(rest):
            if r"\Deleted" in self.mails[uid].flags:
                await self._remove(talk, uid)
        await talk.send(f"{tag} OK done")

    async def _do_move(self, talk: Conversation, tag: str, rest: str) -> None:
        for uid in self.asked(rest):
            self.moved.append(self.mails[uid].raw)
            await self._remove(talk, uid)
        await talk.send(f"{tag} OK done")

    async def _remove(self, talk: Conversation, uid: int) -> None:
        number = list(self.mails).index(uid) + 1
        del self.mails[uid]
        await talk.send(f"* {number} EXPUNGE")

    async def _do_idle(self, talk: Conversation, tag: str, rest: str) -> None:
        talk.is_idle = True
        self.idling.set()
        await talk.send("+ idling")
        await talk.line()
        talk.is_idle = False
        await talk.send(f"{tag} OK done")
