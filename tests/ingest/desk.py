"""A desk on a throwaway store, without a mail server: mails are journalled, claimed and settled in one call."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from core import channels, deliveries, ledger, messages, outbox, tickets
from core.clock import Clock
from core.delivery import Evidence, Fact
from core.ids import public_id
from core.keys import Keys
from core.outbox import Claimed
from core.store.database import Database
from core.store.schema import agent, department, identity, message, participant
from core.store.schema import ledger as ledger_table
from gateway.accounts import account_name, own_keys
from gateway.channels.email_config import EmailConfig, Smtp
from gateway.entering import ChannelView, Settled
from gateway.normalize import tokens
from gateway.normalize.mail import read_mail
from gateway.normalize.tokens import Purpose, Token
from gateway.normalize.values import Address
from gateway.outbox.send import Answer, commit, prepare
from gateway.settle import settle
from tests.ingest.letters import DESK

KEYS = Keys(bytes(range(32)))
AUTHSERV = "mx.desk.test"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class NoBlobs:
    """Answers without attachments are small: they never come here."""

    async def put(self, content: bytes) -> str:
        raise AssertionError("a blob in a test without blobs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Came:
    """What one mail became."""

    settled: Settled
    ledger: dict[str, Any]
    message: dict[str, Any] | None
    ticket: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """An answer of ours, and the signs that it left with."""

    message_id: int
    header: str
    nonce: int
    ticket_id: int

    def reply_address(self) -> str:
        return tokens.plus_address(DESK, self._signed(Purpose.REPLY))

    def return_address(self, round_number: int = 1) -> str:
        return tokens.plus_address(DESK, self._signed(Purpose.RETURN, round_number))

    def envelope_id(self, round_number: int = 1) -> str:
        return self._signed(Purpose.ENVELOPE, round_number)

    def loop_marker(self) -> str:
        return self._signed(Purpose.LOOP)

    def _signed(self, purpose: Purpose, round_number: int = 1) -> str:
        token = Token(purpose=purpose, ticket_id=self.ticket_id, nonce=self.nonce, round=round_number)
        return tokens.sign(token, KEYS.tokens)


@dataclass(slots=True)
class Desk:
    db: Database
    view: ChannelView
    agent_id: int
    account: str
    now: datetime = NOON
    uids: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))

    @property
    def channel_id(self) -> int:
        return self.view.channel_id

    async def journal(self, raw: bytes, *, folder: str = "INBOX", uidvalidity: int = 1, uid: int | None = None) -> int:
        """COMMIT 1 for one mail; return its ledger id."""
        return await self.db.write(self._journal, raw, folder, uidvalidity, uid)

    async def receive(
        self, raw: bytes, *, folder: str = "INBOX", uidvalidity: int = 1, uid: int | None = None, **view: Any
    ) -> Came:
        """Take and settle one mail. ``view`` replaces what is known of the channel."""
        return await self.db.write(self._receive, raw, folder, uidvalidity, uid, replace(self.view, **view))

    async def answer(self, ticket_id: int, *to: str, text: str = "Dear customer, it is on its way.") -> Sent:
        wanted = Answer(text=text, to=tuple(Address(address=one) for one in to))
        blobs: Any = NoBlobs()
        made = await prepare(self.db, blobs, KEYS, ticket_id, wanted, agent_id=self.agent_id, actor="agent")
        at_once = replace(made, due_at=self.now)  # it was prepared by the clock on the wall
        message_id = await self.db.write(commit, KEYS, at_once, now=self.now)
        return Sent(message_id=message_id, header=made.message_id_header, nonce=made.nonce, ticket_id=ticket_id)

    async def claim(self, sent: Sent) -> Claimed:
        """A worker has it in hand and is about to send the final dot."""
        return await self.db.write(self._claim, sent)

    async def accept(self, sent: Sent) -> None:
        await self.finish(await self.claim(sent), Fact.ACCEPTED)

    async def finish(self, claimed: Claimed, fact: Fact) -> str:
        facts = {
            number: Evidence(fact=fact, round=claimed.round, attempt=claimed.attempt, at=self.now, source="smtp")
            for number in claimed.deliveries
        }
        return await self.db.write(outbox.finish, KEYS, claimed, facts, retry_at=self.now, now=self.now)

    async def status(self, sent: Sent) -> dict[str, str]:
        """Address -> status."""
        rows = await self.db.read(deliveries.of_message, sent.message_id)
        return {row["address"]: row["status"] for row in rows}

    async def set_status(self, ticket_id: int, status: str) -> None:
        await self.db.write(self._set_status, ticket_id, status)

    async def ticket(self, ticket_id: int) -> dict[str, Any]:
        row = await self.db.read(tickets.get, ticket_id)
        return dict(row)

    async def people(self, ticket_id: int) -> dict[str, bool]:
        """Address -> whether confirmed, of everybody in a ticket."""
        return await self.db.read(_people, ticket_id)

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        return await self.db.read(_rows, table)

    def _journal(self, conn: Connection, raw: bytes, folder: str, uidvalidity: int, uid: int | None) -> int:
        number = next(self.uids) if uid is None else uid
        arrival = ledger.Arrival(
            folder=folder, uidvalidity=uidvalidity, uid=number, raw_digest=hashlib.sha256(raw).hexdigest(),
            small_raw=raw, raw_bytes=len(raw),
        )  # fmt: skip
        ledger.record(conn, self.channel_id, self.account, [arrival], fence=1, now=self.now)
        found = sa.select(ledger_table.c.id).where(
            ledger_table.c.folder == folder, ledger_table.c.uidvalidity == uidvalidity, ledger_table.c.uid == number
        )
        return int(conn.execute(found).scalar_one())

    def _receive(
        self, conn: Connection, raw: bytes, folder: str, uidvalidity: int, uid: int | None, view: ChannelView
    ) -> Came:
        ledger_id = self._journal(conn, raw, folder, uidvalidity, uid)
        works = ledger.claim(conn, self.channel_id, limit=1, now=self.now)
        assert [work.id for work in works] == [ledger_id], "something else was waiting"
        mail = read_mail(raw)
        sizes = [item.size_bytes for item in mail.attachments]
        done = settle(conn, KEYS, view, works[0], mail, sizes=sizes, now=self.now)
        row = conn.execute(sa.select(ledger_table).where(ledger_table.c.id == ledger_id)).mappings().one()
        # a message of this very mail: a repeat and a report name one that was there before
        written = conn.execute(sa.select(*messages.COLUMNS).where(message.c.ledger_id == ledger_id)).mappings().first()
        found = tickets.get(conn, done.ticket_id) if done.ticket_id is not None else None
        return Came(
            settled=done,
            ledger=dict(row),
            message=dict(written) if written else None,
            ticket=dict(found) if found else None,
        )

    def _claim(self, conn: Connection, sent: Sent) -> Claimed:
        row = outbox.lock(conn, sent.message_id)
        later = _At(self.now + timedelta(days=3650))  # whatever the clock says, it is due
        (claimed,) = outbox.claim(conn, [row["id"]], owner="node", lease=timedelta(days=3650), clock=later)
        return outbox.cross_line_of_doubt(conn, KEYS, claimed, list(claimed.deliveries), clock=later)

    def _set_status(self, conn: Connection, ticket_id: int, status: str) -> None:
        row = tickets.get(conn, ticket_id)
        tickets.change(conn, row, {"status": status}, version=None, actor="agent", now=self.now)


class _At(Clock):
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


async def open_desk(db: Database, *, authserv_id: str | None = AUTHSERV, aliases: tuple[str, ...] = ()) -> Desk:
    config = EmailConfig(
        address=DESK, aliases=aliases, smtp=Smtp(host="127.0.0.1", port=1, security="plain"), undo_seconds=0
    )
    channel_id, agent_id, department_id = await db.write(_seed, config)
    view = ChannelView(
        channel_id=channel_id, kind="email", department_id=department_id, reopen_days=14, own_keys=own_keys(config),
        authserv_id=authserv_id,
    )  # fmt: skip
    return Desk(db=db, view=view, agent_id=agent_id, account=account_name(config))


def _seed(conn: Connection, config: EmailConfig) -> tuple[int, int, int]:
    made = {"public_id": public_id(), "name": "Support", "created_at": NOON}
    department_id = conn.execute(sa.insert(department).returning(department.c.id), made).scalar_one()
    person = {"public_id": public_id(), "email": "ana@desk.test", "name": "Ana", "role": "agent", "created_at": NOON}
    agent_id = conn.execute(sa.insert(agent).returning(agent.c.id), person).scalar_one()
    channel_id = channels.add(
        conn, KEYS, kind="email", name="Support", address=DESK, department_id=department_id,
        config=config.model_dump(mode="json"), secrets={}, account=account_name(config), now=NOON,
    )  # fmt: skip
    return channel_id, agent_id, department_id


def _people(conn: Connection, ticket_id: int) -> dict[str, bool]:
    query = (
        sa.select(identity.c.address, participant.c.is_confirmed)
        .join(identity, identity.c.id == participant.c.identity_id)
        .where(participant.c.ticket_id == ticket_id)
    )
    return {row.address: row.is_confirmed for row in conn.execute(query)}


def _rows(conn: Connection, table: Table) -> list[dict[str, Any]]:
    return [dict(row) for row in conn.execute(sa.select(table).order_by(table.c.id)).mappings()]
