"""The desk's mailboxes: pymap's in-memory backend behind our own listener, in the caller's event loop.

pymap's own service leaves its connections running when it stops, and hashes passwords in a pool of threads with event
loops that nobody closes. So the listener, the connections and their end are ours, and passwords of this throwaway
server stay in clear. Mail that came since the last command is told when IDLE begins and is found by UID SEARCH and
UID FETCH, as on the servers of this world; pymap alone would keep it back until the next change.
"""

from __future__ import annotations

import asyncio
import logging
from argparse import Namespace
from collections.abc import Iterable
from contextlib import AsyncExitStack, closing
from datetime import datetime
from typing import Final, Self
from uuid import uuid4

from proxyprotocol.result import ProxyResultLocal
from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import DictBackend, Identity
from pymap.concurrent import Event, Subsystem
from pymap.context import connection_exit
from pymap.imap import IMAPConnection
from pymap.imap.state import ConnectionState
from pymap.parsing.command import Command
from pymap.parsing.command.select import IdleCommand
from pymap.parsing.message import AppendMessage
from pymap.parsing.response import CommandResponse, UntaggedResponse
from pymap.user import UserMetadata
from pysasl.hashing import Cleartext

_log = logging.getLogger(__name__)

_STOP_SECONDS: Final = 5.0
_FOLDERS: Final = ("Archive", "Processed", "Sent", "Trash")


class ImapServer:
    """``async with`` starts and stops it. ``users`` maps a mailbox address to its password."""

    def __init__(self, *, host: str, port: int, users: dict[str, str]) -> None:
        self._host = host
        self._port = port
        self._users = users
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._backend, self._config = await DictBackend.init(
            _arguments(),
            hash_context=Cleartext(),
            cpu_subsystem=Subsystem.for_asyncio(),
            invalid_user_sleep=0.0,
        )
        await self._backend.login.demo_user_identity.delete()
        for address, password in self._users.items():
            identity = self._identity(address)
            await identity.set(UserMetadata(self._config, address, password=password))
            async with identity.new_session() as session:
                for folder in _FOLDERS:
                    await session.create_mailbox(folder)
        self._server = await asyncio.start_server(self._connected, self._host, self._port)
        return self

    def _identity(self, address: str) -> Identity:
        return Identity(address, self._backend.login, None, frozenset())

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    async def append(self, address: str, raw: bytes, *, at: datetime) -> None:
        """Put one mail into the INBOX of ``address``; connections that IDLE are told at once."""
        async with self._identity(address).new_session() as session:
            await session.append_messages("INBOX", [AppendMessage(raw, at, frozenset())])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # we run inside the task that the server made for this connection
        self._connections[task] = writer
        peer = SocketInfo.get(writer, ProxyResultLocal(), unique_id=uuid4().bytes)
        try:
            await self._converse(reader, writer, peer)
        except OSError as problem:
            _log.debug("sandbox.imap_connection_lost", extra={"problem": str(problem)})
        finally:
            del self._connections[task]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: SocketInfo) -> None:
        connection = IMAPConnection(self._config.commands, self._config, reader, writer, peer)
        async with AsyncExitStack() as stack:
            connection_exit.set(stack)
            stack.enter_context(closing(connection))
            await connection.run(_Conversation(self._backend.login, self._config))

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.sleep(0)  # a connection accepted just now still has to enter the table
        open_tasks = list(self._connections)
        for writer in self._connections.values():
            writer.close()  # pymap reads the end of the stream and leaves in order, IDLE included
        if open_tasks:
            late = (await asyncio.wait(open_tasks, timeout=_STOP_SECONDS))[1]
            for task in late:
                task.cancel()
            await asyncio.gather(*open_tasks, return_exceptions=True)
        await self._server.wait_closed()


class _Conversation(ConnectionState):
    """One client's view of its mailbox, brought up to date earlier than pymap does."""

    async def do_command(self, cmd: Command) -> CommandResponse:
        if self._selected and self._session and getattr(cmd, "uid", False):
            self._selected = await self.session.check_mailbox(self.selected)
        return await super().do_command(cmd)

    async def receive_updates(self, cmd: IdleCommand, done: Event) -> Iterable[UntaggedResponse]:
        selected = await self.session.check_mailbox(self.selected)
        self._selected, untagged = selected.fork(cmd)
        return list(untagged) or await super().receive_updates(cmd, done)


def _arguments() -> Namespace:
    """Return what pymap's command line would have given; the demo user is removed right after the start."""
    return Namespace(
        host=None,
        port=0,
        cert=None,
        key=None,
        tls=False,
        proxy_protocol=None,
        inherited_sockets=None,
        debug=False,
        passlib_cfg=None,
        demo_data=False,
        demo_user="nobody",
        demo_password="",
    )
