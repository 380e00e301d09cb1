"""``make bench``: each benchmark prints one JSON line: the figure, the limit measured in the same run, their ratio.

Nothing here passes or fails: machines are noisy, so the ratio is the figure to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.bench import idle, ingest, memory, outbox

BENCHES: dict[str, Callable[[argparse.Namespace], AsyncIterator[dict[str, Any]]]] = {
    "ingest": ingest.run,
    "idle": idle.run,
    "outbox": outbox.run,
    "memory": memory.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHES)}; all by default")
    parser.add_argument("--mails", type=int, default=4000, help="mails of the ingest and outbox benchmarks")
    parser.add_argument("--soak", type=int, default=100_000, help="mails of the memory benchmark")
    options = parser.parse_args()
    for name in options.names or BENCHES:
        asyncio.run(_print(BENCHES[name](options)))


async def _print(lines: AsyncIterator[dict[str, Any]]) -> None:
    async for line in lines:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
