"""``gatehouse serve`` while its PostgreSQL is away for half a minute, with mail and answers under way on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from core.store.schema import evidence, message
from tests.crash import oracles
from tests.crash.conftest import OpenRig
from tests.crash.oracles import report
from tests.crash.rig import PATIENCE, Rig
from tests.crash.truth import Asked
from tests.desk.program import Program, serving
from tests.servers.postgres import Server
from tests.servers.smtp_peer import Answer, SmtpPeer

pytestmark = pytest.mark.asyncio(loop_scope="session")
AWAY_SECONDS = 30.0
LOOKS = 6  # at the health page meanwhile
HEALTH_PATIENCE = 10.0
TICKETS = 4


class Agent:
    """A person at the API, who repeats what was not acknowledged."""

    def __init__(self, program: Program, rig: Rig) -> None:
        self._program = program
        self._rig = rig

    async def health(self) -> tuple[int, dict[str, Any]]:
        url = f"{self._program.address}/healthz"
        timeout = aiohttp.ClientTimeout(total=HEALTH_PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as anybody, anybody.get(url) as answer:
            return answer.status, await answer.json(content_type=None)

    async def codes(self) -> list[str]:
        page = await self._program.call("GET", "/tickets?limit=100")
        return [item["code"] for item in page["items"]]

    async def send(self, code: str, asked: Asked) -> int:
        """Say "send" once; return the status."""
        assert self._program.client is not None
        body = {"text": asked.text}
        headers = {"Idempotency-Key": asked.key}
        path = f"/api/v1/tickets/{code}/answers"
        async with self._program.client.post(path, json=body, headers=headers) as answer:
            said = await answer.json(content_type=None)
            if answer.status == 201:
                asked.header = oracles.bare(said["message_id_header"])
            return answer.status

    async def is_at_rest(self) -> bool:
        page = await self._program.call("GET", "/deliveries?limit=100")
        return len(page["items"]) == len(self._rig.truth.answers) and all(
            item["status"] == "sent" for item in page["items"]
        )


@asynccontextmanager
async def furnished(rig: Rig, store: str) -> AsyncIterator[Program]:
    """The program with an owner and one channel, between the rig's mailbox and its next server."""
    async with serving(rig.folder, store, more={"GATEHOUSE_KEY_FILE": str(rig.folder / "key")}) as program:
        await program.make_owner()
        place = await program.call("POST", "/departments", {"name": "Support"})
        config = {
            "address": "support@desk.test", "name": "Support", "undo_seconds": 0,
            "imap": {"host": "127.0.0.1", "port": rig.mailbox.port, "security": "plain", "user": rig.mailbox.user,
                     "password": rig.mailbox.password, "after": "seen"},
            "smtp": {"host": "127.0.0.1", "port": rig.smtp_port, "security": "plain"},
        }  # fmt: skip
        wanted = {"kind": "email", "name": "Support", "department": place["id"], "config": config}
        await program.call("POST", "/channels", wanted)
        yield program


async def until(look: Callable[[], Awaitable[bool]], what: str, program: Program) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while not await look():  # noqa: ASYNC110  # it answers when asked and calls nobody
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"{what} took more than {PATIENCE:g} s; {program.log.read_text()[-4000:]}")


def written(conn: Connection) -> dict[str, int]:
    rows = conn.execute(sa.select(message.c.message_id_header, message.c.id).where(message.c.direction == "out"))
    return {oracles.bare(row.message_id_header): row.id for row in rows}


def facts(conn: Connection) -> set[str]:
    return set(conn.execute(sa.select(evidence.c.fact)).scalars())


@pytest.mark.proves("F-N01", "F-N02", "F-W03", "F-K14", "F-V04")
async def test_program_outlives_its_store_and_knows_what_the_peer_said(
    make_rig: OpenRig, server: Server, tmp_path: Path
) -> None:
    store = f"{server.url}/postgres"
    go_on = asyncio.Event()
    log = tmp_path / "accepted.jsonl"
    first = Answer(raw=b"250 2.0.0 ok", after=go_on)
    async with SmtpPeer(log_file=log, script={"dot": [first]}) as peer, make_rig(store, smtp_port=peer.port) as rig:
        rig.truth.accept_log = log
        async with furnished(rig, store) as program:
            agent = Agent(program, rig)

            async def has_everything() -> bool:
                return len(await agent.codes()) == rig.truth.rows

            async def is_well() -> bool:
                return (await agent.health())[0] == 200

            for _ in range(TICKETS):
                await rig.offer(rig.writer.write())
            await until(has_everything, "taking the first mail", program)
            assert await agent.health() == (200, {"status": "ok"})
            codes = await agent.codes()
            assert await agent.send(codes[0], rig.ask_for(1)) == 201
            await peer.reached["dot"].wait()

            await server.stop()
            go_on.set()  # the peer takes it, and the store cannot be told
            late = {code: rig.ask_for(1) for code in codes[1:]}
            for _ in range(LOOKS):
                await rig.offer(rig.writer.write())
                status, said = await agent.health()
                assert (status, said["status"]) == (503, "store_unavailable")
                assert {await agent.send(code, asked) for code, asked in late.items()} == {503}
                await asyncio.sleep(AWAY_SECONDS / LOOKS)  # how long it is away is the fault
            await server.start()

            await until(is_well, "being well again", program)
            assert {await agent.send(code, asked) for code, asked in late.items()} == {201}
            await until(has_everything, "taking the mail of meanwhile", program)
            await until(agent.is_at_rest, "sending what was promised", program)
            assert program.process.returncode is None
            assert await program.stop() == 0
        ids = await oracles.look(store, written)
        for asked in rig.truth.answers.values():
            asked.message_id = ids[asked.header]
        wrong = await rig.check()
        assert "in_doubt" not in await oracles.look(store, facts)
    assert not wrong, report(wrong)
