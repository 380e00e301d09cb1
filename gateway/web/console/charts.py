"""Bars drawn by the server: where each rectangle stands. The template writes the SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

WIDTH = 900
HEIGHT = 120  #: of the tallest bar


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    status: str
    count: int
    y: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """One bar, its parts from the ground up."""

    day: date
    total: int
    x: float
    width: float
    parts: Sequence[Part]
    has_label: bool


def stacked_days(by_day: Mapping[date, Mapping[str, int]], order: Sequence[str]) -> list[Day]:
    """Return a bar for each day, in the order given; the highest total fills ``HEIGHT``."""
    if not by_day:
        return []
    most = max((sum(counts.values()) for counts in by_day.values()), default=0) or 1
    step = WIDTH / len(by_day)
    every = max(1, round(len(by_day) / 10))
    bars = []
    for number, (day, counts) in enumerate(by_day.items()):
        parts = []
        top = float(HEIGHT)
        for status in order:
            count = counts.get(status, 0)
            if not count:
                continue
            height = HEIGHT * count / most
            top -= height
            parts.append(Part(status=status, count=count, y=round(top, 2), height=round(height, 2)))
        bars.append(
            Day(
                day=day,
                total=sum(counts.values()),
                x=round(number * step + step * 0.15, 2),
                width=round(min(step * 0.7, 42), 2),
                parts=parts,
                has_label=number % every == 0,
            )
        )
    return bars
