"""Well-formed HTTP answers as scripts: framing, compression, pacing, and the shapes of an OpenAI upstream."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import orjson

from tests.loopback.script import Fin, Pause, Script, Send

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Json = dict[str, Any]
Framing = Literal["chunked", "close", "length"]
Headers = Sequence[tuple[str, str]]

MODEL = "loopback-1"
CREATED = 1_700_000_000  # a fixed time: the same request gets the same bytes
DONE = "data: [DONE]\n\n"


class Wire(TypedDict, total=False):
    """How an answer travels; every builder takes these."""

    framing: Framing  # chunked; close: ends with the connection; length: Content-Length
    pace: float  # seconds between pieces
    split_at: int | None  # re-cut the body into pieces of this many bytes; 1 is "every byte"
    gzip: bool  # Content-Encoding: gzip, flushed piece by piece
    close: bool  # announce `Connection: close`, and do it
    headers: Headers


class ToolCall(TypedDict):
    id: str
    name: str
    arguments: str


def answer(
    pieces: Iterable[bytes],
    *,
    status: int = 200,
    content_type: str | None = "application/json",
    framing: Framing = "length",
    pace: float = 0.0,
    split_at: int | None = None,
    gzip: bool = False,
    close: bool = False,
    headers: Headers = (),
) -> Script:
    """Any HTTP answer; one write for each piece of the body."""
    says = list(pieces) if split_at is None else _cut(b"".join(pieces), split_at)
    parts = list(_compressed(says)) if gzip else [(piece, piece) for piece in says]
    closes = close or framing == "close"
    lines = [("content-type", content_type)] if content_type else []
    lines += [("content-encoding", "gzip")] if gzip else []
    lines += _framing_headers(framing, sum(len(part) for part, _ in parts))
    lines += [("connection", "close")] if closes else []
    script = Script([Send(head(status, [*lines, *headers]))])
    for index, (part, said) in enumerate(parts):
        if index and pace:
            script.steps.append(Pause(pace))
        script.steps.append(Send(http_chunk(part) if framing == "chunked" else part, said))
    if framing == "chunked":
        script.steps.append(Send(b"0\r\n\r\n"))
    return script.then(Fin()) if closes else script


def head(status: int, headers: Headers) -> bytes:
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def json_answer(body: object, *, status: int = 200, **wire: Unpack[Wire]) -> Script:
    wire.setdefault("framing", "length")
    return answer([orjson.dumps(body)], status=status, **wire)


def stream(events: Iterable[bytes], **wire: Unpack[Wire]) -> Script:
    """A 200 of type text/event-stream."""
    wire.setdefault("framing", "chunked")
    return answer(events, content_type="text/event-stream; charset=utf-8", **wire)


def error(
    status: int,
    body: object = None,
    *,
    message: str = "The upstream says no.",
    code: str | None = None,
    **wire: Unpack[Wire],
) -> Script:
    """An OpenAI-shaped refusal, or `body` as it is."""
    shaped = {"error": {"message": message, "type": _error_type(status), "param": None, "code": code}}
    return json_answer(shaped if body is None else body, status=status, **wire)


def file_answer(data: bytes, content_type: str = "application/octet-stream", **wire: Unpack[Wire]) -> Script:
    """A binary body, in pieces of 64 KiB."""
    wire.setdefault("framing", "length")
    return answer(_cut(data, 65_536), content_type=content_type, **wire)


def chat_stream(
    text: str | Sequence[str],
    *,
    usage: bool = True,
    model: str = MODEL,
    done: bool = True,
    finish_reason: str | None = "stop",
    newline: str = "\n",
    bom: bool = False,
    n: int = 1,
    tool_calls: Sequence[ToolCall] = (),
    reasoning: str = "",
    completion_id: str = "chatcmpl-loopback",
    **wire: Unpack[Wire],
) -> Script:
    """A streamed chat completion; a `str` goes word by word, a sequence chunk by chunk."""
    events = chat_events(
        text,
        usage=usage,
        model=model,
        done=done,
        finish_reason=finish_reason,
        n=n,
        tool_calls=tool_calls,
        reasoning=reasoning,
        completion_id=completion_id,
    )
    return stream(encode_events(events, newline, bom=bom), **wire)


def chat_events(
    text: str | Sequence[str],
    *,
    usage: bool = True,
    model: str = MODEL,
    done: bool = True,
    finish_reason: str | None = "stop",
    n: int = 1,
    tool_calls: Sequence[ToolCall] = (),
    reasoning: str = "",
    completion_id: str = "chatcmpl-loopback",
    prompt_tokens: int = 7,
) -> list[str]:
    """The events of a streamed chat completion, as OpenAI sends them: role first, usage (`choices: []`) last."""
    pieces = words(text) if isinstance(text, str) else list(text)
    deltas: list[Json] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"reasoning_content": word} for word in words(reasoning)]
    deltas += [{"content": piece} for piece in pieces]
    for index, call in enumerate(tool_calls):
        deltas += _tool_call_deltas(index, call)
    choices = [_choice(i, delta, None) for delta in deltas for i in range(n)]
    if finish_reason is not None:
        choices += [_choice(i, {}, finish_reason) for i in range(n)]
    base: Json = {
        "id": completion_id,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }
    quiet: Json = {"usage": None} if usage else {}
    chunks: list[Json] = [{**base, "choices": [choice], **quiet} for choice in choices]
    if usage:
        chunks.append({**base, "choices": [], "usage": usage_of(prompt_tokens, n * len(pieces))})
    return [event(chunk) for chunk in chunks] + ([DONE] if done else [])


def chat_completion(
    text: str,
    *,
    model: str = MODEL,
    finish_reason: str = "stop",
    n: int = 1,
    tool_calls: Sequence[ToolCall] = (),
    completion_id: str = "chatcmpl-loopback",
    prompt_tokens: int = 7,
    **wire: Unpack[Wire],
) -> Script:
    """A whole chat completion as one JSON object."""
    message: Json = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    if tool_calls:
        calls = [{"id": c["id"], "type": "function", "function": _function(c)} for c in tool_calls]
        message |= {"content": None, "tool_calls": calls}
    body = {
        "id": completion_id,
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [
            {"index": i, "message": message, "logprobs": None, "finish_reason": finish_reason} for i in range(n)
        ],
        "usage": usage_of(prompt_tokens, n * len(words(text))),
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }
    return json_answer(body, **wire)


def response_object(
    text: str, *, model: str = MODEL, response_id: str = "resp_loopback", status: str = "completed"
) -> Json:
    """The object of the Responses API; without output and usage while it is still in progress."""
    is_over = status != "in_progress"
    usage = usage_of(7, len(words(text)))
    return {
        "id": response_id,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [_output_item(text, "completed")] if is_over else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        }
        if is_over
        else None,
    }


def response_events(text: str, *, model: str = MODEL, response_id: str = "resp_loopback") -> list[str]:
    """The events of a streamed response; the last one carries the whole object, and there is no `[DONE]`."""
    started = response_object("", model=model, response_id=response_id, status="in_progress")
    place = {"item_id": "msg_loopback", "output_index": 0, "content_index": 0}
    events: list[Json] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": _output_item("", "in_progress")},
        {"type": "response.content_part.added", **place, "part": _output_text("")},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in words(text)),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": _output_text(text)},
        {"type": "response.output_item.done", "output_index": 0, "item": _output_item(text, "completed")},
        {"type": "response.completed", "response": response_object(text, model=model, response_id=response_id)},
    ]
    return [event({**body, "sequence_number": i}, name=str(body["type"])) for i, body in enumerate(events)]


def responses_stream(
    text: str, *, model: str = MODEL, response_id: str = "resp_loopback", **wire: Unpack[Wire]
) -> Script:
    return stream(encode_events(response_events(text, model=model, response_id=response_id)), **wire)


def embedding(text: str, dimensions: int, encoding_format: str) -> list[float] | str:
    """A vector that depends on the text alone, as floats or as base64 of little-endian float32."""
    digest = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    # Multiples of 2**-15 are exact in float32, so both encodings say the same.
    floats = [(int.from_bytes(digest[2 * i : 2 * i + 2], "little") - 32_768) / 32_768 for i in range(dimensions)]
    if encoding_format != "base64":
        return floats
    return base64.b64encode(_float32(floats)).decode()


def event(body: object, *, name: str | None = None) -> str:
    """One server-sent event, with LF line ends."""
    first = f"event: {name}\n" if name else ""
    return f"{first}data: {orjson.dumps(body).decode()}\n\n"


def encode_events(events: Iterable[str], newline: str = "\n", *, bom: bool = False) -> list[bytes]:
    encoded = [event.replace("\n", newline).encode() for event in events]
    if bom and encoded:
        encoded[0] = b"\xef\xbb\xbf" + encoded[0]
    return encoded


def usage_of(prompt_tokens: int, completion_tokens: int) -> Json:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def words(text: str) -> list[str]:
    """Words with the space before them: joined they are the text again."""
    return re.findall(r"\s*\S+|\s+", text)


def _choice(index: int, delta: Json, finish_reason: str | None) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _tool_call_deltas(index: int, call: ToolCall) -> Iterator[Json]:
    function = {"name": call["name"], "arguments": ""}
    yield {"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": function}]}
    for start in range(0, len(call["arguments"]), 6):
        piece = call["arguments"][start : start + 6]
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _function(call: ToolCall) -> Json:
    return {"name": call["name"], "arguments": call["arguments"]}


def _output_item(text: str, status: str) -> Json:
    content = [_output_text(text)] if status == "completed" else []
    return {"id": "msg_loopback", "type": "message", "status": status, "role": "assistant", "content": content}


def _output_text(text: str) -> Json:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _error_type(status: int) -> str:
    return "server_error" if status >= 500 else "invalid_request_error"


def _framing_headers(framing: Framing, length: int) -> list[tuple[str, str]]:
    if framing == "chunked":
        return [("transfer-encoding", "chunked")]
    return [("content-length", str(length))] if framing == "length" else []


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _compressed(pieces: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    packer = zlib.compressobj(wbits=31)
    for piece in pieces[:-1]:
        yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH), piece
    yield packer.compress(pieces[-1] if pieces else b"") + packer.flush(), pieces[-1] if pieces else b""


def _float32(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)
