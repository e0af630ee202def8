"""Slowness is felt on the other side: nothing is piled up in the gateway, whoever is slow, and whatever the size."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.journeys.stage import hello, new_id
from tests.loopback import Flood, Script, Send, chat_completion, chat_stream, endless_stream, head, http_chunk
from tests.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.gateway_process import GatewayProcess
    from tests.journeys.raw import Raw
    from tests.journeys.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENV = {"GATEWAY_CLIENT_STALL_S": "4"}
MIB = 1 << 20
LARGE = 96 * MIB  # more than the kernel holds for two connections, however much it likes them
IN_GATEWAY = 24 * MIB  # by how much its memory may grow, whatever passes through
PIECE = bytes(range(256)) * 256


class Watch:
    """The most memory that the gateway had while something went on."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._before = self._most = gateway.memory()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watch:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        print(f"memory grew by {self.growth / MIB:.1f} MiB")

    async def _look(self) -> None:
        while True:
            self._most = max(self._most, self._gateway.memory())
            await asyncio.sleep(0.02)

    @property
    def growth(self) -> int:
        return max(self._most, self._gateway.memory()) - self._before


async def stands_still(measure: Callable[[], int], for_s: float = 0.7, within_s: float = 10.0) -> int:
    """The value, once it has not changed for a while."""
    deadline = time.monotonic() + within_s
    value, since = measure(), time.monotonic()
    while time.monotonic() - since < for_s:
        assert time.monotonic() < deadline, "it never stood still"
        await asyncio.sleep(0.05)
        if (now := measure()) != value:
            value, since = now, time.monotonic()
    return value


def large_file(size: int, *, chunked: bool) -> Script:
    """A download of repeated pieces, which the upstream does not hold in memory either."""
    times, rest = divmod(size, len(PIECE))
    assert not rest
    framing = ("transfer-encoding", "chunked") if chunked else ("content-length", str(size))
    start = Send(head(200, [("content-type", "application/octet-stream"), framing]))
    if chunked:
        return Script([start, Flood(http_chunk(PIECE), times=times), Send(b"0\r\n\r\n")])
    return Script([start, Flood(PIECE, times=times)])


def digest_of(size: int) -> str:
    digest = hashlib.sha256()
    for _ in range(size // len(PIECE)):
        digest.update(PIECE)
    return digest.hexdigest()


async def read_on(raw: Raw, size: int) -> str:
    """The digest of a body of this size."""
    digest, seen = hashlib.sha256(), 0
    while seen < size:
        data = await raw.piece()
        raw.arrivals.clear() if raw.head and raw.head.get("transfer-encoding") else None
        digest.update(data)
        seen += len(data)
    return digest.hexdigest()


async def test_a_client_that_does_not_read_stops_the_upstream(stage: Stage) -> None:
    stage.upstream.script(endless_stream())
    request_id = new_id()
    raw = await stage.raw(receive_buffer=4096)
    async with Watch(stage.gateway) as watch:
        raw.post("/v1/chat/completions", hello(stream=True), request_id)
        await until(lambda: stage.upstream.bytes_written > MIB // 2)
        (request,) = stage.upstream.requests
        written = await stands_still(lambda: request.bytes_written)
        assert watch.growth < IN_GATEWAY
        await raw.answer()
        async with asyncio.timeout(30):
            while request.bytes_written == written:
                await raw.piece()
                raw.arrivals.clear()
    await raw.close()
    await stage.upstream.wait_closed(request)
    assert (await stage.row(request_id))["outcome"] == "client_cancelled"


@pytest.mark.stopwatch
async def test_a_client_that_reads_nothing_for_too_long_is_given_up(stage: Stage) -> None:
    stage.upstream.script(endless_stream())
    request_id = new_id()
    raw = await stage.raw(receive_buffer=4096)
    raw.post("/v1/chat/completions", hello(stream=True), request_id)
    (request,) = await stage.upstream.wait_for_requests(1)
    began = time.monotonic()
    await stage.upstream.wait_closed(request, within=10.0)
    assert 3.5 < time.monotonic() - began < 9.0
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert row["response"]["choices"][0]["message"]["content"].startswith("xxx")


@pytest.mark.stopwatch
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_who_reads_no_answer_gets_no_other(stage: Stage, *, is_stream: bool) -> None:
    """Requests may be sent before their answers are read (RFC 9112, 9.3.2), and those would be piled up."""
    text = "x" * MIB
    stage.upstream.on = lambda _: chat_stream(text) if is_stream else chat_completion(text)
    async with await stage.raw(receive_buffer=4096) as raw, Watch(stage.gateway) as watch:
        for _ in range(100):
            raw.post("/v1/chat/completions", hello(stream=is_stream), new_id())
        asked = await stands_still(lambda: len(stage.upstream.requests))
        assert 1 <= asked < 16
        assert watch.growth < IN_GATEWAY
        await raw.answer()
        body = await raw.body()
    assert text.encode() in body


async def test_a_slow_reader_gets_every_byte_in_the_end(stage: Stage) -> None:
    stage.upstream.script(chat_stream(["wörter " * 300] * 1_000))
    request_id = new_id()
    async with await stage.raw(receive_buffer=4096) as raw:
        raw.post("/v1/chat/completions", hello(stream=True, stream_options={"include_usage": True}), request_id)
        await raw.answer()
        await asyncio.sleep(0.5)
        body = await raw.body()
    (request,) = stage.upstream.requests
    assert body == request.said_bytes
    row = await stage.row(request_id)
    assert row["outcome"] == "complete"
    assert row["response"]["choices"][0]["message"]["content"] == "wörter " * 300_000


@pytest.mark.stopwatch
async def test_clients_that_do_not_read_keep_nobody_else_waiting(stage: Stage) -> None:
    stage.upstream.on = lambda request: endless_stream() if b"endless" in request.body else None
    async with Watch(stage.gateway) as watch:
        idle = [await stage.raw(receive_buffer=4096) for _ in range(12)]
        for raw in idle:
            raw.post("/v1/chat/completions", hello("endless", stream=True), new_id())
        await asyncio.sleep(0.5)
        began = time.monotonic()
        answer = await stage.chat("And me?", stream=True)
        assert answer.data[-1] == "[DONE]"
        assert time.monotonic() - began < 5
        assert watch.growth < 2 * IN_GATEWAY
    for raw in idle:
        raw.reset()
    await stage.upstream.wait_until(lambda: all(r.closed_at for r in stage.upstream.requests if b"endless" in r.body))


async def test_an_upload_waits_for_an_upstream_that_does_not_read(stage: Stage) -> None:
    size, request_id = LARGE, new_id()
    sent = 0
    stage.upstream.pause_reading()
    raw = await stage.raw()
    headers = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Length", str(size)),
        ("X-Request-Id", request_id),
    ]
    raw.ask("POST", "/v1/echo", headers)

    async def upload() -> None:
        nonlocal sent
        while sent < size:
            raw.send(PIECE)
            sent += len(PIECE)
            await raw.writer.drain()

    async with Watch(stage.gateway) as watch:
        uploading = asyncio.create_task(upload())
        try:
            assert await stands_still(lambda: sent) < LARGE
        finally:
            stage.upstream.resume_reading()
        await uploading
        await raw.answer()
        answer = json.loads(await raw.body())
        assert watch.growth < IN_GATEWAY
    assert (answer["size"], answer["sha256"]) == (size, digest_of(size))
    row = await stage.row(request_id)
    assert (row["request_size"], row["request_sha256"]) == (size, digest_of(size))
    assert row["request"] is None
    assert row["request_type"] == "application/octet-stream"
    assert row["outcome"] == "complete"


async def test_an_upload_without_a_length_streams_too(stage: Stage) -> None:
    size, request_id = 20 * MIB, new_id()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(size // len(PIECE)):
            yield PIECE

    async with Watch(stage.gateway) as watch:
        headers = {"Content-Type": "audio/mpeg", "x-request-id": request_id}
        url = f"{stage.gateway.url}/v1/echo"
        async with stage.session.put(url, data=parts(), headers=headers) as response:
            answer: dict[str, Any] = await response.json()
        assert watch.growth < IN_GATEWAY
    assert (answer["size"], answer["sha256"]) == (size, digest_of(size))
    assert ["transfer-encoding", "chunked"] in [[name.lower(), value] for name, value in answer["headers"]]
    row = await stage.row(request_id)
    assert (row["request_size"], row["request_sha256"]) == (size, digest_of(size))


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
async def test_a_large_download_streams_with_flat_memory(stage: Stage, chunked: bool) -> None:
    size, request_id = 96 * MIB, new_id()
    stage.upstream.script(large_file(size, chunked=chunked))
    async with await stage.raw() as raw, Watch(stage.gateway) as watch:
        raw.ask("GET", "/v1/files/file-1/content", [("X-Request-Id", request_id)])
        answer = await raw.answer()
        assert answer.get("content-length") == (None if chunked else str(size))
        assert await read_on(raw, size) == digest_of(size)
        assert await raw.piece() == b""
        assert watch.growth < IN_GATEWAY
    row = await stage.row(request_id)
    assert (row["response_size"], row["response_sha256"]) == (size, digest_of(size))
    assert row["bytes_out"] == size
    assert row["response"] is None
    assert row["response_raw"] is None
    assert row["response_type"] == "application/octet-stream"
    assert row["outcome"] == "complete"


async def test_a_download_waits_for_a_client_that_does_not_read(stage: Stage) -> None:
    size = LARGE
    stage.upstream.script(large_file(size, chunked=False))
    async with await stage.raw(receive_buffer=65_536) as raw, Watch(stage.gateway) as watch:
        raw.ask("GET", "/v1/files/file-1/content")
        (request,) = await stage.upstream.wait_for_requests(1)
        assert await stands_still(lambda: request.bytes_written) < LARGE
        await raw.answer()
        assert await read_on(raw, size) == digest_of(size)
        assert watch.growth < IN_GATEWAY


async def test_an_upload_and_its_answer_flow_at_the_same_time(stage: Stage) -> None:
    """A transcription may begin to answer while the sound is still coming."""

    def early(request: Any) -> Script | None:
        return Script([Send(head(200, [("content-type", "text/plain"), ("content-length", "4")])), Send(b"ha")])

    stage.upstream.early = early
    async with await stage.raw() as raw:
        raw.ask("POST", "/v1/echo", [("Content-Type", "audio/mpeg"), ("Content-Length", "1000")])
        raw.send(bytes(10))
        await raw.answer()
        assert await raw.piece() == b"ha"
