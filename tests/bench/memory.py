from collections.abc import AsyncIterator
from typing import Any
import argparse
async def run(options: argparse.Namespace) -> AsyncIterator[dict[str, Any]]:
    yield {}
