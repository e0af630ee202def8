"""Checks of a page in a browser: script errors, policy violations, requests to other hosts, findings of axe-core."""

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
TIMEOUT_S = 10
NO_ANIMATION = "document.getAnimations().every(each => each.effect.getTiming().iterations === Infinity)"
REPORT_VIOLATIONS = (
    "addEventListener('securitypolicyviolation', e => console.error('Security Policy: ' + e.violatedDirective))"
)


@asynccontextmanager
async def watched(
    browser: Browser, url: str, *, hosts: frozenset[str] = frozenset(), **options: Any
) -> AsyncIterator[Page]:
    """An open page. Fails at the end if a script failed, the policy was violated, or another host got a request."""
    problems: list[str] = []
    requested: set[str] = set()
    context = await browser.new_context(**options)
    await context.add_init_script(REPORT_VIOLATIONS)
    page = await context.new_page()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda fault: problems.append(str(fault)))
    page.on("console", lambda line: problems.append(line.text) if "Security Policy" in line.text else None)
    page.on("dialog", lambda dialog: problems.append(f"a dialog: {dialog.message}"))
    context.on("request", lambda request: requested.add(urlsplit(request.url).netloc))
    try:
        await page.goto(url)
        yield page
    finally:
        await context.close()  # with its connections: a gateway in this process waits for them
    assert problems == []
    assert {host for host in requested if host} <= {urlsplit(url).netloc} | hosts


async def until(page: Page, expression: str) -> None:
    """Like playwright's `wait_for_function`, which evaluates a string in the page, where the policy forbids that."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.02)


def expect(locator: Locator) -> Any:
    """Assertions that wait: the page shows a new state with the next frame."""
    driver = pytest.importorskip("playwright.async_api", reason="comes with the browser extra")
    driver.expect.set_options(timeout=TIMEOUT_S * 1000)
    return driver.expect(locator)


async def axe_violations(page: Page) -> list[str]:
    """Serious and critical findings of axe-core with their elements, once all animations have ended."""
    await until(page, NO_ANIMATION)
    await page.evaluate(AXE.read_text("utf-8") + ";0")
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    return [
        f"{each['id']}: {node['target']} {node.get('failureSummary', '')}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
