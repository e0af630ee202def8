"""The security monitor, spoken to by HTTP: one submission, one POST, and what its answer means."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from uuid import UUID

BYTES_A_SECOND = 1 << 20  # a large submission gets so much more time
DRAIN_BYTES = 64 * 1024  # of an answer nobody reads: more than that, and the connection is not worth keeping
DRAIN_S = 1.0
LONGEST_RETRY_AFTER_S = 600.0
IDLE_S = 15.0

# What these say is about our settings or the monitor's, not about the one submission that met them first.
NOT_ITS_FAULT = frozenset({401, 402, 403, 404, 405, 407, 408, 421, 425, 426, 429})


class MonitorAway(Exception):
    """It has not taken the submission now; it may later. `retry_after_s` is its own wish."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class SubmissionRefused(Exception):
    """It does not want this one as it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MonitorClient:
    """One for a process; opens its connections when they are needed. Its URL may hold a key and is never shown."""

    def __init__(
        self, url: str, authorization: str | None = None, *, timeout_s: float = 30.0, proxy: str | None = None
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._proxy = proxy
        self._headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "llm-gateway",
        }
        if authorization is not None:
            self._headers["Authorization"] = authorization
        self._session: aiohttp.ClientSession | None = None

    async def submit(self, id: UUID, payload: bytes) -> None:
        """Return when the monitor has said that it took it. Raises MonitorAway, SubmissionRefused."""
        session = self._opened()
        try:
            async with asyncio.timeout(self._timeout_s + len(payload) / BYTES_A_SECOND):
                response = await session.post(
                    self._url,
                    data=BytesIO(payload),  # sent piece by piece, so that a large one holds up nobody
                    headers={**self._headers, "Idempotency-Key": str(id)},
                    allow_redirects=False,
                    proxy=self._proxy,
                )
        except TimeoutError as error:
            raise MonitorAway("it does not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise MonitorAway(_in_words(error)) from error
        try:
            _judge(response)
        finally:
            await _drain(response)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),  # who calls bounds the calls
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        return self._session


def _judge(response: aiohttp.ClientResponse) -> None:
    """The status is the receipt. A redirect is not followed: it would carry what was said to another address."""
    status = response.status
    if 200 <= status < 300:
        return
    if 400 <= status < 500 and status not in NOT_ITS_FAULT:
        raise SubmissionRefused(f"HTTP {status}")
    if 300 <= status < 400:
        raise MonitorAway(f"HTTP {status}: it points to another address, which is not followed")
    wish = _retry_after_s(response.headers.get("Retry-After")) if status in (429, 503) else None
    raise MonitorAway(f"HTTP {status}", wish)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds or a date (RFC 9110 section 10.2.3), within bounds."""
    if value is None:
        return None
    try:
        is_number = value.strip().isdecimal()
        seconds = float(value) if is_number else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read what else it says, so that the connection can serve again; what of it is wrong does not matter."""
    size = 0
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(DRAIN_S):
            while size <= DRAIN_BYTES and (data := await response.content.readany()):
                size += len(data)
    response.close() if size > DRAIN_BYTES or not response.content.at_eof() else response.release()


def _in_words(error: Exception) -> str:
    """Neither the URL stands in it nor what it sent: that might be a key, or what somebody said."""
    if isinstance(error, aiohttp.ClientResponseError):
        return "its answer is not HTTP"
    kind = type(error).__name__
    number = getattr(error, "errno", None)
    return f"{kind} ({os.strerror(number)})" if number and number > 0 else kind
