"""The customers of the demo act: they write, add something that they forgot, read their answers and answer back.

Everything is put on the sandbox's timetable, with chances drawn from one ``rng``: the same seed gives the same play.
"""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial
from typing import Final

from gateway.sandbox import compose
from gateway.sandbox.compose import Letter
from gateway.sandbox.mail_server import MailSandbox
from gateway.sandbox.mails.scene import Scene, Sheet
from gateway.sandbox.postbox import Received
from gateway.sandbox.scripts import AT_THE_START, SCENES

START_DELAY: Final = timedelta(seconds=2)
GAP: Final = timedelta(seconds=20)
_READING_SECONDS: Final = (10.0, 20.0)
_AFTERTHOUGHT_SECONDS: Final = (40.0, 70.0)
_AFTERTHOUGHT_CHANCE: Final = 0.7


async def play(
    sandbox: MailSandbox,
    *,
    start_delay: timedelta = START_DELAY,
    gap: timedelta = GAP,
    rng: random.Random | None = None,
) -> None:
    """Plan the whole play and return: the first six mails after ``start_delay``, then one each ``gap`` or so."""
    chance = rng or random.Random()
    troupe = _Troupe(sandbox, chance)
    at = start_delay.total_seconds()
    for number, scene in enumerate(SCENES):
        if number >= AT_THE_START:
            at += gap.total_seconds() * chance.uniform(0.75, 1.25)
        sandbox.introduce(scene.person, scene.address)
        sandbox.later(at, partial(troupe.enter, scene), name=f"{scene.person} writes")
    sandbox.on_received(troupe.read)


class _Troupe:
    """Who has said what so far."""

    def __init__(self, sandbox: MailSandbox, rng: random.Random) -> None:
        self._sandbox = sandbox
        self._rng = rng
        self._scenes = {scene.address.lower(): scene for scene in SCENES}
        self._unsaid = {address: list(scene.replies) for address, scene in self._scenes.items()}
        self._answered: set[str] = set()

    async def enter(self, scene: Scene) -> None:
        """Send the scripted mail and perhaps plan an afterthought."""
        sheet = Sheet(name=scene.person, address=scene.address, to=scene.to, stamp=self._sandbox.stamp())
        raw = scene.build(sheet)
        sender = scene.address if scene.envelope_from is None else scene.envelope_from
        await self._sandbox.deliver(raw, sender, [scene.to])
        if scene.follow_up and self._rng.random() < _AFTERTHOUGHT_CHANCE:
            self._sandbox.later(
                self._rng.uniform(*_AFTERTHOUGHT_SECONDS),
                partial(
                    self._add, scene, Received(at=sheet.stamp.at, recipient=scene.to, envelope_from=sender, raw=raw)
                ),
                name=f"{scene.person} adds something",
            )

    async def _add(self, scene: Scene, first: Received) -> None:
        """Answer one's own mail, without a quote, unless the desk was faster."""
        if scene.address.lower() in self._answered:
            return
        await self._sandbox.send(
            Letter(
                from_name=scene.person,
                from_address=scene.address,
                to=scene.to,
                subject=f"Re: {first.subject}",
                text=scene.follow_up,
                references=(first.message_id,),
            )
        )

    def read(self, mail: Received) -> None:
        """Open a mail in the postbox; answer it after a while if there is something left to say."""
        address = mail.recipient.lower()
        if mail.is_automatic or not self._unsaid.get(address):
            return
        self._answered.add(address)
        text = self._unsaid[address].pop(0)
        name = self._scenes[address].person
        letter = compose.answer(mail, from_name=name, text=text)
        self._sandbox.later(
            self._rng.uniform(*_READING_SECONDS), partial(self._sandbox.send, letter), name=f"{name} answers"
        )
