"""Bounces without a form, in the dialects of the usual mail systems; and mails of people that look like one."""
# ruff: noqa: E501 -- what a mail system says is kept on one line

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.normalize import bounce_reasons, dsn
from gateway.normalize.headers import read_head
from gateway.normalize.values import Bounce

NOTICES = [
    block.strip("\n").split("\n", 1)
    for block in (Path(__file__).parent / "bounces" / "notices.txt")
    .read_text("utf-8")
    .split("\n", 1)[1]
    .split("====\n")
]


def read(mail: str) -> object:
    raw = f"To: desk@example.test\n{mail}".encode()
    head, body, _ = read_head(raw)
    return dsn.read_report([], head, raw[body:].decode())


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize(("expected", "mail"), NOTICES, ids=lambda value: value.partition("|")[0][:30])
def test_notice_is_read(expected: str, mail: str) -> None:
    address, action, status, code, reason = (None if part == "-" else part for part in expected.split(" | ")[1:])
    bounce = read(mail)
    assert isinstance(bounce, Bounce)
    assert [one.address for one in bounce.recipients] == [address]
    told = bounce.recipients[0]
    assert (told.action, told.status, str(told.code or "") or None, told.reason) == (action, status, code, reason)
    assert bounce.original_message_id == ("d77@example.test" if "d77@" in mail else None)
    assert not (told.is_permanent and action == "delayed")


@pytest.mark.proves("R2.4", "F-S07")
def test_each_recipient_of_a_notice_keeps_its_own_words() -> None:
    bounce = read(
        "Return-Path: <>\nFrom: MAILER-DAEMON@q.test\nSubject: failure notice\n\nHi. This is the qmail-send program at q.test.\n\n"
        "<jane@customer.test>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n<john@other.test>:\nRemote host said: 552 5.2.2 over quota\n\n"
        "--- Below this line is a copy of the message.\n\nMessage-ID: <d77@example.test>\n"
    )
    assert isinstance(bounce, Bounce)
    assert [(one.address, one.status, one.reason, one.is_permanent) for one in bounce.recipients] == [
        ("jane@customer.test", "5.1.1", "no_such_mailbox", True),
        ("john@other.test", "5.2.2", "mailbox_full", False),
    ]


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize(
    ("notice", "addresses"),
    [
        ("Unknown user: a@one.test\n\n553 unknown\n\nUnknown user: b@two.test\n\n553 unknown\n", ["a@one.test", "b@two.test"]),
        ("The following addresses failed: a@one.test, <b@two.test>; c@three.test\n", ["a@one.test", "b@two.test", "c@three.test"]),
        ("Delivery failed:\n\n<a@one.test>: user unknown, see b@two.test\n", ["a@one.test"]),
        ("Your message to a@one.test could not be delivered. For assistance contact help@mx.test\n", ["a@one.test"]),
        ("Could not be delivered, 550 5.1.1\nTo: a@one.test\n", ["a@one.test"]),
        ("<bounces1@one.test>: host mx said:\n    550-bounces1@one.test is not an active address\n", ["bounces1@one.test"]),
        ("Relates to\n        To: a@one.test\n\nwas not delivered to:\n    a@one.test\n", ["a@one.test"]),
        ("Could not be delivered.\n\n<a@one.test>: user unknown. Please forward the mail to help@one.test\n", ["a@one.test"]),
        ("A message from <desk+77@mine.test> to:\n-> a@one.test\n\nwas considered unsolicited bulk e-mail (UBE).\n", ["a@one.test"]),
    ],
)  # fmt: skip
def test_every_recipient_and_nobody_else_is_named(notice: str, addresses: list[str]) -> None:
    bounce = read(f"Return-Path: <>\nFrom: MAILER-DAEMON@mx.test\nSubject: Undeliverable Mail\n\n{notice}")
    assert isinstance(bounce, Bounce)
    assert [one.address for one in bounce.recipients] == addresses


@pytest.mark.proves("R2.4", "F-S02")
@pytest.mark.parametrize(
    ("words", "is_permanent"),
    [("User unknown", True), ("their mailbox is full", False), ("it did not work", False), ("450 user unknown", False)],
)
def test_words_decide_for_good_or_for_now_where_no_code_stands(words: str, is_permanent: bool) -> None:
    bounce = read(
        f"From: MAILER-DAEMON@mx.test\nSubject: Undeliverable Mail\n\nRecipient: jane@customer.test\n{words}\n"
    )
    assert isinstance(bounce, Bounce)
    assert [one.is_permanent for one in bounce.recipients] == [is_permanent]


@pytest.mark.proves("R2.4", "F-S07")
@pytest.mark.parametrize(
    "words",
    [
        "expanded from: <all@customer.test>",
        "expanded from\n    <all@customer.test>",
        "ultimately generated from all@customer.test",
    ],
)
def test_address_that_we_wrote_to_is_kept_beside_the_one_it_led_to(words: str) -> None:
    bounce = read(
        "From: MAILER-DAEMON@mx.test\nSubject: Returned mail\n\nThe following addresses had permanent fatal errors\n"
        f"jane@in.test\n    ({words})\n    550 5.1.1 user unknown\n"
    )
    assert isinstance(bounce, Bounce)
    assert [(one.address, one.original_address) for one in bounce.recipients] == [("jane@in.test", "all@customer.test")]


@pytest.mark.proves("R2.4", "F-S09")
@pytest.mark.parametrize(
    "mail",
    [
        "From: Jane <jane@customer.test>\nReturn-Path: <jane@customer.test>\nSubject: Undeliverable items in your order\n\nThe parcel could not be delivered to jane@customer.test, error 5.1.1.",
        "From: Jane <jane@customer.test>\nSubject: Fwd: Undelivered Mail Returned to Sender\n\nWhat is this?\n\n<john@other.test>: host x said: 550 5.1.1 user unknown",
        "From: Jane <jane@customer.test>\nSubject: Re: failure notice\n\nHi. This is the qmail-send program at q.test.\n<a@b.test>:\n550 no",
        "From: Jane <jane@customer.test>\nReturn-Path: <>\nAuto-Submitted: auto-replied\nSubject: Automatic reply: Order\n\nI am out of the office. Mail is not delivered to me. 550 thanks.",
        "From: Jane <jane@customer.test>\nReturn-Path: <>\nSubject: Abwesenheitsnotiz: Bestellung\n\nIch bin nicht da.",
        "From: Shop <shop@customer.test>\nAuto-Submitted: auto-generated\nSubject: Your parcel is on its way\n\nIt will be delivered tomorrow.",
        "From: Postmaster <postmaster@customer.test>\nSubject: Question about your mail server\n\nHello, could you please tell me your MX?",
        "From: Parcel Service <info@parcel.test>\nReturn-Path: <>\nSubject: Your parcel could not be delivered\n\nWe could not be delivered your parcel today. We will try again.",
        "From: Mailer-Daemon@customer.test\nReturn-Path: <>\nSubject: Hello\n\nNothing happened.",
        "From: Jane <jane@customer.test>\nSubject: Mail delivery failed: returning message to sender\n\nHi, what shall I do with this?\n\nThis message was created automatically by mail delivery software.\nThe following address failed:\n\n  john@other.test\n    550 5.1.1 user unknown",
        "From: Jane <jane@customer.test>\nSubject: WG: Unzustellbar: Bestellung\n\nDiese Nachricht konnte nicht an folgende Empfänger zugestellt werden:\n\njohn@other.test",
        "From: Jane <jane@customer.test>\nSubject: Undeliverable address\nIn-Reply-To: <x@y>\n\nYour mail was not delivered to\njane@customer.test\nfor days.",
        "From: Jane <jane@customer.test>\nSubject: Delivery failed\n\nMy parcel was not delivered to me. Write to:\njane@customer.test",
        "From: Jane <jane@customer.test>\nReturn-Path: <>\nAuto-Submitted: auto-replied\nSubject: I have left\n\nI no longer work here, mail is not forwarded. Contact:\n\nbob@customer.test",
        "From: Jane <jane@customer.test>\nReturn-Path: <>\nSubject: Re: Lieferung\n\nIch bin im Urlaub. In dringenden Fällen:\nbob@customer.test",
        "From: Parcel <noreply@parcel.test>\nAuto-Submitted: auto-generated\nSubject: Delivery failed\n\nWe could not deliver your parcel.\n\nRecipient: jane@customer.test\nReason: nobody was there. Delivery attempt 1 failed.",
        "From: Postmaster <postmaster@customer.test>\nSubject: Your mail to us\n\nHello, our server refused you: 550 5.7.1 blocked. We opened it. Regards, Jane\n\nYou wrote to:\ndesk@example.test",
        "From: News <news@shop.test>\nList-Unsubscribe: <https://shop.test>\nSubject: Rejected offers return\n\nOur mail system at the shop delivers. jane@customer.test",
        "From: Jane <jane@customer.test>\nSubject: My mails bounce\n\nEvery message I send to bob@example.test is returned: 550 5.1.1 user unknown. Why?",
    ],
)  # fmt: skip
def test_what_people_and_robots_write_is_no_bounce(mail: str) -> None:
    assert read(mail) is None


@pytest.mark.proves("R2.4", "F-S02", "F-S07")
@pytest.mark.parametrize(
    ("status", "code", "words", "reason", "side", "is_permanent"),
    [
        ("5.1.1", 550, "no such user", "no_such_mailbox", "recipient", True),
        ("5.1.1", 450, "user unknown", "no_such_mailbox", "recipient", False),
        ("4.2.2", 552, "mailbox full", "mailbox_full", "recipient", False),
        ("5.2.2", None, "", "mailbox_full", "recipient", False),
        ("5.1.2", None, "", "no_such_domain", "recipient", True),
        ("5.4.4", None, "Host or domain name not found. Name service error", "no_such_domain", "recipient", True),
        ("5.2.1", 550, "The email account that you tried to reach is disabled", "mailbox_disabled", "recipient", True),
        ("4.2.1", 450, "The user you are trying to contact is receiving mail too quickly", "rate_limited", "ours", False),
        ("5.3.4", 552, "", "too_big", "content", True),
        ("5.2.3", 552, "Your message exceeded Google's message size limits", "too_big", "content", True),
        ("4.7.1", 451, "Greylisting in action, please come back later", "greylisted", "theirs", False),
        (None, 451, "Temporarily deferred, greylisted", "greylisted", "theirs", False),
        ("5.7.1", 554, "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "blocked", "policy", True),
        ("5.7.1", 550, "Message classified as spam", "spam", "policy", True),
        ("5.7.26", 550, "This mail is unauthenticated", "authentication", "ours", True),
        ("5.7.1", 550, "SPF check failed", "authentication", "ours", True),
        ("5.7.509", 550, "Access denied, sending domain does not pass DMARC verification", "authentication", "ours", True),
        ("5.7.25", 550, "The IP address sending this message does not have a PTR record", "reverse_dns", "ours", True),
        ("4.7.28", 421, "Gmail has detected an unusual rate", "rate_limited", "ours", False),
        ("5.7.8", 535, "Username and Password not accepted", "login", "login", True),
        ("5.7.139", 535, "Authentication unsuccessful, SmtpClientAuthentication is disabled", "login", "login", True),
        (None, 535, "", "login", "login", True),
        ("5.7.708", 550, "Service unavailable. Access denied, traffic not accepted from this IP", "blocked", "policy", True),
        ("5.7.606", 550, "Access denied, banned sending IP", "blocked", "policy", True),
        ("5.7.133", 550, "RESOLVER.RST.SenderNotAuthenticatedForGroup", "not_allowed", "policy", True),
        ("5.7.1", 554, "Relay access denied", "relay_denied", "policy", True),
        ("5.4.6", 554, "hop count exceeded - possible mail loop", "loop", "theirs", True),
        ("5.4.14", 554, "Hop count exceeded - possible mail loop ATTR34", "loop", "theirs", True),
        ("4.4.7", None, "delivery time expired", "expired", "theirs", True),
        ("4.4.1", None, "connect to mx[192.0.2.1]:25: Connection refused", "not_reachable", "theirs", False),
        ("4.4.3", None, "", "dns_failure", "theirs", False),
        ("5.1.10", 550, "RESOLVER.ADR.RecipientNotFound", "no_such_mailbox", "recipient", True),
        ("5.1.10", 556, "Domain does not accept mail (nullMX)", "takes_no_mail", "recipient", True),
        ("5.5.0", 550, "Requested action not taken: mailbox unavailable", "no_such_mailbox", "recipient", True),
        ("5.6.7", None, "", "encoding", "content", True),
        ("5.1.8", 553, "Domain of sender address does not exist", "sender_refused", "ours", True),
        ("5.7.10", None, "", "tls", "ours", True),
        ("4.5.3", 452, "Too many recipients", "too_many_recipients", "ours", False),
        ("5.0.0", None, "", "other", "theirs", True),
        ("4.0.0", 452, "Mailbox size limit exceeded", "mailbox_full", "recipient", False),
        (None, 550, "User has too many messages on the server", "mailbox_full", "recipient", False),
        (None, 550, "max message size exceeded", "too_big", "content", True),
        (None, 550, "Spamming not allowed", "spam", "policy", True),
        ("5.7.3", 553, "CONTENT REJECT by dspam", "spam", "policy", True),
        ("5.7.1", 550, "No mailbox found", "no_such_mailbox", "recipient", True),
        ("5.7.17", 550, "sorry, no mailbox here by that name", "no_such_mailbox", "recipient", True),
        ("5.7.9", 554, "Message not accepted for policy reasons", "policy", "policy", True),
        ("5.7.1", 553, "you try to use me as a relay", "relay_denied", "policy", True),
        (None, None, "Name service error for name=x.test type=MX: Malformed name server reply", "dns_failure", "theirs", False),
        (None, 554, "host kessler.test said: 554 Message looping", "loop", "theirs", True),
        (None, 550, "host spam.mx.test[192.0.2.1] said: 550 user unknown", "no_such_mailbox", "recipient", True),
        (None, 550, "192.0.2.1 is not allowed to send mail from example.test", "authentication", "ours", True),
        (None, 550, "Your server requires confirmation", "blocked", "policy", True),
        ("5.1.90", 550, "You have reached the daily limit", "rate_limited", "ours", False),
        (None, 421, "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints", "rate_limited", "ours", False),
        ("5.7.1", 550, "SC-001 Unfortunately, messages from 192.0.2.1 weren't sent", "blocked", "policy", True),
        (None, 554, "Service currently unavailable", "system_error", "theirs", True),
        (None, 550, "Konto jest zablokowane lub nieaktywne", "mailbox_disabled", "recipient", True),
        (None, None, "", "other", "theirs", False),
    ],
)  # fmt: skip
def test_reason_and_side(
    status: str | None, code: int | None, words: str, reason: str, side: str, is_permanent: bool
) -> None:
    assert bounce_reasons.classify(status, code, words) == bounce_reasons.Reason(reason, side, is_permanent)


@pytest.mark.proves("R2.4")
@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=300),
    st.from_regex(r"[245]\.\d{1,4}\.\d{1,4}", fullmatch=True) | st.none(),
    st.none() | st.integers(200, 599),
)
def test_every_refusal_has_a_known_reason(words: str, status: str | None, code: int | None) -> None:
    reason = bounce_reasons.classify(status, code, words)
    assert reason.word in bounce_reasons.REASONS
    if code is not None and code < 500 and not (status or "").endswith(".4.7"):
        assert not reason.is_permanent


@pytest.mark.proves("F-Z01")
@pytest.mark.parametrize("sender", ["", "From: \n", "From: @\n", "From: <>\n", "From: ,,\n", "From: MAILER-DAEMON\n"])
def test_notice_from_nobody_is_read(sender: str) -> None:
    bounce = read(f"Return-Path: <>\n{sender}Subject: Undeliverable mail\n\n550 5.1.1 could not be delivered\n")
    assert isinstance(bounce, Bounce)
    assert [(one.address, one.status) for one in bounce.recipients] == [(None, "5.1.1")]


@pytest.mark.proves("T-D12", "T-D03")
@pytest.mark.parametrize(
    "unit",
    [
        "<a@b.test>:\n",
        "a@b.test ",
        "550 5.1.1 ",
        "delivery ",
        "<",
        "a.",
        "a" * 50 + "@",
        "exceeds ",
        "user ",
        "550-",
        "\n",
        "account ",
    ],
)
def test_hostile_notice_costs_no_more_than_a_bounded_look(unit: str) -> None:
    mail = (
        "Return-Path: <>\nFrom: MAILER-DAEMON@q.test\nSubject: failure notice\n\ncould not be delivered\n"
        + unit * 200_000
    )
    started = time.process_time()
    read(mail)
    assert time.process_time() - started < 8
