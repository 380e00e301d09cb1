"""What other mail systems send back: delivery reports, receipts, complaints, holiday notes. Values in, bytes out.

Sources: RFC 3464 (DSN), RFC 3461 section 6 (what is returned), RFC 8098 (MDN), RFC 5965 (ARF), RFC 3834 (automatic
answers); the plain-text bounce has the form that qmail documents as QSBMF.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.utils import format_datetime, getaddresses
from typing import Final

from gateway.normalize import headers
from gateway.sandbox.handover import Handover, Recipient

_SUBJECTS: Final = {
    "failed": "Undelivered Mail Returned to Sender",
    "delayed": "Delayed Mail (still being retried)",
    "delivered": "Successful Mail Delivery Report",
    "relayed": "Successful Mail Delivery Report",
}
_WORDS: Final = {
    "failed": "I could not deliver your message to the recipient below and will not try again.",
    "delayed": "Your message is still waiting to be delivered to the recipient below.\r\n"
    "You need not send it again: I keep trying until the date given in the report.",
    "delivered": "Your message was put into the mailbox of the recipient below.",
    "relayed": "Your message was passed on to a mail system that reports nothing back.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """What every written mail needs from outside: when, and a word that occurs nowhere else."""

    at: datetime
    token: str

    @property
    def date(self) -> str:
        return format_datetime(self.at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a mail for one recipient, in the words of RFC 3464 section 2.3."""

    action: str  #: failed | delayed | delivered | relayed
    status: str
    diagnostic: str
    retry_until: datetime | None = None


def dsn(handover: Handover, recipient: Recipient, outcome: Outcome, stamp: Stamp) -> bytes:
    """Write a delivery status notification. The mail comes back whole only for failures without RET=HDRS."""
    mta = f"mx.{_domain(recipient.address)}"
    report = [f"Original-Envelope-Id: {handover.envelope_id}"] if handover.envelope_id else []
    report += [f"Reporting-MTA: dns; {mta}", f"Arrival-Date: {format_datetime(handover.at)}", ""]
    report += [f"Original-Recipient: {recipient.original}"] if recipient.original else []
    report += [
        f"Final-Recipient: rfc822; {recipient.address}",
        f"Action: {outcome.action}",
        f"Status: {outcome.status}",
    ]
    report += [f"Diagnostic-Code: smtp; {outcome.diagnostic}", f"Last-Attempt-Date: {stamp.date}"]
    report += [f"Will-Retry-Until: {format_datetime(outcome.retry_until)}"] if outcome.retry_until else []
    words = f"This is the mail system at host {mta}.\r\n\r\n{_WORDS[outcome.action]}\r\n\r\n<{recipient.address}>: "
    head = [
        f"From: Mail Delivery System <MAILER-DAEMON@{mta}>",
        f"To: {handover.envelope_from}",
        f"Subject: {_SUBJECTS[outcome.action]}",
        "Auto-Submitted: auto-replied",
    ]
    whole = outcome.action == "failed" and handover.returns != "HDRS"
    parts = [
        _part("text/plain; charset=utf-8", (words + outcome.diagnostic).encode()),
        _part("message/delivery-status", "\r\n".join(report).encode("utf-8", "surrogateescape")),
        _returned(handover.raw, whole=whole),
    ]
    return _multipart(head, "delivery-status", parts, stamp=stamp, host=mta)


def qmail_bounce(handover: Handover, recipient: Recipient, outcome: Outcome, stamp: Stamp) -> bytes:
    """Write a bounce of the old kind: one plain text without any machine-readable part."""
    host = f"mx.{_domain(recipient.address)}"
    text = (
        f"Hi. This is the qmail-send program at {host}.\r\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\r\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n"
        f"<{recipient.address}>:\r\n{outcome.diagnostic} (#{outcome.status})\r\n\r\n"
        "--- Below this line is a copy of the message.\r\n\r\n"
        f"Return-Path: <{handover.envelope_from}>\r\n"
    )
    head = [
        f"Date: {stamp.date}",
        f"Message-ID: <{stamp.token}@{host}>",
        f"From: MAILER-DAEMON@{host}",
        f"To: {handover.envelope_from}",
        "Subject: failure notice",
    ]
    return "\r\n".join([*head, "", text]).encode("utf-8", "surrogateescape") + handover.raw


def read_receipt(handover: Handover, recipient: Recipient, stamp: Stamp) -> bytes:
    """Write an MDN: the person opened the mail and let the mail program say so."""
    original = headers.read_head(handover.raw)[0]
    host = _domain(recipient.address)
    report = [f"Reporting-UA: mail.{host}; Parchment 4.2"]
    report += [f"Original-Recipient: {recipient.original}"] if recipient.original else []
    report += [f"Final-Recipient: rfc822;{recipient.address}"]
    report += [f"Original-Message-ID: {_message_id(original)}"] if _message_id(original) else []
    report += ["Disposition: manual-action/MDN-sent-manually; displayed"]
    head = [
        f"From: {recipient.address}",
        f"To: {receipt_address(handover)}",
        f"Subject: {_subject('Read: ', original)}",
        f"In-Reply-To: {_message_id(original)}",
    ]
    words = f"Your message to {recipient.address} was displayed on {stamp.date}."
    parts = [
        _part("text/plain; charset=utf-8", words.encode()),
        _part("message/disposition-notification", "\r\n".join(report).encode("utf-8", "surrogateescape")),
    ]
    return _multipart(head, "disposition-notification", parts, stamp=stamp, host=host)


def receipt_address(handover: Handover) -> str:
    """Return where the sender wants receipts (RFC 8098 section 2.1), else the envelope sender."""
    wanted = headers.read_head(handover.raw)[0].first("disposition-notification-to") or ""
    addresses = [address for _, address in getaddresses([wanted]) if "@" in address]
    return addresses[0] if addresses else handover.envelope_from


def complaint(handover: Handover, recipient: Recipient, stamp: Stamp) -> bytes:
    """Write an ARF report: the recipient pressed "this is spam"."""
    host = _domain(recipient.address)
    report = [
        "Feedback-Type: abuse",
        f"User-Agent: {host} feedback loop/1.1",
        "Version: 1",
        f"Original-Mail-From: <{handover.envelope_from}>",
        f"Original-Rcpt-To: <{recipient.address}>",
        f"Arrival-Date: {format_datetime(handover.at)}",
        "Source-IP: 192.0.2.10",
        f"Reported-Domain: {_domain(handover.envelope_from)}",
    ]
    head = [f"From: Feedback Loop <fbl@{host}>", f"To: {handover.envelope_from}", "Subject: Abuse report"]
    words = f"A user of {host} reported the attached message as unwanted."
    parts = [
        _part("text/plain; charset=utf-8", words.encode()),
        _part("message/feedback-report", "\r\n".join(report).encode("utf-8", "surrogateescape")),
        _returned(handover.raw, whole=True),
    ]
    return _multipart(head, "feedback-report", parts, stamp=stamp, host=host)


def out_of_office(handover: Handover, recipient: Recipient, stamp: Stamp) -> bytes:
    """Write a holiday note (RFC 3834): to the envelope sender, naming the mail that it answers."""
    original = headers.read_head(handover.raw)[0]
    head = [
        f"Date: {stamp.date}",
        f"Message-ID: <{stamp.token}@{_domain(recipient.address)}>",
        f"From: Amelie Hartmann <{recipient.address}>",
        f"To: {handover.envelope_from}",
        f"Subject: {_subject('Out of office: ', original)}",
        f"In-Reply-To: {_message_id(original)}",
        f"References: {_message_id(original)}",
        "Auto-Submitted: auto-replied",
        "X-Auto-Response-Suppress: All",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    text = (
        "Hello,\r\n\r\nthank you for your mail. I am away until Monday the week after next.\r\n"
        "I read mail only now and then. If it is about an open invoice, please write to accounts@holiday.test.\r\n\r\n"
        "Schöne Grüße\r\nAmelie Hartmann\r\n"
    )
    return "\r\n".join([*head, "", text]).encode()


def _multipart(head: list[str], report_type: str, parts: list[bytes], *, stamp: Stamp, host: str) -> bytes:
    boundary = f"=_{stamp.token}"
    lines = [
        f"Date: {stamp.date}",
        f"Message-ID: <{stamp.token}@{host}>",
        *head,
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type={report_type}; boundary="{boundary}"',
        "",
        "",
    ]
    delimiter = f"--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts)
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body + delimiter + b"--\r\n"


def _part(content_type: str, content: bytes) -> bytes:
    encoding = "" if content.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
    return f"Content-Type: {content_type}\r\n{encoding}\r\n".encode() + content + b"\r\n"


def _returned(raw: bytes, *, whole: bool) -> bytes:
    if whole:
        return _part("message/rfc822", raw)
    _, body_offset, _ = headers.read_head(raw)
    return _part("text/rfc822-headers", raw[:body_offset].rstrip(b"\r\n") + b"\r\n")


def _subject(prefix: str, original: headers.Head) -> str:
    return Header(prefix + _plain(original.first("subject") or "")).encode(linesep="\r\n")


def _message_id(head: headers.Head) -> str:
    return _plain(head.first("message-id") or "")


def _plain(text: str) -> str:
    return " ".join(text.split())


def _domain(address: str) -> str:
    return address.rpartition("@")[2] or "localhost"
