"""The web application of a running house: services, routes and pages put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy import Connection

from core import channels
from core.passwords import Passwords
from core.store.database import STORE_AWAY
from core.store.schema import ledger
from gateway.app import House
from gateway.channels import email_imap, email_smtp
from gateway.channels.email_config import EmailConfig
from gateway.sandbox.stage import Stage
from gateway.web import assets
from gateway.web.api.all_routes import ROUTES
from gateway.web.console.pages import pages
from gateway.web.server import build_app
from gateway.web.services import Services

log = structlog.get_logger("gatehouse.health")

TROUBLED = ("failing", "delayed")
HEALTH_SECONDS = 5.0  # a store that takes longer to say anything is not well


@asynccontextmanager
async def web_application(house: House, stage: Stage | None = None) -> AsyncIterator[web.Application]:
    """Build the application; with a ``stage`` the demo pages are part of it. Raises ConfigError without assets."""

    async def health() -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                found = await house.db.read(_health)
        except (*STORE_AWAY, TimeoutError) as error:
            log.warning("health.store_unavailable", error=str(error) or type(error).__name__)
            found = {"status": "store_unavailable"}
        unstored = house.worker.unstored
        if unstored and found["status"] == "ok":
            found["status"] = "outcomes_not_stored"
        return {**found, "outcomes_not_stored": unstored}

    passwords = Passwords()
    services = Services(
        db=house.db,
        blobs=house.blobs,
        keys=house.keys,
        config=house.config,
        clock=house.clock,
        live=house.hub,
        passwords=passwords,
        assets=assets.load(),
        poll_now=house.supervisor.poll_now,
        check_channel=check_channel,
        health=health,
    )
    try:
        yield build_app(services, ROUTES, pages(stage))
    finally:
        passwords.close()


async def check_channel(config: EmailConfig) -> Sequence[str]:
    """Try the servers of a configuration as it stands; raise ChannelError with what is wrong."""
    findings: list[str] = []
    if config.imap is not None:
        findings += [f"in: {line}" for line in await email_imap.check(config)]
    if config.smtp is not None:
        findings += [f"out: {line}" for line in await email_smtp.check(config)]
    return findings or ["neither IMAP nor SMTP is set"]


def _health(conn: Connection) -> dict[str, Any]:
    """``ok`` means that this process serves and its store answers; what troubles channels is told to admins (P10)."""
    states = [
        {
            "address": row["address"],
            "in": row["in_state"],
            "in_code": row["in_code"],
            "out": row["out_state"],
            "out_code": row["out_code"],
        }
        for row in channels.rows(conn)
        if row["is_enabled"]
    ]
    quarantined = conn.execute(sa.select(sa.func.count()).where(ledger.c.state == "quarantined")).scalar_one()
    troubled = sum(item["in"] in TROUBLED or item["out"] in TROUBLED for item in states)
    return {"status": "ok", "channels": states, "channels_in_trouble": troubled, "quarantined": quarantined}
