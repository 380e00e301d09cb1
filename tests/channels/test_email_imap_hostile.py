"""The IMAP adapter against scripted servers: what a broken, lying or dying one may and may not cause."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.channels import email_imap, imap_fetch, imap_folder
from gateway.channels.contract import Known, Offered, Place, Trouble
from gateway.errors import ChannelError, ChannelMisconfigured, LeaseLost, PeerBroke, PeerUnavailable
from tests.channels.imap_harness import CANARY, listening, mail, run_until, settings
from tests.servers.cutter import Cutter, End, Plan, seeded
from tests.servers.imap_peer import Conversation, Hangup, ImapPeer, Script
from tests.servers.memory_journal import MemoryJournal
from tests.servers.tls import Authority

CUT_SCRIPTS = int(os.environ.get("GATEHOUSE_CUT_SCRIPTS", "100"))


def five() -> dict[int, bytes]:
    return {uid: mail(uid) for uid in range(1, 6)}


# --- F-M08: the server lies about one message ----------------------------------------------------------------------


def instead(answer: Callable[[Conversation, str, str], Awaitable[None]], *, uid: int = 3) -> Script:
    """Answer honestly, except where the body of ``uid`` is asked for."""

    async def script(talk: Conversation, tag: str, rest: str) -> bool:
        if "BODY" not in rest or uid not in talk.peer.asked(rest):
            return False
        for other in talk.peer.asked(rest):
            if other == uid:
                await answer(talk, tag, rest)
            else:
                await talk.send_raw(talk.peer.fetch_line(other, rest))
        await talk.send(f"{tag} OK done")
        return True

    return script


async def nil_body(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send("* 3 FETCH (UID 3 BODY[] NIL)")


async def no_line(talk: Conversation, tag: str, rest: str) -> None:
    pass


async def wrong_uid(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send("* 3 FETCH (UID 99 BODY[] {4}", "evil)")


async def two_bodies(talk: Conversation, tag: str, rest: str) -> None:
    section = "BODY[]<0>" if "<" in rest else "BODY[]"
    for words in ("good", "evil"):
        await talk.send(f"* 3 FETCH (UID 3 {section} {{4}}", f"{words})")


async def four_gigabytes(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send("* 3 FETCH (UID 3 BODY[] {4294967296}")
    await talk.silence()


async def endless_line(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send_raw(b"* 3 FETCH (UID 3 BODY[] ")
    for _ in range(16 * 1024):  # one gigabyte, if anybody takes it
        await talk.send_raw(b"x" * 65536)


async def literal_longer_than_announced(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send("* 3 FETCH (UID 3 BODY[] {4}", "abcdefgh", "more of it", ")")


async def brackets(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send(b"* 3 FETCH " + b"(" * 100_000)


async def not_imap(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send("HTTP/1.1 200 OK", "")


async def foreign_tag(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send("Z9 OK done")


async def hangup(talk: Conversation, tag: str, rest: str) -> None:
    raise Hangup


async def refusal(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send(f"{tag} NO message is damaged")


async def storage_down(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send(f"{tag} NO [UNAVAILABLE] storage is temporarily unavailable")


async def server_bug(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send(f"{tag} NO [SERVERBUG] Internal error occurred. Refer to server log")


async def literals_without_end(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send_raw(b"* 3 FETCH (X " + b"{1}\r\nx " * 5000)


LIES = [
    nil_body,
    no_line,
    wrong_uid,
    two_bodies,
    four_gigabytes,
    endless_line,
    literal_longer_than_announced,
    brackets,
    not_imap,
    foreign_tag,
    hangup,
    refusal,
    storage_down,
    server_bug,
    literals_without_end,
]


@pytest.mark.proves("F-M08", "R1.3", "T-Q02")
@pytest.mark.parametrize("lie", LIES)
async def test_one_unreadable_message_costs_one_try_and_the_others_are_taken(
    lie: Callable[[Conversation, str, str], Awaitable[None]],
) -> None:
    journal = MemoryJournal()
    async with ImapPeer(five()) as peer:
        peer.scripts["FETCH"] = instead(lie)
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 4 and bool(journal.tries))
        sent = sum(len(data) for side, data in peer.log if side == ">")
    place = Place(folder="INBOX", uidvalidity=7)
    assert sorted(journal.raws()) == sorted(mail(uid) for uid in (1, 2, 4, 5))
    assert journal.tries == {(place, 3): 1}
    assert journal.excerpts[place, 3][0]
    assert len(journal.excerpts[place, 3][0]) <= 1000
    assert sent < 64 * 1024 * 1024


@pytest.mark.proves("F-M08", "R1.3")
@pytest.mark.parametrize("lie", [hangup, not_imap, endless_line, four_gigabytes])
async def test_message_that_cannot_even_be_listed_costs_one_try_and_the_others_are_taken(
    lie: Callable[[Conversation, str, str], Awaitable[None]],
) -> None:
    journal = MemoryJournal()

    async def script(talk: Conversation, tag: str, rest: str) -> bool:
        if "RFC822.SIZE" not in rest or 3 not in talk.peer.asked(rest):
            return False
        await lie(talk, tag, rest)
        return True

    async with ImapPeer(five()) as peer:
        peer.scripts["FETCH"] = script
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 4 and bool(journal.tries))
    assert sorted(journal.raws()) == sorted(mail(uid) for uid in (1, 2, 4, 5))
    assert list(journal.tries.values()) == [1]


@pytest.mark.proves("F-M08")
async def test_endless_line_is_cut_off_within_a_few_megabytes() -> None:
    journal = MemoryJournal()
    written = 0

    async def gigabyte(talk: Conversation, tag: str, rest: str) -> None:
        nonlocal written
        await talk.send_raw(b"* 3 FETCH (UID 3 BODY[] ")
        for _ in range(16 * 1024):
            talk.writer.write(b"x" * 65536)
            await talk.writer.drain()
            written += 65536

    async with ImapPeer(five()) as peer:
        peer.scripts["FETCH"] = instead(gigabyte)
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 4 and bool(journal.tries))
    assert written < 64 * 1024 * 1024  # two tries and what sockets buffer


@pytest.mark.proves("F-M08", "R1.3")
async def test_message_that_stays_unreadable_is_final_after_three_tries_and_asked_for_no_more() -> None:
    journal = MemoryJournal()
    async with ImapPeer(five()) as peer:
        peer.scripts["FETCH"] = instead(nil_body)
        config = settings(peer.port, poll_seconds=0.05)
        async with listening(config, journal):
            await journal.until(lambda: len(journal.rows) == 5)
            proven = journal.count("proven")
            asked = peer.count("UID FETCH 3 ")
            await journal.until(lambda: journal.count("proven") > proven + 4)
            assert peer.count("UID FETCH 3 ") == asked
    found = journal.item(3)
    assert found is not None
    assert found.trouble is Trouble.COULD_NOT_FETCH


@pytest.mark.proves("F-M08", "R1.1")
async def test_message_that_becomes_readable_is_taken_at_a_later_try() -> None:
    journal = MemoryJournal()
    async with ImapPeer(five()) as peer:
        peer.scripts["FETCH"] = instead(nil_body)
        async with listening(settings(peer.port, poll_seconds=0.05), journal):
            await journal.until(lambda: bool(journal.tries))
            peer.scripts.clear()
            await journal.until(lambda: len(journal.rows) == 5)
    assert sorted(journal.raws()) == sorted(five().values())


@pytest.mark.proves("F-M08", "T-Q02")
async def test_every_second_message_breaking_the_connection_does_not_stop_the_rest() -> None:
    mails = {uid: mail(uid) for uid in range(1, 41)}
    journal = MemoryJournal()

    async def odd_ones_kill(talk: Conversation, tag: str, rest: str) -> bool:
        if "BODY" in rest and any(uid % 2 for uid in talk.peer.asked(rest)):
            raise Hangup
        return False

    async with ImapPeer(mails) as peer:
        peer.scripts["FETCH"] = odd_ones_kill
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 20 and len(journal.tries) == 20)
    assert sorted(journal.raws()) == sorted(mails[uid] for uid in range(2, 41, 2))


async def chatter(talk: Conversation, tag: str, rest: str) -> None:
    flags = " ".join(f"flag{n}" for n in range(5000))
    await talk.send(
        "* 3 FETCH (FLAGS (\\Seen))",
        f"* 3 FETCH (UID 3 FLAGS ({flags}))",
        "* 17 EXISTS",
        "* NO [ALERT] disk is nearly full {12}",
        b"* OK caf\xe9 \xff\x00 8-bit",
        "* UNKNOWN (x (y)) {3}",
        "abc",
        "+ what?",
    )
    await talk.send_raw(talk.peer.fetch_line(3, rest))
    await talk.send_raw(talk.peer.fetch_line(3, rest))


async def without_parts(talk: Conversation, tag: str, rest: str) -> None:
    await talk.send_raw(talk.peer.fetch_line(3, "BODY[]"))


@pytest.mark.proves("F-M08")
@pytest.mark.parametrize("oddity", [chatter, without_parts])
async def test_harmless_oddities_cost_nothing(
    oddity: Callable[[Conversation, str, str], Awaitable[None]],
) -> None:
    journal = MemoryJournal()
    async with ImapPeer(five()) as peer:
        peer.scripts["FETCH"] = instead(oddity)
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 5)
    assert sorted(journal.raws()) == sorted(five().values())
    assert not journal.tries


@pytest.mark.proves("F-M08")
@pytest.mark.parametrize(
    ("claimed", "real", "trouble"),
    [
        (10, 3000, None),  # Exchange estimates: the literal counts
        (9000, 3000, None),  # far shorter than announced, and twice the same
        (5_000_000, 3000, None),
        (100, 1_500_000, None),
        (100, 9_000_000, Trouble.TOO_LARGE),  # larger than the limit, whatever was claimed
        (9_000_000, 3000, Trouble.TOO_LARGE),
        (100, 8_000_001, Trouble.TOO_LARGE),
        (8_000_000, 8_000_000, None),
        (4_294_967_295, 3000, Trouble.TOO_LARGE),
        (3_000_000, 3_000_000, None),
        (2 * imap_fetch.PART_BYTES, 2 * imap_fetch.PART_BYTES, None),
    ],
)
async def test_size_is_a_claim_and_the_literal_counts(claimed: int, real: int, trouble: Trouble | None) -> None:
    head = mail(2)
    raw = head + b"x" * (real - len(head))
    journal = MemoryJournal()
    async with ImapPeer({1: mail(1), 2: raw, 3: mail(3)}) as peer:
        peer.mails[2].claimed_bytes = claimed
        config = settings(peer.port, max_raw_bytes=8_000_000)
        await run_until(config, journal, lambda: len(journal.rows) == 3)
    found = journal.item(2)
    assert found is not None
    assert found.trouble is trouble
    assert found.raw == (raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if trouble else raw)
    assert not journal.tries


@pytest.mark.proves("F-M08")
async def test_body_that_comes_out_short_and_different_each_time_is_not_taken() -> None:
    journal = MemoryJournal()
    counted = iter(range(100))

    async def other_each_time(talk: Conversation, tag: str, rest: str) -> None:
        section = "BODY[]<0>" if "<" in rest else "BODY[]"
        await talk.send(f"* 3 FETCH (UID 3 {section} {{6}}", f"part{next(counted):02})")

    async with ImapPeer(five()) as peer:
        peer.mails[3].claimed_bytes = 500_000
        peer.scripts["FETCH"] = instead(other_each_time)
        await run_until(settings(peer.port), journal, lambda: bool(journal.tries))
    assert journal.item(3) is None


# --- F-M07, F-M05, F-M04 -------------------------------------------------------------------------------------------


@pytest.mark.proves("F-M07")
@pytest.mark.parametrize("moment", ["RFC822.SIZE", "BODY"])
async def test_message_expunged_before_it_is_fetched_is_recorded_as_gone(moment: str) -> None:
    journal = MemoryJournal()

    async def vanish(talk: Conversation, tag: str, rest: str) -> bool:
        if moment in rest and 3 in talk.peer.mails:
            del talk.peer.mails[3]
            await talk.send("* 3 EXPUNGE")
        return False

    async with ImapPeer(five()) as peer:
        peer.scripts["FETCH"] = vanish
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 5)
    found = journal.item(3)
    assert found is not None
    assert found.trouble is Trouble.GONE
    assert not journal.tries


@pytest.mark.proves("F-M05")
async def test_uids_at_the_end_of_the_range_with_gaps_are_all_taken_without_a_loop() -> None:
    uids = [1, 2, 70_000, 2**31, 2**32 - 2]
    journal = MemoryJournal()
    async with (
        ImapPeer({uid: mail(uid % 1000) for uid in uids}) as peer,
        listening(settings(peer.port, poll_seconds=0.05), journal),
    ):
        await journal.until(lambda: len(journal.rows) == 5)
        await peer.arrive(2**32 - 1, mail(9))
        await journal.until(lambda: len(journal.rows) == 6)
        searches = peer.count("UID SEARCH")
        proven = journal.count("proven")
        await journal.until(lambda: journal.count("proven") >= proven + 4)
        assert peer.count("UID SEARCH") - searches < 12
    assert {uid for _, uid in journal.rows} == {*uids, 2**32 - 1}


@pytest.mark.proves("F-M05", "R1.6")
async def test_new_message_with_a_uid_below_older_ones_is_taken_and_the_server_flagged() -> None:
    journal = MemoryJournal()
    async with (
        ImapPeer({uid: mail(uid) for uid in (100, 101, 102)}) as peer,
        listening(settings(peer.port), journal),
    ):
        await journal.until(lambda: len(journal.rows) == 3)
        await peer.until_said("IDLE")
        await asyncio.sleep(0)
        await peer.arrive(50, mail(50))
        await journal.until(lambda: len(journal.rows) == 4)
    assert any("below older" in text for text in journal.troubles())


@pytest.mark.proves("F-M05")
@pytest.mark.parametrize("exists", [0, 4_294_967_295])
async def test_wrong_count_of_messages_hides_none_and_ends(exists: int) -> None:
    journal = MemoryJournal()

    async def wrong(talk: Conversation, tag: str, rest: str) -> bool:
        await talk.send(f"* {exists} EXISTS", "* OK [UIDVALIDITY 7]", f"{tag} OK done")
        return True

    async with ImapPeer(five()) as peer:
        peer.scripts["EXAMINE"] = wrong
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 5)
    assert sorted(journal.raws()) == sorted(five().values())


@pytest.mark.proves("F-M05")
async def test_numbers_that_cannot_be_uids_are_flagged_and_ignored() -> None:
    journal = MemoryJournal()

    async def nonsense(talk: Conversation, tag: str, rest: str) -> bool:
        await talk.send("* SEARCH 0 1 2 99999999999 x -4 3 4 5 (MODSEQ 7)", f"{tag} OK done")
        return True

    async with ImapPeer(five()) as peer:
        peer.scripts["SEARCH"] = nonsense
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 5)
    assert any("cannot be UIDs" in text for text in journal.troubles())


async def recreated_while_connected(journal: MemoryJournal) -> tuple[set[bytes], set[bytes]]:
    """Run over a change of UIDVALIDITY: some mails missing, some new, in another order, UIDs reused."""
    nudge = asyncio.Event()
    async with (
        ImapPeer({uid: mail(uid) for uid in range(1, 11)}) as peer,
        listening(settings(peer.port), journal, nudge=nudge),
    ):
        await journal.until(lambda: len(journal.rows) == 10)
        after = [mail(number) for number in (12, 3, 11, 9, 1, 13)]
        peer.mails.clear()
        for uid, raw in enumerate(after, start=4):
            await peer.arrive(uid, raw, is_told=False)
        peer.uidvalidity = 8
        await peer.until_said("IDLE")
        nudge.set()
        proven = journal.count("proven")
        await journal.until(lambda: journal.count("proven") >= proven + 2)  # opened, and nothing left to fetch
    return {mail(number) for number in range(1, 14)}, set(journal.raws())


@pytest.mark.proves("F-M04", "R1.6")
async def test_recreated_folder_is_listed_again_under_its_new_uidvalidity() -> None:
    journal = MemoryJournal()
    offered, taken = await recreated_while_connected(journal)
    assert taken == offered
    assert {place.uidvalidity for place, _ in journal.rows} == {7, 8}


class UidOnly(MemoryJournal):
    """Planted fault 7: the UID is the key, without UIDVALIDITY."""

    async def known(self, place: Place) -> Known:
        await super().known(place)
        return Known(uids=frozenset(uid for _, uid in self.rows))


async def test_conservation_catches_a_journal_that_ignores_uidvalidity() -> None:
    offered, taken = await recreated_while_connected(UidOnly())
    assert taken < offered


# --- F-M02, F-M03: silence -----------------------------------------------------------------------------------------


async def never(talk: Conversation, tag: str, rest: str) -> bool:
    await talk.silence()
    return True


async def dribble(talk: Conversation, tag: str, rest: str) -> bool:
    for byte in b"* OK this line takes its time and never comes to an end " * 100:
        await talk.send_raw(bytes([byte]))
        await asyncio.sleep(0.05)
    raise Hangup


@pytest.mark.proves("F-M02", "F-M03")
@pytest.mark.parametrize("way", [never, dribble])
@pytest.mark.parametrize("verb", ["GREETING", "CAPABILITY", "LOGIN", "SELECT", "SEARCH", "FETCH", "STORE", "IDLE"])
async def test_server_that_does_not_answer_is_given_up_after_the_deadline(verb: str, way: Script) -> None:
    journal = MemoryJournal()
    async with ImapPeer(five()) as peer:
        peer.scripts[verb] = way
        config = settings(peer.port, after="seen", timeout_seconds=0.25)
        with pytest.raises(PeerUnavailable) as caught:
            async with asyncio.timeout(20):
                await email_imap.listen(config, journal)
    assert caught.value.code == "timeout"


@pytest.mark.proves("F-M03")
async def test_new_mail_is_seen_by_the_poll_when_idle_stays_silent() -> None:
    journal = MemoryJournal()
    async with (
        ImapPeer(five()) as peer,
        listening(settings(peer.port, poll_seconds=0.2), journal),
    ):
        await journal.until(lambda: len(journal.rows) == 5)
        await peer.until_said("IDLE")
        await peer.arrive(6, mail(6), is_told=False)
        await journal.until(lambda: len(journal.rows) == 6)


@pytest.mark.proves("F-M03")
async def test_done_that_is_never_answered_ends_the_connection() -> None:
    journal = MemoryJournal()

    async def deaf(talk: Conversation, tag: str, rest: str) -> bool:
        await talk.send("+ idling")
        await talk.silence()
        return True

    async with ImapPeer(five()) as peer:
        peer.scripts["IDLE"] = deaf
        with pytest.raises(PeerUnavailable) as caught:
            async with asyncio.timeout(20):
                await email_imap.listen(settings(peer.port, timeout_seconds=0.2, poll_seconds=0.2), journal)
    assert caught.value.code == "timeout"


@pytest.mark.proves("F-M03")
async def test_bye_in_idle_is_reported_as_unavailable_at_once() -> None:
    journal = MemoryJournal()

    async def bye(talk: Conversation, tag: str, rest: str) -> bool:
        await talk.send("+ idling", "* BYE server shutting down")
        raise Hangup

    async with ImapPeer(five()) as peer:
        peer.scripts["IDLE"] = bye
        with pytest.raises(PeerUnavailable, match="shutting down"):
            async with asyncio.timeout(20):
                await email_imap.listen(settings(peer.port), journal)


@pytest.mark.proves("F-M03")
@pytest.mark.parametrize("answer", ["NO not now", "BAD what"])
async def test_server_that_refuses_to_idle_is_polled(answer: str) -> None:
    journal = MemoryJournal()

    async def refuse(talk: Conversation, tag: str, rest: str) -> bool:
        await talk.send(f"{tag} {answer}")
        return True

    async with ImapPeer(five()) as peer:
        peer.scripts["IDLE"] = refuse
        async with listening(settings(peer.port, poll_seconds=0.1), journal):
            await peer.until_said("IDLE")
            await peer.arrive(6, mail(6), is_told=False)
            await journal.until(lambda: len(journal.rows) == 6)
        assert peer.count("IDLE") == 1


@pytest.mark.proves("F-M03")
async def test_mail_that_comes_between_search_and_idle_is_taken_soon() -> None:
    journal = MemoryJournal()
    late = {9: mail(9)}

    async def arrives_first(talk: Conversation, tag: str, rest: str) -> bool:
        for uid, raw in list(late.items()):
            del late[uid]
            await talk.peer.arrive(uid, raw, is_told=False)
            await talk.send(f"* {len(talk.peer.mails)} EXISTS")
        return False

    async with ImapPeer(five()) as peer:
        peer.scripts["IDLE"] = arrives_first
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 6)


@pytest.mark.proves("F-M03", "F-M08")
async def test_server_that_calls_for_nothing_again_and_again_is_not_searched_in_a_loop() -> None:
    journal = MemoryJournal()

    async def crying_wolf(talk: Conversation, tag: str, rest: str) -> bool:
        await talk.send("+ idling", f"* {len(talk.peer.mails)} EXISTS")
        await talk.line()
        await talk.send(f"{tag} OK done")
        return True

    async with ImapPeer(five()) as peer:
        peer.scripts["IDLE"] = crying_wolf
        async with listening(settings(peer.port), journal):
            await journal.until(lambda: len(journal.rows) == 5)
            await asyncio.sleep(1)  # what is measured here is a rate
        assert peer.count("IDLE") < 15


@pytest.mark.proves("R4.1")
async def test_nudge_polls_now_in_every_folder() -> None:
    journal = MemoryJournal()
    nudge = asyncio.Event()
    async with ImapPeer(five(), capabilities="IMAP4rev1") as peer:
        config = settings(peer.port, folders=("INBOX", "Sent"))
        async with listening(config, journal, nudge=nudge):
            await journal.until(lambda: len(journal.rows) == 10)
            await peer.arrive(6, mail(6))
            nudge.set()
            await journal.until(lambda: len(journal.rows) == 12)


# --- F-M09, F-M10: login and TLS -----------------------------------------------------------------------------------


@pytest.mark.proves("F-M09")
@pytest.mark.parametrize(
    ("answer", "kind", "code", "retry_after"),
    [
        ("NO [AUTHENTICATIONFAILED] Invalid credentials", ChannelMisconfigured, "login", None),
        ("NO [AUTHORIZATIONFAILED] not yours", ChannelMisconfigured, "login", None),
        ("NO [EXPIRED] password expired, try again later", ChannelMisconfigured, "login", None),
        ("NO [ALERT] Please log in via your web browser", ChannelMisconfigured, "login", None),
        ("NO LOGIN failed.", ChannelMisconfigured, "login", None),
        ("BAD no idea", ChannelMisconfigured, "login", None),
        ("NO [UNAVAILABLE] maintenance", PeerUnavailable, "throttled", None),
        ("NO [ALERT] Too many simultaneous connections. (Failure)", PeerUnavailable, "throttled", None),
        ("NO [OVERQUOTA] Account exceeded command or bandwidth limits", PeerUnavailable, "throttled", None),
        ("NO [SERVERBUG] Internal error occurred", PeerUnavailable, "throttled", None),
        ("BAD User is authenticated but not connected.", PeerUnavailable, "throttled", None),
        ("NO [INUSE] locked by another session", PeerUnavailable, "throttled", None),
        ("NO [LIMIT] Too many simultaneous connections", PeerUnavailable, "throttled", None),
        ("NO Maximum number of connections exceeded", PeerUnavailable, "throttled", None),
        ("NO temporary failure, try again in 90 seconds", PeerUnavailable, "throttled", timedelta(seconds=90)),
        (
            "BAD Request is throttled. Suggested Backoff Time: 297000 milliseconds",
            PeerUnavailable,
            "throttled",
            timedelta(seconds=297),
        ),
    ],
)
async def test_refused_login_says_whether_to_wait_or_to_mend(
    answer: str, kind: type[ChannelError], code: str, retry_after: timedelta | None
) -> None:
    async def refuse(talk: Conversation, tag: str, rest: str) -> bool:
        await talk.send(f"{tag} {answer}")
        return True

    async with ImapPeer(five()) as peer:
        peer.scripts["LOGIN"] = refuse
        with pytest.raises(kind) as caught:
            await email_imap.listen(settings(peer.port), MemoryJournal())
        assert peer.count("LOGIN") == 1
    assert (caught.value.code, caught.value.retry_after) == (code, retry_after)


@pytest.mark.proves("F-M09", "R1.3")
async def test_throttling_while_fetching_blames_no_message() -> None:
    journal = MemoryJournal()

    async def slow_down(talk: Conversation, tag: str, rest: str) -> bool:
        await talk.send(f"{tag} NO [THROTTLED] slow down, retry after: 5 min")
        return True

    async with ImapPeer(five()) as peer:
        peer.scripts["FETCH"] = slow_down
        with pytest.raises(PeerUnavailable) as caught:
            await email_imap.listen(settings(peer.port), journal)
        assert peer.count("FETCH") == 1
    assert caught.value.retry_after == timedelta(minutes=5)
    assert not journal.tries


@pytest.mark.proves("F-M09")
@pytest.mark.parametrize(
    ("greeting", "kind", "code"),
    [
        ("* BYE Too many connections", PeerUnavailable, "throttled"),
        ("* BYE", PeerUnavailable, "connection"),
        ("HTTP/1.1 400 Bad Request", PeerBroke, "protocol"),
        ("220 mail ESMTP", PeerBroke, "protocol"),
    ],
)
async def test_greeting_that_is_none_is_told_apart(greeting: str, kind: type[ChannelError], code: str) -> None:
    async def greet(talk: Conversation, tag: str, rest: str) -> bool:
        await talk.send(greeting)
        return True

    async with ImapPeer(five()) as peer:
        peer.scripts["GREETING"] = greet
        with pytest.raises(kind) as caught:
            await email_imap.check(settings(peer.port))
    assert caught.value.code == code


@pytest.mark.proves("F-M09")
async def test_nobody_listening_and_no_such_host_are_unavailable() -> None:
    async with ImapPeer() as peer:
        port = peer.port
    for host in ("127.0.0.1", "no-such-host.invalid"):
        with pytest.raises(PeerUnavailable) as caught:
            await email_imap.check(settings(port, host=host))
        assert caught.value.code == "connection"


@pytest.mark.proves("T-C09", "F-M09")
async def test_server_that_forbids_passwords_is_never_told_one() -> None:
    async with ImapPeer(capabilities="IMAP4rev1 LOGINDISABLED", password=CANARY) as peer:
        with pytest.raises(ChannelMisconfigured) as caught:
            await email_imap.check(settings(peer.port, password=CANARY))
        assert not peer.said(CANARY)
    assert caught.value.code == "login"


@pytest.mark.proves("T-C09")
async def test_password_beyond_ascii_goes_as_literal_when_plain_is_not_offered() -> None:
    heard: list[bytes] = []

    async def login(talk: Conversation, tag: str, rest: str) -> bool:
        heard.append(rest.encode("latin-1"))
        for _ in range(2):
            await talk.send("+ go on")
            heard.append((await talk.line()).encode("latin-1"))
        await talk.send(f"{tag} OK hello")
        return True

    async with ImapPeer(five(), capabilities="IMAP4rev1") as peer:
        peer.scripts["LOGIN"] = login
        await email_imap.check(settings(peer.port, password="pässwört", user='o"brien'))
    assert heard == [b"{7}", b'o"brien {10}', "pässwört".encode()]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def stripped(talk: Conversation, tag: str, rest: str) -> bool:
    await talk.send("* CAPABILITY IMAP4rev1 AUTH=PLAIN", f"{tag} OK done")
    return True


async def refused(talk: Conversation, tag: str, rest: str) -> bool:
    await talk.send(f"{tag} NO not today")
    return True


async def injected(talk: Conversation, tag: str, rest: str) -> bool:
    await talk.send_raw(f"{tag} OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n".encode())
    await talk.silence()
    return True


async def injected_half(talk: Conversation, tag: str, rest: str) -> bool:
    await talk.send_raw(f"{tag} OK begin\r\n* CAPAB".encode())
    await talk.silence()
    return True


async def preauth(talk: Conversation, tag: str, rest: str) -> bool:
    await talk.send("* PREAUTH welcome back")
    return True


@pytest.mark.proves("F-M10", "T-C09")
@pytest.mark.parametrize(
    ("verb", "script"),
    [
        ("CAPABILITY", stripped),
        ("STARTTLS", refused),
        ("STARTTLS", injected),
        ("STARTTLS", injected_half),
        ("GREETING", preauth),
    ],
)
async def test_tampered_starttls_is_refused_before_any_credential(
    verb: str, script: Script, authority: Authority
) -> None:
    context = authority.certificate().context()
    async with ImapPeer(five(), starttls=context, password=CANARY) as peer:
        peer.scripts[verb] = script
        config = settings(peer.port, security="starttls", ca_file=str(authority.ca_file), password=CANARY)
        with pytest.raises(ChannelMisconfigured) as caught:
            await email_imap.listen(config, MemoryJournal())
        assert not peer.said(CANARY)
        assert not peer.said("LOGIN")
        assert not peer.said("AUTHENTICATE")
    assert caught.value.code == "tls"


def expired(authority: Authority) -> ssl.SSLContext:
    past = timedelta(days=-20)
    return authority.certificate(valid_from=past, valid_for=timedelta(days=1)).context()


def self_signed(authority: Authority) -> ssl.SSLContext:
    return authority.certificate(is_self_signed=True).context()


def other_name(authority: Authority) -> ssl.SSLContext:
    return authority.certificate("mail.example.test").context()


@pytest.mark.proves("F-M10", "T-C09")
@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize("made", [expired, self_signed, other_name])
async def test_certificate_that_does_not_hold_is_refused(
    made: Callable[[Authority], ssl.SSLContext], security: str, authority: Authority
) -> None:
    context = made(authority)
    contexts = {"context": context} if security == "tls" else {"starttls": context}
    async with ImapPeer(five(), password=CANARY, **contexts) as peer:  # type: ignore[arg-type]  # one of two
        config = settings(peer.port, security=security, ca_file=str(authority.ca_file), password=CANARY)
        with pytest.raises(ChannelMisconfigured) as caught:
            await email_imap.listen(config, MemoryJournal())
        assert not peer.said(CANARY)
    assert caught.value.code == "tls"


@pytest.mark.proves("F-M10")
async def test_plain_server_on_the_tls_port_is_a_tls_fault(authority: Authority) -> None:
    async with ImapPeer(five()) as peer:
        config = settings(peer.port, security="tls", ca_file=str(authority.ca_file))
        with pytest.raises(ChannelMisconfigured) as caught:
            await email_imap.check(config)
    assert caught.value.code == "tls"


@pytest.mark.proves("F-M10")
async def test_missing_ca_file_is_a_tls_fault(tmp_path: Path) -> None:
    with pytest.raises(ChannelMisconfigured) as caught:
        await email_imap.check(settings(1, security="tls", ca_file=str(tmp_path / "none.pem")))
    assert caught.value.code == "tls"


@pytest.mark.proves("R4.1", "T-C09")
@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_encrypted_session_works_and_says_nothing_in_clear(security: str, authority: Authority) -> None:
    context = authority.certificate().context()
    contexts = {"context": context} if security == "tls" else {"starttls": context}
    journal = MemoryJournal()
    async with (
        ImapPeer(five(), password=CANARY, **contexts) as peer,  # type: ignore[arg-type]  # one of two
        Cutter(peer.port) as wiretap,
    ):
        config = settings(wiretap.port, security=security, ca_file=str(authority.ca_file), password=CANARY)
        await run_until(config, journal, lambda: len(journal.rows) == 5)
        assert b"Subject" not in wiretap.seen[0]
        before_tls = 1 if security == "starttls" else 0
        assert peer.count("CAPABILITY") == 2 + before_tls  # nothing learnt in clear is used


# --- T-O01: secrets ------------------------------------------------------------------------------------------------


@pytest.mark.proves("T-O01")
@pytest.mark.parametrize("verb", ["LOGIN", "CAPABILITY", "FETCH", "SEARCH", "EXAMINE", "BYE"])
async def test_password_that_the_server_echoes_is_in_no_log_error_or_excerpt(
    verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("aioimaplib.aioimaplib").setLevel(logging.DEBUG)
    password = CANARY + '"\\'

    async def echo(talk: Conversation, tag: str, rest: str) -> bool:
        words = rest if verb == "LOGIN" else f'"{password}" {CANARY}"\\ '
        if verb == "BYE" and "RFC822" in rest:
            await talk.send(f"* BYE {words}")
            raise Hangup
        if verb == "CAPABILITY" and not talk.peer.said("LOGIN"):
            return False
        await talk.send(f"* NO {words}", f"{tag} NO {words}")
        return True

    journal = MemoryJournal()
    async with ImapPeer(five(), capabilities="IMAP4rev1 IDLE") as peer:
        peer.password = password.replace("\\", "\\\\").replace('"', '\\"')
        peer.scripts["FETCH" if verb == "BYE" else verb] = echo
        try:
            async with asyncio.timeout(20):
                await run_until(settings(peer.port, password=password), journal, lambda: bool(journal.excerpts))
        except ChannelError as error:
            seen = [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
        else:
            seen = []
        assert peer.said(CANARY)
    seen += [record.getMessage() for record in caplog.records]
    seen += [text for texts in journal.excerpts.values() for text in texts] + journal.troubles()
    assert seen
    assert not [text for text in seen if CANARY in text]


@pytest.mark.proves("T-O01")
async def test_password_torn_by_the_cut_of_an_excerpt_is_taken_out_too() -> None:
    journal = MemoryJournal()

    async def echo(talk: Conversation, tag: str, rest: str) -> bool:
        for length in range(270, 300):
            await talk.send("* NO " + "x" * length + CANARY)
        await talk.send(f"{tag} NO no")
        return True

    async with ImapPeer(five(), password=CANARY) as peer:
        peer.scripts["FETCH"] = echo
        await run_until(settings(peer.port, password=CANARY), journal, lambda: bool(journal.excerpts))
    excerpts = [text for texts in journal.excerpts.values() for text in texts]
    assert excerpts
    assert not [text for text in excerpts if CANARY[:3] in text]


# --- F-M11, I6: marks ----------------------------------------------------------------------------------------------


@pytest.mark.proves("R1.1", "F-K05")
@pytest.mark.parametrize(
    ("after", "capabilities", "left", "moved"),
    [
        ("leave", "IMAP4rev1 IDLE", 5, 0),
        ("seen", "IMAP4rev1 IDLE", 5, 0),
        ("move", "IMAP4rev1 IDLE MOVE UIDPLUS", 0, 5),
        ("move", "IMAP4rev1 IDLE UIDPLUS", 0, 5),
        ("move", "IMAP4rev1 IDLE", 5, 0),
        ("delete", "IMAP4rev1 IDLE UIDPLUS", 0, 0),
        ("delete", "IMAP4rev1 IDLE", 5, 0),
    ],
)
async def test_server_is_told_after_the_journal_has_it(after: str, capabilities: str, left: int, moved: int) -> None:
    journal = MemoryJournal()
    async with ImapPeer(five(), capabilities=capabilities) as peer:
        peer.is_taken = lambda uid: journal.item(uid) is not None
        config = settings(peer.port, after=after, move_to="Done")
        is_marked = bool(moved) or after in ("seen", "delete")
        async with listening(config, journal):
            await peer.until_said("IDLE")
        assert (len(peer.mails), len(peer.moved)) == (left, moved)
        assert len(journal.marks) == (5 if is_marked else 0)
        assert peer.untaken_marks == []
        assert bool(peer.marks) is is_marked
        assert not peer.said("BODY[]")
        seen = [r"\Seen" in found.flags for found in peer.mails.values()]
        assert all(seen) if after == "seen" else not any(seen)
        assert peer.said("EXAMINE") is (after == "leave")


async def test_oracle_catches_a_mark_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault 1."""
    honest = imap_folder.Folder._hand_over

    async def marks_first(folder: imap_folder.Folder, offered: Sequence[Offered]) -> None:
        await folder._mark([item.uid for item in offered])
        await honest(folder, offered)

    monkeypatch.setattr(imap_folder.Folder, "_hand_over", marks_first)
    journal = MemoryJournal()
    async with ImapPeer(five()) as peer:
        peer.is_taken = lambda uid: journal.item(uid) is not None
        await run_until(settings(peer.port, after="seen"), journal, lambda: len(journal.rows) == 5)
        assert len(peer.untaken_marks) == 5


@pytest.mark.proves("R1.1")
async def test_nothing_is_marked_when_the_journal_refuses() -> None:
    journal = MemoryJournal()
    journal.failing = LeaseLost("another node owns it")
    async with ImapPeer(five()) as peer:
        with pytest.raises(LeaseLost):
            await email_imap.listen(settings(peer.port, after="delete"), journal)
        assert peer.marks == []
        assert len(peer.mails) == 5


async def full(talk: Conversation, tag: str, rest: str) -> bool:
    await talk.send(f"{tag} NO [OVERQUOTA] quota is full")
    return True


async def missing(talk: Conversation, tag: str, rest: str) -> bool:
    await talk.send(f"{tag} NO [NONEXISTENT] no such mailbox")
    return True


async def read_only(talk: Conversation, tag: str, rest: str) -> bool:
    await talk.send(
        f"* {len(talk.peer.mails)} EXISTS",
        f"* OK [UIDVALIDITY {talk.peer.uidvalidity}]",
        f"{tag} OK [READ-ONLY] look, do not touch",
    )
    return True


@pytest.mark.proves("F-M11")
@pytest.mark.parametrize(
    ("verb", "script", "after", "capabilities"),
    [
        ("MOVE", full, "move", "IMAP4rev1 IDLE MOVE"),
        ("COPY", full, "move", "IMAP4rev1 IDLE UIDPLUS"),
        ("EXPUNGE", full, "move", "IMAP4rev1 IDLE UIDPLUS"),
        ("STORE", full, "seen", "IMAP4rev1 IDLE"),
        ("STORE", full, "delete", "IMAP4rev1 IDLE UIDPLUS"),
        ("SELECT", read_only, "delete", "IMAP4rev1 IDLE UIDPLUS"),
    ],
)
async def test_marks_that_fail_are_reported_and_taking_goes_on(
    verb: str, script: Script, after: str, capabilities: str
) -> None:
    journal = MemoryJournal()
    async with ImapPeer(five(), capabilities=capabilities) as peer:
        peer.scripts[verb] = script
        config = settings(peer.port, after=after, move_to="Done", poll_seconds=0.1)
        async with listening(config, journal):
            await journal.until(lambda: len(journal.rows) == 5 and bool(journal.troubles()))
            await peer.arrive(6, mail(6))
            proven = journal.count("proven")
            await journal.until(lambda: len(journal.rows) == 6 and journal.count("proven") > proven + 4)
        assert len(peer.mails) == 6
        assert len(peer.moved) <= 6  # a copy is made once, however often the rest fails
    assert all(text.startswith("folder: ") for text in journal.troubles())
    assert len(journal.raws()) == 6


@pytest.mark.proves("F-K05", "F-K06")
async def test_marks_left_over_from_a_crash_are_made_up_for() -> None:
    journal = MemoryJournal()
    place = Place(folder="INBOX", uidvalidity=7)
    for uid in (1, 2, 99):  # 99 was moved before the crash
        journal.rows[place, uid] = Offered(place=place, uid=uid, raw=mail(uid), size_bytes=1)
    async with ImapPeer(five()) as peer:
        peer.is_taken = lambda uid: journal.item(uid) is not None
        config = settings(peer.port, after="move", move_to="Done")
        await run_until(config, journal, lambda: len(journal.marks) == 6)
        assert sorted(peer.moved) == sorted(five().values())
        assert peer.untaken_marks == []


@pytest.mark.proves("F-M08", "R1.1")
async def test_oversized_message_is_neither_moved_nor_deleted() -> None:
    journal = MemoryJournal()
    async with ImapPeer({1: mail(1), 2: mail(2, size_bytes=5000)}) as peer:
        config = settings(peer.port, after="delete", max_raw_bytes=2000)
        async with listening(config, journal):
            await peer.until_said("IDLE")
        assert list(peer.mails) == [2]


@pytest.mark.proves("F-M11")
async def test_missing_folder_is_misconfigured_when_it_is_the_only_one() -> None:
    async with ImapPeer(five()) as peer:
        peer.scripts["EXAMINE"] = missing
        with pytest.raises(ChannelMisconfigured) as caught:
            await email_imap.listen(settings(peer.port), MemoryJournal())
    assert caught.value.code == "folder"


@pytest.mark.proves("F-M11", "T-Q02")
async def test_missing_folder_does_not_stop_the_others() -> None:
    journal = MemoryJournal()

    async def no_old(talk: Conversation, tag: str, rest: str) -> bool:
        return rest == '"Old"' and await missing(talk, tag, rest)

    async with ImapPeer(five()) as peer:
        peer.scripts["EXAMINE"] = no_old
        config = settings(peer.port, folders=("Old", "INBOX"))
        await run_until(config, journal, lambda: len(journal.rows) == 5 and bool(journal.troubles()))
    assert "'Old'" in journal.troubles()[0]


# --- F-M12 and what is fetched -------------------------------------------------------------------------------------


async def backlog_of_sixty() -> MemoryJournal:
    journal = MemoryJournal()
    mails = {uid: mail(uid) for uid in range(1, 61)}
    async with ImapPeer(mails) as peer, listening(settings(peer.port), journal):
        await peer.until_said("IDLE")
    return journal


async def test_conservation_catches_fetching_only_the_newest_fifty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault 8."""
    assert len((await backlog_of_sixty()).rows) == 60
    honest = imap_folder.Folder._list_all

    async def newest(folder: imap_folder.Folder) -> set[int]:
        return set(sorted(await honest(folder))[-50:])

    monkeypatch.setattr(imap_folder.Folder, "_list_all", newest)
    assert len((await backlog_of_sixty()).rows) == 50


@pytest.mark.proves("F-M06", "F-M12")
@pytest.mark.parametrize("order", ["oldest", "newest"])
async def test_large_folder_is_listed_in_ranges_and_taken_in_the_chosen_order(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imap_folder, "LIST_MESSAGES", 20)
    journal = MemoryJournal()
    uids = [7 * number for number in range(1, 131)]
    async with ImapPeer({uid: mail(uid) for uid in uids}) as peer:
        config = settings(peer.port, order=order)
        await run_until(config, journal, lambda: len(journal.rows) == 130)
        assert peer.count("UID SEARCH UID") >= 6
    taken = [uid for _, uid in journal.rows]
    assert taken == (uids if order == "oldest" else uids[::-1])


@pytest.mark.proves("F-M13")
@pytest.mark.parametrize("date", ["31-Feb-2026 99:99:99 +9999", "01-Jan-1970 00:00:00 +0000", "", "99"])
async def test_dates_of_the_server_decide_nothing(date: str) -> None:
    journal = MemoryJournal()
    async with ImapPeer(five()) as peer:
        peer.mails[2].date = date
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 5)
    assert sorted(journal.raws()) == sorted(five().values())


@pytest.mark.proves("R1.1")
async def test_messages_already_known_are_not_fetched_again_after_a_restart() -> None:
    journal = MemoryJournal()
    async with ImapPeer(five()) as peer:
        await run_until(settings(peer.port), journal, lambda: len(journal.rows) == 5)
        bodies = peer.count("BODY.PEEK")
        async with listening(settings(peer.port), journal):
            await peer.arrive(6, mail(6))
            await journal.until(lambda: len(journal.rows) == 6)
        assert peer.count("BODY.PEEK") == bodies + 1


# --- F-M16: the settings change ------------------------------------------------------------------------------------


class Interrupting(MemoryJournal):
    """Cancels the listener at its n-th call, before or after the call has taken effect."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.remaining = number
        self.task: asyncio.Task[None] | None = None

    def _called(self, name: str, place: Place | None = None, uids: Sequence[int] = (), text: str = "") -> None:
        super()._called(name, place, uids, text)
        self.remaining -= 1
        if self.remaining == 0 and self.task is not None:
            self.task.cancel()


@pytest.mark.proves("F-M16", "F-K05", "F-K06", "R1.1")
@pytest.mark.parametrize("number", range(1, 10))
async def test_listener_stopped_at_any_call_goes_on_where_it_was(number: int) -> None:
    journal = Interrupting(number)
    mails = {uid: mail(uid) for uid in range(1, 121)}
    async with ImapPeer(dict(mails)) as peer:
        peer.is_taken = lambda uid: journal.item(uid) is not None
        config = settings(peer.port, after="move", move_to="Done")
        journal.task = asyncio.create_task(email_imap.listen(config, journal))
        with pytest.raises(asyncio.CancelledError):
            await journal.task
        await run_until(config, journal, lambda: len(journal.rows) == 120 and len(journal.marks) == 120)
        assert sorted(journal.raws()) == sorted(mails.values())
        assert sorted(peer.moved) == sorted(mails.values())
        assert peer.untaken_marks == []


# --- F-M01: cuts ---------------------------------------------------------------------------------------------------

CUT_MAILS = {1: mail(1), 2: mail(2, size_bytes=3000), 5: mail(5), 9: mail(9, size_bytes=40)}


async def whole_run(plan: Plan | None, seed: int = 0) -> tuple[MemoryJournal, ImapPeer, bytes, list[ChannelError]]:
    """Take and move four mails, then one that comes while idling; the first connection suffers the plan."""
    journal = MemoryJournal()
    async with (
        ImapPeer(dict(CUT_MAILS)) as peer,
        Cutter(peer.port, lambda number: plan if plan and number == 0 else Plan()) as cutter,
    ):
        peer.is_taken = lambda uid: journal.item(uid) is not None
        config = settings(cutter.port, after="move", move_to="Done", timeout_seconds=1, poll_seconds=2)
        async with listening(config, journal, restarts=5) as faults:
            await peer.until_said("IDLE")
            await peer.arrive(12, mail(12))
            await journal.until(lambda: len(journal.marks) == 5)
        return journal, peer, bytes(cutter.seen[0]), faults


def cut_points(stream: bytes, count: int, seed: int) -> list[int]:
    """Choose bytes of each class of the recorded stream: every command's answer, literals, and chance."""
    points = {0, 1, len(stream) - 1}
    literal = stream.index(b"BODY[] {")
    start = stream.index(b"\r\n", literal) + 2
    size = int(stream[literal + 8 : start - 3])
    for share in (0.01, 0.5, 0.99, 1.0):
        points.add(start + int(size * share))
    for word in (b"* OK ready", b"CAPABILITY", b"OK hello", b"UIDVALIDITY", b"SEARCH", b"RFC822.SIZE", b"BODY[] {"):
        points |= {stream.index(word), stream.index(word) + len(word) - 1}
    for word in (b"EXPUNGE", b"+ idling", b"5 EXISTS", b" OK done"):
        position = stream.find(word)
        while position >= 0:
            points |= {position, position + len(word)}
            position = stream.find(word, position + 1)
    chance = random.Random(seed)
    chosen = sorted(points)[:count]
    return chosen + [chance.randrange(len(stream)) for _ in range(count - len(chosen))]


@pytest.mark.proves("F-M01", "F-K02", "F-K05", "F-K06", "R1.1")
async def test_cut_at_any_byte_loses_nothing_and_takes_nothing_twice() -> None:
    _, _, stream, _ = await whole_run(None)
    points = cut_points(stream, CUT_SCRIPTS, seed=4711)

    async def trial(seed: int) -> str:
        plan = seeded(seed, points[seed])
        journal, peer, _, faults = await whole_run(plan, seed)
        expected = sorted([*CUT_MAILS.values(), mail(12)])
        problems = []
        if sorted(journal.raws()) != expected:
            problems.append("lost or changed")
        if len(journal.rows) != 5:
            problems.append("not one row each")
        if peer.untaken_marks:
            problems.append("marked before taken")
        if sorted(peer.moved) != expected or peer.mails:
            problems.append("not moved once")
        return f"seed {seed} {plan}: {problems} {faults}" if problems else ""

    failures: list[str] = []
    for start in range(0, len(points), 10):
        some = range(start, min(start + 10, len(points)))
        failures += filter(None, await asyncio.gather(*map(trial, some)))
    assert not failures


@pytest.mark.proves("F-M01")
@pytest.mark.parametrize("end", list(End))
async def test_loss_is_noticed_in_idle_and_in_a_command(end: End) -> None:
    _, _, stream, _ = await whole_run(None)
    for word in (b"+ idling", b"BODY[] {"):
        plan = Plan(cut_at=stream.index(word) + len(word), end=end)
        journal, _, _, faults = await whole_run(plan)
        assert len(journal.rows) == 5
        assert all(isinstance(fault, PeerUnavailable) for fault in faults)


# --- latency -------------------------------------------------------------------------------------------------------


@pytest.mark.proves("R4.1")
async def test_push_reaches_the_journal_within_a_few_milliseconds() -> None:
    journal = MemoryJournal()
    costs = []
    clock = asyncio.get_running_loop().time
    async with ImapPeer(five()) as peer, listening(settings(peer.port), journal):
        await journal.until(lambda: len(journal.rows) == 5)
        for uid in range(6, 26):
            await peer.until_idle()
            started = clock()
            await peer.arrive(uid, mail(uid))
            await journal.until(lambda uid=uid: journal.item(uid) is not None)  # type: ignore[misc]
            costs.append(clock() - started)
    assert sorted(costs)[len(costs) // 2] < 0.02
