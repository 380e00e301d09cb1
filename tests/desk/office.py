"""A department with one mailbox whose way out leads to a scripted mail server: the outbox without a web server.

Time passes by ``later``, which makes everything that is stored older: it works for both stores, since PostgreSQL reads
its own clock.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core import agents, channels, deliveries, departments, ledger
from core.access import SYSTEM, Role
from core.audit import By
from core.delivery import canonical, verify_chain
from core.keys import Keys
from core.ledger import Arrival
from core.store import schema
from core.store.blobs import LocalBlobs
from core.store.database import PostgresDatabase, SqliteDatabase
from gateway.accounts import Accounts, account_name
from gateway.channels import secrets
from gateway.channels.email_config import EmailConfig, Imap, Smtp
from gateway.entering import ChannelView, Settled
from gateway.live.hub import Hub
from gateway.normalize.mail import read_mail
from gateway.outbox import send
from gateway.outbox.send import Answer, Prepared
from gateway.outbox.worker import OutboxWorker
from gateway.settle import settle
from tests.stores import FakeClock

ADDRESS = "support@desk.test"
JANE = "jane@customer.test"
AGED = {
    schema.outbox: ("due_at", "first_due_at", "give_up_at", "doubt_since_at", "lease_until"),
    schema.channel: ("out_resume_at",),
}


def question(
    name: str = "q1", *, sender: str = JANE, subject: str = "Where is it?", text: str = "Well?", more: str = ""
) -> bytes:
    head = f"From: Jane <{sender}>\r\nTo: {ADDRESS}\r\nSubject: {subject}\r\nMessage-ID: <{name}@customer.test>\r\n"
    return f"{head}{more}\r\n{text}\r\n".encode()


@dataclass(kw_only=True, slots=True)
class Office:
    db: SqliteDatabase | PostgresDatabase
    blobs: LocalBlobs
    keys: Keys
    clock: FakeClock
    stack: AsyncExitStack
    hub: Hub = field(default_factory=Hub)
    channel_id: int = 0
    department_id: int = 0
    agent_id: int = 0
    uids: int = 0
    workers: dict[str, OutboxWorker] = field(default_factory=dict)

    @property
    def house(self) -> By:
        return By(actor=SYSTEM, now=self.clock.now(), key=self.keys.audit)

    async def furnish(self, smtp: Smtp | None, **config: Any) -> None:
        await self.db.write(self._furnish, self.config(smtp, **config))

    def config(self, smtp: Smtp | None, **config: Any) -> EmailConfig:
        imap = Imap(host="127.0.0.1", port=1, user="support")
        settings: dict[str, Any] = {"address": ADDRESS, "imap": imap, "smtp": smtp, "undo_seconds": 0}
        return EmailConfig(**settings | config)

    def _furnish(self, conn: Connection, config: EmailConfig) -> None:
        made = departments.create(conn, self.house, name="Support")
        departments.change(conn, self.house, made.public_id, signature="The Corner Shop")
        self.department_id = made.id
        author = agents.create(
            conn, self.house, email="ana@desk.test", name="Ana Petrova", alias="Ana", role=Role.AGENT
        )
        agents.set_departments(conn, self.house, author.public_id, frozenset({made.id}))
        self.agent_id = author.id
        plain, sealed = secrets.split(config)
        self.channel_id = channels.add(
            conn, self.keys, kind="email", name="Support", address=config.address, department_id=made.id, config=plain,
            secrets=sealed, account=account_name(config), now=self.clock.now(),
        )  # fmt: skip

    async def configure(self, smtp: Smtp | None, **config: Any) -> None:
        """Change the channel as an administrator does; who uses it sees that at once."""
        plain, sealed = secrets.split(self.config(smtp, **config))
        now = self.clock.now()
        changed: dict[str, Any] = {"config": plain, "secrets": sealed}
        await self.db.write(lambda conn: channels.change(conn, self.keys, self.channel_id, now=now, **changed))
        self.clock.ticks += 2

    async def receive(self, raw: bytes) -> Settled:
        """What one mail from outside becomes."""
        self.uids += 1
        view = ChannelView(
            channel_id=self.channel_id, kind="email", department_id=self.department_id, reopen_days=30,
            own_keys=frozenset({ADDRESS}), authserv_id=None,
        )  # fmt: skip
        digest = hashlib.sha256(raw).hexdigest()
        arrival = Arrival(
            folder="INBOX", uidvalidity=1, uid=self.uids, raw_digest=digest, small_raw=raw, raw_bytes=len(raw)
        )

        def take(conn: Connection) -> Settled:
            now = self.clock.now()
            ledger.record(conn, self.channel_id, "me", [arrival], fence=1, now=now)
            (work,) = ledger.claim(conn, self.channel_id, limit=5, now=now)
            mail = read_mail(raw)
            return settle(conn, self.keys, view, work, mail, sizes=[0] * len(mail.attachments), now=now)

        return await self.db.write(take)

    async def ticket(self, raw: bytes = b"") -> int:
        found = await self.receive(raw or question())
        assert found.ticket_id is not None
        return found.ticket_id

    async def prepare(self, ticket_id: int, answer: Answer) -> Prepared:
        return await send.prepare(
            self.db, self.blobs, self.keys, ticket_id, answer, agent_id=self.agent_id, actor="agent:ana"
        )

    async def answer(self, ticket_id: int, **more: Any) -> int:
        """Promise an answer; return its message id."""
        prepared = await self.prepare(ticket_id, Answer(**({"text": "It comes tomorrow."} | more)))
        return await self.db.write(send.commit, self.keys, prepared, now=self.clock.now())

    def worker(self, node: str = "one", **more: Any) -> OutboxWorker:
        """The worker of a node, the same for each call."""
        if node not in self.workers:
            accounts = Accounts(db=self.db, keys=self.keys)
            self.stack.push_async_callback(accounts.close)
            settings: dict[str, Any] = {"is_sole_owner": False, "rng": lambda: 0.0, "roads": accounts} | more
            self.workers[node] = OutboxWorker(
                db=self.db, blobs=self.blobs, hub=self.hub, keys=self.keys, node=node, **settings
            )
        return self.workers[node]

    async def work(self, node: str = "one") -> int:
        """Let a worker hand over what is due, to the end; return how many it took."""
        async with asyncio.TaskGroup() as group:
            return await self.worker(node).run_once(group)

    async def sweep(self, node: str = "one", *, is_start: bool = False) -> None:
        await self.worker(node)._sweep(is_start=is_start)

    async def later(self, by: timedelta) -> None:
        def age(conn: Connection) -> None:
            for table, names in AGED.items():
                for row in conn.execute(sa.select(table.c.id, *(table.c[name] for name in names))).mappings().all():
                    values = {name: row[name] - by for name in names if row[name] is not None}
                    if values:
                        conn.execute(sa.update(table).where(table.c.id == row["id"]).values(**values))

        await self.db.write(age)

    async def outbox(self, message_id: int) -> sa.RowMapping:
        return await self.db.read(outbox_row, message_id)

    async def statuses(self, message_id: int) -> dict[str, tuple[str, str]]:
        """Address -> status and detail."""
        rows = await self.db.read(deliveries.of_message, message_id)
        return {row["address"]: (row["status"], row["detail"]) for row in rows}

    async def facts(self, message_id: int) -> list[str]:
        """Every fact about the only recipient, oldest first."""
        (row,) = await self.db.read(deliveries.of_message, message_id)
        return [item["fact"] for item in await self.db.read(deliveries.evidence_of, row["id"])]

    async def channel(self) -> sa.RowMapping:
        return (await self.db.read(channels.rows))[0]

    async def events(self, kind: str) -> int:
        query = sa.select(sa.func.count()).where(schema.event.c.kind == kind)
        return await self.db.read(lambda conn: int(conn.execute(query).scalar_one()))

    async def ticket_status(self, ticket_id: int) -> str:
        query = sa.select(schema.ticket.c.status).where(schema.ticket.c.id == ticket_id)
        return await self.db.read(lambda conn: str(conn.execute(query).scalar_one()))

    async def header(self, message_id: int) -> str:
        """Our Message-ID of an answer."""
        query = sa.select(schema.message.c.message_id_header).where(schema.message.c.id == message_id)
        return await self.db.read(lambda conn: str(conn.execute(query).scalar_one()))

    async def broken_chains(self) -> list[int]:
        """Deliveries whose evidence does not verify."""

        def look(conn: Connection) -> list[int]:
            return [
                row["id"]
                for row in conn.execute(sa.select(schema.delivery)).mappings().all()
                if verify_chain(
                    [
                        (canonical(deliveries.to_evidence(item)), bytes(item["hash"]))
                        for item in deliveries.evidence_of(conn, row["id"])
                    ],
                    self.keys.evidence,
                    bytes(row["evidence_head"]),
                    row["evidence_count"],
                    anchor=deliveries.anchor(row["public_id"]),
                )
                is not None
            ]

        return await self.db.read(look)


def outbox_row(conn: Connection, message_id: int) -> sa.RowMapping:
    query = sa.select(schema.outbox).where(schema.outbox.c.message_id == message_id)
    return conn.execute(query).mappings().one()


def smtp(port: int, **more: Any) -> Smtp:
    settings: dict[str, Any] = {"security": "plain", "timeout_seconds": 10, "final_reply_seconds": 10}
    return Smtp(host="127.0.0.1", port=port, **settings | more)


@asynccontextmanager
async def open_office(store_url: str, folder: Path) -> AsyncIterator[Office]:
    """Give an office without furniture. At the end every chain of evidence has to be whole."""
    clock = FakeClock(datetime.now(UTC))  # PostgreSQL compares with its own
    async with AsyncExitStack() as stack:
        db: SqliteDatabase | PostgresDatabase
        if store_url.startswith("sqlite:///"):
            db = SqliteDatabase(Path(store_url.removeprefix("sqlite:///")), clock=clock, synchronous="OFF")
        else:
            db = PostgresDatabase(store_url, clock=clock, pool_size=6)
        stack.push_async_callback(db.close)
        blobs = LocalBlobs(folder / "blobs")
        stack.callback(blobs.close)
        made = Office(db=db, blobs=blobs, keys=Keys(b"k" * 32), clock=clock, stack=stack)
        yield made
        assert await made.broken_chains() == []
