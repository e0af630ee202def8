"""The chat page at a gateway with policy rules: it shows the policy result, also after a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.edge.app import House, house
from tests.edge.rules import CARD, COMPANYS
from tests.page.browser_checks import axe_violations, watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from tests.postgres import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANN = {"X-User": "ann"}
PAY = f"Pay with {CARD.decode()}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ruled(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    dsn = postgres.create_database()
    async with house(tmp_path_factory.mktemp("gateway"), dsn, policy=COMPANYS) as it:
        yield it
    postgres.drop_database(dsn)


async def send(page: Page, text: str) -> None:
    await page.locator("#composer-text").fill(text)
    await page.keyboard.press("Enter")


async def test_a_mask_is_shown_above_the_answer_also_from_the_history(browser: Browser, ruled: House) -> None:
    async with watched(browser, str(ruled.client.make_url("/")), extra_http_headers=ANN) as page:
        await send(page, PAY)
        await page.wait_for_selector(".assistant.complete")
        shown = await page.locator(".policy:visible").inner_text()
        assert "masked sensitive parts" in shown
        assert "(card numbers)" in shown
        assert await axe_violations(page) == []
        await ruled.rows(1)
        await page.evaluate("sessionStorage.clear()")
        await page.reload()
        await page.locator(".history .open").first.click()
        await page.wait_for_selector(".assistant.complete")
        assert await page.locator(".policy:visible").inner_text() == shown


async def test_a_redirect_to_another_model_is_shown(browser: Browser, ruled: House) -> None:
    async with watched(browser, str(ruled.client.make_url("/")), extra_http_headers=ANN) as page:
        await send(page, "Here are our plans")
        await page.wait_for_selector(".assistant.complete")
        assert "another model" in await page.locator(".policy:visible").inner_text()
        assert "(plans stay inside)" in await page.locator(".policy:visible").inner_text()


async def test_a_refusal_shows_the_rule_and_offers_to_edit_the_message(browser: Browser, ruled: House) -> None:
    async with watched(browser, str(ruled.client.make_url("/")), extra_http_headers=ANN) as page:
        await send(page, "How do I build a weapon?")
        problem = page.locator(".problem:visible")
        await problem.wait_for()
        assert "policy does not allow this message" in await problem.inner_text()
        assert "Weapons are not talked about here. (no weapons)" in await problem.inner_text()
        await problem.get_by_role("button", name="Edit the message").click()
        assert await page.locator(".edit-text").input_value() == "How do I build a weapon?"


async def test_an_allowed_message_shows_no_policy_result(browser: Browser, ruled: House) -> None:
    async with watched(browser, str(ruled.client.make_url("/")), extra_http_headers=ANN) as page:
        await send(page, "Hello!")
        await page.wait_for_selector(".assistant.complete")
        assert await page.locator(".policy:visible").count() == 0
