"""HTTP client of the security monitor: one POST for a submission; the status of the answer is the receipt."""

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

BYTES_PER_SECOND = 1 << 20  # a large submission gets more time
DRAIN_BYTES = 64 * 1024  # of an answer that is not used; to read more costs more than a new connection
DRAIN_S = 1.0
LONGEST_RETRY_AFTER_S = 600.0
IDLE_S = 15.0

# 4xx statuses about our settings or the monitor's: the submission is not at fault, so it is tried again.
RETRYABLE = frozenset({401, 402, 403, 404, 405, 407, 408, 421, 425, 426, 429})


class MonitorUnavailable(Exception):
    """The monitor has not taken the submission now, but may later. `retry_after_s` is the pause that it asks for."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class SubmissionRefused(Exception):
    """The monitor refuses this submission as it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MonitorClient:
    """One per process; connects on the first call. Its URL may contain a key and never appears in logs or errors."""

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
        """Returns when the monitor has acknowledged it. Raises MonitorUnavailable, SubmissionRefused."""
        session = self._opened()
        try:
            async with asyncio.timeout(self._timeout_s + len(payload) / BYTES_PER_SECOND):
                response = await session.post(
                    self._url,
                    data=BytesIO(payload),  # sent in pieces, so that a large one does not block the event loop
                    headers={**self._headers, "Idempotency-Key": str(id)},
                    allow_redirects=False,
                    proxy=self._proxy,
                )
        except TimeoutError as error:
            raise MonitorUnavailable("it does not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise MonitorUnavailable(_reason_of(error)) from error
        try:
            _check_status(response)
        finally:
            await _drain(response)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),  # CircuitBreaker bounds the calls
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        return self._session


def _check_status(response: aiohttp.ClientResponse) -> None:
    """Raises MonitorUnavailable or SubmissionRefused unless the status is 2xx.

    A redirect is not followed: it would send the conversation to another address.
    """
    status = response.status
    if 200 <= status < 300:
        return
    if 400 <= status < 500 and status not in RETRYABLE:
        raise SubmissionRefused(f"HTTP {status}")
    if 300 <= status < 400:
        raise MonitorUnavailable(f"HTTP {status}: it points to another address, which is not followed")
    retry_after_s = _retry_after_s(response.headers.get("Retry-After")) if status in (429, 503) else None
    raise MonitorUnavailable(f"HTTP {status}", retry_after_s)


def _retry_after_s(value: str | None) -> float | None:
    """Returns the seconds of Retry-After, which is a number or a date (RFC 9110 section 10.2.3), within bounds."""
    if value is None:
        return None
    try:
        is_number = value.strip().isdecimal()
        seconds = float(value) if is_number else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Reads the rest of the answer, so that the connection can be used again. Errors in it do not matter."""
    size = 0
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(DRAIN_S):
            while size <= DRAIN_BYTES and (data := await response.content.readany()):
                size += len(data)
    response.close() if size > DRAIN_BYTES or not response.content.at_eof() else response.release()


def _reason_of(error: Exception) -> str:
    """Returns the kind of error, without the URL and the data: they may contain a key or parts of a conversation."""
    if isinstance(error, aiohttp.ClientResponseError):
        return "its answer is not HTTP"
    kind = type(error).__name__
    number = getattr(error, "errno", None)
    return f"{kind} ({os.strerror(number)})" if number and number > 0 else kind
