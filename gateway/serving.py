"""Running the gateway: the house, its web server, and an orderly end on SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from core import agents
from gateway.app import House, open_house, running
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.sandbox.stage import Stage
from gateway.web_root import web_application

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


async def serve(config: Config) -> None:
    """Run until a signal comes or something fails for good. Raises ConfigError, StoreError, KeyUnusable."""
    set_up_logs(config.log_level)
    async with open_house(config) as house, listening(house) as address:
        say(f"Gatehouse listens on {address}")
        code = await house.db.write(agents.first_owner_code)
        if code is not None:
            say(f"Nobody can sign in yet. Make the owner at {address}/setup with this code: {code}")
        await until_stopped(house)


@asynccontextmanager
async def listening(house: House, stage: Stage | None = None) -> AsyncIterator[str]:
    """Serve the console and the API; give the address that browsers use."""
    async with web_application(house, stage) as application:
        # A browser that leaves ends its event stream at once, not at the next ping.
        runner = web.AppRunner(application, shutdown_timeout=5.0, access_log=None, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, house.config.host, house.config.port)
            try:
                await site.start()
            except OSError as error:
                problem = f"cannot listen on {house.config.host}:{house.config.port}: {error.strerror}"
                raise ConfigError([problem + "; choose another with --port"]) from error
            yield house.config.base_url
        finally:
            await runner.cleanup()


async def until_stopped(house: House) -> None:
    """Run listeners and outbox until SIGTERM or Ctrl-C; raise what failed for good."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(house) as failed:
        failed.add_done_callback(lambda _failed: stop.set())
        await stop.wait()
        if failed.done():
            failed.result()
        say("stopping")


def set_up_logs(level: str) -> None:
    """One JSON line per fact; control characters are escaped by the encoding (T-O04)."""
    logging.basicConfig(level=LEVELS[level], format="%(message)s", stream=sys.stderr)
    for name in ("mail.log", "aioimaplib", "aiosmtplib", "alembic", "asyncio", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def say(text: str) -> None:
    """To the person at the terminal; logs go to standard error."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
