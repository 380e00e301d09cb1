"""What the handlers are given: made once by the composition root, handed down, never looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.clock import Clock
from core.keys import Keys
from core.passwords import Passwords
from core.store.blobs import Blobs
from core.store.database import Database
from gateway.channels.email_config import EmailConfig
from gateway.config import Config
from gateway.web.assets import Assets

PEOPLE = "people"  #: the topic that is woken when somebody's rights change, or a session ends


class Live(Protocol):
    """Wake-ups inside the process: ``gateway.live.hub.Hub``, or the same over Redis."""

    def wake(self, *topics: str) -> None: ...

    def subscribe(self, *topics: str) -> AbstractContextManager[asyncio.Event]: ...


#: ``{"status": "ok", …}``; only ``status`` is for everybody.
Health = Callable[[], Awaitable[Mapping[str, Any]]]


async def always_ok() -> Mapping[str, Any]:
    return {"status": "ok"}


#: Asks a channel's listener to look for mail at once; False when it runs on another node or not at all.
PollNow = Callable[[int], bool]
#: Tries the servers of a configuration; returns findings or raises ChannelError.
CheckChannel = Callable[[EmailConfig], Awaitable[Sequence[str]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    db: Database
    blobs: Blobs
    keys: Keys
    config: Config
    clock: Clock
    live: Live
    passwords: Passwords
    assets: Assets
    poll_now: PollNow
    check_channel: CheckChannel
    health: Health = field(default=always_ok)
