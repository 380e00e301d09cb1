"""One connection to a mail server: opened by aiosmtplib, then spoken to reply by reply.

Source: RFC 5321, RFC 3207 (STARTTLS), RFC 4954 (AUTH), vendor pages on XOAUTH2.

aiosmtplib connects, switches to TLS, says EHLO and logs in. For the mail itself ``Wire`` takes its transport over:
the library keeps a second reply that came in the same segment and takes it for the answer to the *next* command, so
that a peer who talks out of turn could have a mail counted as accepted; it drops what comes while a body is being
written; and it writes body and final dot in one go, where the line of doubt lies between them.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
from collections import deque
from contextlib import suppress
from typing import cast

import aiosmtplib

from gateway.channels.contract import Outcome, OutcomeKind
from gateway.channels.email_config import Smtp
from gateway.channels.oauth import TokenSource, xoauth2
from gateway.channels.smtp_replies import Reply, Step, clean_text, judge, read_reply, server_name
from gateway.errors import ChannelError, ChannelMisconfigured

MAX_REPLY_BYTES = 64 * 1024  #: of all that was not read yet; a real EHLO has 2 kB
MAX_UNREAD_REPLIES = 8
SLICE_BYTES = 256 * 1024  #: of a body, written and drained in one go
QUIT_SECONDS = 2.0
REPLY_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)
ONE_REPLY = re.compile(rb"(?:\d{3}-[^\n]*\n)*\d{3}(?:[ \r][^\n]*)?\n")
FORBIDDEN_IN_A_COMMAND = re.compile(rb"[\x00-\x1f\x7f]")
TRY_ANOTHER_METHOD = frozenset({500, 501, 502, 503, 504})  #: not known after all; 535 is final, or we get locked out


class Broken(Exception):
    """The connection is lost, timed out, or the peer spoke nonsense on it."""


class CouldNotOpen(Exception):
    """No session came about; ``outcome`` is what that means for every recipient."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.text)
        self.outcome = outcome


def dot_stuff(content: bytes) -> bytes:
    """Return the body of DATA without the final dot: every line ends in CRLF, a leading dot is doubled.

    Lone CR or LF, which would let a lenient server see a second mail (T-C03), become CRLF.
    """
    ends = content.count(b"\r\n")
    if content.count(b"\n") != ends or content.count(b"\r") != ends:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


class Wire(asyncio.Protocol):
    """Commands out, whole replies in, strictly in turn; everything bounded. Put on a transport that is open."""

    def __init__(self, transport: asyncio.Transport, below: asyncio.Protocol) -> None:
        self._transport = transport
        self._below = below  #: aiosmtplib's own protocol, which must hear that the line is gone
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._unread: deque[Reply] = deque()
        self._heard = asyncio.Event()  #: a reply can be read, or the line is broken
        self._drained = asyncio.Event()
        self._drained.set()
        self._broken: str | None = None
        # "Drained" means that the kernel has it; over TLS, that all of it is encrypted and less than one buffer waits.
        # asyncio's TLS pauses at ">= high" where its TCP pauses at "> high": with 0 it would never resume.
        is_encrypted = transport.get_extra_info("sslcontext") is not None
        transport.set_write_buffer_limits(high=1 if is_encrypted else 0, low=0)
        transport.set_protocol(self)

    @property
    def is_alive(self) -> bool:
        """Nothing is known to be wrong, and nothing unasked lies in the mailbox (such as 421 for idling)."""
        return self._broken is None and not self._transport.is_closing() and not self._unread

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            if not self._take_line(line):
                return
        if len(self._buffer) + sum(map(len, self._lines)) > MAX_REPLY_BYTES:
            self._break("the reply is too long")

    def _take_line(self, line: bytes) -> bool:
        match = REPLY_LINE.fullmatch(line)
        if match is None or (self._lines and self._lines[0][:1] != line[:1]):
            self._break(f"illegible reply: {clean_text(line[:200].decode('utf-8', 'replace'))}")
            return False
        self._lines.append(line)
        if match[2] == b"-":
            if sum(map(len, self._lines)) > MAX_REPLY_BYTES or len(self._lines) > MAX_REPLY_BYTES // 64:
                self._break("the reply is too long")
                return False
            return True
        self._unread.append(read_reply(int(match[1]), [one[4:] for one in self._lines]))
        self._lines.clear()
        if len(self._unread) > MAX_UNREAD_REPLIES:
            self._break("replies that nobody asked for")
            return False
        self._heard.set()
        return True

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(f"the connection was lost{f': {type(exc).__name__}' if exc else ''}")
        self._below.connection_lost(exc)

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    def _break(self, why: str) -> None:
        self._broken = self._broken or why
        self._buffer.clear()
        self._heard.set()
        self._drained.set()
        self._transport.abort()

    # Called by the session. Each raises Broken.

    async def command(self, line: bytes, *, timeout: float) -> Reply:
        """Say one line and return the answer. What the peer said unasked stands for the answer: 421, or nonsense."""
        if FORBIDDEN_IN_A_COMMAND.search(line):
            raise ValueError("a command line with control characters")
        if not self._unread:
            await self.write(line + b"\r\n", timeout=timeout)
        elif self._unread[0].code != 421:
            raise Broken(f"the server spoke out of turn: {self._unread[0].code} {self._unread[0].text}")
        return await self.reply(timeout=timeout)

    async def write(self, data: bytes, *, timeout: float) -> None:
        self._check()
        self._transport.write(data)
        await self._wait(self._drained, timeout)
        self._check()

    async def reply(self, *, timeout: float) -> Reply:
        """Return the next reply; one that came before the line broke still counts."""
        if not self._unread:
            self._check()
            self._heard.clear()
            await self._wait(self._heard, timeout)
        if not self._unread:
            self._check()
        return self._unread.popleft()

    async def write_body(self, stuffed: bytes, *, timeout: float) -> None:
        """Write all of it, unless the server interrupts: see ``interruption``."""
        for start in range(0, len(stuffed), SLICE_BYTES):
            if self._unread:
                return
            await self.write(stuffed[start : start + SLICE_BYTES], timeout=timeout)

    def interruption(self) -> Reply | None:
        """What the server has said without being asked. Raises Broken when it has gone without a word."""
        if self._unread:
            return self._unread[0]
        self._check()
        return None

    def _check(self) -> None:
        if self._broken is not None or self._transport.is_closing():
            raise Broken(self._broken or "the connection was closed")

    async def _wait(self, event: asyncio.Event, timeout: float) -> None:
        if event.is_set():
            return
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            raise Broken(f"no answer within {timeout:g} s") from None

    def abort(self) -> None:
        self._break("dropped by us")

    def hang_up(self) -> None:
        """Say QUIT and wait for nothing. What the kernel does not take at once is dropped."""
        if self.is_alive:
            self._transport.write(b"QUIT\r\n")
        self.abort()


class Session:
    """A greeted, encrypted and logged-in connection, with what EHLO showed."""

    def __init__(self, client: aiosmtplib.SMTP, *, server: str) -> None:
        self.client = client
        self.server = server
        self.extensions = dict(client.esmtp_extensions)
        self.mails = 0
        self.is_clean = True  #: no mail transaction is open on the server
        self.takes_options = True  #: until it refuses DSN parameters in spite of its EHLO
        self.wire = Wire(cast(asyncio.Transport, client.transport), cast(asyncio.Protocol, client.protocol))

    def offers(self, extension: str) -> bool:
        return extension in self.extensions

    @property
    def size_limit_bytes(self) -> int | None:
        """The largest mail it takes; None when it does not say (RFC 1870: 0 means no fixed limit)."""
        words = self.extensions.get("size", "").split()
        return int(words[0]) or None if words and words[0].isdecimal() and words[0].isascii() else None

    def abort(self) -> None:
        self.wire.abort()

    async def quit(self) -> None:
        with suppress(Broken):  # gone already, which is what we wanted
            await self.wire.command(b"QUIT", timeout=QUIT_SECONDS)
        self.abort()


async def open_session(account: Smtp, tokens: TokenSource | None) -> Session:
    """Connect, encrypt, greet, log in. Raises CouldNotOpen; nothing of a message has been said by then."""
    secrets: list[str] = []
    client: aiosmtplib.SMTP | None = None
    step = Step.GREETING
    server = account.host
    try:
        client = _client(account)
        greeting = await client.connect()
        server = server_name(read_reply(greeting.code, [greeting.message.encode("utf-8", "replace")]), account.host)
        step = Step.EHLO
        await client.ehlo()
        if account.security == "starttls":
            step = Step.STARTTLS
            await _start_tls(client)
            step = Step.EHLO
            await client.ehlo()
        if account.user is not None:
            step = Step.LOGIN
            await _login(client, account, tokens, secrets)
        return Session(client, server=server)
    except asyncio.CancelledError:
        _drop(client)
        raise
    except (aiosmtplib.SMTPException, OSError, ValueError, ChannelError) as error:
        _drop(client)
        raise CouldNotOpen(_why(step, error, server=server, secrets=secrets)) from None  # the cause may hold a secret


def _client(account: Smtp) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname=account.host,
        port=account.port,
        timeout=account.timeout_seconds,
        use_tls=account.security == "tls",
        start_tls=False,  # done by hand, to tell a stripped STARTTLS from a dead server
        tls_context=None if account.security == "plain" else _tls_context(account.ca_file),
        local_hostname=_own_name(),
    )


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:
            raise ChannelMisconfigured(f"ca_file {ca_file}: {error.strerror or error}", code="tls") from None
    return context


def _own_name() -> str:
    """The host's full name, or else an address literal; no DNS, which may hang (RFC 5321 section 4.1.4)."""
    name = socket.gethostname()
    return name if "." in name.strip(".") and name.isascii() and name.isprintable() else "[127.0.0.1]"


class _Witness(asyncio.Protocol):
    """Passes everything on and remembers it: after the answer to STARTTLS, nothing may follow in clear."""

    def __init__(self, below: asyncio.Protocol) -> None:
        self._below = below
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        self._seen = (self._seen + data)[:MAX_REPLY_BYTES]
        self._below.data_received(data)

    def eof_received(self) -> bool | None:
        return self._below.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._below.connection_lost(exc)

    @property
    def has_seen_more_than_one_reply(self) -> bool:
        reply = ONE_REPLY.match(self._seen)
        return reply is None or reply.end() < len(self._seen)


async def _start_tls(client: aiosmtplib.SMTP) -> None:
    if not client.supports_extension("starttls"):
        raise ChannelMisconfigured("the server offers no STARTTLS: nothing was sent in clear", code="tls")
    witness = _Witness(cast(asyncio.Protocol, client.protocol))
    cast(asyncio.Transport, client.transport).set_protocol(witness)
    await client.starttls()
    if witness.has_seen_more_than_one_reply:  # RFC 3207 section 4.2: somebody in the middle speaks along
        raise ChannelMisconfigured("bytes were injected before the switch to TLS", code="tls")


async def _login(client: aiosmtplib.SMTP, account: Smtp, tokens: TokenSource | None, secrets: list[str]) -> None:
    user = account.user or ""
    if account.oauth is not None or tokens is not None:
        await _login_by_token(client, user, tokens, secrets)
        return
    password = account.password.get_secret_value() if account.password else ""
    secrets += [password, _base64(password), _base64(f"\0{user}\0{password}")]
    methods = ("plain", "login", "cram-md5") if account.security != "plain" else ("cram-md5", "plain", "login")
    offered = [method for method in methods if method in client.server_auth_methods]
    if not offered:
        raise ChannelMisconfigured("the server offers no way to log in that we know", code="login")
    for method in offered:
        login = {"plain": client.auth_plain, "login": client.auth_login, "cram-md5": client.auth_crammd5}[method]
        try:
            await login(user, password)
        except aiosmtplib.SMTPAuthenticationError as refusal:
            if refusal.code not in TRY_ANOTHER_METHOD or method == offered[-1]:
                raise
        else:
            return


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")


async def _login_by_token(client: aiosmtplib.SMTP, user: str, tokens: TokenSource | None, secrets: list[str]) -> None:
    """Log in by XOAUTH2; a refused token is renewed once (it may have been revoked before its time)."""
    if tokens is None:
        raise ChannelMisconfigured("the account has no access token", code="login")
    for is_renewed in (False, True):
        token = await tokens.token(force=is_renewed)
        secrets += [token, xoauth2(user, token).decode()]
        try:
            await client.auth_xoauth2(user, token)
        except aiosmtplib.SMTPAuthenticationError as refusal:
            if is_renewed or refusal.code // 100 != 5:
                raise
        else:
            return


def _why(step: Step, error: Exception, *, server: str, secrets: list[str]) -> Outcome:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        lines = [_redacted(line, secrets).encode("utf-8", "replace") for line in error.message.split("\n")]
        if 200 <= error.code <= 599:
            return judge(step, read_reply(error.code, lines), server=server)
        return _nowhere(f"illegible reply: {b' '.join(lines).decode()}", server)
    if isinstance(error, ChannelMisconfigured):
        fault = "tls" if error.code == "tls" else "login"
        return Outcome(kind=OutcomeKind.CHANNEL_FAULT, text=clean_text(str(error)), server=server, fault=fault)
    if isinstance(error, ChannelError):
        return Outcome(
            kind=OutcomeKind.DEFERRED, text=clean_text(str(error)), server=server, retry_after=error.retry_after
        )
    if (trouble := _tls_trouble(error)) is not None:
        text = clean_text(getattr(trouble, "verify_message", "") or trouble.reason or str(trouble))
        return Outcome(kind=OutcomeKind.CHANNEL_FAULT, text=f"TLS: {text}", server=server, fault="tls")
    return _nowhere(_redacted(str(error), secrets), server)


def _tls_trouble(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS error behind ``error``, unless the line was merely cut during the handshake."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return None if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) else error
        error = error.__cause__
    return None


def _nowhere(text: str, server: str) -> Outcome:
    return Outcome(kind=OutcomeKind.UNREACHABLE, text=clean_text(text), server=server)


def _redacted(text: str, secrets: list[str]) -> str:
    """A server may quote what it was sent, and its words are stored and shown."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _drop(client: aiosmtplib.SMTP | None) -> None:
    """Cut the line without ceremony: closing politely can hang on a peer that has stopped reading."""
    if client is None:
        return
    if client.transport is not None:
        cast(asyncio.Transport, client.transport).abort()
    client.close()
