"""Delivery reports, read receipts and complaints: RFC 3464, RFC 6533, RFC 8098, RFC 5965, and those without a form.

The form is read by own code over the decoded payload, because real ones have blank lines inside blocks, blocks
without blank lines between them, folded and missing fields. What has no form goes to ``legacy_bounce``. Nobody
is believed here: which delivery a report speaks of is decided elsewhere, by signed tokens first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from gateway.normalize import bounce_notice, bounce_reasons, bounce_signs, charset, legacy_bounce, mime
from gateway.normalize.bounce_reasons import REASONS
from gateway.normalize.headers import Head, Leaf, read_head
from gateway.normalize.values import Bounce, BouncedRecipient, Report

__all__ = ["REASONS", "read_report"]

MAX_FORM_BYTES: Final = 512 * 1024
MAX_RECIPIENTS: Final = 500
#: Past this many characters of diagnostics only the codes are weighed: a report of 500 essays stays cheap.
MAX_WEIGHED_CHARS: Final = 40_000
MAX_REMARK_CHARS: Final = 300
_STATUS_TYPES: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})
_MDN_TYPES: Final = frozenset({"message/disposition-notification", "message/global-disposition-notification"})
_RETURNED_TYPES: Final = frozenset(
    {"message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers", "message/rfc822-headers"}
)
_RECIPIENT_FIELDS: Final = frozenset(
    [
        "original-recipient",
        "final-recipient",
        "action",
        "status",
        "remote-mta",
        "diagnostic-code",
        "last-attempt-date",
        "final-log-id",
        "will-retry-until",
        "x-actual-recipient",
        "x-display-name",
        "x-supplementary-info",
        "x400-supplementary-info",
        "x-outbound-ip",
    ]
)
_NAMING_FIELDS: Final = frozenset({"final-recipient", "original-recipient", "action", "status", "x-actual-recipient"})
_FIELD = re.compile(r"^[ \t]?([A-Za-z][A-Za-z0-9-]{1,60})[ \t]*:[ \t]*(.*)$")
_TYPED = re.compile(r"^\s*([A-Za-z][A-Za-z0-9-]{0,40})\s*;\s*(.*)$", re.DOTALL)
_LETTERS = re.compile(r"[A-Za-z]{3}")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_ADDRESS_XTEXT = re.compile(r"\+(2B|3D)")
_UTF8_XTEXT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_COMPLAINT_SUBJECT: Final = re.compile(
    r"(?:complaint about message from|email feedback report for ip) \S", re.IGNORECASE
)
_REJECTED: Final = re.compile(
    r"reject|refus|abgelehnt|zurückgewiesen|rejeté|rechazad|rifiutat|rejeitad|recusad|geweigerd|odrzucon|отклонен|отвергнут",
    re.IGNORECASE,
)
_ACTIONS: Final = {
    "fail": "failed", "error": "failed", "undeliver": "failed", "bounce": "failed", "reject": "failed",
    "delay": "delayed", "defer": "delayed", "warn": "delayed", "deliver": "delivered", "success": "delivered",
    "relay": "relayed", "expand": "expanded",
}  # fmt: skip


def read_report(parts: Sequence[Leaf], head: Head, text: str) -> Bounce | Report | None:
    """Return what a delivery report, receipt or complaint says, or None for anything else.

    ``parts`` are the leaves of the mail, transfer-decoded; ``text`` is its readable text. A report by its form
    counts when the mail is a ``multipart/report`` or comes from a machine: a bounce that a person forwards is a
    message. Raises nothing.
    """
    main = head.content_type()
    kind = main.params.get("report-type", "").lower()
    is_report = main.main == "multipart/report" or "delivery-status" in kind
    if is_report or bounce_signs.is_from_machine(head):
        found = _read_by_form(parts, head, text, kind)
        if found is not None:
            return found
    complaint = _read_plain_complaint(parts, head)
    if complaint is not None:
        return complaint
    is_surely = is_report and (not kind or "delivery" in kind)
    bounce = legacy_bounce.read(head, text, is_report=is_surely)
    return bounce and replace(bounce, original_message_id=_original_id(parts, {}, head, text))


def _read_by_form(parts: Sequence[Leaf], head: Head, text: str, kind: str) -> Bounce | Report | None:
    form = _find(parts, _STATUS_TYPES)
    receipt = _find(parts, _MDN_TYPES)
    complaint = _find(parts, frozenset({"message/feedback-report"}))
    if complaint is not None and (form is None or kind == "feedback-report"):
        return _read_complaint(complaint, parts, head)
    if receipt is not None and (form is None or kind == "disposition-notification"):
        return _read_receipt(receipt, parts, head, text)
    if form is not None:
        return _read_form(_fields(form.payload), parts, head, text)
    if "final-recipient:" in text[:20_000].lower():
        bounce = _read_form(_fields(text.encode("utf-8", "replace")), parts, head, text)
        if bounce.recipients and bounce.recipients[0].address:
            return bounce
    return _read_wrapped(parts)


def _read_wrapped(parts: Sequence[Leaf]) -> Bounce | None:
    """Read the report inside a report: gateways pack what passes them into a mail of their own."""
    returned = _find(parts, frozenset({"message/rfc822"}))
    if returned is None:
        return None
    head, begin, _ = read_head(returned.payload)
    if head.content_type().main != "multipart/report":
        return None
    inner = list(mime.leaves(mime.read_tree(head, returned.payload, begin)[0]))
    form = _find(inner, _STATUS_TYPES)
    return _read_form(_fields(form.payload), inner, head, "") if form is not None else None


def _find(parts: Iterable[Leaf], types: frozenset[str]) -> Leaf | None:
    return next((leaf for leaf in parts if leaf.content_type in types), None)


def _fields(payload: bytes) -> list[tuple[str, str, bool]]:
    """Return ``(name, value, after_blank)`` for every field, unfolded. Lines that are no fields are dropped."""
    text = charset.decode(payload[:MAX_FORM_BYTES], "utf-8")[0]
    fields: list[tuple[str, list[str], bool]] = []
    after_blank = False
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line.strip():
            after_blank = True
            continue
        match = _FIELD.match(line[:4000])
        is_folded = line[0] in " \t"
        if match is not None and (not is_folded or match[1].lower() in _RECIPIENT_FIELDS):
            fields.append((match[1].lower(), [match[2].strip()], after_blank))
            after_blank = False
        elif is_folded and fields and not after_blank and len(fields[-1][1]) < 60:
            fields[-1][1].append(line.strip()[:4000])
    return [(name, " ".join(value).strip(), blank) for name, value, blank in fields]


def _read_form(fields: list[tuple[str, str, bool]], parts: Sequence[Leaf], head: Head, text: str) -> Bounce:
    message, records = _split_records(fields)
    is_delay = bounce_signs.is_delay_notice(head, text)
    told = legacy_bounce.read_words(text) if any(_is_silent(record) for record in records[:MAX_RECIPIENTS]) else {}
    originals = Counter(_read_address(record.get("original-recipient", "")) for record in records[:MAX_RECIPIENTS])
    is_lone = len({_final_address(record) for record in records[:MAX_RECIPIENTS]}) == 1
    budget = MAX_WEIGHED_CHARS
    recipients: list[BouncedRecipient] = []
    for record in records[:MAX_RECIPIENTS]:
        one = _read_recipient(record, is_delay=is_delay, told=told, is_lone=is_lone, is_weighed=budget > 0)
        if originals[one.original_address] > 1:  # one list or alias, many failures: the final addresses tell them apart
            one = replace(one, address=_final_address(record) or one.address)
        recipients.append(one)
        budget -= len(one.diagnostic)
    if not any(one.address for one in recipients):
        legacy = legacy_bounce.read(head, text, is_report=True)
        if legacy is not None and (not recipients or any(one.address for one in legacy.recipients)):
            recipients = list(legacy.recipients)
    envelope_id = message.get("original-envelope-id", "").strip(" <>\"'")
    return Bounce(
        recipients=tuple(dict.fromkeys(recipients)),
        original_message_id=_original_id(parts, message, head, text),
        envelope_id=_XTEXT.sub(_from_hex, envelope_id) or None,
        reporting_mta=_untyped(message.get("reporting-mta", "")) or None,
    )


def _is_silent(record: dict[str, str]) -> bool:
    """Whether the form gives a status at best, and not the words of the other side."""
    return not record.get("diagnostic-code", "").strip()


def _from_hex(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    return char if char.isprintable() else match[0]


def _split_records(fields: list[tuple[str, str, bool]]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Tell the block of the message from the blocks of its recipients, whatever the blank lines say."""
    message: dict[str, str] = {}
    records: list[dict[str, str]] = []
    current: dict[str, str] | None = None
    for name, value, after_blank in fields:
        if name not in _RECIPIENT_FIELDS and not (current is not None and name.startswith("x-")):
            if name in message and current is None:
                continue
            message.setdefault(name, value)
            continue
        is_repeat = current is not None and name in current
        starts = name in ("original-recipient", "final-recipient", "action", "status")
        opens = (
            after_blank
            and name in ("original-recipient", "final-recipient")
            and bool(current)
            and ("final-recipient" in (current or {}))
        )
        if current is None or (is_repeat and starts) or opens:
            if name not in _RECIPIENT_FIELDS:
                continue
            current = {}
            records.append(current)
        current.setdefault(name, value)
    return message, [record for record in records if record.keys() & _NAMING_FIELDS]


def _read_recipient(
    record: dict[str, str], *, is_delay: bool, told: dict[str, str], is_lone: bool, is_weighed: bool
) -> BouncedRecipient:
    original = _read_address(record.get("original-recipient", ""))
    final = _final_address(record)
    diagnostic = _find_diagnostic(record)
    if _is_silent(record) and not bounce_notice.says_why(diagnostic):
        keys = [(original or "").lower(), (final or "").lower()]
        keys = [key for key in keys if key] + ([""] if is_lone else [])
        diagnostic = next((told[key] for key in keys if key in told), diagnostic)
    status = bounce_notice.find_status(record.get("status", ""))
    spoken_status = bounce_notice.find_status(diagnostic)
    if spoken_status and (status is None or status.endswith(".0.0")):
        status = spoken_status
    code = bounce_notice.find_code(diagnostic)
    action = _read_action(record.get("action", ""), status, code, is_delay=is_delay)
    reason = bounce_reasons.classify(status, code, diagnostic if is_weighed else "")
    return BouncedRecipient(
        address=original or final,
        action=action,
        status=status,
        code=code,
        diagnostic=diagnostic[: bounce_notice.MAX_DIAGNOSTIC_CHARS],
        reason=reason.word if action in ("failed", "delayed") else "",
        is_permanent=action == "failed" and bounce_reasons.is_given_up(reason, status, code),
        original_address=original,
    )


def _final_address(record: dict[str, str]) -> str | None:
    return _read_address(record.get("final-recipient", "")) or _read_address(record.get("x-actual-recipient", ""))


def _find_diagnostic(record: dict[str, str]) -> str:
    """Return the words of the other side: in their field, or where some systems put them instead."""
    diagnostic = " ".join(_untyped(record.get("diagnostic-code", "")).split())
    for name in ("x-supplementary-info", "x400-supplementary-info"):
        words = record.get(name, "").strip('<>" ')[:MAX_REMARK_CHARS]
        if bounce_notice.says_why(words) and not bounce_notice.says_why(diagnostic[:MAX_REMARK_CHARS]):
            return words
    # "Status: 5.0.0 (recipient reached disk quota)", "Status: 553 Message too big"
    remark = record.get("status", "")[:MAX_REMARK_CHARS] if not diagnostic else ""
    return " ".join(remark.split()) if _LETTERS.search(remark) else diagnostic


def _read_action(value: str, status: str | None, code: int | None, *, is_delay: bool) -> str:
    said = value.strip(" \"'<>").lower()
    for stem, action in _ACTIONS.items():
        if said.startswith(stem):
            return action
    digit = status[:1] if status else str(code or "")[:1]
    if digit == "2":
        return "delivered"
    return "delayed" if is_delay and digit != "5" else "failed"


def _untyped(value: str) -> str:
    """Drop the ``rfc822;``, ``smtp;`` or ``dns;`` in front of a value."""
    match = _TYPED.match(value)
    return (match[2] if match else value).strip()


def _read_address(value: str) -> str | None:
    """Return the mailbox of an address field, or None when it names none (X.400, "unknown")."""
    match = _TYPED.match(value)
    kind, rest = (match[1].lower(), match[2]) if match else ("rfc822", value)
    rest = rest.removeprefix("rfc822;")  # written twice by some
    begin, end = rest.find("<"), rest.rfind(">")
    if 0 <= begin < end and "@" in rest[begin:end]:
        rest = rest[begin + 1 : end]
    rest = rest.strip(" \t<>\"'()")
    if kind == "utf-8":
        rest = _UTF8_XTEXT.sub(_from_code_point, rest)
    elif kind in ("x400", "x-ex", "ex"):
        return None
    rest = _ADDRESS_XTEXT.sub(_from_hex, rest)
    if "@" not in rest:
        return None
    words = [word for word in rest.split() if "@" in word]
    address = charset.clean(words[0].strip("<>,;:")) if words else ""
    return address[:400] or None


def _from_code_point(match: re.Match[str]) -> str:
    point = int(match[1], 16)
    return chr(point) if 0x20 < point < 0xD800 or 0xDFFF < point < 0x110000 else match[0]


def _original_id(parts: Sequence[Leaf], message: dict[str, str], head: Head, text: str) -> str | None:
    """Return the Message-ID of the mail that the report is about: from the returned part first."""
    for leaf in parts:
        if leaf.content_type in _RETURNED_TYPES:
            found = _first_id(read_head(leaf.payload)[0].first("message-id")) or legacy_bounce.find_message_id(
                charset.decode(leaf.payload[:MAX_FORM_BYTES], "utf-8")[0]
            )
            if found:
                return found
    return (
        _first_id(message.get("x-original-message-id"))
        or _first_id(message.get("original-message-id"))
        or legacy_bounce.find_message_id(text)
        or _first_id(head.first("x-original-message-id"))
        or _first_id(head.first("in-reply-to"))
        or _last_id(head.first("references"))
    )


def _first_id(value: str | None) -> str | None:
    ids = legacy_bounce.read_ids(value or "")
    return ids[0] if ids else None


def _last_id(value: str | None) -> str | None:
    ids = legacy_bounce.read_ids(value or "")
    return ids[-1] if ids else None


def _flat(payload: bytes) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value, _ in _fields(payload):
        flat.setdefault(name, value)
    return flat


def _read_receipt(leaf: Leaf, parts: Sequence[Leaf], head: Head, text: str) -> Report | Bounce:
    """RFC 8098: ``Disposition: manual-action/MDN-sent-manually; displayed``. A refusal by a filter is a bounce."""
    fields = _flat(leaf.payload)
    said = fields.get("disposition", "").strip().lower()
    word = re.split(r"[/,;\s]", said.partition(";")[2].strip(), maxsplit=1)[0]
    recipient = _read_address(fields.get("final-recipient", ""))
    original = _read_address(fields.get("original-recipient", ""))
    original_id = _first_id(fields.get("original-message-id")) or _original_id(parts, {}, head, "")
    if word == "deleted" and said.startswith("automatic-action") and _REJECTED.search(text[:2000]):
        return Bounce(
            recipients=(_refused_by_filter(original or recipient, original, text),), original_message_id=original_id
        )
    return Report(
        kind="mdn", disposition=word or None, recipient=recipient or original, original_message_id=original_id
    )


def _refused_by_filter(address: str | None, original: str | None, text: str) -> BouncedRecipient:
    """RFC 5429: a recipient's own filter (Sieve) rejects by a receipt; its reason follows in plain words."""
    words = bounce_notice.find_diagnostic(bounce_notice.cut_notice(text))
    status, code = bounce_notice.find_status(words), bounce_notice.find_code(words)
    word = bounce_reasons.classify(status, code, words).word
    word = "not_allowed" if word in ("policy", "other") else word
    return BouncedRecipient(
        address=address,
        action="failed",
        status=status,
        code=code,
        diagnostic=words,
        reason=word,
        is_permanent=REASONS[word][1],
        original_address=original,
    )


def _read_complaint(leaf: Leaf, parts: Sequence[Leaf], head: Head) -> Report:
    """RFC 5965: the feedback type, whom the mail went to (often redacted) and the mail itself."""
    fields = _flat(leaf.payload)
    return Report(
        kind="complaint",
        disposition=fields.get("feedback-type", "").strip().lower() or None,
        recipient=_read_address(fields.get("original-rcpt-to", ""))
        or _read_address(fields.get("removal-recipient", "")),
        original_message_id=_original_id(parts, {}, head, ""),
    )


def _read_plain_complaint(parts: Sequence[Leaf], head: Head) -> Report | None:
    """Complaints of before RFC 5965, which only wrap the mail: Microsoft's JMRP, AOL's "scomp", and their imitators."""
    returned = _find(parts, frozenset({"message/rfc822", "text/rfc822-headers"}))
    if returned is None:
        return None
    inner = read_head(returned.payload)[0]
    recipient = inner.first("x-hmxmroriginalrecipient") or head.first("x-hmxmroriginalrecipient")
    is_scomp = (head.first("x-loop") or "").strip().lower() == "scomp"
    if recipient is None and not is_scomp and _COMPLAINT_SUBJECT.match(head.first("subject") or "") is None:
        return None
    return Report(
        kind="complaint",
        disposition="abuse",
        recipient=_read_address(recipient or ""),
        original_message_id=_original_id(parts, {}, head, ""),
    )
