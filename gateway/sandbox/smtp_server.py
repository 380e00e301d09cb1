"""The sandbox's SMTP server: aiosmtpd plus the DSN extension (RFC 3461), which aiosmtpd refuses with 555.

It parses and answers; who accepts what, and what happens to a mail, is decided by the two functions given to it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from gateway.sandbox.handover import Ending, Handover, Recipient, Verdict, from_xtext

_log = logging.getLogger(__name__)

HOSTNAME: Final = "mail.sandbox.test"
MAX_MAIL_BYTES: Final = 35 * 1024 * 1024
_COMMAND_BYTES: Final = 2048  # RFC 3461 section 4.2: ORCPT alone may have 500
#: The path may hold spaces and brackets in quotes, and the options may hold brackets (ORCPT is xtext).
_PATH_AND_OPTIONS: Final = re.compile(r'([^<]*<(?:"(?:\\.|[^"\\])*"|[^>"])*>|\S*)(.*)', re.DOTALL)
_EVENTS: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Post:
    """The decisions behind the protocol."""

    at_recipient: Callable[[str, str], Verdict]  #: envelope sender and recipient, at RCPT
    at_mail: Callable[[Handover], Awaitable[Ending]]  #: the whole mail, before its final dot is answered
    now: Callable[[], datetime]


class SmtpServer:
    """``async with`` starts and stops it. Login is offered with ``users`` and not demanded."""

    def __init__(self, post: Post, *, host: str, port: int, users: dict[str, str]) -> None:
        self._post = post
        self._host = host
        self._port = port
        self._users = users
        self._open: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, self._host, self._port)
        return self

    def _connection(self) -> _Connection:
        return _Connection(_Handler(self._post), opened=self._open, users=self._users)

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = [task for connection in self._open if (task := connection.hang_up())]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()


class _Session(Session):
    """aiosmtpd sets this attribute at each login and warns that it is deprecated: here it is a plain one."""

    login_data: Any = None


class _Connection(SMTP):
    """One client. RET, ENVID, NOTIFY and ORCPT are taken out of the commands before aiosmtpd reads them."""

    def __init__(self, handler: _Handler, *, opened: set[_Connection], users: dict[str, str]) -> None:
        super().__init__(
            handler,
            data_size_limit=MAX_MAIL_BYTES,
            enable_SMTPUTF8=True,
            hostname=HOSTNAME,
            ident="ESMTP Gatehouse sandbox",
            loop=asyncio.get_running_loop(),
            auth_require_tls=False,
            authenticator=self._login,
        )
        self.command_size_limits = defaultdict(lambda: _COMMAND_BYTES)
        self._opened = opened
        self._users = users
        self.mail_wishes: dict[str, str] = {}
        self.recipient_wishes: dict[str, dict[str, str]] = {}

    def _login(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        expected = self._users.get(data.login.decode(errors="replace"))
        is_right = expected is not None and expected == data.password.decode(errors="replace")
        return AuthResult(success=is_right, handled=False, auth_data=data)

    def _create_session(self) -> Session:
        return _Session(self.loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._opened.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._opened.discard(self)
        super().connection_lost(error)

    def hang_up(self) -> asyncio.Task[None] | None:
        """Break the connection without a word; return the task that then ends."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()
        return self._handler_coroutine  # private, but there is no other way to wait for the end of a connection

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd looks commands up by these names
        rest, wishes = _take_out(arg, {"RET", "ENVID"})
        problem = _mail_problem(wishes)
        if problem:
            await self.push(problem)
            return
        self.mail_wishes, self.recipient_wishes = wishes, {}
        await super().smtp_MAIL(rest)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd looks commands up by these names
        rest, wishes = _take_out(arg, {"NOTIFY", "ORCPT"})
        problem = _recipient_problem(wishes)
        if problem:
            await self.push(problem)
            return
        taken = len(self.envelope.rcpt_tos) if self.envelope else 0
        await super().smtp_RCPT(rest)
        if self.envelope and len(self.envelope.rcpt_tos) > taken:
            self.recipient_wishes[self.envelope.rcpt_tos[-1]] = wishes


# HELP and the argument checks of aiosmtpd read these attributes off the methods.
_Connection.smtp_MAIL.__dict__.update(SMTP.smtp_MAIL.__dict__)
_Connection.smtp_RCPT.__dict__.update(SMTP.smtp_RCPT.__dict__)


def _take_out(arg: str | None, names: set[str]) -> tuple[str | None, dict[str, str]]:
    """Split ``FROM:<a@b> RET=HDRS SIZE=9`` into what aiosmtpd knows and the parameters in ``names``."""
    if arg is None:
        return None, {}
    match = _PATH_AND_OPTIONS.fullmatch(arg)
    assert match is not None  # both groups may be empty: any text matches
    path, options = match.groups()
    kept, taken = [], {}
    for option in options.split():
        name, _, value = option.partition("=")
        if name.upper() in names:
            taken[name.upper()] = value
        else:
            kept.append(option)
    return " ".join([path, *kept]), taken


def _mail_problem(wishes: dict[str, str]) -> str | None:
    if wishes.get("RET", "FULL").upper() not in {"FULL", "HDRS"}:
        return "501 5.5.4 RET is FULL or HDRS"
    return _xtext_problem("ENVID", wishes.get("ENVID", ""), limit=100)


def _recipient_problem(wishes: dict[str, str]) -> str | None:
    notify = set(wishes.get("NOTIFY", "NEVER").upper().split(","))
    if notify != {"NEVER"} and not notify <= _EVENTS:
        return "501 5.5.4 NOTIFY is NEVER, or a list of SUCCESS, FAILURE, DELAY"
    original = wishes.get("ORCPT")
    if original is None:
        return None
    if ";" not in original:
        return "501 5.5.4 ORCPT is type;address"
    return _xtext_problem("ORCPT", original.partition(";")[2], limit=500)


def _xtext_problem(name: str, text: str, *, limit: int) -> str | None:
    try:
        from_xtext(text)
    except ValueError:
        return f"501 5.5.4 {name} is not xtext"
    return None if len(text) <= limit else f"501 5.5.4 {name} is longer than {limit}"


class _Handler:
    """aiosmtpd's hooks for one connection."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def handle_EHLO(  # noqa: N802 - aiosmtpd looks the hooks up by these names
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-DSN", "250-ENHANCEDSTATUSCODES", "250-PIPELINING", responses[-1]]

    async def handle_RCPT(  # noqa: N802 - see above
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        verdict = self._post.at_recipient(_null_as_empty(envelope.mail_from), address)
        if verdict.reply is None:
            await asyncio.get_running_loop().create_future()  # until the client gives up
        if verdict.is_taken:
            envelope.rcpt_tos.append(address)
        return verdict.reply or ""

    async def handle_DATA(  # noqa: N802 - see above
        self, server: _Connection, session: Session, envelope: Envelope
    ) -> str:
        ending = await self._post.at_mail(_handover(server, session, envelope, at=self._post.now()))
        if ending is Ending.HANG_UP:
            server.hang_up()
        if ending is not Ending.ANSWER:
            await asyncio.get_running_loop().create_future()  # cancelled when the connection ends
        return f"250 2.0.0 Ok: queued as {next(_QUEUE_IDS):010X}"

    async def handle_exception(self, problem: Exception) -> str:
        _log.exception("sandbox.smtp_failed", exc_info=problem)
        return "451 4.3.0 Local error in processing"


_QUEUE_IDS: Final = itertools.count(0x4D1E5)


def _handover(server: _Connection, session: Session, envelope: Envelope, *, at: datetime) -> Handover:
    content = envelope.original_content or b""
    wishes = server.mail_wishes
    return Handover(
        at=at,
        envelope_from=_null_as_empty(envelope.mail_from),
        recipients=tuple(
            _recipient(address, server.recipient_wishes.get(address, {})) for address in envelope.rcpt_tos
        ),
        raw=content,
        envelope_id=from_xtext(wishes["ENVID"]) if wishes.get("ENVID") else None,
        returns=wishes["RET"].upper() if "RET" in wishes else None,
        helo=session.host_name or "localhost",
    )


def _recipient(address: str, wishes: dict[str, str]) -> Recipient:
    notify = wishes.get("NOTIFY", "").upper()
    kind, _, original = wishes.get("ORCPT", "").partition(";")
    return Recipient(
        address=address,
        notify=frozenset(notify.split(",")) if notify else frozenset(),
        original=f"{kind};{from_xtext(original)}" if original else None,
    )


def _null_as_empty(path: str | None) -> str:
    return "" if path in (None, "<>") else path
