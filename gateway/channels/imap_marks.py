"""What the server is told about messages that are ours by now: seen, moved, deleted, or nothing (FAULTS I6).

A mark is a hint. Whether it works changes nothing about what is fetched, so a refusal is reported and not raised.
Source: RFC 3501 section 6.4.6, RFC 4315 (UID EXPUNGE), RFC 6851 (MOVE).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gateway.channels import imap_lines
from gateway.channels.email_config import Imap
from gateway.channels.imap_session import Session

MAX_UIDS = 200  # in one command: lines stay short


async def mark(
    session: Session, imap: Imap, uids: Sequence[int], marked: Callable[[Sequence[int]], Awaitable[None]]
) -> str:
    """Do what ``imap.after`` says; return the server's objection, or nothing.

    ``marked`` is awaited as soon as repeating the command for these UIDs would do harm or nothing.
    """
    for start in range(0, len(uids), MAX_UIDS):
        some = uids[start : start + MAX_UIDS]
        if imap.after == "seen":
            objection = await _flag(session, some, "\\Seen")
        elif imap.after == "delete":
            objection = await _delete(session, some)
        elif imap.after == "move":
            objection = await _move(session, imap.move_to, some, marked)
        else:
            return ""
        if objection:
            return objection
        await marked(some)
    return ""


async def _flag(session: Session, uids: Sequence[int], flag: str) -> str:
    reply = await session.change("STORE", uids, "+FLAGS.SILENT", f"({flag})")
    return "" if reply.is_ok else f"{flag} was refused: {session.clean(reply.text)[:300]}"


async def _delete(session: Session, uids: Sequence[int]) -> str:
    """Without UIDPLUS the flag alone is set: a plain EXPUNGE would take other people's messages along."""
    objection = await _flag(session, uids, "\\Deleted")
    if objection or not session.can("UIDPLUS"):
        return objection
    reply = await session.change("EXPUNGE", uids)
    return "" if reply.is_ok else f"EXPUNGE was refused: {session.clean(reply.text)[:300]}"


async def _move(
    session: Session,
    target: str | None,
    uids: Sequence[int],
    marked: Callable[[Sequence[int]], Awaitable[None]],
) -> str:
    if not target:
        return "no folder to move to is set"
    name = imap_lines.mailbox(target)
    if session.can("MOVE"):
        reply = await session.change("MOVE", uids, name)
        return "" if reply.is_ok else f"moving to {target!r} was refused: {session.clean(reply.text)[:300]}"
    if not session.can("UIDPLUS"):
        return "the server can move no single messages (neither MOVE nor UIDPLUS): they stay where they are"
    reply = await session.change("COPY", uids, name)
    if not reply.is_ok:
        return f"copying to {target!r} was refused: {session.clean(reply.text)[:300]}"
    # recorded before the original is deleted: if that keeps failing, each cycle would copy everything again
    await marked(uids)
    return await _delete(session, uids)
