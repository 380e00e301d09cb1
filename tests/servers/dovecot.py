"""The distribution's Dovecot, without root and without touching the system's own: IMAP, IMAPS and LMTP on loopback.

Mail folders belong to ``nobody`` when the tests run as root, since Dovecot refuses mail for uid 0.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

from tests.servers.tls import Authority

PASSWORD = "correct horse 9"
CONFIGURATION = """
base_dir = {run}
state_dir = {run}
log_path = {root}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
last_valid_uid = 0
first_valid_gid = 1
mail_location = maildir:{root}/mail/%n
mail_home = {root}/mail/%n
mailbox_idle_check_interval = 1 secs
auth_mechanisms = plain login
auth_failure_delay = 0 secs
mail_max_userip_connections = {max_connections}
lmtp_save_to_detail_mailbox = no
recipient_delimiter = +
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%n {root}/passwd
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={root}/mail/%n
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap}
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {imaps}
    ssl = yes
  }}
}}
service lmtp {{
  chroot =
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service imap {{
  process_limit = 200
}}
namespace inbox {{
  inbox = yes
  mailbox Archive {{
    auto = create
  }}
}}
{extra}
"""


class Dovecot:
    """A server in a temporary folder; a context manager."""

    def __init__(
        self,
        users: Mapping[str, str] | None = None,
        *,
        extra: str = "",
        max_connections: int = 200,
        names: tuple[str, ...] = (),
    ) -> None:
        self.users = dict(users or {"support": PASSWORD, "jane": PASSWORD})
        self.root = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self.authority = Authority(self.root)
        self.imap_port, self.imaps_port, self.lmtp_port = _free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self._write(extra, max_connections, names)

    @property
    def ca_file(self) -> str:
        return str(self.authority.ca_file)

    def _write(self, extra: str, max_connections: int, names: tuple[str, ...]) -> None:
        served = self.authority.certificate(*names)
        (self.root / "run").mkdir()
        (self.root / "mail").mkdir()
        lines = [f"{user}:{{PLAIN}}{password}::::::\n" for user, password in self.users.items()]
        (self.root / "passwd").write_text("".join(lines))
        text = CONFIGURATION.format(
            root=self.root,
            run=self.root / "run",
            cert=served.cert_file,
            key=served.key_file,
            user=self._owner.pw_name,
            group=grp.getgrgid(self._owner.pw_gid).gr_name,
            uid=self._owner.pw_uid,
            gid=self._owner.pw_gid,
            imap=self.imap_port,
            imaps=self.imaps_port,
            lmtp=self.lmtp_port,
            max_connections=max_connections,
            extra=extra,
        )
        (self.root / "dovecot.conf").write_text(text)
        self._give_away(self.root)

    def _give_away(self, path: Path) -> None:
        if os.geteuid() == 0:
            for found in [path, *path.rglob("*")]:
                os.chown(found, self._owner.pw_uid, self._owner.pw_gid)

    def __enter__(self) -> Dovecot:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self) -> None:
        command = ["dovecot", "-F", "-c", str(self.root / "dovecot.conf")]
        if os.geteuid() == 0:
            ids = [f"--reuid={self._owner.pw_uid}", f"--regid={self._owner.pw_gid}", "--clear-groups"]
            command = ["setpriv", *ids, *command]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_path(), start_new_session=True
        )
        deadline = time.monotonic() + 20
        while not all(map(_answers, (self.imap_port, self.lmtp_port))):
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = self._process.stderr.read() if self._process.stderr else b""
                raise RuntimeError(f"Dovecot does not start: {words.decode()} {self.log()}")
            time.sleep(0.02)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)  # stopped right after its start, it waits six seconds for its own statistics process
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # sessions outlive their master by up to twelve seconds
        process.wait()
        if process.stderr:
            process.stderr.close()

    def log(self) -> str:
        path = self.root / "dovecot.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Mail

    def deliver(self, user: str, *raws: bytes) -> None:
        """Hand mails over by LMTP, as a mail server does."""
        with smtplib.LMTP("127.0.0.1", self.lmtp_port) as lmtp:
            for raw in raws:
                lmtp.sendmail("sender@example.test", [user], raw)

    def drop(self, user: str, *raws: bytes, folder: str = "") -> None:
        """Put mails into the maildir byte by byte as they are: no header is added."""
        new = self.maildir(user, folder) / "new"
        if not new.exists():
            for part in ("new", "cur", "tmp"):
                (new.parent / part).mkdir(parents=True, exist_ok=True)
            self._give_away(self.root / "mail" / user)
        for number, raw in enumerate(raws):
            path = new.parent / "tmp" / f"{time.time_ns()}.{number:06}.drop"
            path.write_bytes(raw)
            if os.geteuid() == 0:
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
            path.rename(new / path.name)

    def maildir(self, user: str, folder: str = "") -> Path:
        return self.root / "mail" / user / (f".{folder}" if folder else "")

    def recreate(self, user: str) -> None:
        """Give the inbox another UIDVALIDITY and its mails new UIDs; the mails stay. Nobody may be logged in."""
        self._until_nobody_is_in(user)
        uid_list = self.maildir(user) / "dovecot-uidlist"
        found = re.match(r"3 V(\d+) ", uid_list.read_text())
        assert found is not None
        for index in self.maildir(user).glob("dovecot*"):
            index.unlink()
        uid_list.write_text(f"3 V{int(found[1]) + 1} N1 G{uuid.uuid4().hex}\n")
        self._give_away(uid_list)

    def _until_nobody_is_in(self, user: str) -> None:
        """A session that lost its client still writes its index for a moment."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            log = self.log()
            if log.count(f"Login: user=<{user}>") == len(
                re.findall(rf"imap\({user}\)<.*(?:Disconnected|Logged out)", log)
            ):
                return
            time.sleep(0.02)
        raise RuntimeError(f"{user} is still logged in: {self.log()[-2000:]}")

    def names(self, user: str, folder: str = "") -> list[str]:
        """File names in ``cur`` and ``new``: their flags are behind ``:2,``."""
        place = self.maildir(user, folder)
        return sorted(path.name for part in ("cur", "new") for path in (place / part).glob("*"))

    def clear(self, user: str) -> None:
        """Remove everything the user has."""
        shutil.rmtree(self.root / "mail" / user, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _path() -> dict[str, str]:
    return {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/dovecot"}


def is_missing() -> bool:
    return shutil.which("dovecot", path=_path()["PATH"]) is None


@pytest.fixture(scope="session")
def dovecot_server() -> Iterator[Dovecot]:
    """One Dovecot for the whole run; tests use their own users or clear theirs."""
    if is_missing():
        sentence = "Dovecot is not installed (Debian: dovecot-imapd dovecot-lmtpd)"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    users = dict.fromkeys(("support", "jane", *(f"box{n}" for n in range(60))), PASSWORD)
    with Dovecot(users) as server:
        yield server
