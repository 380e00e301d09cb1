"""The console in a real browser: what people see, without a reload."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Desk, SignIn

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


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
    await page.get_by_role("link", name="Where is my order?").click()
    await page.get_by_label("Your answer").fill("Hi Jane,\n\nit is on its way.")
    await page.keyboard.press("Control+Enter")
    answer = page.locator("article.out")
    await answer.get_by_text("scheduled").wait_for()
    await page.get_by_text("Your answer is on its way").wait_for()
    assert await page.get_by_label("Your answer").input_value() == ""
    await answer.locator(".delivery.sent, .delivery.delivered").wait_for()
    await desk.sandbox.reply("jane@customer.test", 0, "Thank you, got it!")
    await page.locator("article.in", has_text="Thank you, got it!").wait_for()
