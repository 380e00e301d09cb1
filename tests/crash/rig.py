"""One store with everything around it: a mailbox, a next mail server and a nursery that no kill of a desk reaches."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.keys import load_or_make
from tests.crash import oracles
from tests.crash.desk import ADDRESS
from tests.crash.mailbox import DovecotMailbox, Mailbox, open_mailbox
from tests.crash.nursery import Born, Nursery
from tests.crash.postoffice import PostOffice, fates, open_postoffice, reports_taken
from tests.crash.truth import Asked, Offered, Truth, Writer

PATIENCE = 60.0  # P8: service is back within a minute


class Stuck(AssertionError):
    """A desk that lives did not come to rest in time."""


@dataclass(slots=True)
class Rig:
    store: str
    folder: Path
    nursery: Nursery
    mailbox: Mailbox
    smtp_port: int
    truth: Truth
    writer: Writer
    rng: random.Random
    options: tuple[str, ...] = ()
    postoffice: PostOffice | None = None  #: where the next server is a Postfix
    born: list[Born] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    async def start(self, *more: str, failpoint: str = "", control: str = "control") -> Born:
        line = [
            "--store", self.store, "--imap", str(self.mailbox.port), "--user", self.mailbox.user,
            "--password", self.mailbox.password, "--smtp", str(self.smtp_port), *self.options, *more,
        ]  # fmt: skip
        return await self.nursery.start(line, data=self.folder, control=control, failpoint=failpoint, log=self.log)

    async def offer(self, mail: Offered) -> None:
        self.truth.offer(mail)
        await self.mailbox.drop(mail.raw)

    async def rest(self, desk: Born, *, seconds: float = PATIENCE, rows: int = 0) -> dict[str, int] | None:
        """Wait until nothing is left to do; None when the desk died. Raises Stuck."""
        rows = max(rows, self.truth.rows)
        try:
            async with asyncio.timeout(seconds):
                counts: dict[str, int] | None = await desk.ask("rest", rows=rows)
        except TimeoutError:
            counts = None
            if not desk.ended.done():
                raise Stuck(f"o11: no rest in {seconds:g} s; {self.tail()}") from None
        return counts

    async def settle(self, desk: Born, *, seconds: float = PATIENCE) -> dict[str, int] | None:
        """As ``rest``, and every report of a Postfix has come and is read."""
        counts = await self.rest(desk, seconds=seconds)
        office = self.postoffice
        if office is None or counts is None:
            return counts
        await office.until_empty()
        mails = 0
        while counts is not None and (found := office.mailbox.count()) > mails:
            mails = found
            counts = await self.rest(desk, seconds=seconds, rows=mails)
        return counts

    async def death(self, desk: Born, *, seconds: float = PATIENCE) -> None:
        """Wait until a desk is gone. Raises Stuck."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(desk.ended)
        except TimeoutError:
            raise Stuck(f"the desk was to die and lives; {self.tail()}") from None

    async def kill(self, desk: Born) -> None:
        desk.kill()
        await self.death(desk)

    def ask_for(self, ticket_id: int, *, to: Sequence[str] = ()) -> Asked:
        """Decide on an answer; ``send`` says so to a desk, as often as it takes."""
        key = f"key-{len(self.truth.answers):05}"
        name = f"a{self.rng.getrandbits(40):010x}"
        asked = Asked(key=key, ticket_id=ticket_id, text=f"Dear customer, see {name}.", to=tuple(to))
        self.truth.answers[key] = asked
        return asked

    async def send(self, desk: Born, asked: Asked) -> bool:
        """Say "send" once; True when it was acknowledged."""
        said: dict[str, Any] | None = await desk.ask(
            "answer", key=asked.key, ticket_id=asked.ticket_id, text=asked.text, to=list(asked.to)
        )
        if said is None:
            return False
        assert asked.message_id in (None, said["message"]), "o4: one key gave two answers"
        asked.message_id, asked.header = said["message"], oracles.bare(said["header"])
        return True

    async def send_open(self, desk: Born) -> None:
        """Repeat, as a browser does, whatever was never acknowledged."""
        for asked in self.truth.answers.values():
            if asked.message_id is None:
                await self.send(desk, asked)

    async def check(self) -> list[str]:
        """Every oracle, at rest."""
        seen = self.mailbox.seen()
        keys = load_or_make(self.folder / "key")
        reports = self.postoffice.reports(self.truth) if self.postoffice else {}
        self.truth.reported = frozenset(reports)
        wrong = await oracles.look(self.store, oracles.at_rest, self.truth, keys, self.folder / "blobs")
        if seen is not None:
            wrong += await oracles.look(self.store, oracles.marked_without_row, seen)
        if self.postoffice is not None:
            wrong += await oracles.look(self.store, reports_taken, reports)
            wrong += await oracles.look(self.store, fates, self.truth, reports)
        return wrong

    async def sample(self) -> list[str]:
        """What must hold at every moment, also while a desk works; behind a Postfix, only while none does."""
        if self.postoffice is not None:
            await self.postoffice.until_archived()
        seen = self.mailbox.seen()
        wrong = await oracles.look(self.store, oracles.statuses, self.truth)
        if seen is not None:
            wrong += await oracles.look(self.store, oracles.marked_without_row, seen)
        return wrong + await oracles.look(self.store, oracles.accept_count, self.truth)

    def tail(self) -> str:
        """The end of what the desks logged, for people who read a failure."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"log:\n{text[-4000:]}"


@asynccontextmanager
async def open_rig(
    store: str,
    *,
    seed: int,
    options: Sequence[str] = (),
    nursery: Nursery | None = None,
    mailbox: Mailbox | None = None,
    smtp_port: int | None = None,
    is_relayed: bool = False,
) -> AsyncIterator[Rig]:
    """Put a rig around ``store``, which nobody uses yet. Its folder is short: a socket's path has 107 bytes.

    ``is_relayed``: answers go through a Postfix, whose reports come into the mailbox, which has to be Dovecot's.
    """
    folder = Path(tempfile.mkdtemp(prefix="gh-crash-"))
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        truth = Truth(accept_log=folder / "accepted.jsonl", is_relayed=is_relayed)
        extras = ["--without-dsn"] if is_relayed else []
        port = smtp_port if smtp_port is not None else await stack.enter_async_context(_sink(truth.accept_log, extras))
        box = await stack.enter_async_context(open_mailbox()) if mailbox is None else mailbox
        parent = await stack.enter_async_context(Nursery()) if nursery is None else nursery
        stack.push_async_callback(parent.clear)
        address, office = ADDRESS, None
        if is_relayed:
            assert isinstance(box, DovecotMailbox)
            office = await stack.enter_async_context(open_postoffice(box, peer_port=port))
            port, address = office.postfix.port, f"{box.user}@desk.test"
            options = ["--address", address, "--notify-success", *options]
        yield Rig(
            store=store or f"sqlite:///{folder}/house.db", folder=folder, nursery=parent, mailbox=box, smtp_port=port,
            truth=truth, writer=Writer(rng, to=address), rng=rng, options=tuple(options), postoffice=office,
        )  # fmt: skip


@asynccontextmanager
async def _sink(log: Path, extras: Sequence[str]) -> AsyncIterator[int]:
    """The next mail server: it syncs what it accepts to ``log`` before it says so."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.servers.smtp_peer", "--log", str(log), *extras,
        stdout=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield int((await process.stdout.readline()).split()[1])
    finally:
        process.kill()
        await process.wait()
