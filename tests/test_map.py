"""The map: imports point down, the core knows nothing of the gateway, and no adapter knows another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: From the top down; a module may import from its own room and from rooms below it.
ROOMS: tuple[tuple[str, ...], ...] = (
    ("gateway.cli",),
    ("gateway.demo",),
    ("gateway.serving", "gateway.chores"),
    ("gateway.web_root",),
    ("gateway.app",),
    ("gateway.housekeeping",),
    ("gateway.web",),
    ("gateway.alerts",),
    ("gateway.sandbox",),
    ("gateway.supervisor",),
    ("gateway.accounts",),
    ("gateway.ingest", "gateway.settle", "gateway.entering", "gateway.parsing"),
    ("gateway.journal",),
    ("gateway.outbox",),
    ("gateway.channels",),
    ("gateway.inspect",),
    ("gateway.normalize",),
    ("gateway.live",),
    ("gateway.config",),
    ("gateway.errors",),
    ("core",),
)
#: What everything of the gateway may use, although it stands beside it.
NOT_IN_CORE = {"aiohttp", "aioimaplib", "aiosmtplib", "slack_sdk", "redis", "jinja2", "gateway"}
#: Shared by adapters; the rest of ``gateway.channels`` are adapters or parts of one, named by their prefix.
SHARED = {"contract", "registry", "secrets", "oauth"}


def _modules() -> Iterator[tuple[str, Path]]:
    for package in ("gateway", "core"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _room(name: str) -> int | None:
    best: tuple[int, int] | None = None
    for number, rooms in enumerate(ROOMS):
        for room in rooms:
            if (name == room or name.startswith(room + ".")) and (best is None or len(room) > best[1]):
                best = (number, len(room))
    return best[0] if best else None


def upward_imports(modules: Iterator[tuple[str, Path]]) -> list[str]:
    """Return every import that points up the map, as ``module:line imports other``."""
    found = []
    for name, path in modules:
        own = _room(name)
        if own is None:
            if name not in ("gateway",):
                found.append(f"{name} stands in no room of the map")
            continue
        for imported, line in _imports(path):
            other = _room(imported)
            if other is not None and other < own:
                found.append(f"{name}:{line} imports {imported}")
    return found


def test_imports_point_down() -> None:
    assert upward_imports(_modules()) == []


def test_an_import_that_points_up_is_found(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("from gateway.web import server\n")
    assert upward_imports(iter([("gateway.normalize.planted", planted)])) != []


def test_the_core_knows_no_channel_and_no_web() -> None:
    strangers = [
        f"{name}:{line} imports {imported}"
        for name, path in _modules()
        if name.startswith("core")
        for imported, line in _imports(path)
        if imported.split(".")[0] in NOT_IN_CORE
    ]
    assert strangers == []


def _family(module: str) -> str:
    """``email_imap`` and ``imap_wire`` belong to email; a single-word module is its own family."""
    return "email" if module.split("_")[0] in ("email", "imap", "smtp") else module


def test_no_adapter_imports_another() -> None:
    prefix = "gateway.channels."
    foreign = []
    for name, path in _modules():
        own = name.removeprefix(prefix).split(".")[0]
        if not name.startswith(prefix) or own in SHARED:
            continue
        for imported, line in _imports(path):
            other = imported.removeprefix(prefix).split(".")[0]
            if imported.startswith(prefix) and other not in SHARED and _family(other) != _family(own):
                foreign.append(f"{name}:{line} imports {imported}")
    assert foreign == []


@pytest.mark.parametrize("folder", ["gateway", "core"])
def test_no_module_is_called_utils(folder: str) -> None:
    assert not [path for path in (ROOT / folder).rglob("*.py") if path.stem in {"utils", "helpers", "common", "misc"}]
