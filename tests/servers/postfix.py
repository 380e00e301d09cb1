"""The distribution's Postfix in a folder of its own, on loopback, in a hurry: it gives up after 12 s.

Where mail goes: ``desk.test`` by LMTP to ``lmtp_port``; ``ok.test``, ``customer.test``, ``grey.test`` and
``reject.test`` by SMTP to ``remote_port`` (where ``SmtpPeer`` takes the first two at once, the third later and the last
never); ``slow.test`` to a closed port; a recipient at ``refused.test`` is refused in the dialogue; anything else is
accepted and returned at once. master(8) must be started by root; the system's own Postfix is not touched.

With ``is_archiving`` each recipient of each mail that Postfix took is counted: a copy for ``jane@ok.test`` also goes to
``jane=ok.test@archive.test``, to the same peer, whatever becomes of the mail itself and before anything is returned.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import pytest

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/postfix/sbin"
START_SECONDS = 30
ARCHIVE = "archive.test"
TRANSPORT = """\
desk.test    lmtp:inet:127.0.0.1:{lmtp}
ok.test      smtp:[127.0.0.1]:{remote}
reject.test  smtp:[127.0.0.1]:{remote}
slow.test    smtp:[127.0.0.1]:{closed}
customer.test  smtp:[127.0.0.1]:{remote}
grey.test      smtp:[127.0.0.1]:{remote}
archive.test   smtp:[127.0.0.1]:{remote}
"""
ACCESS = "refused.test  550 5.1.1 no such user\n"
ARCHIVING = "/^(.+)@([^@]+)$/  ${1}=${2}@archive.test\n"

MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.desk.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relay_domains = desk.test
relay_transport = error:5.1.2 no such domain
default_transport = error:5.1.2 no such domain
transport_maps = texthash:{root}/etc/transport
local_recipient_maps =
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks,reject
smtp_dns_support_level = disabled
lmtp_dns_support_level = disabled
smtp_tls_security_level = none
smtpd_tls_security_level = none
maillog_file_prefixes = {root}
maillog_file = {root}/log/mail.log
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
delay_warning_time = 3s
maximal_queue_lifetime = 12s
bounce_queue_lifetime = 12s
smtp_connect_timeout = 2s
notify_classes =
message_size_limit = {size_limit}
smtpd_discard_ehlo_keywords =
smtpd_recipient_restrictions = check_recipient_access texthash:{root}/etc/access
"""
SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
lmtp      unix  - - n - - lmtp
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
showq     unix  n - n - - showq
postlog   unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """One instance; a context manager that leaves neither process nor file behind."""

    def __init__(
        self, *, lmtp_port: int, remote_port: int, size_limit_bytes: int = 10_240_000, is_archiving: bool = False
    ) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="postfix-"))
        self.port, closed = _free_ports(2)
        self._master: subprocess.Popen[bytes] | None = None
        for name in ("", "etc", "queue", "data", "log"):
            (self.root / name).mkdir(exist_ok=True)
            (self.root / name).chmod(0o755)  # the daemons run as postfix and must get in
        shutil.chown(self.root / "data", "postfix")
        etc = self.root / "etc"
        etc.joinpath("transport").write_text(TRANSPORT.format(lmtp=lmtp_port, remote=remote_port, closed=closed))
        etc.joinpath("access").write_text(ACCESS)
        etc.joinpath("archive").write_text(ARCHIVING)
        main = MAIN.format(root=self.root, size_limit=size_limit_bytes)
        if is_archiving:
            main += f"recipient_bcc_maps = regexp:{self.root}/etc/archive\n"
        etc.joinpath("main.cf").write_text(main)
        etc.joinpath("master.cf").write_text(SERVICES.format(port=self.port))

    def __enter__(self) -> Postfix:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self) -> None:
        """Run master in the foreground of a session of its own, so that nothing can outlive ``stop``."""
        command = ["postfix", "-c", str(self.root / "etc"), "start-fg"]
        with (self.root / "log" / "start.log").open("wb") as output:
            self._master = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=_env()
            )
        deadline = time.monotonic() + START_SECONDS
        while not _greets(self.port):
            if self._master.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Postfix does not start: {self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        master, self._master = self._master, None
        if master is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(master.pid, signal.SIGTERM)
        try:
            master.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(master.pid, signal.SIGKILL)
            master.wait()
        while left := self.processes():  # the daemons have groups of their own, and die a little later
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def processes(self) -> list[int]:
        """The living processes that belong to this folder, by their working directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    if (entry / "cwd").readlink().is_relative_to(self.root):
                        found.append(int(entry.name))
        return found

    def log(self) -> str:
        paths = sorted((self.root / "log").glob("*.log"))
        return "\n".join(path.read_text(errors="replace") for path in paths)

    def logged(self, pattern: str) -> list[str]:
        return [line for line in self.log().splitlines() if re.search(pattern, line)]

    def queue(self) -> list[str]:
        """What waits in the queue, one line of JSON per mail."""
        command = ["postqueue", "-c", str(self.root / "etc"), "-j"]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=_env()).stdout.splitlines()


def archived(address: str) -> str | None:
    """Return whose copy went to ``address``; None when it is no address of the archive."""
    local, _at, domain = address.rpartition("@")
    name, _sign, of_domain = local.rpartition("=")
    return f"{name}@{of_domain}" if domain == ARCHIVE else None


def _env() -> dict[str, str]:
    return {"PATH": PATH, "LANG": "C"}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
            greeting = probe.recv(4) == b"220 "
            probe.sendall(b"QUIT\r\n")
            return greeting
    except OSError:
        return False


def what_is_missing() -> str:
    """A sentence for people, empty when a Postfix can be started."""
    if shutil.which("postfix", path=PATH) is None:
        return "Postfix is not installed (Debian: postfix)"
    return "" if os.geteuid() == 0 else "Postfix's master must be started by root"


@pytest.fixture
def postfix_server() -> Iterator[Callable[..., Postfix]]:
    """A factory: ``postfix_server(lmtp_port=..., remote_port=...)`` starts one that lives as long as the test."""
    missing = what_is_missing()
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with ExitStack() as started:

        def make(*, lmtp_port: int, remote_port: int, size_limit_bytes: int = 10_240_000) -> Postfix:
            server = Postfix(lmtp_port=lmtp_port, remote_port=remote_port, size_limit_bytes=size_limit_bytes)
            return started.enter_context(server)

        yield make
