"""Pages of lists that are ordered by a moment and an id, newest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

import orjson
from pydantic import BaseModel
from sqlalchemy import RowMapping

from gateway.web import paging
from gateway.web.paging import Page, PageQuery
from gateway.web.problems import Problem
from gateway.web.routing import Request

T = TypeVar("T", bound=BaseModel)
Position = tuple[datetime, int]


def before(request: Request, name: str, query: PageQuery) -> Position | None:
    """Where the page begins. Raises Problem 400 for a cursor of another list, or of the same with other filters."""
    if query.cursor is None:
        return None
    at, number = paging.decode(request.services.keys, _purpose(name, query), query.cursor)
    return datetime.fromisoformat(at), int(number)


def page(
    request: Request,
    name: str,
    query: PageQuery,
    rows: Sequence[RowMapping],
    *,
    at: str,
    item: Callable[[RowMapping], T],
) -> Page[T]:
    """Make a page from ``limit + 1`` rows; ``at`` names the column of the moment."""
    return paging.page(
        request.services.keys,
        _purpose(name, query),
        rows,
        query.limit,
        position=lambda row: [row[at].isoformat(), row["id"]],
        item=item,
    )


def after_id(request: Request, name: str, query: PageQuery) -> int:
    """For lists in the order of ids."""
    if query.cursor is None:
        return 0
    (number,) = paging.decode(request.services.keys, _purpose(name, query), query.cursor)
    return int(number)


def page_by_id(
    request: Request,
    name: str,
    query: PageQuery,
    rows: Sequence[RowMapping],
    *,
    item: Callable[[RowMapping], T],
) -> Page[T]:
    purpose = _purpose(name, query)
    return paging.page(request.services.keys, purpose, rows, query.limit, position=lambda row: [row["id"]], item=item)


def period(from_at: datetime | None, to_at: datetime | None) -> None:
    """Raises Problem for a period that ends before it begins."""
    if from_at is not None and to_at is not None and to_at <= from_at:
        raise Problem(422, "invalid", errors=[("to", "not after `from`")])


def _purpose(name: str, query: PageQuery) -> str:
    filters = query.model_dump(mode="json", exclude={"cursor", "limit"})
    return f"{name}|{orjson.dumps(filters, option=orjson.OPT_SORT_KEYS).decode()}"
