"""The gateway is told to stop: nobody loses a word, and the exit status is 0."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.gateway_process import GatewayProcess
from tests.journeys.raw import Raw
from tests.journeys.stage import Stage, hello, new_id
from tests.loopback import LoopbackUpstream, Script, Stall, WaitFor, chat_stream, file_answer
from tests.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "one two three four five six seven"
STEPS = chat_stream(TEXT).steps


@pytest_asyncio.fixture(loop_scope="module")
async def ending(request: pytest.FixtureRequest, tmp_path: Path, module_database: str) -> AsyncIterator[Stage]:
    """A gateway that may be ended; the test's parameter is how many seconds it waits for its streams."""
    env = {"GATEWAY_SHUTDOWN_S": getattr(request, "param", "30")}
    async with LoopbackUpstream() as upstream:
        gateway = GatewayProcess.upon(tmp_path, upstream.url, module_database, **env)
        stage = Stage(gateway, upstream, module_database)
        async with gateway:
            yield stage
            await stage.clear()
        await stage.aclose()
        assert not gateway.complaints()


async def live_stream(stage: Stage, request_id: str, path: str = "/v1/chat/completions") -> Raw:
    """A stream that has said three words."""
    raw = await stage.stream(path=path, request_id=request_id)
    await raw.answer()
    await raw.until(b"three")
    return raw


async def is_refused(stage: Stage) -> bool:
    try:
        raw = await Raw.to(stage.gateway.port)
    except ConnectionError:
        return True
    await raw.close()
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_a_live_stream_finishes_and_nothing_new_begins(ending: Stage, number: signal.Signals) -> None:
    go_on, request_id = asyncio.Event(), new_id()
    ending.upstream.script(Script([*STEPS[:5], WaitFor(go_on), *STEPS[5:]]))
    raw = await live_stream(ending, request_id)
    ending.gateway.signal(number)
    await ending.gateway.logged(lambda line: line["event"] == "stopping")
    async with asyncio.timeout(5):
        while not await is_refused(ending):
            await asyncio.sleep(0.02)
    assert len(ending.upstream.requests) == 1
    go_on.set()
    assert (await raw.body()).endswith(b"data: [DONE]\n\n")
    assert await ending.gateway.ended() == 0
    (row,) = await ending.rows(request_id)
    assert row["outcome"] == "complete"
    assert row["response"]["choices"][0]["message"]["content"] == TEXT
    assert list((ending.gateway.folder / "data/journal").glob("*/*.seg")) == []
    assert [line["event"] for line in ending.gateway.log()][-1] == "stopped"


async def idle_connection(stage: Stage) -> Raw:
    """A connection that has had an answer and is kept open."""
    raw = await stage.raw()
    raw.ask("GET", "/healthz")
    assert (await raw.answer()).get("connection") != "close"
    await raw.body()
    return raw


async def test_e10_a_request_on_a_kept_connection_is_served_during_the_drain_and_is_its_last(ending: Stage) -> None:
    go_on, running, late = asyncio.Event(), new_id(), new_id()
    ending.upstream.script(Script([*STEPS[:5], WaitFor(go_on), *STEPS[5:]]))
    probe, kept, unused = [await idle_connection(ending) for _ in range(3)]
    raw = await live_stream(ending, running)
    ending.gateway.signal(signal.SIGTERM)
    await ending.gateway.logged(lambda line: line["event"] == "stopping")
    probe.ask("GET", "/readyz")
    readiness = await probe.answer()
    assert (readiness.status, readiness["connection"]) == (503, "close")
    assert json.loads(await probe.body())["status"] == "not ready"
    kept.post("/v1/chat/completions", hello(), late)
    answer = await kept.answer()
    assert (answer.status, answer["connection"]) == (200, "close")
    await kept.body()
    assert await kept.is_closed()
    assert await unused.is_closed()  # it has had its chance
    go_on.set()
    assert (await raw.body()).endswith(b"data: [DONE]\n\n")
    assert await ending.gateway.ended() == 0
    for request_id in (running, late):
        (row,) = await ending.rows(request_id)
        assert row["outcome"] == "complete"


async def test_e10_an_answer_whose_head_comes_during_the_drain_closes_its_connection(ending: Stage) -> None:
    go_on = asyncio.Event()
    ending.upstream.script(Script([WaitFor(go_on), *chat_stream(TEXT).steps]))
    raw = await ending.stream()
    await ending.upstream.wait_for_requests(1)
    ending.gateway.signal(signal.SIGTERM)
    await ending.gateway.logged(lambda line: line["event"] == "stopping")
    go_on.set()
    assert (await raw.answer())["connection"] == "close"
    await raw.body()
    assert await raw.is_closed()
    assert await ending.gateway.ended() == 0


async def test_e10_connections_that_wait_to_be_accepted_are_served(ending: Stage) -> None:
    ending.gateway.signal(signal.SIGSTOP)
    queued = [await ending.raw() for _ in range(20)]  # the kernel takes them in
    for raw in queued:
        raw.post("/v1/chat/completions", hello(), new_id())
    ending.gateway.signal(signal.SIGTERM)
    ending.gateway.signal(signal.SIGCONT)
    for raw in queued:
        assert (await raw.answer()).status == 200
        await raw.body()
    assert await ending.gateway.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
async def test_e12_a_signal_that_asks_for_nothing_cuts_no_answer(ending: Stage, number: signal.Signals) -> None:
    go_on, request_id = asyncio.Event(), new_id()
    ending.upstream.script(Script([*STEPS[:5], WaitFor(go_on), *STEPS[5:]]))
    raw = await live_stream(ending, request_id)
    ending.gateway.signal(number)
    line = await ending.gateway.logged(lambda line: line["event"] == "signal ignored")
    assert line["signal"] == number.name
    go_on.set()
    assert (await raw.body()).endswith(b"data: [DONE]\n\n")
    assert (await ending.chat()).status == 200
    assert await ending.gateway.stop() == 0


async def test_a_chat_whose_caller_left_is_finished_first(ending: Stage) -> None:
    go_on, request_id = asyncio.Event(), new_id()
    ending.upstream.script(Script([*STEPS[:5], WaitFor(go_on), *STEPS[5:]]))
    raw = await live_stream(ending, request_id, "/chat")
    await raw.close()
    await asyncio.sleep(0.1)
    ending.gateway.signal(signal.SIGTERM)
    await ending.gateway.logged(lambda line: line["event"] == "stopping")
    await asyncio.sleep(0.2)
    assert ending.gateway.is_running
    go_on.set()
    assert await ending.gateway.ended() == 0
    (row,) = await ending.rows(request_id)
    assert row["outcome"] == "complete"
    assert row["response"]["choices"][0]["message"]["content"] == TEXT


async def test_an_upload_under_way_is_finished(ending: Stage) -> None:
    request_id = new_id()
    raw = await ending.raw()
    kind = ("Content-Type", "application/octet-stream")
    raw.ask("POST", "/v1/echo", [("Content-Length", "2000"), kind, ("X-Request-Id", request_id)])
    raw.send(bytes(1000))
    await until(lambda: bool(ending.upstream.requests and ending.upstream.requests[0].body_size == 1000))
    ending.gateway.signal(signal.SIGTERM)
    await ending.gateway.logged(lambda line: line["event"] == "stopping")
    raw.send(bytes(1000))
    assert (await raw.answer()).status == 200
    assert json.loads(await raw.body())["size"] == 2000
    assert await ending.gateway.ended() == 0
    (row,) = await ending.rows(request_id)
    assert (row["outcome"], row["request_size"]) == ("complete", 2000)


@pytest.mark.parametrize("ending", ["0.5"], indirect=True)
async def test_a_stream_that_outlasts_the_patience_ends_with_an_error_and_its_part_is_kept(ending: Stage) -> None:
    ids = {path: new_id() for path in ("/v1/chat/completions", "/chat")}
    ending.upstream.on = lambda _: Script([*STEPS[:5], Stall()])
    raws = {path: await live_stream(ending, request_id, path) for path, request_id in ids.items()}
    ending.gateway.signal(signal.SIGTERM)
    for path, raw in raws.items():
        *_, last = (await raw.body()).decode().strip().split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down", path
    assert await ending.gateway.ended() == 0
    for request_id in ids.values():
        (row,) = await ending.rows(request_id)
        assert row["outcome"] == "interrupted"
        assert row["response"]["choices"][0]["message"]["content"] == "one two three"
        assert row["error"] == "the gateway is shutting down"


@pytest.mark.parametrize("ending", ["0.5"], indirect=True)
async def test_a_call_that_outlasts_the_patience_is_told_so(ending: Stage) -> None:
    ending.upstream.on = lambda _: Script([Stall()])
    asking = [
        asyncio.create_task(ending.chat("whole")),
        asyncio.create_task(ending.ask("/v1/embeddings", {"model": "m", "input": "x"})),
    ]
    await ending.upstream.wait_for_requests(2)
    ending.gateway.signal(signal.SIGTERM)
    answers = await asyncio.gather(*asking)
    assert await ending.gateway.ended() == 0
    for answer in answers:
        assert answer.status == 503
        assert answer.error["code"] == "shutting_down"
        (row,) = await ending.rows(answer.request_id)
        assert (row["outcome"], row["status"]) == ("interrupted", None)


@pytest.mark.parametrize("ending", ["0.5"], indirect=True)
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_download_that_outlasts_the_patience_is_cut_and_never_looks_whole(ending: Stage, framing: Any) -> None:
    ending.upstream.on = lambda _: file_answer(bytes(500_000), framing=framing).first(2).then(Stall())
    request_id = new_id()
    raw = await ending.raw()
    raw.ask("GET", "/v1/files/file-1/content", [("X-Request-Id", request_id)])
    await raw.answer()
    await raw.piece()
    ending.gateway.signal(signal.SIGTERM)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await raw.body()
    assert b"".join(data for _, data in raw.arrivals).strip(b"\0") == b""
    assert await ending.gateway.ended() == 0
    (row,) = await ending.rows(request_id)
    assert row["outcome"] == "interrupted"
    assert row["response_size"] == 131_072


async def test_with_nothing_to_do_it_stops_at_once(ending: Stage) -> None:
    async with asyncio.timeout(3):
        assert await ending.gateway.stop() == 0
