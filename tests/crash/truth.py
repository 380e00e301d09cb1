"""What really happened, kept outside the house: every mail that was offered, every answer that was asked for."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.postfix import archived

LARGE_BYTES = 90_000  # beyond what goes into a row: a blob
HUGE_BYTES = 300_000  # more than one read of a socket brings, so that every fetch of it is seen half done


@dataclass(frozen=True, kw_only=True, slots=True)
class Offered:
    """One mail in the mailbox, as often as its bytes were put there."""

    raw: bytes
    digest: str
    subject: str
    files: int = 0
    answers: str = ""  #: Message-ID of an answer of ours that it replies to


@dataclass(slots=True)
class Asked:
    """One answer that an agent wants to send, under one idempotency key."""

    key: str
    ticket_id: int
    text: str
    to: tuple[str, ...]
    message_id: int | None = None  #: known once the house has acknowledged it
    header: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accept:
    """One mail that a server took responsibility for."""

    header: str
    recipients: tuple[str, ...]
    sha256: str


@dataclass(slots=True)
class Truth:
    """Ground truth of one store, whatever was killed meanwhile."""

    accept_log: Path
    is_relayed: bool = False  #: the peer with the log stands behind a Postfix, which archives what it takes
    mails: dict[str, Offered] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)  #: digest -> how often its bytes were offered
    answers: dict[str, Asked] = field(default_factory=dict)  #: by idempotency key
    again: Counter[str] = field(default_factory=Counter)  #: header -> explicit "send again"
    reported: frozenset[str] = frozenset()  #: digests of the delivery reports that the next server sent
    erased: set[str] = field(default_factory=set)  #: digests of mails whose ticket somebody erased

    def offer(self, mail: Offered) -> None:
        self.mails[mail.digest] = mail
        self.times[mail.digest] += 1

    @property
    def rows(self) -> int:
        """How many ledger rows there must be."""
        return self.times.total()

    def accepts(self) -> list[Accept]:
        """What the next server took, by whom it was to reach."""
        return self._logged(archived) if self.is_relayed else self.arrivals()

    def arrivals(self) -> list[Accept]:
        """What came to those whom it was to reach."""
        return self._logged(lambda address: None if archived(address) else address)

    def _logged(self, whose: Callable[[str], str | None]) -> list[Accept]:
        """What the peer wrote down and synced before it said 250; recipients as ``whose`` reads them."""
        if not self.accept_log.exists():
            return []
        lines = self.accept_log.read_bytes().split(b"\n")[:-1]  # what follows the last line end is being written
        accepts = []
        for row in map(json.loads, lines):
            recipients = tuple(filter(None, map(whose, row["recipients"])))
            if recipients:
                accepts.append(Accept(header=row["message_id"], recipients=recipients, sha256=row["sha256"]))
        return accepts


class Writer:
    """Customers: mails of every kind, the same ones for the same seed."""

    def __init__(self, rng: random.Random, *, to: str) -> None:
        self._rng = rng
        self._to = to
        self._number = 0

    def write(
        self,
        *,
        is_large: bool = False,
        is_huge: bool = False,
        has_id: bool = True,
        message_id: str = "",
        replies_to: str = "",
        at: str = "",
        word: str = "Question",
    ) -> Offered:
        self._number += 1
        name = f"c{self._rng.getrandbits(40):010x}"
        subject = f"{word} {self._number} of {name}"
        file_bytes = HUGE_BYTES if is_huge else LARGE_BYTES if is_large else 0
        files = 1 if file_bytes else 0
        lines = [
            f"From: Customer {name} <{at or f'{name}@customer.test'}>",
            f"To: {self._to}",
            f"Subject: {'Re: ' if replies_to else ''}{subject}",
            "Date: Mon, 02 Mar 2026 09:00:00 +0000",
            "MIME-Version: 1.0",
        ]
        if has_id:
            lines.append(f"Message-ID: {message_id or f'<{name}@customer.test>'}")
        if replies_to:
            lines.append(f"In-Reply-To: <{replies_to}>")
        text = f"Hello,\r\n\r\nwhere is order {name}?\r\n"
        raw = self._multipart(lines, text, file_bytes) if file_bytes else self._plain(lines, text)
        digest = hashlib.sha256(raw).hexdigest()
        return Offered(raw=raw, digest=digest, subject=subject, files=files, answers=replies_to)

    def any(self, known: Sequence[Offered], answered: Sequence[tuple[str, str]]) -> Offered:
        """A mail by chance: mostly new ones, some large, repeated, without or with a stolen Message-ID, or replies.

        ``answered``: Message-IDs of our answers that arrived, with who got them.
        """
        kind = self._rng.random()
        if kind < 0.08 and known:
            return self._rng.choice(known)
        if kind < 0.16:
            return self.write(has_id=False)
        if kind < 0.22 and known:
            return self.write(message_id=f"<{self._rng.choice(known).subject.rpartition(' ')[2]}@customer.test>")
        if kind < 0.34 and answered:
            header, address = self._rng.choice(answered)
            return self.write(replies_to=header, at=address)
        return self.write(is_large=kind > 0.9)

    def _plain(self, lines: Sequence[str], text: str) -> bytes:
        return "\r\n".join([*lines, "Content-Type: text/plain; charset=utf-8", "", text]).encode()

    def _multipart(self, lines: Sequence[str], text: str, file_bytes: int) -> bytes:
        edge = f"edge-{self._rng.getrandbits(60):x}"
        packed = base64.encodebytes(self._rng.randbytes(file_bytes)).replace(b"\n", b"\r\n").decode()
        parts = [
            *lines, f'Content-Type: multipart/mixed; boundary="{edge}"', "",
            f"--{edge}", "Content-Type: text/plain; charset=utf-8", "", text,
            f"--{edge}", 'Content-Type: application/octet-stream; name="scan.bin"',
            "Content-Transfer-Encoding: base64", 'Content-Disposition: attachment; filename="scan.bin"', "", packed,
            f"--{edge}--", "",
        ]  # fmt: skip
        return "\r\n".join(parts).encode()
