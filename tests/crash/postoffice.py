"""A real Postfix as the next server, and what it reports: truth about answers that are taken now and fail later.

Postfix hands on to the peer that logs what it accepts; that peer offers no DSN, so Postfix itself reports every fate,
by LMTP into the mailbox that the house reads. What Postfix took is counted by the copies that it archives, what it
reported by the files in the mailbox. No fate is decided by a time: who waits here waits for an empty queue.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message

import sqlalchemy as sa
from sqlalchemy import Connection

from core.delivery import Detail, Status
from core.store.schema import delivery, evidence, message
from core.store.schema import ledger as ledger_table
from gateway.outbox.evidence import ACTIONS
from tests.crash.mailbox import DovecotMailbox
from tests.crash.oracles import bare, sent_once_more
from tests.crash.truth import Truth
from tests.servers.postfix import Postfix, archived

REFUSED_DOMAIN = "refused.test"  # the one that Postfix refuses in the dialogue


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One delivery report as its raw bytes say it, read by nothing of the house's."""

    digest: str
    header: str  #: of the mail that it is about
    actions: tuple[tuple[str, str], ...]  #: recipient, RFC 3464 action


class PostOffice:
    """A Postfix with the mailbox that its reports come to."""

    def __init__(self, postfix: Postfix, mailbox: DovecotMailbox) -> None:
        self.postfix = postfix
        self.mailbox = mailbox

    async def until_archived(self) -> None:
        """Wait until a copy of everything that was taken stands in the truth."""
        await self._until(lambda queue: not any(archived(address) for mail in queue for address in _addresses(mail)))

    async def until_empty(self) -> None:
        """Wait until every fate is known and every report is in the mailbox."""
        await self._until(lambda queue: not queue)

    async def _until(self, is_done: Callable[[list[dict[str, object]]], bool]) -> None:
        while not is_done(await asyncio.to_thread(self._queue)):  # noqa: ASYNC110  # it answers when asked only
            await asyncio.sleep(0.2)

    def _queue(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.postfix.queue()]

    def reports(self, truth: Truth) -> dict[str, Report]:
        """By digest, every mail in the mailbox that no customer wrote."""
        found = self.mailbox.raws()
        return {digest: read_report(raw) for digest, raw in found.items() if digest not in truth.times}


def _addresses(mail: Mapping[str, object]) -> list[str]:
    recipients = mail["recipients"]
    assert isinstance(recipients, list)
    return [recipient["address"] for recipient in recipients]


@asynccontextmanager
async def open_postoffice(mailbox: DovecotMailbox, *, peer_port: int) -> AsyncIterator[PostOffice]:
    postfix = Postfix(lmtp_port=mailbox.server.lmtp_port, remote_port=peer_port, is_archiving=True)
    await asyncio.to_thread(postfix.__enter__)
    try:
        yield PostOffice(postfix, mailbox)
    finally:
        await asyncio.to_thread(postfix.__exit__, None, None, None)


def read_report(raw: bytes) -> Report:
    """Read a report of Postfix with the standard library."""
    mail = email.message_from_bytes(raw, policy=email.policy.compat32)
    actions: list[tuple[str, str]] = []
    header = ""
    for part in mail.walk():
        kind = part.get_content_type()
        blocks = part.get_payload()
        if kind == "message/delivery-status" and isinstance(blocks, list):
            actions += [
                (str(block["Final-Recipient"]).partition(";")[2].strip(), str(block["Action"]))
                for block in blocks
                if isinstance(block, Message) and block["Final-Recipient"]
            ]
        elif kind == "text/rfc822-headers" and isinstance(blocks, str):
            header = bare(email.message_from_string(blocks)["Message-ID"])
    return Report(digest=hashlib.sha256(raw).hexdigest(), header=header, actions=tuple(actions))


def reports_taken(conn: Connection, reports: Mapping[str, Report]) -> list[str]:
    """1: each report is evidence about the answer that it names, once, and nothing else."""
    query = sa.select(ledger_table, message.c.message_id_header.label("of_answer")).outerjoin(
        message, message.c.id == ledger_table.c.message_id
    )
    rows: dict[str, list[sa.RowMapping]] = defaultdict(list)
    for row in conn.execute(query).mappings():
        rows[row["raw_digest"] or ""].append(row)
    wrong = []
    for digest, report in reports.items():
        name = f"the report {digest[:12]} about {report.header}"
        if not report.header or not report.actions:
            wrong.append(f"o1: {name} is a mail that nobody is known to have sent")
            continue
        places = [(row["state"], row["outcome"], bare(row["of_answer"])) for row in rows[digest]]
        if places != [("done", "evidence", report.header)]:
            wrong.append(f"o1: {name} ended as {places}")
    return wrong


def fates(conn: Connection, truth: Truth, reports: Mapping[str, Report]) -> list[str]:
    """4 and 5 at rest: what is shown is what became of each copy, and what was reported is in the evidence."""
    taken = Counter((accept.header, address) for accept in truth.accepts() for address in accept.recipients)
    arrived = Counter((accept.header, address) for accept in truth.arrivals() for address in accept.recipients)
    told: dict[tuple[str, str], set[str]] = defaultdict(set)
    for report in reports.values():
        for address, action in report.actions:
            told[report.header, address].add(action)
    kinds: dict[int, set[str]] = defaultdict(set)
    for fact in conn.execute(sa.select(evidence.c.delivery_id, evidence.c.fact)):
        kinds[fact.delivery_id].add(fact.fact)
    resent = sent_once_more(conn)
    wrong = [
        f"o4: {copy[1]} got {count} copies of {copy[0]}"
        for copy, count in arrived.items()
        if count > 1 + truth.again[copy[0]] + (copy in resent)
    ]
    query = sa.select(delivery, message.c.message_id_header).join(message, message.c.id == delivery.c.message_id)
    for row in conn.execute(query).mappings():
        copy = bare(row["message_id_header"]), row["address"]
        name = f"{copy[1]} of {copy[0]}"
        actions = told[copy]
        if taken[copy] and not actions & {"failed", "relayed"}:
            wrong.append(f"o0: Postfix took {name}, and neither handed it on nor returned it")
        if arrived[copy] and "failed" in actions:
            wrong.append(f"o0: Postfix handed on {name}, and returned it too")
        if missing := {ACTIONS[action].value for action in actions} - kinds[row["id"]]:
            wrong.append(f"o5: {name} was reported as {sorted(missing)}, and the evidence does not say so")
        shown = row["status"], row["detail"]
        if not _is_true(*shown, actions=actions, is_taken=bool(taken[copy]), domain=row["domain"]):
            wrong.append(f"o5: {name} is shown as {shown}; taken {taken[copy]} times, reported {sorted(actions)}")
    return wrong


def _is_true(status: str, detail: str, *, actions: set[str], is_taken: bool, domain: str) -> bool:
    """The table of FAULTS section 4.3 for a server that reports everything."""
    if "failed" in actions:
        return status == Status.NOT_DELIVERED
    if is_taken:
        return status == Status.SENT
    if domain == REFUSED_DOMAIN and status == Status.NOT_DELIVERED:
        return detail == Detail.REFUSED
    return (status, detail) == (Status.DELAYED, Detail.IN_DOUBT)
