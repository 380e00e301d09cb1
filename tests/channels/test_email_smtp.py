"""Handing one mail over, step by step, to a scripted server on a real socket (FAULTS section 4)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.channels import email_smtp
from gateway.channels.contract import Handover, Outcome, OutcomeKind, Sender
from gateway.channels.email_config import Account, EmailConfig, Smtp
from gateway.channels.email_smtp import SmtpSender
from gateway.errors import ChannelMisconfigured, ConfigError, LeaseLost, PeerUnavailable
from tests.servers.smtp_peer import CUT, EXTENSIONS, SILENT, Answer, SmtpPeer, say
from tests.servers.tls import Authority

ROOT = Path(__file__).parents[2]
MESSAGE_ID = "d77.9f2c@example.test"
CONTENT = (
    f"From: desk@example.test\r\nTo: one@customer.test\r\nMessage-ID: <{MESSAGE_ID}>\r\n\r\nHello\r\n.\r\n..\r\nbye\r\n"
).encode()


def config(port: int, **smtp: Any) -> EmailConfig:
    settings: dict[str, Any] = {"security": "plain", "timeout_seconds": 20, "final_reply_seconds": 20} | smtp
    return EmailConfig(address="desk@example.test", smtp=Smtp(host="127.0.0.1", port=port, **settings))


def handover(
    *recipients: str,
    sender: str = "desk+b-77-9f2c@example.test",
    content: bytes = CONTENT,
    envelope_id: str = "d-77",
    notify: str = "FAILURE,DELAY",
) -> Handover:
    return Handover(
        envelope_sender=sender,
        recipients=recipients or ("one@customer.test",),
        content=content,
        envelope_id=envelope_id,
        notify=notify,
    )


async def nothing_to_do(_accepted: Sequence[str]) -> None:
    return None


async def send(
    peer: SmtpPeer,
    what: Handover | None = None,
    *,
    before: Callable[[Sequence[str]], Awaitable[None]] = nothing_to_do,
    **smtp: Any,
) -> dict[str, Outcome]:
    sender: Sender = SmtpSender(config(peer.port, **smtp))
    try:
        return await sender.send(what or handover(), before)
    finally:
        await sender.close()


def kinds(outcomes: dict[str, Outcome]) -> dict[str, str]:
    return {recipient.partition("@")[0]: outcome.kind.value for recipient, outcome in outcomes.items()}


@pytest.mark.proves("R4.2", "R5.2")
async def test_an_accepted_mail_arrives_byte_for_byte_and_names_server_and_queue_id() -> None:
    async with SmtpPeer() as peer:
        outcomes = await send(peer)
    assert outcomes == {
        "one@customer.test": Outcome(
            kind=OutcomeKind.ACCEPTED,
            code=250,
            enhanced="2.0.0",
            text="Ok: queued as 4BCD1234",
            server="peer.example.test",
            queue_id="4BCD1234",
        )
    }
    assert [mail.content for mail in peer.accepted] == [CONTENT]
    assert peer.steps() == ["greeting", "ehlo", "mail", "rcpt", "data", "dot", "quit"]


@pytest.mark.proves("R4.2")
async def test_delivery_reports_are_asked_for_per_recipient_where_the_server_offers_them() -> None:
    async with SmtpPeer() as peer:
        await send(peer, handover("a+b=c@customer.test", "two@customer.test", envelope_id="d-77+x"))
        await send(peer, dsn=False)
    with_reports, without = peer.accepted
    assert with_reports.mail_options == f"SIZE={len(CONTENT)} RET=HDRS ENVID=d-77+2Bx"
    assert with_reports.recipient_options == (
        "NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb+3Dc@customer.test",
        "NOTIFY=FAILURE,DELAY ORCPT=rfc822;two@customer.test",
    )
    assert (without.mail_options, without.recipient_options) == (f"SIZE={len(CONTENT)}", ("",))


async def test_a_server_that_offers_nothing_is_asked_for_nothing() -> None:
    async with SmtpPeer(extensions=()) as peer:
        assert kinds(await send(peer)) == {"one": "accepted"}
    assert [text for step, text in peer.transcript if step in ("mail", "rcpt")] == [
        "MAIL FROM:<desk+b-77-9f2c@example.test>",
        "RCPT TO:<one@customer.test>",
    ]


@pytest.mark.parametrize(("step", "code"), [("mail", 555), ("mail", 501), ("rcpt", 555), ("rcpt", 455), ("rcpt", 504)])
@pytest.mark.proves("F-S02")
async def test_parameters_that_a_server_refuses_are_dropped_in_the_same_session(step: str, code: int) -> None:
    async with SmtpPeer(script={step: [say(f"{code} 5.5.4 parameters")]}) as peer:
        assert kinds(await send(peer)) == {"one": "accepted"}
    assert len(peer.wires) == 1
    assert len(peer.accepted) == 1


@pytest.mark.proves("F-S02")
async def test_refused_recipients_do_not_hold_up_the_others() -> None:
    async with SmtpPeer() as peer:
        outcomes = await send(peer, handover("a@ok.test", "b@reject.test", "c@later.test", "d@ok.test"))
    assert kinds(outcomes) == {"a": "accepted", "b": "refused", "c": "deferred", "d": "accepted"}
    assert (outcomes["b@reject.test"].code, outcomes["b@reject.test"].enhanced) == (550, "5.1.1")
    assert peer.accepted[0].recipients == ("a@ok.test", "d@ok.test")


@pytest.mark.proves("F-S02")
async def test_without_any_accepted_recipient_no_data_is_sent_and_the_session_is_reset() -> None:
    async with SmtpPeer() as peer:
        sender = SmtpSender(config(peer.port))
        first = await sender.send(handover("b@reject.test", "c@later.test"), nothing_to_do)
        second = await sender.send(handover(), nothing_to_do)
        await sender.close()
    assert kinds(first) == {"b": "refused", "c": "deferred"}
    assert kinds(second) == {"one": "accepted"}
    assert peer.steps() == [
        *("greeting", "ehlo", "mail", "rcpt", "rcpt"),
        *("rset", "mail", "rcpt", "data", "dot", "quit"),
    ]


VERDICTS = [
    # step, reply, expected kind, fault
    ("greeting", "421 busy", "deferred", ""),
    ("greeting", "554 5.7.1 your address is on a list", "deferred", ""),
    ("ehlo", "550 5.7.1 who are you", "deferred", ""),
    ("ehlo", "421 4.3.2 closing", "deferred", ""),
    ("mail", "421 4.3.2 closing", "deferred", ""),
    ("mail", "451 4.3.0 later", "deferred", ""),
    ("mail", "451 5.3.0 first digit wins", "deferred", ""),
    ("mail", "550 5.7.1 you may not", "channel_fault", "sender"),
    ("mail", "553 5.1.8 unknown sender domain", "channel_fault", "sender"),
    ("mail", "530 5.7.0 authentication required", "channel_fault", "login"),
    ("mail", "530 5.7.0 Must issue a STARTTLS command first", "channel_fault", "tls"),
    ("mail", "503 5.5.1 bad sequence", "channel_fault", "relay"),
    ("mail", "552 5.3.4 too big", "refused", ""),
    ("rcpt", "421 4.7.0 slow down", "deferred", ""),
    ("rcpt", "450 4.2.1 greylisted", "deferred", ""),
    ("rcpt", "550 4.1.1 first digit wins", "refused", ""),
    ("rcpt", "450 5.1.1 first digit wins", "deferred", ""),
    ("rcpt", "552 5.2.2 mailbox full", "deferred", ""),
    ("rcpt", "550 5.2.2 mailbox full", "refused", ""),
    ("rcpt", "552 over quota", "deferred", ""),
    ("rcpt", "552 no", "refused", ""),
    ("rcpt", "556 5.1.10 takes no mail", "refused", ""),
    ("rcpt", "501 5.1.3 bad address syntax", "refused", ""),
    ("rcpt", "554 5.7.1 <x>: Relay access denied", "channel_fault", "relay"),
    ("rcpt", "553 5.7.1 <desk>: Sender address rejected: not owned by user", "channel_fault", "sender"),
    ("rcpt", "530 5.7.57 client not authenticated", "channel_fault", "login"),
    ("rcpt", "503 5.5.1 need MAIL first", "channel_fault", "relay"),
    ("rcpt", "452 4.3.1 no space", "deferred", ""),
    ("data", "451 4.3.0 later", "deferred", ""),
    ("data", "554 5.7.1 no", "refused", ""),
    ("data", "503 5.5.1 no recipients", "channel_fault", "relay"),
    ("dot", "451 4.7.1 greylisted", "deferred", ""),
    ("dot", "421 4.3.0 closing", "deferred", ""),
    ("dot", "554 5.6.0 looks like spam", "refused", ""),
    ("dot", "552 5.2.2 full", "deferred", ""),
    ("dot", "552 too much", "refused", ""),
    ("dot", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", "channel_fault", "sender"),
    ("dot", "500 5.5.2 line too long", "refused", ""),
]


@pytest.mark.parametrize(("step", "reply", "kind", "fault"), VERDICTS)
@pytest.mark.proves("F-S01", "F-S02", "F-S06")
async def test_each_reply_means_what_the_table_says(step: str, reply: str, kind: str, fault: str) -> None:
    # twice, since a refusal with optional parameters is asked again without them
    async with SmtpPeer(script={step: [say(reply), say(reply)]}) as peer:
        outcomes = await send(peer)
    (outcome,) = outcomes.values()
    assert (outcome.kind.value, outcome.fault) == (kind, fault)
    assert outcome.code == int(reply[:3])
    assert peer.accepts(MESSAGE_ID, "one@customer.test") == 0


@pytest.mark.proves("F-S02")
async def test_a_452_after_accepted_recipients_lets_them_go_on_and_the_rest_follow_at_once() -> None:
    script = {"rcpt": [say("250 ok"), say("452 4.5.3 too many recipients")]}
    async with SmtpPeer(script=script) as peer:
        outcomes = await send(peer, handover("a@ok.test", "b@ok.test"))
    assert kinds(outcomes) == {"a": "accepted", "b": "deferred"}
    assert outcomes["b@ok.test"].retry_after == timedelta(0)


@pytest.mark.proves("F-S02")
async def test_too_many_recipients_without_progress_is_no_reason_to_hurry() -> None:
    script = {"rcpt": [say("250 ok"), say("452 4.5.3 too many recipients")], "dot": [say("451 later")]}
    async with SmtpPeer(script=script) as peer:
        outcomes = await send(peer, handover("a@ok.test", "b@ok.test"))
    assert [outcome.retry_after for outcome in outcomes.values()] == [None, None]


async def test_relaying_denied_for_one_while_another_is_taken_blames_that_one() -> None:
    script = {"rcpt": [say("554 5.7.1 relay access denied"), say("250 ok")]}
    async with SmtpPeer(script=script) as peer:
        outcomes = await send(peer, handover("a@odd.test", "b@ok.test"))
    assert kinds(outcomes) == {"a": "refused", "b": "accepted"}
    assert outcomes["a@odd.test"].fault == ""


@pytest.mark.proves("F-S02")
async def test_a_mail_above_the_announced_size_is_refused_without_a_word() -> None:
    async with SmtpPeer(extensions=("SIZE 100",)) as peer:
        (outcome,) = (await send(peer)).values()
    assert (outcome.kind, outcome.code, outcome.enhanced) == (OutcomeKind.REFUSED, 552, "5.3.4")
    assert "larger than the server takes" in outcome.text
    assert "mail" not in peer.steps()


# --- the line of doubt ---


@pytest.mark.parametrize("step", ["greeting", "ehlo", "mail", "rcpt", "data"])
@pytest.mark.parametrize("answer", [CUT, Answer(reset=True)], ids=["cut", "reset"])
@pytest.mark.proves("F-S03", "F-K11")
async def test_a_line_that_breaks_before_the_final_dot_is_unreachable(step: str, answer: Answer) -> None:
    async with SmtpPeer(script={step: [answer]}) as peer:
        assert kinds(await send(peer)) == {"one": "unreachable"}
        assert peer.accepted == []


@pytest.mark.parametrize("step", ["greeting", "ehlo", "mail", "rcpt", "data"])
@pytest.mark.proves("F-S03")
async def test_silence_before_the_final_dot_is_unreachable(step: str) -> None:
    async with SmtpPeer(script={step: [SILENT]}) as peer:
        outcomes = await send(peer, timeout_seconds=0.3, final_reply_seconds=600)
    assert kinds(outcomes) == {"one": "unreachable"}


@pytest.mark.parametrize("is_accepting", [True, False])
@pytest.mark.parametrize("answer", ["cut", "reset", "silent"])
@pytest.mark.proves("F-S03", "F-K13")
async def test_whatever_breaks_after_the_final_dot_is_in_doubt(answer: str, is_accepting: bool) -> None:
    scripted = Answer(cut=answer == "cut", reset=answer == "reset", is_accepting=is_accepting)
    async with SmtpPeer(script={"dot": [scripted]}) as peer:
        outcomes = await send(peer, timeout_seconds=600, final_reply_seconds=0.3 if answer == "silent" else 600)
        assert kinds(outcomes) == {"one": "in_doubt"}
        assert peer.accepts(MESSAGE_ID, "one@customer.test") == int(is_accepting)


@pytest.mark.proves("F-K12", "F-K23")
async def test_when_the_lease_is_lost_before_the_final_dot_the_dot_is_never_sent() -> None:
    async def lose(_accepted: Sequence[str]) -> None:
        raise LeaseLost("another node sends this")

    async with SmtpPeer() as peer:
        with pytest.raises(LeaseLost):
            await send(peer, before=lose)
        await peer.reached["closed"].wait()
        assert peer.accepted == []
        assert peer.steps()[-1] == "data"
        assert not peer.wires[0].endswith(b"\r\n.\r\n")


@pytest.mark.proves("F-K12")
async def test_the_body_is_on_its_way_and_the_dot_is_not_when_the_commit_is_awaited() -> None:
    async with SmtpPeer(script={"body": [SILENT]}) as peer:
        seen: list[bytes] = []

        async def commit(_accepted: Sequence[str]) -> None:
            await peer.reached["body"].wait()
            seen.append(bytes(peer.wires[0]))

        assert kinds(await send(peer, before=commit)) == {"one": "accepted"}
    assert b"From: desk@example.test" in seen[0]
    assert b"\r\n.\r\n" not in seen[0]


@pytest.mark.proves("F-S03", "F-K12")
async def test_a_line_that_breaks_during_the_commit_is_known_not_to_have_carried_the_dot() -> None:
    async with SmtpPeer(script={"body": [CUT]}) as peer:

        async def commit(_accepted: Sequence[str]) -> None:
            await peer.reached["closed"].wait()

        outcomes = await send(peer, before=commit)
    assert kinds(outcomes) == {"one": "unreachable"}


@pytest.mark.parametrize("point", ["O2", "O3", "O4", "O5", "O6"])
@pytest.mark.proves("F-K11", "F-K12", "F-K13", "F-K14")
async def test_death_at_each_step_leaves_the_number_of_accepts_that_the_step_allows(point: str) -> None:
    class Died(BaseException):
        pass

    def die(name: str) -> None:
        if name == point:
            raise Died

    committed: list[str] = []

    async def commit(_accepted: Sequence[str]) -> None:
        committed.append("O4")

    async with SmtpPeer() as peer:
        sender = SmtpSender(config(peer.port), failpoint=die)
        with pytest.raises(Died):
            await sender.send(handover(), commit)
        await sender.close()
        await peer.reached["closed"].wait()
        accepts = peer.accepts(MESSAGE_ID, "one@customer.test")
    assert committed == ([] if point in ("O2", "O3") else ["O4"])
    assert accepts == {"O2": 0, "O3": 0, "O4": 0, "O5": 1, "O6": 1}[point]


async def test_a_cancelled_handover_drops_the_connection() -> None:
    async with SmtpPeer(script={"dot": [SILENT]}) as peer:
        sender = SmtpSender(config(peer.port))
        sending = asyncio.create_task(sender.send(handover(), nothing_to_do))
        await peer.reached["dot"].wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await peer.reached["closed"].wait()
        await sender.close()


# --- the pool ---


@pytest.mark.proves("R4.2")
async def test_one_connection_carries_many_mails_and_is_replaced_after_a_hundred() -> None:
    async with SmtpPeer() as peer:
        sender = SmtpSender(config(peer.port))
        for _ in range(email_smtp.MAILS_PER_CONNECTION + 1):
            assert kinds(await sender.send(handover(), nothing_to_do)) == {"one": "accepted"}
        await sender.close()
        assert len(peer.wires) == 2
        assert len(peer.accepted) == email_smtp.MAILS_PER_CONNECTION + 1


async def test_no_more_connections_are_opened_than_configured() -> None:
    async with SmtpPeer() as peer:
        sender = SmtpSender(config(peer.port, connections=2))
        await asyncio.gather(*(sender.send(handover(), nothing_to_do) for _ in range(12)))
        await sender.close()
        assert len(peer.wires) <= 2
        assert len(peer.accepted) == 12


@pytest.mark.parametrize("farewell", [CUT, say("421 4.4.2 idle for too long"), Answer(raw=b"421 bye", cut=True)])
@pytest.mark.proves("F-S01")
async def test_a_kept_connection_that_the_server_gave_up_costs_no_mail(farewell: Answer) -> None:
    async with SmtpPeer(script={"mail": [say("250 ok"), farewell]}) as peer:
        sender = SmtpSender(config(peer.port))
        first = await sender.send(handover(), nothing_to_do)
        second = await sender.send(handover(), nothing_to_do)
        await sender.close()
    assert [kinds(first), kinds(second)] == [{"one": "accepted"}] * 2
    assert len(peer.accepted) == 2
    assert len(peer.wires) == 2


async def test_an_idle_connection_is_closed_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email_smtp, "IDLE_SECONDS", 0.01)
    async with SmtpPeer() as peer:
        sender = SmtpSender(config(peer.port))
        await sender.send(handover(), nothing_to_do)
        await peer.reached["closed"].wait()
        await sender.close()


@pytest.mark.proves("F-S01")
async def test_nobody_listening_is_unreachable() -> None:
    async with SmtpPeer() as peer:
        port = peer.port
    sender = SmtpSender(config(port))
    (outcome,) = (await sender.send(handover(), nothing_to_do)).values()
    await sender.close()
    assert outcome.kind is OutcomeKind.UNREACHABLE
    assert str(port) in outcome.text


# --- addresses ---


@pytest.mark.proves("T-C02")
@pytest.mark.parametrize(
    "bad",
    [
        *("a@b.test>\r\nRCPT TO:<evil@x.test", "a\x00@b.test", "a b@c.test", "<a@b.test>", "a@b.test SIZE=1"),
        *("a@", "@b.test", "a", "", "a@b\n.test", "a@-.test\r", "a@b..test", "a\u2028@b.test", "a\ud800@b.test"),
        "x" * 65 + "@b.test",
    ],
)
async def test_an_unsafe_recipient_is_refused_before_any_byte(bad: str) -> None:
    async with SmtpPeer() as peer:
        outcomes = await send(peer, handover(bad))
        mixed = await send(peer, handover(bad, "one@customer.test"))
    assert [(o.kind.value, o.enhanced) for o in outcomes.values()] == [("refused", "5.1.3")]
    assert [o.kind.value for o in mixed.values()] == ["refused", "accepted"]
    assert len(peer.wires) == 1
    assert b"evil" not in peer.wires[0]


@pytest.mark.proves("T-C02")
@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (handover(sender="desk@example.test>\r\nDATA"), "channel_fault"),
        (handover(envelope_id="x\r\nRSET"), "refused"),
        (handover(envelope_id="x y"), "refused"),
        (handover(notify="FAILURE\r\nRSET"), "refused"),
    ],
)
async def test_an_unsafe_envelope_reaches_no_socket(bad: Handover, kind: str) -> None:
    async with SmtpPeer() as peer:
        assert kinds(await send(peer, bad)) == {"one": kind}
        assert peer.wires == []


@pytest.mark.proves("R4.2")
async def test_a_null_sender_is_said_as_such() -> None:
    async with SmtpPeer() as peer:
        assert kinds(await send(peer, handover(sender="", notify="NEVER"))) == {"one": "accepted"}
    assert peer.transcript[2][1].startswith("MAIL FROM:<> ")


async def test_foreign_domains_are_said_in_ascii_and_foreign_local_parts_only_where_they_are_taken() -> None:
    foreign = handover("one@bücher.test", "юзер@customer.test")
    async with SmtpPeer() as peer:
        assert set(kinds(await send(peer, foreign)).values()) == {"accepted"}
    assert peer.accepted[0].recipients == ("one@xn--bcher-kva.test", "юзер@customer.test")
    assert "SMTPUTF8" in peer.accepted[0].mail_options
    async with SmtpPeer(extensions=[name for name in EXTENSIONS if name != "SMTPUTF8"]) as peer:
        outcomes = await send(peer, foreign)
    assert kinds(outcomes) == {"one": "accepted", "юзер": "refused"}
    assert outcomes["юзер@customer.test"].enhanced == "5.6.7"
    assert all(line.isascii() for line in peer.wires)


async def test_a_mail_that_is_not_all_ascii_is_announced_as_such() -> None:
    content = "To: юзер@customer.test\r\n\r\nhello\r\n".encode()
    async with SmtpPeer() as peer:
        assert kinds(await send(peer, handover(content=content))) == {"one": "accepted"}
    assert peer.accepted[0].mail_options.startswith("SMTPUTF8 BODY=8BITMIME ")
    assert peer.accepted[0].content == content


async def test_without_an_envelope_id_none_is_asked_back() -> None:
    async with SmtpPeer() as peer:
        await send(peer, handover(envelope_id=""))
    assert peer.accepted[0].mail_options.endswith("RET=HDRS")


async def test_a_recipient_refused_with_and_without_parameters_costs_the_next_mail_no_reports() -> None:
    script = {"rcpt": [say("501 5.1.3 bad address"), say("501 5.1.3 bad address")]}
    async with SmtpPeer(script=script) as peer:
        outcomes = await send(peer, handover("bad@ok.test", "good@ok.test"))
    assert kinds(outcomes) == {"bad": "refused", "good": "accepted"}
    assert peer.accepted[0].recipient_options[0].startswith("NOTIFY=")


# --- kill -9 ---

VICTIM = """
import asyncio, sys
from tests.channels.test_email_smtp import config, handover, nothing_to_do
from gateway.channels.email_smtp import SmtpSender

async def main():
    sender = SmtpSender(config(int(sys.argv[1])))
    print(await sender.send(handover(), nothing_to_do), flush=True)
    await sender.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("point", "reply", "accepts"),
    [("O2", 250, 0), ("O3", 250, 0), ("O4", 250, 0), ("O5", 250, 1), ("O6", 250, 1), ("O6", 451, 0), ("never", 250, 1)],
)
@pytest.mark.proves("F-K11", "F-K12", "F-K13", "F-K14", "F-K15")
async def test_a_process_killed_at_a_step_leaves_what_the_step_allows(point: str, reply: int, accepts: int) -> None:
    async with SmtpPeer(script={"dot": [say(f"{reply} said")]}) as peer:
        victim = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", VICTIM, str(peer.port)),
            env=os.environ | {"GATEHOUSE_FAILPOINT": f"{point}:1:kill"},
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await victim.communicate()
        await peer.reached["closed"].wait()
        assert victim.returncode == (0 if point == "never" else -signal.SIGKILL)
        assert (b"accepted" in output) == (point == "never")
        assert peer.accepts(MESSAGE_ID, "one@customer.test") == accepts


async def test_the_server_in_its_own_process_writes_the_truth_before_it_answers(tmp_path: Path) -> None:
    log = tmp_path / "accepted.jsonl"
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.servers.smtp_peer", "--log", str(log)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    try:
        port = int((await server.stdout.readline()).split()[1])
        sender = SmtpSender(config(port))
        outcomes = await sender.send(handover("a@ok.test", "b@reject.test", "c@later.test"), nothing_to_do)
        outcomes |= await sender.send(handover("d@cut.test"), nothing_to_do)
        await sender.close()
    finally:
        server.kill()
        await server.communicate()
    assert kinds(outcomes) == {"a": "accepted", "b": "refused", "c": "deferred", "d": "in_doubt"}
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["recipients"] for record in records] == [["a@ok.test"], ["d@cut.test"]]
    assert {record["message_id"] for record in records} == {MESSAGE_ID}


# --- check ---


async def test_check_lists_what_the_server_offers(tmp_path: Path) -> None:
    async with SmtpPeer(extensions=("DSN", "SIZE 1000")) as peer:
        assert await email_smtp.check(config(peer.port)) == ["DSN", "SIZE 1000"]


async def test_check_names_what_is_wrong() -> None:
    async with SmtpPeer(auth="PLAIN", script={"auth": [say("535 5.7.8 wrong password")]}) as peer:
        with pytest.raises(ChannelMisconfigured, match=r"535 5\.7\.8 wrong password") as raised:
            await email_smtp.check(config(peer.port, user="desk", password=SecretStr("x")))
        assert raised.value.code == "login"
        port = peer.port
    with pytest.raises(PeerUnavailable):
        await email_smtp.check(config(port))
    with pytest.raises(ConfigError):
        await email_smtp.check(EmailConfig(address="desk@example.test"))


# --- TLS and login ---


@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.proves("T-C09", "R4.2")
async def test_mail_and_password_travel_encrypted(security: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.certificate().context()
    async with SmtpPeer(tls=context, is_tls_from_start=security == "tls", auth="PLAIN") as peer:
        outcomes = await send(
            peer, security=security, ca_file=str(authority.ca_file), user="desk", password=SecretStr("canary-pass")
        )
        assert kinds(outcomes) == {"one": "accepted"}
        assert peer.accepted[0].content == CONTENT
    assert all(b"AUTH" not in clear and b"MAIL" not in clear for clear in peer.clear)


@pytest.mark.parametrize("security", ["plain", "tls", "starttls"])
@pytest.mark.proves("R4.2")
async def test_a_mail_of_many_buffers_arrives_whole(security: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = None if security == "plain" else authority.certificate().context()
    large = CONTENT + b"".join(b".%d %s\r\n" % (number, b"y" * 60) for number in range(60_000))
    async with SmtpPeer(tls=context, is_tls_from_start=security == "tls") as peer:
        outcomes = await send(peer, handover(content=large), security=security, ca_file=str(authority.ca_file))
        assert kinds(outcomes) == {"one": "accepted"}
        assert peer.accepted[0].content == large


def test_an_account_is_encrypted_unless_somebody_says_otherwise() -> None:
    assert Account(host="mail.example.test", port=465).security == "tls"
