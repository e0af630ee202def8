"""The demo model, asked as an exchange asks any provider, and through the official client over loopback HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError

from gateway.dialects.summaries import metadata_of, metadata_request, title_of, title_request
from gateway.providers.demo.answers import QUOTE_LENGTH, answer, quote
from gateway.providers.demo.provider import DemoProvider
from gateway.settings import DemoSettings
from gateway.transport.call import Call, Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.test_utils import TestClient
    from pytest_aiohttp.plugin import AiohttpClient

    from gateway.transport.call import Reply

HASTE = DemoSettings(words_per_second=1e9)
QUESTION = [{"role": "user", "content": "How are my words kept in the database?"}]


class Collector:
    """A sink that keeps what it is given; it may fill up, or have enough after some pieces."""

    def __init__(self, enough_after: int | None = None) -> None:
        self.pieces: list[bytes] = []
        self.is_full = False
        self.waited = asyncio.Event()
        self._enough_after = enough_after
        self._room = asyncio.Event()

    def feed(self, data: bytes) -> bool:
        self.pieces.append(data)
        return len(self.pieces) == self._enough_after

    async def drained(self) -> None:
        self.waited.set()
        await self._room.wait()

    def make_room(self) -> None:
        self.is_full = False
        self._room.set()

    @property
    def payloads(self) -> list[Any]:
        events = b"".join(self.pieces).decode().split("\n\n")
        return [json.loads(event[6:]) for event in events if event and event != "data: [DONE]"]

    @property
    def text(self) -> str:
        return "".join(choice["delta"].get("content", "") for chunk in self.payloads for choice in chunk["choices"])


def chat(**fields: object) -> Call:
    return Call("POST", "/chat/completions", body=json.dumps({"model": "demo", "messages": QUESTION} | fields).encode())


async def said(reply: Reply) -> Any:
    """The JSON of a plain answer."""
    sink = Collector()
    assert await reply.pump(sink) is Ending.WHOLE
    return json.loads(b"".join(sink.pieces))


async def ask(**fields: object) -> Any:
    return await said(await DemoProvider(HASTE).open(chat(**fields)))


async def stream(**fields: object) -> Collector:
    reply = await DemoProvider(HASTE).open(chat(stream=True, **fields))
    assert reply.head.status == 200
    assert reply.head.media_type == "text/event-stream"
    sink = Collector()
    assert await reply.pump(sink) is Ending.WHOLE
    return sink


# ── the stream ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_stream_begins_with_the_role_and_ends_with_a_reason_and_done() -> None:
    sink = await stream()
    first, *_, last = sink.payloads
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert sink.pieces[-1] == b"data: [DONE]\n\n"
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in sink.pieces)
    assert not any("usage" in chunk for chunk in sink.payloads)


async def test_stream_says_the_same_as_the_plain_answer() -> None:
    plain = await ask()
    streamed = await stream(stream_options={"include_usage": True})
    assert streamed.text == plain["choices"][0]["message"]["content"]
    assert streamed.payloads[-1]["usage"] == plain["usage"]


async def test_usage_comes_once_and_last_when_asked_for() -> None:
    chunks = (await stream(stream_options={"include_usage": True})).payloads
    assert chunks[-1]["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    usage = chunks[-1]["usage"]
    assert usage["completion_tokens"] == sum(
        1 for c in chunks if c["choices"] and c["choices"][0]["delta"].get("content")
    )
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] > 0


async def test_stream_keeps_a_persons_pace() -> None:
    reply = await DemoProvider(DemoSettings(words_per_second=400)).open(chat(stream=True))
    sink = Collector()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await reply.pump(sink)
    words = len(sink.text.split())
    assert words / 400 * 0.9 < loop.time() - began < words / 400 + 2


async def test_stream_waits_while_the_sink_is_full_and_makes_no_burst_of_it_afterwards() -> None:
    reply = await DemoProvider(DemoSettings(words_per_second=50)).open(chat(stream=True))
    sink = Collector()
    sink.is_full = True
    pump = asyncio.create_task(reply.pump(sink))
    await sink.waited.wait()
    await asyncio.sleep(0.3)
    assert sink.pieces == []
    sink.make_room()
    await asyncio.sleep(0.1)
    assert 0 < len(sink.text.split()) < 12
    reply.close()
    await pump


async def test_sink_that_has_enough_ends_the_stream() -> None:
    reply = await DemoProvider(HASTE).open(chat(stream=True))
    sink = Collector(enough_after=3)
    assert await reply.pump(sink) is Ending.ENOUGH
    assert len(sink.pieces) == 3


@pytest.mark.stopwatch
async def test_closing_ends_the_stream_at_once_even_between_slow_words() -> None:
    reply = await DemoProvider(DemoSettings(words_per_second=0.01)).open(chat(stream=True))
    pump = asyncio.create_task(reply.pump(Collector()))
    await asyncio.sleep(0.01)
    reply.close()
    assert await asyncio.wait_for(pump, 1) is Ending.CUT


@pytest.mark.stopwatch
async def test_cancelling_ends_the_stream_at_once() -> None:
    reply = await DemoProvider(DemoSettings(words_per_second=0.01)).open(chat(stream=True))
    pump = asyncio.create_task(reply.pump(Collector()))
    await asyncio.sleep(0.01)
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(pump, 1)


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_same_question_gets_the_same_answer_and_usage_under_another_id() -> None:
    one, other = await ask(), await ask()
    assert one["choices"] == other["choices"]
    assert one["usage"] == other["usage"]
    assert one["id"] != other["id"]


@pytest.mark.parametrize(
    "question",
    ["hello", "where is it logged?", "write python code", "how do I set the api key", "what is love?", "", "\n`x`\n"],
)
def test_every_answer_says_that_it_is_a_demo_and_how_to_connect_a_real_model(question: str) -> None:
    text = answer(question, None, 1)
    assert "demo model" in text
    assert "language model" in text
    assert "OPENAI_API_KEY" in text
    assert "LLM_ENDPOINT" in text
    assert text.startswith("## ")
    assert "\n- " in text or "\n1. " in text
    assert text.count("```") % 2 == 0
    assert text.count("```") >= 2


def test_different_topics_get_different_answers() -> None:
    questions = ["hello", "where are my words kept?", "some python code please", "how do I connect ollama", "why?"]
    assert len({answer(question, None, 1).splitlines()[0] for question in questions}) == len(questions)


async def test_later_turns_are_noticed() -> None:
    messages = [*QUESTION, {"role": "assistant", "content": "In Postgres."}, {"role": "user", "content": "And then?"}]
    text = (await ask(messages=messages))["choices"][0]["message"]["content"]
    assert "Message 2" in text
    assert "`And then?`" in text
    assert "`How are my words kept in the database?`" in text


async def test_text_parts_are_read_and_pictures_are_passed_over() -> None:
    parts = [
        {"type": "text", "text": "Look here"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    ]
    text = (await ask(messages=[{"role": "user", "content": parts}]))["choices"][0]["message"]["content"]
    assert "`Look here`" in text


@given(st.text(max_size=400))
def test_a_question_is_quoted_as_one_line_of_code_that_cannot_be_left(question: str) -> None:
    quoted = quote(question)
    assert quoted == "" or (quoted[0] == quoted[-1] == "`")
    inside = quoted[1:-1]
    assert "`" not in inside
    assert inside.isprintable()
    assert len(inside) <= QUOTE_LENGTH


# ── limits and choices ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_token_limit_cuts_the_answer_and_says_so(name: str) -> None:
    body = await ask(**{name: 5})
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 5
    whole = (await ask())["choices"][0]["message"]["content"]
    assert whole.startswith(body["choices"][0]["message"]["content"])
    streamed = await stream(**{name: 5})
    assert streamed.payloads[-1]["choices"][0]["finish_reason"] == "length"


async def test_stop_ends_the_answer_before_the_word() -> None:
    body = await ask(stop="demo")
    assert "demo" not in body["choices"][0]["message"]["content"]
    assert body["choices"][0]["finish_reason"] == "stop"


async def test_stop_at_the_very_beginning_leaves_an_empty_answer() -> None:
    sink = await stream(stop=["#"])
    assert sink.text == ""
    assert sink.payloads[-1]["choices"][0]["finish_reason"] == "stop"


async def test_several_choices_are_told_apart_and_all_end() -> None:
    plain = await ask(n=3)
    chunks = (await stream(n=3, stream_options={"include_usage": True})).payloads
    texts = ["", "", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == [choice["message"]["content"] for choice in plain["choices"]]
    assert len(set(texts)) == 3
    assert chunks[-1]["usage"] == plain["usage"]
    ends = [c["choices"][0]["index"] for c in chunks if c["choices"] and c["choices"][0]["finish_reason"] == "stop"]
    assert ends == [0, 1, 2]


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff", None),
        (b"[]", None),
        (b"[" * 100_000, None),
        (b"{}", "messages"),
        (b'{"messages": []}', "messages"),
        (b'{"messages": "hello"}', "messages"),
        (b'{"messages": ["hello"]}', "messages[0]"),
        (b'{"messages": [{"content": "hello"}]}', "messages[0].role"),
        (b'{"messages": [{"role": "user", "content": 5}]}', "messages[0].content"),
        (b'{"messages": [{"role": "user", "content": "x"}], "model": 5}', "model"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "stream"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 0}', "n"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 1000000}', "n"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": true}', "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1.5}', "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stop": [1]}', "stop"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stream_options": 1}', "stream_options"),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"}}',
            "response_format",
        ),
    ],
)
async def test_malformed_bodies_are_refused_in_openais_shape(body: bytes, param: str | None) -> None:
    reply = await DemoProvider(HASTE).open(Call("POST", "/chat/completions", body=body))
    assert reply.head.status == 400
    assert reply.head.media_type == "application/json"
    error = (await said(reply))["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["model", "messages", "input", "n", "stop", "stream", "stream_options", "max_tokens", "text", "instructions"]


@given(
    body=st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=6),
    message=st.dictionaries(st.sampled_from(["role", "content", "type"]), JSON_VALUES, max_size=3),
    path=st.sampled_from(["/chat/completions", "/responses"]),
)
async def test_hostile_values_never_raise(body: dict[str, Any], message: dict[str, Any], path: str) -> None:
    for messages in ({}, {"messages": [message], "input": [message]}, {"messages": QUESTION, "input": "hello"}):
        raw = json.dumps(body | messages).encode()
        reply = await DemoProvider(HASTE).open(Call("POST", path, body=raw))
        assert reply.head.status in (200, 400)
        assert await reply.pump(Collector()) is Ending.WHOLE


async def test_lone_surrogate_in_a_question_is_no_obstacle() -> None:
    body = rb'{"messages": [{"role": "user", "content": "a\ud800b"}]}'
    reply = await DemoProvider(HASTE).open(Call("POST", "/chat/completions", body=body))
    assert reply.head.status == 200
    assert "`a b`" in (await said(reply))["choices"][0]["message"]["content"]


async def test_streamed_request_body_is_collected() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"messages": [{"role": "user",'
        yield b'"content": "hello"}]}'

    reply = await DemoProvider(HASTE).open(Call("POST", "/chat/completions?x=1", body=parts()))
    assert reply.head.status == 200
    assert (await said(reply))["object"] == "chat.completion"


async def test_endless_request_body_is_refused() -> None:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1024 * 1024

    reply = await DemoProvider(HASTE).open(Call("POST", "/chat/completions", body=parts()))
    assert reply.head.status == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/embeddings"), ("GET", "/chat/completions"), ("DELETE", "/models/demo"), ("GET", "/models/gpt-5")],
)
async def test_anything_but_chats_is_a_404_that_names_the_way_out(method: str, path: str) -> None:
    reply = await DemoProvider(HASTE).open(Call(method, path, body=b"{}"))
    assert reply.head.status == 404
    error = (await said(reply))["error"]
    assert error["code"] == "demo_only_chats"
    assert "OPENAI_API_KEY" in error["message"]


# ── through the official client ──────────────────────────────────────────────────────────────────────────────────────


def application(provider: DemoProvider) -> web.Application:
    """The provider behind the plainest of HTTP servers."""

    class ToClient:
        is_full = False

        def __init__(self) -> None:
            self.body = b""

        def feed(self, data: bytes) -> bool:
            self.body += data
            return False

        async def drained(self) -> None: ...

    async def serve(request: web.Request) -> web.Response:
        call = Call(request.method, request.path.removeprefix("/v1"), body=await request.read())
        reply = await provider.open(call)
        sink = ToClient()
        await reply.pump(sink)
        headers = {name.decode(): value.decode() for name, value in reply.head.headers if name != b"content-length"}
        return web.Response(status=reply.head.status, headers=headers, body=sink.body)

    app = web.Application()
    app.router.add_route("*", "/v1/{path:.*}", serve)
    return app


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> AsyncIterator[AsyncOpenAI]:
    http: TestClient[Any, Any] = await aiohttp_client(application(DemoProvider(HASTE)))
    async with AsyncOpenAI(base_url=str(http.make_url("/v1")), api_key="any", max_retries=0) as openai:
        yield openai


async def test_official_client_streams_a_completion(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="demo", messages=[{"role": "user", "content": "hello"}], stream_options={"include_usage": True}
    ) as events:
        final = await events.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert "demo model" in (final.choices[0].message.content or "")
    assert final.usage is not None
    assert final.usage.completion_tokens > 50


async def test_official_client_gets_a_plain_completion(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hello"}])
    assert completion.model == "demo"


async def test_official_client_streams_a_response(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="demo", input="hello") as events:
        types = [event.type async for event in events]
        final = await events.get_final_response()
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    assert final.output_text == (await client.responses.create(model="demo", input="hello")).output_text
    assert "demo model" in final.output_text
    assert final.usage is not None


async def test_response_cut_by_its_limit_is_incomplete(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model="demo", input="hello", max_output_tokens=4)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_official_client_lists_the_one_model(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["demo"]
    assert (await client.models.retrieve("demo")).owned_by == "llm-gateway"


async def test_official_client_raises_its_own_errors(client: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match="messages"):
        await client.chat.completions.create(model="demo", messages=[])
    with pytest.raises(NotFoundError, match="only chats") as caught:
        await client.embeddings.create(model="demo", input="x")
    assert isinstance(caught.value, APIStatusError)
    assert caught.value.code == "demo_only_chats"


async def test_the_gateways_own_questions_get_the_answers_that_it_needs() -> None:
    conversation = [("user", "write me a 1 sentence horror story"), ("assistant", "A cold hand grabbed mine.")]
    title = await ask(messages=title_request("demo", conversation)["messages"])
    assert title_of(title["choices"][0]["message"]["content"]) == "write me a 1 sentence horror story"
    found = await ask(messages=metadata_request("demo", conversation)["messages"])
    metadata = metadata_of(found["choices"][0]["message"]["content"])
    assert "horror story" in metadata["chat_summary"]
