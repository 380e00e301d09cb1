"""The client library's protocol with our own reader in front: bounded, silent in logs, and loss is noticed at once.

aioimaplib keeps the tags, states and pending commands. Replaced are its reading (it recurses per line and counts the
brackets of mail text), its waiting (a lost connection leaves its commands hanging) and its logging (it formats every
byte, and a server may echo a password).

Source: RFC 3501, RFC 2177 (IDLE); aioimaplib 2.0.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from aioimaplib import aioimaplib

from core.failpoints import failpoint
from gateway.channels.imap_lines import Framer, Malformed, Response, response_code
from gateway.errors import ChannelError, ChannelMisconfigured, PeerBroke, PeerUnavailable

SMALL_ROOM_BYTES = 4 * 1024 * 1024  # what one command without bodies may bring
CLOSE_SECONDS = 5.0
SLOWEST_BYTES_PER_SECOND = 8 * 1024  # a transfer below this is a stalled one
EXISTS = re.compile(rb"\* (\d{1,10}) EXISTS$", re.IGNORECASE)
EXPUNGE = re.compile(rb"\* \d{1,10} EXPUNGE$", re.IGNORECASE)
TAGGED = re.compile(rb"([A-Za-z0-9]+) (OK|NO|BAD)(?: (.*))?$", re.IGNORECASE | re.DOTALL)

T = TypeVar("T")


def _drop(record: logging.LogRecord) -> bool:
    return False


# A filter and not a level: levels are reset by logging set-ups, and the library's lines hold credentials (T-O01).
logging.getLogger("aioimaplib.aioimaplib").addFilter(_drop)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What one command brought: OK, NO or BAD, the words behind it, and the untagged responses before it."""

    status: str
    text: str
    responses: tuple[Response, ...]

    @property
    def is_ok(self) -> bool:
        return self.status == "OK"


class Wire(aioimaplib.IMAP4ClientProtocol):  # type: ignore[misc]  # the library has no types
    """One connection. Use ``run`` for commands, one at a time; after any error only ``close`` is left."""

    transport: Any

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        super().__init__(loop)
        self.timeout_seconds = timeout
        self.framer = Framer()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.closed = asyncio.Event()
        self.failure: ChannelError | None = None
        self.greeting: asyncio.Future[Response] = loop.create_future()
        self.pushed = asyncio.Event()  #: the server spoke of messages since this was cleared
        self.exists = 0
        self.transcript: deque[bytes] = deque(maxlen=12)
        self._heard: list[Response] = []
        self._room_bytes = 0
        self._last_heard = loop.time()
        self._received_bytes = 0
        self._tag = ""
        self._answers: deque[bytes] = deque()
        self._extra_answers = 0
        self._continued = asyncio.Event()
        self._sealed = False
        self.expunged = 0  #: messages that left since the folder was opened
        self.clean: Callable[[str], str] = str  #: takes secrets out of a server's words

    # Called by the event loop

    def data_received(self, data: bytes) -> None:
        self._last_heard = self.loop.time()
        self._received_bytes += len(data)
        if self.lost.done():
            return
        try:
            for response in self.framer.feed(data):
                self._refuse_injected()
                self._dispatch(response)
                if self.lost.done():
                    return
            if self.framer.pending:
                self._refuse_injected()
            if self.framer._literal:  # its first bytes have come, and its last have not
                failpoint("I3.literal")
        except Malformed as error:
            self.transcript.append(self.framer.pending)
            self.fail(PeerBroke(f"the server's answer cannot be followed: {error}", code="protocol"))
        except ChannelError as error:
            self.fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        # TLS errors after the handshake (a record that fails its check) arrive here too: nothing to mend by hand
        reason = type(exc).__name__ if exc else "closed by the server"
        self.fail(PeerUnavailable(f"the connection was lost: {reason}", code="connection"))
        self.closed.set()

    def fail(self, error: ChannelError) -> None:
        """Give the connection up; the first reason stays."""
        if self.failure is None:
            self.failure = error
        if not self.lost.done():
            self.lost.set_result(None)
        if self.transport is not None:
            self.transport.abort()

    def _refuse_injected(self) -> None:
        if self._sealed:
            raise ChannelMisconfigured("bytes were slipped in before the TLS switch", code="tls")

    def _dispatch(self, response: Response) -> None:
        self.transcript.append(response.shown())
        if not self.greeting.done():
            self.state = aioimaplib.NONAUTH
            self.greeting.set_result(response)
        elif response.head.startswith(b"* "):
            self._untagged(response)
        elif response.head.startswith(b"+"):
            self._continue()
        else:
            self._finish(response)

    def _untagged(self, response: Response) -> None:
        head = response.head
        exists = EXISTS.match(head)
        if exists:
            self.exists = int(exists[1])
            self.pushed.set()
        elif head[:6].upper() == b"* BYE " and self.state != aioimaplib.LOGOUT:
            raise unavailable(self.clean(text_of(head[6:])))
        elif EXPUNGE.match(head):
            self.exists = max(0, self.exists - 1)
            self.expunged += 1
        elif head[:13].upper() == b"* CAPABILITY ":
            self._learn(head[13:])
        elif self._tag:
            self._room_bytes -= response.size_bytes + 64
            if self._room_bytes < 0:
                raise PeerBroke("the server sent far more than was asked for", code="protocol")
            self._heard.append(response)

    def _continue(self) -> None:
        if not self._tag:
            return
        if self._answers:
            self.transport.write(self._answers.popleft())
        elif self._extra_answers:
            # an XOAUTH2 error comes as a continuation, and the tagged NO only after an empty line
            self._extra_answers -= 1
            self.transport.write(b"\r\n")
        self._continued.set()

    def _finish(self, response: Response) -> None:
        found = TAGGED.match(response.head)
        if found is None or not self._tag or found[1] != self._tag.encode("ascii"):
            raise PeerBroke("the server answered something that was not asked", code="protocol")
        tag, status, text = found[1], found[2].upper(), found[3] or b""
        self._tag = ""
        code, arguments = response_code(text_of(text))
        if code == "CAPABILITY":
            self._learn(arguments.encode("utf-8"))
        if self.pending_sync_command is not None and self.pending_sync_command.name == "STARTTLS":
            self._sealed = True
        self._response_done(b"%b %b %b" % (tag, status, text))

    def _learn(self, words: bytes) -> None:
        self.capabilities = set(text_of(words).upper().split()[:200])

    # Called by the session

    def send(self, line: str, scrub: str | None = None) -> None:
        """The library's writer without its log."""
        self.transport.write(line.encode("ascii") + b"\r\n")

    async def run(
        self,
        name: str,
        *arguments: str,
        prefix: str = "",
        answers: Sequence[bytes] = (),
        extra_answers: int = 0,
        room_bytes: int = SMALL_ROOM_BYTES,
    ) -> Reply:
        """Send one command and return its reply; raise ChannelError if the connection does not survive it."""
        self._heard = []
        self._room_bytes = room_bytes
        self._answers, self._extra_answers = deque(answers), extra_answers
        command = aioimaplib.Command(name, self.new_tag(), *arguments, prefix=prefix or None, loop=self.loop)
        self._tag = command.tag
        await self.within(self.execute(command))
        heard, self._heard = self._heard, []
        done = command.response
        return Reply(status=done.result, text=text_of(done.lines[-1]), responses=tuple(heard))

    async def upgrade(self, context: ssl.SSLContext, host: str) -> None:
        """Switch to TLS after STARTTLS was answered OK; nothing learnt in clear is kept."""
        plain: asyncio.Transport = self.transport
        self.capabilities = set()
        self.framer = Framer()
        try:
            self.transport = await self.loop.start_tls(
                plain, self, context, server_hostname=host, ssl_handshake_timeout=self.timeout_seconds
            )
        except BaseException:
            plain.abort()  # a failed handshake never calls our connection_lost
            await asyncio.sleep(0)
            self.closed.set()
            raise
        if self.failure is not None:
            raise self.failure
        self._sealed = False

    @contextmanager
    def literals_up_to(self, size: int) -> Iterator[None]:
        before, self.framer.max_literal_bytes = self.framer.max_literal_bytes, size
        try:
            yield
        finally:
            self.framer.max_literal_bytes = before

    async def idle_until(self, *signals: asyncio.Event, seconds: float) -> bool:
        """Wait in IDLE for a push, a signal or the end of the time; False if the server refuses to idle."""
        self._heard, self._room_bytes = [], SMALL_ROOM_BYTES
        self._continued.clear()
        command = aioimaplib.IdleCommand(self.new_tag(), self.idle_queue, loop=self.loop)
        self._tag = command.tag
        running = asyncio.ensure_future(self.execute(command))
        try:
            await self.within(_first(running, self._continued.wait()))
            if not running.done():
                await _first(running, self.lost, *(s.wait() for s in (self.pushed, *signals)), seconds=seconds)
            if not running.done() and not self.lost.done():
                self.idle_done()
            await self.within(_shielded(running))
        finally:
            running.cancel()
        return bool(command.response.result == "OK")

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns, unless the connection is lost, silent for too long, or far too slow.

        Bytes that came buy time at the slowest rate, so a large mail may take long and a dribbling server may not.
        """
        started = self._last_heard = self.loop.time()
        before = self._received_bytes
        task = asyncio.ensure_future(work)
        signals: set[asyncio.Future[Any]] = {task, self.lost}
        try:
            while True:
                earned = (self._received_bytes - before) / SLOWEST_BYTES_PER_SECOND
                deadline = min(started + earned, self._last_heard) + self.timeout_seconds
                remaining = deadline - self.loop.time()
                if remaining <= 0:
                    self.fail(PeerUnavailable("the server did not answer in time", code="timeout"))
                await asyncio.wait(signals, timeout=max(remaining, 0), return_when="FIRST_COMPLETED")
                if task.done():
                    return task.result()
                if self.failure is not None:
                    raise self.failure
        finally:
            task.cancel()

    async def close(self) -> None:
        """Drop the connection; returns when the socket is gone."""
        if self.transport is None:
            return
        self.fail(PeerUnavailable("closed by us", code="connection"))
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.closed.wait()


async def _first(*works: Coroutine[Any, Any, Any] | asyncio.Future[Any], seconds: float | None = None) -> None:
    given = {work for work in works if isinstance(work, asyncio.Future)}
    made = {asyncio.ensure_future(work) for work in works if not isinstance(work, asyncio.Future)}
    try:
        await asyncio.wait(given | made, timeout=seconds, return_when="FIRST_COMPLETED")
    finally:
        for task in made:
            task.cancel()


async def _shielded(task: asyncio.Future[Any]) -> None:
    await asyncio.wait({task})
    task.result()


class Client(aioimaplib.IMAP4):  # type: ignore[misc]  # the library has no types
    """The library's client, made to connect our ``Wire``."""

    def __init__(self, host: str, port: int, *, timeout: float, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=timeout, ssl_context=context)

    def create_client(
        self,
        host: str,
        port: int,
        loop: asyncio.AbstractEventLoop | None,
        conn_lost_cb: object = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        running = asyncio.get_running_loop()
        self.protocol = Wire(running, self.timeout)
        extra = {"ssl_handshake_timeout": self.timeout} if ssl_context else {}
        self._client_task = running.create_task(
            running.create_connection(lambda: self.protocol, host, port, ssl=ssl_context, **extra)
        )

    async def connected(self) -> Wire:
        """Return the wire once the socket (and TLS) stands; raises what ``create_connection`` raises."""
        try:
            await self._client_task
        except BaseException:
            self._client_task.cancel()
            if self.protocol.transport is not None:
                self.protocol.transport.abort()
            raise
        wire: Wire = self.protocol
        return wire


def text_of(line: bytes | bytearray) -> str:
    """Return a server's words as harmless one-line text."""
    text = bytes(line[:2000]).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else " " for c in text).strip()


BUSY = re.compile(
    r"too many|throttl|temporar|try again|simultaneous|maximum number of|unavailable|in use|overload|back ?off|busy"
    r"|maintenance|shutting down|later|bandwidth|internal error|not connected",
    re.IGNORECASE,
)
THROTTLED = re.compile(r"too many|throttl|back ?off|bandwidth", re.IGNORECASE)
BUSY_CODES = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "THROTTLED", "OVERQUOTA", "SERVERBUG"})
THROTTLED_CODES = frozenset({"LIMIT", "THROTTLED", "OVERQUOTA"})
DELAY = re.compile(
    r"(?:backoff time:?|again in|retry.after:?|wait)\D{0,12}(\d{1,9})\s*(ms|milli|s|min|h)?", re.IGNORECASE
)
UNITS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
LONGEST_DELAY = timedelta(hours=1)


def is_busy(text: str) -> bool:
    """Say whether a refusal means "come back later" and not "mend your settings"."""
    return _says(text, BUSY_CODES, BUSY)


def is_throttled(text: str) -> bool:
    """Say whether a refusal is about how much we ask, and so never about one message."""
    return _says(text, THROTTLED_CODES, THROTTLED)


def _says(text: str, codes: frozenset[str], words: re.Pattern[str]) -> bool:
    code, _ = response_code(text)
    return code in codes or (code in ("", "ALERT") and bool(words.search(text)))


def unavailable(text: str) -> PeerUnavailable:
    """Return the error for a BYE or a temporary NO, with the delay that the server names."""
    code = "throttled" if is_busy(text) else "connection"
    return PeerUnavailable(f"the server said: {text[:300]}", code=code, retry_after=named_delay(text))


def named_delay(text: str) -> timedelta | None:
    found = DELAY.search(text)
    if found is None:
        return None
    return min(timedelta(seconds=int(found[1]) * UNITS[(found[2] or "s").lower()]), LONGEST_DELAY)
