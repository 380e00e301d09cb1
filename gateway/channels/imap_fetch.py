"""Messages out of an open folder: in small windows, big ones in parts, odd ones alone, none without a verdict.

Source: RFC 3501 section 6.4.5. ``BODY.PEEK[]`` never sets \\Seen. A size that differs from the literal is no fault by
itself: Exchange estimates RFC822.SIZE unless told otherwise, so the literal counts; one that is far shorter than
announced has to come out the same twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.channels import imap_lines
from gateway.channels.contract import Offered, Place, Trouble
from gateway.channels.imap_lines import Value
from gateway.channels.imap_session import Session

WINDOW_MESSAGES = 50  # measured: the fastest for many small mails, and few enough to lose
WINDOW_BYTES = 8 * 1024 * 1024
PART_BYTES = 1024 * 1024
HEAD_BYTES = 256 * 1024
SLACK_BYTES = 64 * 1024

Lines = Sequence[Mapping[bytes, Value]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """What the server says about one message before we ask for it. The size is a claim."""

    uid: int
    size_bytes: int | None
    internal_at: datetime | None


async def describe(session: Session, uids: Sequence[int]) -> dict[int, Listed]:
    """Ask for size and date; what is expunged or kept from us is absent."""
    _, lines = await session.fetch(uids, "UID INTERNALDATE RFC822.SIZE")
    listed: dict[int, Listed] = {}
    for line in lines:
        uid = imap_lines.number(line.get(b"UID"))
        if uid in uids and uid is not None and b"RFC822.SIZE" in line:
            size = imap_lines.number(line[b"RFC822.SIZE"])
            if uid in listed and listed[uid].size_bytes != size:
                size = None  # two answers: believe neither
            date = imap_lines.internal_date(line.get(b"INTERNALDATE"))
            listed[uid] = Listed(uid=uid, size_bytes=size, internal_at=date)
    return listed


def plan(uids: Sequence[int], listed: Mapping[int, Listed], *, max_raw_bytes: int) -> list[list[int]]:
    """Group neighbours that are fetched with one command, in the given order; big ones stay alone."""
    groups: list[list[int]] = []
    room = -1
    for uid in uids:
        size = listed[uid].size_bytes if uid in listed else None
        if size is None or size > min(PART_BYTES, max_raw_bytes):
            groups.append([uid])
            room = -1  # alone: not even an empty one joins it
        elif size > room:
            groups.append([uid])
            room = WINDOW_BYTES - size
        else:
            groups[-1].append(uid)
            room -= size
    return groups


async def fetch_group(
    session: Session, place: Place, uids: Sequence[int], listed: Mapping[int, Listed], *, max_raw_bytes: int
) -> tuple[list[Offered], list[int]]:
    """Fetch several small messages at once; return them, and the UIDs that have to be asked for alone."""
    room = sum(listed[uid].size_bytes or 0 for uid in uids)
    _, lines = await session.fetch(
        uids, "UID BODY.PEEK[]", literal_bytes=2 * PART_BYTES, room_bytes=room + 2 * PART_BYTES
    )
    offered, odd = [], []
    for uid in uids:
        raw = _body(lines, uid, b"BODY[]")
        if raw is None or len(raw) > max_raw_bytes or _is_suspiciously_short(raw, listed[uid]):
            odd.append(uid)
        else:
            offered.append(_whole(place, listed[uid], raw))
    return offered, odd


async def fetch_alone(session: Session, place: Place, uid: int, known: Listed | None, *, max_raw_bytes: int) -> Offered:
    """Fetch one message whatever its size; always returns a verdict, raises only when the connection is lost."""
    if known is None and uid not in await session.search(f"UID {uid}"):
        return Offered(place=place, uid=uid, raw=None, size_bytes=0, trouble=Trouble.GONE)
    listed = known or Listed(uid=uid, size_bytes=None, internal_at=None)
    if (listed.size_bytes or 0) > max_raw_bytes:
        return await _head(session, place, listed)
    raw = await _parts(session, listed, max_raw_bytes)
    if raw is not None and len(raw) > max_raw_bytes:
        return await _head(session, place, listed)
    if raw is not None and _is_suspiciously_short(raw, listed):
        again = await _parts(session, listed, max_raw_bytes)
        raw = raw if raw and raw == again else None
    if raw is not None:
        return _whole(place, listed, raw)
    if uid not in await session.search(f"UID {uid}"):
        return Offered(place=place, uid=uid, raw=None, size_bytes=0, trouble=Trouble.GONE)
    return could_not_fetch(place, uid, session.excerpt(), listed=listed)


def could_not_fetch(place: Place, uid: int, excerpt: str, *, listed: Listed | None = None) -> Offered:
    return Offered(
        place=place,
        uid=uid,
        raw=None,
        size_bytes=(listed.size_bytes if listed else 0) or 0,
        internal_at=listed.internal_at if listed else None,
        trouble=Trouble.COULD_NOT_FETCH,
        excerpt=excerpt,
    )


async def _parts(session: Session, listed: Listed, max_raw_bytes: int) -> bytes | None:
    """Fetch in parts until one comes short; more than ``max_raw_bytes`` if there is more; None if it cannot be had."""
    raw = bytearray()
    while len(raw) <= max_raw_bytes:
        offset = len(raw)
        # a server that does not know parts sends the whole at the first one
        limit = max(PART_BYTES, max_raw_bytes) if offset == 0 else PART_BYTES
        _, lines = await session.fetch(
            [listed.uid], f"UID BODY.PEEK[]<{offset}.{PART_BYTES}>", literal_bytes=limit + SLACK_BYTES
        )
        piece = _body(lines, listed.uid, b"BODY[]<%d>" % offset)
        if piece is None and offset == 0:
            return _body(lines, listed.uid, b"BODY[]")
        if piece is None:
            return bytes(raw) if offset >= (listed.size_bytes or 0) else None
        if len(piece) > PART_BYTES:
            return None
        raw += piece
        if len(piece) < PART_BYTES:
            break
    return bytes(raw)


async def _head(session: Session, place: Place, listed: Listed) -> Offered:
    _, lines = await session.fetch(
        [listed.uid], f"UID BODY.PEEK[HEADER]<0.{HEAD_BYTES}>", literal_bytes=HEAD_BYTES + SLACK_BYTES
    )
    head = _body(lines, listed.uid, b"BODY[HEADER]<0>")
    if head is None:
        head = _body(lines, listed.uid, b"BODY[HEADER]")
    return Offered(
        place=place,
        uid=listed.uid,
        raw=head,
        size_bytes=listed.size_bytes or 0,
        internal_at=listed.internal_at,
        trouble=Trouble.TOO_LARGE,
        excerpt="" if head is not None else session.excerpt(),
    )


def _body(lines: Lines, uid: int, section: bytes) -> bytes | None:
    """Return the one body that the answer holds for this UID; None if there is none, NIL, or two that differ."""
    found = {
        value
        for line in lines
        if imap_lines.number(line.get(b"UID")) == uid and isinstance(value := line.get(section), bytes)
    }
    return found.pop() if len(found) == 1 else None


def _is_suspiciously_short(raw: bytes, listed: Listed) -> bool:
    size = listed.size_bytes or 0
    return (not raw and size > 0) or len(raw) < size - max(2048, size // 8)


def _whole(place: Place, listed: Listed, raw: bytes) -> Offered:
    return Offered(place=place, uid=listed.uid, raw=raw, size_bytes=len(raw), internal_at=listed.internal_at)
