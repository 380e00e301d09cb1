"""The program as people run it: a process of its own, configured by its environment, spoken to over HTTP alone."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

COMMAND = Path(sys.executable).parent / "gatehouse"
PASSWORD = "correct horse battery staple"
CODE = re.compile(r"with this code: (\S+)")
CSRF = re.compile(r'name="csrf" value="([^"]+)"')
START_SECONDS = 60.0
STOP_SECONDS = 20.0  # F-V04


class Ended(AssertionError):
    """The program was to run and does not."""


@dataclass(slots=True)
class Program:
    """``said`` is what it printed for people so far; ``log`` is the file of its log."""

    process: asyncio.subprocess.Process
    address: str
    log: Path
    said: list[str] = field(default_factory=list)
    client: aiohttp.ClientSession | None = None

    async def until_it_says(self, pattern: re.Pattern[str]) -> re.Match[str]:
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while line := (await self.process.stdout.readline()).decode():
                self.said.append(line)
                if found := pattern.search(line):
                    return found
        raise Ended(f"it ended before it said {pattern.pattern!r}: {self.log.read_text()[-3000:]}")

    async def make_owner(self) -> None:
        """Go in by the set-up page as a browser does, and make the API key that ``call`` uses from here on."""
        code = (await self.until_it_says(CODE))[1]
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address, not of a name
        async with aiohttp.ClientSession(self.address, cookie_jar=jar) as browser:
            async with browser.get("/") as page:
                assert page.url.path == "/setup"
            form = {"code": code, "email": "olga@desk.test", "name": "Olga", "password": PASSWORD}
            async with browser.post("/setup", data=form, headers={"Origin": self.address}) as page:
                assert page.status == 200, await page.text()
                csrf = CSRF.search(await page.text())
            assert csrf is not None
            headers = {"Origin": self.address, "X-CSRF-Token": csrf[1]}
            wanted = {"name": "test", "scopes": ["read", "write", "admin"]}
            async with browser.post("/api/v1/api-keys", json=wanted, headers=headers) as answer:
                assert answer.status == 201, await answer.text()
                token = (await answer.json())["token"]
        self.client = aiohttp.ClientSession(self.address, headers={"Authorization": f"Bearer {token}"})

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the API answers; anything but a 2xx fails the test."""
        assert self.client is not None
        async with self.client.request(method, f"/api/v1{path}", json=body) as answer:
            assert answer.status < 300, f"{method} {path}: {answer.status} {await answer.text()}"
            return await answer.json(content_type=None) if answer.status != 204 else None

    async def stop(self) -> int:
        """Say SIGTERM and return the exit code. Raises TimeoutError when it stays too long."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def serving(folder: Path, store: str, *, more: Mapping[str, str] | None = None) -> AsyncIterator[Program]:
    """Start ``gatehouse serve`` with everything it keeps in ``folder``; whatever is left of it at the end is killed."""
    port = free_port()
    log = folder / "gatehouse.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            COMMAND, "serve", "--port", str(port),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors,
            cwd=folder, env=environment(folder, store) | dict(more or {}), start_new_session=True,
        )  # fmt: skip
    program = Program(process=process, address=f"http://127.0.0.1:{port}", log=log)
    try:
        yield program
    finally:
        if program.client is not None:
            await program.client.close()
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()


def environment(folder: Path, store: str) -> dict[str, str]:
    """The operator's shell: nothing of the machine's own GATEHOUSE_ settings gets in."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")}
    return own | {
        "GATEHOUSE_STORE": store,
        "GATEHOUSE_BLOBS": str(folder / "blobs"),
        "GATEHOUSE_KEY_FILE": str(folder / "gatehouse.key"),
        "GATEHOUSE_PARSERS": "1",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
