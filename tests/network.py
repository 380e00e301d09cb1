"""Keeps tests at home: a connection or a name look-up that would leave loopback fails the test that tried it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", ""})


class LeftLoopback(AssertionError):
    """A test tried to reach another machine."""


@contextmanager
def guard() -> Iterator[list[str]]:
    """Refuse what leaves loopback; the list fills with what was tried, for code that swallows the refusal."""
    tried: list[str] = []
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(sock: socket.socket, address: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not is_local(str(address[0])):
            tried.append(str(address))
            raise LeftLoopback(f"a test must not connect to {address}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(self, address)
        return connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(self, address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if name is not None and not is_local(name) and not _is_address(name):
            raise socket.gaierror(socket.EAI_NONAME, f"tests look up no names: {name}")
        return getaddrinfo(host, *args, **kwargs)

    socket.socket.connect = guarded_connect  # type: ignore[assignment, method-assign]  # typed against the C class
    socket.socket.connect_ex = guarded_connect_ex  # type: ignore[assignment, method-assign]  # typed against the C class
    socket.getaddrinfo = guarded_getaddrinfo
    try:
        yield tried
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]
        socket.getaddrinfo = getaddrinfo


def is_local(host: str) -> bool:
    if host.lower() in LOCAL_NAMES or host == socket.gethostname():
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
