"""The one place that reads a clock. Logic gets ``now`` as an argument; only edges and loops hold a ``Clock``."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Wall time for people and records, monotonic time for waiting. Tests hand in their own."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
