"""Signing in and out, the first owner, throttling, where one is sent afterwards."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDictProxy
from sqlalchemy import Connection
from yarl import URL

from core import agents, throttle
from core.access import Role
from core.store import schema
from core.store.schema import session
from gateway.web import security
from tests.web.conftest import PASSWORD, MakeSite, Site


async def try_sign_in(site: Site, email: str, password: str, **form: str) -> tuple[int, str, CIMultiDictProxy[str]]:
    fields = {"email": email, "password": password, **form}
    headers = {"Origin": site.origin}
    async with site.client.post("/sign-in", data=fields, headers=headers, allow_redirects=False) as answer:
        return answer.status, await answer.text(), answer.headers


def count_sessions(conn: Connection) -> int:
    return conn.execute(sa.select(sa.func.count()).select_from(session)).scalar_one()


@pytest.mark.proves("R8.7", "T-L04")
async def test_right_password_opens_a_session_in_a_guarded_cookie(site: Site) -> None:
    me = await site.add("me")
    status, _, headers = await try_sign_in(site, " ME@example.com ", PASSWORD, next="/tickets?x=1")
    assert (status, headers["Location"]) == (303, "/tickets?x=1")
    cookie = next(text for text in headers.getall("Set-Cookie") if text.startswith("gatehouse="))
    assert {part.strip() for part in cookie.split(";")[1:]} >= {"HttpOnly", "SameSite=Lax", "Path=/"}
    async with site.client.get("/api/v1/me") as answer:
        assert (await answer.json())["id"] == me.public_id


@pytest.mark.proves("T-L04")
async def test_cookie_behind_https_is_bound_to_the_host(make_site: MakeSite) -> None:
    site = await make_site(public_url="https://help.example.com")
    me = await site.add("me")
    headers = {"Origin": "https://help.example.com", "Host": "help.example.com"}
    form = {"email": me.email, "password": PASSWORD}
    async with site.client.post("/sign-in", data=form, headers=headers, allow_redirects=False) as answer:
        cookies = answer.headers.getall("Set-Cookie")
        assert all(cookie.startswith("__Host-gatehouse") and "Secure" in cookie for cookie in cookies)
        assert "Domain" not in str(cookies)
        assert answer.headers["Strict-Transport-Security"]


@pytest.mark.proves("T-L01", "T-L10", "T-L13")
async def test_unknown_wrong_and_shut_out_get_the_same_answer_and_no_session(site: Site) -> None:
    await site.add("known")
    shut = await site.add("shut")
    await site.services.db.write(agents.set_active, site.house, shut.public_id, is_active=False)
    answers = []
    for email, password in (
        ("known@example.com", "wrong password"),
        ("unknown@example.com", "wrong password"),
        ("shut@example.com", PASSWORD),
    ):
        status, text, headers = await try_sign_in(site, email, password)
        answers.append((status, text.replace(email, ""), sorted(set(headers) - {"Date"}), "Set-Cookie" in headers))
    assert answers == [answers[0]] * 3
    assert answers[0][0] == 401
    assert not answers[0][3]
    assert await site.services.db.read(count_sessions) == 0


@pytest.mark.proves("T-L04")
async def test_session_of_before_is_void_after_signing_in_again(site: Site) -> None:
    me = await site.add("me")
    csrf = (await site.sign_in(me))["X-CSRF-Token"]
    old = site.client.session.cookie_jar.filter_cookies(URL(site.origin))["gatehouse"].value
    assert (await site.sign_in(me, csrf=csrf))["X-CSRF-Token"] != csrf
    site.client.session.cookie_jar.clear()
    async with site.client.get("/api/v1/me", headers={"Cookie": f"gatehouse={old}"}) as answer:
        assert answer.status == 401


@pytest.mark.proves("T-L04")
async def test_session_that_somebody_planted_is_not_taken_over(site: Site) -> None:
    me = await site.add("me")
    site.client.session.cookie_jar.update_cookies({"gatehouse": "planted"}, URL(site.origin))
    await site.sign_in(me)
    assert site.client.session.cookie_jar.filter_cookies(URL(site.origin))["gatehouse"].value != "planted"


@pytest.mark.proves("T-E13")
async def test_signing_out_ends_the_session_and_clears_the_browser(site: Site) -> None:
    headers = await site.sign_in(await site.add("me"))
    form = {"csrf": headers.pop("X-CSRF-Token")}
    async with site.client.post("/sign-out", data=form, headers=headers, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/sign-in")
        assert "cache" in answer.headers["Clear-Site-Data"]
    assert await site.services.db.read(count_sessions) == 0


@pytest.mark.proves("R8.7", "T-L01")
async def test_guessing_is_slowed_down_and_a_known_device_gets_in(site: Site) -> None:
    me = await site.add("me")
    await site.sign_in(me)
    device = site.client.session.cookie_jar.filter_cookies(URL(site.origin))["gatehouse-device"].value
    site.client.session.cookie_jar.clear()
    statuses = [(await try_sign_in(site, me.email, f"guess {number}"))[0] for number in range(11)]
    assert statuses == [401] * 10 + [429]
    status, text, headers = await try_sign_in(site, me.email, PASSWORD)
    assert (status, "Retry-After" in headers) == (429, True)
    assert text.endswith("|throttled")
    site.client.session.cookie_jar.update_cookies({"gatehouse-device": device}, URL(site.origin))
    assert (await try_sign_in(site, me.email, PASSWORD))[0] == 303
    site.client.session.cookie_jar.clear()
    site.clock.move(timedelta(minutes=15))
    assert (await try_sign_in(site, me.email, PASSWORD))[0] == 303


@pytest.mark.proves("T-L01")
@pytest.mark.parametrize("forged", ["x", "x.y", "." * 50, "é.é", "x." + "0" * 64])
async def test_device_that_nobody_signed_in_from_is_a_stranger(site: Site, forged: str) -> None:
    me = await site.add("me")
    for number in range(10):
        await try_sign_in(site, me.email, f"guess {number}")
    headers = {"Origin": site.origin, "Cookie": f"gatehouse-device={forged}"}
    form = {"email": me.email, "password": PASSWORD}
    async with site.client.post("/sign-in", data=form, headers=headers) as answer:
        assert answer.status == 429


@pytest.mark.proves("T-L01")
async def test_strangers_from_everywhere_are_slowed_down_together_and_lock_nobody_of_the_house_out(
    make_site: MakeSite,
) -> None:
    site = await make_site(trusted_proxies=("127.0.0.1",))
    me, colleague, away = [await site.add(name) for name in ("me", "colleague", "away")]

    async def enter(email: str, password: str, place: str, device: str = "") -> tuple[int, str]:
        site.client.session.cookie_jar.clear()
        headers = {"Origin": site.origin, "X-Forwarded-For": place}
        if device:
            headers["Cookie"] = f"gatehouse-device={device}"
        form = {"email": email, "password": password}
        async with site.client.post("/sign-in", data=form, headers=headers, allow_redirects=False) as answer:
            morsel = answer.cookies.get("gatehouse-device")
            return answer.status, morsel.value if morsel is not None else ""

    device = (await enter(away.email, PASSWORD, "198.51.100.7"))[1]
    assert (await enter(me.email, PASSWORD, "192.0.2.10"))[0] == 303
    tried = sa.update(schema.throttle).values(tries=throttle.STRANGERS_TRIES - 1)
    storm = tried.where(schema.throttle.c.key == throttle.STRANGERS)
    assert await site.services.db.write(lambda conn: conn.execute(storm).rowcount) == 1
    assert (await enter("somebody@example.com", "stolen", "203.0.113.1"))[0] == 401
    assert (await enter("else@example.com", "stolen", "2001:db8::1"))[0] == 429
    assert (await enter(colleague.email, PASSWORD, "203.0.113.99"))[0] == 429
    assert (await enter(colleague.email, PASSWORD, "192.0.2.77"))[0] == 303, "a new device beside a colleague's"
    assert (await enter(away.email, PASSWORD, "203.0.113.98", device))[0] == 303, "a known device in a new place"
    assert (await enter(colleague.email, PASSWORD, "198.18.0.97", device))[0] == 429, "somebody else's device"
    site.clock.move(throttle.FIRST_DELAY)
    assert (await enter(colleague.email, PASSWORD, "198.18.1.99"))[0] == 303, "a stranger has to wait, no more"


@pytest.mark.proves("T-L01")
async def test_parallel_guesses_cannot_outrun_the_limit(site: Site) -> None:
    me = await site.add("me")
    answers = await asyncio.gather(*(try_sign_in(site, me.email, f"guess {number}") for number in range(20)))
    assert sorted(status for status, _, _ in answers) == [401] * 10 + [429] * 10


@pytest.mark.proves("T-L11")
async def test_set_up_makes_one_owner_and_closes(site: Site) -> None:
    code = await site.services.db.write(agents.first_owner_code)
    assert code is not None
    async with site.client.get("/sign-in", allow_redirects=False) as answer:
        assert answer.headers["Location"] == "/setup"

    async def set_up(number: int, given_code: str) -> int:
        form = {"code": given_code, "email": f"o{number}@example.com", "name": "O", "password": PASSWORD}
        headers = {"Origin": site.origin}
        async with site.client.post("/setup", data=form, headers=headers, allow_redirects=False) as answer:
            return answer.status

    assert await set_up(0, "guess") == 422
    statuses = await asyncio.gather(*(set_up(number, f" {code.upper()} ") for number in range(1, 6)))
    assert sorted(statuses) == [303, 409, 409, 409, 409]
    async with site.client.get("/api/v1/me") as answer:
        assert (await answer.json())["role"] == "owner"
    site.client.session.cookie_jar.clear()
    assert await set_up(9, code) == 409
    async with site.client.get("/setup", allow_redirects=False) as answer:
        assert answer.headers["Location"] == "/sign-in"


@pytest.mark.proves("T-L11")
async def test_code_of_the_set_up_cannot_be_guessed_for_long(site: Site) -> None:
    await site.services.db.write(agents.first_owner_code)
    statuses = []
    for number in range(12):
        form = {"code": str(number), "email": "o@example.com", "name": "O", "password": PASSWORD}
        async with site.client.post("/setup", data=form, headers={"Origin": site.origin}) as answer:
            statuses.append(answer.status)
    assert statuses == [422] * 10 + [429] * 2


@pytest.mark.proves("T-L08")
@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer x", "Basic eDp4", "Bearer ghk_", "Bearer ghk_" + "A" * 43, "ghk_x", "é"]
)
async def test_credentials_that_are_none_are_refused(site: Site, header: str) -> None:
    async with site.client.get("/api/v1/me", headers={"Authorization": header}) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.proves("T-L08")
async def test_key_in_the_url_is_no_key(site: Site) -> None:
    token = (await site.key(await site.add("me")))["Authorization"].partition(" ")[2]
    async with site.client.get(f"/api/v1/me?api_key={token}") as answer:
        assert answer.status == 401


@pytest.mark.proves("T-L04")
@pytest.mark.parametrize(("after", "status"), [(timedelta(hours=11), 200), (timedelta(hours=12), 401)])
async def test_browser_that_was_idle_too_long_signs_in_again(site: Site, after: timedelta, status: int) -> None:
    await site.sign_in(await site.add("me", Role.ADMIN))
    site.clock.move(after)
    async with site.client.get("/api/v1/me") as answer:
        assert answer.status == status


@pytest.mark.proves("T-E14")
@given(text=st.text() | st.text(alphabet="/\\.:@?#%\t\n aé").map(lambda tail: "/" + tail))
@example(text="//evil.example")
@example(text="/\\evil.example")
@example(text="https://evil.example")
@example(text="/\t/evil.example")
@example(text="/%2f/evil.example")
@example(text="javascript:alert(1)")
def test_way_back_stays_on_this_server(text: str) -> None:
    path = security.local_path(text)
    resolved = URL("https://own.example/sign-in").join(URL(path, encoded=True))
    assert resolved.host == "own.example"
    assert path.startswith("/")
    assert path[1:2] not in ("/", "\\")


async def test_form_shows_what_was_typed_but_never_the_password(site: Site) -> None:
    _, text, _ = await try_sign_in(site, "x@example.com", "secret words here", next="//evil.example")
    assert text == "/sign-in|x@example.com|/|sign_in_refused"


@pytest.mark.parametrize("form", [b"a=%zz%", b"email=a&email=b", b"\xff", b"email=%00", b"other=1", b"x"])
async def test_form_that_is_none_is_refused(site: Site, form: bytes) -> None:
    headers: Any = {"Origin": site.origin, "Content-Type": "application/x-www-form-urlencoded"}
    async with site.client.post("/sign-in", data=form, headers=headers) as answer:
        assert answer.status in (400, 401, 422)
