"""A browser that opens an upstream's response in the gateway's origin runs no script of it.

Here the browser sends a key. A navigation normally does not, and gets no response (`test_origin_check`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.edge.app import House, house
from tests.loopback import answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.postgres import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILE = "/v1/files/abc/content"
CALL = "fetch('/v1/echo/ran');"
BODIES = {
    "text/html": f'<script>{CALL}</script><img src=x onerror="{CALL}"><iframe src=/v1/echo/ran></iframe>',
    "image/svg+xml": f'<svg xmlns="http://www.w3.org/2000/svg"><script>{CALL}</script></svg>',
    "application/xhtml+xml": f'<html xmlns="http://www.w3.org/1999/xhtml"><script>{CALL}</script></html>',
    "text/plain": f"<html><script>{CALL}</script></html>",
    "application/json": f"<html><script>{CALL}</script></html>",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[House, dict[str, str]]]:
    """A gateway, and the header with a key of it."""
    dsn = postgres.create_database()
    async with house(tmp_path_factory.mktemp("gateway"), dsn, GATEWAY_AUTH="header, keys") as it:
        made = await it.ask("/admin/keys", {"user": "ann", "name": "browser"}, by="root/admins")
        yield it, {"Authorization": f"Bearer {made.json()['value']}"}
    postgres.drop_database(dsn)


def serve(it: House, kind: str, body: str) -> None:
    def answered(request: Any) -> Any:
        return answer([body.encode()], content_type=kind) if request.path == FILE else None

    it.upstream.forget()
    it.upstream.on = answered


@pytest.mark.parametrize("kind", BODIES)
async def test_f1_no_script_of_an_upstream_runs_in_the_gateways_origin(
    browser: Browser, keyed: tuple[House, dict[str, str]], kind: str
) -> None:
    playwright = pytest.importorskip("playwright.async_api")
    it, key = keyed
    serve(it, kind, BODIES[kind])
    page = await browser.new_page(extra_http_headers=key)
    try:
        if kind in ("text/plain", "application/json"):
            await page.goto(str(it.client.make_url(FILE)), wait_until="networkidle")
            assert "<script>" in await page.inner_text("body")
        else:
            async with page.expect_download():
                with pytest.raises(playwright.Error):  # a download
                    await page.goto(str(it.client.make_url(FILE)))
    finally:
        await page.close()
    assert {request.path for request in it.upstream.requests} == {FILE}


@pytest.mark.parametrize("kind", ["text/javascript", "text/plain", "application/json"])
async def test_f1_no_page_of_the_gateway_can_include_a_response(
    browser: Browser, keyed: tuple[House, dict[str, str]], kind: str
) -> None:
    playwright = pytest.importorskip("playwright.async_api")
    it, key = keyed
    serve(it, kind, CALL)
    page = await browser.new_page(extra_http_headers=key)
    try:
        await page.goto(str(it.client.make_url("/docs")))
        with pytest.raises(playwright.Error):
            await page.add_script_tag(url=FILE)
    finally:
        await page.close()
    assert [request.path for request in it.upstream.requests] == [FILE]
