"""Agents, departments, sessions, keys, passwords and throttling, on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Connection

from core import agents, api_keys, audit, departments, passwords, sessions, throttle
from core.access import SYSTEM, Actor, Role, Scope, visible_departments
from core.audit import By
from core.errors import Conflict, CoreError, Invalid, NotFound, PermissionDenied
from core.store.database import PostgresDatabase, SqliteDatabase

Store = SqliteDatabase | PostgresDatabase
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUSE = By(actor=SYSTEM, now=NOW, key=b"k" * 32)


async def add(store: Store, name: str, role: Role = Role.AGENT, *, by: By = HOUSE) -> agents.Agent:
    return await store.write(agents.create, by, email=f"{name}@example.com", name=name, role=role)


async def acting(store: Store, agent: agents.Agent) -> By:
    actor = await store.read(agents.actor_of, agent.id)
    assert actor is not None
    return replace(HOUSE, actor=actor)


async def test_agent_comes_back_as_created_and_is_audited(store: Store) -> None:
    made = await store.write(agents.create, HOUSE, email=" Ann@Example.COM", name=" Ann ", role=Role.ADMIN)
    assert (made.email, made.name, made.role, made.is_active) == ("ann@example.com", "Ann", Role.ADMIN, True)
    assert len(made.public_id) == 26
    entry = (await store.read(audit.entries))[0]
    assert (entry.action, entry.object, entry.after["role"]) == ("agent.create", f"agent:{made.public_id}", "admin")


@pytest.mark.parametrize(
    ("email", "name"),
    [("", "A"), ("no-at", "A"), ("@x", "A"), ("a@", "A"), ("a b@x", "A"), ("a@x\n", ""), ("a\x00@x", "A"),
     ("a" * 250 + "@x.yz", "A"), ("a@x", "  "), ("a@x", "n" * 201)],
)  # fmt: skip
async def test_unusable_address_or_name_is_refused(store: Store, email: str, name: str) -> None:
    with pytest.raises(Invalid):
        await store.write(agents.create, HOUSE, email=email, name=name, role=Role.AGENT)


async def test_address_taken_in_any_case_is_a_conflict(store: Store) -> None:
    await add(store, "ann")
    with pytest.raises(Conflict):
        await store.write(agents.create, HOUSE, email="ANN@example.com", name="Other", role=Role.AGENT)
    assert await store.read(audit.verify, HOUSE.key) is None


@pytest.mark.proves("R8.1", "R8.2", "T-L06")
@pytest.mark.parametrize(
    ("role", "target", "call", "error"),
    [
        (Role.AGENT, Role.AGENT, lambda by, who: (agents.create, by), PermissionDenied),
        (Role.ADMIN, Role.OWNER, lambda by, who: (agents.set_role, by, who, Role.AGENT), PermissionDenied),
        (Role.ADMIN, Role.AGENT, lambda by, who: (agents.set_role, by, who, Role.OWNER), PermissionDenied),
        (Role.ADMIN, Role.AGENT, lambda by, who: (agents.set_role, by, who, Role.ADMIN), None),
        (Role.ADMIN, Role.OWNER, lambda by, who: (agents.set_password, by, who, "h"), PermissionDenied),
        (Role.AGENT, Role.AGENT, lambda by, who: (agents.set_password, by, who, "h"), PermissionDenied),
        (Role.OWNER, Role.OWNER, lambda by, who: (agents.set_role, by, who, Role.AGENT), None),
    ],
)
async def test_rights_over_people_follow_the_roles(
    store: Store, role: Role, target: Role, call: Callable[[By, str], tuple[Any, ...]], error: type[CoreError] | None
) -> None:
    by = await acting(store, await add(store, "me", role))
    who = await add(store, "you", target)
    function, *args = call(by, who.public_id)
    extra = {"email": "new@example.com", "name": "New", "role": Role.AGENT} if function is agents.create else {}
    if error is None:
        await store.write(function, *args, **extra)
        return
    with pytest.raises(error):
        await store.write(function, *args, **extra)


@pytest.mark.proves("R8.1", "T-L06")
@pytest.mark.parametrize("how", ["demote", "shut out"])
async def test_last_owner_stays(store: Store, how: str) -> None:
    only = await add(store, "only", Role.OWNER)
    by = await acting(store, only)
    with pytest.raises(agents.LastOwner):
        if how == "demote":
            await store.write(agents.set_role, by, only.public_id, Role.ADMIN)
        else:
            await store.write(agents.set_active, by, only.public_id, is_active=False)


@pytest.mark.proves("T-L06")
async def test_two_owners_who_demote_each_other_at_once_leave_one(store: Store) -> None:
    first, second = [await add(store, name, Role.OWNER) for name in ("first", "second")]
    results = await asyncio.gather(
        store.write(agents.set_role, await acting(store, first), second.public_id, Role.AGENT),
        store.write(agents.set_role, await acting(store, second), first.public_id, Role.AGENT),
        return_exceptions=True,
    )
    assert sum(isinstance(result, agents.LastOwner) for result in results) == 1, results


@pytest.mark.proves("R8.3", "T-L05")
@pytest.mark.parametrize("change", ["role", "departments", "shut out", "password"])
async def test_change_of_rights_ends_sessions_at_once(store: Store, change: str) -> None:
    who = await add(store, "who")
    support = await store.write(departments.create, HOUSE, name="Support")
    opened = await store.write(sessions.open_session, who.id, NOW, epoch=who.epoch)
    assert await store.read(sessions.resolve, opened.token, NOW) is not None
    match change:
        case "role":
            await store.write(agents.set_role, HOUSE, who.public_id, Role.ADMIN)
        case "departments":
            await store.write(departments.add_member, HOUSE, support.public_id, who.public_id)
        case "shut out":
            await store.write(agents.set_active, HOUSE, who.public_id, is_active=False)
        case "password":
            await store.write(agents.set_password, HOUSE, who.public_id, "hash")
    assert await store.read(sessions.resolve, opened.token, NOW) is None


@pytest.mark.proves("T-L05")
async def test_session_opened_with_rights_from_before_a_change_is_void(store: Store) -> None:
    who = await add(store, "who")
    await store.write(agents.set_role, HOUSE, who.public_id, Role.ADMIN)
    opened = await store.write(sessions.open_session, who.id, NOW, epoch=who.epoch)  # the password was checked before
    assert await store.read(sessions.resolve, opened.token, NOW) is None


@pytest.mark.proves("R8.7", "T-L04")
@pytest.mark.parametrize(
    ("used_after", "asked_after", "is_valid"),
    [
        ([], timedelta(hours=11, minutes=59), True),
        ([], timedelta(hours=12), False),
        ([timedelta(hours=11)], timedelta(hours=22), True),
        ([timedelta(hours=hours) for hours in range(0, 168, 6)], timedelta(days=7), False),
    ],
)
async def test_session_ends_when_idle_and_after_a_week(
    store: Store, used_after: list[timedelta], asked_after: timedelta, is_valid: bool
) -> None:
    who = await add(store, "who")
    opened = await store.write(sessions.open_session, who.id, NOW, epoch=who.epoch)
    for after in used_after:
        resolved = await store.read(sessions.resolve, opened.token, NOW + after)
        assert resolved is not None
        await store.write(sessions.touch, resolved.id, NOW + after)
    assert (await store.read(sessions.resolve, opened.token, NOW + asked_after) is not None) == is_valid


@pytest.mark.proves("R8.7", "T-L04")
async def test_rotated_session_has_a_new_token_and_the_old_one_is_void(store: Store) -> None:
    who = await add(store, "who")
    old = await store.write(sessions.open_session, who.id, NOW, epoch=who.epoch)
    new = await store.write(sessions.rotate, old.token, NOW)
    assert new is not None
    assert new.token != old.token
    assert new.csrf != old.csrf
    assert await store.read(sessions.resolve, old.token, NOW) is None
    assert await store.read(sessions.resolve, new.token, NOW) is not None
    assert await store.write(sessions.rotate, old.token, NOW) is None


@pytest.mark.proves("R8.7", "T-L04")
async def test_own_sessions_are_listed_and_revoked_and_foreign_ones_are_not_found(store: Store) -> None:
    me, other = await add(store, "me"), await add(store, "other")
    mine = await store.write(sessions.open_session, me.id, NOW, epoch=me.epoch, address="192.0.2.1")
    theirs = await store.write(sessions.open_session, other.id, NOW, epoch=other.epoch)
    by = await acting(store, me)
    listed = await store.read(sessions.list_own, by.actor, NOW)
    assert [item.address for item in listed] == ["192.0.2.1"]
    foreign = (await store.read(sessions.list_own, (await acting(store, other)).actor, NOW))[0]
    with pytest.raises(NotFound):
        await store.write(sessions.revoke, by, foreign.public_id)
    await store.write(sessions.revoke, by, listed[0].public_id)
    assert await store.read(sessions.resolve, mine.token, NOW) is None
    assert await store.read(sessions.resolve, theirs.token, NOW) is not None


@pytest.mark.proves("T-G13", "T-L08")
async def test_no_secret_is_stored_in_clear(store: Store) -> None:
    who = await add(store, "who", Role.OWNER)
    opened = await store.write(sessions.open_session, who.id, NOW, epoch=who.epoch)
    _, token = await store.write(
        api_keys.create, await acting(store, who), name="k", scopes=frozenset({Scope.READ}), expires_at=None
    )
    code = await store.write(agents.first_owner_code)
    assert code is None
    assert len(opened.token) >= 43
    assert len(token) >= 47

    def everything(conn: Connection) -> str:
        from core.store.schema import metadata

        return repr([row for table in metadata.sorted_tables for row in conn.execute(table.select())])

    stored = await store.read(everything)
    assert opened.token not in stored
    assert token not in stored
    assert token.encode().hex() not in stored


@pytest.mark.proves("R8.7", "T-L06", "T-L08")
async def test_api_key_follows_its_owner_down(store: Store) -> None:
    await add(store, "other", Role.OWNER)
    owner = await add(store, "owner", Role.OWNER)
    by = await acting(store, owner)
    made, token = await store.write(
        api_keys.create, by, name="sync", scopes=frozenset(Scope), expires_at=NOW + timedelta(days=1)
    )
    resolved = await store.read(api_keys.resolve, token, NOW)
    assert resolved is not None
    assert (resolved.actor.role, resolved.actor.public_id) == (Role.OWNER, made.public_id)
    await store.write(agents.set_role, HOUSE, owner.public_id, Role.AGENT)
    resolved = await store.read(api_keys.resolve, token, NOW)
    assert resolved is not None
    assert resolved.actor.role is Role.AGENT
    await store.write(agents.set_active, HOUSE, owner.public_id, is_active=False)
    assert await store.read(api_keys.resolve, token, NOW) is None


@pytest.mark.proves("T-L08")
@pytest.mark.parametrize("end", ["expired", "revoked", "mistyped", "without prefix"])
async def test_api_key_that_is_over_is_nobodys(store: Store, end: str) -> None:
    by = await acting(store, await add(store, "me"))
    made, token = await store.write(
        api_keys.create, by, name="k", scopes=frozenset({Scope.READ}), expires_at=NOW + timedelta(days=1)
    )
    at = NOW
    match end:
        case "expired":
            at += timedelta(days=1)
        case "revoked":
            assert (await store.write(api_keys.revoke, by, made.public_id)).revoked_at == NOW
        case "mistyped":
            token = token[:-1] + ("A" if token[-1] != "A" else "B")
        case "without prefix":
            token = token.removeprefix(api_keys.PREFIX)
    assert await store.read(api_keys.resolve, token, at) is None


async def test_use_of_a_key_is_noted_once_a_minute(store: Store) -> None:
    by = await acting(store, await add(store, "me"))
    _, token = await store.write(api_keys.create, by, name="k", scopes=frozenset({Scope.READ}), expires_at=None)
    resolved = await store.read(api_keys.resolve, token, NOW)
    assert resolved is not None
    assert resolved.is_to_touch
    await store.write(api_keys.touch, resolved.id, NOW)
    due = [
        found.is_to_touch
        for seconds in (0, 59, 60)
        if (found := await store.read(api_keys.resolve, token, NOW + timedelta(seconds=seconds))) is not None
    ]
    assert due == [False, False, True]


@pytest.mark.proves("R8.5", "T-M13")
async def test_departments_decide_what_an_agent_sees(store: Store) -> None:
    who = await add(store, "who")

    async def visible() -> frozenset[int] | None:
        return visible_departments((await acting(store, who)).actor)

    assert await visible() is None  # no department in the house: everybody sees all
    support = await store.write(departments.create, HOUSE, name="Support")
    sales = await store.write(departments.create, HOUSE, name="Sales")
    assert (support.is_default, sales.is_default) == (True, False)
    assert await visible() == frozenset()
    await store.write(departments.add_member, HOUSE, support.public_id, who.public_id)
    assert await visible() == frozenset({support.id})
    actor = (await acting(store, who)).actor
    assert [item.name for item in await store.read(departments.list_visible, actor)] == ["Support"]
    with pytest.raises(NotFound):
        await store.read(departments.get, actor, sales.public_id)
    await store.write(departments.remove_member, HOUSE, support.public_id, who.public_id)
    assert await visible() == frozenset()


async def test_agent_sees_only_colleagues(store: Store) -> None:
    me, near, far = [await add(store, name) for name in ("me", "near", "far")]
    support = await store.write(departments.create, HOUSE, name="Support")
    for agent in (me, near):
        await store.write(departments.add_member, HOUSE, support.public_id, agent.public_id)
    actor = (await acting(store, me)).actor
    assert [item.name for item in await store.read(agents.list_visible, actor)] == ["me", "near"]
    with pytest.raises(NotFound):
        await store.read(agents.get, actor, far.public_id)
    assert [item.name for item in await store.read(departments.members, actor, support.public_id)] == ["me", "near"]


async def test_department_is_renamed_once_and_names_are_unique(store: Store) -> None:
    support = await store.write(departments.create, HOUSE, name="Support")
    await store.write(departments.create, HOUSE, name="Sales")
    with pytest.raises(Conflict):
        await store.write(departments.change, HOUSE, support.public_id, name="Sales")
    changed = await store.write(departments.change, HOUSE, support.public_id, name="Help", reopen_days=3)
    assert (changed.name, changed.reopen_days) == ("Help", 3)
    entry = (await store.read(audit.entries))[0]
    assert (entry.before, entry.after) == ({"name": "Support", "reopen_days": 14}, {"name": "Help", "reopen_days": 3})


@pytest.mark.proves("T-L11")
async def test_first_owner_needs_the_code_and_comes_once_under_race(store: Store) -> None:
    code = await store.write(agents.first_owner_code)
    assert code is not None
    assert await store.read(agents.needs_first_owner)

    async def come(name: str, used: str) -> agents.Agent:
        return await store.write(
            agents.create_first_owner, HOUSE, code=used, email=f"{name}@example.com", name=name, password_hash="h"
        )

    with pytest.raises(Invalid):
        await come("thief", "guess")
    results = await asyncio.gather(*(come(f"o{number}", code) for number in range(6)), return_exceptions=True)
    assert sum(isinstance(result, agents.Agent) for result in results) == 1
    assert sum(isinstance(result, agents.SetUpAlready) for result in results) == 5, results
    assert await store.write(agents.first_owner_code) is None
    with pytest.raises(agents.SetUpAlready):
        await come("late", code)


@pytest.mark.proves("T-L11")
async def test_code_of_a_former_start_is_void(store: Store) -> None:
    old = await store.write(agents.first_owner_code)
    new = await store.write(agents.first_owner_code)
    assert old is not None
    assert old != new
    with pytest.raises(Invalid):
        await store.write(
            agents.create_first_owner, HOUSE, code=old, email="a@example.com", name="a", password_hash="h"
        )


@pytest.mark.proves("R8.7", "T-L01", "T-R02")
async def test_tries_beyond_the_limit_wait_twice_as_long_each_time(store: Store) -> None:
    limits = [throttle.Limit(key="a", tries=3)]
    now = NOW
    for _ in range(3):
        await store.write(throttle.count, limits, now)
    waits = []
    for _ in range(7):
        with pytest.raises(throttle.Throttled) as refused:
            await store.write(throttle.count, limits, now)
        waits.append(int(refused.value.retry_after.total_seconds()))
        now += refused.value.retry_after
        await store.write(throttle.count, limits, now)
    assert waits == [15, 30, 60, 120, 240, 480, 900]
    await store.write(throttle.count, limits, now)  # a whole window went by: it counts from one again


@pytest.mark.proves("T-L01")
async def test_strangers_cannot_lock_out_a_known_device(store: Store) -> None:
    limits = throttle.login_limits("ann@example.com", "192.0.2.7", None)
    for number in range(10):
        await store.write(throttle.count, throttle.login_limits("ann@example.com", f"10.{number}.0.1", None), NOW)
    with pytest.raises(throttle.Throttled):
        await store.write(throttle.count, limits, NOW)
    await store.write(throttle.count, throttle.login_limits("ann@example.com", "192.0.2.7", "device"), NOW)


@pytest.mark.proves("T-L01")
async def test_one_network_has_one_counter_for_all_accounts(store: Store) -> None:
    for number in range(50):
        limits = throttle.login_limits(f"a{number}@example.com", f"198.51.100.{number}", None)
        await store.write(throttle.count, limits, NOW)
    with pytest.raises(throttle.Throttled):
        await store.write(throttle.count, throttle.login_limits("z@example.com", "198.51.100.200", None), NOW)
    await store.write(throttle.count, throttle.login_limits("z@example.com", "203.0.113.1", None), NOW)
    await store.write(throttle.forget, NOW + throttle.WINDOW)
    await store.write(throttle.count, throttle.login_limits("z@example.com", "198.51.100.200", None), NOW)


async def test_parallel_tries_are_all_counted(store: Store) -> None:
    limits = throttle.login_limits("ann@example.com", "192.0.2.7", None)
    results = await asyncio.gather(
        *(store.write(throttle.count, limits, NOW) for _ in range(30)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 10


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2ff:3::4", "2001:db8:1:200::/56"),
        ("", "unknown"),
        ("<script>", "unknown"),
    ],
)
def test_addresses_of_one_network_share_a_prefix(address: str, network: str) -> None:
    assert throttle.prefix(address) == network


@pytest.fixture
async def hasher() -> AsyncIterator[passwords.Passwords]:
    made = passwords.Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    yield made
    made.close()


@pytest.mark.proves("R8.7")
async def test_right_password_is_right_however_it_is_composed(hasher: passwords.Passwords) -> None:
    stored = await hasher.hash("caf\u00e9 au lait")
    assert stored.startswith("$argon2id$")
    assert (await hasher.check(stored, "cafe\u0301 au lait")).is_right
    for wrong in ("cafe au lait", "", "x" * 5000, "\ud800"):
        assert not (await hasher.check(stored, wrong)).is_right


@pytest.mark.proves("T-L01", "T-L10")
async def test_nobodys_password_is_never_right_and_still_verified(
    hasher: passwords.Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str | bytes] = []

    class Spy(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Any:
            verified.append(hash)
            return super().verify(hash, password)

    spied = passwords.Passwords(Spy(time_cost=1, memory_cost=64, parallelism=1))
    assert not (await spied.check(None, "nobody has this password")).is_right
    assert len(verified) == 1
    spied.close()


async def test_old_parameters_are_renewed_at_a_right_sign_in(hasher: passwords.Passwords) -> None:
    old = PasswordHasher(time_cost=2, memory_cost=64, parallelism=1).hash("correct horse")
    checked = await hasher.check(old, "correct horse")
    assert checked.is_right
    assert checked.rehashed is not None
    assert (await hasher.check(checked.rehashed, "correct horse")).rehashed is None


@pytest.mark.parametrize("password", ["", "short", "é" * 9, "x" * 1025])
async def test_unusable_password_is_refused(hasher: passwords.Passwords, password: str) -> None:
    with pytest.raises(Invalid):
        await hasher.hash(password)


def test_default_parameters_are_those_of_the_rfc() -> None:
    made = passwords.Passwords()
    parameters = made._hasher._parameters
    made.close()
    assert (parameters.time_cost, parameters.memory_cost, parameters.parallelism) == (3, 65536, 4)


async def test_actor_of_someone_shut_out_is_nobody(store: Store) -> None:
    who = await add(store, "who")
    found: Actor | None = await store.read(agents.actor_of, who.id)
    assert found is not None
    await store.write(agents.set_active, HOUSE, who.public_id, is_active=False)
    assert await store.read(agents.actor_of, who.id) is None
    assert await store.read(agents.credentials, "who@example.com") is None
