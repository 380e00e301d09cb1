"""The console put together: every page of a signed-in agent, the doors, and how a refusal looks."""

from __future__ import annotations

from gateway.sandbox.stage import Stage
from gateway.web.console import (
    answers,
    channels,
    deliveries,
    demo,
    doors,
    inbox,
    ledger,
    live,
    messages,
    reset,
    team,
    tickets,
)
from gateway.web.console.doors import draw_problem
from gateway.web.routing import Route
from gateway.web.server import Pages

NOUNS = (inbox, tickets, answers, messages, deliveries, ledger, channels, team, reset, live)


def pages(stage: Stage | None = None) -> Pages:
    """Return what ``build_app`` wants. With a ``stage`` the demo pages are there too, and open to everybody."""
    routes: list[Route] = [*doors.routes(stage)]
    for noun in NOUNS:
        routes += noun.ROUTES
    if stage is not None:
        routes += demo.routes(stage)
    return Pages(routes=routes, draw_problem=draw_problem)
