"""Passwords: argon2id with the parameters of RFC 9106 section 4 (low memory), two at a time, never in the event loop.

An unknown user costs the same time as a wrong password: a decoy hash is verified for them (T-L01, T-L10).
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from core.errors import CoreError, Invalid

P = ParamSpec("P")
T = TypeVar("T")

MIN_CHARACTERS = 10
MAX_BYTES = 1024
AT_ONCE = 2
MAX_WAITING = 64


class TooBusy(CoreError):
    """So many sign-ins at once that this one is not even looked at; come back in a few seconds."""

    code = "busy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    is_right: bool
    rehashed: str | None = None  #: store this one: the old hash has weaker parameters


class Passwords:
    """Hashes and checks in threads of its own. Whoever makes it closes it."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._decoy = self._hasher.hash("nobody has this password")
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return what the store keeps. Raises Invalid, TooBusy."""
        return await self._run(self._hasher.hash, acceptable(password))

    async def check(self, stored: str | None, password: str) -> Checked:
        """Compare; with ``stored`` None nothing is right and the time is the same. Raises TooBusy."""
        return await self._run(self._check, stored, password)

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    def _check(self, stored: str | None, password: str) -> Checked:
        plain = _normal(password)
        try:
            self._hasher.verify(stored or self._decoy, plain[:MAX_BYTES])
        except (VerificationError, InvalidHashError):
            return Checked(is_right=False)
        if stored is None or len(plain) > MAX_BYTES:
            return Checked(is_right=False)
        needs_rehash = self._hasher.check_needs_rehash(stored)
        return Checked(is_right=True, rehashed=self._hasher.hash(plain) if needs_rehash else None)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._waiting >= MAX_WAITING:
            raise TooBusy("too many sign-ins at once")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))
        finally:
            self._waiting -= 1


def acceptable(password: str) -> bytes:
    """Return the bytes to hash (NFC: two keyboards may spell é differently). Raises Invalid."""
    plain = _normal(password)
    if len(unicodedata.normalize("NFC", password)) < MIN_CHARACTERS:
        text = f"at least {MIN_CHARACTERS} characters"
    elif len(plain) > MAX_BYTES:
        text = f"at most {MAX_BYTES} bytes"
    else:
        return plain
    raise Invalid("this password cannot be used", fields={"password": text})


def _normal(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
