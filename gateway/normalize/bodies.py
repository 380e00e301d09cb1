"""Which parts of a mail are its words, and which are files.

Works on the tree of ``mime``; decodes charsets, undoes format=flowed, takes uuencoded files out of the text.
Every text part that a person would see is in the result, in order; of alternatives both views are kept (T-D09).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.normalize import charset, flowed, mime, tnef
from gateway.normalize.headers import Head, Leaf
from gateway.normalize.html import from_text
from gateway.normalize.mime import Part

MAX_TEXT_CHARS: Final = 1024 * 1024
_HTML_TYPES: Final = frozenset({"text/html", "application/xhtml+xml"})
_BODY_TYPES: Final = frozenset({"text/plain", "text/enriched", "text/richtext", "text/markdown", "text/x-markdown"})
_FILE_TYPES: Final = frozenset(
    {
        *("text/calendar", "text/csv", "text/vcard", "text/x-vcard", "text/directory", "text/rfc822-headers"),
        *("text/css", "text/javascript", "text/xml", "text/rtf", "text/x-patch", "text/x-diff", "text/ecmascript"),
        *("text/tab-separated-values", "text/yaml", "text/x-python", "text/x-log", "text/x-sh"),
    }
)
#: Further views of a body for special readers; every one repeats the others.
_SPECIAL_VIEWS: Final = frozenset({"text/x-amp-html", "text/watch-html"})
_TNEF_TYPES: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_TYPE: Final = re.compile(r"[A-Za-z0-9]{1,30}/[A-Za-z0-9.+\-]{1,90}")
_EXCHANGE_TEXT: Final = re.compile(r"ATT\d{3,}\.(?:txt|htm|html|c)", re.IGNORECASE)
_META_CHARSET: Final = re.compile(
    rb"<meta[^>]{0,200}?charset\s{0,5}=\s{0,5}[\"']?\s{0,5}([A-Za-z0-9_.:\-]{2,40})", re.IGNORECASE
)
_RICH_TAG: Final = re.compile(r"</?[A-Za-z][A-Za-z0-9\-]{0,60}>")
_RICH_PARAMS: Final = re.compile(r"<param>.{0,500}?</param>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """One stretch of the body: its plain view, its HTML view (not yet safe), or both."""

    plain: str | None = None
    html: str | None = None


@dataclass(slots=True)
class Body:
    """The words in order, the files in order, and what was odd."""

    pieces: list[Piece] = field(default_factory=list)
    files: list[Leaf] = field(default_factory=list)
    warnings: dict[str, None] = field(default_factory=dict)


def read_body(root: Part) -> Body:
    """Tell words from files. Walks without recursion: parents before children to sort, backwards to assemble."""
    body = Body()
    order: list[Part] = []
    pieces: dict[int, list[Piece]] = {}
    stack: list[tuple[Part, str]] = [(root, "")]
    while stack:
        part, parent = stack.pop()
        order.append(part)
        if part.leaf is not None:
            pieces[id(part)] = _read_leaf(part.leaf, parent, body, has_text=any(pieces.values()))
        stack.extend((child, part.content_type) for child in reversed(part.children))
        _label_container(part, body)
    for part in reversed(order):
        if part.leaf is None:
            gathered = [pieces[id(child)] for child in part.children]
            is_choice = part.content_type == "multipart/alternative"
            pieces[id(part)] = _choose(gathered) if is_choice else [one for run in gathered for one in run]
    body.pieces = pieces[id(root)]
    return body


def _label_container(part: Part, body: Body) -> None:
    """Encrypted and signed wrappers are kept and labelled, never opened (T-D10)."""
    kind, protocol = (
        part.content_type,
        part.params.get("protocol", "").lower() + part.params.get("smime-type", "").lower(),
    )
    if kind == "multipart/encrypted":
        body.warnings["encrypted-pgp"] = None
    elif kind == "multipart/signed":
        body.warnings["signed-pgp" if "pgp" in protocol else "signed-smime"] = None
    elif kind in {"application/pkcs7-mime", "application/x-pkcs7-mime"}:
        body.warnings["signed-smime" if "signed" in protocol else "encrypted-smime"] = None
    elif kind in {"message/external-body", "message/partial"}:
        body.warnings[f"not-fetched-{kind.partition('/')[2]}"] = None


def _read_leaf(leaf: Leaf, parent: str, body: Body, *, has_text: bool) -> list[Piece]:
    if leaf.content_type in _SPECIAL_VIEWS and parent == "multipart/alternative":
        return []
    if not _is_shown(leaf, parent, has_text=has_text):
        body.files.append(leaf)
        if leaf.content_type in _TNEF_TYPES or (leaf.name or "").lower() == "winmail.dat":
            _unwrap_tnef(leaf, body)
        return []
    if leaf.content_type in _HTML_TYPES:
        html, is_legible = charset.decode(leaf.payload, _html_charset(leaf))
        if not is_legible:
            body.warnings["charset-wrong"] = None
        return [Piece(html=html)] if html.strip() else []
    text = _read_text(leaf, body)
    return [Piece(plain=text)] if text.strip() else []


def _unwrap_tnef(leaf: Leaf, body: Body) -> None:
    """List the files of a winmail.dat beside it; the container itself is kept."""
    body.warnings["tnef"] = None
    for name, kind, content in tnef.read_files(leaf.payload):
        declared = kind.lower() if _TYPE.fullmatch(kind) else "application/octet-stream"
        body.files.append(Leaf(declared, {}, name or None, "attachment", None, content, Head(), leaf.depth + 1))


def _is_shown(leaf: Leaf, parent: str, *, has_text: bool) -> bool:
    kind = leaf.content_type
    if leaf.disposition == "attachment" and (leaf.name or has_text or leaf.depth):
        return False
    is_body = kind in _BODY_TYPES or kind in _HTML_TYPES
    if not is_body and (not kind.startswith("text/") or kind in _FILE_TYPES or kind in _SPECIAL_VIEWS or leaf.name):
        return False
    if not leaf.name or not has_text or parent in {"multipart/alternative", "multipart/related"}:
        return True
    return bool(_EXCHANGE_TEXT.fullmatch(leaf.name))


def _html_charset(leaf: Leaf) -> str | None:
    declared = leaf.params.get("charset")
    if declared and charset.codec_for(declared) is not None:
        return declared
    found = _META_CHARSET.search(leaf.payload[:2048])
    return found[1].decode("ascii") if found else declared


def _read_text(leaf: Leaf, body: Body) -> str:
    payload, files = mime.extract_uuencoded(leaf.payload)
    for name, content in files:
        shown = charset.decode(name)[0]
        body.files.append(Leaf("application/octet-stream", {}, shown, "attachment", None, content, Head(), leaf.depth))
        body.warnings["uuencoded-file"] = None
    text, is_legible = charset.decode(payload, leaf.params.get("charset"))
    if not is_legible:
        body.warnings["charset-wrong"] = None
    text = charset.with_line_feeds(text)
    if leaf.params.get("format", "").lower() == "flowed":
        text = flowed.unflow(text, delete_space=leaf.params.get("delsp", "").lower() == "yes")
    if leaf.content_type in {"text/enriched", "text/richtext"}:
        text = _read_enriched(text)
    if "-----BEGIN PGP MESSAGE-----" in text:
        body.warnings["encrypted-pgp"] = None
    return text


def _read_enriched(text: str) -> str:
    """RFC 1896: tags are dropped, ``<<`` is a bracket, a single line break is a space."""
    text = _RICH_TAG.sub("", _RICH_PARAMS.sub("", text.replace("<<", "\x01"))).replace("\x01", "<")
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text).replace("\n\n", "\n")


def _choose(children: list[list[Piece]]) -> list[Piece]:
    """Keep the plain and the HTML view of the alternatives; views that only repeat another go."""
    plain = _unique(piece.plain for run in children if not _has_html(run) for piece in run if piece.plain)
    rich = [run for run in children if _has_html(run)]
    if not rich:
        return [Piece(plain="\n\n".join(plain))] if plain else []
    if len(rich) == 1 and not plain:
        return rich[0]
    if len(rich) == 1 and len(rich[0]) == 1:
        return [Piece(plain="\n\n".join(plain) or rich[0][0].plain, html=rich[0][0].html)]
    views = _unique(piece.html or from_text(piece.plain or "") for run in rich for piece in run)
    return [Piece(plain="\n\n".join(plain) or None, html="\n".join(views))]


def _has_html(run: list[Piece]) -> bool:
    return any(piece.html for piece in run)


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
