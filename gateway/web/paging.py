"""Cursors: where the next page begins, sealed, and good for one list only.

A position holds an inner id, and a count of what everybody has is nobody's business (as ids of events are hidden in
``gateway.web.desk.live``): so it is encrypted, and padded, for its length tells how many digits an id has.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field

from core.keys import Keys, KeyUnusable
from gateway.web.problems import Problem

T = TypeVar("T")
S = TypeVar("S")

PADDED_BYTES = 64
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


def encode(keys: Keys, purpose: str, position: Sequence[Any]) -> str:
    """``purpose`` names the list and its filters: a cursor of another list is refused."""
    plain = orjson.dumps(list(position))
    padded = plain.ljust(-(-len(plain) // PADDED_BYTES) * PADDED_BYTES)  # blanks mean nothing in JSON
    return base64.urlsafe_b64encode(keys.seal(padded, purpose=f"cursor|{purpose}")).decode().rstrip("=")


def decode(keys: Keys, purpose: str, cursor: str) -> list[Any]:
    """Raises Problem 400."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        plain = keys.open(raw, purpose=f"cursor|{purpose}")
    except (binascii.Error, ValueError, KeyUnusable) as error:
        raise Problem(400, "bad_cursor") from error
    position: list[Any] = orjson.loads(plain)
    return position


def page(
    keys: Keys,
    purpose: str,
    rows: Sequence[S],
    limit: int,
    *,
    position: Callable[[S], Sequence[Any]],
    item: Callable[[S], T],
) -> Page[T]:
    """Make a page of at most ``limit`` from rows that were read with ``limit + 1``."""
    shown = rows[:limit]
    following = encode(keys, purpose, position(shown[-1])) if len(rows) > limit else None
    return Page(items=[item(row) for row in shown], next=following)
