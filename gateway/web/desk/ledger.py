"""The ledger at the desk: what came in, what became of it, whether anything is missing, and the quarantine (R1.2)."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from core import audit, figures, ledger, listing
from core.access import Action, Actor, ChannelRef, may, require, visible_departments
from core.audit import By
from core.errors import Invalid, NotFound
from core.figures import ChannelLedger
from core.listing import LedgerFilter, Position

MAX_REASON = 500


def ledger_list(
    conn: Connection,
    actor: Actor,
    *,
    channel: str | None = None,
    states: tuple[str, ...] = (),
    outcomes: tuple[str, ...] = (),
    limit: int,
    before: Position | None = None,
) -> list[sa.RowMapping]:
    """Return ledger rows, newest first. Raises NotFound for an unknown channel."""
    require(actor, Action.LEDGER_READ)
    channel_id = _channel_id(conn, actor, channel) if channel is not None else None
    wanted = LedgerFilter(states=states, outcomes=outcomes, channel_id=channel_id)
    return listing.ledger_rows(conn, wanted, limit=limit, before=before)


def ledger_row(conn: Connection, actor: Actor, ledger_id: str) -> sa.RowMapping:
    """Raises NotFound."""
    return _row(conn, actor, ledger_id, Action.LEDGER_READ)


def ledger_figures(conn: Connection, actor: Actor, *, channel: str | None = None) -> list[ChannelLedger]:
    """The gap report: per channel what was offered and where each of it stands."""
    require(actor, Action.LEDGER_READ)
    return figures.ledger_figures(conn, channel_id=_channel_id(conn, actor, channel) if channel is not None else None)


def replay(conn: Connection, by: By, ledger_id: str) -> sa.RowMapping:
    """Read a quarantined message anew; wake ``ledger:CHANNEL`` afterwards. Raises Conflict."""
    row = _row(conn, by.actor, ledger_id, Action.QUARANTINE_REPLAY)
    ledger.replay(conn, row["id"], now=by.now)
    audit.append(conn, by, "ledger.replay", f"ledger:{ledger_id}", before=_shown(row), after={})
    return listing.ledger_by_public_id(conn, ledger_id)


def replay_all(conn: Connection, by: By, channel: str) -> tuple[int, int]:
    """Read everything anew that a channel has in quarantine; return the channel's id and how many they are."""
    channel_id = _channel_id(conn, by.actor, channel, Action.QUARANTINE_REPLAY)
    rows = listing.quarantined(conn, channel_id)
    for row in rows:
        ledger.replay(conn, row["id"], now=by.now)
    ids = [row["public_id"] for row in rows]
    audit.append(conn, by, "ledger.replay_all", f"channel:{channel}", before={}, after={"count": len(ids), "rows": ids})
    return channel_id, len(ids)


def dismiss(conn: Connection, by: By, ledger_id: str, *, reason: str) -> sa.RowMapping:
    """Take a message out of the quarantine for good. Raises Conflict, Invalid."""
    row = _row(conn, by.actor, ledger_id, Action.QUARANTINE_DISMISS)
    reason = reason.strip()
    if not reason or len(reason) > MAX_REASON:
        raise Invalid("say why", fields={"reason": f"1 to {MAX_REASON} characters"})
    ledger.dismiss(conn, row["id"], reason=reason, now=by.now)
    audit.append(conn, by, "ledger.dismiss", f"ledger:{ledger_id}", before=_shown(row), after={"reason": reason})
    return listing.ledger_by_public_id(conn, ledger_id)


def raw_of_ledger(conn: Connection, by: By, ledger_id: str) -> str:
    """Return the digest of the raw bytes; that somebody read them is audited. Raises NotFound where there are none."""
    row = _row(conn, by.actor, ledger_id, Action.QUARANTINE_READ_RAW)
    if row["raw_digest"] is None:
        raise NotFound("its bytes were never fetched")
    audit.append(conn, by, "ledger.read_raw", f"ledger:{ledger_id}", before={}, after={})
    return str(row["raw_digest"])


def _row(conn: Connection, actor: Actor, ledger_id: str, action: Action) -> sa.RowMapping:
    require(actor, action)
    return listing.ledger_by_public_id(conn, ledger_id)


def _channel_id(conn: Connection, actor: Actor, channel: str, action: Action = Action.LEDGER_READ) -> int:
    require(actor, action)
    row = listing.channel_by_public_id(conn, channel, visible_departments(actor))
    if not may(actor, action, ChannelRef(department_id=row["department_id"])):
        raise NotFound("no such channel")
    return int(row["id"])


def _shown(row: sa.RowMapping) -> dict[str, str]:
    return {"state": row["state"], "reason": row["reason"]}
