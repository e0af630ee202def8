"""Pictures of the chat page for the README: `python -m tests.page.screenshots URL`, with the demo model behind it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.async_api import async_playwright

from tests.page.conftest import ARGUMENTS

if TYPE_CHECKING:
    from playwright.async_api import Browser

PICTURES = Path(__file__).resolve().parents[2] / "deploy" / "pictures"
EARLIER = ("Draft a reply to the supplier", "Hello! What can you do?", "How do I connect a real model?")
SHOWN = "Show me some Python code"
WIDE: dict[str, Any] = {"viewport": {"width": 1180, "height": 760}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 1.5, "has_touch": True}
SHOTS = (
    ("page-light", {**WIDE, "color_scheme": "light"}),
    ("page-dark", {**WIDE, "color_scheme": "dark"}),
    ("page-phone", {**PHONE, "color_scheme": "light"}),
)


async def ask(browser: Browser, url: str, question: str) -> None:
    page = await browser.new_page()
    await page.goto(url)
    await page.wait_for_selector(".starters")
    await page.locator("#composer-text").fill(question)
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".assistant.complete", timeout=60_000)
    await page.close()


async def shoot(browser: Browser, url: str, name: str, options: dict[str, Any]) -> None:
    context = await browser.new_context(**options)
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_selector(".starters")
    await page.locator("#composer-text").fill(SHOWN)
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".assistant.complete", timeout=60_000)
    await page.locator(f".past [aria-current]:text-is('{SHOWN}')").wait_for(state="attached")
    await page.mouse.wheel(0, -5000)
    await asyncio.sleep(1)
    await page.screenshot(path=PICTURES / f"{name}.png")
    await context.close()


async def main(url: str) -> None:
    async with async_playwright() as driver:
        chromium = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        for question in EARLIER:
            await ask(chromium, url, question)
        for name, options in SHOTS:
            await shoot(chromium, url, name, options)
        await chromium.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
