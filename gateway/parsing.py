"""Reading mails in child processes with limits, so that a hostile mail kills a child and not the gateway (T-G5).

Pebble keeps the children: it kills the one whose task ran out of time and starts another. The child reads the raw
itself where that is a file, and writes attachments to the spool itself, so that large bytes never pass through a pipe.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from core.store.blobs import write_new
from gateway.normalize.mail import read_mail
from gateway.normalize.values import Mail

WALL_SECONDS = 30.0
CPU_SECONDS = 10.0
MEMORY_BYTES = 1024 * 1024 * 1024  # address space; the interpreter and the libraries take half of it
TASKS_PER_CHILD = 5_000


class ParserDied(Exception):
    """The child was killed by a limit, or by what it read."""


class RawDamaged(Exception):
    """The stored bytes cannot be read, or are not those that the digest names (F-D04, F-D05)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where the bytes of one raw are: inline, or a file that the child reads. They must have the digest."""

    digest: str
    content: bytes | None = None
    path: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """A mail whose attachments wait in the spool: ``mail.attachments`` carry no bytes any more."""

    mail: Mail
    spooled: tuple[Path, ...]  #: one per attachment, named by nothing but chance
    sizes: tuple[int, ...]


class Parsers:
    """A pool of parser processes."""

    def __init__(self, *, count: int, spool: Path, wall_seconds: float = WALL_SECONDS, read: Any = read_mail) -> None:
        self._count = count
        self._spool = spool
        self._wall_seconds = wall_seconds
        self._read = read
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["gateway.parsing"])  # children start with everything imported
        self._pool = ProcessPool(max_workers=count, max_tasks=TASKS_PER_CHILD, initializer=_limit, context=context)

    async def parse(self, sources: Sequence[Source]) -> list[Parsed]:
        """Read a few mails in one child. Raises RawDamaged, and ParserDied when the child did not live to tell.

        ``read_mail`` returns a value for any bytes; a defect in it counts as a death.
        """
        future = self._pool.schedule(_parse, args=(self._read, sources, self._spool), timeout=self._wall_seconds)
        try:
            result: list[Parsed] = await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise ParserDied(f"reading took longer than {self._wall_seconds:g} s") from error
        except ProcessExpired as error:
            raise ParserDied(f"the parser process ended: {_cause(error.exitcode)}") from error
        except RawDamaged:
            raise
        except Exception as error:
            raise ParserDied(f"the parser failed: {type(error).__name__}") from error
        return result

    async def warm_up(self) -> None:
        """Start the children now, so that the first mail does not wait for their imports."""
        probe = Source(digest=hashlib.sha256(b"").hexdigest(), content=b"")
        await asyncio.gather(*(self.parse([probe]) for _ in range(self._count)))

    async def close(self) -> None:
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        pool: Any = self._pool  # untyped
        pool.stop()
        pool.join()


def _limit() -> None:
    """Runs in the child: limits that hold whatever it reads (THREATS section 5)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _parse(read: Any, sources: Sequence[Source], spool: Path) -> list[Parsed]:
    return [_parse_one(read, source, spool) for source in sources]


def _parse_one(read: Any, source: Source, spool: Path) -> Parsed:
    content = source.content if source.content is not None else _read_file(source.path)
    if hashlib.sha256(content).hexdigest() != source.digest:
        raise RawDamaged("the stored bytes are not those that came in")
    _allow_cpu()
    mail: Mail = read(content)
    if not mail.attachments:
        return Parsed(mail=mail, spooled=(), sizes=())
    spooled = tuple(write_new(spool, item.content) for item in mail.attachments)
    sizes = tuple(item.size_bytes for item in mail.attachments)
    bare = tuple(replace(item, content=b"") for item in mail.attachments)
    return Parsed(mail=replace(mail, attachments=bare), spooled=spooled, sizes=sizes)


def _read_file(path: Path | None) -> bytes:
    if path is None:
        raise RawDamaged("the stored bytes are missing")
    try:
        return path.read_bytes()
    except OSError as error:
        raise RawDamaged(f"the stored bytes cannot be read: {error.strerror}") from error


def _allow_cpu() -> None:
    """Give this mail its seconds of CPU on top of what the child has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = used.ru_utime + used.ru_stime
    _soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent + CPU_SECONDS) + 1, hard))


def _cause(exitcode: int) -> str:
    if exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"
