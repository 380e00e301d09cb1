"""What forms have in common: where they lead, and that one of them acts once however often it is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from aiohttp import web
from pydantic import Field
from sqlalchemy import Connection

from gateway.web import idempotency
from gateway.web.api.schemas_common import FormInput
from gateway.web.routing import Policy, Request

BROWSER = Policy(who="session")
FORM_KEY = r"^[A-Za-z0-9_-]{16,64}$"

Text = Annotated[str, Field(max_length=10_000)]
Short = Annotated[str, Field(max_length=1000)]
Key = Annotated[str, Field(pattern=FORM_KEY)]


class Nothing(FormInput):
    """A form that is only its button."""


def go(path: str) -> web.Response:
    """Lead on with GET, so that a reload repeats nothing."""
    return web.Response(status=303, headers={"Location": path})


def once(conn: Connection, request: Request, key: str, effect: Callable[[Connection], str]) -> str:
    """Do ``effect`` once for this form: a double click, or a repeat after a lost answer, gets the first result.

    Raises KeyReused when the same form comes with other content, InProgress while the first is at work.
    """

    def act(inner: Connection) -> tuple[int, bytes]:
        return 303, effect(inner).encode()

    digest = idempotency.digest(request.http.method, request.http.path, request.raw)
    _status, body = idempotency.once(conn, request.actor, f"form:{key}", digest, request.now, act)
    return body.decode()
