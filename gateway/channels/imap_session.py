"""One entered IMAP session: connect, TLS, login, and the few commands that the adapter needs, each with a deadline.

Source: RFC 3501, 2595 and 3207 (STARTTLS), 2177 (IDLE), 4315 (UIDPLUS), 4959 (SASL-IR), 5530 (response codes), 6851
(MOVE); vendor pages "XOAUTH2". No password or token leaves before the connection is encrypted and verified, unless the
account says ``plain``.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aioimaplib import aioimaplib

from gateway.channels import imap_lines
from gateway.channels.email_config import Account
from gateway.channels.imap_lines import Response
from gateway.channels.imap_wire import Client, Reply, Wire, is_busy, is_throttled, text_of, unavailable
from gateway.channels.oauth import TokenSource, xoauth2
from gateway.errors import ChannelError, ChannelMisconfigured, PeerBroke, PeerUnavailable

MAX_EXCERPT_CHARS = 1000
UIDVALIDITY = re.compile(rb"\* OK \[UIDVALIDITY (\d{1,10})\]", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """A folder that is open. ``uidvalidity`` is 0 when the server names none."""

    uidvalidity: int
    exists: int
    is_read_only: bool


class Session:
    """What the adapter may say on one wire. Every method raises ChannelError when the connection is beyond use."""

    def __init__(self, wire: Wire, account: Account) -> None:
        self.wire = wire
        self.account = account
        self._secrets: list[str] = []
        wire.clean = self.clean

    def can(self, capability: str) -> bool:
        return capability in self.wire.capabilities

    def keep_secret(self, *secrets: str) -> None:
        """Remember what must never be shown, together with its base64 form."""
        for secret in filter(None, secrets):
            encoded = base64.b64encode(secret.encode()).decode("ascii")
            self._secrets += [secret, imap_lines.quoted(secret)[1:-1], encoded]

    def clean(self, text: str) -> str:
        """Take secrets out of a server's words: some servers echo what they were told."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def excerpt(self) -> str:
        """Return the last lines of the conversation for the quarantine page."""
        lines = [self._without_torn_secret(self.clean(text_of(line))) for line in self.wire.transcript]
        return "\n".join(filter(None, lines))[-MAX_EXCERPT_CHARS:]

    def _without_torn_secret(self, line: str) -> str:
        """Lines of the transcript are cut: the start of a secret may be left at their end."""
        for secret in self._secrets:
            torn = next((n for n in range(len(secret) - 1, 2, -1) if line.endswith(secret[:n])), 0)
            line = line[: len(line) - torn] + "***" if torn else line
        return line

    # Commands

    async def select(self, folder: str, *, read_only: bool) -> Selected:
        """Open a folder; raise ChannelMisconfigured(code="folder") if it is not there."""
        self.wire.exists = self.wire.expunged = 0
        reply = await self.wire.run("EXAMINE" if read_only else "SELECT", imap_lines.mailbox(folder))
        if not reply.is_ok:
            self.refuse_if_busy(reply)
            words = self.clean(reply.text)[:300]
            raise ChannelMisconfigured(f"folder {folder!r} cannot be opened: {words}", code="folder")
        self.wire.state = aioimaplib.SELECTED
        found = [m for r in reply.responses if (m := UIDVALIDITY.match(r.head))]
        return Selected(
            uidvalidity=int(found[-1][1]) if found else 0,
            exists=self.wire.exists,
            is_read_only=read_only or imap_lines.response_code(reply.text)[0] == "READ-ONLY",
        )

    async def search(self, keys: str, *, may_fail: bool = False) -> set[int]:
        """Return the UIDs that match; without CHARSET, which several servers refuse."""
        reply = await self.wire.run("SEARCH", keys, prefix="UID")
        if not reply.is_ok:
            if may_fail:
                return set()
            self.refuse_if_busy(reply)
            raise PeerBroke(f"search was refused: {self.clean(reply.text)[:300]}", code="protocol")
        return imap_lines.searched(reply.responses)

    async def fetch(
        self, uids: Sequence[int], items: str, *, literal_bytes: int = 64 * 1024, room_bytes: int = 0
    ) -> tuple[Reply, list[dict[bytes, imap_lines.Value]]]:
        """Return the reply and the legible FETCH lines in it, asked for or not."""
        room = max(room_bytes, literal_bytes) + 4096 * len(uids) + 256 * 1024
        with self.wire.literals_up_to(literal_bytes):
            reply = await self.wire.run("FETCH", imap_lines.uid_set(uids), f"({items})", prefix="UID", room_bytes=room)
        if not reply.is_ok and is_throttled(reply.text):
            raise unavailable(self.clean(reply.text))
        if not reply.is_ok and imap_lines.response_code(reply.text)[0] == "UNAVAILABLE":
            # the store behind the server is down, or this message cannot be read there: the caller finds out which
            raise PeerUnavailable(f"fetching was refused: {self.clean(reply.text)[:300]}", code="connection")
        return reply, [line for response in reply.responses if (line := imap_lines.fetched(response))]

    async def change(self, name: str, uids: Sequence[int], *arguments: str) -> Reply:
        """STORE, COPY, MOVE or EXPUNGE by UID; a NO is the caller's to judge."""
        return await self.wire.run(name, imap_lines.uid_set(uids), *arguments, prefix="UID")

    async def folders(self) -> list[str]:
        reply = await self.wire.run("LIST", '""', '"*"')
        return sorted(filter(None, map(_listed, reply.responses)))

    def refuse_if_busy(self, reply: Reply) -> None:
        if is_busy(reply.text):
            raise unavailable(self.clean(reply.text))


def _listed(response: Response) -> str:
    try:
        parsed = imap_lines.values(response)
    except imap_lines.Malformed:
        return ""
    name = parsed[-1]
    is_list = len(parsed) == 4 and isinstance(parsed[0], bytes) and parsed[0].upper() == b"LIST"
    return imap_lines.utf7_decode(name) if is_list and isinstance(name, bytes) else ""


# Coming in


@asynccontextmanager
async def opened(account: Account, tokens: TokenSource | None = None) -> AsyncIterator[Session]:
    """Connect, encrypt, log in; the connection is gone when the block is left.

    Raises PeerUnavailable (network, busy server), PeerBroke (no IMAP), ChannelMisconfigured (tls, login, token).
    """
    context = await tls_context(account) if account.security != "plain" else None
    wire = await _connected(account, context if account.security == "tls" else None)
    try:
        session = Session(wire, account)
        is_entered = await _greeted(session)
        if account.security == "starttls":
            assert context is not None
            await _encrypt(session, context, is_entered=is_entered)
        if not is_entered:
            await _capabilities(session)
            await _login(session, tokens)
            wire.state = aioimaplib.AUTH
        await _capabilities(session)
        yield session
    finally:
        await wire.close()


async def tls_context(account: Account) -> ssl.SSLContext:
    try:
        # reading the certificate store is file access
        return await asyncio.to_thread(ssl.create_default_context, cafile=account.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ChannelMisconfigured(f"the CA file cannot be read: {account.ca_file}", code="tls") from error


async def _connected(account: Account, context: ssl.SSLContext | None) -> Wire:
    where = f"{account.host}:{account.port}"
    client = Client(account.host, account.port, timeout=account.timeout_seconds, context=context)
    try:
        async with asyncio.timeout(account.timeout_seconds):
            return await client.connected()
    except TimeoutError as error:
        raise PeerUnavailable(f"{where} does not answer", code="timeout") from error
    except (OSError, UnicodeError) as error:
        raise connection_error(error, where) from error


def connection_error(error: Exception, where: str) -> ChannelError:
    """Tell a TLS refusal, which a person has to mend, from a network that will be back."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ChannelMisconfigured(f"{where}: certificate refused: {error.verify_message}", code="tls")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ChannelMisconfigured(f"{where}: no TLS: {error.reason or 'handshake failed'}", code="tls")
    return PeerUnavailable(f"{where} cannot be reached: {error}", code="connection")


async def _greeted(session: Session) -> bool:
    """Read the greeting; True if the server takes us as entered already (PREAUTH)."""
    wire = session.wire

    async def greeting() -> Response:
        return await asyncio.shield(wire.greeting)

    words = (await wire.within(greeting())).head
    kind = words[:10].upper().split(b" ")[:2]
    if kind == [b"*", b"OK"]:
        return False
    if kind == [b"*", b"PREAUTH"]:
        wire.state = aioimaplib.AUTH
        return True
    if kind == [b"*", b"BYE"]:
        raise unavailable(text_of(words[5:]))
    raise PeerBroke(f"this is no IMAP server: {text_of(words[:80])}", code="protocol")


async def _encrypt(session: Session, context: ssl.SSLContext, *, is_entered: bool) -> None:
    wire, account = session.wire, session.account
    if is_entered:
        raise ChannelMisconfigured("the server skips STARTTLS by PREAUTH: refused", code="tls")
    await _capabilities(session)
    if not session.can("STARTTLS"):
        raise ChannelMisconfigured("the server does not offer STARTTLS", code="tls")
    reply = await wire.run("STARTTLS")
    if not reply.is_ok:
        raise ChannelMisconfigured(f"STARTTLS was refused: {reply.text[:200]}", code="tls")
    if wire.failure is not None:
        raise wire.failure
    where = f"{account.host}:{account.port}"
    try:
        async with asyncio.timeout(account.timeout_seconds):
            await wire.upgrade(context, account.host)
    except TimeoutError as error:
        raise PeerUnavailable(f"{where}: no TLS handshake in time", code="timeout") from error
    except OSError as error:
        raise connection_error(error, where) from error


async def _capabilities(session: Session) -> None:
    session.wire.capabilities = set()
    reply = await session.wire.run("CAPABILITY")
    if not reply.is_ok or not session.wire.capabilities & {"IMAP4REV1", "IMAP4REV2"}:
        raise PeerBroke("the server names no IMAP capabilities", code="protocol")


async def _login(session: Session, tokens: TokenSource | None) -> None:
    account = session.account
    user = account.user or ""
    if account.oauth is not None:
        if tokens is None:
            raise ChannelMisconfigured("an OAuth account needs a token source", code="login")
        reply = await _by_token(session, user, await tokens.token())
        if not reply.is_ok and not is_busy(reply.text):
            reply = await _by_token(session, user, await tokens.token(force=True))
    elif account.password is None:
        raise ChannelMisconfigured("no password is set", code="login")
    else:
        reply = await _by_password(session, user, account.password.get_secret_value())
    if not reply.is_ok:
        session.refuse_if_busy(reply)
        raise ChannelMisconfigured(f"login was refused: {session.clean(reply.text)[:300]}", code="login")


async def _by_token(session: Session, user: str, token: str) -> Reply:
    if not session.can("AUTH=XOAUTH2"):
        raise ChannelMisconfigured("the server does not offer XOAUTH2", code="login")
    packed = xoauth2(user, token).decode("ascii")
    session.keep_secret(token)
    session.keep_secret(packed)
    return await _authenticate(session, "XOAUTH2", packed)


async def _by_password(session: Session, user: str, password: str) -> Reply:
    session.keep_secret(password)
    if session.can("AUTH=PLAIN") and (session.can("LOGINDISABLED") or not _is_quotable(user, password)):
        packed = base64.b64encode(f"\0{user}\0{password}".encode()).decode("ascii")
        session.keep_secret(packed)
        return await _authenticate(session, "PLAIN", packed)
    if session.can("LOGINDISABLED"):
        raise ChannelMisconfigured("the server refuses passwords on this connection", code="login")
    if _is_quotable(user, password):
        return await session.wire.run("LOGIN", imap_lines.quoted(user), imap_lines.quoted(password))
    raw_user, raw_password = user.encode(), password.encode()
    second = b"%b {%d}\r\n" % (raw_user, len(raw_password))
    return await session.wire.run("LOGIN", f"{{{len(raw_user)}}}", answers=[second, raw_password + b"\r\n"])


def _is_quotable(*texts: str) -> bool:
    return all(map(imap_lines.is_quotable, texts))


async def _authenticate(session: Session, mechanism: str, packed: str) -> Reply:
    if session.can("SASL-IR"):
        return await session.wire.run("AUTHENTICATE", mechanism, packed, extra_answers=1)
    return await session.wire.run("AUTHENTICATE", mechanism, answers=[packed.encode() + b"\r\n"], extra_answers=1)
