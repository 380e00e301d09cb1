"""Mail out: hands one message to the account's server and says, for each recipient, what became of it.

Source: RFC 5321, RFC 3461 (DSN options), RFC 1870 (SIZE), RFC 6531 (SMTPUTF8); the rules are FAULTS section 4.

The line of doubt: body written and flushed (O3), ``before_final_dot`` awaited (O4), final dot (O5), reply (O6). What
breaks before the dot has provably not been handed over; what breaks after it is in doubt and is never tried again
from here. This module decides neither when to try again nor what a status becomes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from core.failpoints import failpoint as core_failpoint
from gateway.channels.contract import BeforeFinalDot, Handover, Outcome, OutcomeKind
from gateway.channels.email_config import EmailConfig, Smtp
from gateway.channels.oauth import TokenSource
from gateway.channels.smtp_envelope import Envelope, envelope_of, xtext
from gateway.channels.smtp_replies import Reply, Step, is_too_many_recipients, judge
from gateway.channels.smtp_session import Broken, CouldNotOpen, Session, dot_stuff, open_session
from gateway.errors import ChannelMisconfigured, ConfigError, PeerUnavailable

KIND = "email"
MAILS_PER_CONNECTION = 100
IDLE_SECONDS = 60.0
MAX_ORCPT_CHARS = 500
NO_UTF8 = "the server takes no addresses outside ASCII"
#: Answers to MAIL or RCPT that mean "not with these parameters" (RFC 5321 section 4.1.1.11).
REFUSED_OPTIONS = frozenset({455, 501, 504, 555})


class SmtpSender:
    """A few kept connections to one account's server; see ``contract.Sender``."""

    def __init__(
        self,
        config: EmailConfig,
        *,
        tokens: TokenSource | None = None,
        failpoint: Callable[[str], None] = core_failpoint,
    ) -> None:
        if config.smtp is None:
            raise ConfigError([f"{config.address}: no SMTP server is configured, so nothing can be sent from it"])
        self._account: Smtp = config.smtp
        self._tokens = tokens
        self._failpoint = failpoint
        self._slots = asyncio.Semaphore(self._account.connections)
        self._idle: list[tuple[Session, asyncio.TimerHandle]] = []
        self._is_closed = False

    async def send(self, handover: Handover, before_final_dot: BeforeFinalDot) -> dict[str, Outcome]:
        envelope, outcomes = envelope_of(handover, server=self._account.host)
        if not envelope.recipients:
            return outcomes
        async with self._slots:
            try:
                outcomes |= await self._send(envelope, handover.content, before_final_dot)
            except CouldNotOpen as failure:
                outcomes |= dict.fromkeys(envelope.recipients, failure.outcome)
        return outcomes

    async def close(self) -> None:
        """Say goodbye on the idle connections; those at work are dropped when their mail is through."""
        self._is_closed = True
        idle = [self._take_idle() for _ in range(len(self._idle))]
        await asyncio.gather(*(session.quit() for session in idle if session is not None))

    async def _send(self, envelope: Envelope, content: bytes, before_final_dot: BeforeFinalDot) -> dict[str, Outcome]:
        while (kept := self._take_idle()) is not None:
            if not kept.wire.is_alive:
                kept.abort()
                continue
            transaction = Transaction(kept, self._account, envelope, self._failpoint)
            outcomes = await self._run(transaction, content, before_final_dot)
            if not transaction.is_stale:
                return outcomes
            # the server had closed the kept connection before it took any of this mail
        session = await open_session(self._account, self._tokens)
        return await self._run(
            Transaction(session, self._account, envelope, self._failpoint), content, before_final_dot
        )

    async def _run(
        self, transaction: Transaction, content: bytes, before_final_dot: BeforeFinalDot
    ) -> dict[str, Outcome]:
        session = transaction.session
        try:
            outcomes = await transaction.run(content, before_final_dot)
        except BaseException:  # lease lost, cancelled: whoever raised it decides, but this line must not be used again
            session.abort()
            raise
        session.mails += 1
        if self._is_closed or session.mails >= MAILS_PER_CONNECTION or not session.wire.is_alive:
            session.wire.hang_up()
        else:
            expiry = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, session)
            self._idle.append((session, expiry))
        return outcomes

    def _take_idle(self) -> Session | None:
        if not self._idle:
            return None
        session, expiry = self._idle.pop()
        expiry.cancel()
        return session

    def _expire(self, session: Session) -> None:
        self._idle = [one for one in self._idle if one[0] is not session]
        session.wire.hang_up()


class Transaction:
    """One mail over one session."""

    def __init__(self, session: Session, account: Smtp, envelope: Envelope, failpoint: Callable[[str], None]) -> None:
        self.session = session
        self._wire = session.wire
        self._account = account
        self._timeout = account.timeout_seconds
        self._envelope = envelope
        self._failpoint = failpoint
        self._open = dict(envelope.recipients)
        self._outcomes: dict[str, Outcome] = {}
        self._accepted: list[str] = []
        self._crowded_out: list[str] = []  #: refused only because the server takes no more in one go
        self.is_stale = False  #: a kept connection turned out to be dead before it heard any of this mail

    async def run(self, content: bytes, before_final_dot: BeforeFinalDot) -> dict[str, Outcome]:
        """Return an outcome for every recipient; raises only what ``before_final_dot`` raised, or CancelledError."""
        try:
            if await self._say_envelope() and self._accepted:
                await self._say_content(content, before_final_dot)
        except Broken as trouble:
            self.session.abort()
            self._settle_open(self._verdict(OutcomeKind.UNREACHABLE, text=str(trouble)))
        return self._outcomes

    async def _say_envelope(self) -> bool:
        if (unfit := self._unfit()) is not None:
            self._settle_open(unfit)
            return False
        is_kept = self.session.mails > 0
        try:
            if not self.session.is_clean:
                await self._expect_good(b"RSET")
            reply = await self._say_mail()
        except Broken:
            self.is_stale = is_kept
            raise
        if not reply.is_good:
            self.is_stale = is_kept and reply.code == 421
            self._stop(Step.MAIL, reply)
            return False
        self.session.is_clean = False
        for recipient, said in self._envelope.recipients.items():
            if recipient in self._open and not await self._say_recipient(recipient, said):
                return False
        if self._accepted:
            self._blame_recipients()
        self._failpoint("O2")
        return True

    def _blame_recipients(self) -> None:
        """Whoever takes one recipient from us has nothing against us: the others are refused for themselves."""
        for recipient, outcome in self._outcomes.items():
            if outcome.kind is OutcomeKind.CHANNEL_FAULT:
                self._outcomes[recipient] = replace(outcome, kind=OutcomeKind.REFUSED, fault="")

    def _unfit(self) -> Outcome | None:
        """What the EHLO already rules out; recipients whose address it cannot carry are settled on the way."""
        limit = self.session.size_limit_bytes
        if limit is not None and self._envelope.size_bytes > limit:
            return self._verdict(
                OutcomeKind.REFUSED,
                code=552,
                enhanced="5.3.4",
                text=f"larger than the server takes: {self._envelope.size_bytes} of {limit} bytes",
            )
        if not self.session.offers("smtputf8"):
            for recipient, said in self._envelope.recipients.items():
                if not said.isascii():
                    self._settle(recipient, self._verdict(OutcomeKind.REFUSED, enhanced="5.6.7", text=NO_UTF8))
            if not self._envelope.sender.isascii():
                return self._verdict(OutcomeKind.CHANNEL_FAULT, enhanced="5.6.7", text=NO_UTF8, fault="sender")
        return None if self._open else self._verdict(OutcomeKind.REFUSED, enhanced="5.6.7", text=NO_UTF8)

    async def _say_mail(self) -> Reply:
        line = f"MAIL FROM:<{self._envelope.sender}>"
        if self.session.offers("smtputf8") and (self._envelope.is_8bit or not self._envelope.is_ascii):
            line += " SMTPUTF8"
        if self.session.offers("8bitmime") and self._envelope.is_8bit:
            line += " BODY=8BITMIME"
        options = ""
        if self.session.offers("size"):
            options += f" SIZE={self._envelope.size_bytes}"
        if self._asks_reports():
            options += " RET=HDRS"
            if self._envelope.envelope_id:
                options += f" ENVID={xtext(self._envelope.envelope_id)}"
        return await self._say(line, options)

    async def _say_recipient(self, recipient: str, said: str) -> bool:
        options = ""
        if self._asks_reports():
            options = f" NOTIFY={self._envelope.notify}"
            original = xtext(said)
            if said.isascii() and len(original) <= MAX_ORCPT_CHARS:
                options += f" ORCPT=rfc822;{original}"
        reply = await self._say(f"RCPT TO:<{said}>", options)
        if reply.is_good:
            self._accepted.append(recipient)
            return True
        if reply.code == 421:
            self._stop(Step.RCPT, reply)
            return False
        outcome = judge(Step.RCPT, reply, server=self.session.server)
        if outcome.kind is OutcomeKind.UNREACHABLE:
            raise Broken(f"{reply.code} is no answer to RCPT")
        if is_too_many_recipients(reply):
            outcome = replace(outcome, kind=OutcomeKind.DEFERRED, fault="")
            self._crowded_out.append(recipient)
        self._settle(recipient, outcome)
        return True

    async def _say(self, line: str, options: str) -> Reply:
        """Say a command with its optional parameters, and without them when it is they that are refused."""
        reply = await self._wire.command((line + options).encode(), timeout=self._timeout)
        if options and reply.code in REFUSED_OPTIONS:
            reply = await self._wire.command(line.encode(), timeout=self._timeout)
            self.session.takes_options = not reply.is_good  # else it was not about them
        return reply

    def _asks_reports(self) -> bool:
        return self._account.dsn and self.session.takes_options and self.session.offers("dsn")

    async def _say_content(self, content: bytes, before_final_dot: BeforeFinalDot) -> None:
        reply = await self._wire.command(b"DATA", timeout=self._timeout)
        if reply.code != 354:
            if reply.code < 400:
                raise Broken(f"{reply.code} is no answer to DATA")
            self._stop(Step.DATA, reply)
            return
        await self._wire.write_body(dot_stuff(content), timeout=self._timeout)
        self._failpoint("O3")
        if self._was_interrupted():
            return
        await before_final_dot(self._accepted)
        self._failpoint("O4")
        if self._was_interrupted():
            return
        await self._say_final_dot()

    def _was_interrupted(self) -> bool:
        """A server that answers before the final dot gets none: what it refuses is refused, what it claims to have
        taken is in doubt."""
        early = self._wire.interruption()
        if early is None:
            return False
        if 300 <= early.code <= 399:
            raise Broken(f"{early.code} in the middle of a mail")
        outcome = judge(Step.DOT, early, server=self.session.server)
        if outcome.kind is OutcomeKind.ACCEPTED:
            outcome = replace(outcome, kind=OutcomeKind.IN_DOUBT, queue_id="")
        self.session.abort()
        self._settle_open(outcome)
        return True

    async def _say_final_dot(self) -> None:
        try:
            await self._wire.write(b".\r\n", timeout=self._timeout)
            self._failpoint("O5")
            reply = await self._wire.reply(timeout=self._account.final_reply_seconds)
        except Broken as trouble:
            self.session.abort()
            self._settle_open(self._verdict(OutcomeKind.IN_DOUBT, text=str(trouble)))
            return
        self._failpoint("O6")
        self.session.is_clean = True
        outcome = judge(Step.DOT, reply, server=self.session.server)
        if outcome.kind is OutcomeKind.IN_DOUBT or reply.code == 421:
            self.session.abort()
        if outcome.kind is OutcomeKind.ACCEPTED:  # only progress may be followed by a try at once
            for recipient in self._crowded_out:
                self._outcomes[recipient] = replace(self._outcomes[recipient], retry_after=timedelta(0))
        self._settle_open(outcome)

    async def _expect_good(self, command: bytes) -> None:
        reply = await self._wire.command(command, timeout=self._timeout)
        if not reply.is_good:
            raise Broken(f"{command.decode()}: {reply.code} {reply.text}")
        self.session.is_clean = True

    def _stop(self, step: Step, reply: Reply) -> None:
        """A reply that ends the transaction for everyone who is still open."""
        outcome = judge(step, reply, server=self.session.server)
        if reply.code == 421 or not (reply.is_temporary or reply.is_permanent):
            self.session.abort()
        self.session.is_clean = False
        self._settle_open(outcome)

    def _settle(self, recipient: str, outcome: Outcome) -> None:
        if self._open.pop(recipient, None) is not None:
            self._outcomes[recipient] = outcome

    def _settle_open(self, outcome: Outcome) -> None:
        for recipient in list(self._open):
            self._settle(recipient, outcome)

    def _verdict(
        self,
        kind: OutcomeKind,
        *,
        code: int | None = None,
        enhanced: str | None = None,
        text: str = "",
        fault: str = "",
    ) -> Outcome:
        return Outcome(kind=kind, code=code, enhanced=enhanced, text=text, server=self.session.server, fault=fault)


async def check(config: EmailConfig, *, tokens: TokenSource | None = None) -> list[str]:
    """Connect, encrypt, log in, and return what the server offers, e.g. ``["DSN", "SIZE 10240000"]``.

    Raises ConfigError, ChannelMisconfigured (login, tls, sender, relay) or PeerUnavailable.
    """
    if config.smtp is None:
        raise ConfigError([f"{config.address}: no SMTP server is configured"])
    try:
        session = await open_session(config.smtp, tokens)
    except CouldNotOpen as failure:
        outcome = failure.outcome
        said = " ".join(str(word) for word in (outcome.code, outcome.enhanced, outcome.text) if word)
        text = f"{outcome.server}: {said}"
        if outcome.kind is OutcomeKind.CHANNEL_FAULT:
            raise ChannelMisconfigured(text, code=outcome.fault) from None
        raise PeerUnavailable(text, code="connection", retry_after=outcome.retry_after) from None
    await session.quit()
    return sorted(f"{name.upper()} {value}".strip() for name, value in session.extensions.items())
