"""Faults on purpose: each breaks one rule of the house in the desk's own process, never in the product.

A campaign in which one of them survives is worthless (FAULTS section 9; the numbers are from there). ``STIMULI`` break
nothing: they only make something happen soon, or make a mail that cannot be stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.util import await_only

import core.deliveries
import core.ledger
import core.outbox
import gateway.ingest
import gateway.outbox.evidence
import gateway.outbox.worker
import gateway.settle
from core import leases
from core.clock import Clock
from core.delivery import Evidence, Fact
from core.failpoints import failpoint
from core.keys import Keys
from core.ledger import Work
from core.outbox import Claimed
from core.store.schema import ledger, message, outbox, ticket
from gateway.channels import imap_folder
from gateway.channels.contract import Handover, OutcomeKind, Place
from gateway.entering import Settled
from gateway.ingest import Ingest, Read
from gateway.normalize.values import Mail
from gateway.outbox.worker import OutboxWorker

POISON = "poison"  # in the subject


def _mark_first() -> None:
    """1: the server is told "taken" before COMMIT 1."""
    hand_over = imap_folder.Folder._hand_over

    async def mark_and_hand_over(self: imap_folder.Folder, offered: Sequence[Any]) -> None:
        await self._mark([item.uid for item in offered])
        await hand_over(self, offered)

    _set(imap_folder.Folder, "_hand_over", mark_and_hand_over)


def _dedupe_by_message_id() -> None:
    """6: two mails with one Message-ID are held for the same mail."""
    settle = gateway.settle.settle

    def settle_by_id(conn: Connection, keys: Keys, view: Any, work: Work, mail: Mail, **more: Any) -> Settled:
        digest = hashlib.sha256((mail.message_id or work.raw_digest).encode()).hexdigest()
        return settle(conn, keys, view, work, replace(mail, canonical_digest=digest), **more)

    _set(gateway.ingest, "settle", settle_by_id)


def _forget_uidvalidity() -> None:
    """7: a UID is taken for the same message for ever."""

    def place(*, folder: str, uidvalidity: int) -> Place:
        return Place(folder=folder, uidvalidity=min(uidvalidity, 1))

    _set(imap_folder, "Place", place)


def _newest_only() -> None:
    """8: only the newest 50 are looked at."""
    list_all = imap_folder.Folder._list_all

    async def list_newest(self: imap_folder.Folder) -> set[int]:
        return set(sorted(await list_all(self))[-50:])

    _set(imap_folder.Folder, "_list_all", list_newest)


def _count_later() -> None:
    """11: the attempt is counted when it has failed, not before it starts."""
    claim = core.ledger.claim

    def claim_uncounted(conn: Connection, *args: Any, **more: Any) -> list[Work]:
        works = claim(conn, *args, **more)
        for work in works:
            back = sa.update(ledger).where(ledger.c.id == work.id).values(attempts=ledger.c.attempts - 1)
            conn.execute(back)
        return [replace(work, attempts=1) for work in works]

    _set(core.ledger, "claim", claim_uncounted)


def _one_ends_the_cycle() -> None:
    """12: what one mail raises ends the cycle, which starts with the same mail again."""
    _count_later()

    async def settle(self: Ingest, reads: Sequence[Read]) -> None:
        for read in reads:
            await self._db.write(self._settle_one, read)
        self._hub.wake("events")

    _set(Ingest, "_settle", settle)


def _split_commit() -> None:
    """13: the ticket is committed, and then the end of the ledger row."""
    finish = core.ledger.finish
    ends: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def settle(self: Ingest, reads: Sequence[Read]) -> None:
        await self._db.write_all([(self._settle_one, (read,), {}) for read in reads])
        failpoint("split")
        for args, more in ends:
            await self._db.write(finish, *args, **more)
        ends.clear()
        self._hub.wake("events")

    def finish_later(_conn: Connection, *args: Any, **more: Any) -> None:
        ends.append((args, more))

    _set(core.ledger, "finish", finish_later)
    _set(Ingest, "_settle", settle)


def _no_state_guard() -> None:
    """14: COMMIT 2 does not ask whether the row has ended."""
    _set(core.ledger, "is_received", lambda conn, ledger_id: True)

    def finish_blindly(conn: Connection, ledger_id: int, outcome: str, *, now: datetime, **more: Any) -> None:
        values = {"state": "done", "outcome": outcome, "done_at": now, **more}
        conn.execute(sa.update(ledger).where(ledger.c.id == ledger_id).values(values))

    _set(core.ledger, "finish", finish_blindly)


def _settle_twice() -> None:
    """The stimulus for 14: a second owner with the same row in hand, past every lease."""
    settle_one = Ingest._settle

    async def settle(self: Ingest, reads: Sequence[Read]) -> None:
        await settle_one(self, [*reads, *reads])

    _set(Ingest, "_settle", settle)


def _retry_in_doubt() -> None:
    """15: what may have arrived is sent again by itself."""
    _set(core.deliveries, "MAY_BE_THERE", frozenset())


def _sent_too_early() -> None:
    """16: "sent" is written when the dot goes out, not when it is answered."""
    cross = core.outbox.cross_line_of_doubt

    def cross_and_cheer(
        conn: Connection, keys: Keys, claimed: Claimed, delivery_ids: Sequence[int], *, clock: Clock
    ) -> Claimed:
        crossed = cross(conn, keys, claimed, delivery_ids, clock=clock)
        now = clock.now()
        item = Evidence(fact=Fact.ACCEPTED, round=claimed.round, attempt=claimed.attempt, at=now, source="smtp")
        return crossed.knowing(
            core.deliveries.append(conn, keys, crossed.deliveries[number], item, now=now, is_only=False)
            for number in delivery_ids
        )

    _set(core.outbox, "cross_line_of_doubt", cross_and_cheer)


def _new_message_id() -> None:
    """18: every attempt makes the mail anew."""
    make = OutboxWorker._handover

    def make_anew(self: OutboxWorker, claimed: Claimed, *args: Any) -> Handover:
        handover = make(self, claimed, *args)
        fresh = b"Message-ID: <attempt-%d." % claimed.attempt
        content = handover.content.replace(b"Message-ID: <", fresh, 1)
        assert content != handover.content
        return replace(handover, content=content)

    _set(OutboxWorker, "_handover", make_anew)


def _repeat_accepted() -> None:
    """19: the next attempt goes to everybody again."""
    _set(Claimed, "open_addresses", property(lambda self: {item.address: item.id for item in self.deliveries.values()}))


def _match_by_subject() -> None:
    """21: a report is about the first answer with the same subject."""
    by_nonce = core.outbox.by_nonce

    def by_subject(conn: Connection, nonce: int) -> Any:
        row = by_nonce(conn, nonce)
        assert row is not None
        subject = sa.select(message.c.subject).where(message.c.id == row["message_id"]).scalar_subquery()
        alike = sa.select(outbox).join(message, message.c.id == outbox.c.message_id)
        return conn.execute(alike.where(message.c.subject == subject).order_by(outbox.c.id)).mappings().first()

    _set(core.outbox, "by_nonce", by_subject)


def _no_fence() -> None:
    """22: a lease is taken and never asked about again."""

    def cross(_conn: Connection, _keys: Keys, claimed: Claimed, *_args: Any, **_more: Any) -> Claimed:
        return claimed

    _set(core.outbox, "cross_line_of_doubt", cross)
    _set(leases, "holds", lambda *_args, **_more: True)


def _blame_the_message() -> None:
    """27: a fault of our own set-up ends the message."""
    judge = gateway.outbox.evidence.of_outcome

    def judge_harshly(outcome: Any, **more: Any) -> Evidence:
        if outcome.kind is OutcomeKind.CHANNEL_FAULT:
            outcome = replace(outcome, kind=OutcomeKind.REFUSED)
        return judge(outcome, **more)

    _set(gateway.outbox.worker, "of_outcome", judge_harshly)


def _forget_with_ticket() -> None:
    """31: deleting a ticket deletes its ledger rows."""
    _set(
        HOOKS,
        "on_delete",
        lambda conn, ticket_id: conn.execute(sa.delete(ledger).where(ledger.c.ticket_id == ticket_id)),
    )


class HOOKS:
    """What the desk's own erasure does besides."""

    on_delete: Callable[[Connection, int], Any] = staticmethod(lambda _conn, _ticket_id: None)


def delete_ticket(conn: Connection, ticket_id: int) -> None:
    """Remove a ticket with everything that hangs on it."""
    HOOKS.on_delete(conn, ticket_id)
    conn.execute(sa.delete(ticket).where(ticket.c.id == ticket_id))


def _poison() -> None:
    """A mail that reads well and cannot be stored."""
    settle = gateway.settle.settle

    def settle_or_raise(conn: Connection, keys: Keys, view: Any, work: Work, mail: Mail, **more: Any) -> Settled:
        if POISON in mail.subject:
            raise ValueError(POISON)
        return settle(conn, keys, view, work, mail, **more)

    _set(gateway.ingest, "settle", settle_or_raise)


def _retry_soon() -> None:
    """The next attempt comes at once."""

    def soon(*_args: Any, now: Any, **_more: Any) -> Any:
        return now + timedelta(milliseconds=50)

    _set(gateway.outbox.worker, "next_attempt_at", soon)


def _pause_reading_inside() -> None:
    """Pass ``I7.inside`` in the middle of a statement, with the locks of the claim held."""
    claim = Ingest._claim

    def claim_and_pause(self: Ingest, conn: Connection, *args: Any) -> list[Work]:
        works = claim(self, conn, *args)
        if works:
            _begin_statement(conn)
            failpoint("I7.inside")
        return works

    _set(Ingest, "_claim", claim_and_pause)


def _pause_sending_inside() -> None:
    """Pass ``O4.inside`` in the middle of a statement of COMMIT B, with the row of the answer locked."""
    cross = core.outbox.cross_line_of_doubt

    def cross_and_pause(conn: Connection, *args: Any, **more: Any) -> Claimed:
        crossed = cross(conn, *args, **more)
        _begin_statement(conn)
        failpoint("O4.inside")
        return crossed

    _set(core.outbox, "cross_line_of_doubt", cross_and_pause)


def _begin_statement(conn: Connection) -> None:
    """Have PostgreSQL plan a statement: it then waits for the values, and calls the session active."""
    driver: Any = conn.connection.driver_connection
    await_only(driver.prepare("select 1"))


def _set(place: Any, name: str, value: Any) -> None:
    """Replace what is there; a plant in nothing would prove nothing."""
    getattr(place, name)
    setattr(place, name, value)


PLANTS: dict[str, Callable[[], None]] = {
    "1-mark-first": _mark_first,
    "6-dedupe-by-message-id": _dedupe_by_message_id,
    "7-forget-uidvalidity": _forget_uidvalidity,
    "8-newest-only": _newest_only,
    "11-count-later": _count_later,
    "12-one-ends-the-cycle": _one_ends_the_cycle,
    "13-split-commit": _split_commit,
    "14-no-state-guard": _no_state_guard,
    "15-retry-in-doubt": _retry_in_doubt,
    "16-sent-too-early": _sent_too_early,
    "18-new-message-id": _new_message_id,
    "19-repeat-accepted": _repeat_accepted,
    "21-match-by-subject": _match_by_subject,
    "22-no-fence": _no_fence,
    "27-blame-the-message": _blame_the_message,
    "31-forget-with-ticket": _forget_with_ticket,
}
STIMULI: dict[str, Callable[[], None]] = {
    "pause-reading-inside": _pause_reading_inside,
    "pause-sending-inside": _pause_sending_inside,
    "poison": _poison,
    "retry-soon": _retry_soon,
    "settle-twice": _settle_twice,
}
