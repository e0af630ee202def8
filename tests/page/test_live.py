"""The live page in a browser: interactions arrive, are found and opened, and only auditors see them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from gateway.edge.http.app_keys import IN_FLIGHT
from tests.edge.app import House, house
from tests.edge.rules import CARD, COMPANYS
from tests.loopback import Script, WaitFor, chat_completion
from tests.page.browser_checks import axe_violations, until, watched
from tests.page.sample_conversations import CONVERSATIONS, replay
from tests.page.test_chat import HOSTILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from playwright.async_api import Browser, Page

    from tests.postgres import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

AUDITOR = {"X-User": "eve", "X-Groups": "auditors"}
PAID = "Add that we paid with card [card number] already."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    dsn = postgres.create_database()
    async with house(tmp_path_factory.mktemp("gateway"), dsn, policy=COMPANYS, GATEWAY_AUTH="header, keys") as it:
        await replay(it)
        await it.rows(len(CONVERSATIONS))
        yield it
    postgres.drop_database(dsn)


def opened(browser: Browser, it: House, query: str = "", **options: Any) -> AbstractAsyncContextManager[Page]:
    options = {"extra_http_headers": AUDITOR, **options}
    return watched(browser, str(it.client.make_url("/live")) + query, **options)


async def until_live(page: Page) -> None:
    await page.locator(".connection.live").wait_for()
    await page.locator(".list li").first.wait_for()


async def test_a_new_interaction_appears_with_its_policy_result(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as page:
        await until_live(page)
        await filled.chat(f"Pay {CARD.decode()} at once", by="nora")
        line = page.locator(".list li").first
        await line.locator(".question", has_text="Pay [card number] at once").wait_for()
        assert await line.locator(".user").inner_text() == "nora"
        assert await line.locator(".verdict").inner_text() == "Masked"
        await filled.ask("/chat", {"model": "m", "messages": [{"role": "user", "content": "a weapon"}]}, by="olaf")
        await page.locator(".list li:first-child .verdict.rejected").wait_for()
        texts = await page.locator(".list li .question").all_inner_texts()
        assert len(texts) == len(await filled.fetch("select from llm_logs.chatgpt_logs"))


async def test_running_answers_are_listed_until_they_end(browser: Browser, filled: House) -> None:
    go = asyncio.Event()
    async with opened(browser, filled) as page:
        await until_live(page)
        running = page.locator("#in-flight")
        await running.get_by_text("Nothing is being answered at the moment").wait_for()
        filled.upstream.on = lambda _: Script([WaitFor(go)]) + chat_completion("ok")
        try:
            names = [f"writer-{number}" for number in range(15)]
            asking = [asyncio.create_task(filled.chat("hello", by=name)) for name in names]
            count = running.get_by_role("button", name="15 being answered")
            await count.wait_for()
            assert await running.locator("li").count() == 12  # in one line
            box = await running.bounding_box()
            assert box is not None
            assert box["height"] < 50
            await count.click()
            assert await running.locator(".user").all_inner_texts() == names
            assert await count.get_attribute("aria-expanded") == "true"
            await running.locator(".clock", has_text=re.compile("[2-9] s")).first.wait_for()
            assert await axe_violations(page) == []
        finally:
            go.set()
            await asyncio.gather(*asking)
            filled.upstream.on = None
        await running.get_by_text("Nothing is being answered at the moment").wait_for()
        await page.locator(".list li .user", has_text="writer-14").wait_for()


async def test_a_click_opens_the_whole_conversation_and_escape_closes_it(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as page:
        await until_live(page)
        await page.locator(".list a", has_text=PAID).click()
        turns = page.locator(".turn")
        await turns.nth(1).wait_for()
        assert await turns.count() == 2
        assert "Draft a reply to Brandt" in await turns.nth(0).inner_text()
        assert PAID in await turns.nth(1).inner_text()
        assert "masked parts of this request" in await turns.nth(1).locator(".policy").inner_text()
        assert "card numbers" in await turns.nth(1).locator(".policy").inner_text()
        assert "open=" in page.url
        await page.reload()  # the URL has the open conversation
        await turns.nth(1).wait_for()
        await page.keyboard.press("Escape")
        await page.locator("#conversation").wait_for(state="hidden")
        assert "open=" not in page.url


async def test_a_refused_request_shows_the_rule_and_its_reason(browser: Browser, filled: House) -> None:
    async with opened(browser, filled, "?policy=rejected&user=guest-17%40corp.example") as page:
        await page.locator(".list a").click()
        text = await page.locator(".turn").inner_text()
        assert "The policy refused this request" in text
        assert "no weapons" in text
        assert "Weapons are not talked about here." in text


async def test_filters_and_searches_narrow_the_list_and_are_in_the_url(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as page:
        await until_live(page)
        await page.locator("select[name=outcome]").select_option("upstream_error")
        await until(page, "document.querySelectorAll('.list li').length === 1")
        assert "outcome=upstream_error" in page.url
        await page.locator("text=Clear").click()
        await page.locator("input[name=q]").fill("deliv late")
        await until(page, "document.querySelectorAll('.list li').length === 1")
        assert await page.locator(".list .question").inner_text() == CONVERSATIONS[2][2][-1]["content"]
        await page.locator(".connection.searching").wait_for()
        await page.reload()
        await until(page, "document.querySelectorAll('.list li').length === 1")
        assert await page.locator("input[name=q]").input_value() == "deliv late"
        await page.locator("input[name=q]").fill("nobody ever said")
        await page.locator("text=Nothing like this in the log.").wait_for()


async def test_new_interactions_wait_during_a_pause(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as page:
        await until_live(page)
        count = await page.locator(".list li").count()
        await page.get_by_role("button", name="Pause").click()
        await filled.chat("while paused", by="pia")
        fresh = page.get_by_role("button", name="1 new")
        await fresh.wait_for()
        assert await page.locator(".list li").count() == count
        await fresh.click()
        await page.locator(".list li:first-child", has_text="while paused").wait_for()
        await page.get_by_role("button", name="Go on").click()
        await filled.chat("after the pause", by="pia")
        await page.locator(".list li:first-child", has_text="after the pause").wait_for()


async def test_the_list_does_not_move_while_the_user_has_scrolled_down(browser: Browser, filled: House) -> None:
    async with opened(browser, filled, viewport={"width": 1280, "height": 400}) as page:
        await until_live(page)
        await page.locator("#interactions").evaluate("el => el.scrollTop = 200")
        await until(page, "document.querySelector('#interactions').scrollTop > 120")
        await filled.chat("while scrolled", by="pia")
        await page.get_by_role("button", name="1 new").click()
        await page.locator(".list li:first-child", has_text="while scrolled").wait_for()
        assert await page.locator("#interactions").evaluate("el => el.scrollTop") == 0


async def test_hostile_text_is_shown_as_text(browser: Browser, filled: House) -> None:
    filled.upstream.script(chat_completion(HOSTILE))
    await filled.chat(HOSTILE, by="<img src=x onerror=alert(1)>", model="<script>alert(1)</script>")
    async with opened(browser, filled) as page:
        await until_live(page)
        line = page.locator(".list li", has_text="<img src=x onerror=alert(1)>").first
        assert await line.locator(".user").inner_text() == "<img src=x onerror=alert(1)>"
        await line.locator("a").click()
        await page.locator(".turn").wait_for()
        assert await page.locator(".turn .message p").first.text_content() == HOSTILE
        assert (
            await page.locator(
                "#interactions img, #interactions script, #conversation img, #conversation script"
            ).count()
            == 0
        )
        assert "Live" in await page.title()


@pytest.mark.parametrize("who", [{}, {"X-User": "ann"}], ids=["unknown", "not an auditor"])
async def test_users_who_are_not_auditors_see_only_the_sign_in(
    browser: Browser, filled: House, who: dict[str, str]
) -> None:
    async with opened(browser, filled, extra_http_headers=who) as page:
        await page.locator("#sign-in").wait_for()
        for part in ("#interactions", "#filters", "#conversation"):
            assert not await page.locator(part).is_visible()
        assert "corp.example" not in await page.content()
        assert await axe_violations(page) == []


async def test_an_auditors_key_opens_the_page_and_its_revocation_closes_it(browser: Browser, filled: House) -> None:
    order = {"user": "vera", "name": "watching", "roles": ["auditor"]}
    key = (await filled.ask("/admin/keys", order, by="root/admins")).json()
    async with opened(browser, filled, extra_http_headers={}) as page:
        await page.locator("#sign-in input").fill("sk-wrong")
        await page.keyboard.press("Enter")
        await page.locator("#sign-in input").fill(key["value"])
        await page.keyboard.press("Enter")
        await until_live(page)
        await filled.ask(f"/admin/keys/{key['id']}", by="root/admins", method="DELETE")
        await page.locator("#sign-in").wait_for()
        assert not await page.locator("#interactions").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_it_has_no_overflow_and_axe_has_no_serious_finding(
    browser: Browser, filled: House, scheme: str, width: int
) -> None:
    async with opened(browser, filled, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        await until_live(page)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert await axe_violations(page) == []
        await page.locator(".list a", has_text=PAID).click()
        await page.locator(".turn").nth(1).wait_for()
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert await axe_violations(page) == []


async def test_the_keyboard_opens_a_conversation_and_the_focus_returns(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as page:
        await until_live(page)
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        link = page.locator(".list a").nth(2)
        await link.focus()
        await page.keyboard.press("Enter")
        await page.locator(".turn").first.wait_for()
        assert await page.evaluate("document.activeElement.tagName") == "H2"
        await page.keyboard.press("Escape")
        await until(page, "document.activeElement === document.querySelectorAll('.list a')[2]")


async def test_screen_readers_get_few_announcements(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as page:
        await until_live(page)
        await page.evaluate(
            "const region = document.getElementById('announcements'); window.announced = [];"
            "new MutationObserver(() => announced.push(region.textContent)).observe(region, {childList: true})"
        )
        for number in range(6):
            await filled.chat(f"babble {number}", by="pia")
        await page.locator(".list li:first-child", has_text="babble 5").wait_for()
        assert len(await page.evaluate("announced")) <= 1


async def test_the_page_reconnects_to_a_restarted_gateway(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as page:
        await until_live(page)
        filled.app[IN_FLIGHT].is_draining = True
        try:
            await page.locator(".connection.lost").wait_for()
        finally:
            filled.app[IN_FLIGHT].is_draining = False
        await filled.chat("meanwhile", by="pia")
        await page.locator(".list li:first-child", has_text="meanwhile").wait_for()
        await page.locator(".connection.live").wait_for()
        assert await page.locator(".list li", has_text="meanwhile").count() == 1


async def test_the_report_links_auditors_to_the_live_page(browser: Browser, filled: House) -> None:
    async with watched(browser, str(filled.client.make_url("/report")), extra_http_headers=AUDITOR) as page:
        await page.get_by_role("link", name="Live").click()
        await until_live(page)
        await page.get_by_role("link", name="Report").click()
        await page.locator(".tiles").wait_for()
    async with watched(browser, str(filled.client.make_url("/report")), extra_http_headers={"X-User": "ann"}) as page:
        await page.locator(".tiles").wait_for()
        assert await page.get_by_role("link", name="Live").count() == 0
