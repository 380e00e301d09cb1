"""Kill campaigns, also from the command line, with sizes; exit code 1 on any violation.

``python -m tests.crash.campaign points --store sqlite|postgres --times 3`` kills the house at every named point;
``python -m tests.crash.campaign kill --store sqlite --kills 200 --seed N`` kills its whole process group at random
moments while mails come in and answers go out. ``--store`` also takes a URL of a store of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from tests import stores
from tests.crash.nursery import Born
from tests.crash.oracles import report
from tests.crash.rig import Rig, Stuck, open_rig
from tests.crash.truth import Offered

#: Points that are passed when a channel starts, whether or not there is mail.
AT_START = ("I0", "I1", "I2")
HALF_A_LITERAL = "I3.literal"  # passed where a mail comes in several pieces: only huge ones surely do
WITH_MAIL = ("I3", HALF_A_LITERAL, "I4", "I5", "I6", "I7", "I8", "I9", "I10")
#: Where an answer stands after each point, once the house is back: (accepts, status shown).
WITH_ANSWER = {
    "O0": (1, "sent"),
    "O0.committed": (1, "sent"),
    "O1": (1, "sent"),
    "O2": (1, "sent"),
    "O3": (1, "sent"),
    "O4": (0, "delayed"),
    "O5": (None, "delayed"),  # the peer may or may not have read the dot
    "O6": (1, "delayed"),
    "O7": (1, "sent"),
    "O8": (1, "sent"),
}
MAX_MAILS = 6  # until a point is passed often enough
KILLED = 9


@dataclass(slots=True)
class Tally:
    """What a campaign did and found."""

    kills: int = 0
    trials: int = 0
    samples: int = 0
    replayed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


async def points(rig: Rig, *, times: int, only: Sequence[str] = ()) -> Tally:
    """Kill at every named point, at its first, second, … pass; after each kill everything must hold."""
    tally = Tally()
    for hit in range(1, times + 1):
        for point in (*AT_START, *WITH_MAIL, *WITH_ANSWER):
            if only and point not in only:
                continue
            tally.trials += 1
            try:
                wrong = await (_answer_point if point in WITH_ANSWER else _mail_point)(rig, point, hit)
            except Stuck as stuck:
                wrong = [str(stuck)]
            tally.kills += 1
            tally.wrong += [f"{point}:{hit}: {sentence}" for sentence in wrong]
    return tally


async def _mail_point(rig: Rig, point: str, hit: int) -> list[str]:
    if point in AT_START:
        hit = 1
    desk = await rig.start(failpoint=f"{point}:{hit}:kill")
    for number in range(MAX_MAILS):
        await rig.offer(rig.writer.write(is_huge=True) if point == HALF_A_LITERAL else _mail(rig, number))
        if await rig.rest(desk) is None:
            break
    await rig.death(desk)
    if desk.ended.result() != KILLED:
        return [f"the desk ended by itself with {desk.ended.result()}; {rig.tail()}"]
    return await _recovered(rig)


def _mail(rig: Rig, number: int) -> Offered:
    if number == 1 and rig.truth.mails:
        return next(reversed(rig.truth.mails.values()))
    return rig.writer.write(is_large=number % 3 == 0, has_id=number != 2)


async def _answer_point(rig: Rig, point: str, hit: int) -> list[str]:
    desk = await rig.start(failpoint=f"{point}:{hit}:kill")
    await rig.offer(rig.writer.write())
    await rig.rest(desk)
    known = await desk.ask("tickets")
    for _ in range(MAX_MAILS):
        asked = rig.ask_for(known[-1][0])
        await rig.send(desk, asked)
        if await rig.rest(desk) is None:
            break
    await rig.death(desk)
    if desk.ended.result() != KILLED:
        return [f"the desk ended by itself with {desk.ended.result()}; {rig.tail()}"]
    desk = await rig.start()
    await rig.send_open(desk)
    await rig.rest(desk)
    wanted, status = WITH_ANSWER[point]
    shown = await desk.ask("status", message_id=asked.message_id)
    await rig.kill(desk)
    accepts = sum(asked.header == accept.header for accept in rig.truth.accepts())
    wrong = await rig.check()
    if shown != [status]:
        wrong.append(f"o5: shown as {shown}, wanted {status}")
    if wanted is not None and accepts != wanted:
        wrong.append(f"o4: accepted {accepts} times, wanted {wanted}")
    return wrong


async def _recovered(rig: Rig, *more: str) -> list[str]:
    """Start once more without harm, come to rest, and look."""
    desk = await rig.start(*more)
    await rig.send_open(desk)
    if await rig.rest(desk) is None:
        return [f"the desk died of itself; {rig.tail()}"]
    await rig.kill(desk)
    return await rig.check()


async def kills(rig: Rig, *, count: int, seconds: float = 1.0) -> Tally:
    """Kill at random moments under load, ``count`` times; then come to rest and look."""
    tally = Tally()
    load = asyncio.create_task(_mails(rig, seconds), name="mails")
    try:
        for number in range(count):
            desk = await rig.start()
            if rig.rng.random() < 0.8:  # the others die somewhere in their start
                await desk.is_up()
            agents = asyncio.create_task(_agents(rig, desk), name="agents")
            await asyncio.sleep(rig.rng.uniform(0.0, seconds))  # the moment of the kill is what is drawn
            if number % 10 == 9:
                tally.samples += 1
                tally.wrong += [f"kill {number}: {sentence}" for sentence in await rig.sample()]
            if desk.ended.done():
                tally.wrong.append(f"kill {number}: the desk ended by itself; {rig.tail()}")
            await rig.kill(desk)
            await agents
            tally.kills += 1
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    tally.wrong += await _end(rig, tally)
    return tally


async def _mails(rig: Rig, seconds: float) -> None:
    """Customers write all the time, whether or not somebody is there."""
    while True:
        known = list(rig.truth.mails.values())
        # only who got an answer can reply to it: a reply settles a doubt as sent
        answered = [(accept.header, accept.recipients[0]) for accept in rig.truth.accepts()]
        await rig.offer(rig.writer.any(known, answered[-50:]))
        await asyncio.sleep(rig.rng.expovariate(4 / seconds))


async def _agents(rig: Rig, desk: Born) -> None:
    """Agents answer until the desk is gone; what was not acknowledged is said again, to the next one."""
    await rig.send_open(desk)
    while (known := await desk.ask("tickets")) is not None:
        if known:
            ticket_id, _subject = rig.rng.choice(known)
            to = [f"p{rig.rng.getrandbits(40):010x}@customer.test"]
            if rig.rng.random() < 0.2:
                to.append(f"gone{len(rig.truth.answers)}@reject.test")
            await rig.send(desk, rig.ask_for(ticket_id, to=to))
        await asyncio.sleep(rig.rng.uniform(0.02, 0.3))


async def _end(rig: Rig, tally: Tally) -> list[str]:
    """Come to rest, replay what three kills in a row put aside, and prove that the house still works."""
    desk = await rig.start()
    try:
        await rig.send_open(desk)
        await rig.rest(desk, seconds=120)
        tally.replayed = await desk.ask("replay") or 0
        await rig.offer(rig.writer.write())
        counts = await rig.rest(desk, seconds=30)
    except Stuck as stuck:
        return [str(stuck), *await rig.check()]
    if counts is None:
        return [f"the desk died of itself; {rig.tail()}"]
    tally.counts = counts
    await rig.kill(desk)
    return await rig.check()


@asynccontextmanager
async def rig_on(store: str, *, seed: int, options: Sequence[str]) -> AsyncIterator[Rig]:
    with _store(store) as url:
        async with open_rig(url, seed=seed, options=options) as rig:
            yield rig


@contextmanager
def _store(kind: str) -> Iterator[str]:
    if kind == "sqlite":
        yield ""  # the rig has one in its own folder
    elif kind == "postgres":
        home, owner = stores.open_home()
        try:
            yield stores.make_postgres(home)
        finally:
            stores.close_home(home, owner)
    else:
        yield kind


def options_for(store: str) -> list[str]:
    """On PostgreSQL a dead owner's answers wait for the end of its lease: that is made short."""
    return ["--after", "seen", *(["--lease", "2"] if store != "sqlite" else [])]


async def _main(given: argparse.Namespace) -> int:
    started = time.monotonic()
    async with rig_on(given.store, seed=given.seed, options=options_for(given.store)) as rig:
        if given.what == "points":
            tally = await points(rig, times=given.times, only=given.only)
        else:
            tally = await kills(rig, count=given.kills)
        outcomes = Counter(accept.header for accept in rig.truth.accepts())
        print(
            f"seed {given.seed}: {tally.kills} kills in {time.monotonic() - started:.0f} s; "
            f"{rig.truth.rows} mails offered, {len(rig.truth.answers)} answers asked for, {len(outcomes)} accepted; "
            f"{tally.samples} samples; {tally.replayed} replayed; at the end {tally.counts}"
        )
    if tally.wrong:
        print(report(tally.wrong))
        print(f"{len(tally.wrong)} violations. Replay: {_command(given)}")
        return 1
    print("0 lost, 0 duplicate tickets, 0 second copies, 0 untrue statuses, 0 stuck")
    return 0


def _command(given: argparse.Namespace) -> str:
    size = f"--times {given.times}" if given.what == "points" else f"--kills {given.kills}"
    only = f" --only {' '.join(given.only)}" if given.what == "points" and given.only else ""
    return f"python -m tests.crash.campaign {given.what} --store {given.store} {size} --seed {given.seed}{only}"


def main() -> int:
    parser = argparse.ArgumentParser(description="kill the house and count what it lost")
    parser.add_argument("--store", default="sqlite", help="sqlite, postgres, or the URL of an empty store")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    what = parser.add_subparsers(dest="what", required=True)
    for name in ("points", "kill"):
        sub = what.add_parser(name)
        sub.add_argument("--store", default=argparse.SUPPRESS)
        sub.add_argument("--seed", type=int, default=argparse.SUPPRESS)
        if name == "points":
            sub.add_argument("--times", type=int, default=3)
            sub.add_argument("--only", nargs="*", default=[])
        else:
            sub.add_argument("--kills", type=int, default=200)
    return asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
