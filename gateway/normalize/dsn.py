"""Reports about our mail: deliveries (RFC 3464, RFC 6533) here, receipts and complaints in ``receipts``.

The form is split into records whatever its blank lines say, and completed from the words beside it where it is
silent. What has no form goes to ``legacy_bounce``. Nobody is believed here: which delivery a report speaks of is
decided elsewhere, by signed tokens first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.normalize import bounce_notice, bounce_reasons, bounce_signs, legacy_bounce, mime, receipts, report_fields
from gateway.normalize.bounce_reasons import REASONS
from gateway.normalize.headers import Head, Leaf, read_head
from gateway.normalize.values import Bounce, BouncedRecipient, Report

__all__ = ["REASONS", "read_report"]

MAX_RECIPIENTS: Final = 500
#: Past this many characters of diagnostics only the codes are weighed: a report of 500 essays stays cheap.
MAX_WEIGHED_CHARS: Final = 40_000
MAX_REMARK_CHARS: Final = 300
_STATUS_TYPES: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})
_MDN_TYPES: Final = frozenset({"message/disposition-notification", "message/global-disposition-notification"})
_NAMING_FIELDS: Final = frozenset({"final-recipient", "original-recipient", "action", "status", "x-actual-recipient"})
_LETTERS = re.compile(r"[A-Za-z]{3}")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
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
    complaint = receipts.read_plain_complaint(parts, head)
    if complaint is not None:
        return complaint
    is_surely = is_report and (not kind or "delivery" in kind)
    bounce = legacy_bounce.read(head, text, is_report=is_surely)
    return bounce and replace(bounce, original_message_id=report_fields.original_id(parts, {}, head, text))


def _read_by_form(parts: Sequence[Leaf], head: Head, text: str, kind: str) -> Bounce | Report | None:
    form = report_fields.find(parts, _STATUS_TYPES)
    receipt = report_fields.find(parts, _MDN_TYPES)
    complaint = report_fields.find(parts, frozenset({"message/feedback-report"}))
    if complaint is not None and (form is None or kind == "feedback-report"):
        return receipts.read_complaint(complaint, parts, head)
    if receipt is not None and (form is None or kind == "disposition-notification"):
        return receipts.read_receipt(receipt, parts, head, text)
    if form is not None:
        return _read_form(report_fields.fields(form.payload), parts, head, text)
    if "final-recipient:" in text[:20_000].lower():
        bounce = _read_form(report_fields.fields(text.encode("utf-8", "replace")), parts, head, text)
        if bounce.recipients and bounce.recipients[0].address:
            return bounce
    return _read_wrapped(parts)


def _read_wrapped(parts: Sequence[Leaf]) -> Bounce | None:
    """Read the report inside a report: gateways pack what passes them into a mail of their own."""
    returned = report_fields.find(parts, frozenset({"message/rfc822"}))
    if returned is None:
        return None
    head, begin, _ = read_head(returned.payload)
    if head.content_type().main != "multipart/report":
        return None
    inner = list(mime.leaves(mime.read_tree(head, returned.payload, begin)[0]))
    form = report_fields.find(inner, _STATUS_TYPES)
    return _read_form(report_fields.fields(form.payload), inner, head, "") if form is not None else None


def _read_form(fields: list[tuple[str, str, bool]], parts: Sequence[Leaf], head: Head, text: str) -> Bounce:
    message, records = _split_records(fields)
    is_delay = bounce_signs.is_delay_notice(head, text)
    told = legacy_bounce.read_words(text) if any(_is_silent(record) for record in records[:MAX_RECIPIENTS]) else {}
    originals = Counter(
        report_fields.read_address(record.get("original-recipient", "")) for record in records[:MAX_RECIPIENTS]
    )
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
        original_message_id=report_fields.original_id(parts, message, head, text),
        envelope_id=_XTEXT.sub(report_fields.from_hex, envelope_id) or None,
        reporting_mta=report_fields.untyped(message.get("reporting-mta", "")) or None,
    )


def _is_silent(record: dict[str, str]) -> bool:
    """Whether the form gives a status at best, and not the words of the other side."""
    return not record.get("diagnostic-code", "").strip()


def _split_records(fields: list[tuple[str, str, bool]]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Tell the block of the message from the blocks of its recipients, whatever the blank lines say."""
    message: dict[str, str] = {}
    records: list[dict[str, str]] = []
    current: dict[str, str] | None = None
    for name, value, after_blank in fields:
        if name not in report_fields.RECIPIENT_FIELDS and not (current is not None and name.startswith("x-")):
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
            if name not in report_fields.RECIPIENT_FIELDS:
                continue
            current = {}
            records.append(current)
        current.setdefault(name, value)
    return message, [record for record in records if record.keys() & _NAMING_FIELDS]


def _read_recipient(
    record: dict[str, str], *, is_delay: bool, told: dict[str, str], is_lone: bool, is_weighed: bool
) -> BouncedRecipient:
    original = report_fields.read_address(record.get("original-recipient", ""))
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
    return report_fields.read_address(record.get("final-recipient", "")) or report_fields.read_address(
        record.get("x-actual-recipient", "")
    )


def _find_diagnostic(record: dict[str, str]) -> str:
    """Return the words of the other side: in their field, or where some systems put them instead."""
    diagnostic = " ".join(report_fields.untyped(record.get("diagnostic-code", "")).split())
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
