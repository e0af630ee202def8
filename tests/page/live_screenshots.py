"""Screenshots of the live page for the README, with a gateway of their own: `python -m tests.page.live_screenshots`."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.async_api import async_playwright

from tests.edge.app import hello, house
from tests.loopback import Script, WaitFor, chat_completion
from tests.page.conftest import ARGUMENTS
from tests.page.sample_conversations import CLAUDE, CONVERSATIONS, GPT, PAY, Conversation, replay
from tests.postgres import running_postgres

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tests.edge.app import House

PAID = "Add that we have paid already."
# Without the conversations that only a policy can answer.
WITHOUT_POLICY: list[Conversation] = [
    (by, model, [{**one, "content": one["content"].replace(PAY, PAID)} for one in messages], answer)
    for by, model, messages, answer in CONVERSATIONS
    if answer != ""
]
PICTURES = Path(__file__).resolve().parents[2] / "deploy" / "pictures"
AUDITOR = {"X-User": "eve", "X-Groups": "auditors"}
# Spreads the rows over a morning.
SPREAD = """
update llm_logs.chatgpt_logs as c set response_time = response_time - n * n * interval '37 s'
from (select id, row_number() over (order by id desc) as n from llm_logs.chatgpt_logs) as o where o.id = c.id
"""
UNDERWAY = (("ines.koch@corp.example", GPT), ("tom.okafor@corp.example", CLAUDE))
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 760}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True}


async def shoot(browser: Browser, it: House, path: Path, *, is_open: bool, **options: Any) -> None:
    context = await browser.new_context(extra_http_headers=AUDITOR, **options)
    page = await context.new_page()
    await page.goto(str(it.client.make_url("/live")))
    await page.locator(".list li").nth(len(WITHOUT_POLICY) - 1).wait_for()
    if is_open:
        await page.locator(".list a", has_text=PAID).click()
        await page.locator(".turn").nth(1).wait_for()
    await page.locator(".in-flight .user").nth(len(UNDERWAY) - 1).wait_for()
    await asyncio.sleep(0.5)
    await page.screenshot(path=path)
    await context.close()


async def main(folder: Path) -> None:
    with running_postgres() as server, tempfile.TemporaryDirectory() as data:
        async with house(Path(data), server.dsn) as it, async_playwright() as driver:
            await replay(it, WITHOUT_POLICY)
            await it.rows(len(WITHOUT_POLICY))
            await it.fetch(SPREAD)
            go = asyncio.Event()
            it.upstream.on = lambda _: Script([WaitFor(go)]) + chat_completion("Gladly.")
            asking = [
                asyncio.create_task(it.ask("/chat", {**hello(), "model": model}, by=by)) for by, model in UNDERWAY
            ]
            chromium = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
            for scheme in ("light", "dark"):
                await shoot(chromium, it, folder / f"live-{scheme}.png", is_open=True, color_scheme=scheme, **WIDE)
            if folder != PICTURES:  # for development
                await shoot(chromium, it, folder / "list.png", is_open=False, **WIDE)
                await shoot(chromium, it, folder / "phone.png", is_open=False, **PHONE)
                await shoot(chromium, it, folder / "phone-open.png", is_open=True, color_scheme="dark", **PHONE)
            await chromium.close()
            go.set()
            await asyncio.gather(*asking)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES))
