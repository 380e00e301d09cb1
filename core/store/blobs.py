"""Raw mails and attachments: content addressed by SHA-256, outside the database, durable before anyone hears of it.

A local blob is written to a temporary file, synced, renamed to its digest, and its folder is synced: a crash leaves
either nothing under that name or all of it (F-K03). Small raws live in a database row instead (``SMALL_BYTES``).
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Protocol

#: Up to here a raw goes into a row: one commit instead of two syncs.
SMALL_BYTES = 64 * 1024


class BlobDamaged(Exception):
    """The bytes are not those that the digest names (F-D05), or cannot be read (F-D04)."""


class Blobs(Protocol):
    async def put(self, content: bytes) -> str:
        """Store durably; return the SHA-256 in hex."""

    async def get(self, digest: str) -> bytes:
        """Raises BlobDamaged where the content is missing, unreadable or another."""

    async def adopt(self, path: Path, digest: str) -> None:
        """Take over a file that a parser process wrote under ``spool``: it is durable when this returns."""

    def close(self) -> None: ...

    @property
    def spool(self) -> Path:
        """A folder on the same file system, for files on their way in."""


class LocalBlobs:
    """A folder with 256 subfolders. Several processes may share it; each has a spool of its own.

    Opening it removes what dead processes left half written: their spools are locked by nobody any more.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        spools = root / "spool"
        spools.mkdir(parents=True, exist_ok=True)
        self._spool = spools / secrets.token_hex(8)
        door = os.open(spools, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(
                door, fcntl.LOCK_EX
            )  # or a process that starts now takes ours for an orphan before it is locked
            self._spool.mkdir()
            self._lock = _lock_folder(self._spool)
            for other in spools.iterdir():
                if other != self._spool and (orphan := _lock_folder(other)) is not None:
                    shutil.rmtree(other, ignore_errors=True)
                    os.close(orphan)
        finally:
            os.close(door)
        for number in range(256):
            (root / f"{number:02x}").mkdir(exist_ok=True)
        _sync_folder(root)

    def close(self) -> None:
        """Give the spool back."""
        shutil.rmtree(self._spool, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    @property
    def spool(self) -> Path:
        return self._spool

    def path(self, digest: str) -> Path:
        return self.root / digest[:2] / digest

    async def put(self, content: bytes) -> str:
        return await asyncio.to_thread(self.put_now, content)

    async def get(self, digest: str) -> bytes:
        return await asyncio.to_thread(self.get_now, digest)

    async def adopt(self, path: Path, digest: str) -> None:
        await asyncio.to_thread(self._adopt_now, path, digest)

    def put_now(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        if self.path(digest).exists():
            _sync_folder(self.path(digest).parent)  # whoever named it may have died before this
        else:
            self._rename(write_synced(self._spool, content), digest)
        return digest

    def get_now(self, digest: str) -> bytes:
        try:
            content = self.path(digest).read_bytes()
        except OSError as error:
            raise BlobDamaged(f"{digest}: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise BlobDamaged(f"{digest}: the stored bytes are others")
        return content

    def _adopt_now(self, path: Path, digest: str) -> None:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self._rename(path, digest)

    def _rename(self, temporary: Path, digest: str) -> None:
        target = self.path(digest)
        temporary.replace(target)
        _sync_folder(target.parent)


def write_new(folder: Path, content: bytes) -> Path:
    """Write a new file in ``folder``, not synced yet; used by parser processes for attachments."""
    path = folder / secrets.token_hex(16)
    path.write_bytes(content)
    return path


def write_synced(folder: Path, content: bytes) -> Path:
    """Write a new file in ``folder`` and sync it."""
    path = write_new(folder, content)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


def _lock_folder(folder: Path) -> int | None:
    """Lock a spool for the life of this process; None where another process holds it, or has just removed it."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_blobs(place: str) -> Blobs:
    """Open the folder, or ``s3://BUCKET/PREFIX`` through obstore (the extra ``s3``)."""
    if place.startswith("s3://"):
        from core.store.blobs_s3 import S3Blobs

        return S3Blobs(place)
    return LocalBlobs(Path(place))
