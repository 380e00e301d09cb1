"""Mails as customers, robots, servers and forgers write them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

DESK = "support@desk.test"
JANE = "Jane <jane@customer.test>"
MALLORY = "Mallory <mallory@evil.test>"
PASS = "mx.desk.test; dmarc=pass header.from={}"

_numbers = itertools.count(1)


def letter(
    sender: str | Sequence[str] = JANE,
    *,
    to: str = DESK,
    subject: str = "Where is my order?",
    text: str = "Hello,\nwhere is it?\n",
    message_id: str | None = "",
    passed: str | None = None,
    **fields: str,
) -> bytes:
    """A mail. ``message_id``: empty makes a fresh one, None leaves it out. ``passed``: our border host's word on it.

    ``fields`` are more headers, with underscores for hyphens.
    """
    senders = [sender] if isinstance(sender, str) else sender
    lines = [f"Authentication-Results: {PASS.format(passed)}"] if passed else []
    lines += [f"From: {one}" for one in senders]
    lines += [f"To: {to}", f"Subject: {subject}", "Date: Mon, 2 Mar 2026 10:00:00 +0000"]
    if message_id is not None:
        lines.append(f"Message-ID: <{message_id or f'm{next(_numbers)}@customer.test'}>")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    lines += ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "", *text.splitlines(), ""]
    return "\r\n".join(lines).encode()


def dsn(
    to: str,
    *recipients: tuple[str, str, str],
    envelope_id: str | None = None,
    original: str | None = None,
    number: int | None = None,
) -> bytes:
    """An RFC 3464 report. ``recipients``: address, action, enhanced status."""
    unique = next(_numbers) if number is None else number
    blocks = []
    for address, action, status in recipients:
        block = [f"Final-Recipient: rfc822; {address}", f"Action: {action}", f"Status: {status}"]
        if action in ("failed", "delayed"):
            block.append(f"Diagnostic-Code: smtp; {'550' if action == 'failed' else '450'} {status} so it is")
        blocks.append("\r\n".join(block))
    per_message = ["Reporting-MTA: dns; mx.customer.test"]
    if envelope_id:
        per_message.insert(0, f"Original-Envelope-Id: {envelope_id}")
    parts = [
        "Content-Type: text/plain\r\n\r\nThis is the mail system. Your message met its fate.",
        "Content-Type: message/delivery-status\r\n\r\n" + "\r\n\r\n".join(["\r\n".join(per_message), *blocks]),
    ]
    if original:
        kept = f"Message-ID: <{original}>\r\nSubject: Re: Where is my order?\r\nFrom: {DESK}\r\n"
        parts.append("Content-Type: text/rfc822-headers\r\n\r\n" + kept)
    return _report("delivery-status", parts, to=to, number=unique)


def mdn(to: str, original: str, *, recipient: str = "jane@customer.test", sender: str = JANE) -> bytes:
    parts = [
        "Content-Type: text/plain\r\n\r\nIt was displayed.",
        "Content-Type: message/disposition-notification\r\n\r\n"
        f"Final-Recipient: rfc822; {recipient}\r\nOriginal-Message-ID: <{original}>\r\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\r\n",
    ]
    return _report("disposition-notification", parts, to=to, number=next(_numbers), sender=sender)


def complaint(to: str, original: str, recipient: str = "jane@customer.test") -> bytes:
    parts = [
        "Content-Type: text/plain\r\n\r\nThis is an email abuse report.",
        "Content-Type: message/feedback-report\r\n\r\n"
        "Feedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\n"
        f"Original-Rcpt-To: {recipient}\r\n",
        f"Content-Type: message/rfc822\r\n\r\nFrom: {DESK}\r\nTo: {recipient}\r\nMessage-ID: <{original}>\r\n"
        "Subject: Re: Where is my order?\r\n\r\nDear customer",
    ]
    return _report("feedback-report", parts, to=to, number=next(_numbers), sender="abuse@provider.test")


def _report(
    kind: str, parts: Sequence[str], *, to: str, number: int, sender: str = "MAILER-DAEMON@mx.customer.test"
) -> bytes:
    head = (
        f"Return-Path: <>\r\nFrom: {sender}\r\nTo: {to}\r\nSubject: Report\r\n"
        f"Date: Mon, 2 Mar 2026 11:00:00 +0000\r\nMessage-ID: <r{number}@mx.customer.test>\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type={kind}; boundary="=_b"\r\n\r\n'
    )
    body = "".join(f"--=_b\r\n{part}\r\n\r\n" for part in parts)
    return (head + body + "--=_b--\r\n").encode()


def legacy_bounce(to: str, recipient: str) -> bytes:
    """qmail's own words (no report format at all)."""
    text = (
        "Hi. This is the qmail-send program at mx.customer.test.\r\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\r\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n"
        f"<{recipient}>:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n"
    )
    head = (
        f"Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.customer.test\r\nTo: {to}\r\nSubject: failure notice\r\n"
        f"Date: Mon, 2 Mar 2026 11:00:00 +0000\r\nMessage-ID: <q{next(_numbers)}@mx.customer.test>\r\n\r\n"
    )
    return (head + text).encode()
