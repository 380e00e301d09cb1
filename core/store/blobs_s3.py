"""Blobs in an S3-compatible object store, through obstore. A put is durable when the store has answered."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import MemoryStore, S3Store

from core.store.blobs import BlobDamaged


class S3Blobs:
    """``place`` is ``s3://BUCKET/PREFIX``; credentials and endpoint come from the usual AWS_* variables."""

    def __init__(self, place: str, *, store: S3Store | MemoryStore | None = None) -> None:
        self._store = store or S3Store.from_url(place)
        self._folder = tempfile.TemporaryDirectory(prefix="gatehouse-spool-")

    def close(self) -> None:
        self._folder.cleanup()

    @property
    def spool(self) -> Path:
        return Path(self._folder.name)

    async def put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        await obstore.put_async(self._store, f"{digest[:2]}/{digest}", content)
        return digest

    async def get(self, digest: str) -> bytes:
        try:
            reply = await obstore.get_async(self._store, f"{digest[:2]}/{digest}")
            content = bytes(await reply.bytes_async())
        except (BaseError, FileNotFoundError) as error:
            raise BlobDamaged(f"{digest}: cannot be read") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise BlobDamaged(f"{digest}: the stored bytes are others")
        return content

    async def adopt(self, path: Path, digest: str) -> None:
        content = await asyncio.to_thread(path.read_bytes)
        await obstore.put_async(self._store, f"{digest[:2]}/{digest}", content)
        await asyncio.to_thread(path.unlink)
