"""The console in a real browser: what people see, without a reload."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.browser.conftest import Desk, SignIn

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


async def open_ticket(page: Page, subject: str) -> None:
    await page.get_by_role("link", name=subject).click()
    await page.wait_for_selector("#composer")


async def answer(page: Page, text: str, *, to: str | None = None) -> None:
    if to is not None:
        await page.get_by_label("To", exact=True).fill(to)
    await page.get_by_label("Your answer").fill(text)
    await page.get_by_role("button", name="Send", exact=True).click()
    await page.locator("article.out", has_text=text.splitlines()[0]).wait_for()


@pytest.mark.proves("R12.1")
async def test_a_mail_becomes_a_row_without_a_reload(desk: Desk, sign_in: SignIn) -> None:
    page = (await sign_in()).page
    await page.get_by_text("No tickets here").wait_for()
    await desk.mail("Where is my order?", "Hello,\n\nwhere is it?\n")
    row = page.locator(".tickets li", has_text="Where is my order?")
    await row.wait_for()
    assert "jane@customer.test" in await row.inner_text()
    assert "where is it?" in await row.inner_text()


@pytest.mark.proves("R5.1", "R12.1")
async def test_an_answer_goes_from_scheduled_to_sent_by_itself_and_the_reply_joins(desk: Desk, sign_in: SignIn) -> None:
    page = (await sign_in()).page
    await desk.mail("Where is my order?", "Hello,\n\nwhere is it?\n")
    await open_ticket(page, "Where is my order?")
    await page.get_by_label("Your answer").fill("Hi Jane,\n\nit is on its way.")
    await page.keyboard.press("Control+Enter")
    ours = page.locator("article.out")
    await ours.locator(".delivery.scheduled").wait_for()
    await page.get_by_text("Your answer is on its way").wait_for()
    assert await page.get_by_label("Your answer").input_value() == ""
    await ours.locator(".delivery.sent, .delivery.delivered").wait_for()
    await desk.sandbox.reply("jane@customer.test", 0, "Thank you, got it!")
    reply = page.locator("article.in", has_text="Thank you, got it!")
    await reply.wait_for()
    quoted = reply.locator(".quoted")
    assert not await quoted.is_visible(), "what was quoted is folded away"
    await reply.get_by_text("Show what was quoted").locator("..").click()
    await quoted.wait_for()


@pytest.mark.proves("R5.6")
async def test_a_bounce_shows_beside_the_author_and_opens_a_report_in_plain_words(desk: Desk, sign_in: SignIn) -> None:
    page = (await sign_in("owner@desk.test")).page
    await desk.mail("Please write to me", "My mailbox is going away.", address="gone@bounce.test")
    await open_ticket(page, "Please write to me")
    await answer(page, "Here you are.")
    bad = page.locator("article.out .delivery.not_delivered")
    await bad.wait_for()
    await bad.click()
    await page.get_by_text("came back undelivered: the address gone@bounce.test does not exist there").wait_for()
    await page.get_by_text("The cause is the address.").wait_for()
    await page.get_by_text("The chain of evidence is whole").wait_for()
    assert await page.get_by_role("cell", name="dsn failed").count() == 1
    await page.get_by_role("link", name="Correct the address and send again").click()
    assert await page.get_by_label("Your answer").input_value() == "Here you are."


@pytest.mark.proves("R5.3")
async def test_a_server_that_asks_to_wait_shows_as_delayed(desk: Desk, sign_in: SignIn) -> None:
    page = (await sign_in()).page
    await desk.mail("No hurry", "A question.", address="never@slow.test")
    await open_ticket(page, "No hurry")
    await answer(page, "Here you are.")
    await page.locator("article.out .delivery.delayed").wait_for()
    await page.get_by_role("link", name="What happened and what to do").click()
    await page.get_by_text("The other side did not take the message yet").wait_for()
    assert await page.get_by_text("The chain of evidence").count() == 0, "agents see words, not evidence"


@pytest.mark.proves("R5.9")
async def test_undo_takes_the_answer_back_into_the_composer(desk: Desk, sign_in: SignIn) -> None:
    page = (await sign_in()).page
    await desk.mail("Where is my order?", "Hello?")
    await open_ticket(page, "Where is my order?")
    await answer(page, "I should not have said that.")
    await page.get_by_role("button", name="Undo").click()
    await page.locator("article.out .delivery.cancelled").wait_for()
    assert await page.get_by_label("Your answer").input_value() == "I should not have said that."
    assert desk.sandbox.postbox("jane@customer.test") == []


@pytest.mark.proves("F-K10")
async def test_a_double_click_sends_once(desk: Desk, sign_in: SignIn) -> None:
    page = (await sign_in()).page
    await desk.mail("Where is my order?", "Hello?")
    await open_ticket(page, "Where is my order?")
    await page.get_by_label("Your answer").fill("Only once.")
    await page.get_by_role("button", name="Send", exact=True).dblclick()
    await page.locator("article.out .delivery.sent, article.out .delivery.delivered").first.wait_for()
    assert await page.locator("article.out").count() == 1
    assert len(desk.sandbox.postbox("jane@customer.test")) == 1


@pytest.mark.proves("R12.1")
async def test_what_was_typed_survives_a_reload_and_news_in_the_thread(desk: Desk, sign_in: SignIn) -> None:
    page = (await sign_in()).page
    await desk.mail("Where is my order?", "Hello?")
    await open_ticket(page, "Where is my order?")
    await page.get_by_label("Your answer").fill("Half an answ")
    await page.reload()
    assert await page.get_by_label("Your answer").input_value() == "Half an answ"
    await page.get_by_label("Status").select_option("postponed")
    await page.locator(".tickethead .chip.postponed").wait_for()
    assert await page.get_by_label("Your answer").input_value() == "Half an answ"


@pytest.mark.proves("R12.1")
async def test_everything_works_without_scripts(desk: Desk, sign_in: SignIn) -> None:
    await desk.mail("Where is my order?", "Hello?")
    page = (await sign_in(java_script_enabled=False)).page
    row = page.get_by_role("link", name="Where is my order?")
    while not await row.count():  # each look is a request that waits for the store
        await page.reload()
    await row.click()
    await answer(page, "It is on its way.")
    await page.get_by_role("button", name="Undo").click()
    await page.locator("article.out .delivery.cancelled").wait_for()
    await page.get_by_label("Status").select_option("resolved")
    await page.get_by_role("button", name="Change").click()
    await page.locator(".tickethead .chip.resolved").wait_for()


@pytest.mark.proves("R12.1")
@pytest.mark.parametrize("width", [360, 1280])
async def test_no_page_scrolls_sideways(desk: Desk, sign_in: SignIn, width: int) -> None:
    page = (await sign_in("owner@desk.test")).page
    await desk.mail("W" * 200, "x" * 3000 + "\n\nhttps://example.test/" + "y" * 500)
    await page.set_viewport_size({"width": width, "height": 780})
    await page.locator(".tickets li").wait_for()
    ticket = await page.locator(".tickets .subject").first.get_attribute("href")
    for path in ("/", str(ticket), "/deliveries", "/ledger", "/channels", "/channels/new", "/team", "/demo"):
        await page.goto(path)
        overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, path


async def test_the_demo_page_writes_as_a_customer_and_reads_the_answer(desk: Desk, sign_in: SignIn) -> None:
    page = (await sign_in()).page
    await page.goto("/demo")
    await page.get_by_role("button", name="Send", exact=True).click()
    await page.get_by_text("Sent.").wait_for()
    await page.goto("/")
    await open_ticket(page, "Where is my parcel?")
    await answer(page, "In Antwerp.")
    await page.goto("/demo?person=mila.novak@customer.test")
    await page.get_by_text("In Antwerp.").wait_for()
    await page.get_by_text("Reply", exact=True).click()
    await page.get_by_label("Your reply").fill("Splendid!")
    await page.get_by_role("button", name="Send the reply").click()
    await page.goto("/")
    await page.get_by_text("Splendid!").wait_for()


@pytest.mark.proves("R8.1", "R8.2", "R8.3", "T-L03")
async def test_an_owner_promotes_an_agent_hands_out_a_link_and_shuts_them_out(desk: Desk, sign_in: SignIn) -> None:
    owner, shut_out = (await sign_in("owner@desk.test")).page, await sign_in("ana@desk.test")
    ana = shut_out.page
    owner.on("dialog", lambda dialog: dialog.accept())
    await owner.goto("/team")
    row = owner.locator("tr", has_text="ana@desk.test")
    await row.get_by_text("Change").click()
    await row.get_by_label("Role").select_option("admin")
    await row.get_by_role("button", name="Save", exact=True).click()
    await row.get_by_role("cell", name="admin", exact=True).wait_for()
    await ana.goto("/")
    await ana.get_by_label("Password").wait_for()
    await row.get_by_text("Change").click()
    await row.get_by_role("button", name="Make a link to set a password").click()
    link = await owner.get_by_label("One-time link").input_value()
    await ana.goto("/reset/" + link.rpartition("/")[2])
    await ana.get_by_label("New password").fill("a fine new password")
    await ana.get_by_role("button", name="Set it").click()
    await ana.get_by_label("Email address").fill("ana@desk.test")
    await ana.get_by_label("Password").fill("a fine new password")
    await ana.get_by_role("button", name="Sign in", exact=True).click()
    await ana.get_by_role("link", name="Team").wait_for()
    await owner.goto("/team")
    await row.get_by_text("Change").click()
    await row.get_by_role("button", name="Shut out").click()
    await row.get_by_text("shut out", exact=True).wait_for()
    await ana.goto("/")
    await ana.get_by_label("Password").wait_for()
    # Her open page asked for its stream of events once more, and was refused.
    assert all("EventSource" in line or "401" in line for line in shut_out.complaints)
    shut_out.complaints.clear()
