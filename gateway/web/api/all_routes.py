"""Every route of REST v1, for ``build_app``."""

from __future__ import annotations

from gateway.web.api import answers, channels, deliveries, events, files, ledger, messages, people, tickets
from gateway.web.routing import Route

ROUTES: list[Route] = [
    *tickets.ROUTES,
    *messages.ROUTES,
    *answers.ROUTES,
    *deliveries.ROUTES,
    *ledger.ROUTES,
    *channels.ROUTES,
    *files.ROUTES,
    *events.ROUTES,
    *people.ROUTES,
]
