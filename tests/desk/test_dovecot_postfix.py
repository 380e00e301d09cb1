"""The whole desk between the distribution's Dovecot and Postfix, by configuration alone: nothing here is our double.

``-s`` prints what became of each answer and by which evidence.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.desk.program import Program, serving
from tests.servers import dovecot
from tests.servers.dovecot import PASSWORD, Dovecot
from tests.servers.postfix import Postfix, postfix_server
from tests.servers.smtp_peer import EXTENSIONS, SmtpPeer

__all__ = ["postfix_server"]  # the fixture

pytestmark = [pytest.mark.dovecot, pytest.mark.postfix]
QUESTION = (
    b"From: Jane Doe <jane@ok.test>\r\nTo: support@desk.test\r\nSubject: Re: AW: Where is my parcel?\r\n"
    b"Date: Mon, 02 Mar 2026 09:00:00 +0000\r\nMessage-ID: <question@ok.test>\r\nReferences: <first@ok.test>\r\n\r\n"
    b"It should have come on Friday.\r\n"
)
#: Longer than anything on this machine takes, and far below ``poll_seconds``: what comes in time was pushed.
POLL_SECONDS = 300.0
PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """How one recipient's delivery has to end: what it says, and the facts that made it say so, in their order."""

    status: str
    detail: str
    reasons: frozenset[str]
    facts: tuple[str, ...]


FATES = {
    "jane@ok.test": Fate(
        status="sent",
        detail="relayed",
        reasons=frozenset({"", "ok", "relayed"}),
        facts=("final_dot_pending", "accepted", "dsn_relayed"),
    ),
    "nobody@reject.test": Fate(
        status="not_delivered",
        detail="bounced",
        reasons=frozenset({"no_such_mailbox"}),
        facts=("final_dot_pending", "accepted", "dsn_failed"),
    ),
    "someone@slow.test": Fate(
        status="not_delivered",
        detail="bounced",
        reasons=frozenset({"not_reachable", "expired"}),
        facts=("final_dot_pending", "accepted", "dsn_delayed", "dsn_failed"),
    ),
}


@pytest.fixture(scope="module")
def mailboxes() -> Iterator[Dovecot]:
    if dovecot.is_missing():
        sentence = "Dovecot is not installed (Debian: dovecot-imapd dovecot-lmtpd)"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    with Dovecot({"support": PASSWORD}) as server:
        yield server
        server.clear("support")


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """Ask another process until it has something to say."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await look()):  # noqa: ASYNC110  # it answers when asked and calls nobody
            await asyncio.sleep(0.1)
    return found


def channel(mailboxes: Dovecot, postfix: Postfix) -> dict[str, Any]:
    """What an administrator types into the form."""
    return {
        "address": "support@desk.test",
        "name": "Support",
        "undo_seconds": 0,
        "imap": {
            "host": "127.0.0.1",
            "port": mailboxes.imaps_port,
            "security": "tls",
            "ca_file": mailboxes.ca_file,
            "user": "support",
            "password": PASSWORD,
            "after": "seen",
            "poll_seconds": POLL_SECONDS,
        },
        "smtp": {"host": "127.0.0.1", "port": postfix.port, "security": "plain", "notify_success": True},
    }


async def furnish(desk: Program, config: dict[str, Any]) -> str:
    """Department, signature and channel by the API; return the channel's id once its mailbox listens."""
    place = await desk.call("POST", "/departments", {"name": "Support"})
    await desk.call("PATCH", f"/departments/{place['id']}", {"signature": "The Corner Shop"})
    made = await desk.call(
        "POST", "/channels", {"kind": "email", "name": "Support", "department": place["id"], "config": config}
    )

    async def is_listening() -> bool:
        shown = await desk.call("GET", f"/channels/{made['id']}")
        assert shown["way_in"]["state"] != "failing", shown["way_in"]
        return bool(shown["way_in"]["state"] == "working")

    await until(is_listening)
    return str(made["id"])


async def deliveries(desk: Program) -> dict[str, dict[str, Any]]:
    page = await desk.call("GET", "/deliveries")
    return {item["address"]: item for item in page["items"]}


def facts_of(report: dict[str, Any]) -> list[str]:
    return [item["fact"] for item in report["raw"]["facts"]]


def print_transcript(title: str, reports: Sequence[dict[str, Any]]) -> None:
    print(f"\n{title}")
    for report in reports:
        item = report["delivery"]
        print(f"  {item['address']}: {item['status']} ({item['detail']}, {item['reason'] or '-'}) {report['headline']}")
        for fact in report["raw"]["facts"]:
            said = " ".join(str(fact[name]) for name in ("code", "enhanced", "text") if fact[name])
            print(f"    {fact['number']} {fact['fact']:18} {fact['source']:7} {said[:90]}")


@pytest.mark.proves(
    "R1.1", "R4.1", "R4.2", "R5.1", "R5.2", "R5.3", "R5.6", "R5.8", "F-S07", "F-V04", "R2.4", "T-L11", "T-C08"
)
async def test_answers_through_postfix_are_followed_by_reports_in_dovecot_until_their_fate_is_known(
    mailboxes: Dovecot, postfix_server: Callable[..., Postfix], store_url: str, store_kind: str, tmp_path: Path
) -> None:
    mailboxes.clear("support")
    async with SmtpPeer(extensions=[name for name in EXTENSIONS if name != "DSN"]) as peer:
        postfix = await asyncio.to_thread(postfix_server, lmtp_port=mailboxes.lmtp_port, remote_port=peer.port)
        async with serving(tmp_path, store_url) as desk:
            await desk.make_owner()
            await furnish(desk, channel(mailboxes, postfix))

            async def tickets() -> Any:
                return (await desk.call("GET", "/tickets"))["items"]

            await asyncio.to_thread(mailboxes.deliver, "support", QUESTION)
            (ticket,) = await until(tickets)  # within PATIENCE, a fifth of the poll interval: IDLE pushed it
            assert (ticket["subject"], ticket["status"], ticket["contact"]["name"]) == (
                "Re: AW: Where is my parcel?",
                "new",
                "Jane Doe",
            )
            path = f"/tickets/{ticket['code']}"
            await desk.call("POST", f"{path}/answers", {"text": "It comes tomorrow."})
            for address in ("nobody@reject.test", "someone@slow.test"):
                await desk.call("POST", f"{path}/answers", {"text": "For you too.", "to": [{"address": address}]})

            delays: list[dict[str, Any]] = []

            async def is_decided() -> bool:
                now = await deliveries(desk)
                slow = now["someone@slow.test"]
                if slow["detail"] == "delay_reported" and not delays:
                    delays.append(await desk.call("GET", f"/deliveries/{slow['id']}/report"))
                return all(now[address]["detail"] == fate.detail for address, fate in FATES.items())

            await until(is_decided)
            found = await deliveries(desk)
            reports = {name: await desk.call("GET", f"/deliveries/{item['id']}/report") for name, item in found.items()}
            print_transcript(f"Dovecot and Postfix, {store_kind}", [*delays, *reports.values()])
            for address, fate in FATES.items():
                item, report = found[address], reports[address]
                assert (item["status"], item["detail"]) == (fate.status, fate.detail)
                assert item["reason"] in fate.reasons
                assert tuple(facts_of(report)) == fate.facts
                assert report["raw"]["is_chain_whole"]
                assert report["headline"]
            (delay,) = delays
            assert delay["delivery"]["status"] == "delayed"
            assert reports["nobody@reject.test"]["code"] == "550 5.1.1"

            (still,) = await tickets()
            assert (still["code"], still["status"]) == (ticket["code"], "open")  # reopened by what came back
            said = (await desk.call("GET", f"{path}/messages"))["items"]
            assert [item["direction"] for item in said] == ["in", "out", "out", "out"]
            ledger = (await desk.call("GET", "/ledger"))["items"]
            assert sorted(row["outcome"] for row in ledger) == ["evidence"] * 4 + ["ticketed"]

            (answer,) = peer.accepted
            assert answer.recipients == ("jane@ok.test",)
            assert answer.message_id == said[1]["message_id_header"].strip("<>")
            head, _, body = answer.content.partition(b"\r\n\r\n")
            assert b"From: Olga <support@desk.test>\r\n" in head
            assert b"Subject: Re: Where is my parcel?\r\n" in head
            assert b"In-Reply-To: <question@ok.test>\r\n" in head
            assert b"References: <first@ok.test>\r\n <question@ok.test>\r\n" in head
            assert body == b"It comes tomorrow.\r\n\r\n-- \r\nThe Corner Shop\r\n"

            assert await desk.stop() == 0
        assert "Traceback" not in desk.log.read_text()
