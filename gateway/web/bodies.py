"""Request bodies: read under a cap and a deadline, checked before any model sees them (T-G7, T-G9).

JSON must mean the same to every parser: no member twice, no NaN, no lone surrogates, no NUL (PostgreSQL cannot hold
one), no integer beyond 64 bits, at most 32 levels.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from pydantic import BaseModel, ValidationError

from gateway.web.problems import Problem, invalid

M = TypeVar("M", bound=BaseModel)

MAX_JSON_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_FORM_FIELDS = 500
DEADLINE_SECONDS = 10.0
CHUNK_BYTES = 64 * 1024
FORM = "application/x-www-form-urlencoded"


async def read_body(request: web.Request, *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Return the decoded bytes. Raises Problem 413 or 408."""
    too_large = Problem(413, "too_large", f"At most {max_bytes} bytes.", headers={"Connection": "close"})
    if request.content_length is not None and request.content_length > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS + max_bytes / MAX_JSON_BYTES):
            async for chunk in request.content.iter_chunked(CHUNK_BYTES):
                body += chunk
                if len(body) > max_bytes:
                    raise too_large
    except TimeoutError as error:
        raise Problem(408, "too_slow", headers={"Connection": "close"}) from error
    return bytes(body)


def parse_json(raw: bytes, model: type[M]) -> M:
    """Return the model. Raises Problem 400 for what is no proper JSON, 422 for what does not fit."""
    check_json(raw)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(error) from error


def check_json(raw: bytes) -> Any:
    """Raises Problem 400."""
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _malformed("nested too deeply") from error
    except ValueError as error:  # also UnicodeDecodeError, and integers of thousands of digits
        raise _malformed("not JSON") from error
    for depth, item in _walk(value):
        if depth > MAX_DEPTH:
            raise _malformed("nested too deeply")
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise _malformed("a number is too large")
    return value


def parse_pairs(pairs: list[tuple[str, str]], model: type[M]) -> M:
    """Read a query or a form. A name given twice is refused unless the model holds a list there. Raises Problem."""
    values: dict[str, Any] = {}
    for name, text in pairs:
        _check_text(name)
        _check_text(text)
        if name in _list_fields(model):
            values.setdefault(name, []).append(text)
        elif name in values:
            raise Problem(422, "invalid", errors=((name, "given twice"),))
        else:
            values[name] = text
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from error


def read_form(raw: bytes) -> list[tuple[str, str]]:
    """Return the fields of an urlencoded form in order. Raises Problem 400."""
    try:
        return parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), errors="strict",
            max_num_fields=MAX_FORM_FIELDS,
        )  # fmt: skip
    except ValueError as error:
        raise _malformed("not a form") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _malformed("a member is given twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is no JSON")


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Everything inside, names of members too, without recursion."""
    waiting = [(1, value)]
    while waiting:
        depth, item = waiting.pop()
        yield depth, item
        if depth > MAX_DEPTH:
            continue
        if isinstance(item, Mapping):
            waiting += [(depth + 1, inner) for pair in item.items() for inner in pair]
        elif isinstance(item, list):
            waiting += [(depth + 1, inner) for inner in item]


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _malformed("a text holds NUL")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _malformed("a text holds half a character") from error


def _list_fields(model: type[BaseModel]) -> set[str]:
    return {
        name
        for name, field in model.model_fields.items()
        if getattr(field.annotation, "__origin__", None) in (list, tuple, frozenset)
    }


def _malformed(detail: str) -> Problem:
    return Problem(400, "malformed", detail)
