"""In a browser: the pages that the one-time link opens, requests from other sites, and the admin key."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.edge.http.app_keys import LINKS
from tests.edge.app import BY_HEADER, House, hello, house
from tests.page.browser_checks import axe_violations, expect, watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from tests.postgres import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPEN: dict[str, Any] = {**dict.fromkeys(BY_HEADER, ""), "GATEWAY_AUTH": "open"}
KEY = "5f0c1d9b7a3e48628c41d0be97f3a15264e8b07d9c2f613a"
SAID = "What does the budget say?"
READS = ("/live/search", "/history", "/report/figures", "/admin/keys", "/v1/models")
# Requests without a preflight, one with it, and subresources. Returns the responses that the page could read.
REQUESTS = """async ([gateway, reads, chat]) => {
  const read = [];
  const nothing = () => {};
  const ask = (path, options) => fetch(gateway + path, { credentials: "include", ...options })
    .then((answer) => answer.text()).then((text) => { if (text) read.push(path + text); }).catch(nothing);
  for (const path of reads) {
    await ask(path, {});
    await ask(path, { credentials: "omit" });
    await ask(path, { mode: "no-cors" });
  }
  const types = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"];
  for (const path of ["/chat", "/v1/chat/completions", "/v1/embeddings"]) {
    const posted = { method: "POST", mode: "no-cors", body: chat };
    for (const type of types) await ask(path, { ...posted, headers: { "Content-Type": type } });
    await ask(path, { ...posted, body: new Blob([chat]) });
    await ask(path, { ...posted, mode: "cors", headers: { "Content-Type": "application/json" } });
    navigator.sendBeacon(gateway + path, chat);
    const form = document.createElement("form");
    Object.assign(form, { method: "POST", enctype: "text/plain", action: gateway + path, target: "hole" });
    form.append(Object.assign(document.createElement("input"), { name: chat.slice(0, -1) + ', "x":"', value: '"}' }));
    document.body.append(form);
    form.submit();
  }
  for (const tag of ["script", "img", "iframe"]) {
    for (const path of reads) {
      const element = document.createElement(tag);
      const over = new Promise((resolve) => { element.onload = element.onerror = resolve; });
      element.src = gateway + path;
      document.body.append(element);
      await over;
      const text = element.contentDocument?.body?.innerText;  // null: of another origin
      if (text) read.push(tag + text);
    }
  }
  return read;
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A gateway without sign-in, with one conversation."""
    dsn = postgres.create_database()
    async with house(tmp_path_factory.mktemp("gateway"), dsn, **OPEN, GATEWAY_METRICS_TOKEN=KEY) as it:
        await it.chat(SAID, by="")
        await it.rows(1)
        it.upstream.forget()
        yield it
    postgres.drop_database(dsn)


def base(it: House) -> str:
    return str(it.client.make_url("")).rstrip("/")


@asynccontextmanager
async def another_port() -> AsyncIterator[str]:
    """A page of another origin on this host."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text='<!doctype html><iframe name="hole"></iframe>', content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def test_f2_without_the_link_the_live_page_shows_the_command_that_makes_one(
    browser: Browser, opened: House
) -> None:
    async with watched(browser, f"{base(opened)}/live") as page:
        await expect(page.locator("#sign-in")).to_contain_text("Open the link that the gateway printed")
        await expect(page.locator("#sign-in code")).to_have_text("llm-gateway open")
        await expect(page.locator("#sign-in input")).to_be_hidden()
        assert await axe_violations(page) == []
    async with watched(browser, f"{base(opened)}/report") as page:
        await expect(page.locator("#status")).to_contain_text("Your own use")
        await expect(page.locator("#status")).to_contain_text("llm-gateway open")
        await expect(page.locator("#live")).to_be_hidden()


async def test_f2_the_link_opens_live_and_report_once(browser: Browser, opened: House) -> None:
    link = opened.app[LINKS].make(base(opened))
    async with watched(browser, link) as page:
        assert page.url == f"{base(opened)}/live"
        await expect(page.locator(".list li .question")).to_contain_text(SAID)
        await page.reload()
        await expect(page.locator(".list li .question")).to_contain_text(SAID)
        await page.goto(f"{base(opened)}/report")
        await expect(page.locator("#status")).to_contain_text("Everybody's use")
        await expect(page.locator("#status")).not_to_contain_text("llm-gateway open")
        assert await page.evaluate("document.cookie") == ""
        await page.goto(link)
        await shows_the_command(page)
        await page.get_by_role("link", name="Live").click()
        await expect(page.locator(".list li .question")).to_contain_text(SAID)
    async with watched(browser, link) as page:
        await shows_the_command(page)
        assert await axe_violations(page) == []
        await page.goto(f"{base(opened)}/live")
        await expect(page.locator("#sign-in code")).to_be_visible()


async def shows_the_command(page: Page) -> None:
    await expect(page.get_by_role("heading", name="This link was used, or has ended")).to_be_visible()
    await expect(page.locator("code")).to_have_text("llm-gateway open")


async def test_f2_a_page_on_another_port_reads_no_response_and_reaches_no_upstream(
    browser: Browser, opened: House
) -> None:
    """Another origin, but the same site: the browser sends its requests with cookies."""
    context = await browser.new_context()
    async with another_port() as other:
        page = await context.new_page()
        await page.goto(opened.app[LINKS].make(base(opened)))
        await expect(page.locator(".list li .question")).to_contain_text(SAID)
        await page.goto(other)
        chat = '{"model":"m","messages":[{"role":"user","content":"spent"}]}'
        assert await page.evaluate(REQUESTS, [base(opened), READS, chat]) == []
        for path in READS:  # a navigation with the cookie shows no response of the API either
            answer = await page.goto(base(opened) + path)
            assert answer is not None
            assert answer.status == 403
        await context.close()
    assert not opened.upstream.requests
    assert len(await opened.fetch("select from llm_logs.chatgpt_logs")) == 1
    metrics = (await opened.ask("/metrics", by="", headers={"x-api-key": KEY})).body.decode()
    refused = sum(
        float(line.split()[-1]) for line in metrics.splitlines() if 'errors_total{code="cross_origin"' in line
    )
    assert refused >= 3 * len(READS) + 3 * 5, "all requests reached the gateway"


async def test_f2_dns_rebinding_reads_no_response(browser: Browser, opened: House) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(base(opened).replace("127.0.0.1", "rebound.example"))
    for path in READS:
        request = "path => fetch(path).then(r => r.json().then(body => [r.status, body.error.code]))"
        assert await page.evaluate(request, path) == [403, "misdirected"]
    await context.close()
    assert not opened.upstream.requests


async def test_f2_the_chat_page_works(browser: Browser, opened: House) -> None:
    async with watched(browser, base(opened)) as page:
        await page.locator("#composer-text").fill("Hello there")
        await page.keyboard.press("Enter")
        await expect(page.locator(".thread")).to_contain_text("loopback")
    opened.upstream.forget()


async def test_f2_the_admin_key_opens_live_and_report(
    browser: Browser, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dsn = postgres.create_database()
    env = {**OPEN, "GATEWAY_AUTH": "keys", "GATEWAY_ADMIN_KEY": KEY}
    async with house(tmp_path_factory.mktemp("gateway"), dsn, **env) as it:
        await it.ask("/chat", hello(SAID), by="", headers={"x-api-key": KEY})
        await it.rows(1)
        async with watched(browser, f"{base(it)}/live") as page:
            await page.get_by_label("Key or token").fill(KEY)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.locator(".list li .question")).to_contain_text(SAID)
            await page.goto(f"{base(it)}/report")
            await expect(page.locator("#status")).to_contain_text("Everybody's use")
        async with watched(browser, f"{base(it)}/report") as page:
            await page.get_by_label("Key or token").fill(KEY)
            await page.get_by_role("button", name="Show the report").click()
            await expect(page.locator("#status")).to_contain_text("Everybody's use")
    postgres.drop_database(dsn)
