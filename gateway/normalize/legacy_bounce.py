"""Bounces without an RFC 3464 part: qmail, Exim, Sendmail, Exchange, Notes, Yahoo, web.de and other dialects.

Whether a mail is one is judged in ``bounce_signs``, whom its words name in ``bounce_notice``. Where our own reading
names nobody, the scanners of flufl.bounce are asked on a bounded piece of the notice. Linear time.
"""

from __future__ import annotations

import re
from email.message import Message
from email.utils import getaddresses
from typing import Final

from flufl.bounce import all_failures

from gateway.normalize import bounce_notice, bounce_reasons, bounce_signs
from gateway.normalize.bounce_notice import Told
from gateway.normalize.bounce_signs import ADDRESS
from gateway.normalize.headers import Head
from gateway.normalize.values import Bounce, BouncedRecipient

_SCANNER_CHARS: Final = 8_000
_NOBODY: Final = "nobody@unknown.invalid"  # a scanner takes it for granted that there is a From
_MESSAGE_ID: Final = re.compile(
    r"^[\s>|]{0,10}(?:x-original-)?message-id\s{0,4}:\s{0,20}<?([^<>\s@]{1,250}@[^<>\s]{1,250})>?",
    re.IGNORECASE | re.MULTILINE,
)
_ID: Final = re.compile(r"<([^<>\s]{1,500})>")


def read(head: Head, text: str, *, is_report: bool) -> Bounce | None:
    """Return the bounce that the notice ``text`` speaks of, or None if it is none. ``is_report``: it surely is one.

    Where nobody can be named the bounce has one recipient without an address, if there is a reason, or none.
    """
    if not is_report and not bounce_signs.may_be_bounce(head):
        return None
    notice = bounce_notice.cut_notice(text)
    told = bounce_notice.read_told(notice, _own_addresses(head))
    if not told:  # some systems name the recipient in X-Original-To
        told = bounce_notice.read_told(notice, _own_addresses(head, ("to",)))
    is_named = head.has("x-failed-recipients") or any(one.is_named for one in told)
    if not bounce_signs.is_bounce(head, notice, is_report=is_report, is_named=is_named):
        return None
    return Bounce(
        recipients=tuple(_recipients(head, notice, told, is_delay=bounce_signs.is_delay_notice(head, text))),
        reporting_mta=_reporting_mta(notice),
    )


def read_words(text: str) -> dict[str, str]:
    """Return why it failed for each address (in lower case) of which the readable part of a report says so.

    Under "" stands what it says as a whole, if that is a reason.
    """
    notice = bounce_notice.cut_notice(text)
    words = {one.address.lower(): one.words for one in bounce_notice.read_told(notice, frozenset())}
    words[""] = bounce_notice.find_diagnostic(notice)
    return {address: why for address, why in words.items() if bounce_notice.says_why(why)}


def _own_addresses(head: Head, names: tuple[str, ...] = ("to", "delivered-to", "x-original-to")) -> frozenset[str]:
    return frozenset(found.lower() for name in names for found in ADDRESS.findall((head.first(name) or "")[:5000]))


def _recipients(head: Head, notice: str, told: list[Told], *, is_delay: bool) -> list[BouncedRecipient]:
    failed = ADDRESS.findall((head.first("x-failed-recipients") or "")[:20_000])
    known = {one.address.lower() for one in told if one.is_named}
    named = [*(Told(address) for address in dict.fromkeys(failed) if address.lower() not in known)]
    named += [one for one in told if one.is_named]
    ours = _own_addresses(head)
    if not named:
        domain = bounce_signs.sender_domain(head)
        guesses = (
            _scan(head, notice, ours)
            or (bounce_notice.bare_names(notice, domain) if domain else [])
            or [one.address for one in told]
            or bounce_notice.any_address(notice, ours)
        )
        words = {one.address: one.words for one in told}
        named = [Told(address, words.get(address, "")) for address in guesses]
    whole = bounce_notice.find_diagnostic(notice)
    if not named and bounce_notice.says_why(whole):
        return [_judge(None, whole, is_delay=is_delay)]
    recipients: list[BouncedRecipient] = []
    for one in named[: bounce_notice.MAX_RECIPIENTS]:
        is_own = bounce_notice.says_why(one.words) or (len(named) > 1 and bool(one.words))
        diagnostic = one.words if is_own else whole or one.words
        recipients.append(_judge(one.address, diagnostic, is_delay=is_delay, made_from=one.made_from))
    return recipients


def _judge(address: str | None, diagnostic: str, *, is_delay: bool, made_from: str | None = None) -> BouncedRecipient:
    status, code = bounce_notice.find_status(diagnostic), bounce_notice.find_code(diagnostic)
    reason = bounce_reasons.classify(status, code, diagnostic)
    return BouncedRecipient(
        address=address,
        action="delayed" if is_delay else "failed",
        status=status,
        code=code,
        diagnostic=diagnostic[: bounce_notice.MAX_DIAGNOSTIC_CHARS],
        reason=reason.word,
        is_permanent=not is_delay and bounce_reasons.is_given_up(reason, status, code),
        original_address=made_from,
    )


def _scan(head: Head, notice: str, ours: frozenset[str]) -> list[str]:
    """Ask the scanners of flufl.bounce, on plain ASCII of bounded size."""
    message = Message()
    sender = _ascii(head, "from")
    message["From"] = sender if any(address for _, address in getaddresses([sender])) else _NOBODY
    for name in ("subject", "x-mailer"):
        if value := _ascii(head, name):
            message[name] = value
    message["Content-Type"] = "text/plain"
    lines = notice[:_SCANNER_CHARS].encode("ascii", "replace").decode("ascii").split("\n")
    message.set_payload("\n".join(line[:200] for line in lines[:200]))
    found = sorted(address.decode("ascii", "replace") for address in _ask_scanners(message))
    return [address for address in found if ADDRESS.fullmatch(address) and not bounce_notice.is_other(address, ours)]


def _ascii(head: Head, name: str) -> str:
    return (head.first(name) or "").encode("ascii", "replace").decode("ascii")[:300]


def _ask_scanners(message: Message) -> set[bytes]:
    """Return whom they name. They are scripts for mails that were once seen: some trip over what nobody sent yet."""
    try:
        temporary, permanent = all_failures(message)
    except Exception:  # noqa: BLE001  foreign guesses about hostile bytes; the reader has its own next best guess
        return set()
    return {*temporary, *permanent}


def find_message_id(text: str) -> str | None:
    """Return the Message-ID in a returned mail that stands in the text, without brackets."""
    match = _MESSAGE_ID.search(text[: 4 * bounce_signs.MAX_NOTICE_CHARS])
    return match[1] if match else None


def read_ids(value: str) -> list[str]:
    """Return the ids of an In-Reply-To or References; a lone id without brackets counts."""
    found = _ID.findall(value[:20_000])
    bare = value.strip()
    return found or ([bare] if "@" in bare and " " not in bare and len(bare) < 500 else [])


def _reporting_mta(notice: str) -> str | None:
    match = re.search(
        r"(?:generating server|qmail-send program at|mail system at host|"
        r"reporting-mta)\s?[:;]?\s{0,3}(?:dns;\s?)?([\w-]{1,63}(?:\.[\w-]{1,63}){1,8})",
        notice,
        re.IGNORECASE,
    )
    return match[1] if match else None
