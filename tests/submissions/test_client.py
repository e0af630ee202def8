"""One POST for a submission: its request, and the meaning of each answer."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from gateway.ids import Ids
from gateway.submissions.client import LONGEST_RETRY_AFTER_S, MonitorClient, MonitorUnavailable, SubmissionRefused
from tests.loopback import Fin, Flood, LoopbackUpstream, Rst, Script, Send, Stall, answer, garbage, head, redirect
from tests.submissions.monitors import status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ID = Ids().new()
PAYLOAD = b'{"raw_request":"secret words"}'


@asynccontextmanager
async def monitored(
    *scripts: Script, timeout_s: float = 10.0, authorization: str | None = "Bearer m"
) -> AsyncIterator[tuple[MonitorClient, LoopbackUpstream]]:
    async with LoopbackUpstream() as server:
        server.script(*scripts)
        monitor = MonitorClient(f"{server.origin}/take?key=hidden", authorization, timeout_s=timeout_s)
        try:
            yield monitor, server
        finally:
            await monitor.aclose()


async def fault_of(script: Script, timeout_s: float = 10.0) -> MonitorUnavailable | SubmissionRefused:
    async with monitored(script, timeout_s=timeout_s) as (monitor, server):
        with pytest.raises((MonitorUnavailable, SubmissionRefused)) as caught:
            await monitor.submit(ID, PAYLOAD)
        assert server.request_count == 1
    fault = caught.value
    assert isinstance(fault, MonitorUnavailable | SubmissionRefused)
    assert "hidden" not in fault.reason
    assert "secret" not in fault.reason
    return fault


async def test_a_submission_has_its_headers_and_id() -> None:
    async with monitored(status(202)) as (monitor, server):
        await monitor.submit(ID, PAYLOAD)
        (request,) = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/take?key=hidden", PAYLOAD)
    assert request.header("Authorization") == "Bearer m"
    assert request.header("Content-Type") == "application/json"
    assert request.header("Content-Length") == str(len(PAYLOAD))
    assert request.header("Idempotency-Key") == str(ID)
    assert request.header("Accept-Encoding") == "identity"
    assert request.header("Cookie") is None


async def test_without_a_credential_none_is_sent() -> None:
    async with monitored(status(200), authorization=None) as (monitor, server):
        await monitor.submit(ID, PAYLOAD)
        assert server.requests[0].header("Authorization") is None


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
async def test_a_2xx_is_a_receipt(code: int) -> None:
    empty = Script([Send(head(code, [] if code == 204 else [("content-length", "0")]))])
    async with monitored(empty) as (monitor, _):
        await monitor.submit(ID, PAYLOAD)


@pytest.mark.parametrize("code", [400, 409, 410, 413, 415, 422, 431, 499])
async def test_a_4xx_refuses_this_one(code: int) -> None:
    fault = await fault_of(status(code))
    assert isinstance(fault, SubmissionRefused)
    assert fault.reason == f"HTTP {code}"


@pytest.mark.parametrize("code", [401, 403, 404, 405, 407, 408, 425, 429, 500, 502, 503, 504, 599])
async def test_a_status_that_is_not_the_submissions_fault_is_retried(code: int) -> None:
    fault = await fault_of(status(code))
    assert isinstance(fault, MonitorUnavailable)
    assert fault.reason == f"HTTP {code}"
    assert fault.retry_after_s is None


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(code: int) -> None:
    async with LoopbackUpstream() as elsewhere:
        fault = await fault_of(redirect(code, f"{elsewhere.origin}/give-it-to-me"))
        assert elsewhere.request_count == 0
    assert isinstance(fault, MonitorUnavailable)
    assert "not followed" in fault.reason


def in_a_minute() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("9" * 400, LONGEST_RETRY_AFTER_S, LONGEST_RETRY_AFTER_S),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("in a minute", 55, 60),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_read(given: str, low: float, high: float, code: int) -> None:
    value = in_a_minute() if given == "in a minute" else given
    fault = await fault_of(status(code, ("Retry-After", value)))
    assert isinstance(fault, MonitorUnavailable)
    assert fault.retry_after_s is not None
    assert low <= fault.retry_after_s <= high


@pytest.mark.parametrize("given", ["", "soon", "-5", "1e9", "nan", "²", "1.5"])
async def test_an_invalid_retry_after_is_ignored(given: str) -> None:
    fault = await fault_of(status(503, ("Retry-After", given)))
    assert isinstance(fault, MonitorUnavailable)
    assert fault.retry_after_s is None


@pytest.mark.stopwatch
@pytest.mark.parametrize(
    "script",
    [
        Script([Rst()]),
        Script([Fin()]),
        Script([Stall()]),
        Script([Send(b"HTTP/1.1 2"), Stall()]),
        Script([Send(b"HTTP/1.1 200 OK\r\ncontent-len"), Fin()]),
        garbage(),
        garbage(b"secret words\r\n\r\n"),
        Script([Flood(b"x-more: secret words\r\n")]),
    ],
    ids=["reset", "closed", "silent", "half a line", "half a head", "garbage", "an echo", "endless head"],
)
async def test_a_broken_answer_makes_the_monitor_unavailable(script: Script) -> None:
    began = time.monotonic()
    assert isinstance(await fault_of(script, timeout_s=0.3), MonitorUnavailable)
    assert time.monotonic() - began < 5


async def test_a_refused_connection_makes_the_monitor_unavailable() -> None:
    monitor = MonitorClient("http://127.0.0.1:1/x?key=hidden")
    with pytest.raises(MonitorUnavailable, match="Connect") as caught:
        await monitor.submit(ID, PAYLOAD)
    assert "hidden" not in caught.value.reason
    await monitor.aclose()


@pytest.mark.stopwatch
async def test_the_body_of_a_2xx_does_not_matter() -> None:
    length = [("content-length", "1000000")]
    for rest in ([Stall()], [Fin()], [Rst()], [Flood(b"x" * 1000, times=1000)]):
        began = time.monotonic()
        async with monitored(Script([Send(head(200, length)), *rest]), status(200)) as (monitor, _):
            await monitor.submit(ID, PAYLOAD)
            await monitor.submit(ID, PAYLOAD)
        assert time.monotonic() - began < 3


async def test_a_connection_serves_many_submissions() -> None:
    async with monitored(*[answer([b'{"id": 1}'], status=201) for _ in range(5)]) as (monitor, server):
        for _ in range(5):
            await monitor.submit(ID, PAYLOAD)
        assert server.connection_count == 1


@pytest.mark.stopwatch
async def test_a_large_submission_has_more_time() -> None:
    async with monitored(status(200), timeout_s=0.01) as (monitor, server):
        await monitor.submit(ID, b"x" * 20_000_000)
        assert server.requests[0].body_size == 20_000_000
