"""What others try through the signed addresses of a ticket: sign-up codes of third parties, and mail as an agent."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from core.store import schema
from tests.ingest.desk import Desk
from tests.ingest.letters import letter

STORES = ("sqlite",)
CODE = "Your sign-up code is 918273"


def _raws(conn: Connection) -> list[bytes]:
    return [bytes(content) for content in conn.execute(sa.select(schema.raw.c.content)).scalars()]


@pytest.mark.proves("T-A04", "T-C05")
async def test_a_sign_up_code_sent_to_a_reply_address_never_reaches_the_customer(desk: Desk) -> None:
    """A customer gives the ticket's reply address to a third party as if it were their own."""
    first = await desk.receive(letter())
    assert first.ticket
    sent = await desk.answer(first.ticket["id"])
    came = await desk.receive(letter("no-reply@service.test", to=sent.reply_address(), text=CODE))
    assert came.message
    assert came.message["is_held_aside"]
    await desk.answer(first.ticket["id"], text="Anything else?")
    mails = await desk.db.read(_raws)
    outgoing = [mail for mail in mails if b"X-Gatehouse-Loop:" in mail]
    assert len(outgoing) == 2
    assert not [mail for mail in outgoing if b"918273" in mail or b"service.test" in mail]
    assert await desk.people(first.ticket["id"]) == {"jane@customer.test": True}


@pytest.mark.proves("T-A09", "T-A10")
@pytest.mark.parametrize("passed", ["desk.test", None])
async def test_mail_in_an_agents_name_answers_and_commands_nothing(desk: Desk, passed: str | None) -> None:
    first = await desk.receive(letter())
    assert first.ticket
    sent = await desk.answer(first.ticket["id"])
    before = await desk.ticket(first.ticket["id"])
    spoken = {"X_Gatehouse_Ticket": "1", "X_Gatehouse_Agent": "ana@desk.test", "X_Priority": "1", "Control": "close"}
    came = await desk.receive(
        letter("ana@desk.test", to=sent.reply_address(), text="Refund granted.\n#close", passed=passed, **spoken)
    )
    assert came.message
    assert (came.message["direction"], came.message["agent_id"]) == ("in", None)
    assert came.message["is_held_aside"]
    assert await desk.ticket(first.ticket["id"]) == before
    assert len(await desk.rows(schema.outbox)) == 1, "a mail made an answer"
