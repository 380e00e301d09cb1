"""`gatehouse inspect`: what the mail reader makes of files, one JSON-ready dict a mail. Reads only, never fails.

A folder means the files under it in sorted order; an mbox file gives one dict for each of its mails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from gateway.normalize.mail import read_mail
from gateway.normalize.values import Address, Bounce, Mail

MAX_FILE_BYTES: Final = 256 * 1024 * 1024
_MBOX_LINE: Final = re.compile(
    rb"^From [^\r\n]{0,300}\d{2}:\d{2}[^\r\n]{0,100}\r?\n(?=[!-9;-~]{1,80}[ \t]?:|>?From )", re.MULTILINE
)


def inspect_paths(paths: Iterable[str | Path]) -> Iterator[dict[str, Any]]:
    """Yield one dict for each mail in the files and folders. An unreadable file yields a dict that says so."""
    for given in paths:
        path = Path(given)
        try:
            files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        except OSError as error:
            yield _unreadable(str(path), error)
            continue
        for file in files:
            yield from _inspect_file(file)


def _inspect_file(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        yield _unreadable(str(path), error)
        return
    mails = split_mbox(raw)
    if len(mails) == 1:
        yield inspect_mail(raw, str(path))
        return
    for number, mail in enumerate(mails, start=1):
        yield inspect_mail(mail, f"{path}#{number}")


def split_mbox(raw: bytes) -> list[bytes]:
    """Return the mails of an mbox file, ``>From `` undone (mboxrd); a file with one mail as it is."""
    if not raw.startswith(b"From "):
        return [raw]
    starts = [hit.start() for hit in _MBOX_LINE.finditer(raw) if hit.start() == 0 or _is_after_blank(raw, hit.start())]
    if len(starts) < 2:
        return [raw]
    ends = [*starts[1:], len(raw)]
    return [re.sub(rb"(?m)^>(>*From )", rb"\1", raw[begin:end]) for begin, end in zip(starts, ends, strict=True)]


def _is_after_blank(raw: bytes, at: int) -> bool:
    return raw[at - 2 : at] == b"\n\n" or raw[at - 4 : at] == b"\r\n\r\n"


def inspect_mail(source: bytes | str | Path, name: str) -> dict[str, Any]:
    """Return what one mail says, as the fields of the command's output; unknown is None or empty."""
    if not isinstance(source, bytes):
        try:
            source = Path(source).read_bytes()
        except (OSError, ValueError) as error:
            return _unreadable(name, error)
    return _describe(read_mail(source), name)


def _unreadable(name: str, error: Exception) -> dict[str, Any]:
    reason = getattr(error, "strerror", None) or type(error).__name__
    return _describe(Mail(warnings=(f"cannot-read: {reason}",)), name)


def _describe(mail: Mail, name: str) -> dict[str, Any]:
    return {
        "file": name.encode("utf-8", "replace").decode(),
        "kind": mail.kind.value,
        "from": _address(mail.sender) if mail.sender else None,
        "sender_unclear": mail.is_sender_unclear,
        "to": [_address(one) for one in mail.to],
        "cc": [_address(one) for one in mail.cc],
        "reply_to": [_address(one) for one in mail.reply_to],
        "subject": mail.subject,
        "date": mail.date.isoformat() if mail.date else None,
        "message_id": mail.message_id,
        "in_reply_to": list(mail.in_reply_to),
        "references": list(mail.references),
        "text": mail.text,
        "html": mail.html,
        "reply": {"text": mail.reply.text, "quoted": mail.reply.quoted, "signature": mail.reply.signature},
        "attachments": [
            {
                "name": one.name,
                "content_type": one.content_type,
                "size": one.size_bytes,
                "sha256": one.sha256,
                "inline": one.is_inline,
                "content_id": one.content_id,
            }
            for one in mail.attachments
        ],
        "automatic": {
            "is_automatic": mail.automatic.is_automatic,
            "reason": mail.automatic.reason,
            "may_answer": mail.automatic.may_answer,
        },
        "bounce": _bounce(mail.bounce) if mail.bounce else None,
        "language": mail.language,
        "warnings": list(mail.warnings),
    }


def _address(address: Address) -> dict[str, str]:
    return {"name": address.name, "address": address.address}


def _bounce(bounce: Bounce) -> dict[str, Any]:
    return {
        "recipients": [
            {
                "address": one.address,
                "action": one.action,
                "status": one.status,
                "code": one.code,
                "diagnostic": one.diagnostic,
                "reason": one.reason,
                "permanent": one.is_permanent,
            }
            for one in bounce.recipients
        ],
        "original_message_id": bounce.original_message_id,
        "envelope_id": bounce.envelope_id,
    }
