"""Every refusal as one shape: problem+json (RFC 9457) with a stable ``code`` and the request's ``ref``.

Exceptions become problems here and nowhere else. What is not known to be fit for a stranger's eyes becomes a plain 500
with the reference under which the log holds the rest (T-G10).
"""

from __future__ import annotations

import http
import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from core.errors import Conflict, CoreError, Invalid, NotFound, PermissionDenied
from core.passwords import TooBusy
from core.store.database import StoreError
from core.throttle import Throttled

MAX_ERRORS = 20


class Problem(Exception):
    """An answer that says no. ``detail`` and ``errors`` (field, message) are shown to whoever asked.

    ``more``: extension members (RFC 9457 section 3.2), ready for JSON.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str = "",
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.title = http.HTTPStatus(status).phrase
        self.detail = detail or self.title
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.more = dict(more or {})


def not_found() -> Problem:
    return Problem(404, "not_found", "There is nothing here.")


def unauthenticated() -> Problem:
    return Problem(401, "unauthenticated", "Sign in, or send a valid API key.", headers={"WWW-Authenticate": "Bearer"})


def problem_of(error: BaseException) -> Problem | None:
    """Return what a stranger may know of ``error``; None for what is nobody's business but the log's."""
    match error:
        case Problem():
            return error
        case NotFound():
            return not_found()  # the same words for "not there" and "not yours" (T-G2)
        case PermissionDenied():
            return Problem(403, error.code, "You are not allowed to do this.")
        case Conflict():
            return Problem(409, error.code, str(error))
        case Invalid():
            return Problem(422, error.code, str(error), errors=tuple(error.fields.items()))
        case Throttled():
            seconds = str(max(1, math.ceil(error.retry_after.total_seconds())))
            return Problem(429, error.code, "Too many tries.", headers={"Retry-After": seconds})
        case TooBusy():
            return Problem(429, error.code, "Busy, try again.", headers={"Retry-After": "5"})
        case CoreError():
            return Problem(400, error.code, str(error))
        case StoreError():
            return Problem(503, "store_unavailable", "Try again.", headers={"Retry-After": "5"})
        case web.HTTPMethodNotAllowed():
            allow = ", ".join(sorted(error.allowed_methods))
            return Problem(405, "method_not_allowed", headers={"Allow": allow})
        case web.HTTPRequestEntityTooLarge():
            return Problem(413, "too_large")
        case web.HTTPNotFound():
            return not_found()
        case web.HTTPException() if 400 <= error.status < 500:
            return Problem(error.status, "refused")
        case _:
            return None


def invalid(error: ValidationError) -> Problem:
    """Name the fields, never the values."""
    errors = tuple(
        (".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, "))
        for item in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_ERRORS]
    )
    return Problem(422, "invalid", "Some fields cannot be used.", errors=errors)


def render(problem: Problem, ref: str) -> web.Response:
    content = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "ref": ref,
        "errors": [{"field": name, "message": message} for name, message in problem.errors],
    } | problem.more
    return web.Response(
        status=problem.status,
        body=orjson.dumps(content),
        content_type="application/problem+json",
        headers=problem.headers,
    )
