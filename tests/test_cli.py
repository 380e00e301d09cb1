"""The command as an operator meets it: real processes, their words and their exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from core.keys import load_or_make
from core.store.database import SqliteDatabase
from gateway import chores, config
from gateway.errors import ConfigError
from tests.desk.office import Office, smtp
from tests.desk.program import COMMAND, environment, free_port
from tests.normalize.test_inspect import FIELDS
from tests.stores import FakeClock, prepare

CANARY = "mailbox-password-canary"
CORPUS = Path(__file__).parent / "normalize" / "corpus"
FINDING = re.compile(r"(ok  |MEND) (\S[^:]*): (.+)")


def run(folder: Path, *words: str | Path, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    settings = environment(folder, f"sqlite:///{folder}/gatehouse.db") | dict(more or {})
    return subprocess.run(
        [COMMAND, *words], cwd=folder, env=settings, capture_output=True, encoding="utf-8", timeout=60, check=False
    )


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    settings = environment(folder, f"sqlite:///{folder}/gatehouse.db")
    return subprocess.Popen(
        [COMMAND, *words], cwd=folder, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def until_said(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return line
    raise AssertionError(f"it ended without {word!r}")


def stop(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=20)  # F-V04
    finally:
        process.kill()
    return process.returncode


def findings(told: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What was looked at -> ``ok`` or ``MEND``."""
    found = {}
    for line in told.stdout.splitlines():
        match = FINDING.fullmatch(line)
        assert match is not None, line
        found[match[2]] = match[1].strip()
    return found


@pytest.mark.proves("R13.3")
def test_help_is_quick_because_nothing_heavy_is_imported(tmp_path: Path) -> None:
    told = run(tmp_path, "--help")
    assert told.returncode == 0
    for name in ("serve", "demo", "migrate", "doctor", "replay", "inspect"):
        assert name in told.stdout
    check = "import sys, gateway.cli; print(*{'sqlalchemy', 'aiohttp', 'pydantic', 'lxml'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


@pytest.mark.proves("R1.7", "R13.3", "F-Z01")
def test_inspect_prints_one_line_of_json_a_mail_whatever_the_files_hold(tmp_path: Path) -> None:
    garbage, box = tmp_path / "garbage.eml", tmp_path / "box"
    garbage.write_bytes(bytes(range(256)) * 20)
    box.write_bytes(
        b"From a@b.test Mon May  5 10:00:00 2025\nFrom: a@b.test\nSubject: =?utf-8?q?=F0=9F=93=A6?=\n\nHi\n\n" * 2
    )
    locale = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    told = run(tmp_path, "inspect", "mail", garbage, tmp_path / "absent", box, CORPUS, more=locale)
    assert (told.returncode, told.stderr) == (0, "")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert all(list(line) == FIELDS for line in lines)
    assert [line["file"] for line in lines[:4]] == [str(garbage), str(tmp_path / "absent"), f"{box}#1", f"{box}#2"]
    assert lines[1]["warnings"] == ["cannot-read: No such file or directory"]
    assert lines[2]["subject"] == "\N{PACKAGE}"
    assert len(lines) == 4 + len(list(CORPUS.iterdir()))
    assert not (tmp_path / "gatehouse.db").exists()


@pytest.mark.proves("R13.3")
def test_migrate_makes_the_schema_and_says_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    first = run(tmp_path, "migrate")
    assert (first.returncode, first.stdout.split(" to ")[0]) == (0, "migrated from nothing")
    settings = config.load(store=f"sqlite:///{tmp_path}/gatehouse.db")
    assert asyncio.run(chores.migrate(settings)) == f"the schema is {first.stdout.split()[-1]}"


@pytest.mark.proves("R13.3", "T-G11", "F-D05")
def test_doctor_says_what_to_mend_and_no_secret(tmp_path: Path) -> None:
    async def add_channel() -> None:
        clock = FakeClock()
        db = SqliteDatabase(tmp_path / "gatehouse.db", clock=clock)
        try:
            office = Office(db=db, blobs=None, keys=load_or_make(tmp_path / "gatehouse.key"), clock=clock, stack=None)  # type: ignore[arg-type]  # neither is used to furnish
            await prepare(db)
            await office.furnish(smtp(free_port(), user="support", password=CANARY))
        finally:
            await db.close()

    asyncio.run(add_channel())
    (tmp_path / "gatehouse.key").chmod(0o644)
    told = run(tmp_path, "doctor", more={"GATEHOUSE_BLOBS": "/proc/nowhere"})
    assert told.returncode == 1
    assert findings(told) == {
        "configuration": "ok",
        "key": "MEND",
        "blobs": "MEND",
        "store": "ok",
        "support@desk.test in": "MEND",
        "support@desk.test out": "MEND",
    }
    assert "chmod 600" in told.stdout
    assert CANARY not in told.stdout + told.stderr
    url = f"postgresql://gw:{CANARY}@127.0.0.1:1/house"
    told = run(tmp_path, "doctor", more={"GATEHOUSE_STORE": url})
    assert (told.returncode, findings(told)["store"]) == (1, "MEND")
    assert CANARY not in told.stdout + told.stderr


@pytest.mark.proves("R13.3")
def test_doctor_is_content_with_a_fresh_house_and_says_what_is_wrong_with_a_key(tmp_path: Path) -> None:
    told = run(tmp_path, "doctor")
    assert (told.returncode, set(findings(told).values())) == (0, {"ok"})
    key_file = tmp_path / "gatehouse.key"
    key_file.write_text("short")
    settings = config.load(key_file=key_file, blobs=str(tmp_path / "blobs"), store=f"sqlite:///{tmp_path}/x.db")
    *_, last = asyncio.run(chores.doctor(settings))
    assert (last.what, last.is_well) == ("key", False)


@pytest.mark.proves("R1.2", "R13.3")
def test_replay_wants_to_know_what_and_says_what_it_did(tmp_path: Path) -> None:
    told = run(tmp_path, "replay")
    assert (told.returncode, told.stderr) == (2, "gatehouse: name the ledger ids, or say --all\n")
    told = run(tmp_path, "replay", "no-such-row")
    assert (told.returncode, told.stdout) == (0, "no-such-row: not in the quarantine\n")


@pytest.mark.proves("R13.3", "T-L12")
def test_serve_says_every_problem_of_its_configuration_at_once(tmp_path: Path) -> None:
    bad = {
        "GATEHOUSE_PORT": "http",
        "GATEHOUSE_LOG_LEVEL": "loud",
        "GATEHOUSE_TRUSTED_PROXIES": "10.0.0.1,proxy.local",
        "GATEHOUSE_PUBLIC_URL": "desk.example.com",
    }
    told = run(tmp_path, "serve", more=bad)
    assert (told.returncode, told.stdout) == (2, "")
    lines = told.stderr.splitlines()
    assert sorted(line.split(" ")[1].rstrip(":") for line in lines) == [
        "log_level",
        "port",
        "public_url",
        "trusted_proxies",
    ]
    assert all(line.startswith("gatehouse: ") for line in lines)


@pytest.mark.proves("R13.3", "F-D10", "F-V04")
def test_a_second_house_is_refused_where_one_runs(tmp_path: Path) -> None:
    port = free_port()
    house = start(tmp_path, "serve", "--port", str(port))
    try:
        until_said(house, "Nobody can sign in yet")
        second = run(tmp_path, "serve", "--port", str(free_port()))
        assert (second.returncode, second.stderr) == (
            2,
            f"gatehouse: {tmp_path}/gatehouse.db is in use by another process\n",
        )
        other = tmp_path / "other"
        other.mkdir()
        told = run(other, "serve", "--port", str(port))
        assert told.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}" in told.stderr
        assert "Traceback" not in told.stderr
    finally:
        assert stop(house) == 0


@pytest.mark.proves("T-G11")
def test_a_house_does_not_open_with_the_key_of_another(tmp_path: Path) -> None:
    settings = config.load(
        store=f"sqlite:///{tmp_path}/gatehouse.db", blobs=str(tmp_path / "blobs"), key_file=tmp_path / "gatehouse.key"
    )
    assert all(finding.is_well for finding in asyncio.run(chores.doctor(settings)))
    settings.key_file.unlink()
    told = run(tmp_path, "serve", "--port", str(free_port()))
    refusal = "this store belongs to another key file: put the right one in its place"
    assert (told.returncode, told.stderr) == (2, f"gatehouse: {refusal}\n")
    last = asyncio.run(chores.doctor(settings))[-1]
    assert (last.is_well, refusal in last.words) == (False, True)


@pytest.mark.proves("R13.1", "F-V04")
def test_demo_runs_with_nothing_around_it_and_ends_when_told(tmp_path: Path) -> None:
    port = free_port()
    demo = start(tmp_path, "demo", "--port", str(port), "--data", str(tmp_path / "demo"))
    try:
        until_said(demo, "Be a customer")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=20) as answer:
            assert json.load(answer)["status"] == "ok"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/sign-in", timeout=20) as answer:
            page = answer.read().decode()
        assert 'name="password"' in page
    finally:
        assert stop(demo) == 0


def configured(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str | None = None, **environ: str) -> config.Config:
    for name in [name for name in os.environ if name.startswith("GATEHOUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    if text is not None:
        (folder / "gatehouse.toml").write_text(text)
    for name, value in environ.items():
        monkeypatch.setenv(f"GATEHOUSE_{name.upper()}", value)
    return config.load()


def test_environment_wins_over_the_file_and_the_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = 'port = 9000\nnode = "file"\ntrusted_proxies = ["10.0.0.0/8"]\n'
    read = configured(monkeypatch, tmp_path, text, node="env")
    assert (read.port, read.node, read.host, read.trusted_proxies) == (9000, "env", "127.0.0.1", ("10.0.0.0/8",))
    read = configured(monkeypatch, tmp_path, trusted_proxies="10.1.2.3, 2001:db8::/32")
    assert read.trusted_proxies == ("10.1.2.3", "2001:db8::/32")


@pytest.mark.proves("T-L12")
@pytest.mark.parametrize(
    ("text", "environ", "word"),
    [
        ('trusted_proxies = ["10.0.0.0/8", "10.0.0.0/33"]', {}, "trusted_proxies"),
        ('trusted_proxies = "proxy.local"', {}, "trusted_proxies"),
        ("", {"trusted_proxies": "*"}, "trusted_proxies"),
        ("", {"trusted_proxies": "10.0.0.1;10.0.0.2"}, "trusted_proxies"),
        ('public_url = "https://"', {}, "public_url"),
        ('public_url = "https://u@desk.test"', {}, "public_url"),
        ("", {"public_url": "https://desk.test:99999"}, "public_url"),
        ("port = ", {}, "gatehouse.toml"),
        ("colour = 1", {}, "colour"),
        ("", {"config": "absent.toml"}, "absent.toml"),
    ],
)
def test_a_malformed_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, environ: dict[str, str], word: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        configured(monkeypatch, tmp_path, text, **environ)
    (problem,) = refused.value.problems
    assert problem.startswith(word)
