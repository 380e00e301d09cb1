"""A warm parent: it imports the whole house once and forks a desk whenever it is told to, in a few milliseconds.

Every desk leads a process group of its own, parser processes included, so that one signal ends all of it. The parser
pool's fork server is forked too, before the desk has any thread: only its start is cheaper, what it does is unchanged.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, Self

from core import failpoints
from tests.crash import desk


@dataclass(slots=True)
class Born:
    """A desk as its keeper sees it."""

    pid: int
    data: Path
    control: str
    ready: asyncio.Future[None]
    ended: asyncio.Future[int]  #: what waitpid said

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal the whole group; nothing happens to one that is gone."""
        if not self.ended.done():
            os.killpg(self.pid, number)

    async def is_up(self) -> bool:
        """Wait until it serves, or has ended before."""
        news: set[asyncio.Future[Any]] = {self.ready, self.ended}
        await asyncio.wait(news, return_when="FIRST_COMPLETED")
        return self.ready.done()

    async def ask(self, do: str, **request: object) -> Any:
        """Return its answer, or None when it died meanwhile: then nobody knows whether it did it."""
        if not await self.is_up():
            return None
        try:
            reader, writer = await asyncio.open_unix_connection(self.data / self.control)
        except OSError:
            return None
        try:
            writer.write(json.dumps({"do": do, **request}).encode() + b"\n")
            line = await reader.readline()
        except OSError:
            return None
        finally:
            writer.close()
        return json.loads(line) if line.endswith(b"\n") else None


class Nursery:
    """The keeper's side. ``async with`` starts the parent; every desk still alive at the end is killed."""

    def __init__(self) -> None:
        self._desks: dict[int, Born] = {}
        self._births: asyncio.Queue[int] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.nursery",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )  # fmt: skip
        self._listener = asyncio.create_task(self._listen(), name="nursery")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.clear()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._listener

    async def clear(self) -> None:
        """Kill every desk that still lives."""
        living = list(self._desks.values())
        for born in living:
            born.kill()
        await asyncio.gather(*(born.ended for born in living))

    async def start(self, line: Sequence[str], *, data: Path, log: Path, control: str, failpoint: str) -> Born:
        """Fork a desk; it may not serve yet when this returns."""
        assert self._process.stdin is not None
        words = [*line, "--data", str(data), "--control", control]
        order = {"line": words, "failpoint": failpoint, "log": str(log)}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        pid = await self._births.get()
        born = self._desks[pid]
        born.data, born.control = data, control
        return born

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        loop = asyncio.get_running_loop()
        while line := await self._process.stdout.readline():
            word: dict[str, Any] = json.loads(line)
            if "born" in word:
                pid = word["born"]
                self._desks[pid] = Born(
                    pid=pid, data=Path(), control="", ready=loop.create_future(), ended=loop.create_future()
                )
                self._births.put_nowait(pid)
            elif "ready" in word:
                self._desks[word["ready"]].ready.set_result(None)
            elif "ended" in word:
                self._desks.pop(word["ended"]).ended.set_result(word["status"])


def main() -> None:
    """Fork on demand until stdin ends; report births and deaths, one JSON line each.

    A keeper that was killed says no goodbye: whoever still lives when stdin ends is killed with its whole group.
    """
    resource_tracker.ensure_running()  # shared by all, as with any parent
    watch = selectors.DefaultSelector()
    watch.register(sys.stdin, selectors.EVENT_READ)
    pending = b""
    living: set[int] = set()
    while True:
        for key, _events in watch.select():
            if key.data is None:
                data = os.read(sys.stdin.fileno(), 65536)
                if not data:
                    for pid in living:
                        os.killpg(pid, signal.SIGKILL)
                    return
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    pid = _fork(json.loads(line))
                    living.add(pid)
                    watch.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                    _say(born=pid)
            else:
                watch.unregister(key.fd)
                os.close(key.fd)
                _pid, status = os.waitpid(key.data, 0)
                living.discard(key.data)
                _say(ended=key.data, status=status)


def _say(**words: object) -> None:
    os.write(sys.stdout.fileno(), json.dumps(words).encode() + b"\n")


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)  # on both sides of the fork, so that it is done whoever runs first
        return pid
    status = 70
    try:
        os.setpgid(0, 0)
        report = os.dup(1)
        written = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for number, target in ((os.open(os.devnull, os.O_RDONLY), 0), (written, 1), (written, 2)):
            os.dup2(number, target)
        failpoints.plan(order["failpoint"])
        _fork_forkserver()
        status = desk.run(order["line"], report=report)
    except BaseException:  # nothing of the parent's may run in the child
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _fork_forkserver() -> None:
    """What ``ForkServer.ensure_running`` does, by fork instead of a new interpreter that imports everything again."""
    server: Any = forkserver._forkserver
    with socket.socket(socket.AF_UNIX) as listener:
        address = f"\0gatehouse-{os.getpid()}"  # abstract: nothing is left behind by a kill
        listener.bind(address)
        listener.listen()
        alive_read, alive_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(alive_write)
                forkserver.main(os.dup(listener.fileno()), alive_read, [])
            finally:
                os._exit(0)
        os.close(alive_read)
    server._forkserver_address = address
    server._forkserver_alive_fd = alive_write
    server._forkserver_pid = pid


if __name__ == "__main__":
    main()
