"""The people API: what each role gets, over keys and over a browser's session."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest

from core import agents, audit, sessions
from core.access import Role, Scope
from gateway.web.api import people
from gateway.web.routing import Route
from tests.web.conftest import PASSWORD, Site


async def call(site: Site, method: str, path: str, headers: dict[str, str], body: Any = None) -> tuple[int, Any]:
    async with site.client.request(method, path, headers=headers, json=body) as answer:
        is_json = answer.content_type.endswith("json")
        return answer.status, await answer.json(content_type=None) if is_json else await answer.text()


@pytest.mark.proves("R8.2", "R13.1")
async def test_agent_is_added_seen_changed_and_shut_out(site: Site) -> None:
    admin = await site.key(await site.add("admin", Role.ADMIN, "Support"))
    _, listed = await call(site, "GET", "/api/v1/departments", admin)
    support = listed["items"][0]["id"]
    body = {"email": "Ann@Example.com", "name": "Ann", "departments": [support], "password": PASSWORD}
    status, ann = await call(site, "POST", "/api/v1/agents", admin, body)
    assert (status, ann["email"], ann["role"], ann["is_active"]) == (201, "ann@example.com", "agent", True)
    assert [item["name"] for item in ann["departments"]] == ["Support"]
    status, changed = await call(
        site, "PATCH", f"/api/v1/agents/{ann['id']}", admin, {"role": "admin", "alias": "Annie", "is_active": False}
    )
    assert (status, changed["role"], changed["alias"], changed["is_active"]) == (200, "admin", "Annie", False)
    assert await call(site, "GET", f"/api/v1/agents/{ann['id']}", admin) == (200, changed)
    assert "password" not in str(changed)


KEY = {"name": "x", "scopes": ["read"]}


@pytest.mark.proves("T-G12", "T-N06")
@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/api/v1/agents", {"email": "a@x.yz", "name": "A", "epoch": 1}, "epoch"),
        ("POST", "/api/v1/agents", {"email": "a@x.yz", "name": "A", "role": "king"}, "role"),
        ("POST", "/api/v1/agents", {"email": "a@x.yz"}, "name"),
        ("POST", "/api/v1/agents", {"email": "nonsense", "name": "A"}, "email"),
        ("POST", "/api/v1/agents", {"email": "a@x.yz", "name": "A", "password": "short"}, "password"),
        ("PATCH", "/api/v1/me", {"role": "owner"}, "role"),
        ("PATCH", "/api/v1/me", {"name": 5}, "name"),
        ("POST", "/api/v1/departments", {"name": "x", "is_default": True}, "is_default"),
        ("POST", "/api/v1/api-keys", {"name": "x", "scopes": []}, "scopes"),
        ("POST", "/api/v1/api-keys", {"name": "x", "scopes": ["read"], "agent": "y"}, "agent"),
        ("POST", "/api/v1/api-keys", {**KEY, "expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ("POST", "/api/v1/api-keys", {**KEY, "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
    ],
)  # fmt: skip
async def test_what_is_not_declared_or_does_not_fit_is_refused_by_name(
    site: Site, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    headers = await site.key(await site.add("owner", Role.OWNER))
    status, problem = await call(site, method, path, headers, body)
    assert (status, problem["code"]) == (422, "invalid")
    assert [error["field"].split(".")[0] for error in problem["errors"]] == [field]


NEEDED = {
    route.name: Role.ADMIN if route.policy in (people.MANAGE_AGENTS, people.MANAGE_DEPARTMENTS) else Role.AGENT
    for route in people.ROUTES
}


@pytest.mark.proves("R8.1", "T-G1")
@pytest.mark.parametrize(
    ("route", "role"), list(product(people.ROUTES, [None, *Role])), ids=lambda v: getattr(v, "name", v)
)
async def test_every_route_is_closed_to_those_below_its_role(site: Site, route: Route, role: Role | None) -> None:
    path = route.path.replace("{id}", "nobody").replace("{agent}", "nobody")
    headers = await site.key(await site.add("me", role)) if role else {}
    status, _ = await call(site, route.method, path, headers, {} if route.body else None)
    if role is None:
        assert status == 401
    elif route.policy.who == "session" or (role is Role.AGENT and NEEDED[route.name] is Role.ADMIN):
        assert status == 403
    else:
        assert status in (200, 404, 422)


@pytest.mark.proves("T-L06", "R8.7")
@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [((Scope.READ,), (200, 403)), ((Scope.ADMIN,), (403, 201)), ((Scope.WRITE,), (403, 403))],
)
async def test_key_does_only_what_its_scopes_say(
    site: Site, scopes: tuple[Scope, ...], statuses: tuple[int, int]
) -> None:
    headers = await site.key(await site.add("owner", Role.OWNER), *scopes)
    read, _ = await call(site, "GET", "/api/v1/agents", headers)
    write, _ = await call(site, "POST", "/api/v1/departments", headers, {"name": "Sales"})
    assert (read, write) == statuses


@pytest.mark.proves("T-L06")
async def test_key_makes_no_key_with_wider_scopes(site: Site) -> None:
    headers = await site.key(await site.add("owner", Role.OWNER), Scope.ADMIN)
    status, _ = await call(site, "POST", "/api/v1/api-keys", headers, {"name": "x", "scopes": ["admin", "write"]})
    assert status == 403
    status, made = await call(site, "POST", "/api/v1/api-keys", headers, {"name": "x", "scopes": ["admin"]})
    assert status == 201
    assert made["token"].startswith(made["key"]["prefix"])
    status, _ = await call(site, "DELETE", f"/api/v1/api-keys/{made['key']['id']}", headers)
    assert status == 204
    assert (await call(site, "GET", "/api/v1/api-keys", {"Authorization": f"Bearer {made['token']}"}))[0] == 401


@pytest.mark.proves("T-G2", "T-M12")
async def test_foreign_and_missing_things_get_the_same_answer(site: Site) -> None:
    me = await site.add("me", Role.AGENT, "Support")
    other = await site.add("other", Role.AGENT, "Sales")
    headers = await site.key(me)
    _, sales = await call(site, "GET", "/api/v1/departments", await site.key(other))
    answers = []
    for path in (
        f"/api/v1/agents/{other.public_id}",
        "/api/v1/agents/xxxxxxxxxxxxxxxxxxxxxxxxxxx",
        f"/api/v1/departments/{sales['items'][0]['id']}",
        f"/api/v1/departments/{sales['items'][0]['id']}/members",
        "/api/v1/departments/xxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "/api/v1/departments/%00",
    ):
        status, problem = await call(site, "GET", path, headers)
        problem.pop("ref")
        answers.append((status, problem))
    assert answers == [answers[0]] * len(answers)
    assert answers[0][0] == 404


@pytest.mark.proves("R13.1")
async def test_list_is_walked_page_by_page_and_cursors_are_not_made_up(site: Site) -> None:
    headers = await site.key(await site.add("a0", Role.ADMIN))
    for number in range(1, 7):
        await site.add(f"a{number}")
    seen: list[str] = []
    cursor = ""
    while True:
        path = "/api/v1/agents?limit=3" + (f"&cursor={cursor}" if cursor else "")
        _, page = await call(site, "GET", path, headers)
        seen += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert seen == [f"a{number}" for number in range(7)]
    for wrong in (cursor[:-2] + "xx", "AAAA", "%20", "é", cursor + "AAAA"):
        assert (await call(site, "GET", f"/api/v1/agents?cursor={wrong}", headers))[0] == 400
    assert (await call(site, "GET", f"/api/v1/departments?cursor={cursor}", headers))[0] == 400


@pytest.mark.proves("R13.1", "F-K10", "F-S15")
async def test_same_key_gives_the_same_answer_and_other_content_is_refused(site: Site) -> None:
    headers = {**await site.key(await site.add("owner", Role.OWNER)), "Idempotency-Key": "once"}
    first = await call(site, "POST", "/api/v1/departments", headers, {"name": "Sales"})
    again = await call(site, "POST", "/api/v1/departments", headers, {"name": "Sales"})
    assert first == again
    assert first[0] == 201
    status, problem = await call(site, "POST", "/api/v1/departments", headers, {"name": "Other"})
    assert (status, problem["code"]) == (409, "idempotency_key_reused")
    elsewhere = {**await site.key(await site.add("second", Role.OWNER)), "Idempotency-Key": "once"}
    assert (await call(site, "POST", "/api/v1/departments", elsewhere, {"name": "Theirs"}))[0] == 201


@pytest.mark.proves("F-S15")
async def test_twins_at_the_same_moment_have_one_effect(site: Site) -> None:
    headers = {**await site.key(await site.add("owner", Role.OWNER)), "Idempotency-Key": "twin"}
    answers = await asyncio.gather(
        *(call(site, "POST", "/api/v1/agents", headers, {"email": "a@example.com", "name": "A"}) for _ in range(8))
    )
    assert {status for status, _ in answers} <= {201, 409}
    assert len({body["id"] for status, body in answers if status == 201}) == 1
    assert {body["code"] for status, body in answers if status == 409} <= {"idempotency_in_progress"}


async def test_failed_request_leaves_its_key_free(site: Site) -> None:
    headers = {**await site.key(await site.add("owner", Role.OWNER)), "Idempotency-Key": "k"}
    assert (await call(site, "POST", "/api/v1/departments", headers, {"name": " "}))[0] == 422
    assert (await call(site, "POST", "/api/v1/departments", headers, {"name": "Sales"}))[0] == 201


@pytest.mark.parametrize("key", ["", " ", "é", "x" * 256, "a b"])
async def test_key_that_is_none_is_refused(site: Site, key: str) -> None:
    headers = {**await site.key(await site.add("owner", Role.OWNER)), "Idempotency-Key": key}
    assert (await call(site, "POST", "/api/v1/departments", headers, {"name": "Sales"}))[0] == 400


@pytest.mark.proves("T-G11")
async def test_answer_with_a_secret_is_not_kept_for_repeats(site: Site) -> None:
    headers = {**await site.key(await site.add("owner", Role.OWNER)), "Idempotency-Key": "k"}
    status, problem = await call(site, "POST", "/api/v1/api-keys", headers, {"name": "x", "scopes": ["read"]})
    assert (status, problem["code"]) == (400, "idempotency_unsupported")


@pytest.mark.proves("R8.3", "R8.7", "T-L04")
async def test_own_password_needs_the_present_one_and_renews_the_session(site: Site) -> None:
    me = await site.add("me")
    headers = await site.sign_in(me)
    wrong = {"current": "not that one at all", "password": "another long one"}
    status, problem = await call(site, "PUT", "/api/v1/me/password", headers, wrong)
    assert (status, problem["errors"][0]["field"]) == (422, "current")
    right = {"current": PASSWORD, "password": "another long one"}
    before = {cookie.key: cookie.value for cookie in site.client.session.cookie_jar}
    assert (await call(site, "PUT", "/api/v1/me/password", headers, right))[0] == 204
    after = {cookie.key: cookie.value for cookie in site.client.session.cookie_jar}
    assert before["gatehouse"] != after["gatehouse"]
    assert (await call(site, "GET", "/api/v1/me", {}))[0] == 200
    assert await site.services.db.read(sessions.resolve, before["gatehouse"], site.clock.now()) is None


async def test_own_sessions_are_listed_and_ended(site: Site) -> None:
    headers = await site.sign_in(await site.add("me"))
    _, listed = await call(site, "GET", "/api/v1/sessions", {})
    assert len(listed["items"]) == 1
    assert (await call(site, "DELETE", f"/api/v1/sessions/{listed['items'][0]['id']}", headers))[0] == 204
    assert (await call(site, "GET", "/api/v1/me", {}))[0] == 401


@pytest.mark.proves("R8.8")
async def test_changes_of_people_are_in_the_audit_log_with_their_author(site: Site) -> None:
    owner = await site.add("owner", Role.OWNER)
    headers = await site.sign_in(owner)
    target = await site.add("target")
    await call(site, "PATCH", f"/api/v1/agents/{target.public_id}", headers, {"role": "admin"})
    entry = (await site.services.db.read(audit.entries))[0]
    assert (entry.action, entry.actor, entry.object) == (
        "agent.role",
        f"agent:{owner.public_id}",
        f"agent:{target.public_id}",
    )
    assert (entry.before, entry.after, entry.address) == ({"role": "agent"}, {"role": "admin"}, "127.0.0.1")
    assert await site.services.db.read(audit.verify, site.services.keys.audit) is None


@pytest.mark.proves("R8.1")
async def test_admin_changes_nothing_of_an_owner_not_even_in_part(site: Site) -> None:
    owner = await site.add("owner", Role.OWNER)
    admin = await site.key(await site.add("admin", Role.ADMIN))
    for method, path, body in (
        ("PATCH", f"/api/v1/agents/{owner.public_id}", {"name": "Fool"}),
        ("PATCH", f"/api/v1/agents/{owner.public_id}", {"departments": []}),
        ("PATCH", f"/api/v1/agents/{owner.public_id}", {}),
        ("PUT", f"/api/v1/agents/{owner.public_id}/password", {"password": PASSWORD}),
    ):
        assert (await call(site, method, path, admin, body))[0] == 403
    found = await site.services.db.read(agents.find, owner.public_id)
    assert found is not None
    assert found.name == "owner"
