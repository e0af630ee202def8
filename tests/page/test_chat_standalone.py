"""The page in a real browser, served under a strict policy. Skipped where there is no browser to drive."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestServer

from gateway.providers.demo.provider import DemoProvider
from gateway.settings.settings import DemoSettings
from gateway.transport.call import Call, Ending, Head, Provider, Reply
from tests.page.browser_checks import expect, until
from tests.page.static_server import page_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from gateway.transport.call import BodySink

ASSISTANT = {"role": "system", "content": "You are a helpful assistant."}

# One browser for all of these tests, so they share its loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# ── a browser ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Said(Reply):
    """A scripted answer; the pieces after a None come only when the test lets them."""

    def __init__(self, status: int, kind: str, pieces: list[bytes | None], go_on: asyncio.Event) -> None:
        self.head = Head(status, ((b"content-type", kind.encode()),))
        self._pieces = pieces
        self._go_on = go_on

    async def pump(self, sink: BodySink) -> Ending:
        for piece in self._pieces:
            if piece is None:
                await self._go_on.wait()
            else:
                sink.feed(piece)
                await sink.drained()
        return Ending.WHOLE

    def close(self) -> None: ...


class Scripted(Provider):
    """Says what a test wrote down, and notes what it was asked."""

    name = "scripted"

    def __init__(self, *answers: tuple[int, str, list[bytes | None]], models: list[str] | None = None) -> None:
        self._answers = list(answers)
        self._models = models
        self.asked: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()

    async def open(self, call: Call) -> Reply:
        if call.path == "/models":
            status = 404 if self._models is None else 200
            body = json.dumps({"data": [{"id": name} for name in self._models or []]})
            return Said(status, "application/json", [body.encode()], self.go_on)
        assert isinstance(call.body, bytes)
        self.asked.append(json.loads(call.body))
        return Said(*self._answers.pop(0), self.go_on)

    async def aclose(self) -> None: ...


def stream(*texts: str, end: bool = True) -> tuple[int, str, list[bytes | None]]:
    """A streamed answer; without its end it hangs until the test lets go."""
    events: list[bytes | None] = [
        b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() for text in texts
    ]
    last = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    return 200, "text/event-stream", [*events, last] if end else [*events, None]


def error(status: int, message: str, code: str) -> tuple[int, str, list[bytes | None]]:
    return status, "application/json", [json.dumps({"error": {"message": message, "code": code}}).encode()]


@asynccontextmanager
async def opened(browser: Browser, provider: Provider, **options: Any) -> AsyncIterator[Page]:
    """The page, open; it must not have complained by the end."""
    complaints: list[str] = []
    async with TestServer(page_app(provider)) as server:
        context = await browser.new_context(**options)
        page = await context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda fault: complaints.append(str(fault)))
        page.on("console", lambda line: complaints.append(line.text) if "Security Policy" in line.text else None)
        await page.goto(str(server.make_url("/")))
        yield page
        await context.close()
    assert complaints == []


async def write(page: Page, text: str) -> None:
    await page.locator("#composer-text").fill(text)
    await page.keyboard.press("Enter")


async def test_demo_is_called_one_and_answers_a_starter(browser: Browser) -> None:
    async with opened(browser, DemoProvider(DemoSettings(words_per_second=2000))) as page:
        await page.get_by_text("Demo model", exact=True).wait_for()
        await expect(page.locator(".welcome")).to_contain_text("no language model")
        await page.get_by_role("button", name="Show me some Python code").click()
        await page.wait_for_selector(".assistant.complete")
        await expect(page.locator(".assistant pre code").first).to_contain_text("base_url")
        await expect(page.locator(".assistant h4").first).to_have_text("A few lines of code")
        await expect(page.locator(".assistant .meta")).to_contain_text("tokens in")
        assert await page.evaluate("document.activeElement.id") == "composer-text"


async def test_words_show_while_the_answer_is_still_coming(browser: Browser) -> None:
    provider = Scripted((200, "text/event-stream", [*stream("One ")[2][:1], None, *stream("two")[2]]), models=["m"])
    async with opened(browser, provider) as page:
        await write(page, "go")
        await page.get_by_text("One", exact=True).wait_for()
        await expect(page.locator(".assistant.streaming")).to_have_count(1)
        provider.go_on.set()
        await page.wait_for_selector(".assistant.complete")
        await expect(page.locator(".assistant .content")).to_have_text("One two")


async def test_a_conversation_goes_along_with_each_question(browser: Browser) -> None:
    provider = Scripted(stream("Hi."), stream("Yes."), models=["first", "second"])
    async with opened(browser, provider) as page:
        await page.locator("#model-select").select_option("second")
        await write(page, "hello")
        await page.get_by_text("Hi.").wait_for()
        await write(page, "sure?")
        await page.get_by_text("Yes.").wait_for()
    assert [message["content"] for message in provider.asked[1]["messages"][1:]] == ["hello", "Hi.", "sure?"]
    assert provider.asked[1]["model"] == "second"


async def test_shift_enter_makes_a_line_and_escape_stops(browser: Browser) -> None:
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
    assert provider.asked[0]["messages"] == [ASSISTANT, {"role": "user", "content": "one\ntwo"}]
    assert provider.asked[1]["messages"] == provider.asked[0]["messages"]


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
async def test_what_goes_wrong_is_told_with_what_to_do(
    browser: Browser, answer: tuple[int, str, list[bytes | None]], shown: list[str]
) -> None:
    async with opened(browser, Scripted(answer, models=["m"])) as page:
        await write(page, "hello")
        await page.wait_for_selector(".assistant.failed")
        for words in [*shown, "Try again"]:
            await expect(page.locator(".assistant")).to_contain_text(words)


async def test_a_model_that_cannot_be_listed_is_named_by_hand(browser: Browser) -> None:
    provider = Scripted(stream("Hi."))
    async with opened(browser, provider) as page:
        await page.locator("#model-name").fill("my-model")
        await write(page, "hello")
        await page.get_by_text("Hi.").wait_for()
    assert provider.asked[0]["model"] == "my-model"


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


async def test_new_chat_forgets_the_old_one(browser: Browser) -> None:
    provider = Scripted(stream("Hi."), stream("New."), models=["m"])
    async with opened(browser, provider) as page:
        await write(page, "hello")
        await page.wait_for_selector(".assistant.complete")
        await page.locator(".new-chat").click()
        await page.wait_for_selector(".welcome h2")
        await write(page, "fresh")
        await page.get_by_text("New.").wait_for()
    assert provider.asked[1]["messages"] == [ASSISTANT, {"role": "user", "content": "fresh"}]


async def test_keyboard_alone_reaches_everything(browser: Browser) -> None:
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
async def test_nothing_sticks_out_at_any_width(browser: Browser, width: int) -> None:
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


async def test_reader_who_scrolls_up_is_left_there(browser: Browser) -> None:
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
