"""Every route that changes something, from a foreign page: refused (T-L07)."""

from __future__ import annotations

from itertools import product

import pytest

from core.access import Role
from gateway.web import sign_in
from gateway.web.api import people
from gateway.web.routing import Route
from tests.web.conftest import MakeSite, Site, draw

STORES = ("sqlite",)
DOORS = sign_in.routes(draw_sign_in=draw, draw_setup=draw)
UNSAFE = [route for route in (*people.ROUTES, *DOORS) if route.is_unsafe]

# What a browser says about where the request comes from; {own} is our origin.
FOREIGN: dict[str, dict[str, str]] = {
    "other site": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    "other origin alone": {"Origin": "https://evil.example"},
    "other port": {"Origin": "http://127.0.0.1:1"},
    "sibling": {"Origin": "{own}", "Sec-Fetch-Site": "same-site"},
    "sandboxed frame": {"Origin": "null"},
    "silent": {},
    "typed in": {"Sec-Fetch-Site": "none"},
    "own, said twice": {"Origin": "{own}", "Sec-Fetch-Site": "cross-site"},
}


async def send(site: Site, route: Route, headers: dict[str, str]) -> tuple[int, str]:
    path = route.path.replace("{id}", "nobody").replace("{agent}", "nobody")
    arguments = {"data": {"csrf": headers.get("X-CSRF-Token", "")}} if route.form else {"json": {}}
    async with site.client.request(route.method, path, headers=headers, allow_redirects=False, **arguments) as answer:  # type: ignore[arg-type]  # one of two keywords
        is_json = answer.content_type.endswith("json")
        return answer.status, (await answer.json(content_type=None))["code"] if is_json else await answer.text()


@pytest.mark.proves("T-L07")
@pytest.mark.parametrize("route", UNSAFE, ids=lambda route: route.name)
async def test_foreign_page_changes_nothing_even_with_the_right_token(site: Site, route: Route) -> None:
    token = await site.sign_in(await site.add("me", Role.OWNER))
    own = token.pop("Origin")
    for said in FOREIGN.values():
        headers = token | {name: text.replace("{own}", own) for name, text in said.items()}
        status, _ = await send(site, route, headers)
        assert status == 403, said
    async with site.client.get("/api/v1/me") as answer:
        assert answer.status == 200  # a foreign page does not even sign anybody out


@pytest.mark.proves("T-L07")
@pytest.mark.parametrize(("route", "token"), list(product(UNSAFE, ["", "x" * 43])), ids=lambda v: getattr(v, "name", v))
async def test_own_page_without_the_token_changes_nothing(site: Site, route: Route, token: str) -> None:
    headers = await site.sign_in(await site.add("me", Role.OWNER))
    headers["X-CSRF-Token"] = token
    status, _ = await send(site, route, headers)
    assert status == 403
    async with site.client.get("/api/v1/me") as answer:
        assert answer.status == 200


@pytest.mark.proves("T-L07")
async def test_api_key_beside_a_cookie_speaks_for_itself(site: Site) -> None:
    owner = await site.add("owner", Role.OWNER)
    await site.sign_in(owner)
    body = {"name": "Sales"}
    async with site.client.post("/api/v1/departments", json=body, headers={"Authorization": "Bearer x"}) as answer:
        assert answer.status == 401  # the cookie does not help out
    async with site.client.post("/api/v1/departments", json=body, headers=await site.key(owner)) as answer:
        assert answer.status == 201


@pytest.mark.proves("T-L07")
async def test_method_cannot_be_overridden(site: Site) -> None:
    await site.sign_in(await site.add("me", Role.OWNER))
    for header in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        async with site.client.get("/api/v1/me", headers={header: "DELETE"}) as answer:
            assert answer.status == 200


async def test_page_behind_a_tls_proxy_is_its_own_origin(make_site: MakeSite) -> None:
    site = await make_site(public_url="https://help.example.com")
    me = await site.add("me", Role.OWNER)
    form = {"email": me.email, "password": "wrong"}
    headers = {"Host": "help.example.com", "Origin": "https://help.example.com", "Sec-Fetch-Site": "same-origin"}
    async with site.client.post("/sign-in", data=form, headers=headers) as answer:
        assert answer.status == 401
    headers["Origin"] = "http://help.example.com"
    async with site.client.post("/sign-in", data=form, headers=headers) as answer:
        assert answer.status == 403


def test_no_get_has_a_body() -> None:
    assert all(not (route.body or route.form) for route in people.ROUTES if not route.is_unsafe)
