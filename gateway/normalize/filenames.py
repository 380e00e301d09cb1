"""The name under which an attachment is shown: derived once, harmless on every system (T-D08).

Files are never stored under it; the store has its own ids.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from gateway.normalize import charset, words
from gateway.normalize.headers import Leaf, read_head

MAX_NAME_CHARS: Final = 150
MAX_NAME_BYTES: Final = 255
_FORBIDDEN: Final = re.compile(r'[<>:"|?*]')
_BLANKS: Final = re.compile(r"\s+")
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,10}$")
#: Own table: the standard one reads files of the system.
_EXTENSIONS: Final = {
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "application/json": ".json",
    "application/xml": ".xml",
    "application/msword": ".doc",
    "application/ms-tnef": ".dat",
    "application/vnd.ms-tnef": ".dat",
    "application/pgp-encrypted": ".txt",
    "application/pgp-signature": ".asc",
    "application/pgp-keys": ".asc",
    "application/pkcs7-mime": ".p7m",
    "application/x-pkcs7-mime": ".p7m",
    "application/pkcs7-signature": ".p7s",
    "application/x-pkcs7-signature": ".p7s",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tif",
    "image/webp": ".webp",
    "message/rfc822": ".eml",
    "message/global": ".eml",
    "message/delivery-status": ".txt",
    "message/global-delivery-status": ".txt",
    "message/disposition-notification": ".txt",
    "message/feedback-report": ".txt",
    "message/external-body": ".txt",
    "message/partial": ".eml",
    "text/calendar": ".ics",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/plain": ".txt",
    "text/rfc822-headers": ".txt",
    "text/rtf": ".rtf",
    "text/vcard": ".vcf",
    "text/x-vcard": ".vcf",
    "text/xml": ".xml",
    "video/mp4": ".mp4",
}
_FIXED: Final = {
    "text/calendar": "invite.ics",
    "application/ms-tnef": "winmail.dat",
    "application/pkcs7-mime": "smime.p7m",
    "application/x-pkcs7-mime": "smime.p7m",
    "application/pkcs7-signature": "smime.p7s",
    "application/x-pkcs7-signature": "smime.p7s",
    "application/pgp-signature": "signature.asc",
    "text/rfc822-headers": "headers.txt",
    "message/delivery-status": "delivery-status.txt",
    "message/global-delivery-status": "delivery-status.txt",
    "message/disposition-notification": "disposition-notification.txt",
    "message/feedback-report": "feedback-report.txt",
}


def shown_name(leaf: Leaf, number: int) -> tuple[str, bool]:
    """Return the name to show for the ``number``-th file of a mail, and whether the given one was changed."""
    if leaf.name:
        safe = safe_name(leaf.name)
        if safe:
            return safe, safe != unicodedata.normalize("NFC", leaf.name.strip())
    return default_name(leaf, number), bool(leaf.name)


def safe_name(name: str) -> str:
    """Return ``name`` without path, controls, bidi and zero-width characters, device names; "" if none is left."""
    name = unicodedata.normalize("NFC", charset.clean(name))
    name = "".join(
        char for char in name if char.isspace() or unicodedata.category(char) not in {"Cc", "Cf", "Co", "Cn"}
    )
    name = name.replace("\\", "/").rstrip("/ .").rpartition("/")[2]
    name = _FORBIDDEN.sub("_", _BLANKS.sub(" ", name)).strip(" ").rstrip(". ").lstrip(". ")
    if not name.strip("._ "):
        return ""
    if _DEVICES.fullmatch(name):
        name = f"_{name}"
    return _shorten(name)


def _shorten(name: str) -> str:
    """Cut in the middle and keep the extension, which tells people what it is."""
    if len(name) <= MAX_NAME_CHARS and len(name.encode()) <= MAX_NAME_BYTES:
        return name
    extension = _EXTENSION.search(name)
    tail = extension[0] if extension else ""
    stem = name[: len(name) - len(tail)][: MAX_NAME_CHARS - len(tail) - 1]
    room = MAX_NAME_BYTES - len(tail) - len("…".encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip(". ") + "…" + tail


def default_name(leaf: Leaf, number: int) -> str:
    """Name a nameless part by what it is; a forwarded mail by its subject."""
    if leaf.content_type in {"message/rfc822", "message/global"}:
        subject = read_head(leaf.payload[: 64 * 1024])[0].first("subject") or ""
        stem = safe_name(words.tidy(subject.replace("/", "-").replace("\\", "-"))[:100])
        return _shorten(f"{stem or 'message'}.eml")
    if fixed := _FIXED.get(leaf.content_type):
        return fixed
    return f"attachment-{number}{_EXTENSIONS.get(leaf.content_type, '')}"
