"""The house's one secret and the keys that are derived from it.

A key file of 32 random bytes (hex) is made on first start, mode 0600, outside the database. Every use has its own key
(HKDF-SHA256, RFC 5869): sealing secrets at rest, reply and bounce tokens, the evidence and audit chains.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection

from core.store.schema import setting

KEY_BYTES = 32
NONCE_BYTES = 12
FINGERPRINT = "key_fingerprint"


class KeyUnusable(Exception):
    """The key file cannot be read, is not a key, or is not the one that sealed the data."""


class Keys:
    """Derived keys of one house. Printing it shows nothing."""

    def __init__(self, master: bytes) -> None:
        if len(master) != KEY_BYTES:
            raise KeyUnusable("the key file must hold 64 hexadecimal digits")
        self.tokens = _derive(master, b"tokens")
        self.evidence = _derive(master, b"evidence")
        self.audit = _derive(master, b"audit")
        self.fingerprint = _derive(master, b"fingerprint").hex()[:16]
        self._sealing = AESGCM(_derive(master, b"sealing"))

    def __repr__(self) -> str:
        return "Keys(***)"

    def seal(self, plain: bytes, *, purpose: str) -> bytes:
        """Encrypt ``plain`` for ``purpose``; the same purpose is needed to open it (AES-256-GCM)."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._sealing.encrypt(nonce, plain, purpose.encode())

    def open(self, sealed: bytes, *, purpose: str) -> bytes:
        """Return what ``seal`` was given. Raises KeyUnusable when the key or the purpose is another one."""
        try:
            return self._sealing.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: shorter than a nonce
            raise KeyUnusable("this key did not seal these secrets") from error


def load_or_make(path: Path) -> Keys:
    """Read the key file; make it when there is none. Raises KeyUnusable."""
    try:
        return Keys(bytes.fromhex(path.read_text("ascii").strip()))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{path}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)  # fails where another process was first: then its key counts
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return Keys(bytes.fromhex(path.read_text("ascii").strip()))


def _derive(master: bytes, use: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"gatehouse/" + use).derive(master)


def check_owner(conn: Connection, keys: Keys) -> None:
    """Tie the store to its key: another key would make every token and seal unreadable. Raises KeyUnusable."""
    known = conn.execute(sa.select(setting.c.value).where(setting.c.key == FINGERPRINT)).scalar()
    if known is None:
        conn.execute(sa.insert(setting).values(key=FINGERPRINT, value=keys.fingerprint))
    elif known != keys.fingerprint:
        raise KeyUnusable("this store belongs to another key file: put the right one in its place")
