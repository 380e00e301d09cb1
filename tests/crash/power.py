"""Power loss, simulated: every write and sync of SQLite's files is recorded, and any crash is rebuilt from the record.

What was synced is on the disk. Of what was written since, any part may be, in any order, torn at any byte. The
recorder is a VFS over apsw's SQLite; what it leaves behind is opened with the product's own.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

VFS = "recorder"


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """The file was made shorter."""

    file: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sync:
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """The file was deleted; the folder is taken for synced where SQLite asked for it."""

    file: str
    is_synced: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledged:
    """Somebody was told "taken"."""

    what: str


Step = Write | Cut | Sync | Gone | Acknowledged


class Recorder(apsw.VFS):
    """A VFS that does what the usual one does, and writes it down. Use it as ``file:PATH?vfs=recorder``."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        super().__init__(VFS, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        return _File(self.steps, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - apsw's name
        super().xDelete(filename, syncdir)
        self.steps.append(Gone(file=Path(filename).name, is_synced=syncdir))


class _File(apsw.VFSFile):
    def __init__(self, steps: list[Step], name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(text).name if text else ""
        self._steps = steps

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        super().xWrite(data, offset)
        self._steps.append(Write(file=self._name, offset=offset, data=bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        super().xTruncate(newsize)
        self._steps.append(Cut(file=self._name, size=newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        super().xSync(flags)
        self._steps.append(Sync(file=self._name))


def crash(steps: Sequence[Step], at: int, rng: random.Random) -> tuple[dict[str, bytes], list[str]]:
    """Return what a disk may hold if the power goes after ``at`` steps, and what had been acknowledged by then."""
    synced: dict[str, bytearray] = {}
    loose: dict[str, list[Write | Cut]] = {}
    acknowledged = []
    for step in steps[:at]:
        match step:
            case Write() | Cut():
                loose.setdefault(step.file, []).append(step)
            case Sync():
                content = synced.setdefault(step.file, bytearray())
                for change in loose.pop(step.file, []):
                    _apply(content, change)
            case Gone():
                loose.pop(step.file, None)
                if step.is_synced or rng.random() < 0.5:
                    synced.pop(step.file, None)
            case Acknowledged():
                acknowledged.append(step.what)
    return _tear(synced, loose, rng), acknowledged


def _tear(
    synced: Mapping[str, bytearray], loose: Mapping[str, list[Write | Cut]], rng: random.Random
) -> dict[str, bytes]:
    disk = {name: bytearray(content) for name, content in synced.items()}
    for name, changes in loose.items():
        share = rng.choice((0.0, 0.3, 0.7, 1.0))
        kept = [change for change in changes if rng.random() < share]
        rng.shuffle(kept)
        if kept:
            content = disk.setdefault(name, bytearray())
            for change in kept:
                is_torn = isinstance(change, Write) and rng.random() < 0.2
                _apply(content, _torn(change, rng) if is_torn and isinstance(change, Write) else change)
    return {name: bytes(content) for name, content in disk.items()}


def _torn(change: Write, rng: random.Random) -> Write:
    start = rng.randrange(len(change.data) + 1)
    end = rng.randrange(start, len(change.data) + 1)
    return Write(file=change.file, offset=change.offset + start, data=change.data[start:end])


def _apply(content: bytearray, change: Write | Cut) -> None:
    if isinstance(change, Cut):
        del content[change.size :]
        return
    if len(content) < change.offset:
        content.extend(bytes(change.offset - len(content)))
    content[change.offset : change.offset + len(change.data)] = change.data
