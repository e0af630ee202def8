"""What the tests of the pages look for in a browser: complaints, requests to other hosts, faults that axe finds."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Locator, Page

AXE = Path(__file__).parent / "axe" / "axe.min.js"
PATIENCE_S = 10
AT_REST = "document.getAnimations().every(each => each.effect.getTiming().iterations === Infinity)"
WATCH = "addEventListener('securitypolicyviolation', e => console.error('Security Policy: ' + e.violatedDirective))"


@asynccontextmanager
async def watched(
    browser: Browser, url: str, *, hosts: frozenset[str] = frozenset(), **options: Any
) -> AsyncIterator[Page]:
    """The page, open. By the end no script has failed, no policy been violated, and no other host been asked."""
    complaints: list[str] = []
    asked: set[str] = set()
    context = await browser.new_context(**options)
    await context.add_init_script(WATCH)
    page = await context.new_page()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda fault: complaints.append(str(fault)))
    page.on("console", lambda line: complaints.append(line.text) if "Security Policy" in line.text else None)
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    context.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    try:
        await page.goto(url)
        yield page
    finally:
        await context.close()  # also its connections, for which a gateway in this process would wait
    assert complaints == []
    assert {host for host in asked if host} <= {urlsplit(url).netloc} | hosts


async def until(page: Page, expression: str) -> None:
    """As the driver's own `wait_for_function`, which the page's policy forbids for it evaluates a string there."""
    async with asyncio.timeout(PATIENCE_S):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.02)


def expect(locator: Locator) -> Any:
    """Assertions that wait: the page shows what it knows a frame later, and what it asks for whenever it comes."""
    driver = pytest.importorskip("playwright.async_api", reason="comes with the browser extra")
    driver.expect.set_options(timeout=PATIENCE_S * 1000)
    return driver.expect(locator)


async def axe_violations(page: Page) -> list[str]:
    """What axe-core takes for serious or critical: the rule and where. Nothing is on the move by then."""
    await until(page, AT_REST)
    await page.evaluate(AXE.read_text("utf-8") + ";0")
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    return [
        f"{each['id']}: {node['target']} {node.get('failureSummary', '')}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
