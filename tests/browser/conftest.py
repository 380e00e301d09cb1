"""The whole house with its sandbox in this process, and a real Chromium that looks at it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright

from gateway import demo
from gateway.app import House, open_house, running
from gateway.sandbox.mail_server import MailSandbox
from gateway.sandbox.stage import Stage
from gateway.web_root import web_application

CHROMIUM = Path("/usr/bin/chromium")
HAS_CHROMIUM = CHROMIUM.exists()
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-features=Translate,MediaRouter",
]  # fmt: skip
PATIENCE_MS = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """A running gateway with the demo's departments, agents and mailboxes."""

    house: House
    sandbox: MailSandbox
    url: str

    async def mail(
        self, subject: str, text: str, *, name: str = "Jane Doe", address: str = "jane@customer.test"
    ) -> str:
        return await self.sandbox.write(name, address, "support@desk.test", subject, text)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        users = dict.fromkeys(demo.DEPARTMENTS.values(), demo.MAILBOX_PASSWORD)
        sandbox = await stack.enter_async_context(MailSandbox(desk_users=users, greylisted_tries=1))
        house = await stack.enter_async_context(open_house(demo.demo_config(tmp_path, port=0)))
        await demo.seed_desk(house, imap_port=sandbox.imap_port, smtp_port=sandbox.smtp_port)
        stage = Stage(
            sandbox=sandbox,
            desk_addresses=tuple(demo.DEPARTMENTS.values()),
            logins=tuple((person.email, person.role.value) for person in demo.PEOPLE),
            password=demo.PASSWORD,
        )
        application = await stack.enter_async_context(web_application(house, stage))
        runner = web.AppRunner(application, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        await stack.enter_async_context(running(house))
        yield Desk(house=house, sandbox=sandbox, url=f"http://127.0.0.1:{port}")


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    if not HAS_CHROMIUM:
        if os.environ.get("CI"):
            pytest.fail(f"needs {CHROMIUM}: install the package chromium")
        pytest.skip(f"needs {CHROMIUM}: install the package chromium")
    async with async_playwright() as player:
        browser = await player.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        await browser.close()


@dataclass(slots=True)
class Watched:
    """A page with what it complained about, and every request that left for another place."""

    page: Page
    complaints: list[str]
    strangers: list[str]


SignIn = Callable[..., Awaitable[Watched]]


@pytest.fixture
async def sign_in(desk: Desk, chromium: Browser) -> AsyncIterator[SignIn]:
    """Sign somebody in with a browser of their own."""
    contexts: list[BrowserContext] = []
    watched: list[Watched] = []

    async def enter(email: str = "ana@desk.test", **options: object) -> Watched:
        context = await chromium.new_context(base_url=desk.url, viewport={"width": 1280, "height": 860}, **options)  # type: ignore[arg-type]  # passed on as they are
        contexts.append(context)
        seen = await watch(await context.new_page(), desk.url)
        watched.append(seen)
        await seen.page.goto("/sign-in")
        await seen.page.get_by_label("Email address").fill(email)
        await seen.page.get_by_label("Password").fill(demo.PASSWORD)
        await seen.page.get_by_role("button", name="Sign in", exact=True).click()
        await seen.page.wait_for_selector("#inbox")
        return seen

    yield enter
    for seen in watched:
        assert seen.complaints == [], "the browser complained"
        assert seen.strangers == [], "a page loaded something from elsewhere"
    for context in contexts:
        await context.close()


async def watch(page: Page, own: str) -> Watched:
    seen = Watched(page=page, complaints=[], strangers=[])
    page.set_default_timeout(PATIENCE_MS)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.complaints.append(f"{page.url}: {message.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: seen.complaints.append(f"{page.url}: {error}"))
    page.on("response", lambda answer: _note_stranger(answer.url, own, seen.strangers))
    page.on("requestfailed", lambda failed: _note_failed(failed, own, seen.strangers))
    return seen


def _note_failed(failed: Request, own: str, strangers: list[str]) -> None:
    """What the content policy stopped never left the browser; what found no server did."""
    if failed.failure != "csp":
        _note_stranger(failed.url, own, strangers)


def _note_stranger(url: str, own: str, strangers: list[str]) -> None:
    if not url.startswith((own, "data:", "about:", "blob:")):
        strangers.append(url)
