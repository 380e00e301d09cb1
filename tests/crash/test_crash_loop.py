"""A house that dies again and again for a reason of its own puts hardly any innocent mail aside."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from core import leases, ledger
from core.ledger import MAX_ATTEMPTS, Arrival
from core.store.schema import ledger as ledger_table
from gateway.app import House, open_house
from gateway.config import load
from gateway.entering import ChannelView
from gateway.ingest import SUSPECTS, Ingest
from tests.crash import desk
from tests.crash.conftest import OpenRig
from tests.crash.oracles import report

MAILS = 12


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.proves("F-K07", "F-K21", "F-Z02", "R1.3")
async def test_crash_loop_with_a_backlog_loses_nothing_and_replays_what_it_put_aside(make_rig: OpenRig) -> None:
    async with make_rig() as rig:
        for _ in range(MAILS):
            await rig.offer(rig.writer.write())
        for _ in range(MAX_ATTEMPTS):
            await rig.death(await rig.start(failpoint="I8:1:kill"))
        last = await rig.start()
        await rig.rest(last)
        put_aside = await last.ask("replay")
        await rig.rest(last)
        wrong = await rig.check()
    assert put_aside <= SUSPECTS
    assert not wrong, report(wrong)


@pytest.mark.proves("F-K07", "F-Z02", "F-Z03")
async def test_few_suspects_are_in_hand_at_once_and_fresh_mail_overtakes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: asyncio.Queue[object] = asyncio.Queue()
    asked = asyncio.Event()

    async def never(sources: object) -> None:
        calls.put_nowait(sources)
        asked.set()
        await asyncio.Event().wait()

    store = f"sqlite:///{tmp_path}/house.db"
    given = desk.arguments().parse_args(["--store", store, "--data", str(tmp_path), "--imap", "1", "--smtp", "1"])
    config = load(store=store, blobs=str(tmp_path / "blobs"), key_file=tmp_path / "key", parsers=1)
    async with open_house(config) as house:
        await house.db.write(desk.seed, house, desk.email(given))
        reader = await _reader(house)
        monkeypatch.setattr(house.parsers, "parse", never)
        await house.db.write(_arrive, house, range(MAILS), attempts=1)
        group = asyncio.TaskGroup()
        async with group:
            assert [await reader.run_once(group) for _ in range(SUSPECTS + 1)] == [1] * SUSPECTS + [0]
            await house.db.write(_arrive, house, [MAILS], attempts=0)
            fresh = asyncio.ensure_future(reader.run_once(group))
            async with asyncio.timeout(10):
                while calls.qsize() <= SUSPECTS:  # one call for each suspect, then the fresh one
                    asked.clear()
                    await asked.wait()
            await fresh
            assert await house.db.read(_attempts) == [2] * SUSPECTS + [1] * (MAILS - SUSPECTS) + [1]
            for task in [*reader._alone.values(), reader._reading.get_nowait()[1]]:
                task.cancel()


async def _reader(house: House) -> Ingest:
    held = await house.db.write(leases.acquire, "channel:1", "a", length=timedelta(minutes=5), clock=house.clock)
    assert held is not None
    view = ChannelView(
        channel_id=1, kind="email", department_id=1, reopen_days=14, own_keys=frozenset(), authserv_id=None
    )
    return Ingest(
        db=house.db, blobs=house.blobs, hub=house.hub, keys=house.keys, parsers=house.parsers, view=view, lease=held
    )


def _arrive(conn: Connection, house: House, uids: Any, *, attempts: int) -> None:
    for uid in uids:
        raw = b"Subject: %d\r\n\r\n" % uid
        digest = hashlib.sha256(raw).hexdigest()
        item = Arrival(folder="INBOX", uidvalidity=1, uid=uid + 1, raw_digest=digest, small_raw=raw)
        ledger.record(conn, 1, "account", [item], fence=1, now=house.clock.now())
        conn.execute(sa.update(ledger_table).where(ledger_table.c.uid == uid + 1).values(attempts=attempts))


def _attempts(conn: Connection) -> list[int]:
    return list(conn.execute(sa.select(ledger_table.c.attempts).order_by(ledger_table.c.uid)).scalars())
