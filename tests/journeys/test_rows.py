"""What was said is in Postgres, word for word, in one row, with whatever the upstream and the clock said about it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests import loopback
from tests.journeys.stage import hello, new_id
from tests.loopback import (
    Pause,
    Script,
    ToolCall,
    chat_reply,
    chat_stream,
    json_answer,
    reply_to,
    stream,
)

if TYPE_CHECKING:
    from tests.journeys.stage import Answer, Row, Stage
    from tests.loopback import Request

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
CALL: ToolCall = {"id": "call_1", "name": "weather", "arguments": '{"where": "Zürich 🏔"}'}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(row: Row) -> str:
    return str(row["response"]["choices"][0]["message"]["content"])


# --- the three tables -------------------------------------------------------------------------------------------------


async def test_a_chat_is_a_row_with_everything_that_is_known_of_it(stage: Stage) -> None:
    before = datetime.now(UTC)
    answer = await stage.ask(f"{CHAT}?trial=1", hello("Guten Tag 🙂", temperature=0.5, seed=7))
    row = await stage.row(answer.request_id)
    assert row["table"] == "chatgpt_logs"
    assert row["request"] == hello("Guten Tag 🙂", temperature=0.5, seed=7)
    assert row["response"] == answer.json()
    assert row["usage_info"] == answer.json()["usage"]
    (request,) = stage.upstream.requests
    expected = {
        "user_name": "local",
        "kind": "chat",
        "outcome": "complete",
        "status": 200,
        "method": "POST",
        "path": f"{CHAT}?trial=1",
        "model": "loopback-1",
        "answered_model": "loopback-1",
        "upstream": f"127.0.0.1:{stage.upstream.port}",
        "key_id": None,
        "request_id": answer.request_id,
        "is_stream": False,
        "convo_show": True,
        "convo_title": None,
        "parent_id": None,
        "prompt_tokens": answer.json()["usage"]["prompt_tokens"],
        "completion_tokens": answer.json()["usage"]["completion_tokens"],
        "usage_estimated": False,
        "bytes_in": len(answer.body),
        "bytes_out": len(answer.body),
        "error": None,
        "request_type": "application/json",
        "response_type": "application/json",
        "request_raw": None,
        "response_raw": None,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["root_gpt_id"] == str(row["id"]) == answer.headers["x-interaction-id"]
    assert row["upstream_request_id"].startswith("req_")
    assert request.header("x-request-id") is None
    assert before - timedelta(seconds=1) < row["started_at"] <= row["finished_at"] < datetime.now(UTC)
    assert row["response_time"].replace(tzinfo=UTC) == row["finished_at"]
    assert 0 < row["first_token_ms"] <= row["duration_ms"]


async def test_a_stream_is_kept_as_the_completion_that_it_adds_up_to(stage: Stage) -> None:
    answer = await stage.chat("Guten Tag 🙂", stream=True)
    row = await stage.row(answer.request_id)
    assert said(row) == answer.text == chat_reply(hello("Guten Tag 🙂"))
    assert row["response"]["object"] == "chat.completion"
    assert row["response"]["choices"][0]["finish_reason"] == "stop"
    assert row["response_type"] == "application/json"
    assert row["is_stream"] is True
    assert row["request"] == hello("Guten Tag 🙂", stream=True)


async def test_usage_that_the_client_did_not_ask_for_is_in_the_row_and_nowhere_else(stage: Stage) -> None:
    quiet = await stage.chat("Wie viel?", stream=True)
    curious = await stage.chat("Wie viel?", stream=True, stream_options={"include_usage": True})
    assert not [event for event in quiet.events if event.get("usage")]
    assert "usage" not in json.dumps(quiet.events[-1]) or quiet.events[-1]["usage"] is None
    (usage,) = [event["usage"] for event in curious.events if event.get("usage")]
    for answer in (quiet, curious):
        row = await stage.row(answer.request_id)
        assert row["usage_info"] == usage
        assert row["prompt_tokens"] == usage["prompt_tokens"]
        assert row["completion_tokens"] == usage["completion_tokens"]
        assert row["usage_estimated"] is False
        assert "stream_options" not in row["request"] or answer is curious


async def test_a_stream_of_tool_calls_and_choices_is_put_together(stage: Stage) -> None:
    stage.upstream.script(chat_stream("", tool_calls=[CALL, {**CALL, "id": "call_2"}], finish_reason="tool_calls"))
    stage.upstream.script(chat_stream("zwei Mal", n=2, reasoning="Hm, hm."))
    called = await stage.row((await stage.chat(stream=True)).request_id)
    message = called["response"]["choices"][0]["message"]
    assert message["content"] is None or message["content"] == ""
    assert [call["id"] for call in message["tool_calls"]] == ["call_1", "call_2"]
    assert {call["function"]["arguments"] for call in message["tool_calls"]} == {CALL["arguments"]}
    chosen = await stage.row((await stage.chat(stream=True, n=2)).request_id)
    messages = [choice["message"] for choice in chosen["response"]["choices"]]
    assert [message["content"] for message in messages] == ["zwei Mal"] * 2
    assert [message["reasoning_content"] for message in messages] == ["Hm, hm."] * 2


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_response_is_a_row_beside_the_chats(stage: Stage, is_stream: bool) -> None:
    asked = {"model": "loopback-1", "input": "Guten Tag", "stream": is_stream}
    answer = await stage.ask("/v1/responses", asked)
    row = await stage.row(answer.request_id)
    assert (row["table"], row["kind"], row["outcome"]) == ("chatgpt_logs", "response", "complete")
    whole = answer.body if not is_stream else answer.body.split(b"data: ")[-1]
    body = json.loads(whole)
    assert row["response"] == (body["response"] if is_stream else body)
    assert row["prompt_tokens"] == row["response"]["usage"]["input_tokens"]
    assert row["completion_tokens"] == row["response"]["usage"]["output_tokens"]
    assert row["request"] == asked


async def test_images_have_a_table_of_their_own(stage: Stage) -> None:
    asked = {"model": "image-1", "prompt": "ein Hut", "n": 2}
    answer = await stage.ask("/v1/images/generations", asked)
    row = await stage.row(answer.request_id)
    assert (row["table"], row["kind"], row["model"]) == ("image_logs", "image", "image-1")
    assert row["request"] == asked
    assert row["response"] == answer.json()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/loopback-1", None),
        ("DELETE", "/v1/files/file-1", None),
        ("POST", "/v1/embeddings", {"model": "embed", "input": ["eins", "zwei"]}),
        ("POST", "/v1/moderations", {"input": "harmless"}),
        ("POST", "/v1/batches", {"input_file_id": "file-1", "endpoint": CHAT}),
        ("GET", "/v1/images/what", None),
        ("PATCH", "/v1/echo/future?x=1", {"some": ["thing"]}),
    ],
)
async def test_every_other_call_is_a_row_of_the_third_table(stage: Stage, method: str, path: str, body: Any) -> None:
    answer = await stage.ask(path, body, method=method)
    row = await stage.row(answer.request_id)
    assert (row["table"], row["kind"], row["method"], row["path"]) == ("api_logs", "other", method, path)
    assert row["request"] == body
    assert row["response"] == answer.json()
    assert row["status"] == answer.status
    assert row["outcome"] == ("complete" if answer.status == 200 else "upstream_error")
    if path == "/v1/embeddings":
        assert row["model"] == "embed"
        assert row["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
        assert row["completion_tokens"] == 0


async def test_binary_and_multipart_bodies_are_known_by_type_size_and_digest(stage: Stage) -> None:
    spoken = await stage.ask("/v1/audio/speech", {"model": "tts", "input": "Guten Tag"})
    row = await stage.row(spoken.request_id)
    assert row["request"] == {"model": "tts", "input": "Guten Tag"}
    assert row["response_type"] == "audio/mpeg"
    assert row["response_size"] == len(spoken.body) == 300_000
    assert row["response_sha256"] == hashlib.sha256(spoken.body).hexdigest()
    async with stage.openai() as client:
        request_id = new_id()
        await client.files.create(
            file=("x.bin", b"\0\1" * 9_000), purpose="assistants", extra_headers={"x-request-id": request_id}
        )
    uploaded = stage.upstream.requests[-1]
    row = await stage.row(request_id)
    assert row["request_type"].startswith("multipart/form-data; boundary=")
    assert (row["request_size"], row["request_sha256"]) == (uploaded.body_size, uploaded.body_sha256)
    assert row["request"] is None
    assert row["request_raw"] is None
    assert row["response"]["filename"] == "x.bin"


async def test_a_large_body_that_is_no_chat_is_known_by_size_and_digest(stage: Stage) -> None:
    asked = json.dumps({"model": "embed", "input": ["wort " * 1_000] * 250}).encode()
    assert len(asked) > 1 << 20
    answer = await stage.ask("/v1/embeddings", asked, headers={"Content-Type": "application/json"})
    assert answer.status == 200
    row = await stage.row(answer.request_id)
    assert row["request"] is None
    assert (row["request_size"], row["request_sha256"]) == (len(asked), hashlib.sha256(asked).hexdigest())


async def test_a_chat_is_kept_whole_whatever_its_size(stage: Stage) -> None:
    picture = base64.b64encode(bytes(range(256)) * 12_000).decode()
    asked = hello("x")
    asked["messages"][0]["content"] = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}]
    answer = await stage.ask(CHAT, asked)
    assert (await stage.row(answer.request_id))["request"] == asked


# --- word for word ----------------------------------------------------------------------------------------------------

ODD_REQUESTS = {
    "NUL": rb'{"model":"m","messages":[{"role":"user","content":"a\u0000b"}]}',
    "a lone surrogate": rb'{"model":"m","messages":[{"role":"user","content":"a\ud800b"}]}',
    "doubled keys": b'{"model":"m","user":"one","user":"two","messages":[{"role":"user","content":"x"}]}',
    "an escaped name": rb'{"model":"m","messages":[{"role":"user","content":"x"}],"a\u0000":1}',
}
EXACT_REQUESTS = {
    "a huge integer": b'{"model":"m","seed":123456789012345678901234567890,"messages":[{"role":"user","content":"x"}]}',
    "a long fraction": b'{"model":"m","top_p":0.12345678901234567890123,"messages":[{"role":"user","content":"x"}]}',
    "a trailing zero": b'{"model":"m","top_p":0.10,"messages":[{"role":"user","content":"x"}]}',
}


STREAMED = [
    b'data: {"model":"m","choices":[{"index":0,"delta":{"role":"assistant"}}]}' + b"\n\n",
    rb'data: {"model":"m","choices":[{"index":0,"delta":{"content":"a\u0000"}}]}' + b"\n\n",
    rb'data: {"model":"m","choices":[{"index":0,"delta":{"content":"\ud800b"}}]}' + b"\n\n",
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}' + b"\n\n",
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize("name", ODD_REQUESTS)
async def test_what_jsonb_cannot_hold_is_kept_as_it_was_written(stage: Stage, name: str) -> None:
    asked = ODD_REQUESTS[name]
    answer = await stage.ask(CHAT, asked, headers={"Content-Type": "application/json"})
    assert answer.status == 200
    row = await stage.row(answer.request_id)
    assert row["request_raw"] == asked
    assert row["request"]["model"] == "m"


@pytest.mark.parametrize("name", EXACT_REQUESTS)
async def test_numbers_are_kept_exactly(stage: Stage, name: str) -> None:
    asked = EXACT_REQUESTS[name]
    answer = await stage.ask(CHAT, asked, headers={"Content-Type": "application/json"})
    assert answer.status == 200
    await stage.row(answer.request_id)
    (row,) = await stage.fetch(
        "select request::text, request_raw from llm_logs.chatgpt_logs where request_id = $1", answer.request_id
    )
    number = asked.split(b",")[1].split(b":")[1].decode()
    assert number in row["request"] or row["request_raw"] == asked


async def test_an_answer_that_jsonb_cannot_hold_is_kept_as_it_was_said(stage: Stage) -> None:
    body = rb'{"object":"chat.completion","model":"m","choices":[{"index":0,"message":{"content":"a\u0000\ud800b"}}]}'

    def say(request: Request) -> Script:
        return stream(STREAMED) if request.json().get("stream") else loopback.answer([body])

    stage.upstream.on = say
    whole = await stage.chat()
    assert whole.body == body
    row = await stage.row(whole.request_id)
    assert row["response_raw"] == body
    streamed = await stage.chat(stream=True)
    row = await stage.row(streamed.request_id)
    assert json.loads(row["response_raw"])["choices"][0]["message"]["content"] == "a\x00\ud800b"
    assert row["outcome"] == "complete"


async def test_unknown_members_of_requests_and_answers_are_kept(stage: Stage) -> None:
    extra: dict[str, Any] = {"x_vendor": {"deep": [1, None, {"a": "ß"}]}}
    answer = await stage.chat(**extra)
    row = await stage.row(answer.request_id)
    assert row["request"]["x_vendor"] == extra["x_vendor"]


# --- tokens and times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [False, True])
async def test_usage_that_the_upstream_does_not_tell_is_estimated_and_marked(stage: Stage, is_stream: bool) -> None:
    text = reply_to("Hello!")
    bare = {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    stage.upstream.on = lambda _: chat_stream(text, usage=False) if is_stream else json_answer(bare)
    row = await stage.row((await stage.chat("Hello!", stream=is_stream)).request_id)
    assert row["usage_estimated"] is True
    assert row["usage_info"]["estimated"] is True
    assert 1 <= row["prompt_tokens"] <= 20
    assert len(text.encode()) / 8 < row["completion_tokens"] < len(text.encode())


@pytest.mark.stopwatch
async def test_times_are_those_of_the_upstream(stage: Stage) -> None:
    head, *steps = chat_stream("one two three").steps
    stage.upstream.script(Script([head, Pause(0.3), *steps[:3], Pause(0.3), *steps[3:]]))
    row = await stage.row((await stage.chat(stream=True)).request_id)
    assert 290 < row["first_token_ms"] < 550
    assert 590 < row["duration_ms"] < 1_500
    assert abs((row["finished_at"] - row["started_at"]).total_seconds() * 1000 - row["duration_ms"]) < 50


# --- conversations ----------------------------------------------------------------------------------------------------


async def test_a_chat_belongs_to_the_conversation_that_it_names(stage: Stage) -> None:
    first = await stage.chat("Erstens", path="/chat")
    root = first.json()["uuid"]
    assert first.json()["root_uuid"] == root == first.headers["x-interaction-id"]
    second = await stage.chat("Zweitens", path="/chat", root_id=root, convo_title="Aufzählung")
    assert second.json()["root_uuid"] == root
    assert second.json()["uuid"] != root
    row = await stage.row(second.request_id)
    assert (row["root_gpt_id"], row["convo_title"]) == (root, "Aufzählung")
    assert row["request"] == hello("Zweitens")
    assert [request.json() for request in stage.upstream.requests] == [hello("Erstens"), hello("Zweitens")]
    assert row["response"] == second.json()


async def test_a_streamed_chat_has_its_ids_in_its_headers(stage: Stage) -> None:
    first = await stage.chat("Erstens", path="/chat", stream=True)
    root = first.headers["x-conversation-id"]
    assert root == first.headers["x-interaction-id"]
    second = await stage.chat("Zweitens", path="/chat", stream=True, root_id=root)
    assert second.headers["x-conversation-id"] == root
    row = await stage.row(second.request_id)
    assert row["root_gpt_id"] == root
    assert row["response"]["uuid"] == second.headers["x-interaction-id"]
    assert row["response"]["root_uuid"] == root


async def test_a_root_of_the_seeds_other_kind_is_kept(stage: Stage) -> None:
    row = await stage.row((await stage.chat(path="/chat", root_id="chatcmpl-7abc")).request_id)
    assert row["root_gpt_id"] == "chatcmpl-7abc"


async def test_a_conversation_may_be_named_by_a_header(stage: Stage) -> None:
    for path in (CHAT, "/chat", "/v1/responses"):
        asked = hello() if path != "/v1/responses" else {"model": "m", "input": "Hello!"}
        answer = await stage.ask(path, asked, headers={"x-conversation-id": "meeting-7"})
        row = await stage.row(answer.request_id)
        assert row["root_gpt_id"] == "meeting-7"
    assert {request.header("x-conversation-id") for request in stage.upstream.requests} == {None}


async def test_the_gateways_own_fields_never_reach_the_upstream(stage: Stage) -> None:
    answer = await stage.ask(CHAT, hello(root_id="abc", convo_title="Titel"))
    assert (await stage.row(answer.request_id))["root_gpt_id"] == "abc"
    assert [request.json() for request in stage.upstream.requests] == [hello()]


async def take_turns(stage: Stage, opening: str, turns: int, *, is_stream: bool) -> list[Row]:
    """A plain client that knows of no conversations: it sends all that was said, each time."""
    messages: list[Any] = [{"role": "system", "content": "Be brief."}]
    rows = []
    for number in range(turns):
        messages.append(user(f"{opening} {number}"))
        answer = await stage.ask(CHAT, {"model": "m", "messages": messages, "stream": is_stream})
        row = await stage.row(answer.request_id)
        messages.append({"role": "assistant", "content": said(row)})
        rows.append(row)
    return rows


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_plain_clients_turns_are_one_conversation(stage: Stage, is_stream: bool) -> None:
    rows = await take_turns(stage, f"turn {is_stream}", 3, is_stream=is_stream)
    assert {row["root_gpt_id"] for row in rows} == {str(rows[0]["id"])}
    assert [row["parent_id"] for row in rows] == [None, rows[0]["id"], rows[1]["id"]]


async def test_an_edited_message_is_a_branch_of_the_same_conversation(stage: Stage) -> None:
    first, second, third = await take_turns(stage, "branch", 3, is_stream=False)
    messages = [*third["request"]["messages"][:-1], user("something else")]
    edited = await stage.row((await stage.ask(CHAT, {"model": "m", "messages": messages})).request_id)
    assert edited["root_gpt_id"] == str(first["id"])
    assert edited["parent_id"] == second["id"]
    anew = await stage.row((await stage.ask(CHAT, {"model": "m", "messages": first["request"]["messages"]})).request_id)
    assert anew["root_gpt_id"] == str(anew["id"])


async def test_the_packages_own_objects_go_on_with_the_conversation(stage: Stage) -> None:
    """Programs put the answer's message object into the next request, with all its empty fields."""
    ids = [new_id(), new_id()]
    async with stage.openai() as client:
        messages: list[Any] = [user("objects")]
        first = await client.chat.completions.create(
            model="m", messages=messages, extra_headers={"x-request-id": ids[0]}
        )
        messages += [first.choices[0].message, user("and on")]
        await client.chat.completions.create(model="m", messages=messages, extra_headers={"x-request-id": ids[1]})
    begun, went_on = [await stage.row(request_id) for request_id in ids]
    assert went_on["parent_id"] == begun["id"]
    assert went_on["root_gpt_id"] == str(begun["id"])


async def test_two_beginnings_with_the_same_words_are_two_conversations(stage: Stage) -> None:
    one, two = [await stage.row((await stage.chat("the very same")).request_id) for _ in range(2)]
    assert one["root_gpt_id"] != two["root_gpt_id"]


# --- as many rows as calls --------------------------------------------------------------------------------------------


async def test_calls_at_the_same_time_are_as_many_rows(stage: Stage) -> None:
    async def call(number: int) -> Answer:
        match number % 4:
            case 0:
                return await stage.chat(f"at once {number}", stream=True)
            case 1:
                return await stage.chat(f"at once {number}", path="/chat")
            case 2:
                return await stage.ask("/v1/embeddings", {"model": "m", "input": f"at once {number}"})
            case _:
                return await stage.ask("/v1/responses", {"model": "m", "input": f"at once {number}", "stream": True})

    answers = await asyncio.gather(*(call(number) for number in range(80)))
    rows = [await stage.row(answer.request_id) for answer in answers]
    assert len({row["id"] for row in rows}) == 80
    assert {row["outcome"] for row in rows} == {"complete"}
    for answer, row in zip(answers, rows, strict=True):
        assert str(row["id"]) == answer.headers["x-interaction-id"]


async def test_no_credential_is_kept_anywhere(stage: Stage) -> None:
    secret = "sk-of-the-caller-0123456789"
    named = {"Authorization": f"Bearer {secret}", "x-api-key": secret, "Cookie": f"session={secret}"}
    answer = await stage.ask(CHAT, hello(), headers=named)
    row = await stage.row(answer.request_id)
    assert secret not in repr(row)
    assert secret not in stage.gateway.log_path.read_text()
    for file in (stage.gateway.folder / "data").rglob("*.seg"):
        assert secret.encode() not in file.read_bytes()
    assert "sk-upstream-secret" not in stage.gateway.log_path.read_text()
