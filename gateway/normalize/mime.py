"""The body of a mail as a tree of parts: boundaries, transfer encodings, limits. Linear, iterative, never raises.

Source: RFC 2045, 2046, 2047. Own code, because every engine we tried loses something on damaged mail: strict
base64, parts behind a wrong boundary, raw part headers, line ends inside quoted-printable. Two of them stay in
the tests as oracles: on well-formed mail all three must see the same parts.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import pybase64

from gateway.normalize.headers import Head, Leaf, read_part_head

MAX_DEPTH: Final = 30
MAX_PARTS: Final = 500
MAX_UU_MISSES: Final = 50  # prose that looks like a file; more is an attack
_BOUNDARY_GUESS: Final = re.compile(rb"(?:^|\n)--([^\r\n]{0,200}?)[ \t]*\r?\n(?=[Cc]ontent-[A-Za-z-]{2,40}:)")
_DELIMITER_REST: Final = re.compile(rb"(?:(--)(?:[ \t][^\n]{0,200})?|)[ \t]{0,100}\r{0,2}(?=\n|\Z)")
_QP_SOFT_SPACE: Final = re.compile(rb"=[ \t]{1,80}(?=\r?\n)")
_UU_BEGIN: Final = re.compile(rb"(?:^|\n)begin(?:-base64)? [0-7]{3,4} ([^\r\n]{1,250})\r?\n")
_UU_END: Final = re.compile(rb"\n(?:end|====)[ \t\r]{0,9}(?:\n|\Z)")
_BASE64_LINE: Final = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_BASE64_CHARS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64: Final = bytes(set(range(256)) - set(_BASE64_CHARS))
_IDENTITY: Final = frozenset({"", "7bit", "8bit", "binary", "none", "8-bit", "7-bit"})


@dataclass(slots=True)
class Part:
    """A node: a multipart with ``children``, or a ``leaf``."""

    head: Head
    content_type: str
    params: Mapping[str, str]
    depth: int
    leaf: Leaf | None = None
    children: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """A region of bytes that is still to be read as the body of ``part``."""

    part: Part
    data: bytes
    start: int
    end: int


def read_tree(head: Head, data: bytes, start: int = 0) -> tuple[Part, list[str]]:
    """Return the tree of the body ``data[start:]`` under ``head``, and warning codes."""
    warnings: dict[str, None] = {}
    root = _new_part(head, depth=0)
    stack = [_Work(root, data, start, len(data))]
    part_count = 1
    while stack:
        work = stack.pop()
        if not work.part.content_type.startswith("multipart/"):
            work.part.leaf = _new_leaf(work, warnings)
            continue
        if work.part.depth >= MAX_DEPTH:
            warnings["mime-too-deep"] = None
            work.part.leaf = _new_leaf(work, warnings)
            continue
        regions = _split_multipart(work, warnings)
        if regions is None:
            _degrade(work.part, work.data[work.start : work.start + 2000])
            work.part.leaf = _new_leaf(work, warnings)
            continue
        is_digest = work.part.content_type == "multipart/digest"
        children: list[_Work] = []
        for begin, end in regions:
            if part_count >= MAX_PARTS:
                warnings["mime-too-many-parts"] = None
                break
            part_count += 1
            child_head, body, child_warnings = read_part_head(work.data, begin, end)
            warnings.update(dict.fromkeys(child_warnings))
            child = _new_part(child_head, depth=work.part.depth + 1)
            if is_digest and not child_head.has("content-type"):
                child.content_type = "message/rfc822"
            work.part.children.append(child)
            children.append(_Work(child, work.data, body, end))
        stack.extend(reversed(children))
    return root, list(warnings)


def leaves(root: Part) -> Iterator[Leaf]:
    """Yield the leaves of a tree in the order of the mail."""
    stack = [root]
    while stack:
        part = stack.pop()
        if part.leaf is not None:
            yield part.leaf
        stack.extend(reversed(part.children))


def _new_part(head: Head, depth: int) -> Part:
    declared = head.content_type()
    return Part(head, declared.main, declared.params, depth)


def _degrade(part: Part, sample: bytes) -> None:
    """A multipart without any boundary is shown as the text that it is."""
    is_html = sample.lstrip()[:15].lower().startswith((b"<html", b"<!doctype html"))
    part.content_type = "text/html" if is_html else "text/plain"


def _new_leaf(work: _Work, warnings: dict[str, None]) -> Leaf:
    part = work.part
    payload = _transfer_decode(work.data[work.start : work.end], part, warnings)
    disposition = part.head.disposition()
    name = (disposition.params.get("filename") if disposition else None) or part.params.get("name")
    if name is None and disposition is not None:
        name = disposition.params.get("name")
    content_id = part.head.first("content-id")
    return Leaf(
        content_type=part.content_type,
        params=part.params,
        name=name or None,
        disposition=disposition.main.split(" ")[0] or None if disposition else None,
        content_id=content_id.strip("<> \t") or None if content_id else None,
        payload=payload,
        head=part.head,
        depth=part.depth,
    )


def _split_multipart(work: _Work, warnings: dict[str, None]) -> list[tuple[int, int]] | None:
    """Return the regions between the boundaries; None when there is none, wherever it may be looked for."""
    boundary = work.part.params.get("boundary", "").encode("utf-8", "replace").strip()
    found = _find_regions(work, boundary) if boundary else None
    if found:
        return found
    encoding = _encoding(work.part.head)
    if encoding in {"base64", "quoted-printable"}:  # forbidden by RFC 2045 section 6.4, and seen
        decoded = _transfer_decode(work.data[work.start : work.end], work.part, warnings)
        work.data, work.start, work.end = decoded, 0, len(decoded)
        work.part.head = Head()
        if boundary and (found := _find_regions(work, boundary)):
            return found
    guess = _BOUNDARY_GUESS.search(work.data, max(work.start - 1, 0), work.end)
    warnings["boundary-missing" if not boundary else "boundary-wrong"] = None
    return _find_regions(work, guess[1]) if guess else None


def _find_regions(work: _Work, boundary: bytes) -> list[tuple[int, int]]:
    """Find the delimiter lines of exactly this boundary (RFC 2046 section 5.1.1), also behind a closing one."""
    data, end = work.data, work.end
    # The literal is sought and the rest of its line looked at afterwards: compiling a pattern for each mail costs more.
    delimiter = b"--" + boundary
    regions: list[tuple[int, int]] = []
    opened: int | None = None
    at = work.start if data.startswith(delimiter, work.start, end) else _next_line(data, delimiter, work.start, end)
    while at >= 0:
        after = at + len(delimiter)
        rest = _DELIMITER_REST.match(data, after, end)
        if rest is None:
            at = _next_line(data, delimiter, after, end)
            continue
        if opened is not None:
            regions.append((opened, max(opened, _before_newline(data, opened, at))))
        opened = None if rest[1] else min(rest.end() + 1, end)
        if len(regions) > MAX_PARTS:
            return regions
        at = _next_line(data, delimiter, rest.end(), end)
    if opened is not None and opened < end:
        regions.append((opened, end))
    return regions


def _next_line(data: bytes, start: bytes, begin: int, end: int) -> int:
    """Return where the next line that begins with ``start`` begins, or -1."""
    return data.find(b"\n" + start, begin, end) + 1 or -1


def _before_newline(data: bytes, begin: int, at: int) -> int:
    """The line break in front of a delimiter belongs to the delimiter."""
    if at > begin and data[at - 1 : at] == b"\n":
        at -= 1
        if at > begin and data[at - 1 : at] == b"\r":
            at -= 1
    return at


def _encoding(head: Head) -> str:
    raw = head.raw("content-transfer-encoding")
    if raw is None:
        return ""
    words = raw.decode("ascii", "ignore").partition(";")[0].lower().strip("\"' \t\r\n.").split()
    return words[0] if words else ""


def _transfer_decode(data: bytes, part: Part, warnings: dict[str, None]) -> bytes:
    encoding = _encoding(part.head)
    if encoding in _IDENTITY:
        return data
    if encoding == "base64":
        payload, trailer, is_damaged = decode_base64(data)
        if is_damaged:
            warnings["base64-damaged"] = None
        if not trailer:
            return payload
        if part.content_type == "text/html":
            escaped = trailer.replace(b"&", b"&amp;").replace(b"<", b"&lt;")
            return payload + b"<pre>" + escaped + b"</pre>"
        return payload + b"\n" + trailer if part.content_type.startswith("text/") else payload
    if encoding == "quoted-printable":
        decoded = binascii.a2b_qp(data)
        if b"=" in decoded and (b"= " in data or b"=\t" in data):  # a soft break that a relay padded is left standing
            decoded = binascii.a2b_qp(_QP_SOFT_SPACE.sub(b"=", data))
        return decoded
    if encoding in {"x-uuencode", "uuencode", "x-uue", "uue"}:
        found = extract_uuencoded(data)[1]
        return found[0][1] if found else data
    warnings["transfer-encoding-unknown"] = None
    return data


def decode_base64(data: bytes) -> tuple[bytes, bytes, bool]:
    """Return the payload, text that follows it (a mailing list's footer) and whether it was damaged."""
    packed = data.translate(None, b"\r\n\t ")
    payload = _whole_base64(packed)
    if payload is not None:
        return payload, b"", False
    lines = data.split(b"\n")
    body, footer = _part_footer(lines)
    if not body:
        return data, b"", True  # declared base64, written in the clear
    pieces: list[bytes] = []
    run: list[bytes] = []
    for line in body:
        run.append(line)
        if b"=" in line:  # padding ends a run; another may follow
            pieces.append(_loosely(b"".join(run)))
            run = []
    pieces.append(_loosely(b"".join(run)))
    return b"".join(pieces), footer, True


def _whole_base64(packed: bytes) -> bytes | None:
    """Return the payload if every character took part in it."""
    try:
        return pybase64.b64decode(packed, validate=True)
    except binascii.Error:
        return None


def _loosely(digits: bytes) -> bytes:
    kept = digits.translate(None, _NOT_BASE64).rstrip(b"=")
    if len(kept) % 4 == 1:
        kept = kept[:-1]
    kept = kept.replace(b"=", b"")
    if len(kept) % 4 == 1:
        kept = kept[:-1]
    try:
        return binascii.a2b_base64(kept + b"=" * (-len(kept) % 4))
    except binascii.Error:
        return b""


def _part_footer(lines: list[bytes]) -> tuple[list[bytes], bytes]:
    """Tell the base64 lines from the words behind them. One odd character in a long line is damage, not words."""
    width = max((len(line.strip()) for line in lines[:3]), default=0)
    last = -1
    has_ended = False
    for number, line in enumerate(lines):
        bare = line.strip()
        if not bare:
            continue
        if has_ended and (len(bare) % 4 or not (len(bare) >= 40 or bare.endswith(b"=")) or not _is_base64(bare)):
            continue
        strays = len(bare.translate(None, _BASE64_CHARS))
        is_coded = strays == 0 or (strays <= 3 and b" " not in bare and len(bare) >= min(width, 16) >= 1)
        if not is_coded and not (len(bare) > 200 and strays * 20 < len(bare)):
            has_ended = True
            continue
        last = number
        has_ended = bare.endswith(b"=") or (len(bare) < width and number > 0)
    footer = b"\n".join(lines[last + 1 :]).strip() if last + 1 < len(lines) else b""
    return lines[: last + 1], footer


def _is_base64(line: bytes) -> bool:
    return _BASE64_LINE.fullmatch(line) is not None


def extract_uuencoded(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Take uuencoded files out of a text: the text that is left, and ``(name, content)`` of each file."""
    if b"begin" not in data:
        return data, []
    files: list[tuple[bytes, bytes]] = []
    rest: list[bytes] = []
    at = misses = 0
    while len(files) < MAX_PARTS and misses < MAX_UU_MISSES and (match := _UU_BEGIN.search(data, at)):
        end = _UU_END.search(data, match.end() - 1)
        if end is None:
            break
        content = _decode_uu(data[match.end() : end.start()])
        if content is None:
            misses += 1
            rest.append(data[at : match.end()])
        else:
            rest.append(data[at : match.start()] + b"\n")
            files.append((match[1].strip(), content))
        at = match.end() if content is None else end.end()
    rest.append(data[at:])
    return b"".join(rest), files


def _decode_uu(block: bytes) -> bytes | None:
    """Return the file, or None when a line is no uuencoding: then it was prose."""
    out: list[bytes] = []
    for line in block.split(b"\n"):
        line = line.rstrip(b"\r")
        if not line.strip() or line == b"`":
            continue
        length = (line[0] - 32) & 63
        needed = (length + 2) // 3 * 4
        if len(line) - 1 > needed + 2 or len(line) - 1 < needed - 4 or not 32 <= line[0] <= 96:
            return None
        try:
            out.append(binascii.a2b_uu(line[: 1 + needed]))
        except binascii.Error:
            return None
    return b"".join(out)
