"""PostgreSQL stops at once in the middle of work and comes back: nothing that was taken or promised is lost."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests import stores
from tests.crash.conftest import OpenRig
from tests.crash.oracles import report
from tests.crash.rig import Rig, Stuck

pytestmark = pytest.mark.asyncio(loop_scope="session")
STOPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    url: str
    data: Path

    async def stop_and_start(self) -> None:
        """As a power cut of the server alone: no goodbye, no checkpoint; then recovery from its log."""
        await asyncio.to_thread(self._control, "stop")
        await asyncio.to_thread(self._control, "start")

    def _control(self, what: str) -> None:
        log = self.data.parent / "log"
        options = self.data.joinpath("postmaster.opts").read_text().split(" ", 1)[1].strip().replace('"', "")
        words: list[str | Path] = [stores._postgres_binaries() / "pg_ctl", "-D", self.data, "-w", "-s", "-l", log]
        words += ["-m", "immediate", "stop"] if what == "stop" else ["-o", options, "start"]
        subprocess.run(words, check=True, user=stores._server_user(), cwd=self.data, stdout=subprocess.DEVNULL)


@pytest.fixture(name="server")
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of its own that syncs what it commits, and ends with this process whatever pid it has by then."""
    stop = stores._stop_with_owner

    def stop_by_name(folder: Path, command: str) -> None:
        named = r"kill -QUIT $(head -n1 \1/data/postmaster.pid); rm -rf \1"
        stop(folder, re.sub(r"kill -QUIT \d+; rm -rf (\S+)", named, command))

    monkeypatch.setattr(stores, "_stop_with_owner", stop_by_name)
    home, owner = stores.open_home()
    try:
        url = stores.start_postgres(home.folder, fsync=True)
        (home.folder / "postgres.url").write_text(url)  # from now on the watcher removes the folder
        yield Server(url=url, data=asyncio.run(_data_folder(url)))
    except stores.ServerMissing as missing:
        pytest.skip(str(missing))
    finally:
        stores.close_home(home, owner)


async def _data_folder(url: str) -> Path:
    connection = await asyncpg.connect(f"{url}/postgres")
    try:
        return Path(await connection.fetchval("show data_directory"))
    finally:
        await connection.close()


@pytest.mark.proves("F-N01", "F-W03")
async def test_immediate_stops_of_the_server_lose_nothing(make_rig: OpenRig, server: Server) -> None:
    async with make_rig(f"{server.url}/postgres", options=("--lease", "2", "--after", "seen")) as rig:
        desk = await rig.start()
        await rig.offer(rig.writer.write())
        await rig.rest(desk)
        for _ in range(STOPS):
            load = asyncio.create_task(_load(rig))
            await asyncio.sleep(rig.rng.uniform(0.05, 0.4))  # the moment of the stop is what is drawn
            await server.stop_and_start()
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
