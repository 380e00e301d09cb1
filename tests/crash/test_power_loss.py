"""The power goes at any write: every commit that was acknowledged is there, and the file is whole (F-D01)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy.dialects import sqlite as dialect
from sqlalchemy.schema import CreateTable

from core.store.database import SqliteDatabase
from core.store.schema import raw
from tests.crash.power import VFS, Acknowledged, Recorder, Step, crash

SEED = 20260302
STATES = 600
COMMITS = 60
#: What decides about durability; the rest costs time or memory only. The log is shortened so that it wraps.
DECISIVE = ("journal_mode", "synchronous", "foreign_keys", "journal_size_limit")
CHECKPOINT_PAGES = 25
NORMAL = "PRAGMA synchronous=NORMAL"


@pytest.fixture(name="pragmas")
async def _pragmas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the product says to SQLite when it opens a store, in its order."""
    said: list[str] = []
    connect = sqlite.connect

    def traced(*args: Any, **more: Any) -> Any:
        conn = connect(*args, **more)
        conn.set_trace_callback(said.append)
        return conn

    monkeypatch.setattr(sqlite, "connect", traced)
    database = SqliteDatabase(tmp_path / "asked.db")
    await database.write(lambda conn: None)
    await database.close()
    monkeypatch.undo()
    found = list(dict.fromkeys(line for line in said if line.removeprefix("PRAGMA ").split("=")[0] in DECISIVE))
    assert len(found) == len(DECISIVE)
    return found


@pytest.fixture(name="recorder")
def _recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.unregister()


def _work(recorder: Recorder, folder: Path, pragmas: list[str]) -> list[Step]:
    """Commit raws one by one, each acknowledged when its COMMIT has returned."""
    rng = random.Random(SEED)
    conn = apsw.Connection(
        f"file:{folder}/house.db?vfs={VFS}",
        flags=apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
    )
    conn.execute("PRAGMA locking_mode=EXCLUSIVE")  # without shared memory, which no disk keeps anyway
    for pragma in pragmas:
        conn.execute(pragma)
    conn.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    assert conn.pragma("journal_mode") == "wal"
    conn.execute(str(CreateTable(raw).compile(dialect=dialect.dialect())))
    recorder.steps.append(Acknowledged(what="schema"))
    for _ in range(COMMITS):
        content = rng.randbytes(rng.choice((50, 900, 5_000, 20_000)))
        digest = hashlib.sha256(content).hexdigest()
        with conn:
            conn.execute("INSERT INTO raw (digest, content) VALUES (?, ?)", (digest, content))
        recorder.steps.append(Acknowledged(what=digest))
    steps = list(recorder.steps)
    conn.close()
    return steps


def _missing(folder: Path, disk: dict[str, bytes], acknowledged: list[str]) -> list[str]:
    """Open what the crash left with the product's library; return what was acknowledged and is not there."""
    for path in folder.glob("house.db*"):
        path.unlink()
    for name, content in disk.items():
        (folder / name).write_bytes(content)
    if not acknowledged:
        return []
    conn = sqlite.connect(folder / "house.db")
    try:
        found = {digest: hashlib.sha256(content).hexdigest() for digest, content in conn.execute("SELECT * FROM raw")}
        whole = conn.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite.DatabaseError as error:
        return [f"the file is broken: {error}"]
    finally:
        conn.close()
    missing = [digest for digest in acknowledged if digest != "schema" and found.get(digest) != digest]
    return missing if whole == "ok" else [f"the file is broken: {whole}", *missing]


def _losses(steps: list[Step], folder: Path, states: int) -> dict[int, list[str]]:
    folder.mkdir()
    losses = {}
    for number in range(states):
        rng = random.Random(SEED + number)
        disk, acknowledged = crash(steps, rng.randrange(1, len(steps) + 1), rng)
        if missing := _missing(folder, disk, acknowledged):
            losses[SEED + number] = missing
    return losses


@pytest.mark.proves("F-D01", "R1.2")
def test_power_loss_keeps_every_acknowledged_commit(recorder: Recorder, pragmas: list[str], tmp_path: Path) -> None:
    steps = _work(recorder, tmp_path, pragmas)
    losses = _losses(steps, tmp_path / "crashed", STATES)
    assert not losses, f"{len(losses)} of {STATES} states lost something; first by seed: {next(iter(losses.items()))}"


@pytest.mark.proves("F-D01")
def test_power_loss_is_noticed_where_commits_are_not_synced(
    recorder: Recorder, pragmas: list[str], tmp_path: Path
) -> None:
    """The control (4): the same store with synchronous=NORMAL loses what it acknowledged."""
    steps = _work(recorder, tmp_path, [*pragmas, NORMAL])
    assert len(_losses(steps, tmp_path / "crashed", STATES // 4)) > STATES // 40
