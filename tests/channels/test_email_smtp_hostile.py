"""Servers that lie, babble, stall or eavesdrop (FAULTS F-S04 to F-S06, THREATS T-C09, T-O01)."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.channels import email_smtp
from gateway.channels.contract import Outcome, OutcomeKind
from gateway.channels.email_smtp import SmtpSender
from gateway.channels.smtp_envelope import BadAddress, spoken
from gateway.channels.smtp_replies import (
    MAX_QUEUE_ID_CHARS,
    MAX_TEXT_CHARS,
    Reply,
    Step,
    clean_text,
    judge,
    queue_id,
    read_reply,
)
from gateway.channels.smtp_session import dot_stuff
from gateway.errors import ChannelMisconfigured, PeerUnavailable
from tests.channels.test_email_smtp import MESSAGE_ID, config, handover, kinds, nothing_to_do, send
from tests.servers.smtp_peer import CUT, SILENT, Answer, SmtpPeer, say
from tests.servers.tls import Authority

CANARY = "canary-Pa55-b1e0c7"
NONSENSE = [
    b"",  # an empty line
    b"hello there",
    b"2x0 ok",
    b"25",
    b" 250 ok",
    b"+50 ok",
    b"100 continue",
    b"999 beyond",
    b"000 nothing",
    b"\xff\xfe\x00\x00",
    b"250-first\r\n550 second",
    b"x" * 1_000_000,
    b"250-" + b"y" * 1_000_000,
    b"250-more\r\n" * 100_000,
]


def exact(raw: bytes) -> Answer:
    return Answer(raw=raw + b"\r\n", is_accepting=False)


@pytest.mark.parametrize("raw", NONSENSE, ids=[repr(raw[:16]) for raw in NONSENSE])
@pytest.mark.proves("F-S04")
async def test_nonsense_after_the_final_dot_is_in_doubt(raw: bytes) -> None:
    async with SmtpPeer(script={"dot": [exact(raw)]}) as peer:
        assert kinds(await send(peer)) == {"one": "in_doubt"}


@pytest.mark.parametrize("step", ["greeting", "ehlo", "mail", "rcpt", "data"])
@pytest.mark.parametrize("raw", NONSENSE, ids=[repr(raw[:16]) for raw in NONSENSE])
@pytest.mark.proves("F-S04")
async def test_nonsense_before_the_final_dot_never_gets_it(step: str, raw: bytes) -> None:
    async with SmtpPeer(script={step: [exact(raw)]}) as peer:
        outcomes = await send(peer, timeout_seconds=1)
        assert set(kinds(outcomes).values()) <= {"unreachable", "deferred"}
        assert peer.accepted == []
        assert all(not wire.endswith(b"\r\n.\r\n") for wire in peer.wires)


@pytest.mark.parametrize(
    ("raw", "is_cut"),
    [(b"250 2.0.0 Ok: que", True), (b"250-2.0.0 Ok\r\n", True), (b"25", True), (b"250 never ends", False)],
)
@pytest.mark.proves("F-S04")
async def test_half_a_reply_to_the_final_dot_is_in_doubt(raw: bytes, is_cut: bool) -> None:
    answer = Answer(raw=raw, is_exact=True, cut=is_cut)
    async with SmtpPeer(script={"dot": [answer]}) as peer:
        outcomes = await send(peer, final_reply_seconds=20 if is_cut else 0.3)
    assert kinds(outcomes) == {"one": "in_doubt"}


@pytest.mark.proves("F-S04")
async def test_a_whole_reply_counts_although_the_line_is_cut_right_after_it() -> None:
    async with SmtpPeer(script={"dot": [Answer(raw=b"250 ok", cut=True)]}) as peer:
        assert kinds(await send(peer)) == {"one": "accepted"}


@pytest.mark.parametrize(
    ("early", "kind"),
    [("250 2.0.0 taken", "in_doubt"), ("552 5.3.4 too big", "refused"), ("451 4.3.0 later", "deferred")],
)
@pytest.mark.proves("F-S04", "F-K12")
async def test_a_reply_before_the_final_dot_keeps_the_dot_back(early: str, kind: str) -> None:
    """Taken for the answer to the dot, an early 250 would turn a later refusal into "sent"."""
    together = Answer(raw=b"354 go\r\n" + early.encode() + b"\r\n")
    async with SmtpPeer(script={"data": [together]}) as peer:
        outcomes = await send(peer)
        await peer.reached["closed"].wait()
    assert kinds(outcomes) == {"one": kind}
    assert peer.accepted == []


@pytest.mark.proves("F-S04")
async def test_a_reply_during_the_commit_keeps_the_dot_back() -> None:
    async with SmtpPeer(script={"body": [Answer(raw=b"554 5.7.1 seen enough", cut=True)]}) as peer:

        async def commit(_accepted: Sequence[str]) -> None:
            await peer.reached["closed"].wait()  # the peer waits for us to close, which we do when we hear its end

        outcomes = await send(peer, before=commit)
    assert kinds(outcomes) == {"one": "refused"}
    assert peer.accepted == []


@pytest.mark.proves("F-S04")
@pytest.mark.parametrize("step", ["mail", "rcpt"])
async def test_two_replies_to_one_command_are_not_taken_for_the_next_one(step: str) -> None:
    async with SmtpPeer(script={step: [Answer(raw=b"250 ok\r\n250 and again\r\n")]}) as peer:
        assert kinds(await send(peer)) == {"one": "unreachable"}
        assert peer.accepted == []


@pytest.mark.proves("F-S03", "F-K11")
async def test_a_server_that_goes_in_the_middle_of_a_large_body_is_unreachable() -> None:
    large = b"Message-ID: <big@example.test>\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 76 + b"\r\n") * 200_000
    async with SmtpPeer(script={"body": [Answer(reset=True)]}) as peer:
        assert kinds(await send(peer, handover(content=large))) == {"one": "unreachable"}


@pytest.mark.proves("F-S03")
async def test_a_server_that_stops_reading_a_large_body_is_unreachable() -> None:
    large = b"Message-ID: <big@example.test>\r\n\r\n" + (b"y" * 76 + b"\r\n") * 250_000
    never = asyncio.Event()
    async with SmtpPeer(script={"body": [Answer(after=never)]}, read_ahead_bytes=4096) as peer:
        outcomes = await send(peer, handover(content=large), timeout_seconds=1)
    assert kinds(outcomes) == {"one": "unreachable"}


# --- hostile words ---


@pytest.mark.proves("F-S05")
async def test_a_hostile_queued_as_text_is_stored_cut_and_clean() -> None:
    words = b"250 2.0.0 queued as <script>alert(1)</script>\x00\x1b[31m\xe2\x80\xae\xff " + b"A" * 10_000
    async with SmtpPeer(script={"dot": [Answer(raw=words)]}) as peer:
        (outcome,) = (await send(peer)).values()
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert len(outcome.text) <= MAX_TEXT_CHARS
    assert outcome.text.isprintable()
    assert outcome.queue_id == ""


@given(st.integers(200, 599), st.lists(st.binary(max_size=2000), min_size=1, max_size=5))
@pytest.mark.proves("F-S05", "T-O04")
def test_any_reply_becomes_short_printable_text(code: int, lines: list[bytes]) -> None:
    reply = read_reply(code, lines)
    assert len(reply.text) <= MAX_TEXT_CHARS
    assert reply.text.isprintable()
    assert len(queue_id(reply)) <= MAX_QUEUE_ID_CHARS
    outcome = judge(Step.DOT, reply, server="x")
    assert (outcome.kind is OutcomeKind.ACCEPTED) == (code < 300)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.0.0 Ok: queued as 4Xyz12ABCdz3", "4Xyz12ABCdz3"),
        ("OK id=1tABCD-0000001-2Q", "1tABCD-0000001-2Q"),
        ("2.6.0 <a@b> [InternalId=12345678, Hostname=X.EURPRD.PROD.OUTLOOK.COM] Queued mail", "12345678"),
        ("2.0.0 OK  1700000000 ffacd0b85a97d-3b1234sm123456f8f.12 - gsmtp", "ffacd0b85a97d-3b1234sm123456f8f.12"),
        ("Ok 0102018f3c2b1a00-1111-2222-3333-555555555555", "0102018f3c2b1a00-1111-2222-3333-555555555555"),
        ("2.0.0 4A1B2C3D012345 Message accepted for delivery", "4A1B2C3D012345"),
        ("ok 1700000000 qp 4711", "qp 4711"),
        ("2.0.0 fine", ""),
    ],
)  # fmt: skip
@pytest.mark.proves("R5.2")
def test_queue_ids_of_the_usual_servers_are_found(text: str, expected: str) -> None:
    assert queue_id(read_reply(250, [text.encode()])) == expected


def test_a_reply_of_several_lines_is_one_text_with_one_enhanced_code() -> None:
    reply = read_reply(550, [b"5.7.1 Our system has detected", b"5.7.1 that this message is", b"5.7.1 unwelcome"])
    assert reply == Reply(code=550, enhanced="5.7.1", text="Our system has detected that this message is unwelcome")


@given(st.text())
def test_cleaned_text_is_cleaned_once_and_for_all(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


# --- addresses and bodies at the socket ---


@given(st.text(max_size=80))
@pytest.mark.proves("T-C02")
def test_whatever_is_spoken_is_one_word_between_brackets(text: str) -> None:
    try:
        said = spoken(text)
    except BadAddress:
        return
    assert not set(said) & set("\r\n\0 <>\t")
    assert said.encode()


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\0"]), max_size=40).map(b"".join))
@pytest.mark.proves("T-C03")
def test_a_stuffed_body_holds_no_end_of_mail_in_any_dialect(content: bytes) -> None:
    stuffed = dot_stuff(content)
    ends = (b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\n.\r")
    sent = b"\r\n" + stuffed  # what a server reads after DATA
    assert not any(end in sent for end in ends)
    assert sent.endswith(b"\r\n")
    assert stuffed.count(b"\n") == stuffed.count(b"\r\n") == stuffed.count(b"\r")
    unstuffed = b"".join(line.removeprefix(b".") for line in stuffed.splitlines(keepends=True))
    assert unstuffed.split() == content.replace(b"\r", b"\n").split()


# --- login ---

LOGINS = [
    # scripted answers to AUTH, offered methods, expected kind and fault
    ([say("535 5.7.8 wrong")], "PLAIN LOGIN", "channel_fault", "login"),
    ([say("534 5.7.9 too weak")], "PLAIN", "channel_fault", "login"),
    ([say("454 4.7.0 try later")], "PLAIN", "deferred", ""),
    ([say("421 4.7.0 too many logins")], "PLAIN", "deferred", ""),
    ([say("538 5.7.11 encrypt first")], "PLAIN", "channel_fault", "tls"),
    ([say("504 5.5.4 not that one"), say("235 ok")], "PLAIN LOGIN", "accepted", ""),
    ([say("504 5.5.4 nor that"), say("504 5.5.4 nor that")], "PLAIN LOGIN", "channel_fault", "login"),
    ([CUT], "PLAIN", "unreachable", ""),
    ([say("999 what")], "PLAIN", "unreachable", ""),
    ([], "CRAM-MD5", "accepted", ""),
    ([], "LOGIN", "accepted", ""),
    ([], "GSSAPI", "channel_fault", "login"),
    ([], "", "channel_fault", "login"),
]


@pytest.mark.parametrize(("answers", "offered", "kind", "fault"), LOGINS)
@pytest.mark.proves("F-S06")
async def test_a_login_that_fails_blames_the_channel_and_no_mail(
    answers: list[Answer], offered: str, kind: str, fault: str
) -> None:
    async with SmtpPeer(auth=offered, script={"auth": answers}) as peer:
        (outcome,) = (await send(peer, user="desk", password=SecretStr(CANARY))).values()
    assert (outcome.kind.value, outcome.fault) == (kind, fault)
    if kind != "accepted":
        assert "mail" not in peer.steps()
    assert peer.steps().count("auth") <= 2


class Tokens:
    """A token source whose first token is stale."""

    def __init__(self, *tokens: str, error: Exception | None = None) -> None:
        self.asked: list[bool] = []
        self._tokens = tokens
        self._error = error

    async def token(self, *, force: bool = False) -> str:
        self.asked.append(force)
        if self._error is not None:
            raise self._error
        return self._tokens[min(len(self.asked), len(self._tokens)) - 1]


async def send_with(tokens: Tokens, peer: SmtpPeer) -> Outcome:
    sender = SmtpSender(config(peer.port, user="support@example.test"), tokens=tokens)
    (outcome,) = (await sender.send(handover(), nothing_to_do)).values()
    await sender.close()
    return outcome


@pytest.mark.parametrize("refusal", ["535 5.7.8 expired", "334 eyJzdGF0dXMiOiI0MDAifQ=="])
@pytest.mark.proves("F-S06", "R4.2")
async def test_a_refused_token_is_renewed_once(refusal: str) -> None:
    tokens = Tokens("stale-token", "test-access-token")
    async with SmtpPeer(auth="XOAUTH2", script={"auth": [say(refusal)]}) as peer:
        outcome = await send_with(tokens, peer)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert tokens.asked == [False, True]
    expected = "dXNlcj1zdXBwb3J0QGV4YW1wbGUudGVzdAFhdXRoPUJlYXJlciB0ZXN0LWFjY2Vzcy10b2tlbgEB"
    assert f"AUTH XOAUTH2 {expected}" in [text for _, text in peer.transcript]


@pytest.mark.parametrize(
    ("tokens", "kind", "fault"),
    [
        (Tokens("bad", "bad"), "channel_fault", "login"),
        (Tokens(error=ChannelMisconfigured("consent is gone", code="token_revoked")), "channel_fault", "login"),
        (Tokens(error=PeerUnavailable("token endpoint is busy", code="oauth")), "deferred", ""),
    ],
)
@pytest.mark.proves("F-S06")
async def test_without_a_good_token_the_queue_waits(tokens: Tokens, kind: str, fault: str) -> None:
    refusals = [say("535 5.7.8 expired")] * 2
    async with SmtpPeer(auth="XOAUTH2", script={"auth": refusals}) as peer:
        outcome = await send_with(tokens, peer)
    assert (outcome.kind.value, outcome.fault) == (kind, fault)


# --- TLS ---


async def send_secretly(peer: SmtpPeer, ca_file: Path | None, *, security: str = "starttls") -> Outcome:
    outcomes = await send(
        peer,
        security=security,
        ca_file=str(ca_file) if ca_file else None,
        user="desk",
        password=SecretStr(CANARY),
        timeout_seconds=5,
    )
    (outcome,) = outcomes.values()
    return outcome


def assert_nothing_said(peer: SmtpPeer) -> None:
    encoded = base64.b64encode(f"\0desk\0{CANARY}".encode())
    for wire in peer.wires:
        assert CANARY.encode() not in wire
        assert encoded not in wire
        assert b"AUTH" not in wire
        assert b"MAIL" not in wire


@pytest.mark.proves("T-C09", "F-S06")
async def test_a_stripped_starttls_never_gets_the_password() -> None:
    async with SmtpPeer(auth="PLAIN") as peer:
        outcome = await send_secretly(peer, None)
    assert (outcome.kind, outcome.fault) == (OutcomeKind.CHANNEL_FAULT, "tls")
    assert_nothing_said(peer)
    assert "starttls" not in peer.steps()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("454 4.7.0 not now", "deferred"), ("502 5.5.1 what", "channel_fault"), ("421 bye", "deferred")],
)
@pytest.mark.proves("T-C09")
async def test_a_refused_starttls_never_gets_the_password(answer: str, kind: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.certificate().context()
    async with SmtpPeer(auth="PLAIN", tls=context, script={"starttls": [say(answer)]}) as peer:
        outcome = await send_secretly(peer, authority.ca_file)
    assert outcome.kind.value == kind
    assert_nothing_said(peer)


@pytest.mark.parametrize("injected_bytes", [b"250-evil.example.test\r\n250 AUTH PLAIN\r\n", b"250 evil", b"\n"])
@pytest.mark.proves("T-C09", "F-S06")
async def test_bytes_injected_before_the_switch_to_tls_stop_the_login(injected_bytes: bytes, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.certificate().context()
    injected = Answer(raw=b"220 go\r\n" + injected_bytes, is_exact=True)
    async with SmtpPeer(auth="PLAIN", tls=context, script={"starttls": [injected]}) as peer:
        outcome = await send_secretly(peer, authority.ca_file)
    assert (outcome.kind, outcome.fault) == (OutcomeKind.CHANNEL_FAULT, "tls")
    assert "injected" in outcome.text
    assert_nothing_said(peer)


@pytest.mark.proves("T-C09")
async def test_an_answer_of_two_lines_to_starttls_is_one_answer(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.certificate().context()
    script = {"starttls": [Answer(raw=b"220-welcome\r\n220 go\r\n")]}
    async with SmtpPeer(auth="PLAIN", tls=context, script=script) as peer:
        outcome = await send_secretly(peer, authority.ca_file)
    assert outcome.kind is OutcomeKind.ACCEPTED


@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize("fault", ["unknown authority", "signed by itself", "wrong name", "expired"])
@pytest.mark.proves("T-C09", "F-S06")
async def test_a_certificate_that_proves_nothing_stops_the_login(security: str, fault: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    made = {
        "unknown authority": lambda: authority.certificate(),
        "signed by itself": lambda: authority.certificate(is_self_signed=True),
        "wrong name": lambda: authority.certificate("mail.other.test"),
        "expired": lambda: authority.certificate(valid_from=timedelta(days=-9), valid_for=timedelta(days=8)),
    }[fault]()
    context = made.context()
    trusted = None if fault == "unknown authority" else authority.ca_file
    async with SmtpPeer(auth="PLAIN", tls=context, is_tls_from_start=security == "tls") as peer:
        outcome = await send_secretly(peer, trusted, security=security)
    assert (outcome.kind, outcome.fault) == (OutcomeKind.CHANNEL_FAULT, "tls")
    assert "certificate" in outcome.text
    assert_nothing_said(peer)


@pytest.mark.proves("F-S06")
async def test_a_server_without_tls_on_a_tls_port_is_a_tls_fault() -> None:
    async with SmtpPeer(auth="PLAIN") as peer:
        outcome = await send_secretly(peer, None, security="tls")
    assert (outcome.kind, outcome.fault) == (OutcomeKind.CHANNEL_FAULT, "tls")


async def test_a_missing_authority_file_is_a_tls_fault(tmp_path: Path) -> None:
    async with SmtpPeer() as peer:
        outcome = await send_secretly(peer, tmp_path / "none.pem")
    assert (outcome.kind, outcome.fault) == (OutcomeKind.CHANNEL_FAULT, "tls")
    assert "none.pem" in outcome.text


@pytest.mark.proves("F-S01")
async def test_a_line_cut_during_the_handshake_is_unreachable(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.certificate().context()
    script = {"starttls": [Answer(raw=b"220 go", cut=True)]}
    async with SmtpPeer(auth="PLAIN", tls=context, script=script) as peer:
        outcome = await send_secretly(peer, authority.ca_file)
    assert outcome.kind is OutcomeKind.UNREACHABLE


# --- secrets ---


@pytest.mark.proves("T-O01")
async def test_a_password_is_in_no_log_error_or_outcome(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    encoded = base64.b64encode(f"\0desk\0{CANARY}".encode()).decode()
    echoes = [say(f"535 5.7.8 {CANARY} and {encoded} are wrong"), say(f"250 {CANARY}"), CUT, SILENT, say("235 ok")]
    said: list[str] = []
    for echo in echoes:
        async with SmtpPeer(auth="PLAIN", script={"auth": [echo], "dot": [CUT]}) as peer:
            settings = config(peer.port, user="desk", password=SecretStr(CANARY), timeout_seconds=0.5)
            sender = SmtpSender(settings)
            said.append(repr(await sender.send(handover(), nothing_to_do)))
            said.append(repr((sender, vars(sender), settings)))
            await sender.close()
            try:
                await email_smtp.check(settings)
            except (ChannelMisconfigured, PeerUnavailable) as error:
                said.append(f"{error!r} {error.__cause__!r} {error.__context__!r}")
    captured = capfd.readouterr()
    everything = "\n".join([*said, caplog.text, captured.out, captured.err])
    assert "***" in everything
    for secret in (CANARY, encoded, base64.b64encode(CANARY.encode()).decode()):
        assert secret not in everything


# --- what a worker may rely on (positive controls 15, 18, 19) ---


@pytest.mark.proves("F-K13", "F-S02")
async def test_the_adapter_itself_repeats_nothing_after_the_dot_and_nobody_who_was_accepted() -> None:
    """Retrying in doubt, and repeating accepted recipients, are the two ways to send a mail twice."""
    async with SmtpPeer(script={"dot": [Answer(cut=True, is_accepting=True)]}) as peer:
        sender = SmtpSender(config(peer.port))
        first = await sender.send(handover("a@ok.test", "b@later.test"), nothing_to_do)
        still_open = tuple(r for r, o in first.items() if o.kind is OutcomeKind.DEFERRED)
        await sender.send(handover(*still_open), nothing_to_do)
        await sender.close()
        assert kinds(first) == {"a": "in_doubt", "b": "deferred"}
        assert peer.accepts(MESSAGE_ID, "a@ok.test") == 1
        assert peer.accepts(MESSAGE_ID, "b@later.test") == 0


@pytest.mark.proves("F-S03")
async def test_each_try_carries_the_same_bytes_and_message_id() -> None:
    async with SmtpPeer(script={"dot": [say("451 4.3.0 later")]}) as peer:
        sender = SmtpSender(config(peer.port))
        assert kinds(await sender.send(handover(), nothing_to_do)) == {"one": "deferred"}
        assert kinds(await sender.send(handover(), nothing_to_do)) == {"one": "accepted"}
        await sender.close()
    assert [mail.message_id for mail in peer.accepted] == [MESSAGE_ID]
    bodies = [part.partition(b"\r\n.\r\n")[0] for wire in peer.wires for part in bytes(wire).split(b"DATA\r\n")[1:]]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]


# --- every conversation, and what it must have said (FAULTS section 8, oracles 4 and 5) ---

STEPS = ["greeting", "ehlo", "mail", "rcpt", "data", "dot", "dot", "rset"]
CODES = [250, 250, 251, 252, 220, 354, 421, 450, 451, 452, 455, 500, 501, 503, 530, 535, 550, 552, 554, 555, 199, 999]
TRUE_ACCEPTS = {
    OutcomeKind.ACCEPTED: {1},
    OutcomeKind.REFUSED: {0},
    OutcomeKind.DEFERRED: {0},
    OutcomeKind.UNREACHABLE: {0},
    OutcomeKind.CHANNEL_FAULT: {0},
    OutcomeKind.IN_DOUBT: {0, 1},
}


def random_answer(chance: random.Random, step: str) -> Answer:
    code = chance.choice(CODES)
    raw = chance.choice(
        [
            b"%d 5.0.0 words" % code,
            b"%d-first\r\n%d second" % (code, code),
            b"%d one\r\n250 two" % code,  # two answers to one command
            chance.choice(NONSENSE[:11]),
            b"",
        ]
    )
    is_legible = REPLY.match(raw) is not None
    ends = raw == b"" or chance.random() < 0.2
    # a server that says a legible word of its own means it; what else it did with the mail, nobody can know
    took = raw.startswith(b"2") if is_legible else chance.random() < 0.5
    return Answer(raw=raw, cut=ends, reset=ends and chance.random() < 0.3, is_accepting=took and step == "dot")


REPLY = re.compile(rb"[2-5]\d\d( |-[^\n]*\n[2-5]\d\d )")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.proves("F-S02", "F-S03", "F-S04", "F-K11", "F-K13")
async def test_whatever_a_server_says_the_outcome_is_true(seed: int) -> None:
    chance = random.Random(seed)
    seen: set[OutcomeKind] = set()
    for trial in range(200):
        steps = chance.sample(
            ["greeting", "ehlo", "mail", "rcpt", "data", "dot", "dot", "rset"], chance.randrange(1, 3)
        )
        script = {step: [random_answer(chance, step) for _ in range(chance.randrange(1, 3))] for step in steps}
        described = f"seed {seed} trial {trial} {script}"
        async with SmtpPeer(script=script) as peer:
            sender = SmtpSender(config(peer.port, timeout_seconds=5, final_reply_seconds=5))
            for number in (1, 2):  # the second over the same connection, if there still is one
                message_id = f"{number}.{MESSAGE_ID}"
                content = b"Message-ID: <%b>\r\n\r\nhello\r\n" % message_id.encode()
                outcomes = await sender.send(handover("a@ok.test", "b@ok.test", content=content), nothing_to_do)
                assert len(outcomes) == 2, described
                for recipient, outcome in outcomes.items():
                    seen.add(outcome.kind)
                    accepts = peer.accepts(message_id, recipient)
                    assert accepts in TRUE_ACCEPTS[outcome.kind], f"{described}: {outcome}"
                    assert bool(outcome.fault) == (outcome.kind is OutcomeKind.CHANNEL_FAULT), described
            await sender.close()
    assert len(seen) >= 5
