"""Fetches small JSON documents from an OpenID issuer over HTTP, with limits on size, time and redirects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
from yarl import URL

from gateway.identity.issuer import FetchError
from gateway.settings.kinds import redacted_url

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 512 * 1024
TIMEOUT_S = 5.0
MAX_REDIRECTS = 3
REDIRECTS = frozenset((301, 302, 303, 307, 308))


class HttpFetcher:
    """Fetches with one `ClientSession`, created at first use. `proxy_for` returns the URL of the proxy for a URL."""

    def __init__(self, proxy_for: Callable[[str], str | None], *, timeout_s: float = TIMEOUT_S) -> None:
        self._proxy_for = proxy_for
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str) -> dict[str, Any]:
        """The JSON object at `url`. Raises FetchError with a text for people."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            )
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._body(self._session, url)
        except TimeoutError as error:
            raise FetchError(f"{redacted_url(url)} did not answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise FetchError(f"{redacted_url(url)} could not be fetched: {type(error).__name__}: {error}") from error
        return _parse_object(body, url)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _body(self, session: aiohttp.ClientSession, url: str) -> bytes:
        current = URL(url)
        for _ in range(1 + MAX_REDIRECTS):
            async with session.get(current, allow_redirects=False, proxy=self._proxy_for(str(current))) as response:
                if response.status in REDIRECTS:
                    current = _same_origin_redirect(current, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    raise FetchError(f"{redacted_url(str(current))} answered with status {response.status}")
                return await _read_bounded(response, url)
        raise FetchError(f"{redacted_url(url)} redirects more than {MAX_REDIRECTS} times")


def _same_origin_redirect(current: URL, location: str) -> URL:
    """The redirect's target. Raises FetchError for another origin: keys from there are not the issuer's."""
    target = current.join(URL(location))
    if target.origin() != current.origin():
        raise FetchError(f"{redacted_url(str(current))} redirects to another host")
    return target


async def _read_bounded(response: aiohttp.ClientResponse, url: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_BYTES:
            raise FetchError(f"{redacted_url(url)} is larger than {MAX_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _parse_object(body: bytes, url: str) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise FetchError(f"{redacted_url(url)} is not JSON") from error
    if not isinstance(document, dict):
        raise FetchError(f"{redacted_url(url)} is not a JSON object")
    return document
