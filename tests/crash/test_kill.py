"""kill -9 of the whole process group at random moments, while mails come in and answers go out."""

from __future__ import annotations

import pytest

from tests.crash import campaign
from tests.crash.conftest import OpenRig
from tests.crash.oracles import report

pytestmark = pytest.mark.asyncio(loop_scope="session")
KILLS = 8


@pytest.mark.proves("F-K08", "F-K10", "F-K11", "F-K21", "F-K22", "R1.2", "R5.5")
async def test_kills_at_random_moments_lose_and_repeat_nothing(make_rig: OpenRig, store_url: str) -> None:
    async with make_rig(store_url, seed=4, options=campaign.options_for(store_url)) as rig:
        tally = await campaign.kills(rig, count=KILLS)
        assert rig.truth.rows >= KILLS
        assert rig.truth.accepts()
    assert tally.kills == KILLS
    assert not tally.wrong, report(tally.wrong)
