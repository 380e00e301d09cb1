"""Who sees which page of the console, and what its forms do, on both stores."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from core import agents, reset_links
from core.store.schema import agent, channel, department, message
from gateway.normalize.addresses import parse_address_list
from gateway.outbox import send
from gateway.outbox.send import Answer
from gateway.web.assets import Assets
from gateway.web.console.pages import pages
from gateway.web.server import build_app
from tests.web.conftest import PASSWORD, MakeSite
from tests.web.world import PASSWORD_CANARY, World, open_world, quarantine, send_answer

ASSETS = Assets(urls={name: f"/static/{name}" for name in ("console.js", "console.css", "docs.js")}, files={})
TOKEN = re.compile(r'name="csrf" value="([^"]+)"')
KEY = re.compile(r'name="key" value="([^"]+)"')
VERSION = re.compile(r'name="version" value="(\d+)" form="composer"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Browser:
    """A signed-in browser without scripts."""

    client: TestClient[web.Request, web.Application]
    origin: str

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(path, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, page: str, **form: str) -> tuple[int, str]:
        """Send a form of ``page``; the text of a redirect is where it leads."""
        found = TOKEN.search(page)
        data = form | {"csrf": found[1] if found else ""}
        sent = self.client.post(path, data=data, headers={"Origin": self.origin}, allow_redirects=False)
        async with sent as answer:
            return answer.status, answer.headers.get("Location") or await answer.text()


@dataclass(frozen=True, kw_only=True, slots=True)
class Console:
    world: World
    enter: Callable[[str], Awaitable[Browser]]


@pytest.fixture
async def console(make_site: MakeSite) -> AsyncIterator[Console]:
    world = await open_world(make_site)
    clients = []

    async def enter(who: str) -> Browser:
        app = build_app(replace(world.site.services, assets=ASSETS), [], pages())
        client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        browser = Browser(client=client, origin=f"http://{client.host}:{client.port}")
        if who != "stranger":
            form = {"email": f"{who}@example.com", "password": PASSWORD}
            assert await browser.post("/sign-in", "", **form) == (303, "/")
        return browser

    yield Console(world=world, enter=enter)
    for client in clients:
        await client.close()


@pytest.mark.proves("T-G1", "R8.1")
@pytest.mark.parametrize(
    ("who", "status"), [("ann", 403), ("none", 403), ("admin", 200), ("owner", 200), ("stranger", 303)]
)
async def test_sections_of_admins_open_for_admins_alone(console: Console, who: str, status: int) -> None:
    browser = await console.enter(who)
    for path in ("/deliveries", "/ledger", "/channels", "/channels/new", "/team"):
        assert (await browser.get(path))[0] == status, path
    if who == "ann":
        assert 'href="/ledger"' not in (await browser.get("/"))[1]


@pytest.mark.proves("T-G2", "R8.5")
@pytest.mark.parametrize(("who", "status"), [("ann", 200), ("eve", 404), ("none", 404), ("owner", 200)])
async def test_a_ticket_and_all_that_is_in_it_is_its_departments_alone(console: Console, who: str, status: int) -> None:
    place = console.world.support
    sent = await send_answer(console.world.site, place, console.world.people["ann"].id)
    browser = await console.enter(who)
    for path in (
        f"/tickets/{place.code}",
        f"/messages/{place.inbound}/html",
        f"/files/{place.attachment}",
        f"/messages/{sent.message}/delivery",
    ):
        assert (await browser.get(path))[0] == status, path


@pytest.mark.proves("T-E14")
async def test_a_stranger_is_led_to_the_door_and_back(console: Console) -> None:
    browser = await console.enter("stranger")
    async with browser.client.get("/tickets/X?html=y", allow_redirects=False) as answer:
        assert answer.status == 303
        assert answer.headers["Location"] == "/sign-in?next=/tickets/X?html%3Dy"
    form = {"email": "ann@example.com", "password": PASSWORD, "next": "//evil.test/"}
    assert await browser.post("/sign-in", "", **form) == (303, "/")


@pytest.mark.proves("R13.1", "F-K10", "F-S15")
async def test_the_same_form_sent_twice_is_one_answer(console: Console) -> None:
    browser = await console.enter("ann")
    path = f"/tickets/{console.world.support.code}"
    page = (await browser.get(path))[1]
    found = KEY.search(page)
    assert found is not None
    form = {"key": found[1], "text": "It is on its way.", "to": "jane1@customer.test"}
    first = await browser.post(f"{path}/answer", page, **form)
    again = await browser.post(f"{path}/answer", page, **form)
    assert first == again == (303, f"{path}?sent={found[1]}")
    other = await browser.post(f"{path}/answer", page, **(form | {"text": "Something else."}))
    assert other[0] == 409
    assert "Something else." in other[1], "what was typed is not lost"
    count = await console.world.site.services.db.read(
        lambda conn: conn.execute(sa.select(sa.func.count()).where(message.c.direction == "out")).scalar_one()
    )
    assert count == 1


@pytest.mark.parametrize(
    ("form", "words"),
    [({"text": "  "}, "the answer is empty"), ({"text": "Hi", "to": "nobody at home"}, "not an address")],
)
async def test_an_answer_that_cannot_be_sent_says_why_and_keeps_the_text(
    console: Console, form: dict[str, str], words: str
) -> None:
    browser = await console.enter("ann")
    path = f"/tickets/{console.world.support.code}"
    page = (await browser.get(path))[1]
    status, drawn = await browser.post(f"{path}/answer", page, key="a" * 20, **form)
    assert status == 422
    assert words in drawn
    assert form["text"] in drawn


@pytest.mark.proves("T-A06")
@pytest.mark.parametrize("address", ["orders@customer.test", "mallory@evil.test"])
async def test_the_composer_shows_whom_the_answer_goes_to_by_itself(console: Console, address: str) -> None:
    place, services = console.world.support, console.world.site.services
    replies = sa.update(message).where(message.c.public_id == place.inbound)
    values = {"reply_to": [{"name": "", "address": address}]}
    await services.db.write(lambda conn: conn.execute(replies.values(**values)))
    page = (await (await console.enter("ann")).get(f"/tickets/{place.code}"))[1]
    shown = re.search(r'name="to" value="([^"]*)"', page)
    prepared = await send.prepare(
        services.db, services.blobs, services.keys, place.ticket_id, Answer(text="Hi"),
        agent_id=console.world.people["ann"].id, actor="agent:ann",
    )  # fmt: skip
    assert shown is not None
    assert [person.address for _, person, _ in prepared.recipients] == [
        person.address for person in parse_address_list(html.unescape(shown[1]))
    ]


@pytest.mark.proves("T-N08", "F-S15")
async def test_an_answer_to_an_older_ticket_is_kept_and_told_who_was_first(console: Console) -> None:
    path = f"/tickets/{console.world.support.code}"
    browser = await console.enter("ann")
    page = (await browser.get(path))[1]
    found = VERSION.search(page)
    assert found is not None
    other = await console.enter("both")
    change = {"version": found[1], "status": "closed", "department": console.world.support.department}
    assert await other.post(f"{path}/change", (await other.get(path))[1], **change) == (303, path)
    form = {"key": "k" * 20, "text": "Half a <b>thought</b>.", "to": "jane1@customer.test", "version": found[1]}
    status, drawn = await browser.post(f"{path}/answer", page, **form)
    assert status == 409
    assert "both set the status to closed" in drawn
    assert "Half a &lt;b&gt;thought&lt;/b&gt;." in drawn, "what was typed is not lost"
    late = await browser.post(f"{path}/change", page, version=found[1], status="open")
    assert (late[0], "both set the status to closed" in late[1]) == (409, True)
    now = VERSION.search(drawn)
    assert now is not None
    assert (await browser.post(f"{path}/answer", drawn, **(form | {"version": now[1]})))[0] == 303


@pytest.mark.proves("T-L07")
async def test_a_form_without_its_token_changes_nothing(console: Console) -> None:
    browser = await console.enter("owner")
    assert (await browser.post("/team/departments", "", name="Forged"))[0] == 403
    names = await console.world.site.services.db.read(
        lambda conn: list(conn.execute(sa.select(department.c.name)).scalars())
    )
    assert "Forged" not in names


@pytest.mark.proves("R1.3")
async def test_a_quarantined_mail_is_looked_at_dismissed_and_read_anew(console: Console) -> None:
    row = await quarantine(console.world.site, console.world.support)
    browser = await console.enter("admin")
    status, page = await browser.get(f"/ledger/{row}")
    assert (status, "cannot be read" in page) == (200, True)
    assert "It is broken." in (await browser.get(f"/ledger/{row}/raw"))[1]
    assert (await browser.post(f"/ledger/{row}/dismiss", page, reason=" "))[0] == 422
    assert await browser.post(f"/ledger/{row}/dismiss", page, reason="a test") == (303, f"/ledger/{row}")
    assert await browser.post(f"/ledger/{row}/replay", page) == (303, f"/ledger/{row}")
    assert "being read" in (await browser.get(f"/ledger/{row}"))[1]


@pytest.mark.proves("T-G11", "R1.5")
async def test_a_channel_is_connected_and_its_password_never_comes_back(console: Console) -> None:
    browser = await console.enter("admin")
    page = (await browser.get("/channels/new"))[1]
    form = {
        "name": "New", "department": console.world.support.department, "address": "new@desk.test",
        "imap_host": "imap.test", "imap_port": "993", "imap_security": "tls", "imap_user": "new",
        "imap_password": PASSWORD_CANARY, "smtp_host": "", "plus_addressing": "yes",
    }  # fmt: skip
    wrong = await browser.post("/channels/new", page, **(form | {"imap_port": "many"}))
    assert wrong[0] == 422
    status, place = await browser.post("/channels/new", page, **form)
    assert status == 303
    for text in (wrong[1], (await browser.get(place))[1], (await browser.get("/channels"))[1]):
        assert PASSWORD_CANARY not in text
    page = (await browser.get(place))[1]
    version = re.search(r'name="version" value="(\d+)"', page)
    assert version is not None
    kept = form | {"name": "Renamed", "imap_password": "", "version": version[1]}
    assert await browser.post(place, page, **kept) == (303, place)
    names = await console.world.site.services.db.read(
        lambda conn: list(conn.execute(sa.select(channel.c.name)).scalars())
    )
    assert "Renamed" in names


async def test_an_agent_is_added_with_departments_and_may_enter(console: Console) -> None:
    browser = await console.enter("owner")
    page = (await browser.get("/team"))[1]
    form = {
        "name": "Nia", "email": "nia@example.com", "role": "agent", "password": PASSWORD,
        "departments": console.world.sales.department,
    }  # fmt: skip
    assert (await browser.post("/team/agents", page, **(form | {"password": "short"})))[0] == 422
    assert await browser.post("/team/agents", page, **form) == (303, "/team")
    inbox = (await (await console.enter("nia")).get("/"))[1]
    assert console.world.sales.code in inbox
    assert console.world.support.code not in inbox


async def role_of(console: Console, who: str) -> tuple[str, bool]:
    found = await console.world.site.services.db.read(agents.find, console.world.people[who].public_id)
    assert found is not None
    return found.role.value, found.is_active


@pytest.mark.proves("R8.1", "R8.3", "T-L05")
async def test_an_admin_changes_roles_and_shuts_agents_out_at_once(console: Console) -> None:
    admin, ann = await console.enter("admin"), await console.enter("ann")
    path = f"/team/agents/{console.world.people['ann'].public_id}"
    page = (await admin.get("/team"))[1]
    form = {"name": "Ann B.", "alias": "Annie", "role": "admin"}
    assert await admin.post(path, page, **form) == (303, "/team")
    assert await role_of(console, "ann") == ("admin", True)
    assert (await ann.get("/"))[0] == 303, "her session ended with the change"
    assert "Ann B." in (await admin.get("/team"))[1]
    assert await admin.post(f"{path}/shut-out", page) == (303, "/team")
    assert await role_of(console, "ann") == ("admin", False)
    assert await admin.post(f"{path}/let-in", page) == (303, "/team")
    assert await role_of(console, "ann") == ("admin", True)
    assert (await admin.post(path, page, **(form | {"role": "owner"})))[0] == 403


@pytest.mark.proves("R8.1", "T-L06")
async def test_an_admin_cannot_touch_an_owner_and_the_last_owner_stays(console: Console) -> None:
    owner, admin = await console.enter("owner"), await console.enter("admin")
    path = f"/team/agents/{console.world.people['owner'].public_id}"
    form = {"name": "owner", "alias": "", "role": "agent"}
    page = (await admin.get("/team"))[1]
    assert f'action="{path}"' not in page
    for end, fields in (("", form), ("/shut-out", {}), ("/reset-link", {}), ("/departments", {})):
        assert (await admin.post(path + end, page, **fields))[0] == 403, end
    page = (await owner.get("/team"))[1]
    for end, fields in (("", form), ("/shut-out", {})):
        status, drawn = await owner.post(path + end, page, **fields)
        assert (status, "the last owner cannot be removed or demoted" in drawn) == (409, True), end
    assert await role_of(console, "owner") == ("owner", True)


LINK = re.compile(r'value="http://[^"/]+(/reset/[^"]+)"')


@pytest.mark.proves("T-L03", "R8.2")
async def test_a_link_sets_a_password_once_and_opening_it_uses_nothing_up(console: Console) -> None:
    admin, stranger, ann = [await console.enter(who) for who in ("admin", "stranger", "ann")]
    page = (await admin.get("/team"))[1]
    path = f"/team/agents/{console.world.people['ann'].public_id}/reset-link"
    former, place = [LINK.search((await admin.post(path, page))[1]) for _ in range(2)]
    assert former is not None
    assert place is not None
    for _ in range(3):
        status, drawn = await stranger.get(place[1])
        assert (status, "ann@example.com" in drawn) == (200, True)
    assert (await stranger.get(former[1]))[0] == 409, "a new link voids the former one"
    assert (await ann.get("/"))[0] == 200, "until it is used nothing changes"
    assert (await stranger.post(place[1], "", password="short"))[0] == 422
    new = "another fine password"
    used = await asyncio.gather(*(stranger.post(place[1], "", password=new) for _ in range(4)))
    assert sorted(status for status, _ in used) == [303, 409, 409, 409]
    assert (await ann.get("/"))[0] == 303, "every session of hers ended"
    status, drawn = await stranger.get(place[1])
    assert (status, "ann@example.com" in drawn) == (409, False)
    entry = {"email": "ann@example.com", "password": new}
    assert await stranger.post("/sign-in", "", **entry) == (303, "/")


@pytest.mark.proves("T-L03", "T-L05")
@pytest.mark.parametrize("what", ["shut out", "promoted", "half an hour", "made up"])
async def test_a_link_is_void_once_anything_has_changed(console: Console, what: str) -> None:
    admin, stranger = await console.enter("admin"), await console.enter("stranger")
    page = (await admin.get("/team"))[1]
    path = f"/team/agents/{console.world.people['ann'].public_id}"
    found = LINK.search((await admin.post(f"{path}/reset-link", page))[1])
    assert found is not None
    place = found[1]
    match what:
        case "shut out":
            await admin.post(f"{path}/shut-out", page)
        case "promoted":
            await admin.post(path, page, name="Ann", alias="", role="admin")
        case "half an hour":
            console.world.site.clock.move(reset_links.RESET_LIFE)
        case _:
            place = place[:-1] + ("A" if place[-1] != "A" else "B")
    assert (await stranger.get(place))[0] == 409
    assert (await stranger.post(place, "", password="another fine password"))[0] == 409
    assert (await stranger.post("/sign-in", "", email="ann@example.com", password="another fine password"))[0] == 401


async def test_the_theme_is_the_agents_own(console: Console) -> None:
    browser = await console.enter("ann")
    page = (await browser.get("/"))[1]
    assert "data-theme" not in page
    assert await browser.post("/theme", page, theme="dark", next="//evil.test") == (303, "/")
    assert 'data-theme="dark"' in (await browser.get("/"))[1]
    themes = await console.world.site.services.db.read(
        lambda conn: list(conn.execute(sa.select(agent.c.theme).where(agent.c.theme != "system")).scalars())
    )
    assert themes == ["dark"]


async def test_without_a_stage_there_is_no_demo(console: Console) -> None:
    browser = await console.enter("owner")
    assert (await browser.get("/demo"))[0] == 404
    assert "Be a customer" not in (await browser.get("/"))[1]


@pytest.mark.proves("T-E12")
async def test_every_page_has_the_strict_policy(console: Console) -> None:
    browser = await console.enter("owner")
    for path in ("/", "/deliveries", "/ledger", "/channels", "/team", "/nothing-here"):
        async with browser.client.get(path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy, path
            assert "unsafe-inline" not in policy, path
            assert "frame-ancestors 'none'" in policy, path
