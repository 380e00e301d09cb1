"""Raw bytes, wherever they live: in a row when they are small, as a blob otherwise."""

from __future__ import annotations

import hashlib

from core import ledger
from core.store.blobs import SMALL_BYTES, Blobs
from core.store.database import Database


async def keep_raw(blobs: Blobs, content: bytes) -> tuple[str, bytes | None]:
    """Return the digest of ``content`` and, where it is small, the bytes for the row; large ones become blobs first."""
    if len(content) <= SMALL_BYTES:
        return hashlib.sha256(content).hexdigest(), content
    return await blobs.put(content), None


async def read_raw(db: Database, blobs: Blobs, digest: str) -> bytes:
    """Return raw bytes from wherever they live. Raises BlobDamaged."""
    small = await db.read(ledger.read_small, digest)
    return small if small is not None else await blobs.get(digest)
