"""Read receipts (RFC 8098) and complaints (RFC 5965, and those from before it)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.normalize import bounce_notice, bounce_reasons, report_fields
from gateway.normalize.bounce_reasons import REASONS
from gateway.normalize.headers import Head, Leaf, read_head
from gateway.normalize.values import Bounce, BouncedRecipient, Report

_COMPLAINT_SUBJECT: Final = re.compile(
    r"(?:complaint about message from|email feedback report for ip) \S", re.IGNORECASE
)
_REJECTED: Final = re.compile(
    r"reject|refus|abgelehnt|zurückgewiesen|rejeté|rechazad|rifiutat|rejeitad|recusad|geweigerd|odrzucon|отклонен|отвергнут",
    re.IGNORECASE,
)


def read_receipt(leaf: Leaf, parts: Sequence[Leaf], head: Head, text: str) -> Report | Bounce:
    """RFC 8098: ``Disposition: manual-action/MDN-sent-manually; displayed``. A refusal by a filter is a bounce."""
    fields = report_fields.flat(leaf.payload)
    said = fields.get("disposition", "").strip().lower()
    word = re.split(r"[/,;\s]", said.partition(";")[2].strip(), maxsplit=1)[0]
    recipient = report_fields.read_address(fields.get("final-recipient", ""))
    original = report_fields.read_address(fields.get("original-recipient", ""))
    original_id = report_fields.first_id(fields.get("original-message-id")) or report_fields.original_id(
        parts, {}, head, ""
    )
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


def read_complaint(leaf: Leaf, parts: Sequence[Leaf], head: Head) -> Report:
    """RFC 5965: the feedback type, whom the mail went to (often redacted) and the mail itself."""
    fields = report_fields.flat(leaf.payload)
    return Report(
        kind="complaint",
        disposition=fields.get("feedback-type", "").strip().lower() or None,
        recipient=report_fields.read_address(fields.get("original-rcpt-to", ""))
        or report_fields.read_address(fields.get("removal-recipient", "")),
        original_message_id=report_fields.original_id(parts, {}, head, ""),
    )


def read_plain_complaint(parts: Sequence[Leaf], head: Head) -> Report | None:
    """Complaints of before RFC 5965, which only wrap the mail: Microsoft's JMRP, AOL's "scomp", and their imitators."""
    returned = report_fields.find(parts, frozenset({"message/rfc822", "text/rfc822-headers"}))
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
        recipient=report_fields.read_address(recipient or ""),
        original_message_id=report_fields.original_id(parts, {}, head, ""),
    )
