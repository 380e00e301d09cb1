"""The cast of the demo, in the order in which they write. The first six are there from the start."""

from __future__ import annotations

from typing import Final

from gateway.sandbox.mails import languages, oddities, office
from gateway.sandbox.mails.scene import Scene

AT_THE_START: Final = 6

SCENES: Final[tuple[Scene, ...]] = (
    languages.SALES_QUESTION,
    office.GERMAN,
    languages.BULGARIAN,
    oddities.EMOJI,
    languages.JAPANESE,
    office.OUTLOOK,
    office.FRENCH,
    languages.HUNGARIAN,
    oddities.HOSTILE,
    languages.LITHUANIAN,
    office.WITH_PDF,
    languages.CHINESE,
    oddities.NEWSLETTER,
    office.ARABIC,
    languages.SLOVENIAN,
    office.WITH_WINMAIL,
    oddities.FORGED_BOUNCE,
    languages.BULGARIAN_KOI8,
    oddities.BROKEN_CHARSET,
    office.LONG,
)
