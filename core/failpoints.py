"""Named places where a test may kill, stop or break the process (FAULTS section 7).

A call costs one comparison unless ``GATEHOUSE_FAILPOINT`` names points as ``NAME:HIT:ACTION[,…]``: at the HIT-th time
that NAME is passed, ACTION happens: ``kill`` (SIGKILL to self), ``stop`` (SIGSTOP), ``raise`` or ``exit``. The variable
is read here and nowhere else, because the point must work before any configuration exists.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "GATEHOUSE_FAILPOINT"


class FailpointHit(Exception):
    """The action ``raise``."""


def _plan(text: str) -> dict[tuple[str, int], str]:
    plan = {}
    for item in filter(None, text.split(",")):
        name, hit, action = item.split(":")
        plan[name, int(hit)] = action
    return plan


_planned = _plan(os.environ.get(VARIABLE, ""))
_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Pass the point ``name``; do what the plan says of this pass, which is nothing in production."""
    if not _planned:
        return
    _passed[name] += 1
    action = _planned.get((name, _passed[name]))
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "exit":
        os._exit(70)
    elif action == "raise":
        raise FailpointHit(name)


def plan(text: str) -> None:
    """Replace the plan, for tests in this process. An empty text switches all points off."""
    _planned.clear()
    _planned.update(_plan(text))
    _passed.clear()
