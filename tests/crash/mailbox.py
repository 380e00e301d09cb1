"""The mailbox that is fetched from, outside the process that gets killed: Dovecot, or else the sandbox's server.

``python -m tests.crash.mailbox`` serves the second kind: it prints its port and takes one mail per line, base64.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from gateway.sandbox.imap_server import ImapServer
from tests.crash.desk import ADDRESS
from tests.servers import dovecot


class Mailbox(Protocol):
    port: int
    user: str
    password: str

    async def drop(self, raw: bytes) -> None:
        """Put a mail into the inbox byte by byte as it is."""

    def seen(self) -> Counter[str] | None:
        """Digests of the mails that the server was told to mark; None where this server cannot say."""


class DovecotMailbox:
    """A user of a running Dovecot."""

    password = dovecot.PASSWORD

    def __init__(self, server: dovecot.Dovecot, user: str) -> None:
        self.server = server
        self.user = user
        self.port = server.imap_port

    async def drop(self, raw: bytes) -> None:
        self.server.drop(self.user, raw)

    def seen(self) -> Counter[str] | None:
        return Counter(
            hashlib.sha256(raw).hexdigest() for name, raw in self._mails().items() if "S" in name.partition(":2,")[2]
        )

    def count(self) -> int:
        """How many mails there are. A mail that is being marked is in one place or in two."""
        return len({name.partition(":2,")[0] for name in self.server.names(self.user)})

    def raws(self) -> dict[str, bytes]:
        """Digest -> mail, as they are fetched."""
        return {hashlib.sha256(raw).hexdigest(): raw for raw in self._mails().values()}

    def _mails(self) -> dict[str, bytes]:
        """File name -> mail. A mail that is marked meanwhile changes its name: then all are read again."""
        place = self.server.maildir(self.user)
        while True:
            names = self.server.names(self.user)
            with suppress(FileNotFoundError):
                found = {path.name: _as_fetched(path) for part in ("cur", "new") for path in (place / part).glob("*")}
                if sorted(found) == names == self.server.names(self.user):
                    return found

    def recreate(self) -> None:
        """Empty the inbox and give it a new UIDVALIDITY: UIDs start again."""
        for part in ("cur", "new"):
            for path in (self.server.maildir(self.user) / part).glob("*"):
                path.unlink()
        self.server.recreate(self.user)


def _as_fetched(path: Path) -> bytes:
    """Dovecot keeps what came by LMTP with bare line feeds, and sends it with the line ends of mail."""
    return re.sub(rb"\r?\n", b"\r\n", path.read_bytes())


class SandboxMailbox:
    """pymap in a process of its own."""

    user = ADDRESS
    password = "pw"

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def drop(self, raw: bytes) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(raw) + b"\n")
        assert await self._process.stdout.readline() == b"kept\n"

    def seen(self) -> Counter[str] | None:
        return None


@asynccontextmanager
async def open_mailbox() -> AsyncIterator[Mailbox]:
    if not dovecot.is_missing():
        with dovecot.Dovecot({"support": dovecot.PASSWORD}) as server:
            yield DovecotMailbox(server, "support")
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.crash.mailbox", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield SandboxMailbox(process, int(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


async def _serve() -> None:
    async with ImapServer(host="127.0.0.1", port=0, users={SandboxMailbox.user: SandboxMailbox.password}) as server:
        print(server.port, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await server.append(SandboxMailbox.user, base64.b64decode(line), at=datetime.now(UTC))
            print("kept", flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
