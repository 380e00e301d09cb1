"""Blobs: a kill or a power loss at any step leaves the whole file or none, and what was acknowledged stays."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.store import blobs
from core.store.blobs import BlobDamaged, LocalBlobs

CONTENT = random.Random(7).randbytes(200_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
STEPS = ("write", "fsync", "replace", "fsync")  # file, file, name, folder


def _tap(before: Callable[[str, str], None], after: Callable[[str, str], None], patch: pytest.MonkeyPatch) -> None:
    """Call back around every step that makes something durable."""
    fsync, replace, write = os.fsync, Path.replace, blobs.write_synced

    def tapped_fsync(handle: int) -> None:
        path = str(Path(f"/proc/self/fd/{handle}").readlink())
        before("fsync", path)
        fsync(handle)
        after("fsync", path)

    def tapped_replace(self: Path, target: Path) -> Path:
        before("replace", f"{self}\n{target}")
        done = replace(self, target)
        after("replace", f"{self}\n{target}")
        return done

    def tapped_write(folder: Path, content: bytes) -> Path:
        before("write", str(folder))
        return write(folder, content)

    patch.setattr(os, "fsync", tapped_fsync)
    patch.setattr(Path, "replace", tapped_replace)
    patch.setattr(blobs, "write_synced", tapped_write)


@pytest.mark.parametrize("step", range(len(STEPS)))
@pytest.mark.proves("F-K03")
def test_kill_at_any_step_leaves_all_of_a_blob_or_nothing(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalBlobs(tmp_path)
    pid = os.fork()
    if pid == 0:
        passed: list[str] = []

        def die(kind: str, _path: str) -> None:
            passed.append(kind)
            if len(passed) == step + 1:
                os.kill(os.getpid(), signal.SIGKILL)

        _tap(die, lambda _kind, _path: None, monkeypatch)
        store.put_now(CONTENT)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, "the step was never reached"

    again = LocalBlobs(tmp_path)
    assert not list(again.spool.iterdir())
    if STEPS.index("replace") < step:
        assert again.get_now(DIGEST) == CONTENT
    else:
        with pytest.raises(BlobDamaged, match="No such file"):
            again.get_now(DIGEST)
    assert again.put_now(CONTENT) == DIGEST
    assert again.get_now(DIGEST) == CONTENT


@dataclass(slots=True)
class _Disk:
    """What is certain to survive a power loss: synced contents under names whose folder was synced."""

    contents: set[str] = field(default_factory=set)  #: paths whose bytes were synced
    renames: list[tuple[str, str]] = field(default_factory=list)  #: not yet certain
    names: set[str] = field(default_factory=set)

    def note(self, kind: str, path: str) -> None:
        if kind == "replace":
            source, target = path.split("\n")
            self.renames.append((source, target))
            if source in self.contents:
                self.contents.add(target)
        elif Path(path).is_dir():
            certain = [target for _source, target in self.renames if Path(target).parent == Path(path)]
            self.names.update(certain)
        else:
            self.contents.add(path)

    def holds(self, path: Path) -> bool:
        return str(path) in self.names and str(path) in self.contents


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "left by somebody who died before syncing the folder"])
@pytest.mark.proves("F-K03", "F-D01")
def test_acknowledged_blob_survives_power_loss(is_known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, disk = _recorded(tmp_path, monkeypatch)
    if is_known:
        with monkeypatch.context() as patch:
            patch.setattr(blobs, "_sync_folder", lambda _folder: None)
            store.put_now(CONTENT)
        assert not disk.holds(store.path(DIGEST))
    store.put_now(CONTENT)
    assert disk.holds(store.path(DIGEST))


@pytest.mark.proves("F-K03", "F-D01")
async def test_adopted_attachment_survives_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, disk = _recorded(tmp_path, monkeypatch)
    await store.adopt(blobs.write_new(store.spool, CONTENT), DIGEST)  # as a parser leaves it: written, not synced
    assert disk.holds(store.path(DIGEST))


@pytest.mark.proves("F-K03")
async def test_attachment_that_nobody_synced_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the name and its folder are synced, the bytes are not."""
    store, disk = _recorded(tmp_path, monkeypatch)
    path = blobs.write_new(store.spool, CONTENT)
    store._rename(path, DIGEST)
    assert not disk.holds(store.path(DIGEST))


@pytest.mark.parametrize("left_out", ["_sync_folder", "fsync"])
@pytest.mark.proves("F-K03")
def test_missing_sync_is_noticed(left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control (5): without the folder's sync, or the file's, the blob is not certain."""
    store, disk = _recorded(tmp_path, monkeypatch)
    place: object = blobs if left_out == "_sync_folder" else os
    monkeypatch.setattr(place, left_out, lambda _what: None)
    store.put_now(CONTENT)
    assert not disk.holds(store.path(DIGEST))


def _recorded(folder: Path, patch: pytest.MonkeyPatch) -> tuple[LocalBlobs, _Disk]:
    store, disk = LocalBlobs(folder), _Disk()
    _tap(lambda _kind, _path: None, disk.note, patch)
    return store, disk
