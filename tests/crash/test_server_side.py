"""Kills where the mail server holds half of the truth: in the middle of a literal, and after it moved a mail."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from core.store.schema import ledger
from tests.crash import campaign, oracles
from tests.crash.conftest import OpenRig
from tests.crash.desk import ADDRESS
from tests.crash.mailbox import DovecotMailbox
from tests.crash.oracles import report
from tests.servers.imap_peer import Conversation, ImapPeer

pytestmark = pytest.mark.asyncio(loop_scope="session")


class _PeerMailbox:
    """A scripted server in this process: no kill reaches it."""

    user = ADDRESS
    password = "secret"

    def __init__(self, peer: ImapPeer) -> None:
        self.peer = peer
        self.port = peer.port

    async def drop(self, raw: bytes) -> None:
        await self.peer.arrive(max(self.peer.mails, default=0) + 1, raw)

    def seen(self) -> Counter[str] | None:
        return None


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.proves("F-K02", "F-M01")
async def test_kill_in_the_middle_of_a_literal_takes_nothing_and_marks_nothing(make_rig: OpenRig, share: float) -> None:
    async with ImapPeer() as peer:
        half_sent = asyncio.Event()

        async def half(talk: Conversation, _tag: str, rest: str) -> bool:
            if "BODY.PEEK" not in rest:
                return False
            line = peer.fetch_line(1, rest)
            await talk.send_raw(line[: int(len(line) * share)])
            half_sent.set()
            await talk.silence()
            return True

        peer.scripts["FETCH"] = half
        async with make_rig(mailbox=_PeerMailbox(peer), options=["--after", "seen"]) as rig:
            mail = rig.writer.write(is_large=True)
            await rig.offer(mail)
            desk = await rig.start()
            await half_sent.wait()
            await rig.kill(desk)
            assert not peer.marks
            assert not list((rig.folder / "blobs").glob(f"*/{mail.digest}"))
            del peer.scripts["FETCH"]
            desk = await rig.start()
            await rig.rest(desk)
            wrong = await rig.check()
    assert not wrong, report(wrong)


@pytest.mark.proves("F-K02")
async def test_kill_with_half_a_literal_of_dovecot_in_hand_takes_nothing_and_marks_nothing(
    make_rig: OpenRig, store_url: str
) -> None:
    async with make_rig(store_url, options=campaign.options_for(store_url)) as rig:
        if not isinstance(rig.mailbox, DovecotMailbox):
            pytest.skip("needs a server whose marks can be looked at: Dovecot")
        mail = rig.writer.write(is_huge=True)
        await rig.offer(mail)
        desk = await rig.start(failpoint=f"{campaign.HALF_A_LITERAL}:1:kill")
        await rig.death(desk)
        assert desk.ended.result() == campaign.KILLED, rig.tail()
        assert not rig.mailbox.seen()
        assert not list((rig.folder / "blobs").glob(f"*/{mail.digest}"))
        assert await oracles.look(rig.store, _ledger_rows) == 0
        desk = await rig.start()
        assert (await rig.rest(desk) or {})["tickets"] == 1
        await rig.kill(desk)
        wrong = await rig.check()
    assert not wrong, report(wrong)


def _ledger_rows(conn: Connection) -> int:
    return int(conn.execute(sa.select(sa.func.count()).select_from(ledger)).scalar_one())


@pytest.mark.proves("F-K06")
async def test_kill_after_the_server_moved_a_mail_imports_it_once(make_rig: OpenRig) -> None:
    async with make_rig(options=["--after", "move"]) as rig:
        if not isinstance(rig.mailbox, DovecotMailbox):
            pytest.skip("needs a server whose folders can be looked into: Dovecot")
        desk = await rig.start(failpoint="I6:1:kill")
        await rig.offer(rig.writer.write())
        await rig.death(desk)
        box = rig.mailbox
        assert len(box.server.names(box.user, "Archive")) == 1
        await rig.offer(rig.writer.write())
        desk = await rig.start()
        await rig.rest(desk)
        await desk.ask("stop")
        await rig.death(desk)
        assert not box.server.names(box.user)
        wrong = await rig.check()
    assert not wrong, report(wrong)
