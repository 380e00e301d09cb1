"""The house is killed at every step of handing an answer to a real Postfix, whose reports come into Dovecot."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import pytest

from tests.crash import campaign
from tests.crash.conftest import OpenRig
from tests.crash.oracles import report
from tests.crash.rig import Rig
from tests.servers import dovecot, postfix

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.dovecot, pytest.mark.postfix]


@pytest.fixture(autouse=True)
def _servers() -> None:
    missing = postfix.what_is_missing() or ("Dovecot is not installed" if dovecot.is_missing() else "")
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.mark.proves("F-K10", "F-K11", "F-K12", "F-K13", "F-K14", "F-K16", "F-S07", "F-S08", "R1.2", "R5.5")
async def test_kill_at_any_point_of_handing_over_to_postfix_loses_and_repeats_nothing(
    make_rig: OpenRig, store_url: str
) -> None:
    async with make_rig(store_url, options=campaign.options_for(store_url), is_relayed=True) as rig:
        tally = await campaign.answers_through_postfix(rig)
        assert rig.postoffice is not None
        told = {action for item in rig.postoffice.reports(rig.truth).values() for _who, action in item.actions}
    assert tally.kills == len(campaign.BEHIND_POSTFIX)
    assert told == {"failed", "relayed"}
    assert not tally.wrong, report(tally.wrong)


async def _killed_after_the_reply(rig: Rig, plant: str) -> None:
    desk = await rig.start("--plant", plant, failpoint="O6:1:kill")
    await rig.offer(rig.writer.write())
    await rig.rest(desk)
    await rig.send(desk, rig.ask_for(1))
    await rig.death(desk)
    await rig.settle(await rig.start("--plant", plant))


async def _returned_after_one_that_arrived(rig: Rig, plant: str) -> None:
    desk = await rig.start("--plant", plant)
    await rig.offer(rig.writer.write())
    for to in ("jane@customer.test", "gone@reject.test"):
        await rig.rest(desk)
        await rig.send(desk, rig.ask_for(1, to=[to]))
    await rig.settle(desk)


CONTROLS: dict[str, tuple[Callable[[Rig, str], Awaitable[None]], str]] = {
    "15-retry-in-doubt": (_killed_after_the_reply, "o4"),
    "21-match-by-subject": (_returned_after_one_that_arrived, "o5"),
}


@pytest.mark.parametrize("plant", CONTROLS)
@pytest.mark.proves("F-K14", "F-S07")
async def test_planted_fault_is_caught_behind_postfix(make_rig: OpenRig, plant: str) -> None:
    """The house without a plant is the one above."""
    trial, oracle = CONTROLS[plant]
    async with make_rig(is_relayed=True) as rig:
        await trial(rig, plant)
        found = await rig.check()
    assert any(sentence.startswith(oracle) for sentence in found), report(found) or "nothing was found"
    assert not [sentence for sentence in found if sentence.startswith("o0")], report(found)
