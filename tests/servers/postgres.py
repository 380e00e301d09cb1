"""A PostgreSQL of a test's own, that syncs what it commits and can be stopped and started in the middle of work."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests import stores


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    url: str
    data: Path

    async def stop(self) -> None:
        """As a power cut of the server alone: no goodbye, no checkpoint."""
        await asyncio.to_thread(self._control, "-m", "immediate", "stop")

    async def start(self) -> None:
        """Start it again; it first recovers from its log."""
        options = self.data.joinpath("postmaster.opts").read_text().split(" ", 1)[1].strip().replace('"', "")
        await asyncio.to_thread(self._control, "-o", options, "start")

    def _control(self, *words: str) -> None:
        log = self.data.parent / "log"
        user = stores.server_user()
        binaries = stores.reachable(stores.postgres_binaries(), user, self.data.parent)
        line: list[str | Path] = [binaries / "pg_ctl", "-D", self.data, "-w", "-s", "-l", log]
        subprocess.run([*line, *words], check=True, user=user, cwd=self.data, stdout=subprocess.DEVNULL)


@contextmanager
def own_server() -> Iterator[Server]:
    """It ends with this process, whatever pid it has by then. Raises ServerMissing."""
    home, owner = stores.open_home()
    try:
        url = stores.start_postgres(home.folder, fsync=True)
        (home.folder / "postgres.url").write_text(url)  # from now on the watcher removes the folder
        yield Server(url=url, data=asyncio.run(_data_folder(url)))
    finally:
        stores.close_home(home, owner)


async def _data_folder(url: str) -> Path:
    connection = await asyncpg.connect(f"{url}/postgres")
    try:
        return Path(await connection.fetchval("show data_directory"))
    finally:
        await connection.close()
