"""PostgreSQL stops at once in the middle of work and comes back: nothing that was taken or promised is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.crash.conftest import OpenRig
from tests.crash.oracles import report
from tests.crash.rig import Rig, Stuck
from tests.servers.postgres import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")
STOPS = 3


@pytest.mark.proves("F-N01", "F-W03")
async def test_immediate_stops_of_the_server_lose_nothing(make_rig: OpenRig, server: Server) -> None:
    async with make_rig(f"{server.url}/postgres", options=("--lease", "2", "--after", "seen")) as rig:
        desk = await rig.start()
        await rig.offer(rig.writer.write())
        await rig.rest(desk)
        for _ in range(STOPS):
            load = asyncio.create_task(_load(rig))
            await asyncio.sleep(rig.rng.uniform(0.05, 0.4))  # the moment of the stop is what is drawn
            await server.stop()
            await server.start()
            await load
        try:
            counts = await rig.rest(desk)
        except Stuck as stuck:
            pytest.fail(str(stuck))
        assert counts is not None, f"the house ended with its store; {rig.tail()}"
        await rig.send_open(desk)
        await rig.rest(desk)
        wrong = await rig.check()
    assert not wrong, report(wrong)


async def _load(rig: Rig) -> None:
    for number in range(12):
        await rig.offer(rig.writer.write(is_large=number == 5))
        await asyncio.sleep(0.03)
