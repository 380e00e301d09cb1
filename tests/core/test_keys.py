"""The house's key: made once, kept to itself, bound to its store; every use has a key of its own."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.keys import KEY_BYTES, Keys, KeyUnusable, check_owner, load_or_make
from core.store.database import PostgresDatabase, SqliteDatabase

KEYS = Keys(bytes(range(KEY_BYTES)))
OTHER = Keys(bytes(KEY_BYTES))


@pytest.mark.proves("T-G11")
def test_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    made = load_or_make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(path.read_text().strip())) == KEY_BYTES
    assert load_or_make(path).fingerprint == made.fingerprint
    assert [item.name for item in path.parent.iterdir()] == ["key"]
    assert load_or_make(tmp_path / "other").fingerprint != made.fingerprint


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from core.keys import load_or_make; " + (
        "print(load_or_make(Path(sys.argv[1])).fingerprint)"
    )
    line = [sys.executable, "-c", script, str(tmp_path / "key")]
    running = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0] * 2
    assert said == {load_or_make(tmp_path / "key").fingerprint + "\n"}


@pytest.mark.proves("T-G4")
@pytest.mark.parametrize("content", ["", "zz", "ab" * 31, "ab" * 33, "g" * 64, "ä" * 64])
def test_file_that_is_no_key_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(KeyUnusable):
        load_or_make(path)
    assert path.read_text() == content


@pytest.mark.proves("T-G11")
def test_keys_show_nothing_and_differ_by_use() -> None:
    assert repr(KEYS) == str(KEYS) == "Keys(***)"
    used = {KEYS.tokens, KEYS.evidence, KEYS.audit}
    assert len(used) == 3
    assert all(len(key) == KEY_BYTES for key in used)


@pytest.mark.proves("T-G11")
@settings(max_examples=30)
@given(st.binary(max_size=200), st.text(max_size=20), st.integers(0, 2**32))
def test_sealed_secret_opens_only_whole_with_its_key_and_purpose(plain: bytes, purpose: str, place: int) -> None:
    sealed = KEYS.seal(plain, purpose=purpose)
    assert KEYS.open(sealed, purpose=purpose) == plain
    assert KEYS.seal(plain, purpose=purpose) != sealed, "a nonce was used twice"
    place %= len(sealed)
    damaged = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
    for wrong in (damaged, sealed[:-1], sealed[: place % 12], b""):
        with pytest.raises(KeyUnusable):
            KEYS.open(wrong, purpose=purpose)
    with pytest.raises(KeyUnusable):
        KEYS.open(sealed, purpose=purpose + "x")
    with pytest.raises(KeyUnusable):
        OTHER.open(sealed, purpose=purpose)


@pytest.mark.proves("T-G4")
async def test_store_knows_its_key_again(store: SqliteDatabase | PostgresDatabase) -> None:
    for _ in range(2):
        await store.write(check_owner, KEYS)
    with pytest.raises(KeyUnusable, match="another key"):
        await store.write(check_owner, OTHER)
    await store.write(check_owner, KEYS)
