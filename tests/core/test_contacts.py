"""People: one identity per key, who takes part in what, and addresses that nothing is sent to (R3.4, T-A05, T-A12)."""

from __future__ import annotations

import pytest

from core import contacts
from core.contacts import Identity
from core.store import schema
from core.store.database import PostgresDatabase, SqliteDatabase
from tests.ingest.desk import Desk, open_desk
from tests.ingest.letters import letter


@pytest.fixture
async def desk(store: SqliteDatabase | PostgresDatabase) -> Desk:
    return await open_desk(store)


async def add(desk: Desk, key: str, *, address: str = "", kind: str = "email") -> Identity:
    return await desk.db.write(contacts.find_or_add, kind, key, address=address or key, name="N", now=desk.now)


@pytest.mark.proves("T-A12", "R3.4")
async def test_one_key_is_one_person_and_the_first_address_stays(desk: Desk) -> None:
    first = await add(desk, "jane@customer.test", address="Jane@customer.test")
    again = await add(desk, "jane@customer.test", address="jane@CUSTOMER.test")
    assert again == first
    assert first.address == "Jane@customer.test"
    others = [await add(desk, "Jane@customer.test"), await add(desk, "jane@customer.test", kind="telegram")]
    assert len({first.contact_id, *(one.contact_id for one in others)}) == 3
    assert await desk.db.read(contacts.find, "email", "nobody@customer.test") is None


@pytest.mark.proves("T-A05")
async def test_proposed_person_takes_no_part_until_confirmed_and_stays_so(desk: Desk) -> None:
    came = await desk.receive(letter())
    assert came.ticket
    ticket_id, eve = came.ticket["id"], await add(desk, "eve@evil.test")
    for is_confirmed, takes_part in ((False, False), (True, True), (False, True)):
        await desk.db.write(contacts.add_participant, ticket_id, eve.id, role="cc", is_confirmed=is_confirmed)
        assert await desk.db.read(contacts.is_participant, ticket_id, eve.id) is takes_part
    assert await desk.people(ticket_id) == {"jane@customer.test": True, "eve@evil.test": True}


@pytest.mark.proves("R5.11")
async def test_first_reason_of_a_suppression_stays_until_it_is_lifted(desk: Desk) -> None:
    jane, bob = await add(desk, "jane@customer.test"), await add(desk, "bob@customer.test")
    for why in ("no_such_mailbox", "complaint"):
        await desk.db.write(contacts.suppress, jane.id, why=why, now=desk.now)
    rows = {row["id"]: row for row in await desk.rows(schema.identity)}
    assert (rows[jane.id]["suppressed_at"], rows[jane.id]["suppressed_why"]) == (desk.now, "no_such_mailbox")
    assert rows[bob.id]["suppressed_at"] is None
    for _ in range(2):
        await desk.db.write(contacts.lift_suppression, jane.id)
    rows = {row["id"]: row for row in await desk.rows(schema.identity)}
    assert (rows[jane.id]["suppressed_at"], rows[jane.id]["suppressed_why"]) == (None, "")
