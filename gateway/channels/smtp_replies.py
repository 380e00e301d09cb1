"""What an SMTP reply means for a message, a recipient or the channel. Pure: replies in, outcomes out.

Source: RFC 5321 section 4.2, RFC 3463, RFC 4954 section 6, and what Postfix, Exim, Exchange Online and Gmail say for
"you may not send as this address". The first digit decides; the enhanced code refines and overrides it in one case
only: 552 with 5.2.2, a full mailbox, which empties again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from gateway.channels.contract import Outcome, OutcomeKind

MAX_TEXT_CHARS = 500
MAX_QUEUE_ID_CHARS = 200

ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?!\S)")
HOST = re.compile(r"(?=.{1,255}$)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})+")
QUEUE_IDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bqueued as ([\w.:+/-]+)",  # Postfix, SendGrid, Mailgun
        r"\bid=([\w.:+/-]+)",  # Exim
        r"\[InternalId=(\d+)",  # Exchange
        r"(\S+) - gsmtp$",  # Gmail
        r"(\S+) Message accepted for delivery",  # Sendmail, OpenSMTPD
        r"\bok \d+ (qp \d+)",  # qmail
        r"^O[Kk] ([0-9a-f]{16}[0-9a-f-]{20,})$",  # SES
    )
)
#: Refusals of our own sender or account, at whatever step a server gets round to saying so.
OUR_SENDER = frozenset({"5.1.7", "5.1.8", "5.7.27", "5.7.57", "5.7.60", "5.2.252"})
OUR_SENDER_WORDS = re.compile(
    r"sender address rejected|not owned by user|send ?as ?denied|not (?:allowed|authorized|permitted) to send as"
    r"|does not have permissions? to send as|client (?:was|is) not authenticated",
    re.IGNORECASE,
)
OUR_RELAY_WORDS = re.compile(
    r"relay(?:ing)? (?:access )?(?:is )?(?:denied|not (?:permitted|allowed)|prohibited)|unable to relay"
    r"|not permitted to relay|authentication (?:is )?required",
    re.IGNORECASE,
)
FULL_WORDS = re.compile(r"quota|mailbox (?:is )?full|over ?limit|too many recipients", re.IGNORECASE)
TOO_MANY_WORDS = re.compile(r"too many (?:recipients|rcpt)|recipients? limit", re.IGNORECASE)
TLS_WORDS = re.compile(r"starttls|\btls\b|\bssl\b|encrypt", re.IGNORECASE)


class Step(Enum):
    """Where in the conversation a reply came."""

    GREETING = auto()
    EHLO = auto()
    STARTTLS = auto()
    LOGIN = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    DOT = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One whole reply. ``text`` is one clean line of at most 500 characters, the enhanced code taken off."""

    code: int
    enhanced: str | None = None
    text: str = ""

    @property
    def is_good(self) -> bool:
        return 200 <= self.code <= 299

    @property
    def is_temporary(self) -> bool:
        return 400 <= self.code <= 499

    @property
    def is_permanent(self) -> bool:
        return 500 <= self.code <= 599


def read_reply(code: int, lines: list[bytes]) -> Reply:
    """Join the text of a reply's lines; the enhanced code, repeated on each of them, is kept once."""
    enhanced = None
    words = []
    for line in lines:
        text = line.decode("utf-8", "replace").strip()
        if match := ENHANCED.match(text):
            enhanced = enhanced or match[1]
            text = text[match.end() :]
        words.append(text)
    return Reply(code=code, enhanced=enhanced, text=clean_text(" ".join(words)))


def clean_text(text: str) -> str:
    """One line without control, format and other invisible characters, cut: a peer's words are shown to people."""
    head = text[: MAX_TEXT_CHARS * 8]
    visible = "".join([c if c.isprintable() else " " for c in head])
    return " ".join(visible.split())[:MAX_TEXT_CHARS]


def server_name(greeting: Reply, configured: str) -> str:
    """The name that the server greets with, or the configured one when it gives none that could be a host."""
    first = greeting.text.split(" ", 1)[0]
    return first.lower() if HOST.fullmatch(first) else configured


def queue_id(reply: Reply) -> str:
    """The peer's own id for what it just accepted; empty when its words hold none that we know."""
    for pattern in QUEUE_IDS:
        if match := pattern.search(reply.text):
            return match[1][:MAX_QUEUE_ID_CHARS]
    return ""


def judge(step: Step, reply: Reply, *, server: str) -> Outcome:
    """Return what ``reply`` at ``step`` means. Good replies are the caller's business, except at the final dot."""
    kind, fault = _judged(step, reply)
    return Outcome(
        kind=kind,
        code=reply.code,
        enhanced=reply.enhanced,
        text=reply.text,
        server=server,
        queue_id=queue_id(reply) if kind is OutcomeKind.ACCEPTED else "",
        fault=fault,
    )


def _judged(step: Step, reply: Reply) -> tuple[OutcomeKind, str]:
    if reply.is_good:
        return OutcomeKind.ACCEPTED if step is Step.DOT else OutcomeKind.UNREACHABLE, ""
    if reply.is_temporary:
        return OutcomeKind.DEFERRED, ""
    if not reply.is_permanent:  # 3xx where none belongs: we do not understand each other
        return OutcomeKind.IN_DOUBT if step is Step.DOT else OutcomeKind.UNREACHABLE, ""
    if step in (Step.GREETING, Step.EHLO):  # about the connection, not about a message
        return OutcomeKind.DEFERRED, ""
    fault = _our_fault(step, reply)
    if fault:
        return OutcomeKind.CHANNEL_FAULT, fault
    if reply.code == 552 and _is_full(step, reply):
        return OutcomeKind.DEFERRED, ""
    return OutcomeKind.REFUSED, ""


def _our_fault(step: Step, reply: Reply) -> str:
    """The word for a permanent refusal that is about our set-up; empty when it is about this message."""
    if step is Step.STARTTLS or reply.code == 538:
        return "tls"
    if reply.code == 530 and TLS_WORDS.search(reply.text):
        return "tls"
    if step is Step.LOGIN or reply.code in (530, 534, 535):
        return "login"
    if reply.enhanced in OUR_SENDER or OUR_SENDER_WORDS.search(reply.text):
        return "sender"
    if step is Step.MAIL:
        return _fault_at_mail(reply)
    if step is Step.RCPT and OUR_RELAY_WORDS.search(reply.text):
        return "relay"
    if step in (Step.RCPT, Step.DATA) and reply.code in (500, 502, 503, 504):
        return "relay"  # 501 at RCPT is about that address's syntax
    return ""


def _fault_at_mail(reply: Reply) -> str:
    if reply.code == 552 or reply.enhanced in ("5.3.4", "5.2.3", "5.6.7"):
        return ""  # size, or an address that it cannot carry: this message
    return "relay" if 500 <= reply.code <= 504 or OUR_RELAY_WORDS.search(reply.text) else "sender"


def _is_full(step: Step, reply: Reply) -> bool:
    """552 means both "mailbox full" and "too big" (RFC 5321 section 4.2.3, RFC 1870)."""
    if reply.enhanced:
        return reply.enhanced in ("5.2.2", "4.2.2", "5.5.3", "4.5.3")
    return step is Step.RCPT and FULL_WORDS.search(reply.text) is not None


def is_too_many_recipients(reply: Reply) -> bool:
    """452 for the n-th RCPT: the others may go on, this one goes right after them (RFC 5321 section 4.5.3.1.10)."""
    if reply.code not in (452, 552):
        return False
    if reply.enhanced:
        return reply.enhanced in ("4.5.3", "5.5.3")
    return reply.code == 452 or TOO_MANY_WORDS.search(reply.text) is not None
