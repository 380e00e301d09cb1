"""The mail world of ``gatehouse demo``: one SMTP and one IMAP server on this machine, and everybody outside.

Mail to a desk's mailbox goes to IMAP. Mail to anyone else goes into that person's postbox, or meets one of the
``BEHAVIOURS``. Reports and customers' mails take the same road as mail from a socket. Nothing leaves the process.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from email.utils import format_datetime
from typing import Final, Self

from core.clock import Clock
from gateway.normalize import headers
from gateway.sandbox import compose
from gateway.sandbox.behaviours import Behaviour, Consequence, base_address, behaviour_of
from gateway.sandbox.compose import File, Letter
from gateway.sandbox.handover import Accepted, Ending, Handover, Recipient, Verdict
from gateway.sandbox.imap_server import ImapServer
from gateway.sandbox.postbox import Postboxes, Received
from gateway.sandbox.reports import Stamp
from gateway.sandbox.smtp_server import HOSTNAME, Post, SmtpServer
from gateway.sandbox.timetable import Job, Timetable

_log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
GREYLISTED_TRIES: Final = 3


class MailSandbox:
    """``async with`` runs it. ``desk_users`` maps the desk's mailboxes to their passwords.

    A port of 0 takes a free one. ``speed`` is sandbox seconds per real second for everything that happens later;
    0 leaves time to ``advance``. ``rng`` only names things (Message-IDs, boundaries).
    """

    def __init__(
        self,
        *,
        desk_users: Mapping[str, str],
        clock: Clock | None = None,
        speed: float = 1.0,
        smtp_port: int = 0,
        imap_port: int = 0,
        greylisted_tries: int = GREYLISTED_TRIES,
        rng: random.Random | None = None,
    ) -> None:
        self._desk_users = {address.lower(): password for address, password in desk_users.items()}
        self._desk_domains = {address.rpartition("@")[2] for address in self._desk_users}
        self._timetable = Timetable(clock=clock or Clock(), speed=speed)
        self._greylisted_tries = greylisted_tries
        self._rng = rng or random.Random()
        self._tries: Counter[tuple[str, str]] = Counter()
        self._postboxes = Postboxes()
        self._names: dict[str, str] = {}
        self._listeners: list[Callable[[Received], None]] = []
        self.accepted: list[Accepted] = []  #: the truth for oracles: every responsibility taken, in order
        self._imap = ImapServer(host=HOST, port=imap_port, users=self._desk_users)
        post = Post(at_recipient=self._at_recipient, at_mail=self._take, now=self.now)
        self._smtp = SmtpServer(post, host=HOST, port=smtp_port, users=self._desk_users)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._imap)
            await stack.enter_async_context(self._smtp)
            task = asyncio.create_task(self._timetable.run(), name="sandbox timetable")
            stack.push_async_callback(_cancel, task)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def smtp_port(self) -> int:
        return self._smtp.port

    @property
    def imap_port(self) -> int:
        return self._imap.port

    def now(self) -> datetime:
        return self._timetable.now()

    def later(self, seconds: float, job: Job, *, name: str) -> None:
        """Run ``job`` in ``seconds`` sandbox seconds."""
        self._timetable.later(seconds, job, name=name)

    async def advance(self, seconds: float) -> None:
        """Let sandbox time pass at once and run what falls due."""
        await self._timetable.advance(seconds)

    def waiting(self) -> list[tuple[float, str]]:
        """Return what will happen by itself: seconds from now and a name, soonest first."""
        return self._timetable.waiting()

    def on_received(self, listener: Callable[[Received], None]) -> None:
        """Call ``listener`` for each mail that reaches somebody outside."""
        self._listeners.append(listener)

    def postbox(self, address: str) -> list[Received]:
        """Return what reached ``address``, oldest first."""
        return self._postboxes.of(address)

    def people(self) -> list[str]:
        """Return everybody outside who received or wrote a mail."""
        return sorted({*self._postboxes.people(), *self._names})

    async def write(
        self,
        from_name: str,
        from_address: str,
        to: str,
        subject: str,
        text: str,
        html: str | None = None,
        attachments: Sequence[File] = (),
    ) -> str:
        """Send a new mail as a customer; return its Message-ID."""
        return await self.send(
            Letter(
                from_name=from_name,
                from_address=from_address,
                to=to,
                subject=subject,
                text=text,
                html=html,
                files=attachments,
            )
        )

    async def reply(self, as_address: str, received: int | str, text: str) -> str:
        """Answer a mail of that person's postbox, named by index or Message-ID; return the new Message-ID.

        Raises LookupError when there is no such mail.
        """
        mail = self._find(as_address, received)
        name = self._names.get(as_address.lower()) or _name_from(as_address)
        return await self.send(compose.answer(mail, from_name=name, text=text))

    def _find(self, address: str, wanted: int | str) -> Received:
        mails = self.postbox(address)
        if isinstance(wanted, int):
            return mails[wanted]
        for mail in reversed(mails):
            if mail.message_id.strip("<>") == wanted.strip("<>"):
                return mail
        raise LookupError(f"{address} has no mail {wanted}")

    async def send(self, letter: Letter) -> str:
        """Write and post ``letter``; return its Message-ID."""
        stamp = self.stamp()
        self.introduce(letter.from_name, letter.from_address)
        await self.deliver(compose.write(letter, stamp), letter.from_address, [letter.to])
        return compose.message_id(letter.from_address, stamp)

    def introduce(self, name: str, address: str) -> None:
        """Remember what a person is called."""
        self._names[address.lower()] = name or _name_from(address)

    def stamp(self) -> Stamp:
        return Stamp(at=self.now().replace(microsecond=0), token=f"{self._rng.getrandbits(80):020x}")

    async def deliver(self, raw: bytes, envelope_from: str, rcpt_to: Sequence[str]) -> dict[str, str]:
        """Hand a mail over as the internet would; return the replies to the recipients that were not taken."""
        verdicts = {address: self._at_recipient(envelope_from, address) for address in rcpt_to}
        taken = tuple(Recipient(address=address) for address, verdict in verdicts.items() if verdict.is_taken)
        if taken:
            handover = Handover(at=self.now(), envelope_from=envelope_from, recipients=taken, raw=raw)
            await self._take(handover)
        return {address: verdict.reply or "" for address, verdict in verdicts.items() if not verdict.is_taken}

    def _at_recipient(self, envelope_from: str, address: str) -> Verdict:
        if self._is_ours(address):
            if base_address(address) in self._desk_users:
                return Verdict("250 2.1.5 Ok", is_taken=True)
            return Verdict(f"550 5.1.1 <{address}>: Recipient address rejected: no such mailbox")
        behaviour = behaviour_of(address)
        if behaviour.is_mute:
            return Verdict(None)
        if behaviour.refusal is None or self._has_waited(behaviour, envelope_from, address):
            return Verdict("250 2.1.5 Ok", is_taken=True)
        return Verdict(behaviour.refusal.format(address=address))

    def _is_ours(self, address: str) -> bool:
        return address.lower().rpartition("@")[2] in self._desk_domains

    def _has_waited(self, behaviour: Behaviour, envelope_from: str, address: str) -> bool:
        if not behaviour.is_greylisted:
            return False
        key = (envelope_from.lower(), address.lower())
        self._tries[key] += 1
        return self._tries[key] > self._greylisted_tries

    async def _take(self, handover: Handover) -> Ending:
        """Take responsibility for one mail. The worst ending among its recipients is that of the transaction."""
        ending = Ending.ANSWER
        message_id = (headers.read_head(handover.raw)[0].first("message-id") or "").strip()
        for recipient in handover.recipients:
            behaviour = behaviour_of(recipient.address)
            if behaviour.ending is not Ending.ANSWER:
                ending = behaviour.ending
            if behaviour.is_thrown_away:
                continue
            if self._is_ours(recipient.address):
                await self._to_desk(handover, recipient)
            else:
                await self._to_person(handover, recipient, behaviour)
            self.accepted.append(Accepted(message_id, recipient.address, handover.at))
        return ending

    async def _to_desk(self, handover: Handover, recipient: Recipient) -> None:
        trace = _trace(handover, recipient, token=self.stamp().token).encode("utf-8", "surrogateescape")
        await self._imap.append(base_address(recipient.address), trace + handover.raw, at=handover.at)

    async def _to_person(self, handover: Handover, recipient: Recipient, behaviour: Behaviour) -> None:
        async def arrive() -> None:
            mail = Received(
                at=self.now(),
                recipient=recipient.address,
                envelope_from=handover.envelope_from,
                raw=handover.raw,
            )
            self._postboxes.put(mail)
            for listener in self._listeners:
                listener(mail)

        if behaviour.arrives_after == 0:
            await arrive()
        elif behaviour.arrives_after is not None:
            self.later(behaviour.arrives_after, arrive, name=f"mail reaches {recipient.address}")
        for consequence in behaviour.consequences:
            self._plan(consequence, handover, recipient)

    def _plan(self, consequence: Consequence, handover: Handover, recipient: Recipient) -> None:
        if not handover.envelope_from:
            return  # nothing ever answers the null sender (RFC 5321 section 4.5.5)
        if consequence.event and not recipient.wants(consequence.event):
            return

        async def come_back() -> None:
            raw = consequence.write(handover, recipient, self.stamp())
            if raw is None:
                return
            refused = await self.deliver(raw, consequence.envelope_from, [consequence.goes_to(handover)])
            if refused:
                _log.info("sandbox.report_undeliverable", extra={"refused": refused})

        self.later(consequence.after, come_back, name=f"answer from {recipient.address}")


def _trace(handover: Handover, recipient: Recipient, *, token: str) -> str:
    """Return the header fields that the last server adds on top (RFC 5321 section 4.4)."""
    return (
        f"Return-Path: <{handover.envelope_from}>\r\n"
        f"Delivered-To: {recipient.address}\r\n"
        f"Received: from {handover.helo} (localhost [{HOST}])\r\n"
        f"\tby {HOSTNAME} with ESMTP id {token[:10].upper()}\r\n"
        f"\tfor <{recipient.address}>; {format_datetime(handover.at)}\r\n"
    )


def _name_from(address: str) -> str:
    """``mila.novak@customer.test`` is called Mila Novak until she says otherwise."""
    local = base_address(address).partition("@")[0]
    return " ".join(part.capitalize() for part in local.replace("_", ".").split("."))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
