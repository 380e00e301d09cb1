"""The same against the distribution's Postfix: a second opinion on what we say (FAULTS section 7)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence

import pytest

from gateway.channels import email_smtp
from gateway.channels.contract import OutcomeKind
from gateway.channels.email_smtp import SmtpSender
from gateway.errors import LeaseLost
from tests.channels.test_email_smtp import CONTENT, MESSAGE_ID, config, handover, kinds, nothing_to_do
from tests.servers.postfix import Postfix, postfix_server
from tests.servers.smtp_peer import SmtpPeer

__all__ = ["postfix_server"]  # the fixture

pytestmark = pytest.mark.postfix
Start = Callable[..., Postfix]


async def start(postfix_server: Start, peer: SmtpPeer, **more: int) -> Postfix:
    return await asyncio.to_thread(postfix_server, lmtp_port=peer.port, remote_port=peer.port, **more)


async def until(condition: Callable[[], object]) -> None:
    """Another process writes its log when it likes: look again, for the test's own time limit at most."""
    while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # no event comes from there
        await asyncio.sleep(0.05)


@pytest.mark.proves("R4.2", "R5.2")
async def test_postfix_takes_a_mail_hands_it_on_unchanged_and_keeps_our_report_options(postfix_server: Start) -> None:
    async with SmtpPeer() as peer:
        postfix = await start(postfix_server, peer)
        sender = SmtpSender(config(postfix.port))
        outcomes = await sender.send(handover("a+b@ok.test", "nobody@nowhere.test"), nothing_to_do)
        await sender.close()
        await until(lambda: peer.accepted)
        (outcome,) = {outcome for outcome in outcomes.values() if outcome.kind is OutcomeKind.ACCEPTED}
        assert outcome.server == "mx.desk.test"
        assert re.fullmatch(r"[0-9A-Za-z]{8,}", outcome.queue_id)
        await until(lambda: postfix.logged(rf"{outcome.queue_id}: .*to=<a\+b@ok\.test>.*status=sent"))
        (mail,) = peer.accepted
    assert mail.content.endswith(CONTENT.partition(b"\r\n\r\n")[2])
    assert mail.message_id == MESSAGE_ID
    assert "RET=HDRS" in mail.mail_options
    assert "ENVID=d-77" in mail.mail_options
    assert mail.recipient_options == ("ORCPT=rfc822;a+2Bb@ok.test NOTIFY=FAILURE,DELAY",)


@pytest.mark.proves("R4.2")
async def test_a_later_refusal_comes_back_with_our_envelope_id(postfix_server: Start) -> None:
    async with SmtpPeer() as peer:
        postfix = await start(postfix_server, peer)
        sender = SmtpSender(config(postfix.port))
        what = handover("nobody@reject.test", sender="desk+b-77-9f2c@desk.test", envelope_id="d-77=x")
        assert kinds(await sender.send(what, nothing_to_do)) == {"nobody": "accepted"}
        await sender.close()
        await until(lambda: peer.accepted)
        (report,) = peer.accepted
    assert report.sender == ""
    assert report.recipients == ("desk+b-77-9f2c@desk.test",)
    assert b"Original-Envelope-Id: d-77=x\r\n" in report.content
    assert b"Original-Recipient: rfc822;nobody@reject.test\r\n" in report.content
    assert b"Action: failed\r\n" in report.content


@pytest.mark.proves("F-S02")
async def test_postfix_refuses_a_relay_that_it_does_not_allow_and_a_mail_that_is_too_big(
    postfix_server: Start,
) -> None:
    async with SmtpPeer() as peer:
        postfix = await start(postfix_server, peer, size_limit_bytes=100_000)
        assert "SIZE 100000" in await email_smtp.check(config(postfix.port))
        sender = SmtpSender(config(postfix.port))
        big = handover("a@ok.test", content=CONTENT + b"x" * 70 + b"\r\n" * 60_000)
        (outcome,) = (await sender.send(big, nothing_to_do)).values()
        await sender.close()
    assert (outcome.kind, outcome.code) == (OutcomeKind.REFUSED, 552)


@pytest.mark.proves("F-K11", "F-K12")
async def test_a_mail_without_its_final_dot_is_none_for_postfix(postfix_server: Start) -> None:
    async def lose(_accepted: Sequence[str]) -> None:
        raise LeaseLost("another node sends this")

    async with SmtpPeer() as peer:
        postfix = await start(postfix_server, peer)
        sender = SmtpSender(config(postfix.port))
        with pytest.raises(LeaseLost):
            await sender.send(handover("a@ok.test"), lose)
        await sender.close()
        await until(lambda: postfix.logged("lost connection after DATA"))
        assert not postfix.logged("queue active")
        assert await asyncio.to_thread(postfix.queue) == []
        assert peer.accepted == []


async def test_mails_share_kept_connections_to_postfix(postfix_server: Start) -> None:
    async with SmtpPeer() as peer:
        postfix = await start(postfix_server, peer)
        sender = SmtpSender(config(postfix.port, connections=2))
        results = await asyncio.gather(
            *(sender.send(handover(f"n{number}@ok.test"), nothing_to_do) for number in range(20))
        )
        await sender.close()
        assert {kind for result in results for kind in kinds(result).values()} == {"accepted"}
        assert len({outcome.queue_id for result in results for outcome in result.values()}) == 20
        await until(lambda: len(peer.accepted) == 20)
        connects = postfix.logged(r"smtpd\[\d+\]: connect from")
        assert len(connects) <= 3  # one of them asked whether it is up


async def test_nothing_of_a_stopped_postfix_stays(postfix_server: Start) -> None:
    async with SmtpPeer() as peer:
        postfix = await start(postfix_server, peer)
        assert postfix.processes()
        await asyncio.to_thread(postfix.stop)
        assert postfix.processes() == []
