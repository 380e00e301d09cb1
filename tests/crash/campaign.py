"""Kill campaigns, also from the command line, with sizes; exit code 1 on any violation.

``python -m tests.crash.campaign points --store sqlite|postgres --times 3`` kills the house at every named point;
``python -m tests.crash.campaign kill --store sqlite --kills 200 --seed N`` kills its whole process group at random
moments while mails come in and answers go out. ``--store`` also takes a URL of a store of its own. ``--smtp postfix``
hands every answer to a real Postfix that refuses, returns, delays and reports; its reports are mails that come in.
``--in-doubt resend-once`` has doubts end by a second copy, which is counted apart.
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
from typing import Any

from tests import stores
from tests.crash.nursery import Born
from tests.crash.oracles import report
from tests.crash.rig import Rig, Stuck, open_rig
from tests.crash.truth import Accept, Asked, Offered

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
#: As WITH_ANSWER, where a Postfix reports the fate of everything that it took: a doubt ends with the report.
BEHIND_POSTFIX = WITH_ANSWER | {"O5": (None, "sent"), "O6": (1, "sent")}
#: Who agents write to besides customers, by how often: what a Postfix does with them is in ``tests.servers.postfix``.
ODD_DOMAINS = {"reject.test": 5, "grey.test": 4, "slow.test": 2, "refused.test": 2}
PATIENCE = 300.0  # a machine that is busy otherwise makes nothing stuck
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


async def answers_through_postfix(rig: Rig, *, only: Sequence[str] = ()) -> Tally:
    """Kill at every point of handing over, each with an answer to one who gets it and to one whose copy is returned.

    Nobody waits for reports between the kills: they come whenever they come, and all is looked at in the end.
    """
    tally = Tally()
    asked: dict[str, Asked] = {}
    desk = await rig.start()
    await rig.offer(rig.writer.write())
    await rig.rest(desk)
    ((ticket_id, _subject),) = await desk.ask("tickets")
    await rig.kill(desk)
    for point in only or BEHIND_POSTFIX:
        desk = await rig.start(failpoint=f"{point}:1:kill")
        number = len(asked)
        asked[point] = rig.ask_for(ticket_id, to=[f"p{number}@customer.test", f"gone{number}@reject.test"])
        await rig.send(desk, asked[point])
        await rig.death(desk)
        tally.kills += 1
        if desk.ended.result() != KILLED:
            tally.wrong.append(f"{point}: the desk ended by itself with {desk.ended.result()}; {rig.tail()}")
        desk = await rig.start()
        await rig.send_open(desk)
        await rig.rest(desk)
        await rig.kill(desk)
        tally.wrong += [f"{point}: {sentence}" for sentence in await rig.sample()]
    desk = await rig.start()
    tally.counts = await rig.settle(desk) or {}
    shown = {point: await desk.ask("status", message_id=item.message_id) for point, item in asked.items()}
    await rig.kill(desk)
    tally.wrong += await rig.check()
    taken = Counter(accept.header for accept in rig.truth.accepts())
    for point, item in asked.items():
        wanted, status = BEHIND_POSTFIX[point]
        copies = taken[item.header]
        if wanted is not None and copies != wanted:
            tally.wrong.append(f"o4: {point}: Postfix took {copies} copies, wanted {wanted}")
        fate = [status, "not_delivered"] if copies else ["delayed", "delayed"]
        if shown[point] != fate:
            tally.wrong.append(f"o5: {point}: shown as {shown[point]}, wanted {fate}")
    return tally


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
            desk = await rig.start(failpoint=_random_point(rig))
            said: asyncio.Queue[None] = asyncio.Queue()
            agents = asyncio.create_task(_agents(rig, desk, said), name="agents")
            if rig.rng.random() < 0.8:  # the others die somewhere in their start
                await _work(rig, desk, said)
            await asyncio.sleep(rig.rng.uniform(0.0, seconds))  # the moment of the kill is what is drawn
            is_sampled = number % 10 == 9
            if is_sampled and rig.postoffice is None:
                await _sample(rig, tally)
            if desk.ended.done() and desk.ended.result() != KILLED:
                tally.wrong.append(f"kill {number}: the desk ended by itself; {rig.tail()}")
            await rig.kill(desk)
            await agents
            tally.kills += 1
            if is_sampled and rig.postoffice is not None:
                await _sample(rig, tally)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    tally.wrong += await _end(rig, tally)
    return tally


def _random_point(rig: Rig) -> str:
    """Behind a Postfix half of the desks may die earlier: at a point of handing over, in the middle of all else."""
    if rig.postoffice is None or rig.rng.random() < 0.5:
        return ""
    return f"{rig.rng.choice(list(WITH_ANSWER))}:{rig.rng.randint(1, 4)}:kill"


async def _work(rig: Rig, desk: Born, said: asyncio.Queue[None]) -> None:
    """Wait until it is up; behind a Postfix also for some answers, so that a slow machine kills no idle desks."""
    await desk.is_up()
    for _ in range(rig.rng.randrange(4) if rig.postoffice is not None else 0):
        answer = asyncio.ensure_future(said.get())
        ends: set[asyncio.Future[Any]] = {answer, desk.ended}
        await asyncio.wait(ends, return_when="FIRST_COMPLETED")
        answer.cancel()


async def _sample(rig: Rig, tally: Tally) -> None:
    tally.samples += 1
    tally.wrong += [f"kill {tally.kills}: {sentence}" for sentence in await rig.sample()]


async def _mails(rig: Rig, seconds: float) -> None:
    """Customers write all the time, whether or not somebody is there."""
    while True:
        known = list(rig.truth.mails.values())
        # only who got an answer can reply to it: a reply settles a doubt as sent
        answered = [(accept.header, accept.recipients[0]) for accept in rig.truth.arrivals()]
        await rig.offer(rig.writer.any(known, answered[-50:]))
        await asyncio.sleep(rig.rng.expovariate(4 / seconds))


async def _agents(rig: Rig, desk: Born, said: asyncio.Queue[None]) -> None:
    """Agents answer until the desk is gone; what was not acknowledged is said again, to the next one."""
    await rig.send_open(desk)
    while (known := await desk.ask("tickets")) is not None:
        if known:
            ticket_id, _subject = rig.rng.choice(known)
            to = [f"p{rig.rng.getrandbits(40):010x}@customer.test"]
            if rig.postoffice is not None and rig.rng.random() < 0.5:
                (domain,) = rig.rng.choices(list(ODD_DOMAINS), list(ODD_DOMAINS.values()))
                to.append(f"odd{len(rig.truth.answers)}@{domain}")
            elif rig.rng.random() < 0.2:
                to.append(f"gone{len(rig.truth.answers)}@reject.test")
            if await rig.send(desk, rig.ask_for(ticket_id, to=to)):
                said.put_nowait(None)
        await asyncio.sleep(rig.rng.uniform(0.02, 0.3))


async def _end(rig: Rig, tally: Tally) -> list[str]:
    """Come to rest, replay what three kills in a row put aside, and prove that the house still works."""
    desk = await rig.start()
    try:
        await rig.send_open(desk)
        await rig.settle(desk, seconds=PATIENCE)
        tally.replayed = await desk.ask("replay") or 0
        await rig.offer(rig.writer.write())
        counts = await rig.settle(desk, seconds=PATIENCE)
    except Stuck as stuck:
        return [str(stuck), *await rig.check()]
    if counts is None:
        return [f"the desk died of itself; {rig.tail()}"]
    tally.counts = counts
    await rig.kill(desk)
    return await rig.check()


@asynccontextmanager
async def rig_on(store: str, *, seed: int, options: Sequence[str], is_relayed: bool = False) -> AsyncIterator[Rig]:
    with _store(store) as url:
        async with open_rig(url, seed=seed, options=options, is_relayed=is_relayed) as rig:
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


def options_for(store: str, *, in_doubt: str = "hold") -> list[str]:
    """On PostgreSQL a dead owner's answers wait for the end of its lease: that is made short, as is every doubt."""
    short = ["--lease", "2"] if store != "sqlite" or in_doubt != "hold" else []
    return ["--after", "seen", "--in-doubt", in_doubt, "--doubt-waits", "2", *short]


async def _main(given: argparse.Namespace) -> int:
    started = time.monotonic()
    is_relayed = given.smtp == "postfix"
    options = options_for(given.store, in_doubt=given.in_doubt)
    async with rig_on(given.store, seed=given.seed, options=options, is_relayed=is_relayed) as rig:
        if given.what == "points" and is_relayed:
            tally = await answers_through_postfix(rig, only=given.only)
        elif given.what == "points":
            tally = await points(rig, times=given.times, only=given.only)
        else:
            tally = await kills(rig, count=given.kills)
        _print_tally(given.seed, rig, tally, seconds=time.monotonic() - started)
        again = _second_copies(rig.truth.accepts())
    if tally.wrong:
        print(report(tally.wrong))
        print(f"{len(tally.wrong)} violations. Replay: {_command(given)}")
        return 1
    by_policy = f" but {again} by the policy for doubts" if again else ""
    print(f"0 lost, 0 duplicate tickets, 0 second copies{by_policy}, 0 untrue statuses, 0 stuck")
    return 0


def _print_tally(seed: int, rig: Rig, tally: Tally, *, seconds: float) -> None:
    truth = rig.truth
    taken = {accept.header for accept in truth.accepts()}
    print(
        f"seed {seed}: {tally.kills} kills in {seconds:.0f} s; "
        f"{truth.rows} mails offered, {len(truth.answers)} answers asked for, {len(taken)} accepted; "
        f"{tally.samples} samples; {tally.replayed} replayed; at the end {tally.counts}"
    )
    if rig.postoffice is not None:
        reports = rig.postoffice.reports(truth).values()
        told = Counter(action for item in reports for _who, action in item.actions)
        copies = {
            what: sum(len(accept.recipients) for accept in accepts)
            for what, accepts in (("taken", truth.accepts()), ("arrived", truth.arrivals()))
        }
        print(f"copies at Postfix: {copies}; fates in its {len(reports)} reports: {dict(told)}")


def _second_copies(accepts: Sequence[Accept]) -> int:
    copies = Counter((accept.header, address) for accept in accepts for address in accept.recipients)
    return sum(count - 1 for count in copies.values())


def _command(given: argparse.Namespace) -> str:
    size = f"--times {given.times}" if given.what == "points" else f"--kills {given.kills}"
    only = f" --only {' '.join(given.only)}" if given.what == "points" and given.only else ""
    policy = f" --in-doubt {given.in_doubt}" if given.in_doubt != "hold" else ""
    command = f"python -m tests.crash.campaign {given.what} --store {given.store} --smtp {given.smtp}{policy}"
    return f"{command} {size} --seed {given.seed}{only}"


def main() -> int:
    parser = argparse.ArgumentParser(description="kill the house and count what it lost")
    parser.add_argument("--store", default="sqlite", help="sqlite, postgres, or the URL of an empty store")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.set_defaults(in_doubt="hold")
    what = parser.add_subparsers(dest="what", required=True)
    for name in ("points", "kill"):
        sub = what.add_parser(name)
        sub.add_argument("--store", default=argparse.SUPPRESS)
        sub.add_argument("--seed", type=int, default=argparse.SUPPRESS)
        sub.add_argument("--smtp", choices=("peer", "postfix"), default="peer", help="what answers are handed to")
        if name == "points":
            sub.add_argument("--times", type=int, default=3)
            sub.add_argument("--only", nargs="*", default=[])
        else:
            sub.add_argument("--kills", type=int, default=200)
            sub.add_argument("--in-doubt", choices=("hold", "resend-once"), default=argparse.SUPPRESS)
    return asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
