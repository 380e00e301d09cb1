"""The house is killed at every named step of taking and of handing over, on both stores."""

from __future__ import annotations

import pytest

from tests.crash import campaign
from tests.crash.conftest import OpenRig
from tests.crash.oracles import report

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.proves(
    "F-K01", "F-K04", "F-K05", "F-K07", "F-K08", "F-K09", "F-K10", "F-K11", "F-K12", "F-K13", "F-K14", "F-K16", "F-K22",
    "R1.2",
)  # fmt: skip
async def test_a_kill_at_any_named_point_loses_and_repeats_nothing(make_rig: OpenRig, store_url: str) -> None:
    async with make_rig(store_url, options=campaign.options_for(store_url)) as rig:
        tally = await campaign.points(rig, times=1)
    assert tally.trials == len(campaign.AT_START) + len(campaign.WITH_MAIL) + len(campaign.WITH_ANSWER)
    assert not tally.wrong, report(tally.wrong)
