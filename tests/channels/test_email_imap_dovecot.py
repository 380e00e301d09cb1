"""The IMAP adapter against the distribution's Dovecot: what it stores is what we take, byte for byte."""

from __future__ import annotations

import asyncio
import imaplib
import os
import random
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from gateway.channels import email_imap
from gateway.channels.contract import Place, Trouble
from gateway.channels.email_config import EmailConfig
from gateway.errors import ChannelMisconfigured, PeerUnavailable
from tests.channels.imap_harness import CANARY, listening, run_until, settings
from tests.servers.cutter import Cutter, End, Plan, seeded
from tests.servers.dovecot import PASSWORD, Dovecot, dovecot_server
from tests.servers.memory_journal import MemoryJournal

__all__ = ["dovecot_server"]
pytestmark = pytest.mark.dovecot

BACKLOG = int(os.environ.get("GATEHOUSE_BACKLOG_MAILS", "500"))
CUT_SCRIPTS = int(os.environ.get("GATEHOUSE_DOVECOT_CUT_SCRIPTS", "20"))
NUMBERS = count()


@pytest.fixture
def user(dovecot_server: Dovecot) -> Iterator[str]:
    """A mailbox of the test's own, empty."""
    name = f"box{next(NUMBERS)}"
    dovecot_server.clear(name)
    yield name
    dovecot_server.clear(name)


def account(server: Dovecot, user: str, **changes: Any) -> EmailConfig:
    fields: dict[str, Any] = {
        "port": server.imaps_port,
        "user": user,
        "password": PASSWORD,
        "security": "tls",
        "ca_file": server.ca_file,
        "timeout_seconds": 20,
    }
    return settings(**(fields | changes))


def mail(number: int, *, date: str = "Thu, 01 Jan 2026 10:00:00 +0000", body: bytes = b"text") -> bytes:
    head = f"From: a@example.test\r\nDate: {date}\r\nSubject: mail {number}\r\nMessage-ID: <{number}@example.test>\r\n"
    return head.encode() + b"\r\n" + body + b"\r\n"


def client(server: Dovecot, user: str, folder: str = "INBOX") -> imaplib.IMAP4_SSL:
    """Another mail client of the same mailbox."""
    context = ssl.create_default_context(cafile=server.ca_file)
    other = imaplib.IMAP4_SSL("127.0.0.1", server.imaps_port, ssl_context=context)
    other.login(user, PASSWORD)
    other.select(folder)
    return other


@pytest.mark.proves("R4.1", "T-C09", "R1.1")
@pytest.mark.parametrize("security", ["tls", "starttls", "plain"])
async def test_mail_is_taken_byte_for_byte_and_new_mail_is_pushed(
    dovecot_server: Dovecot, user: str, security: str
) -> None:
    old = [mail(number) for number in range(3)]
    dovecot_server.drop(user, *old)
    port = dovecot_server.imaps_port if security == "tls" else dovecot_server.imap_port
    journal = MemoryJournal()
    async with listening(account(dovecot_server, user, port=port, security=security), journal):
        await journal.until(lambda: len(journal.rows) == 3)
        assert sorted(journal.raws()) == sorted(old)
        await asyncio.to_thread(dovecot_server.deliver, user, mail(9))
        await journal.until(lambda: len(journal.rows) == 4)
    assert b"Subject: mail 9\r\n" in journal.raws()[-1]
    assert not any(":2," in name and "S" in name.partition(":2,")[2] for name in dovecot_server.names(user))
    assert all(item.internal_at is not None for item in journal.rows.values())


@pytest.mark.proves("R4.1")
async def test_check_tells_what_it_found(dovecot_server: Dovecot, user: str) -> None:
    dovecot_server.drop(user, mail(1))
    config = account(dovecot_server, user, folders=("INBOX", "Nowhere"), after="move", move_to="Elsewhere")
    findings = "\n".join(await email_imap.check(config))
    assert "TLSv1.3" in findings
    assert "folders: Archive, INBOX" in findings
    assert "folder 'INBOX': 1 messages" in findings
    assert "folder 'Nowhere' cannot be opened" in findings
    assert "folder 'Elsewhere' to move to does not exist" in findings


@pytest.mark.proves("F-M12", "F-M06", "R1.6")
async def test_backlog_is_taken_whole_whatever_its_age_flags_and_number(dovecot_server: Dovecot, user: str) -> None:
    chance = random.Random(12)
    dates = ("Thu, 01 Jan 1970 00:00:00 +0000", "Fri, 31 Dec 2099 23:59:59 +0000", "no date", "")
    mails = [mail(n, date=dates[n % 4], body=b"x" * chance.randrange(3000)) for n in range(BACKLOG)]
    dovecot_server.drop(user, *mails)
    for path in dovecot_server.maildir(user).glob("new/*"):
        at = chance.choice((0, 10**9, 4 * 10**9))  # INTERNALDATE
        os.utime(path, (at, at))
    other = client(dovecot_server, user)
    other.store("1:*", "+FLAGS", "(\\Seen \\Answered)")
    other.logout()
    journal = MemoryJournal()
    await run_until(account(dovecot_server, user), journal, lambda: len(journal.rows) == BACKLOG)
    assert sorted(journal.raws()) == sorted(mails)


@pytest.mark.proves("F-M04", "R1.6")
async def test_recreated_mailbox_is_scanned_again_under_its_new_uidvalidity(dovecot_server: Dovecot, user: str) -> None:
    first, second = [mail(n) for n in range(20)], [mail(n) for n in range(20, 25)]
    dovecot_server.drop(user, *first)
    journal = MemoryJournal()
    await run_until(account(dovecot_server, user), journal, lambda: len(journal.rows) == 20)
    dovecot_server.recreate(user)
    dovecot_server.drop(user, *second)
    await run_until(account(dovecot_server, user), journal, lambda: len(journal.rows) == 45)
    places = {place.uidvalidity for place, _ in journal.rows}
    assert len(places) == 2
    assert set(journal.raws()) == {*first, *second}


@pytest.mark.proves("F-M08", "R1.1")
@pytest.mark.parametrize("size", [1024 * 1024 - 200, 3 * 1024 * 1024, 5_000_000])
async def test_large_mail_is_put_together_from_its_parts(dovecot_server: Dovecot, user: str, size: int) -> None:
    chance = random.Random(size)
    lines = b"".join(chance.randbytes(36).hex().encode() + b"\r\n" for _ in range(size // 74))
    raws = [mail(1), mail(2, body=lines), mail(3)]
    dovecot_server.drop(user, *raws)
    journal = MemoryJournal()
    await run_until(account(dovecot_server, user), journal, lambda: len(journal.rows) == 3)
    assert sorted(journal.raws()) == sorted(raws)


@pytest.mark.proves("F-M08")
async def test_mail_beyond_the_limit_leaves_its_head_and_stays_on_the_server(
    dovecot_server: Dovecot, user: str
) -> None:
    dovecot_server.drop(user, mail(1), mail(2, body=b"line of text\r\n" * 20_000))
    journal = MemoryJournal()
    config = account(dovecot_server, user, max_raw_bytes=100_000, after="delete")
    await run_until(config, journal, lambda: len(journal.rows) == 2 and len(journal.marks) == 1)
    large = next(item for item in journal.rows.values() if item.trouble)
    assert large.trouble is Trouble.TOO_LARGE
    assert large.raw == mail(2).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert large.size_bytes > 100_000
    assert len(dovecot_server.names(user)) == 1


@pytest.mark.proves("R1.1", "F-M11")
@pytest.mark.parametrize(
    ("after", "inbox", "archive"), [("leave", 5, 0), ("seen", 5, 0), ("move", 0, 5), ("delete", 0, 0)]
)
async def test_mail_is_marked_as_configured(
    dovecot_server: Dovecot, user: str, after: str, inbox: int, archive: int
) -> None:
    dovecot_server.drop(user, *(mail(n) for n in range(5)))
    journal = MemoryJournal()
    expected = 0 if after == "leave" else 5
    config = account(dovecot_server, user, after=after, move_to="Archive")
    await run_until(config, journal, lambda: len(journal.rows) == 5 and len(journal.marks) == expected)
    names = dovecot_server.names(user)
    assert (len(names), len(dovecot_server.names(user, "Archive"))) == (inbox, archive)
    assert all(name.endswith("S") for name in names) if after == "seen" else True
    assert journal.troubles() == []


@pytest.mark.proves("F-M11")
async def test_move_to_a_missing_folder_is_reported_and_works_once_it_exists(
    dovecot_server: Dovecot, user: str
) -> None:
    dovecot_server.drop(user, mail(1))
    journal = MemoryJournal()
    config = account(dovecot_server, user, after="move", move_to="Erledigt \N{PARTY POPPER} & mehr", poll_seconds=0.3)
    async with listening(config, journal):
        await journal.until(lambda: len(journal.rows) == 1 and bool(journal.troubles()))
        assert "was refused" in journal.troubles()[0]
        other = await asyncio.to_thread(client, dovecot_server, user)
        await asyncio.to_thread(other.create, '"Erledigt &2DzfiQ- &- mehr"')
        other.logout()
        await journal.until(lambda: len(journal.marks) == 1)
    assert dovecot_server.names(user) == []


@pytest.mark.proves("F-M11")
async def test_folders_with_unusual_names_are_watched(dovecot_server: Dovecot, user: str) -> None:
    dovecot_server.drop(user, mail(1))
    other = client(dovecot_server, user)
    for name in ('"a \\"quoted\\" name"', '"Gel&APY-scht"'):
        other.create(name)
        other.append(name, "", imaplib.Time2Internaldate(0), mail(2))
    other.logout()
    journal = MemoryJournal()
    config = account(dovecot_server, user, folders=("INBOX", 'a "quoted" name', "Gelöscht"))
    await run_until(config, journal, lambda: len(journal.rows) == 3)
    assert {place.folder for place, _ in journal.rows} == {"INBOX", 'a "quoted" name', "Gelöscht"}
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    ages = [item.internal_at - epoch for item in journal.rows.values() if item.internal_at]
    assert sum(age < timedelta(days=1) for age in ages) == 2


@pytest.mark.proves("F-M11", "F-M07")
async def test_folder_deleted_while_it_is_watched_ends_in_a_folder_fault(dovecot_server: Dovecot, user: str) -> None:
    other = client(dovecot_server, user)
    other.create("Team")
    other.append("Team", "", imaplib.Time2Internaldate(0), mail(2))
    journal = MemoryJournal()
    config = account(dovecot_server, user, folders=("Team",), poll_seconds=0.3)
    with pytest.raises(ChannelMisconfigured) as caught:
        async with asyncio.timeout(20):
            async with listening(config, journal, restarts=3):
                await journal.until(lambda: len(journal.rows) == 1)
                other.delete("Team")
                await journal.until(lambda: False)
    other.logout()
    assert caught.value.code == "folder"


@pytest.mark.proves("F-M07")
async def test_other_clients_may_move_delete_and_read_mail_meanwhile(dovecot_server: Dovecot, user: str) -> None:
    mails = [mail(n) for n in range(300)]
    dovecot_server.drop(user, *mails)
    other = client(dovecot_server, user)
    journal = MemoryJournal()

    def interfere() -> None:
        for number in range(1, 301, 7):
            other.uid("store", str(number), "+FLAGS", "(\\Seen \\Flagged)")
            other.uid("move", str(number + 1), "Archive")
            other.uid("store", str(number + 2), "+FLAGS", "(\\Deleted)")
            other.expunge()
        other.logout()

    config = account(dovecot_server, user, poll_seconds=0.3)
    async with listening(config, journal):
        await asyncio.to_thread(interfere)
        settled = journal.count("proven") + 4
        await journal.until(lambda: journal.count("proven") >= settled)
    assert not journal.tries
    taken = set(journal.raws())
    left = [(dovecot_server.maildir(user) / part).glob("*") for part in ("cur", "new")]
    remaining = {path.read_bytes() for paths in left for path in paths}
    assert remaining <= taken <= set(mails)


@pytest.mark.proves("F-M09", "T-O01")
async def test_wrong_password_is_a_login_fault(dovecot_server: Dovecot, user: str) -> None:
    with pytest.raises(ChannelMisconfigured) as caught:
        await email_imap.listen(account(dovecot_server, user, password=CANARY), MemoryJournal())
    assert caught.value.code == "login"
    assert CANARY not in str(caught.value)


@pytest.mark.proves("F-M10")
@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_authority_that_is_not_trusted_is_a_tls_fault(dovecot_server: Dovecot, user: str, security: str) -> None:
    port = dovecot_server.imaps_port if security == "tls" else dovecot_server.imap_port
    with pytest.raises(ChannelMisconfigured) as caught:
        await email_imap.check(account(dovecot_server, user, port=port, security=security, ca_file=None))
    assert caught.value.code == "tls"


@pytest.mark.proves("F-M09")
async def test_passwords_with_quotes_and_letters_beyond_ascii_log_in_and_connection_limit_is_temporary(
    dovecot_server: Dovecot,
) -> None:
    passwords = {"quote": 'a "b" \\ c', "accent": "pässwört 台北"}
    with Dovecot(passwords, max_connections=1) as server:
        for name, password in passwords.items():
            for security, port in (("tls", server.imaps_port), ("plain", server.imap_port)):
                config = account(server, name, password=password, security=security, port=port)
                assert "login works" in await email_imap.check(config)
        journal = MemoryJournal()
        server.drop("quote", mail(1))
        config = account(server, "quote", password=passwords["quote"])
        async with listening(config, journal):
            await journal.until(lambda: len(journal.rows) == 1)
            with pytest.raises(PeerUnavailable) as caught:
                await email_imap.check(config)
            assert caught.value.code == "throttled"


@pytest.mark.proves("F-M01", "F-M12")
async def test_server_that_is_stopped_and_started_loses_nothing(dovecot_server: Dovecot) -> None:
    journal = MemoryJournal()
    with Dovecot() as server:
        server.drop("jane", mail(1))
        config = account(server, "jane")
        with pytest.raises(PeerUnavailable):
            async with asyncio.timeout(30), listening(config, journal):
                await journal.until(lambda: len(journal.rows) == 1)
                await asyncio.to_thread(server.stop)
                await journal.until(lambda: False)
        with pytest.raises(PeerUnavailable):
            await email_imap.check(config)
        server.start()
        server.drop("jane", mail(2))
        await run_until(config, journal, lambda: len(journal.rows) == 2)
    assert sorted(journal.raws()) == [mail(1), mail(2)]


@pytest.mark.proves("F-M01", "F-K02", "R1.1")
@pytest.mark.parametrize("security", ["tls", "plain"])
async def test_cut_lines_lose_nothing_and_take_nothing_twice(dovecot_server: Dovecot, security: str) -> None:
    mails = [mail(n, body=b"y" * (n * 4000)) for n in range(8)]
    users = dict.fromkeys((f"cut{seed}" for seed in range(CUT_SCRIPTS)), PASSWORD)
    with Dovecot(users) as server:
        for seed, user in enumerate(users):
            chance = random.Random(seed)
            cut_at = chance.choice((chance.randrange(4000), chance.randrange(117_000)))
            await cut_once(server, user, security, seeded(seed, cut_at, ends=(End.FIN, End.RST)), mails)


async def cut_once(server: Dovecot, user: str, security: str, plan: Plan, mails: list[bytes]) -> None:
    server.drop(user, *mails)
    journal = MemoryJournal()
    port = server.imaps_port if security == "tls" else server.imap_port
    async with Cutter(port, lambda number: Plan() if number else plan) as cutter:
        config = account(server, user, port=cutter.port, security=security, after="move", move_to="Archive")
        await run_until(config, journal, lambda: len(journal.marks) == 8, restarts=3)
    assert sorted(journal.raws()) == sorted(mails), plan
    assert len(journal.rows) == 8, plan
    assert (len(server.names(user)), len(server.names(user, "Archive"))) == (0, 8), plan


@pytest.mark.proves("R1.2")
async def test_each_uid_has_one_row_after_many_small_arrivals(dovecot_server: Dovecot, user: str) -> None:
    journal = MemoryJournal()
    async with listening(account(dovecot_server, user), journal):
        await journal.until(lambda: journal.count("proven") >= 2)
        for number in range(0, 60, 3):
            await asyncio.to_thread(dovecot_server.deliver, user, *(mail(number + n) for n in range(3)))
        await journal.until(lambda: len(journal.rows) == 60)
    place = next(iter(journal.rows))[0]
    assert place == Place(folder="INBOX", uidvalidity=place.uidvalidity)
    assert sorted(uid for _, uid in journal.rows) == list(range(1, 61))
