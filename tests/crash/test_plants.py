"""Positive controls: each planted fault is caught by the oracle that is there for it, and without it nothing is found.

One trial is a few mails or answers, a kill where it hurts, and a look. The numbers are those of FAULTS section 9;
20 (last writer wins) is caught over all orders of evidence in ``tests/core/test_delivery.py``, 4 and 5 in
``test_power_loss.py`` and ``test_blobs.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.crash.conftest import OpenRig
from tests.crash.mailbox import DovecotMailbox
from tests.crash.oracles import report
from tests.crash.plants import POISON
from tests.crash.rig import Rig, Stuck

pytestmark = pytest.mark.asyncio(loop_scope="session")
Trial = Callable[..., Awaitable[list[str]]]
SOON = 6.0  # enough for a house that would come to rest at all


async def _killed_before_the_row(rig: Rig, *plant: str) -> list[str]:
    """What the server was told is looked at before anybody can mend it."""
    desk = await rig.start("--after", "seen", *plant, failpoint="I4:1:kill")
    await rig.offer(rig.writer.write())
    await rig.death(desk)
    return await rig.sample()


async def _stolen_message_id(rig: Rig, *plant: str) -> list[str]:
    desk = await rig.start(*plant)
    await rig.offer(rig.writer.write(message_id="<one@customer.test>"))
    await rig.offer(rig.writer.write(message_id="<one@customer.test>"))
    return await _rest_and_check(rig, await rig.rest(desk))


async def _new_uidvalidity(rig: Rig, *plant: str) -> list[str]:
    desk = await rig.start(*plant)
    for _ in range(2):
        await rig.offer(rig.writer.write())
    await rig.rest(desk)
    await rig.kill(desk)
    assert isinstance(rig.mailbox, DovecotMailbox)
    rig.mailbox.recreate()
    for _ in range(2):
        await rig.offer(rig.writer.write())
    return await _run(rig, *plant)


async def _sixty_mails(rig: Rig, *plant: str) -> list[str]:
    for _ in range(60):
        await rig.offer(rig.writer.write())
    return await _run(rig, *plant)


async def _three_deaths(rig: Rig, *plant: str) -> list[str]:
    """A mail that kills the reader each time is put aside after the third, and the fourth start lives."""
    await rig.offer(rig.writer.write())
    for _ in range(3):
        await rig.death(await rig.start(*plant, failpoint="I7:1:kill"))
    desk = await rig.start(*plant, failpoint="I7:1:kill")
    return await _rest_and_check(rig, await rig.rest(desk))


async def _one_poison(rig: Rig, *plant: str) -> list[str]:
    """The other mail finds its place while the poison still has attempts to fail."""
    await rig.offer(rig.writer.write(word=POISON))
    await rig.offer(rig.writer.write())
    desk = await rig.start("--plant", "poison", *plant)
    try:
        async with asyncio.timeout(SOON):
            await desk.ask("ended", rows=1)
    except TimeoutError:
        return ["o11: one mail holds up the other"]
    return []


async def _killed_inside_commit_2(rig: Rig, *plant: str) -> list[str]:
    desk = await rig.start(*plant, failpoint="split:1:kill,I9:1:kill")
    await rig.offer(rig.writer.write(has_id=False))
    await rig.death(desk)
    return await _run(rig)


async def _two_settlers(rig: Rig, *plant: str) -> list[str]:
    await rig.offer(rig.writer.write(has_id=False))
    return await _run(rig, "--plant", "settle-twice", *plant)


async def _killed_after_the_reply(rig: Rig, *plant: str) -> list[str]:
    return await _killed_while_sending(rig, "O6:1:kill", *plant)


async def _killed_before_the_dot(rig: Rig, *plant: str) -> list[str]:
    return await _killed_while_sending(rig, "O4:1:kill", *plant)


async def _killed_while_sending(rig: Rig, failpoint: str, *plant: str) -> list[str]:
    desk = await rig.start(*plant, failpoint=failpoint)
    await _answer(rig, desk)
    await rig.death(desk)
    return await _run(rig, *plant)


async def _sent(rig: Rig, *plant: str) -> list[str]:
    desk = await rig.start(*plant)
    await _answer(rig, desk)
    return await _rest_and_check(rig, await rig.rest(desk))


async def _sent_to_one_of_two(rig: Rig, *plant: str) -> list[str]:
    desk = await rig.start("--plant", "retry-soon", *plant)
    message_id = await _answer(rig, desk, to=("jane@customer.test", "joe@later.test"))
    await desk.ask("tried", message_id=message_id, times=3)
    return await rig.sample()


async def _wrong_login(rig: Rig, *plant: str) -> list[str]:
    desk = await rig.start("--smtp-user", "desk", *plant)
    message_id = await _answer(rig, desk)
    await desk.ask("tried", message_id=message_id, times=1)
    return await rig.sample()


async def _erased_ticket(rig: Rig, *plant: str) -> list[str]:
    mail = rig.writer.write()
    await rig.offer(mail)
    desk = await rig.start(*plant)
    await rig.rest(desk)
    await desk.ask("delete", ticket_id=1)
    rig.truth.erased.add(mail.digest)
    await rig.kill(desk)
    return await _run(rig, *plant)


async def _answer(rig: Rig, desk: object, *, to: tuple[str, ...] = ()) -> int | None:
    await rig.offer(rig.writer.write())
    await rig.rest(desk)  # type: ignore[arg-type]
    asked = rig.ask_for(1, to=to)
    await rig.send(desk, asked)  # type: ignore[arg-type]
    return asked.message_id


async def _run(rig: Rig, *options: str) -> list[str]:
    """Start, come to rest if that is possible at all, and look."""
    desk = await rig.start(*options)
    await rig.send_open(desk)
    try:
        counts = await rig.rest(desk, seconds=SOON if options else 60)
    except Stuck as stuck:
        return [str(stuck).partition(";")[0], *await rig.check()]
    return await _rest_and_check(rig, counts)


async def _rest_and_check(rig: Rig, counts: dict[str, int] | None) -> list[str]:
    return [*(["o11: the house dies again and again"] if counts is None else []), *await rig.check()]


CONTROLS: dict[str, tuple[Trial, str]] = {
    "1-mark-first": (_killed_before_the_row, "o2"),
    "6-dedupe-by-message-id": (_stolen_message_id, "o1"),
    "7-forget-uidvalidity": (_new_uidvalidity, "o1"),
    "8-newest-only": (_sixty_mails, "o1"),
    "11-count-later": (_three_deaths, "o11"),
    "12-one-ends-the-cycle": (_one_poison, "o11"),
    "13-split-commit": (_killed_inside_commit_2, "o3"),
    "14-no-state-guard": (_two_settlers, "o3"),
    "15-retry-in-doubt": (_killed_after_the_reply, "o4"),
    "16-sent-too-early": (_killed_before_the_dot, "o5"),
    "18-new-message-id": (_sent, "o4"),
    "19-repeat-accepted": (_sent_to_one_of_two, "o4"),
    "27-blame-the-message": (_wrong_login, "o5"),
    "31-forget-with-ticket": (_erased_ticket, "o1"),
}
NEEDS_DOVECOT = {"1-mark-first", "7-forget-uidvalidity"}


@pytest.mark.parametrize("plant", CONTROLS)
@pytest.mark.proves(
    "F-K05", "F-K07", "F-K08", "F-K12", "F-K14", "F-M04", "F-Z02", "F-S02", "F-S06", "R1.3", "R1.4", "R1.6"
)
async def test_planted_fault_is_caught_and_the_house_without_it_is_clean(make_rig: OpenRig, plant: str) -> None:
    trial, oracle = CONTROLS[plant]
    async with make_rig() as rig:
        if plant in NEEDS_DOVECOT and not isinstance(rig.mailbox, DovecotMailbox):
            pytest.skip("only Dovecot tells what was marked, and makes its mailboxes anew")
        clean = await trial(rig)
    assert not clean, report(clean)
    async with make_rig() as rig:
        found = await trial(rig, "--plant", plant)
    assert any(sentence.startswith(oracle) for sentence in found), report(found) or "nothing was found"
