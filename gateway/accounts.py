"""Channels as they are configured now, opened for use: secrets unsealed, token sources and senders kept open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import aiohttp
import structlog
from pydantic import ValidationError
from sqlalchemy import Connection

from core import channels
from core.channels import Channel
from core.clock import Clock
from core.errors import NotFound
from core.keys import Keys
from core.store.database import Database
from gateway.channels import secrets
from gateway.channels.email_config import Account, EmailConfig
from gateway.channels.email_smtp import SmtpSender
from gateway.channels.oauth import RefreshingTokens, TokenSource
from gateway.normalize.addresses import identity_key
from gateway.outbox.worker import Road

log = structlog.get_logger("gatehouse.accounts")

FRESH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Open:
    version: int
    road: Road
    sender: SmtpSender
    seen_at: float  #: monotonic seconds: when the configuration was last compared


class Accounts:
    """Hands out configurations and roads; closes the senders of configurations that are no longer."""

    def __init__(self, *, db: Database, keys: Keys) -> None:
        self._db = db
        self._keys = keys
        self._open: dict[int, _Open] = {}
        self._lock = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    @property
    def clock(self) -> Clock:
        return self._db.clock

    async def channel(self, channel_id: int) -> tuple[Channel, EmailConfig]:
        """Return a channel with its whole configuration. Raises NotFound, ValueError."""
        found = await self._db.read(channels.get, self._keys, channel_id)
        return found, configuration(found)

    async def road(self, channel_id: int) -> Road:
        """Return the open way out of a channel, at most a second behind its configuration.

        Raises ValueError where that has none.
        """
        fresh = self._open.get(channel_id)
        if fresh is not None and self.clock.monotonic() - fresh.seen_at < FRESH_SECONDS:
            return fresh.road
        try:
            found, config = await self.channel(channel_id)
        except NotFound as error:
            raise ValueError("the channel is gone") from error
        async with self._lock:
            known = self._open.get(channel_id)
            now = self.clock.monotonic()
            if known is not None and known.version == found.version:
                self._open[channel_id] = replace(known, seen_at=now)
                return known.road
            if config.smtp is None:
                raise ValueError("the channel has no SMTP server")
            sender = SmtpSender(config, tokens=self.tokens(found, config.smtp, "smtp"))
            road = Road(channel_id=channel_id, config=config, sender=sender)
            self._open[channel_id] = _Open(version=found.version, road=road, sender=sender, seen_at=now)
            if known is not None:
                await known.sender.close()
            return road

    def tokens(self, found: Channel, account: Account, way: str) -> TokenSource | None:
        """Return the XOAUTH2 tokens of an account, or None where it has a password."""
        if account.oauth is None:
            return None
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))

        async def keep(refresh_token: str) -> None:
            await self._db.write(_keep_refresh_token, self._keys, found.id, way, refresh_token)

        return RefreshingTokens(account.oauth, self._http, keep, mailbox=account.user)

    async def close(self) -> None:
        for item in self._open.values():
            await item.sender.close()
        if self._http is not None:
            await self._http.close()


def configuration(found: Channel) -> EmailConfig:
    """Raises ValueError naming the fields that are wrong, never their values."""
    try:
        return secrets.join(EmailConfig, found.config, found.secrets)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        raise ValueError(f"the configuration of {found.address} is not usable: {fields}") from None


def own_keys(config: EmailConfig) -> frozenset[str]:
    """The identity keys of a channel's own addresses."""
    keys = (identity_key(address) for address in (config.address, *config.aliases))
    return frozenset(key for key in keys if key)


def account_name(config: EmailConfig) -> str:
    """Whose UIDs they are: another host or user is another account (F-M16)."""
    if config.imap is None:
        return f"none:{config.address}"
    return f"{config.imap.user}@{config.imap.host}:{config.imap.port}"


def _keep_refresh_token(conn: Connection, keys: Keys, channel_id: int, way: str, refresh_token: str) -> None:
    """Both ways may use the same grant: replace the token wherever the old one stands. Nothing restarts for it."""
    found = channels.get(conn, keys, channel_id)
    path = f"{way}.oauth.refresh_token"
    old = found.secrets.get(path)
    changed = {name: refresh_token if name == path or value == old else value for name, value in found.secrets.items()}
    channels.reseal(conn, keys, channel_id, changed)
