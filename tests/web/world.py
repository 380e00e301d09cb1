"""A house with things in it: two departments with a channel, tickets, answers, files and ledger rows each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy import Connection

from core import channels, contacts, deliveries, departments, ledger, messages, tickets
from core.access import SYSTEM, Role
from core.agents import Agent
from core.ledger import Arrival
from core.messages import File
from core.store.schema import ledger as ledger_table
from core.store.schema import message, outbox, ticket
from gateway.accounts import account_name
from gateway.channels import secrets
from gateway.channels.email_config import EmailConfig, Imap, Smtp
from gateway.outbox import send
from gateway.outbox.send import Answer, Upload
from gateway.web.api.all_routes import ROUTES
from tests.web.conftest import MakeSite, Site

PASSWORD_CANARY = "mailbox-password-canary"
RAW = b"From: jane@customer.test\r\nSubject: Help\r\n\r\nIt is broken.\r\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A department's things, by their public ids. ``quarantined`` is a ledger row."""

    department: str
    department_id: int
    channel: str
    channel_id: int
    code: str
    ticket_id: int
    inbound: str
    attachment: str
    content: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    message: str
    message_id: int
    delivery: str
    outbox_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Departments ``Support`` and ``Sales``; ``people`` and ``headers`` by name."""

    site: Site
    support: Place
    sales: Place
    people: dict[str, Agent]
    headers: dict[str, dict[str, str]]

    async def call(self, who: str, method: str, path: str, body: Any = None, **more: str) -> tuple[int, Any]:
        """Return status and answer; ``more`` are headers with _ for -."""
        headers = self.headers[who] | {name.replace("_", "-"): value for name, value in more.items()}
        url = path if path.startswith("/api/") else f"/api/v1{path}"
        async with self.site.client.request(method, url, headers=headers, json=body) as answer:
            is_json = answer.content_type.endswith("json")
            return answer.status, await answer.json(content_type=None) if is_json else await answer.read()


#: Name, role and departments of everybody in ``World``.
PEOPLE: tuple[tuple[str, Role, tuple[str, ...]], ...] = (
    ("ann", Role.AGENT, ("Support",)),
    ("eve", Role.AGENT, ("Sales",)),
    ("both", Role.AGENT, ("Support", "Sales")),
    ("none", Role.AGENT, ()),
    ("admin", Role.ADMIN, ()),
    ("owner", Role.OWNER, ()),
)


async def open_world(make_site: MakeSite, **more: Any) -> World:
    site = await make_site(ROUTES, **more)
    support, sales = await furnish(site, "Support"), await furnish(site, "Sales")
    people = {name: await site.add(name, role, *places) for name, role, places in PEOPLE}
    headers = {name: await site.key(person) for name, person in people.items()}
    return World(site=site, support=support, sales=sales, people=people, headers=headers | {"stranger": {}})


def config_of(address: str, **more: Any) -> EmailConfig:
    return EmailConfig(
        address=address,
        imap=Imap(host="imap.test", port=993, user=address, password=SecretStr(PASSWORD_CANARY)),
        smtp=Smtp(host="smtp.test", port=465, user=address, password=SecretStr(PASSWORD_CANARY)),
        **more,
    )


async def furnish(site: Site, name: str) -> Place:
    """Give the department ``name``, which is made if it is not there, a channel and a ticket with a file."""
    db = site.services.db
    content = f"file of {name}".encode()
    digest = await site.services.blobs.put(content)
    return await db.write(_furnish, site, name, content, digest)


def _furnish(conn: Connection, site: Site, name: str, content: bytes, digest: str) -> Place:
    now = site.clock.now()
    known = {item.name: item for item in departments.list_visible(conn, SYSTEM, limit=1000)}
    place = known.get(name) or departments.create(conn, site.house, name=name)
    address = f"{name.lower()}@desk.test"
    plain, sealed = secrets.split(config_of(address))
    channel_id = channels.add(
        conn, site.services.keys, kind="email", name=name, address=address, department_id=place.id, config=plain,
        secrets=sealed, account=account_name(config_of(address)), now=now,
    )  # fmt: skip
    code, ticket_id, inbound, attachment = add_ticket(conn, site, place.id, channel_id, content, digest)
    return Place(
        department=place.public_id,
        department_id=place.id,
        channel=next(row["public_id"] for row in channels.rows(conn) if row["id"] == channel_id),
        channel_id=channel_id,
        code=code,
        ticket_id=ticket_id,
        inbound=inbound,
        attachment=attachment,
        content=content,
    )


def add_ticket(
    conn: Connection, site: Site, department_id: int, channel_id: int, content: bytes, digest: str, number: int = 1
) -> tuple[str, int, str, str]:
    """Return code, id, public id of its message and of the message's file."""
    now = site.clock.now() + timedelta(seconds=number)
    person = contacts.find_or_add(
        conn, "email", f"jane{department_id}@customer.test", address=f"jane{department_id}@customer.test", name="Jane",
        now=now,
    )  # fmt: skip
    ticket_id = tickets.create(
        conn, subject=f"Help {number}", department_id=department_id, contact_id=person.contact_id,
        channel_id=channel_id, language="en", now=now,
    )  # fmt: skip
    contacts.add_participant(conn, ticket_id, person.id, role="requester", is_confirmed=True)
    raw = RAW + str(ticket_id).encode()
    raw_digest = hashlib.sha256(raw).hexdigest()
    arrival = Arrival(
        folder="INBOX", uidvalidity=1, uid=ticket_id, raw_digest=raw_digest, small_raw=raw, raw_bytes=len(raw)
    )
    ledger.record(conn, channel_id, "me", [arrival], fence=1, now=now)
    row_id = conn.execute(sa.select(sa.func.max(ledger_table.c.id))).scalar_one()
    message_id = messages.add(
        conn,
        {
            "ticket_id": ticket_id, "direction": "in", "channel_id": channel_id, "contact_id": person.contact_id,
            "from_name": "Jane", "from_address": person.address, "to": [], "cc": [], "reply_to": [],
            "subject": "Help", "text": "It is broken.", "reply_text": "It is broken.",
            "message_id_header": f"<{ticket_id}@customer.test>", "in_reply_to": [], "references": [],
            "threading": {"evidence": "new", "sureness": "certain", "words": "New"}, "automatic": {}, "warnings": [],
            "raw_digest": raw_digest, "ledger_id": row_id, "created_at": now,
        },
        [File(name="report.txt", content_type="text/plain", digest=digest, size_bytes=len(content))],
    )  # fmt: skip
    ledger.finish(
        conn, row_id, "ticketed", now=now, message_id=message_id, ticket_id=ticket_id,
        canonical_digest=raw_digest, message_id_header=f"<{ticket_id}@customer.test>", sender=person.address,
    )  # fmt: skip
    code = conn.execute(sa.select(ticket.c.code).where(ticket.c.id == ticket_id)).scalar_one()
    public = conn.execute(sa.select(message.c.public_id).where(message.c.id == message_id)).scalar_one()
    file = messages.files_of(conn, [message_id])[message_id][0]["public_id"]
    return code, ticket_id, public, file


async def send_answer(site: Site, place: Place, agent_id: int, **more: Any) -> Sent:
    """Promise an answer that falls due at once."""
    services = site.services
    answer = Answer(text="We look into it.", **more)
    prepared = await send.prepare(
        services.db, services.blobs, services.keys, place.ticket_id, answer, agent_id=agent_id, actor="agent:x"
    )

    def commit(conn: Connection) -> Sent:
        message_id = send.commit(conn, services.keys, prepared, now=site.clock.now())
        row = deliveries.of_message(conn, message_id)[0]
        public = conn.execute(sa.select(message.c.public_id).where(message.c.id == message_id)).scalar_one()
        outbox_id = conn.execute(sa.select(outbox.c.id).where(outbox.c.message_id == message_id)).scalar_one()
        return Sent(message=public, message_id=message_id, delivery=row["public_id"], outbox_id=outbox_id)

    return await services.db.write(commit)


async def quarantine(site: Site, place: Place, uid: int = 900) -> str:
    """Put a message that cannot be read into the place's quarantine; return the row's public id."""

    def put(conn: Connection) -> str:
        now = site.clock.now()
        digest = hashlib.sha256(RAW).hexdigest()
        arrival = Arrival(folder="INBOX", uidvalidity=1, uid=uid, raw_digest=digest, small_raw=RAW, raw_bytes=len(RAW))
        ledger.record(conn, place.channel_id, "me", [arrival], fence=1, now=now)
        row_id = conn.execute(sa.select(sa.func.max(ledger_table.c.id))).scalar_one()
        for _ in range(ledger.MAX_ATTEMPTS):
            conn.execute(sa.update(ledger_table).where(ledger_table.c.id == row_id).values(attempts=3))
            ledger.fail(conn, row_id, "cannot be read", now=now)
        return str(conn.execute(sa.select(ledger_table.c.public_id).where(ledger_table.c.id == row_id)).scalar_one())

    return await site.services.db.write(put)


def text_file(name: str = "note.txt", content: bytes = b"hello") -> Upload:
    return Upload(name=name, content_type="text/plain", content=content)
