"""A caller who leaves, or wants no more: what becomes of the upstream's call, of the answer, and of the row."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.journeys.stage import hello, new_id
from tests.loopback import (
    Script,
    Stall,
    WaitFor,
    chat_completion,
    chat_stream,
    file_answer,
    responses_stream,
    stall_before_headers,
)
from tests.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.journeys.raw import Raw
    from tests.journeys.stage import Row, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE_S = 0.2
TEXT = "one two three four five six seven"


def first_words(count: int = 3) -> Script:
    """A stream that says some words and then nothing more."""
    return Script([*chat_stream(TEXT).steps[: 2 + count], Stall()])


def half_a_completion() -> Script:
    return Script([*chat_completion(TEXT, split_at=100).steps[:2], Stall()])


def said(row: Row) -> str:
    return str(row["response"]["choices"][0]["message"]["content"])


async def leave(raw: Raw) -> float:
    """Close, as a client does that has enough; when."""
    left_at = time.monotonic()
    await raw.close()
    return left_at


async def quickest(attempt: Callable[[], Any]) -> float:
    """The best of three: the machine may be busy with something else in one of them."""
    return float(min([await attempt() for _ in range(3)]))


async def test_a_stream_whose_client_leaves_is_cancelled_at_the_upstream_at_once(stage: Stage) -> None:
    async def attempt() -> float:
        stage.upstream.script(first_words())
        raw = await stage.stream()
        await raw.answer()
        await raw.until(b"three")
        left_at = await leave(raw)
        return await stage.upstream.wait_closed(stage.upstream.requests[-1]) - left_at

    assert await quickest(attempt) < AT_ONCE_S


async def test_a_client_that_leaves_before_the_answer_cancels_at_the_upstream_at_once(stage: Stage) -> None:
    async def attempt() -> float:
        stage.upstream.script(stall_before_headers())
        count = len(stage.upstream.requests)
        raw = await stage.stream()
        await stage.upstream.wait_for_requests(count + 1)
        left_at = await leave(raw)
        return await stage.upstream.wait_closed(stage.upstream.requests[-1]) - left_at

    assert await quickest(attempt) < AT_ONCE_S


async def test_what_was_said_before_the_client_left_is_in_the_row(stage: Stage) -> None:
    stage.upstream.script(first_words())
    request_id = new_id()
    raw = await stage.stream(request_id=request_id)
    await raw.answer()
    heard = await raw.until(b"three")
    await raw.close()
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert row["error"] == "the caller left"
    assert row["status"] == 200
    assert row["bytes_out"] == len(heard)
    assert said(row) == "one two three"
    line = await stage.line(request_id)
    assert line["outcome"] == "client_cancelled"


async def test_a_client_that_left_before_the_answer_has_a_row_too(stage: Stage) -> None:
    stage.upstream.script(stall_before_headers())
    request_id = new_id()
    raw = await stage.stream(request_id=request_id)
    await stage.upstream.wait_for_requests(1)
    await raw.close()
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert row["status"] is None
    assert row["request"]["messages"][0]["content"] == "Hello!"


async def test_a_client_that_leaves_a_whole_answer_half_read_by_the_gateway_cancels_it(stage: Stage) -> None:
    stage.upstream.script(half_a_completion())
    raw = await stage.raw()
    request_id = new_id()
    raw.post("/v1/chat/completions", hello(), request_id)
    (request,) = await stage.upstream.wait_for_requests(1)
    await until(lambda: bool(request.said))
    await raw.close()
    await stage.upstream.wait_closed(request)
    assert (await stage.row(request_id))["outcome"] == "client_cancelled"


async def test_a_response_whose_client_leaves_is_cancelled_and_kept_as_far_as_it_was_said(stage: Stage) -> None:
    stage.upstream.script(Script([*responses_stream(TEXT).steps[:8], Stall()]))
    request_id = new_id()
    raw = await stage.raw()
    raw.post("/v1/responses", {"model": "m", "input": "Hello!", "stream": True}, request_id)
    await raw.answer()
    await raw.until(b'"delta":" three"')
    await raw.close()
    await stage.upstream.wait_closed(stage.upstream.requests[0])
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert row["response"]["output"][0]["content"][0]["text"] == "one two three"


async def test_a_download_whose_client_leaves_is_cancelled_at_the_upstream(stage: Stage) -> None:
    stage.upstream.script(Script([*file_answer(bytes(500_000)).steps[:3], Stall()]))
    request_id = new_id()
    raw = await stage.raw()
    raw.ask("GET", "/v1/files/file-1/content", [("X-Request-Id", request_id)])
    await raw.answer()
    await raw.piece()
    await raw.close()
    await stage.upstream.wait_closed(stage.upstream.requests[0])
    row = await stage.row(request_id)
    assert row["table"] == "api_logs"
    assert row["outcome"] == "client_cancelled"
    assert row["response_size"] == row["bytes_in"] == 131_072


async def test_an_upload_whose_client_leaves_is_cancelled_at_the_upstream(stage: Stage) -> None:
    request_id = new_id()
    raw = await stage.raw()
    headers = [("Content-Type", "application/octet-stream"), ("Content-Length", "500000"), ("X-Request-Id", request_id)]
    raw.ask("POST", "/v1/echo", headers)
    raw.send(bytes(100_000))
    await until(lambda: bool(stage.upstream.requests and stage.upstream.requests[0].body_size))
    await raw.close()
    await stage.upstream.wait_closed(stage.upstream.requests[0])
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert row["request_size"] <= 100_000


async def test_a_chat_is_finished_and_kept_though_its_client_left(stage: Stage) -> None:
    go_on = asyncio.Event()
    steps = chat_stream(TEXT).steps
    stage.upstream.script(Script([*steps[:5], WaitFor(go_on), *steps[5:]]))
    request_id = new_id()
    raw = await stage.stream(path="/chat", request_id=request_id)
    head = await raw.answer()
    await raw.until(b"three")
    await raw.close()
    await asyncio.sleep(0.3)
    (request,) = stage.upstream.requests
    assert request.closed_at is None
    go_on.set()
    row = await stage.row(request_id)
    assert row["outcome"] == "complete"
    assert said(row) == TEXT
    assert str(row["id"]) == head["x-interaction-id"] == row["response"]["uuid"]
    line = await stage.line(request_id)
    assert line["outcome"] == "complete"


async def test_a_chat_that_is_no_stream_is_finished_and_kept_though_its_client_left(stage: Stage) -> None:
    go_on = asyncio.Event()
    steps = chat_completion(TEXT).steps
    stage.upstream.script(Script([WaitFor(go_on), *steps]))
    request_id = new_id()
    raw = await stage.raw()
    raw.post("/chat", hello(), request_id)
    await stage.upstream.wait_for_requests(1)
    await raw.close()
    await asyncio.sleep(0.2)
    go_on.set()
    row = await stage.row(request_id)
    assert row["outcome"] == "complete"
    assert said(row) == TEXT


async def test_a_chat_is_stopped_by_its_id(stage: Stage) -> None:
    stage.upstream.script(first_words())
    request_id = new_id()
    async with await stage.stream(path="/chat", request_id=request_id) as raw:
        head = await raw.answer()
        await raw.until(b"three")
        stopped = await stage.ask(f"/chat/{head['x-interaction-id']}/stop")
        assert stopped.json() == {"message": "stopped"}
        body = await raw.body()
    *_, last = body.decode().strip().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopped"
    assert b"[DONE]" not in body
    await stage.upstream.wait_closed(stage.upstream.requests[0])
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert said(row) == "one two three"
    assert row["error"] == "the answer was stopped at the caller's wish"


async def test_stopping_several_times_at_once_ends_the_stream_in_order(stage: Stage) -> None:
    """As a person does who clicks twice: a stop that meets the end under way must not break it off."""
    stage.upstream.on = lambda _: first_words()
    for _ in range(10):
        request_id = new_id()
        async with await stage.stream(path="/chat", request_id=request_id) as raw:
            interaction = (await raw.answer())["x-interaction-id"]
            await raw.until(b"three")
            stops = await asyncio.gather(*(stage.ask(f"/chat/{interaction}/stop") for _ in range(8)))
            body = await raw.body()
        assert {stop.status for stop in stops} <= {200, 404}
        *_, last = body.decode().strip().split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopped"
        row = await stage.row(request_id)
        assert (row["outcome"], said(row)) == ("client_cancelled", "one two three")


async def test_a_chat_that_is_no_stream_is_told_that_it_was_stopped(stage: Stage) -> None:
    stage.upstream.script(stall_before_headers())
    asking = asyncio.create_task(stage.chat(path="/chat"))
    await stage.upstream.wait_for_requests(1)
    (running,) = (await stage.ask("/chat/running", method="GET")).json()["data"]
    assert (await stage.ask(f"/chat/{running['id']}/stop")).status == 200
    answer = await asking
    assert answer.status == 409
    assert answer.error["code"] == "stopped"
    assert (await stage.row(answer.request_id))["outcome"] == "client_cancelled"


async def test_a_chat_whose_client_left_can_still_be_stopped(stage: Stage) -> None:
    stage.upstream.script(first_words())
    request_id = new_id()
    raw = await stage.stream(path="/chat", request_id=request_id)
    interaction = (await raw.answer())["x-interaction-id"]
    await raw.until(b"three")
    await raw.close()
    assert (await stage.ask(f"/chat/{interaction}/stop")).status == 200
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert said(row) == "one two three"
    assert (await stage.ask(f"/chat/{interaction}/stop")).status == 404


@pytest.mark.parametrize("name", ["01a207c7-8247-70af-aeda-9036c458c213", "nonsense", "..", "%00", "1" * 300])
async def test_what_is_not_being_answered_cannot_be_stopped(stage: Stage, name: str) -> None:
    answer = await stage.ask(f"/chat/{name}/stop")
    assert answer.status == 404
    assert answer.error["code"] == "not_found"


@pytest.mark.stopwatch
async def test_ctrl_c_at_a_terminal_client_cancels_at_the_upstream(stage: Stage) -> None:
    stage.upstream.script(first_words())
    request_id = new_id()
    url = f"{stage.gateway.url}/v1/chat/completions"
    headers = ["-H", "Content-Type: application/json", "-H", f"X-Request-Id: {request_id}"]
    curl = await asyncio.create_subprocess_exec(
        *["curl", "-sN", url, *headers, "-d", json.dumps(hello(stream=True))], stdout=asyncio.subprocess.PIPE
    )
    assert curl.stdout is not None
    try:
        async with asyncio.timeout(5):
            await curl.stdout.readuntil(b"three")
        curl.send_signal(signal.SIGINT)
        left_at = time.monotonic()
        closed_at = await stage.upstream.wait_closed(stage.upstream.requests[0])
        assert closed_at - left_at < 1.0
    finally:
        if curl.returncode is None:
            curl.kill()
        await curl.communicate()
    row = await stage.row(request_id)
    assert row["outcome"] == "client_cancelled"
    assert said(row) == "one two three"


async def test_a_client_that_resets_its_connection_has_left(stage: Stage) -> None:
    stage.upstream.script(first_words())
    request_id = new_id()
    raw = await stage.stream(request_id=request_id)
    await raw.answer()
    await raw.until(b"three")
    raw.reset()
    await stage.upstream.wait_closed(stage.upstream.requests[0])
    assert said(await stage.row(request_id)) == "one two three"


async def test_after_many_clients_have_left_nothing_of_them_is_left(stage: Stage) -> None:
    open_files = stage.gateway.open_files()
    stage.upstream.on = lambda _: first_words()
    for _ in range(3):
        raws = [await stage.stream() for _ in range(20)]
        for raw in raws:
            await raw.answer()
            await raw.until(b"three")
        for raw in raws:
            raw.reset()
        await stage.upstream.wait_until(lambda: all(request.closed_at for request in stage.upstream.requests))
    assert stage.gateway.open_files() <= open_files + 3
