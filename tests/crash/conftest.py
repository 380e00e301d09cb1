"""One warm parent for a whole run, and a rig per test on a mailbox of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

from tests import stores
from tests.conftest import HOME
from tests.crash.mailbox import DovecotMailbox, Mailbox
from tests.crash.nursery import Nursery
from tests.crash.rig import Rig, open_rig
from tests.servers import dovecot
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import Server, own_server

OpenRig = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture(scope="session", name="crash_boxes")
def _boxes() -> Iterator[Iterator[Mailbox] | None]:
    """Empty mailboxes of one Dovecot; None where there is no Dovecot, and every rig starts a server of the sandbox."""
    if dovecot.is_missing():
        yield None
        return
    users = [f"crash{number}" for number in range(100)]
    with Dovecot(dict.fromkeys(users, dovecot.PASSWORD)) as server:
        yield iter([DovecotMailbox(server, user) for user in users])


@pytest_asyncio.fixture(scope="session", loop_scope="session", name="crash_nursery")
async def _nursery() -> AsyncIterator[Nursery]:
    async with Nursery() as nursery:
        yield nursery


@pytest.fixture
def postgres_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """A store of its own on the session's PostgreSQL."""
    try:
        url = stores.make_postgres(pytestconfig.stash[HOME])
    except stores.ServerMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    yield url
    stores.drop_postgres(url)


@pytest.fixture
def make_rig(crash_nursery: Nursery, crash_boxes: Iterator[Mailbox] | None) -> OpenRig:
    """``make_rig(store_url, seed=…, options=…)``; an empty URL is a new file."""
    seeds = itertools.count(1)

    def make(store: str = "", **more: object) -> AbstractAsyncContextManager[Rig]:
        box = next(crash_boxes) if crash_boxes is not None else None
        given: dict[str, object] = {"seed": next(seeds), "nursery": crash_nursery, "mailbox": box, **more}
        return open_rig(store, **given)  # type: ignore[arg-type]  # passed through as given

    return make


@pytest.fixture(name="server")
def _server() -> Iterator[Server]:
    """A PostgreSQL of the test's own, to be stopped and started."""
    try:
        with own_server() as server:
            yield server
    except stores.ServerMissing as missing:
        pytest.skip(str(missing))
