"""Nothing that a stranger wrote runs in the console: hostile HTML in mails, and markup in every stored field."""

from __future__ import annotations

from email.message import EmailMessage

import pytest
from playwright.async_api import Browser, Frame, Page

from gateway.normalize.html import sanitise
from gateway.sandbox.compose import File
from tests.browser.conftest import Desk, SignIn, Watched, watch

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

STRANGER = "http://tracker.example.test"
MARK = "self.__ran=1"
CANARY = f"<img src=x onerror={MARK}>\"'><script>{MARK}</script>{{{{7*7}}}}"

#: Each would run or load something in a page that shows it as it is.
HOSTILE = f"""
<script>{MARK}</script>
<img src="{STRANGER}/pixel.gif" onerror="{MARK}">
<img src=x onerror="{MARK}">
<svg onload="{MARK}"><a xlink:href="javascript:{MARK}"><text y="20">click</text></a></svg>
<body onload="{MARK}"><iframe srcdoc="<script>{MARK}</script>"></iframe>
<details open ontoggle="{MARK}"><summary>x</summary></details>
<video><source onerror="{MARK}"></video><input autofocus onfocus="{MARK}">
<link rel="stylesheet" href="{STRANGER}/a.css">
<style>@import url({STRANGER}/b.css); body {{ background: url({STRANGER}/c.png) }}</style>
<div style="position:fixed;inset:0;background:url({STRANGER}/d.png)">over everything</div>
<form action="{STRANGER}"><button autofocus>Sign in again</button></form>
<meta http-equiv="refresh" content="0; url={STRANGER}/e"><base href="{STRANGER}/">
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror={MARK}&gt;">
"""


#: A link that says it leads elsewhere, in surroundings that would make a word beside it unreadable.
HIDING = """
<p>Dear customer,</p>
<div style="font-size:0;color:#fff;background-color:#fff;direction:rtl;unicode-bidi:bidi-override;letter-spacing:-9px;
  line-height:0;height:0;text-indent:-999px;text-transform:uppercase;white-space:nowrap">
  <a href="https://bank.example.test@evil.example.test/" style="font-size:14px;margin-left:999px;padding-right:2000px">https://bank.example.test/</a></div>
<p><a href="https://evil.example.test/">Pay now</a> or write to
  <a href="mailto:joe@customer.test">joe@customer.test</a></p>
"""


async def has_run(page: Page) -> bool:
    """In the page or in any frame of it: a sandboxed one could not tell the page."""
    return any([await frame.evaluate("self.__ran === 1") for frame in page.frames])


def designed(subject: str, html: str) -> bytes:
    message = EmailMessage()
    message["From"] = "Mallory <mallory@customer.test>"
    message["To"] = "support@desk.test"
    message["Subject"] = subject
    message["Message-ID"] = "<hostile@mail.customer.test>"
    message.set_content("The plain words.")
    message.add_alternative(html, subtype="html")
    return message.as_bytes()


async def open_designed(page: Page, subject: str) -> Frame:
    await page.get_by_role("link", name=subject).click()
    await page.get_by_role("link", name="Show as designed").click()
    element = await page.wait_for_selector("iframe.mailframe")
    frame = await element.content_frame() if element is not None else None
    assert frame is not None
    await frame.wait_for_load_state("load")
    return frame


@pytest.mark.proves("T-E01", "T-E02", "T-E03", "T-E05")
async def test_a_hostile_mail_runs_and_loads_nothing(desk: Desk, sign_in: SignIn) -> None:
    seen = await sign_in()
    await desk.sandbox.deliver(designed("Read me", HOSTILE), "mallory@customer.test", ["support@desk.test"])
    frame = await open_designed(seen.page, "Read me")
    assert "over everything" in await frame.locator("body").inner_text()
    assert not await has_run(seen.page)
    assert await seen.page.locator("iframe.mailframe").get_attribute("sandbox") == (
        "allow-popups allow-popups-to-escape-sandbox"
    )
    assert await frame.evaluate("window.origin") == "null", "an origin of its own, that may read nothing of ours"


@pytest.mark.proves("T-E04", "T-E09")
async def test_where_a_link_leads_stands_beside_it_however_the_mail_hides_it(desk: Desk, sign_in: SignIn) -> None:
    page = (await sign_in()).page
    await desk.sandbox.deliver(designed("Pay now", HIDING), "mallory@customer.test", ["support@desk.test"])
    frame = await open_designed(page, "Pay now")
    places = frame.locator(".place")
    assert [text.strip() for text in await places.all_inner_texts()] == ["[evil.example.test]"] * 2
    for place in await places.all():
        box = await place.bounding_box()
        assert box is not None
        assert box["height"] > 8
        assert box["width"] > 80
        assert 0 < box["x"] < 1000
        seen = await place.evaluate("it => {const s = getComputedStyle(it); return [s.fontSize, s.color, s.direction]}")
        assert seen == ["12px", "rgb(122, 46, 14)", "ltr"]
    for link in await frame.locator("a").all():
        assert await link.get_attribute("target") == "_blank"
        assert await link.get_attribute("rel") == "noopener noreferrer nofollow"


@pytest.mark.proves("T-E01")
async def test_the_same_html_does_run_where_nobody_cleans_it(chromium: Browser) -> None:
    """The control: without it the test above could not fail."""
    page = await chromium.new_page()
    await page.route("**/*", lambda route: route.fulfill(body="", content_type="text/plain"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.set_content(HOSTILE.replace('<meta http-equiv="refresh"', "<meta"), wait_until="load")
    assert await has_run(page)
    assert any(url.startswith(STRANGER) for url in asked)
    await page.close()


@pytest.mark.proves("T-E01", "T-E02", "T-E03")
async def test_each_wall_holds_alone(desk: Desk, sign_in: SignIn, chromium: Browser) -> None:
    """The sanitiser in a plain page; the frame's policy and sandbox with a body that nobody cleaned."""
    bare = await watch(await chromium.new_page(), "about:")
    await bare.page.set_content(sanitise(HOSTILE), wait_until="load")
    assert not await has_run(bare.page)
    assert bare.strangers == []
    await bare.page.close()

    seen = await sign_in()
    await desk.sandbox.deliver(designed("Read me", "<p>Harmless</p>"), "mallory@customer.test", ["support@desk.test"])

    async def serve_raw(route: object) -> None:
        answer = await route.fetch()  # type: ignore[attr-defined]  # a playwright Route
        body = (await answer.text()).replace("<p>Harmless</p>", HOSTILE)
        await route.fulfill(response=answer, body=body)  # type: ignore[attr-defined]

    await seen.page.route("**/messages/*/html", serve_raw)
    await open_designed(seen.page, "Read me")
    assert not await has_run(seen.page)
    assert seen.strangers == []
    blocked = [line for line in seen.complaints if "Content Security Policy" in line or "sandboxed" in line]
    assert blocked, "the walls stopped something: without them it would have run"
    seen.complaints.clear()


@pytest.mark.proves("T-E06", "T-E07", "T-A13")
async def test_markup_in_stored_fields_is_shown_as_words(desk: Desk, sign_in: SignIn) -> None:
    await plant(desk)
    seen = await sign_in("owner@desk.test")
    await seen.page.get_by_text("<script>").first.wait_for()
    for path in await crawl(seen):
        assert not await has_run(seen.page), path


async def plant(desk: Desk) -> None:
    """Put the canary wherever strangers may write: names, subjects, file names, reports, envelopes."""
    file = File(name=CANARY, content_type="text/html", content=CANARY.encode())
    await desk.sandbox.write(
        f"support@desk.test {CANARY}", "mallory@customer.test", "support@desk.test", CANARY, CANARY, CANARY, [file]
    )
    report = (
        f"From: MAILER-DAEMON <{'mailer-daemon'}@customer.test>\r\nTo: support@desk.test\r\nSubject: {CANARY}\r\n"
        "Message-ID: <dsn@customer.test>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        f"--b\r\n\r\n{CANARY}\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; {CANARY}\r\n\r\n"
        f"Final-Recipient: rfc822; x@customer.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        f"Diagnostic-Code: smtp; 550 {CANARY}\r\n\r\n--b--\r\n"
    )
    await desk.sandbox.deliver(report.encode(), "", ["support@desk.test"])


async def crawl(seen: Watched) -> list[str]:
    """Open every page that a link of ours leads to, each kind of page a few times; return the paths."""
    page = seen.page
    waiting, done = ["/"], []
    kinds: dict[str, int] = {}
    while waiting:
        path = waiting.pop(0)
        kind = "/".join("*" if any(char.isdigit() for char in part) else part for part in path.split("?")[0].split("/"))
        if path in done or kinds.get(kind, 0) >= 4:
            continue
        kinds[kind] = kinds.get(kind, 0) + 1
        done.append(path)
        await page.goto(path)
        assert not await has_run(page), path
        links = await page.eval_on_selector_all("a[href^='/']", "found => found.map(a => a.getAttribute('href'))")
        waiting += [link.split("#")[0] for link in links if not link.startswith("/files/")]
    assert {"/", "/ledger", "/deliveries", "/channels", "/team", "/demo"} <= {item.split("?")[0] for item in done}
    return done


async def test_a_file_is_only_ever_downloaded(desk: Desk, sign_in: SignIn) -> None:
    seen = await sign_in()
    page_html = File(name="page.html", content_type="text/html", content=f"<script>{MARK}</script>".encode())
    await desk.sandbox.write("Mallory", "m@customer.test", "support@desk.test", "A file", "See it.", None, [page_html])
    await seen.page.get_by_role("link", name="A file").click()
    link = seen.page.get_by_role("link", name="page.html")
    async with seen.page.expect_download() as waiting:
        await link.click()
    download = await waiting.value
    assert download.suggested_filename == "page.html"
    answer = await seen.page.request.get(str(await link.get_attribute("href")))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
