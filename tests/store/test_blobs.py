"""Blobs: addressed by what they are, checked when they are read, shared by several processes and two kinds of store."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from core.store import blobs as module
from core.store.blobs import SMALL_BYTES, BlobDamaged, Blobs, LocalBlobs, open_blobs, write_new
from core.store.blobs_s3 import S3Blobs
from core.store.database import PostgresDatabase, SqliteDatabase
from core.store.raws import keep_raw, read_raw
from core.store.schema import raw as raw_table

CONTENTS = [b"", b"x", bytes(range(256)) * 1024]


@pytest.fixture(params=["local", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    opened: Blobs
    opened = LocalBlobs(tmp_path) if request.param == "local" else S3Blobs("s3://x/y", store=MemoryStore())
    yield opened
    opened.close()


@pytest.mark.proves("R7.7")
@pytest.mark.parametrize("content", CONTENTS, ids=len)
async def test_what_was_put_comes_back_under_its_digest(blobs: Blobs, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    for _ in range(2):  # the second time it is there already
        assert await blobs.put(content) == digest
    assert await blobs.get(digest) == content


async def test_file_of_the_spool_is_taken_over(blobs: Blobs) -> None:
    for _ in range(2):
        path = write_new(blobs.spool, b"attachment")
        digest = hashlib.sha256(b"attachment").hexdigest()
        await blobs.adopt(path, digest)
        assert await blobs.get(digest) == b"attachment"
        assert not path.exists()
    assert not list(blobs.spool.iterdir())


@pytest.mark.proves("F-D04")
async def test_missing_blob_is_damaged_and_nothing_else(blobs: Blobs) -> None:
    digest = hashlib.sha256(b"never put").hexdigest()
    with pytest.raises(BlobDamaged, match=digest):
        await blobs.get(digest)


@pytest.mark.proves("F-D05")
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "empty"])
async def test_damage_is_noticed_when_it_is_read(tmp_path: Path, damage: str) -> None:
    content = b"the very words" * 1000
    local, memory = LocalBlobs(tmp_path), MemoryStore()
    distant = S3Blobs("s3://x/y", store=memory)
    hurt = {
        "flip": content[:100] + bytes([content[100] ^ 1]) + content[101:],
        "cut": content[:-1],
        "longer": content + b"x",
        "empty": b"",
    }[damage]
    digest = await local.put(content)
    assert await distant.put(content) == digest
    local.path(digest).write_bytes(hurt)
    memory.put(f"{digest[:2]}/{digest}", hurt)
    for opened in (local, distant):
        with pytest.raises(BlobDamaged, match="others"):
            await opened.get(digest)
        opened.close()


@pytest.mark.proves("F-D07", "F-D02")
async def test_failed_write_leaves_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalBlobs(tmp_path)
    digest = hashlib.sha256(b"words").hexdigest()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            await local.put(b"words")
    with pytest.raises(BlobDamaged):
        await local.get(digest)
    assert await local.put(b"words") == digest
    assert await local.get(digest) == b"words"
    local.close()


HOLD = """
import sys
from pathlib import Path
from core.store.blobs import LocalBlobs
blobs = LocalBlobs(Path(sys.argv[1]))
(blobs.spool / "half").write_bytes(b"half")
print(blobs.spool, flush=True)
sys.stdin.read()
"""


@pytest.mark.proves("F-K03")
def test_two_processes_share_a_folder_and_only_the_dead_lose_their_spool(tmp_path: Path) -> None:
    line = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        ours = LocalBlobs(tmp_path)
        assert theirs != ours.spool
        assert (theirs / "half").read_bytes() == b"half", "a living process lost what it was writing"
        other.kill()
    later = LocalBlobs(tmp_path)
    assert not theirs.exists(), "what the dead left behind stays for ever"
    assert ours.spool.exists()
    for opened in (ours, later):
        opened.close()
    assert not list((tmp_path / "spool").iterdir())


@pytest.mark.proves("F-K03")
def test_spool_that_is_just_being_made_is_no_orphan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making its spool and locking it, a process that starts must not lose it to another one that starts."""
    made, others_done = threading.Event(), threading.Event()
    found: list[LocalBlobs] = []
    lock = module._lock_folder

    def slow_lock(folder: Path) -> int | None:
        if threading.current_thread() is slow:
            made.set()
            others_done.wait(0.2)  # the other one waits for us, or has removed our folder by then
        return lock(folder)

    slow = threading.Thread(target=lambda: found.append(LocalBlobs(tmp_path)))
    monkeypatch.setattr(module, "_lock_folder", slow_lock)
    slow.start()
    assert made.wait(30)
    fast = LocalBlobs(tmp_path)
    others_done.set()
    slow.join(30)
    assert found, "the slow one found its spool gone"
    assert found[0].spool.exists()
    for opened in (fast, found[0]):
        opened.close()


@pytest.mark.proves("F-K03")
def test_spool_that_its_owner_removes_meanwhile_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going = tmp_path / "spool" / "going"
    going.mkdir(parents=True)
    lock = module._lock_folder

    def remove_first(folder: Path) -> int | None:
        if folder == going:
            going.rmdir()
        return lock(folder)

    monkeypatch.setattr(module, "_lock_folder", remove_first)
    LocalBlobs(tmp_path).close()
    assert not going.exists()


def test_closed_blobs_hold_no_lock(tmp_path: Path) -> None:
    LocalBlobs(tmp_path).close()
    handle = os.open(tmp_path / "spool", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


@pytest.mark.proves("R1.1")
@pytest.mark.parametrize("size", [0, SMALL_BYTES, SMALL_BYTES + 1])
async def test_small_raw_lives_in_a_row_and_a_large_one_as_a_blob(
    store: SqliteDatabase | PostgresDatabase, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    local = LocalBlobs(tmp_path / "blobs")
    digest, small = await keep_raw(local, content)
    assert (small is None) == (size > SMALL_BYTES)
    if small is not None:
        await store.write(lambda conn: conn.execute(raw_table.insert().values(digest=digest, content=small)))
    assert await read_raw(store, local, digest) == content
    with pytest.raises(BlobDamaged):
        await read_raw(store, local, "0" * 64)
    local.close()


def test_place_says_which_kind_of_store(tmp_path: Path) -> None:
    local = open_blobs(str(tmp_path / "deep" / "er"))
    assert isinstance(local, LocalBlobs)
    local.close()
