"""Small JSON documents from an OpenID issuer over HTTP: bounded in size, in time, and in where they may come from."""

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

LARGEST = 512 * 1024
PATIENCE_S = 5.0
MOST_REDIRECTS = 3
REDIRECTS = frozenset((301, 302, 303, 307, 308))


class HttpFetcher:
    """One `ClientSession`, made when it is first needed. `proxy_for` names the company's proxy for a URL."""

    def __init__(self, proxy_for: Callable[[str], str | None], *, patience_s: float = PATIENCE_S) -> None:
        self._proxy_for = proxy_for
        self._patience_s = patience_s
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str) -> dict[str, Any]:
        """Raises FetchError, whose text may be shown."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            )
        try:
            async with asyncio.timeout(self._patience_s):
                body = await self._body(self._session, url)
        except TimeoutError as error:
            raise FetchError(f"{redacted_url(url)} did not answer within {self._patience_s:g} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise FetchError(f"{redacted_url(url)} could not be fetched: {type(error).__name__}: {error}") from error
        return _object(body, url)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _body(self, session: aiohttp.ClientSession, url: str) -> bytes:
        place = URL(url)
        for _ in range(1 + MOST_REDIRECTS):
            async with session.get(place, allow_redirects=False, proxy=self._proxy_for(str(place))) as response:
                if response.status in REDIRECTS:
                    place = _redirected(place, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    raise FetchError(f"{redacted_url(str(place))} answered with status {response.status}")
                return await _bounded(response, url)
        raise FetchError(f"{redacted_url(url)} redirects more than {MOST_REDIRECTS} times")


def _redirected(place: URL, location: str) -> URL:
    """Within the same origin only: keys from elsewhere would be somebody else's word."""
    target = place.join(URL(location))
    if target.origin() != place.origin():
        raise FetchError(f"{redacted_url(str(place))} redirects to another host")
    return target


async def _bounded(response: aiohttp.ClientResponse, url: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > LARGEST:
            raise FetchError(f"{redacted_url(url)} is larger than {LARGEST} bytes")
        parts.append(part)
    return b"".join(parts)


def _object(body: bytes, url: str) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise FetchError(f"{redacted_url(url)} is not JSON") from error
    if not isinstance(document, dict):
        raise FetchError(f"{redacted_url(url)} is no JSON object")
    return document
