"""The house ends when it is told to, whatever fails at that very moment (F-V04)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.app import open_house, running
from gateway.channels import email_imap
from gateway.config import load
from gateway.errors import LeaseLost, PeerUnavailable
from tests.crash import desk


@pytest.mark.parametrize(
    "failure",
    [lambda: LeaseLost("taken over"), lambda: PeerUnavailable("gone", code="connection"), lambda: OSError("odd")],
    ids=["lease lost", "connection lost", "defect"],
)
@pytest.mark.proves("F-V04")
async def test_channel_that_fails_while_it_is_stopped_stops(
    failure: Callable[[], Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = asyncio.Event()

    async def listen(*_args: object, **_more: object) -> None:
        listening.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise failure() from None

    monkeypatch.setattr(email_imap, "listen", listen)
    store = f"sqlite:///{tmp_path}/house.db"
    config = load(store=store, blobs=str(tmp_path / "blobs"), key_file=tmp_path / "key", parsers=1)
    given = desk.arguments().parse_args(["--store", store, "--data", str(tmp_path), "--imap", "1", "--smtp", "1"])
    async with open_house(config) as house:
        await house.db.write(desk.seed, house, desk.email(given))
        async with asyncio.timeout(20), running(house):
            await listening.wait()
