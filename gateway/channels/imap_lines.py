"""IMAP on the wire: bytes to responses, responses to values, names to arguments. Pure, bounded, no network.

Source: RFC 3501 sections 4, 5.1.3 and 9; RFC 5530 (response codes). The client library collects lines by recursion
and counts brackets in whatever a mail's text says, so a hostile or merely unusual server can stop it; ``Framer`` stands
in front of it. Nothing here understands mail.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

MAX_TEXT_BYTES = 1024 * 1024  # of one response without its literals: a search answer of about 100 000 UIDs
MAX_LITERALS = 64  # in one response; a FETCH answer of ours needs one or two
MAX_DEPTH = 16
MAX_UID = 2**32 - 1

LITERAL = re.compile(rb"~?\{(\d{1,20})\+?\}$")
STATUS = re.compile(rb"(?:\* (?:OK|NO|BAD|BYE|PREAUTH)|\+)(?: |$)", re.IGNORECASE)
TOKEN = re.compile(rb'\s*(?:([()])|"((?:[^"\\]|\\.)*)"|((?:[^\s()"\[]|\[[^\]]*\])+))')
CODE = re.compile(r"^\[([A-Za-z0-9_-]+)(?: ([^\]]*))?\]")
DATE = re.compile(rb"\s?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)$")
MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")

Value = bytes | None | list["Value"]


class Malformed(Exception):
    """The stream cannot be followed any further: drop the connection."""


@dataclass(frozen=True, slots=True)
class Response:
    """One response of the server. ``parts`` are text, literal, text, literal, ..., text; texts without line ends."""

    parts: tuple[bytes, ...]

    @property
    def head(self) -> bytes:
        return self.parts[0]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.parts))

    def shown(self, limit: int = 300) -> bytes:
        """Return the texts without the literals, for an excerpt."""
        return b"".join(self.parts[::2])[:limit]


class Framer:
    """Cuts a byte stream into responses; never holds more than its limits allow.

    ``max_literal_bytes`` is set by the caller before each command to what that command may bring.
    """

    def __init__(self) -> None:
        self.max_literal_bytes = 64 * 1024
        self._buffer = bytearray()
        self._searched = 0
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._literal: bytearray | None = None
        self._missing_bytes = 0

    @property
    def pending(self) -> bytes:
        """The start of what has come but is not a whole response yet."""
        held = b"".join(self._parts[::2])[:200]
        return held + bytes(self._buffer[:200])

    def feed(self, data: bytes) -> Iterator[Response]:
        """Yield each response that ``data`` completes; raise Malformed beyond a limit."""
        rest = memoryview(data)
        while True:
            if self._literal is not None:
                used = min(self._missing_bytes, len(rest))
                self._literal += rest[:used]
                self._missing_bytes -= used
                rest = rest[used:]
                if self._missing_bytes:
                    return
                self._parts.append(bytes(self._literal))
                self._literal = None
            self._buffer += rest
            rest = memoryview(b"")
            line = self._line()
            if line is None:
                return
            announced = self._announced(line)
            self._parts.append(line)
            if announced is not None:
                self._literal, self._missing_bytes = bytearray(), announced
                rest = memoryview(bytes(self._buffer))
                self._buffer.clear()
                self._searched = 0
                continue
            parts, self._parts, self._held_bytes = tuple(self._parts), [], 0
            if parts != (b"",):
                yield Response(parts)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        length = end if end >= 0 else len(self._buffer)
        if self._held_bytes + length > MAX_TEXT_BYTES:
            raise Malformed(f"a line of more than {MAX_TEXT_BYTES} bytes")
        if end < 0:
            self._searched = length
            return None
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        self._searched = 0
        self._held_bytes += length
        return line

    def _announced(self, line: bytes) -> int | None:
        """Return the size of the literal that follows; a status text may end like one and has none."""
        found = LITERAL.search(line)
        if found is None:
            return None
        first = self._parts[0] if self._parts else line
        if STATUS.match(first) or not first.startswith(b"* "):
            return None
        size = int(found[1])
        if size > self.max_literal_bytes:
            raise Malformed(f"a literal of {size} bytes was announced, {self.max_literal_bytes} are allowed")
        if len(self._parts) >= 2 * MAX_LITERALS:
            raise Malformed("too many literals in one response")
        return size


# Values in a response


def values(response: Response) -> list[Value]:
    """Parse everything after ``* `` as atoms, strings and lists; raise Malformed if it is none of these."""
    stack: list[list[Value]] = [[]]
    for read in _tokens(response):
        if read == "(":
            if len(stack) > MAX_DEPTH:
                raise Malformed("brackets too deep")
            stack.append([])
        elif read == ")":
            if len(stack) == 1:
                raise Malformed("a closing bracket too many")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(read if isinstance(read, bytes) else None)
    if len(stack) != 1:
        raise Malformed("a bracket is not closed")
    return stack[0]


def _tokens(response: Response) -> Iterator[bytes | str | None]:
    for index, part in enumerate(response.parts):
        if index % 2:
            yield part
            continue
        text = part.removeprefix(b"* ") if index == 0 else part
        if index + 1 < len(response.parts):
            text = LITERAL.sub(b"", text)
        yield from _text_tokens(text.rstrip())


def _text_tokens(text: bytes) -> Iterator[bytes | str | None]:
    position = 0
    while position < len(text):
        found = TOKEN.match(text, position)
        if found is None:
            raise Malformed("neither atom nor string nor list")
        position = found.end()
        bracket, string, atom = found.groups()
        if bracket:
            yield bracket.decode("ascii")
        elif string is not None:
            yield re.sub(rb"\\(.)", rb"\1", string, flags=re.DOTALL)
        else:
            yield None if atom.upper() == b"NIL" else atom


def fetched(response: Response) -> dict[bytes, Value] | None:
    """Return the items of a FETCH response by upper-case name, or None if it is something else or garbled."""
    if not re.match(rb"\* \d+ FETCH \(", response.head, re.IGNORECASE):
        return None
    try:
        parsed = values(response)
    except Malformed:
        return None
    if len(parsed) != 3 or not isinstance(parsed[2], list) or len(parsed[2]) % 2:
        return None
    items: dict[bytes, Value] = {}
    names = iter(parsed[2])
    for name, value in zip(names, names, strict=True):
        if not isinstance(name, bytes) or items.setdefault(name.upper(), value) != value:
            return None
    return items


def number(value: Value) -> int | None:
    """Return an unsigned number of at most 20 digits, else None."""
    return int(value) if isinstance(value, bytes) and value.isdigit() and len(value) <= 20 else None


def searched(responses: Iterable[Response]) -> set[int]:
    """Return the numbers of all SEARCH responses; what is no UID (RFC 3501 section 2.3.1.1) counts as 0."""
    found: set[int] = set()
    for response in responses:
        name, _, rest = response.head.removeprefix(b"* ").partition(b" ")
        if name.upper() == b"SEARCH":
            plain = rest.partition(b"(")[0]  # "(MODSEQ n)" may follow, RFC 7162 section 3.1.5
            numbers = (number(word) or 0 for word in plain.split())
            found.update(n if n <= MAX_UID else 0 for n in numbers)
    return found


def internal_date(value: Value) -> datetime | None:
    """Parse INTERNALDATE to aware UTC; a date that does not exist is None: it decides nothing (F-M13)."""
    found = DATE.match(value) if isinstance(value, bytes) else None
    if found is None or found[2].lower() not in MONTHS:
        return None
    day, year, hour, minute, second = (int(found[i]) for i in (1, 3, 4, 5, 6))
    offset = timedelta(hours=int(found[8]), minutes=int(found[9]))
    try:
        zone = timezone(-offset if found[7] == b"-" else offset)
        local = datetime(year, MONTHS.index(found[2].lower()) + 1, day, hour, minute, min(second, 59), tzinfo=zone)
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def response_code(text: str) -> tuple[str, str]:
    """Return the bracketed code of a status text, upper case, and its arguments; empty if there is none."""
    found = CODE.match(text)
    return (found[1].upper(), found[2] or "") if found else ("", "")


# Arguments of a command


def quoted(text: str) -> str:
    """Return an IMAP quoted string; the text must be printable ASCII."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def is_quotable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def mailbox(name: str) -> str:
    """Return a folder name as an argument: modified UTF-7 (RFC 3501 section 5.1.3), quoted."""
    return quoted(utf7_encode(name))


def utf7_encode(name: str) -> str:
    out: list[str] = []
    for run in re.findall(r"[ -~]+|[^ -~]+", name):
        if " " <= run[0] <= "~":
            out.append(run.replace("&", "&-"))
        else:
            packed = base64.b64encode(run.encode("utf-16-be", "surrogatepass")).decode("ascii")
            out.append("&" + packed.rstrip("=").replace("/", ",") + "-")
    return "".join(out)


def utf7_decode(name: bytes) -> str:
    """Decode a folder name for people; what is not modified UTF-7 is shown as it came."""
    text = name.decode("utf-8", "replace")
    return re.sub(r"&([^-]*)-", _utf7_run, text)


def _utf7_run(found: re.Match[str]) -> str:
    if not found[1]:
        return "&"
    packed = found[1].replace(",", "/")
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
        return raw.decode("utf-16-be")
    except (binascii.Error, ValueError):
        return found[0]


def uid_set(uids: Sequence[int]) -> str:
    """Return ``1:3,7`` for 1, 2, 3, 7; ascending whatever the order was."""
    runs: list[list[int]] = []
    for uid in sorted(set(uids)):
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(str(a) if a == b else f"{a}:{b}" for a, b in runs)
