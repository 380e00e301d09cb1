"""Which test proves which promise: ``python -m tests.proofs`` prints the table of ids, counts and test names.

``python -m tests.proofs --unproven LIST…`` names the ids that stand in those files and that no test proves. Nothing is
run: the marks ``@pytest.mark.proves("R2.1", …)`` are read from the collected tests.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ID = re.compile(r"\b(?:R\d{1,2}\.\d{1,2}|[TF]-[A-Z]{1,3}\d{1,2})\b")
MARK = "proves"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gatehouse")
    group.addoption("--proofs", action="store_true", help="print which tests prove which ids; run nothing")
    group.addoption(
        "--unproven", action="append", default=[], metavar="FILE", help="with --proofs: ids in FILE without a test"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """An id that is not spelled like one would never be found again."""
    for item in items:
        for name in _ids(item):
            if not ID.fullmatch(name):
                raise pytest.UsageError(f"{item.nodeid}: {name!r} is no id of a promise, threat or fault")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.getoption("--proofs"):
        return
    table = collect(session.items)
    print(render(table))
    for path in session.config.getoption("--unproven"):
        wanted = set(ID.findall(Path(path).read_text("utf-8")))
        missing = sorted(wanted - set(table), key=sort_key)
        print(f"\n{path}: {len(wanted)} ids, {len(missing)} without a test: {', '.join(missing) or 'none'}")
    session.items.clear()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--proofs") and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


def collect(items: Iterable[pytest.Item]) -> dict[str, list[str]]:
    """Return id -> test names, the parameters of a test folded into one line."""
    table: dict[str, dict[str, int]] = {}
    for item in items:
        name = item.nodeid.partition("[")[0]
        for proven in _ids(item):
            tests = table.setdefault(proven, {})
            tests[name] = tests.get(name, 0) + 1
    return {
        proven: [f"{name} ×{count}" if count > 1 else name for name, count in tests.items()]
        for proven, tests in table.items()
    }


def render(table: Mapping[str, list[str]]) -> str:
    lines = []
    for proven in sorted(table, key=sort_key):
        first, *others = table[proven]
        lines.append(f"{proven:<8}{len(table[proven]):>4}  {first}")
        lines += [" " * 14 + name for name in others]
    lines.append(f"{len(table)} ids proven by {len({name for names in table.values() for name in names})} tests")
    return "\n".join(lines)


def sort_key(name: str) -> tuple[str, int, int]:
    letters = re.match(r"[A-Z]-?[A-Z]*", name)
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    return letters[0] if letters else name, numbers[0], numbers[-1]


def _ids(item: pytest.Item) -> list[str]:
    return [name for mark in item.iter_markers(MARK) for name in mark.args]


if __name__ == "__main__":
    sys.exit(pytest.main(["--proofs", "-q", "--no-header", "-p", "no:cacheprovider", *sys.argv[1:]]))
