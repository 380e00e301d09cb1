"""Cursors: where the next page begins, signed so that nobody makes one up, and good for one list only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field

from gateway.web.problems import Problem

T = TypeVar("T")
S = TypeVar("S")

MAC_BYTES = 16
MAX_CURSOR = 2000


class Page(BaseModel, Generic[T]):
    """Part of a list. ``next`` goes into ``?cursor=``; without it this is the end."""

    model_config = ConfigDict(extra="forbid")

    items: list[T]
    next: str | None = None


class PageQuery(BaseModel):
    """What every list takes; lists with filters inherit from it."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(None, max_length=MAX_CURSOR, description="`next` of the page before")
    limit: int = Field(50, ge=1, le=200)


def encode(key: bytes, purpose: str, position: Sequence[Any]) -> str:
    """``purpose`` names the list and its filters: a cursor of another list is refused."""
    plain = orjson.dumps(list(position))
    return base64.urlsafe_b64encode(_mac(key, purpose, plain) + plain).decode().rstrip("=")


def decode(key: bytes, purpose: str, cursor: str) -> list[Any]:
    """Raises Problem 400."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, "bad_cursor") from error
    mac, plain = raw[:MAC_BYTES], raw[MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, purpose, plain)):
        raise Problem(400, "bad_cursor")
    position: list[Any] = orjson.loads(plain)
    return position


def page(
    key: bytes,
    purpose: str,
    rows: Sequence[S],
    limit: int,
    *,
    position: Callable[[S], Sequence[Any]],
    item: Callable[[S], T],
) -> Page[T]:
    """Make a page of at most ``limit`` from rows that were read with ``limit + 1``."""
    shown = rows[:limit]
    following = encode(key, purpose, position(shown[-1])) if len(rows) > limit else None
    return Page(items=[item(row) for row in shown], next=following)


def _mac(key: bytes, purpose: str, plain: bytes) -> bytes:
    return hmac.new(key, f"cursor|{purpose}|".encode() + plain, hashlib.sha256).digest()[:MAC_BYTES]
