"""Two processes with one store: who sleeps past a lease can write nothing any more, and sends nothing."""

from __future__ import annotations

import signal

import pytest

from tests.crash.conftest import OpenRig
from tests.crash.desk import IN_USE
from tests.crash.nursery import Born
from tests.crash.oracles import report
from tests.crash.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="session")
LEASE = ("--lease", "2")


async def _node(rig: Rig, name: str, *more: str, failpoint: str = "") -> Born:
    return await rig.start("--node", name, *LEASE, *more, control=name, failpoint=failpoint)


async def _stopped(rig: Rig, desk: Born) -> list[str]:
    """End a desk in order, so that whatever it still wanted to do is done, and look."""
    await desk.ask("stop")
    await rig.death(desk)
    return [] if desk.ended.result() == 0 else [f"the desk ended with {desk.ended.result()}; {rig.tail()}"]


@pytest.mark.proves("F-K01", "F-N04")
async def test_channel_of_a_dead_node_is_taken_over(make_rig: OpenRig, postgres_url: str) -> None:
    async with make_rig(postgres_url) as rig:
        first = await _node(rig, "a")
        await rig.offer(rig.writer.write())
        await rig.rest(first)
        second = await _node(rig, "b")
        assert await second.is_up()
        await rig.kill(first)
        await rig.offer(rig.writer.write(is_large=True))
        assert await rig.rest(second) is not None
        wrong = await rig.check()
    assert not wrong, report(wrong)


@pytest.mark.parametrize("point", ["I3", "I4", "I5", "I7", "I7.inside", "I8"])
@pytest.mark.proves("F-K23", "F-N04", "F-T04")
async def test_reader_that_slept_past_its_lease_takes_nothing(make_rig: OpenRig, postgres_url: str, point: str) -> None:
    async with make_rig(postgres_url) as rig:
        sleeper = await _node(rig, "a", "--plant", "pause-reading-inside", failpoint=f"{point}:1:stop")
        await sleeper.is_up()
        await rig.offer(rig.writer.write(has_id=False))
        heir = await _node(rig, "b")
        await rig.rest(heir)
        sleeper.kill(signal.SIGCONT)
        wrong = await _stopped(rig, sleeper)
        await rig.offer(rig.writer.write())
        await rig.rest(heir)
        wrong += await rig.check()
    assert not wrong, report(wrong)


async def _sleep_before_the_line(rig: Rig, *plant: str, point: str = "O3") -> list[str]:
    first = await _node(rig, "a")
    await rig.offer(rig.writer.write())
    await rig.rest(first)
    await rig.kill(first)
    sleeper = await _node(rig, "a", *plant, failpoint=f"{point}:1:stop")
    asked = rig.ask_for(1)
    await rig.send(sleeper, asked)
    heir = await _node(rig, "b")
    await rig.rest(heir)
    sleeper.kill(signal.SIGCONT)
    wrong = await _stopped(rig, sleeper)
    await rig.rest(heir)
    await rig.kill(heir)
    return wrong + await rig.check()


@pytest.mark.parametrize("point", ["O3", "O4.inside"])
@pytest.mark.proves("F-K23", "F-N05", "F-N06")
async def test_sender_that_slept_past_its_lease_sends_nothing(make_rig: OpenRig, postgres_url: str, point: str) -> None:
    async with make_rig(postgres_url) as rig:
        wrong = await _sleep_before_the_line(rig, "--plant", "pause-sending-inside", point=point)
        assert sum(len(accept.recipients) for accept in rig.truth.accepts()) == 1
    assert not wrong, report(wrong)


@pytest.mark.proves("F-N05")
async def test_sender_that_never_asks_about_its_lease_is_caught(make_rig: OpenRig, postgres_url: str) -> None:
    """The control (22)."""
    async with make_rig(postgres_url) as rig:
        wrong = await _sleep_before_the_line(rig, "--plant", "22-no-fence")
    assert any(sentence.startswith("o4") for sentence in wrong), report(wrong)


@pytest.mark.proves("F-N05")
async def test_two_nodes_share_the_outbox_without_a_second_copy(make_rig: OpenRig, postgres_url: str) -> None:
    async with make_rig(postgres_url) as rig:
        first = await _node(rig, "a")
        await first.is_up()  # it sets up what both use
        nodes = [first, await _node(rig, "b")]
        await rig.offer(rig.writer.write())
        await rig.rest(nodes[0])
        for number in range(20):
            await rig.send(nodes[number % 2], rig.ask_for(1, to=(f"p{number}@customer.test",)))
        await rig.rest(nodes[0])
        wrong = [*await _stopped(rig, nodes[0]), *await _stopped(rig, nodes[1]), *await rig.check()]
        assert len(rig.truth.accepts()) == len(rig.truth.answers)
    assert not wrong, report(wrong)


@pytest.mark.proves("F-D10")
async def test_second_process_on_the_embedded_store_refuses(make_rig: OpenRig) -> None:
    async with make_rig() as rig:
        first = await rig.start()
        assert await first.is_up()
        second = await rig.start(control="second")
        await rig.death(second)
        assert second.ended.result() == IN_USE << 8
        await rig.offer(rig.writer.write())
        await rig.rest(first)
        wrong = await rig.check()
    assert not wrong, report(wrong)
