"""The chat page in a browser without a gateway: a static server and a scripted provider."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestServer

from gateway.providers.demo.provider import DemoProvider
from gateway.settings import DemoSettings
from gateway.transport.call import Call, Ending, Head, Provider, Reply
from tests.page.browser_checks import expect, until
from tests.page.static_server import page_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from gateway.transport.call import BodySink

ASSISTANT = {"role": "system", "content": "You are a helpful assistant."}

# All tests share one browser, and therefore one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# ── provider ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class ScriptedReply(Reply):
    """A scripted answer. At a None it waits for `go_on`."""

    def __init__(self, status: int, kind: str, chunks: list[bytes | None], go_on: asyncio.Event) -> None:
        self.head = Head(status, ((b"content-type", kind.encode()),))
        self._chunks = chunks
        self._go_on = go_on

    async def pump(self, sink: BodySink) -> Ending:
        for chunk in self._chunks:
            if chunk is None:
                await self._go_on.wait()
            else:
                sink.feed(chunk)
                await sink.drained()
        return Ending.WHOLE

    def close(self) -> None: ...


class Scripted(Provider):
    """Sends scripted answers and records the requests."""

    name = "scripted"

    def __init__(self, *answers: tuple[int, str, list[bytes | None]], models: list[str] | None = None) -> None:
        self._answers = list(answers)
        self._models = models
        self.requests: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()

    async def open(self, call: Call) -> Reply:
        if call.path == "/models":
            status = 404 if self._models is None else 200
            body = json.dumps({"data": [{"id": name} for name in self._models or []]})
            return ScriptedReply(status, "application/json", [body.encode()], self.go_on)
        assert isinstance(call.body, bytes)
        self.requests.append(json.loads(call.body))
        return ScriptedReply(*self._answers.pop(0), self.go_on)

    async def aclose(self) -> None: ...


def stream(*texts: str, end: bool = True) -> tuple[int, str, list[bytes | None]]:
    """A streamed answer; without its end it waits for `go_on`."""
    events: list[bytes | None] = [
        b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() for text in texts
    ]
    last = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    return 200, "text/event-stream", [*events, last] if end else [*events, None]


def error(status: int, message: str, code: str) -> tuple[int, str, list[bytes | None]]:
    return status, "application/json", [json.dumps({"error": {"message": message, "code": code}}).encode()]


@asynccontextmanager
async def opened(browser: Browser, provider: Provider, **options: Any) -> AsyncIterator[Page]:
    """An open page. Fails at the end if a script failed or the policy was violated."""
    problems: list[str] = []
    async with TestServer(page_app(provider)) as server:
        context = await browser.new_context(**options)
        page = await context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda fault: problems.append(str(fault)))
        page.on("console", lambda line: problems.append(line.text) if "Security Policy" in line.text else None)
        await page.goto(str(server.make_url("/")))
        yield page
        await context.close()
    assert problems == []


async def write(page: Page, text: str) -> None:
    await page.locator("#composer-text").fill(text)
    await page.keyboard.press("Enter")


async def test_the_demo_model_has_a_badge_and_answers_a_starter(browser: Browser) -> None:
    async with opened(browser, DemoProvider(DemoSettings(words_per_second=2000))) as page:
        await page.get_by_text("Demo model", exact=True).wait_for()
        await expect(page.locator(".welcome")).to_contain_text("no language model")
        await page.get_by_role("button", name="Show me some Python code").click()
        await page.wait_for_selector(".assistant.complete")
        await expect(page.locator(".assistant pre code").first).to_contain_text("base_url")
        await expect(page.locator(".assistant h4").first).to_have_text("A few lines of code")
        await expect(page.locator(".assistant .meta")).to_contain_text("tokens in")
        assert await page.evaluate("document.activeElement.id") == "composer-text"


async def test_text_is_shown_while_the_answer_streams(browser: Browser) -> None:
    provider = Scripted((200, "text/event-stream", [*stream("One ")[2][:1], None, *stream("two")[2]]), models=["m"])
    async with opened(browser, provider) as page:
        await write(page, "go")
        await page.get_by_text("One", exact=True).wait_for()
        await expect(page.locator(".assistant.streaming")).to_have_count(1)
        provider.go_on.set()
        await page.wait_for_selector(".assistant.complete")
        await expect(page.locator(".assistant .content")).to_have_text("One two")


async def test_a_request_has_the_whole_conversation(browser: Browser) -> None:
    provider = Scripted(stream("Hi."), stream("Yes."), models=["first", "second"])
    async with opened(browser, provider) as page:
        await page.locator("#model-select").select_option("second")
        await write(page, "hello")
        await page.get_by_text("Hi.").wait_for()
        await write(page, "sure?")
        await page.get_by_text("Yes.").wait_for()
    assert [message["content"] for message in provider.requests[1]["messages"][1:]] == ["hello", "Hi.", "sure?"]
    assert provider.requests[1]["model"] == "second"


async def test_shift_enter_breaks_the_line_and_escape_stops(browser: Browser) -> None:
    provider = Scripted(stream("A long ", "story", end=False), stream("Again."), models=["m"])
    async with opened(browser, provider) as page:
        await page.locator("#composer-text").focus()
        await page.keyboard.type("one")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("two")
        await page.keyboard.press("Enter")
        await page.get_by_text("A long story").wait_for()
        await page.keyboard.press("Escape")
        await page.wait_for_selector(".assistant.stopped")
        await expect(page.locator(".assistant .content")).to_have_text("A long story")
        await page.get_by_role("button", name="Another answer").click()
        await page.get_by_text("Again.").wait_for()
        provider.go_on.set()
    assert provider.requests[0]["messages"] == [ASSISTANT, {"role": "user", "content": "one\ntwo"}]
    assert provider.requests[1]["messages"] == provider.requests[0]["messages"]


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (error(401, "Incorrect API key", "invalid_api_key"), ["You are not signed in", "Incorrect API key", "Sign in"]),
        (error(503, "no space", "journal_full"), ["no room", "no space"]),
        ((502, "text/html", [b"<h1>Bad gateway</h1>"]), ["side failed.", "in a moment"]),
        ((200, "text/event-stream", stream("Half")[2][:1]), ["Half", "cut off"]),
        (
            (200, "text/event-stream", [*stream("Part")[2][:1], b'data: {"error": {"message": "boom"}}\n\n']),
            ["Part", "ended with an error", "boom"],
        ),
    ],
)
async def test_an_error_is_shown_with_an_advice(
    browser: Browser, answer: tuple[int, str, list[bytes | None]], shown: list[str]
) -> None:
    async with opened(browser, Scripted(answer, models=["m"])) as page:
        await write(page, "hello")
        await page.wait_for_selector(".assistant.failed")
        for words in [*shown, "Try again"]:
            await expect(page.locator(".assistant")).to_contain_text(words)


async def test_without_a_list_of_models_the_user_types_a_name(browser: Browser) -> None:
    provider = Scripted(stream("Hi."))
    async with opened(browser, provider) as page:
        await page.locator("#model-name").fill("my-model")
        await write(page, "hello")
        await page.get_by_text("Hi.").wait_for()
    assert provider.requests[0]["model"] == "my-model"


async def test_code_can_be_copied(browser: Browser) -> None:
    provider = Scripted(stream("```py\nprint(1)\n```"), models=["m"])
    async with opened(browser, provider, permissions=["clipboard-read", "clipboard-write"]) as page:
        await write(page, "code")
        await (
            page.get_by_role("button", name="Copy the code")
            .or_(page.get_by_role("button", name="Copy py code"))
            .click()
        )
        await page.get_by_text("Copied").wait_for()
        assert await page.evaluate("navigator.clipboard.readText()") == "print(1)"


async def test_a_new_chat_has_no_earlier_messages(browser: Browser) -> None:
    provider = Scripted(stream("Hi."), stream("New."), models=["m"])
    async with opened(browser, provider) as page:
        await write(page, "hello")
        await page.wait_for_selector(".assistant.complete")
        await page.locator(".new-chat").click()
        await page.wait_for_selector(".welcome h2")
        await write(page, "fresh")
        await page.get_by_text("New.").wait_for()
    assert provider.requests[1]["messages"] == [ASSISTANT, {"role": "user", "content": "fresh"}]


async def test_the_keyboard_reaches_all_controls(browser: Browser) -> None:
    async with opened(browser, DemoProvider(DemoSettings(words_per_second=2000))) as page:
        await page.get_by_role("button", name="Where are my words kept?").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".assistant.complete")
        reached = set()
        await page.locator("body").press("Tab")
        for _ in range(24):
            reached.add(await page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent"))
            await page.keyboard.press("Tab")
        wanted = {
            "New chat",
            "Use case",
            "Parameters",
            "Edit and send again",
            "Copy message",
            "Another answer",
            "Message",
        }
        assert wanted <= reached


@pytest.mark.parametrize("width", [320, 390, 1400])
async def test_nothing_overflows_at_any_width(browser: Browser, width: int) -> None:
    long = f"{'w' * 300} `{'c' * 300}`\n\n```\n{'x' * 300}\n```\n\n- {'l' * 300}"
    provider = Scripted(stream(long), models=["a-model-with-a-rather-long-name-for-a-phone", "other"])
    async with opened(browser, provider, viewport={"width": width, "height": 700}) as page:
        await write(page, "q" * 300)
        await page.wait_for_selector(".assistant.complete")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        edges = await page.evaluate(
            "[...document.querySelectorAll('button, select, textarea, .badge')]"
            ".filter(e => e.checkVisibility({visibilityProperty: true}))"
            ".map(e => e.getBoundingClientRect().right)"
        )
        assert edges
        assert max(edges) <= width
        assert await page.evaluate("document.querySelector('.header').getBoundingClientRect().top") == 0


async def test_the_page_does_not_scroll_after_the_user_has_scrolled_up(browser: Browser) -> None:
    provider = Scripted(
        (200, "text/event-stream", [*stream("line\n\n" * 80)[2][:1], None, *stream("more\n\n" * 40)[2]]), models=["m"]
    )
    async with opened(browser, provider, viewport={"width": 800, "height": 500}) as page:
        await write(page, "go")
        await until(page, "document.querySelectorAll('.assistant .content p').length >= 80")
        await page.mouse.move(400, 250)
        await page.mouse.wheel(0, -1000)
        await page.get_by_role("button", name="Newest").wait_for()
        before = await page.evaluate("scrollY")
        provider.go_on.set()
        await page.wait_for_selector(".assistant.complete")
        assert await page.evaluate("scrollY") == before
        await page.get_by_role("button", name="Newest").click()
        await until(page, "scrollY + innerHeight > document.documentElement.scrollHeight - 5")
