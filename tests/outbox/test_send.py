"""What an answer is made of, whom it goes to by itself, and what can never get into it."""

from __future__ import annotations

import email
import email.policy
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import Conflict, Invalid
from gateway.normalize import tokens
from gateway.normalize.tokens import Purpose
from gateway.normalize.values import Address
from gateway.outbox import send
from gateway.outbox.send import Answer, Upload
from tests.desk.office import ADDRESS, JANE, Office, open_office, question, smtp
from tests.servers.smtp_peer import SmtpPeer

CANARY = "private-canary"
HEADERS = [
    *("From", "To", "Reply-To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "X-Gatehouse-Loop"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
]


@pytest.fixture
async def office(store_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(store_url, tmp_path) as made:
        await made.furnish(smtp(1))
        yield made


async def made(office: Office, ticket: int, **more: Any) -> EmailMessage:
    """The mail as it would leave, read by another parser."""
    prepared = await office.prepare(ticket, Answer(**({"text": "It comes tomorrow."} | more)))
    assert prepared.small_raw is not None
    assert hashlib.sha256(prepared.small_raw).hexdigest() == prepared.raw_digest
    read = email.message_from_bytes(prepared.small_raw, policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


@pytest.mark.proves("T-C08", "R4.2", "R3.1")
async def test_an_answer_names_the_channel_the_thread_and_a_signed_way_back(office: Office) -> None:
    ticket = await office.ticket(question(more="References: <first@customer.test> <second@customer.test>\r\n"))
    mail = await made(office, ticket)
    assert mail.keys() == HEADERS
    assert (mail["From"], mail["To"]) == (f"Ana <{ADDRESS}>", f"Jane <{JANE}>")
    assert mail["In-Reply-To"] == "<q1@customer.test>"
    assert mail["References"].split() == ["<first@customer.test>", "<second@customer.test>", "<q1@customer.test>"]
    way_back = tokens.of_address(mail["Reply-To"].addresses[0].addr_spec, office.keys.tokens, Purpose.REPLY)
    named = tokens.of_message_id(mail["Message-ID"], office.keys.tokens)
    assert way_back is not None
    assert named is not None
    assert (way_back.ticket_id, way_back.nonce) == (named.ticket_id, named.nonce) == (ticket, named.nonce)
    assert mail.get_content().replace("\r\n", "\n") == "It comes tomorrow.\n\n-- \nThe Corner Shop\n"


@pytest.mark.proves("R4.2")
async def test_a_mailbox_without_plus_addresses_gets_none(office: Office) -> None:
    async with SmtpPeer() as peer:
        await office.configure(smtp(peer.port), plus_addressing=False)
        ticket = await office.ticket()
        assert (await made(office, ticket))["Reply-To"] is None
        await office.answer(ticket)
        await office.work()
    assert peer.accepted[0].sender == ADDRESS


@pytest.mark.proves("T-C05")
async def test_nothing_that_is_not_said_to_this_person_is_in_the_bytes(office: Office) -> None:
    ticket = await office.ticket()
    own = await made(office, ticket)
    await office.ticket(question("x1", sender="carl@other.test", subject=f"{CANARY} one", text=f"{CANARY} two"))
    ours = await office.header(await office.answer(ticket))
    aside = question("x2", sender="mallory@evil.test", subject=CANARY, text=CANARY, more=f"In-Reply-To: <{ours}>\r\n")
    assert (await office.receive(aside)).ticket_id == ticket
    robot = "Auto-Submitted: auto-replied\r\nIn-Reply-To: <q1@customer.test>\r\nReply-To: no-reply@customer.test\r\n"
    await office.receive(question("x3", subject=CANARY, text=CANARY, more=robot))
    mail = await made(office, ticket)
    for word in (CANARY, "carl", "mallory", "Petrova", "ana@desk.test", "x2@", "x3@", "no-reply"):
        assert word not in mail.as_string()
    assert [mail[name] for name in ("To", "In-Reply-To", "References")] == [
        own[name] for name in ("To", "In-Reply-To", "References")
    ]


@pytest.mark.proves("R4.2", "T-C01")
@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("Where is it?", "Re: Where is it?"),
        ("Re: AW: SV: Where is it?", "Re: Where is it?"),
        ("RE[4]: Fwd: Where is it?", "Re: Where is it?"),
        ("Reply: me", "Re: Reply: me"),
        ("", "Re: your message"),
        ("=?utf-8?q?a=0D=0ABcc:_evil@x.test?=", "Re: a  Bcc: evil@x.test"),
        ("=?utf-8?b?8J+Tpg==?=", "Re: \N{PACKAGE}"),
    ],
)
async def test_subject_is_answered_once_and_on_one_line(office: Office, subject: str, shown: str) -> None:
    mail = await made(office, await office.ticket(question(subject=subject)))
    assert " ".join(mail["Subject"].split()) == " ".join(shown.split())
    assert mail.keys() == HEADERS


@pytest.mark.proves("F-Z06", "T-C01")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(subject=st.text(max_size=80), name=st.text(max_size=40), text=st.text(min_size=1, max_size=60))
async def test_no_subject_name_or_text_makes_a_ticket_unanswerable(
    office: Office, subject: str, name: str, text: str
) -> None:
    head = (
        f"From: {name} <{JANE}>\r\nSubject: {subject}\r\nMessage-ID: <h{office.uids}@customer.test>\r\n\r\n{text}\r\n"
    )
    found = await office.receive(head.encode("utf-8", "replace"))
    if found.ticket_id is None:
        return
    mail = await made(office, found.ticket_id, text=f"{text}.", to=(Address(name=name, address=JANE),))
    assert set(mail.keys()) <= set(HEADERS)
    assert len(mail.keys()) == len(set(mail.keys()))


@pytest.mark.proves("T-A06")
@pytest.mark.parametrize(
    ("more", "to"),
    [
        ("", JANE),
        ("Reply-To: orders@customer.test\r\n", "orders@customer.test"),
        ("Reply-To: mallory@evil.test\r\n", JANE),
        ("Reply-To: a@customer.test, b@customer.test\r\n", JANE),
        ("Reply-To: jane@customer.test.evil.test\r\n", JANE),
    ],
)
async def test_an_answer_goes_to_a_near_reply_to_or_to_whoever_asked(office: Office, more: str, to: str) -> None:
    mail = await made(office, await office.ticket(question(more=more)))
    assert [one.addr_spec for one in mail["To"].addresses] == [to]


@pytest.mark.proves("T-C02", "R5.9")
@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ({"text": "  \n"}, "text"),
        ({"text": "x" * 200_001}, "text"),
        ({"to": (Address(address="not an address"),)}, "to"),
        ({"cc": (Address(address="a@b.test\r\nRCPT TO:<x@y.test>"),)}, "cc"),
        ({"bcc": (Address(address="a@b.test>"),)}, "bcc"),
        ({"to": tuple(Address(address=f"a{number}@b.test") for number in range(51))}, "to"),
        ({"files": (Upload(name="a", content_type="a/b", content=b"x" * (25 * 1024 * 1024 + 1)),)}, "files"),
    ],
)
async def test_an_answer_that_cannot_be_sent_names_the_field(
    office: Office, answer: dict[str, Any], field: str
) -> None:
    ticket = await office.ticket()
    with pytest.raises(Invalid) as refused:
        await made(office, ticket, **answer)
    assert list(refused.value.fields) == [field]


@pytest.mark.proves("R5.9")
@pytest.mark.parametrize("ahead", [timedelta(seconds=-1), timedelta(days=367)])
async def test_an_answer_leaves_neither_in_the_past_nor_in_years(office: Office, ahead: timedelta) -> None:
    ticket = await office.ticket()
    with pytest.raises(Invalid) as refused:
        await made(office, ticket, send_at=office.clock.now() + ahead)
    assert list(refused.value.fields) == ["send_at"]


@pytest.mark.proves("R5.2")
async def test_each_address_is_written_to_once_in_its_strongest_role(office: Office) -> None:
    ticket = await office.ticket()
    to, cc = (Address(address="Ann@A.test"),), (Address(address="ann@a.test"), Address(address="bob@b.test"))
    message = await office.answer(ticket, to=to, cc=cc, bcc=cc)
    assert list(await office.statuses(message)) == ["Ann@A.test", "bob@b.test"]


async def test_an_answer_to_an_old_version_of_the_ticket_is_refused_whole(office: Office) -> None:
    ticket = await office.ticket()
    first = await office.prepare(ticket, Answer(text="One", version=1))
    second = await office.prepare(ticket, Answer(text="Two", version=1))
    await office.db.write(send.commit, office.keys, first, now=office.clock.now())
    with pytest.raises(Conflict):
        await office.db.write(send.commit, office.keys, second, now=office.clock.now())


async def test_without_a_way_out_nothing_is_promised(office: Office) -> None:
    ticket = await office.ticket()
    await office.configure(None)
    with pytest.raises(Conflict):
        await office.prepare(ticket, Answer(text="Hello"))
