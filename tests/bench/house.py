"""A house for benchmarks: the real parts on a throwaway SQLite store with FULL durability, without a mail server."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from core import channels, leases
from core.ids import public_id
from core.leases import Lease
from core.store.schema import agent, department, ledger
from gateway.accounts import account_name, own_keys
from gateway.app import House, open_house
from gateway.channels import secrets
from gateway.channels.email_config import EmailConfig, Smtp
from gateway.config import load
from gateway.entering import ChannelView
from gateway.ingest import Ingest
from gateway.journal import ChannelJournal

ADDRESS = "support@desk.test"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    house: House
    channel_id: int
    agent_id: int
    lease: Lease
    view: ChannelView
    account: str

    def journal(self) -> ChannelJournal:
        return ChannelJournal(
            db=self.house.db, blobs=self.house.blobs, hub=self.house.hub, channel_id=self.channel_id,
            account=self.account, lease=self.lease, marks=False,
        )  # fmt: skip

    def ingest(self) -> Ingest:
        return Ingest(
            db=self.house.db, blobs=self.house.blobs, hub=self.house.hub, keys=self.house.keys,
            parsers=self.house.parsers, view=self.view, lease=self.lease,
        )  # fmt: skip

    async def settled(self) -> int:
        return await self.house.db.read(_settled)


@asynccontextmanager
async def open_bench_house() -> AsyncIterator[House]:
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as name:
        folder = Path(name)
        config = load(
            store=f"sqlite:///{folder}/gatehouse.db",
            blobs=f"{folder}/blobs",
            key_file=folder / "key",
        )
        async with open_house(config) as house:
            yield house


@asynccontextmanager
async def bench(*, smtp_port: int | None = None) -> AsyncIterator[Bench]:
    async with open_bench_house() as house:
        smtp = Smtp(host="127.0.0.1", port=smtp_port, security="plain", connections=32) if smtp_port else None
        channel = EmailConfig(address=ADDRESS, smtp=smtp, undo_seconds=0)
        channel_id, agent_id, department_id = await house.db.write(seed, house, channel)
        lease = await house.db.write(
            leases.acquire, f"channel:{channel_id}", "bench", length=timedelta(hours=9), clock=house.clock
        )
        assert lease is not None
        view = ChannelView(
            channel_id=channel_id, kind="email", department_id=department_id, reopen_days=14,
            own_keys=own_keys(channel), authserv_id=None,
        )  # fmt: skip
        yield Bench(
            house=house, channel_id=channel_id, agent_id=agent_id, lease=lease, view=view,
            account=account_name(channel),
        )  # fmt: skip


def seed(conn: Connection, house: House, config: EmailConfig) -> tuple[int, int, int]:
    now = house.clock.now()
    made = {"public_id": public_id(), "name": "Support", "created_at": now}
    department_id = conn.execute(sa.insert(department).returning(department.c.id), made).scalar_one()
    person = {"public_id": public_id(), "email": "a@desk.test", "name": "Ana", "role": "agent", "created_at": now}
    agent_id = conn.execute(sa.insert(agent).returning(agent.c.id), person).scalar_one()
    plain, sealed = secrets.split(config)
    channel_id = channels.add(
        conn, house.keys, kind="email", name="Support", address=ADDRESS, department_id=department_id, config=plain,
        secrets=sealed, account=account_name(config), now=now,
    )  # fmt: skip
    return channel_id, agent_id, department_id


def _settled(conn: Connection) -> int:
    return int(conn.execute(sa.select(sa.func.count()).where(ledger.c.state != "received")).scalar_one())
