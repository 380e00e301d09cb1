"""Fixtures that every test may use: a throwaway store on SQLite and on PostgreSQL, and the guard that stays at home."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.store.database import PostgresDatabase, SqliteDatabase
from tests import network, stores

pytest_plugins = ["tests.proofs"]

HOME = pytest.StashKey[stores.Home]()
OWNER = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store", choices=(*stores.KINDS, "both"), default="both", help="which store the tests with a store run on"
    )


def pytest_configure(config: pytest.Config) -> None:
    shared = getattr(config, "workerinput", {}).get("stores_folder")
    if shared is not None:
        config.stash[HOME] = stores.Home(Path(shared))
    else:
        config.stash[HOME], config.stash[OWNER] = stores.open_home()


def pytest_unconfigure(config: pytest.Config) -> None:
    owner = config.stash.get(OWNER, None)
    if owner is not None:
        stores.close_home(config.stash[HOME], owner)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """xdist: every worker shares the controller's folder, and so one PostgreSQL server."""
    node.workerinput["stores_folder"] = str(node.config.stash[HOME].folder)  # type: ignore[attr-defined]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that tests nothing of the store's says ``STORES = ("sqlite",)``."""
    if "store_kind" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--store")
        kinds = getattr(metafunc.module, "STORES", stores.KINDS)
        metafunc.parametrize("store_kind", [kind for kind in kinds if chosen in ("both", kind)])


@pytest.fixture
def store_url(store_kind: str, tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[str]:
    """A store with all tables and nobody in it, not yet opened."""
    home = pytestconfig.stash[HOME]
    if store_kind == "sqlite":
        yield stores.make_sqlite(home, tmp_path)
        return
    try:
        url = stores.make_postgres(home)
    except stores.ServerMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    yield url
    stores.drop_postgres(url)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[SqliteDatabase | PostgresDatabase]:
    """A fresh store, once on SQLite and once on PostgreSQL (``--store`` chooses)."""
    database = stores.open_store(store_url)
    yield database
    await database.close()


@pytest.fixture
def clock() -> stores.FakeClock:
    return stores.FakeClock()


@pytest.fixture(scope="session", autouse=True)
def _network() -> Iterator[list[str]]:
    with network.guard() as tried:
        yield tried


@pytest.fixture(autouse=True)
def _stays_at_home(_network: list[str]) -> Iterator[None]:
    yield
    tried, _network[:] = list(_network), []
    if tried:
        raise network.LeftLoopback(f"the test tried to reach {', '.join(tried)}")
