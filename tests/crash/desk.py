"""The real house as a process of its own, made to be killed: ``python -m tests.crash.desk --store URL --data DIR …``.

It listens on a mailbox, hands answers over, and obeys one JSON line at a time on a Unix socket (``control``). What is
set up is set up once, however often it starts. ``GATEHOUSE_FAILPOINT`` kills it at a named point; ``--plant`` breaks
it on purpose (``tests.crash.plants``), so that the oracles can show that they would notice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from core import channels, ledger, outbox
from core.access import SYSTEM
from core.failpoints import failpoint
from core.ids import public_id
from core.store.database import STORE_AWAY, StoreInUse
from core.store.schema import agent, channel, delivery, department, message, ticket
from core.store.schema import ledger as ledger_table
from core.store.schema import outbox as outbox_table
from gateway import supervisor
from gateway.accounts import account_name
from gateway.app import House, open_house, running
from gateway.channels import secrets
from gateway.channels.email_config import EmailConfig, Imap, Smtp
from gateway.config import load
from gateway.live.hub import wait
from gateway.normalize.values import Address
from gateway.outbox import send, worker
from gateway.outbox.send import Answer
from gateway.web import idempotency
from tests.crash import plants

ADDRESS = "support@desk.test"
CONTROL = "control"
IN_USE = 3
REST_SECONDS = 0.5  # how long a look for rest may miss a wake-up


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="the house, made to be killed")
    parser.add_argument("--store", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder for blobs, key and control socket")
    parser.add_argument("--imap", type=int, required=True, metavar="PORT")
    parser.add_argument("--smtp", type=int, required=True, metavar="PORT")
    parser.add_argument("--address", default=ADDRESS, help="the channel's own")
    parser.add_argument("--user", default=ADDRESS)
    parser.add_argument("--password", default="pw")
    parser.add_argument("--after", default="leave", choices=("leave", "seen", "move", "delete"))
    parser.add_argument("--folders", default="INBOX")
    parser.add_argument("--node", default="desk", help="the same name takes its own leases back at once")
    parser.add_argument("--control", default=CONTROL, help="name of the socket in the data folder")
    parser.add_argument("--lease", type=float, default=30.0, metavar="SECONDS", help="of channels and answers")
    parser.add_argument("--notify-success", action="store_true", help="ask the next server for every report")
    parser.add_argument("--in-doubt", default="hold", choices=("hold", "resend-once"))
    parser.add_argument("--doubt-waits", type=float, metavar="SECONDS", help="for evidence, before resend-once")
    parser.add_argument("--parsers", type=int, default=1)
    parser.add_argument("--plant", action="append", default=[], choices=sorted({**plants.PLANTS, **plants.STIMULI}))
    parser.add_argument("--smtp-user", help="log in where nobody offers it: a fault of our own set-up")
    return parser


def run(line: Sequence[str], *, report: int = 1) -> int:
    """Run until killed, or until the control says ``stop``; ``report`` is the file descriptor that hears of the start.

    Return 0 after an orderly end, IN_USE where the store is somebody else's.
    """
    given = arguments().parse_args(line)
    _shorten_leases(timedelta(seconds=given.lease))
    if given.doubt_waits is not None:
        worker.RESEND_ONCE_AFTER = timedelta(seconds=given.doubt_waits)
    for name in given.plant:
        {**plants.PLANTS, **plants.STIMULI}[name]()
    try:
        asyncio.run(_serve(given, report))
    except StoreInUse:
        return IN_USE
    return 0


def _shorten_leases(length: timedelta) -> None:
    """Only the lengths: who may take over when is the product's own doing."""
    seconds = length.total_seconds()
    supervisor.LEASE = worker.LEASE = length
    supervisor.RENEW_SECONDS = worker.RENEW_SECONDS = min(seconds / 4, supervisor.RENEW_SECONDS)
    supervisor.LOOK_SECONDS = min(seconds / 4, supervisor.LOOK_SECONDS)
    worker.SWEEP_SECONDS = min(seconds / 4, worker.SWEEP_SECONDS)


async def _serve(given: argparse.Namespace, report: int) -> None:
    data: Path = given.data
    config = load(
        store=given.store,
        blobs=str(data / "blobs"),
        key_file=data / "key",
        node=given.node,
        parsers=given.parsers,
        log_level="warning",
    )
    async with open_house(config) as house:
        agent_id = await house.db.write(seed, house, email(given))
        place = data / given.control
        with suppress(FileNotFoundError):
            place.unlink()
        stop = asyncio.Event()
        desk = _Desk(house, agent_id, stop, is_resending=given.in_doubt == "resend-once")
        async with running(house) as failed:
            server = await asyncio.start_unix_server(desk.obey, place)
            os.write(report, json.dumps({"ready": os.getpid()}).encode() + b"\n")  # at once: desks share the pipe
            stopping = asyncio.ensure_future(stop.wait())
            ends: set[asyncio.Future[Any]] = {stopping, failed}
            await asyncio.wait(ends, return_when="FIRST_COMPLETED")
            stopping.cancel()
            server.close()
            if failed.done():
                failed.result()


def email(given: argparse.Namespace) -> EmailConfig:
    return EmailConfig(
        address=given.address,
        imap=Imap(
            host="127.0.0.1", port=given.imap, security="plain", user=given.user, password=given.password,
            folders=tuple(given.folders.split(",")), after=given.after, move_to="Archive",
        ),
        smtp=Smtp(
            host="127.0.0.1", port=given.smtp, security="plain", user=given.smtp_user,
            password=given.password if given.smtp_user else None, notify_success=given.notify_success,
        ),
        undo_seconds=0,
        in_doubt=given.in_doubt,
    )  # fmt: skip


def seed(conn: Connection, house: House, config: EmailConfig) -> int:
    """Set up department, agent and channel, all or nothing; return the agent."""
    found = conn.execute(sa.select(agent.c.id)).scalar()
    if found is not None:
        return int(found)
    now = house.clock.now()
    department_id = conn.execute(
        sa.insert(department).returning(department.c.id),
        {"public_id": public_id(), "name": "Support", "created_at": now},
    ).scalar_one()
    agent_id = conn.execute(
        sa.insert(agent).returning(agent.c.id),
        {"public_id": public_id(), "email": "ann@desk.test", "name": "Ann", "role": "agent", "created_at": now},
    ).scalar_one()
    plain, hidden = secrets.split(config)
    channels.add(
        conn, house.keys, kind="email", name="Support", address=config.address, department_id=department_id,
        config=plain, secrets=hidden, account=account_name(config), now=now,
    )  # fmt: skip
    return int(agent_id)


class _Desk:
    """The control: one request a line, one answer a line."""

    def __init__(self, house: House, agent_id: int, stop: asyncio.Event, *, is_resending: bool) -> None:
        self._house = house
        self._agent_id = agent_id
        self._stop = stop
        self._is_resending = is_resending

    async def obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            request: dict[str, Any] = json.loads(line)
            work = getattr(self, f"_do_{request.pop('do')}")
            writer.write(json.dumps(await work(**request)).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _do_answer(self, *, key: str, ticket_id: int, text: str, to: Sequence[str] = ()) -> dict[str, object]:
        """What the API does for "send": COMMIT A with the idempotency key in the same transaction (F-K10)."""
        house = self._house
        people = tuple(Address(address=address) for address in to)
        answer = Answer(text=text, to=people)
        prepared = await send.prepare(
            house.db, house.blobs, house.keys, ticket_id, answer, agent_id=self._agent_id, actor="agent:ann"
        )
        digest = idempotency.digest("POST", f"/tickets/{ticket_id}/answers", text.encode())

        def effect(conn: Connection) -> tuple[int, bytes]:
            message_id = send.commit(conn, house.keys, prepared, now=house.clock.now())
            return 201, json.dumps({"message": message_id, "header": prepared.message_id_header}).encode()

        _status, body = await house.db.write(idempotency.once, SYSTEM, key, digest, house.clock.now(), effect)
        failpoint("O0.committed")
        house.hub.wake("outbox", "events")
        answered: dict[str, object] = json.loads(body)
        return answered

    async def _do_tickets(self) -> list[list[object]]:
        """Ticket id and subject of every ticket."""
        rows = await self._house.db.read(
            lambda conn: conn.execute(sa.select(ticket.c.id, ticket.c.subject).order_by(ticket.c.id)).all()
        )
        return [[row.id, row.subject] for row in rows]

    async def _do_rest(self, *, rows: int) -> dict[str, int]:
        """Answer when ``rows`` mails are in the ledger and nothing is left to read or to hand over."""
        with self._house.hub.subscribe("events", "outbox") as waiter:
            while True:
                try:
                    counts = await self._house.db.read(_counts)
                except STORE_AWAY:
                    counts = {}  # ask again
                if counts and counts["rows"] >= rows and not any(counts[name] for name in self._work):
                    return counts
                await wait(waiter, REST_SECONDS)

    @property
    def _work(self) -> tuple[str, ...]:
        """The counts of what is still to be done."""
        return ("unread", "unsent", "first_doubts") if self._is_resending else ("unread", "unsent")

    async def _do_ended(self, *, rows: int) -> None:
        """Answer when so many mails have found their place."""
        with self._house.hub.subscribe("events") as waiter:
            while True:
                counts = await self._house.db.read(_counts)
                if counts["rows"] - counts["unread"] >= rows:
                    return
                await wait(waiter, REST_SECONDS)

    async def _do_tried(self, *, message_id: int, times: int) -> None:
        """Answer when an answer has been tried so often, and is not just being tried."""
        query = sa.select(outbox_table.c.attempts, outbox_table.c.state).where(outbox_table.c.message_id == message_id)
        with self._house.hub.subscribe("events", "outbox") as waiter:
            while True:
                row = await self._house.db.read(lambda conn: conn.execute(query).one())
                if row.attempts >= times and row.state != "leased":
                    return
                await wait(waiter, REST_SECONDS)

    async def _do_again(self, *, message_id: int) -> int:
        """What a person's *Send again* does."""
        house = self._house
        number = await house.db.write(
            outbox.send_again, house.keys, message_id, actor="agent:ann", now=house.clock.now()
        )
        house.hub.wake("outbox", "events")
        return number

    async def _do_replay(self) -> int:
        """Give every quarantined mail new attempts; return how many there were."""
        house = self._house

        def replay(conn: Connection) -> int:
            query = sa.select(ledger_table.c.id).where(ledger_table.c.state == "quarantined")
            found = list(conn.execute(query).scalars())
            for ledger_id in found:
                ledger.replay(conn, ledger_id, now=house.clock.now())
            return len(found)

        count = await house.db.write(replay)
        house.hub.wake(*(f"ledger:{number}" for number in await house.db.read(channels.versions)))
        return count

    async def _do_delete(self, *, ticket_id: int) -> None:
        """Remove a ticket with everything that hangs on it, as an erasure does."""
        await self._house.db.write(plants.delete_ticket, ticket_id)

    async def _do_poll(self) -> None:
        for number in await self._house.db.read(channels.versions):
            self._house.supervisor.poll_now(number)

    async def _do_status(self, *, message_id: int) -> list[str]:
        rows = await self._house.db.read(
            lambda conn: conn.execute(
                sa.select(delivery.c.status).where(delivery.c.message_id == message_id).order_by(delivery.c.id)
            ).all()
        )
        return [row.status for row in rows]

    async def _do_stop(self) -> None:
        self._stop.set()


def _counts(conn: Connection) -> dict[str, int]:
    def count(query: sa.Select[Any]) -> int:
        return int(conn.execute(query).scalar_one())

    number = sa.func.count()
    return {
        "rows": count(sa.select(number).select_from(ledger_table)),
        "unread": count(sa.select(number).where(ledger_table.c.state.in_(("received", "gap")))),
        "unsent": count(sa.select(number).where(outbox_table.c.state.in_(("waiting", "leased")))),
        "tickets": count(sa.select(number).select_from(ticket)),
        "messages": count(sa.select(number).select_from(message)),
        "first_doubts": count(sa.select(number).where(outbox_table.c.state == "doubt", outbox_table.c.round == 1)),
        "in_doubt": count(sa.select(number).where(delivery.c.detail == "in_doubt")),
        "failing": count(sa.select(number).where(channel.c.out_state == "failing")),
    }


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
