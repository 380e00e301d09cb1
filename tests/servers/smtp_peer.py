"""A mail server that does what a test tells it, on a real socket, and keeps the truth: what it accepted from whom.

In a test: ``async with SmtpPeer(script={"rcpt": [Answer(b"450 4.2.1 later")]}) as peer``. Each step takes its next
scripted answer, and the ordinary one when the script is used up. In another process:
``python -m tests.servers.smtp_peer --port 0 --log FILE`` prints ``ready PORT`` and appends one JSON line, synced to
disk, per accepted mail *before* it answers 250, so that a kill of the client finds the truth in the file.

Unless its mode is ``accept``, domains decide: ``reject.test`` is refused for good, ``later.test`` for now,
``grey.test`` until it was tried often enough, and at ``cut.test`` the line breaks after the mail was taken.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import re
import ssl
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

MESSAGE_ID = re.compile(rb"^message-id:\s*<([^>]*)>", re.IGNORECASE | re.MULTILINE)
ANGLE = re.compile(r"<([^>]*)>")
GREY_TRIES = 4  # at which try a recipient of ``grey.test`` is taken
#: What a relay puts in front of a mail: folded lines of one field.
TRACE = re.compile(rb"(?:Received:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)*")
EXTENSIONS = ("PIPELINING", "SIZE 20000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")


@dataclass(kw_only=True, slots=True)
class Answer:
    """``raw`` is sent as it is, a missing line end is added unless ``is_exact``. Nothing at all: stay silent."""

    raw: bytes = b""
    cut: bool = False  #: close the connection afterwards
    reset: bool = False  #: cut it by RST
    after: asyncio.Event | None = None  #: wait for this first
    is_accepting: bool | None = None  #: at the final dot; None: it is a 2xx
    is_exact: bool = False


def say(text: str) -> Answer:
    return Answer(raw=text.encode())


CUT = Answer(cut=True)
SILENT = Answer()


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptedMail:
    sender: str
    recipients: tuple[str, ...]
    message_id: str
    content: bytes  #: un-stuffed, without the final dot
    mail_options: str
    recipient_options: tuple[str, ...]


@dataclass(slots=True)
class _Line:
    """One connection's state."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    wire: bytearray = field(default_factory=bytearray)  #: everything received in clear or decrypted
    sender: str | None = None
    mail_options: str = ""
    recipients: list[str] = field(default_factory=list)
    recipient_options: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.sender = None
        self.recipients = []
        self.recipient_options = []


class Closed(Exception):
    """This connection is over."""


class SmtpPeer:
    def __init__(
        self,
        *,
        script: Mapping[str, Sequence[Answer]] | None = None,
        extensions: Sequence[str] = EXTENSIONS,
        auth: str = "",
        tls: ssl.SSLContext | None = None,
        is_tls_from_start: bool = False,
        port: int = 0,
        log_file: Path | None = None,
        mode: str = "refuse-by-domain",
        delay_seconds: float = 0.0,
        read_ahead_bytes: int = 2**26,
    ) -> None:
        self.port = port
        self.wires: list[bytearray] = []  #: per connection, every byte that it sent us
        self.clear: list[bytes] = []  #: per connection, what it sent before TLS
        self.accepted: list[AcceptedMail] = []
        self.transcript: list[tuple[str, str]] = []  #: (step, command line)
        self.reached: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.closed_lines = 0
        self._tries: Counter[str] = Counter()
        self._script = {step: list(answers) for step, answers in (script or {}).items()}
        self._extensions = extensions
        self._auth = auth
        self._tls = tls
        self._is_tls_from_start = is_tls_from_start
        self._log_file = log_file
        self._mode = mode
        self._delay_seconds = delay_seconds
        self._read_ahead_bytes = read_ahead_bytes
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        context = self._tls if self._is_tls_from_start else None
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=context, limit=self._read_ahead_bytes, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def accepts(self, message_id: str, recipient: str) -> int:
        """How often this mail was accepted for this recipient: the oracle of every campaign."""
        return sum(mail.message_id == message_id and recipient in mail.recipients for mail in self.accepted)

    def steps(self) -> list[str]:
        return [step for step, _ in self.transcript]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(_Line(reader, writer)), name="smtp-peer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, line: _Line) -> None:
        self.wires.append(line.wire)
        try:
            await self._answer(line, "greeting", "", say("220 peer.example.test ESMTP ready"))
            while True:
                await self._command(line)
        except (Closed, OSError, asyncio.IncompleteReadError):  # a test may well hang up first
            pass
        finally:
            line.writer.transport.abort()
            self.closed_lines += 1
            self.reached["closed"].set()

    async def _read(self, line: _Line) -> bytes:
        data = await line.reader.readline()
        line.wire += data
        if not data.endswith(b"\n"):
            raise Closed
        return data

    async def _command(self, line: _Line) -> None:
        text = (await self._read(line)).decode("utf-8", "replace").rstrip("\r\n")
        verb = text.split(" ", 1)[0].lower()
        match verb:
            case "ehlo" | "helo" | "lhlo":  # LMTP with one recipient differs in this word only
                line.reset()
                await self._answer(line, "ehlo", text, Answer(raw=self._ehlo(line)))
            case "starttls" if self._tls is not None:
                await self._start_tls(line, text)
            case "auth":
                await self._auth_command(line, text)
            case "mail":
                line.sender = _address(text)
                line.mail_options = text.partition(">")[2].strip()
                if await self._answer(line, "mail", text, say("250 2.1.0 ok")) >= 400:
                    line.reset()
            case "rcpt":
                recipient = _address(text)
                if await self._answer(line, "rcpt", text, self._recipient(recipient)) < 300:
                    line.recipients.append(recipient)
                    line.recipient_options.append(text.partition(">")[2].strip())
            case "data":
                usual = say("354 go ahead" if line.recipients else "503 5.5.1 no valid recipients")
                if await self._answer(line, "data", text, usual) == 354:
                    await self._body(line)
            case "rset":
                line.reset()
                await self._answer(line, "rset", text, say("250 2.0.0 reset"))
            case "quit":
                await self._answer(line, "quit", text, Answer(raw=b"221 2.0.0 bye", cut=True))
            case _:
                await self._answer(line, verb, text, say("500 5.5.2 what?"))

    def _ehlo(self, line: _Line) -> bytes:
        offers = list(self._extensions)
        is_encrypted = line.writer.get_extra_info("sslcontext") is not None
        if self._tls is not None and not is_encrypted:
            offers.append("STARTTLS")
        if self._auth:
            offers.append(f"AUTH {self._auth}")
        lines = ["peer.example.test", *offers]
        return b"".join(
            f"250{' ' if number == len(lines) else '-'}{text}\r\n".encode()
            for number, text in enumerate(lines, start=1)
        )

    def _recipient(self, recipient: str) -> Answer:
        domain = recipient.rpartition("@")[2].lower()
        if self._mode != "accept" and domain == "reject.test":
            return say(f"550 5.1.1 <{recipient}>: no such user")
        if self._mode != "accept" and domain == "later.test":
            return say("451 4.3.0 try again later")
        if self._mode != "accept" and domain == "grey.test":
            self._tries[recipient] += 1
            if self._tries[recipient] < GREY_TRIES:
                return say("451 4.7.1 greylisted, try again")
        return say("250 2.1.5 ok")

    async def _start_tls(self, line: _Line, text: str) -> None:
        assert self._tls is not None
        scripted = (self._script.get("starttls") or [SILENT])[0]
        code = await self._answer(line, "starttls", text, say("220 2.0.0 go"))
        if code == 220 or scripted.raw.startswith(b"220"):  # whatever somebody in the middle put behind it
            self.clear.append(bytes(line.wire))
            await line.writer.start_tls(self._tls)

    async def _auth_command(self, line: _Line, text: str) -> None:
        """Takes every password unless scripted; ``LOGIN`` and ``CRAM-MD5`` take the turns that they need."""
        words = text.split(" ")
        method = words[1].upper() if len(words) > 1 else ""
        if method == "CRAM-MD5":
            line.writer.write(b"334 " + base64.b64encode(b"<1.2@peer.example.test>") + b"\r\n")
            await self._read(line)
        elif method == "LOGIN":
            line.writer.write(b"334 UGFzc3dvcmQ6\r\n")
            await self._read(line)
        code = await self._answer(line, "auth", text, say("235 2.7.0 welcome"))
        if code == 334:
            await self._read(line)
            await self._answer(line, "auth-error", text, say("535 5.7.8 bad token"))

    async def _body(self, line: _Line) -> None:
        content = bytearray()
        if self._script.get("body"):  # a step of its own: the first bytes of a mail have come
            content += await self._read(line)
            await self._answer(line, "body", "", SILENT)
        while (data := await self._read(line)) != b".\r\n":
            content += data.removeprefix(b".") if data.startswith(b".") else data
        found = MESSAGE_ID.search(content)
        mail = AcceptedMail(
            sender=line.sender or "",
            recipients=tuple(line.recipients),
            message_id=found[1].decode("utf-8", "replace") if found else "",
            content=bytes(content),
            mail_options=line.mail_options,
            recipient_options=tuple(line.recipient_options),
        )
        is_cut = self._mode != "accept" and any(one.endswith("@cut.test") for one in mail.recipients)
        usual = Answer(cut=True, is_accepting=True) if is_cut else say("250 2.0.0 Ok: queued as 4BCD1234")
        line.reset()
        await self._answer(line, "dot", "", usual, mail=mail)

    async def _answer(
        self, line: _Line, step: str, text: str, usual: Answer, *, mail: AcceptedMail | None = None
    ) -> int:
        """Give the scripted or the usual answer; return its code (0 for silence)."""
        self.transcript.append((step, text))
        self.reached[step].set()
        scripted = self._script.get(step)
        answer = scripted.pop(0) if scripted else usual
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        if answer.after is not None:
            await answer.after.wait()
        if mail is not None and (answer.is_accepting if answer.is_accepting is not None else answer.raw[:1] == b"2"):
            self._keep(mail)
        if answer.raw:
            ends = answer.raw.endswith(b"\n") or answer.is_exact
            line.writer.write(answer.raw if ends else answer.raw + b"\r\n")
            await line.writer.drain()
        if answer.cut or answer.reset:
            if not answer.reset and line.writer.can_write_eof():
                line.writer.write_eof()
                await line.reader.read()
            raise Closed
        last = answer.raw.rstrip(b"\r\n").rpartition(b"\n")[2]
        return int(last[:3]) if last[:3].isdigit() else 0

    def _keep(self, mail: AcceptedMail) -> None:
        self.accepted.append(mail)
        if self._log_file is None:
            return
        record = {
            "at": datetime.now(UTC).isoformat(),
            "message_id": mail.message_id,
            "sender": mail.sender,
            "recipients": mail.recipients,
            "mail_options": mail.mail_options,
            "sha256": hashlib.sha256(without_trace(mail.content)).hexdigest(),
        }
        with self._log_file.open("ab") as log:
            log.write(json.dumps(record).encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())


def without_trace(content: bytes) -> bytes:
    """Return a mail as its author sent it: relays only put Received fields in front (RFC 5321 section 4.4)."""
    found = TRACE.match(content)
    assert found is not None
    return content[found.end() :]


def _address(command: str) -> str:
    match = ANGLE.search(command)
    return match[1] if match else ""


async def _main(arguments: argparse.Namespace) -> None:
    peer = SmtpPeer(
        port=arguments.port,
        log_file=Path(arguments.log),
        mode=arguments.mode,
        delay_seconds=arguments.delay if arguments.mode == "slow" else 0.0,
        extensions=[name for name in EXTENSIONS if name != "DSN" or not arguments.without_dsn],
    )
    async with peer:
        print(f"ready {peer.port}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a mail server that logs what it accepts")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", required=True)
    parser.add_argument("--mode", choices=("accept", "refuse-by-domain", "slow"), default="refuse-by-domain")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds per answer in mode slow")
    parser.add_argument("--without-dsn", action="store_true", help="a relay in front must report by itself")
    asyncio.run(_main(parser.parse_args()))
