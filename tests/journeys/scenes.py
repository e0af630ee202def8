"""What programs do with the official `openai` package: each scene plays against any base URL and tells what it saw."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.loopback import (
    chat_completion,
    chat_stream,
    error,
    responses_stream,
    sse_error_event,
    stall_before_headers,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.loopback import Request, Script

ASK: list[Any] = [{"role": "user", "content": "Was kostet die Welt? 🙂"}]
WEATHER: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
                "additionalProperties": False,
            },
        },
    }
]
PLAN = '{"title": "Größe", "days": 3}'
HURRY = [("retry-after-ms", "5")]  # of the SDK, between two tries
OF_ONE_HOP = frozenset(("connection", "date", "keep-alive", "server", "transfer-encoding"))
# The gateway has ids of its own, says which interaction it was, and tells proxies in between to let events through.
OF_THE_GATEWAY = frozenset(
    (
        "content-security-policy",
        "x-content-type-options",
        "x-request-id",
        "x-interaction-id",
        "cache-control",
        "x-accel-buffering",
    )
)


class Plan(BaseModel):
    title: str
    days: int


def answer_by_model(request: Request) -> Script | None:
    """The upstream's part: models that misbehave, or answer in a special way. None: as the sane server does."""
    if request.method != "POST" or not request.body.startswith(b"{"):
        return None
    body = request.json()
    model, is_stream = str(body.get("model")), bool(body.get("stream"))
    counts = bool((body.get("stream_options") or {}).get("include_usage"))
    if found := re.fullmatch(r"status-(\d{3})", model):
        return error(int(found[1]), message="No, says the upstream.", code="said_no", headers=HURRY)
    match model:
        case "flaky" if int(request.header("x-stainless-retry-count") or 0) < 2:
            return error(503, message="Not yet.", headers=HURRY)
        case "firm":
            return error(500, message="Never.", headers=[("x-should-retry", "false")])
        case "planner" if request.path.endswith("/responses"):
            return responses_stream(PLAN) if is_stream else None
        case "planner":
            return chat_stream(PLAN, usage=counts) if is_stream else chat_completion(PLAN)
        case "reasoner":
            return chat_stream("Nothing.", reasoning="What is a world worth?", usage=counts)
        case "breaks":
            return sse_error_event(after_chunks=4, message="The model broke.")
        case "silent":
            return stall_before_headers()
    return None


def see(value: Any) -> Any:
    """A value as it can be compared: the class, and what the peer said."""
    if isinstance(value, BaseModel):
        fields = value.model_dump(exclude_unset=True, warnings=False)
        return {"class": type(value).__name__, **without_nulls(json.loads(json.dumps(fields, default=repr)))}
    if isinstance(value, bytes):
        return {"size": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    return value


def without_nulls(value: Any) -> Any:
    """A stream that tells its usage has `usage: null` in each chunk, which no program can tell from its absence."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    return [without_nulls(member) for member in value] if isinstance(value, list) else value


def see_failure(failure: BaseException) -> dict[str, Any]:
    seen: dict[str, Any] = {"raised": type(failure).__name__, "text": str(failure)}
    for name in ("status_code", "code", "param", "type", "body", "message"):
        if hasattr(failure, name):
            seen[name] = getattr(failure, name)
    if isinstance(failure, openai.APIStatusError):
        seen["headers"] = see_headers(failure.response.headers)
    return seen


def see_headers(headers: Any) -> dict[str, str]:
    dropped = OF_ONE_HOP | OF_THE_GATEWAY
    return {name.lower(): value for name, value in headers.items() if name.lower() not in dropped}


def normal(seen: Any) -> Any:
    """Without what differs from one request to the next: ids made from a body that holds a random boundary, or the
    gateway's own wish for usage."""
    text = json.dumps(seen, ensure_ascii=False, sort_keys=True, default=repr)
    text = re.sub(r"chatcmpl-[0-9a-f]{24}", "chatcmpl-id", text)
    return json.loads(re.sub(r'"body_sha256": "[0-9a-f]{64}"', '"body_sha256": "…"', text))


# --- with the synchronous client --------------------------------------------------------------------------------------


def chat(client: OpenAI) -> Any:
    return [see(client.chat.completions.create(model="m", messages=ASK))]


def chat_stream_(client: OpenAI) -> Any:
    with client.chat.completions.create(model="m", messages=ASK, stream=True) as chunks:
        return [see(chunk) for chunk in chunks]


def chat_stream_with_usage(client: OpenAI) -> Any:
    options: Any = {"include_usage": True}
    stream = client.chat.completions.create(model="m", messages=ASK, stream=True, stream_options=options)
    return [see(chunk) for chunk in stream]


def several_choices(client: OpenAI) -> Any:
    whole = client.chat.completions.create(model="m", messages=ASK, n=2)
    stream = client.chat.completions.create(model="m", messages=ASK, n=2, stream=True)
    return [see(whole), *(see(chunk) for chunk in stream)]


def tools(client: OpenAI) -> Any:
    more: Any = {"model": "m", "messages": ASK, "tools": WEATHER, "tool_choice": "required"}
    whole = client.chat.completions.create(**more)
    return [see(whole), *(see(chunk) for chunk in client.chat.completions.create(**more, stream=True))]


def reasoning(client: OpenAI) -> Any:
    stream = client.chat.completions.create(model="reasoner", messages=ASK, stream=True)
    chunks = list(stream)
    thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in chunks if chunk.choices]
    assert any(thoughts)
    return [thoughts, *map(see, chunks)]


def structured_output(client: OpenAI) -> Any:
    parsed = client.chat.completions.parse(model="planner", messages=ASK, response_format=Plan)
    assert parsed.choices[0].message.parsed == Plan(title="Größe", days=3)
    return [see(parsed)]


def streaming_helper(client: OpenAI) -> Any:
    more: Any = {"model": "planner", "messages": ASK, "response_format": Plan}
    with client.chat.completions.stream(**more) as stream:
        events = [(event.type, see(getattr(event, "chunk", None))) for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Plan(title="Größe", days=3)
    return [*events, see(final)]


def streaming_helper_with_tools(client: OpenAI) -> Any:
    more: Any = {"model": "m", "messages": ASK, "tools": WEATHER, "tool_choice": "required"}
    with client.chat.completions.stream(**more) as stream:
        return [*(event.type for event in stream), see(stream.get_final_completion())]


def raw_response(client: OpenAI) -> Any:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=ASK)
    return [raw.status_code, see_headers(raw.headers), raw.retries_taken, see(raw.parse())]


def raw_stream(client: OpenAI) -> Any:
    with client.chat.completions.with_streaming_response.create(model="m", messages=ASK, stream=True) as raw:
        lines = [without_nulls(json.loads(line[6:])) for line in raw.iter_lines() if line.startswith("data: {")]
        return [raw.status_code, see_headers(raw.headers), lines]


def a_stream_left_early(client: OpenAI) -> Any:
    with client.chat.completions.create(model="m", messages=ASK, stream=True) as stream:
        first = next(iter(stream))
    return [see(first), *chat(client)]


def responses(client: OpenAI) -> Any:
    whole = client.responses.create(model="m", input="Was kostet die Welt?")
    return [see(whole), whole.output_text]


def responses_stream_(client: OpenAI) -> Any:
    return [see(event) for event in client.responses.create(model="m", input="Und wem?", stream=True)]


def responses_helper(client: OpenAI) -> Any:
    with client.responses.stream(model="planner", input="Plane!", text_format=Plan) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_parsed == Plan(title="Größe", days=3)
    return [*events, see(final)]


def responses_deleted(client: OpenAI) -> Any:
    client.responses.delete("resp_1")
    return ["gone"]


def embeddings(client: OpenAI) -> Any:
    as_base64 = client.embeddings.create(model="m", input=["eins", "zwei 🙂"])
    as_floats = client.embeddings.create(model="m", input="eins", encoding_format="float", dimensions=4)
    assert len(as_floats.data[0].embedding) == 4
    return [see(as_base64), see(as_floats)]


def models(client: OpenAI) -> Any:
    return [*map(see, client.models.list()), see(client.models.retrieve("loopback-1")), see(client.models.delete("x"))]


def images(client: OpenAI) -> Any:
    made = client.images.generate(model="m", prompt="ein Hut", n=2, response_format="b64_json", size="256x256")
    edited = client.images.edit(model="m", image=("hut.png", b"\x89PNG" * 99), prompt="größer")
    return [see(made), see(edited)]


def speech(client: OpenAI) -> Any:
    whole = client.audio.speech.create(model="m", voice="alloy", input="Guten Tag")
    with client.audio.speech.with_streaming_response.create(model="m", voice="alloy", input="Guten Tag") as streamed:
        pieces = b"".join(streamed.iter_bytes())
    assert pieces == whole.content
    return [see(pieces), see_headers(whole.response.headers)]


def transcriptions(client: OpenAI) -> Any:
    return [see(client.audio.transcriptions.create(model="m", file=("tag.wav", b"RIFF" * 5_000)))]


def files(client: OpenAI) -> Any:
    made = client.files.create(file=("größe.bin", bytes(range(256)) * 400), purpose="assistants")
    content = client.files.content("file-1")
    gone = client.files.delete("file-1")
    return [see(made), *map(see, client.files.list()), see(content.content), see(gone)]


def moderations(client: OpenAI) -> Any:
    return [see(client.moderations.create(input="harmless"))]


def batches(client: OpenAI) -> Any:
    made = client.batches.create(
        input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "ß"}
    )
    return [see(made)]


def any_other_path(client: OpenAI) -> Any:
    answer = client.post("/echo/future?a=1&b=%2F", body={"some": "thing"}, cast_to=object)
    assert isinstance(answer, dict)
    return [answer["method"], answer["target"], answer["size"], answer["sha256"]]


def retried_until_it_works(client: OpenAI) -> Any:
    raw = client.chat.completions.with_raw_response.create(model="flaky", messages=ASK)
    assert raw.retries_taken == 2
    return [raw.retries_taken, see(raw.parse())]


def refusal(status: int, *, is_stream: bool) -> Callable[[OpenAI], Any]:
    def refused(client: OpenAI) -> Any:
        return failing(lambda: client.chat.completions.create(model=f"status-{status}", messages=ASK, stream=is_stream))

    return refused


def final_refusal(client: OpenAI) -> Any:
    return failing(lambda: client.chat.completions.create(model="firm", messages=ASK))


def refusals_elsewhere(client: OpenAI) -> Any:
    return [
        failing(lambda: client.models.retrieve("nope")),
        failing(lambda: client.embeddings.create(model="status-400", input="x")),
        failing(lambda: client.embeddings.create(model="status-429", input="x")),
        failing(lambda: client.responses.create(model="status-404", input="x")),
        failing(lambda: client.get("/unheard/of", cast_to=object)),
    ]


def stream_that_breaks(client: OpenAI) -> Any:
    seen: list[Any] = []
    stream = client.chat.completions.create(model="breaks", messages=ASK, stream=True)
    seen.append(failing(lambda: seen.extend(see(chunk) for chunk in stream)))
    assert seen[-1]["raised"] == "APIError"
    return seen


def impatience(client: OpenAI) -> Any:
    hasty = client.with_options(timeout=0.3, max_retries=0)
    return [failing(lambda: hasty.chat.completions.create(model="silent", messages=ASK))]


def failing(call: Callable[[], object]) -> dict[str, Any]:
    try:
        call()
    except openai.OpenAIError as failure:
        return see_failure(failure)
    raise AssertionError("it did not fail")


SCENES: dict[str, Callable[[OpenAI], Any]] = {
    scene.__name__.strip("_"): scene
    for scene in (
        chat,
        chat_stream_,
        chat_stream_with_usage,
        several_choices,
        tools,
        reasoning,
        structured_output,
        streaming_helper,
        streaming_helper_with_tools,
        raw_response,
        raw_stream,
        a_stream_left_early,
        responses,
        responses_stream_,
        responses_helper,
        responses_deleted,
        embeddings,
        models,
        images,
        speech,
        transcriptions,
        files,
        moderations,
        batches,
        any_other_path,
        retried_until_it_works,
        final_refusal,
        refusals_elsewhere,
        stream_that_breaks,
        impatience,
    )
}
SCENES |= {
    f"refused_with_{status}{'_a_stream' if is_stream else ''}": refusal(status, is_stream=is_stream)
    for status in (400, 401, 403, 404, 409, 422, 429, 500, 503)
    for is_stream in (False, True)
}


# --- with the asynchronous client -------------------------------------------------------------------------------------


async def async_chat(client: AsyncOpenAI) -> Any:
    return [see(await client.chat.completions.create(model="m", messages=ASK))]


async def async_stream(client: AsyncOpenAI) -> Any:
    async with await client.chat.completions.create(model="m", messages=ASK, stream=True) as chunks:
        return [see(chunk) async for chunk in chunks]


async def async_helper(client: AsyncOpenAI) -> Any:
    async with client.chat.completions.stream(model="planner", messages=ASK, response_format=Plan) as stream:
        return [*[event.type async for event in stream], see(await stream.get_final_completion())]


async def async_responses_helper(client: AsyncOpenAI) -> Any:
    async with client.responses.stream(model="planner", input="Plane!", text_format=Plan) as stream:
        return [*[event.type async for event in stream], see(await stream.get_final_response())]


async def async_stream_left_early(client: AsyncOpenAI) -> Any:
    stream = await client.chat.completions.create(model="m", messages=ASK, stream=True)
    async for chunk in stream:
        first = chunk
        break
    await stream.close()
    return [see(first), *await async_chat(client)]


async def async_speech(client: AsyncOpenAI) -> Any:
    async with client.audio.speech.with_streaming_response.create(model="m", voice="alloy", input="Tag") as streamed:
        return [see(b"".join([piece async for piece in streamed.iter_bytes()]))]


async def async_refusal(client: AsyncOpenAI) -> Any:
    try:
        await client.chat.completions.create(model="status-429", messages=ASK, stream=True)
    except openai.RateLimitError as failure:
        return see_failure(failure)
    raise AssertionError("it did not fail")


ASYNC_SCENES: dict[str, Callable[[AsyncOpenAI], Awaitable[Any]]] = {
    scene.__name__.removeprefix("async_"): scene
    for scene in (
        async_chat,
        async_stream,
        async_helper,
        async_responses_helper,
        async_stream_left_early,
        async_speech,
        async_refusal,
    )
}
