"""A sane OpenAI-compatible server as a function, request in, script out: the same request gets the same answer."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.loopback.answers import (
    CREATED,
    MODEL,
    Json,
    ToolCall,
    Wire,
    answer,
    chat_completion,
    chat_stream,
    embedding,
    error,
    file_answer,
    json_answer,
    response_object,
    responses_stream,
    words,
)
from tests.loopback.multipart import Part, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loopback.request import Request
    from tests.loopback.script import Script

VOCABULARY = (
    "the",
    "gateway",
    "keeps",
    "every",
    "word",
    "größer",
    "naïve",
    "日本語",
    "🙂",
    "and",
    "streams",
    "it",
    "at",
    "once",
)


class RefusedError(Exception):
    """The request is not one that this server serves."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def reply_to(text: str) -> str:
    """What the model answers to this user message: an echo and 8 to 39 words, not all of them ASCII."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    chosen = [VOCABULARY[byte % len(VOCABULARY)] for byte in digest * 2][: 8 + digest[0] % 32]
    return f"You said: {text.encode('utf-8', 'replace').decode()}\n\n{' '.join(chosen)}."


def chat_reply(body: Json) -> str:
    """The whole text with which a chat request is answered; `max_tokens` counts words."""
    return _limited(reply_to(last_user_text(body.get("messages"))), _limit(body))


def last_user_text(messages: object) -> str:
    """The newest user message's text: `content` as a string, or its text parts joined."""
    items = messages if isinstance(messages, list) else []
    said = [m.get("content") for m in items if isinstance(m, dict) and m.get("role") == "user"]
    content = said[-1] if said else ""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


@dataclass(frozen=True, slots=True)
class OpenAiLike:
    expect_authorization: str | None = None
    pace: float = 0.0
    close: bool = False

    def answer(self, request: Request) -> Script:
        try:
            self._admit(request)
            return self._route(request)
        except RefusedError as refused:
            return error(refused.status, message=refused.message, code=refused.code, **self._wire(request))

    def _admit(self, request: Request) -> None:
        wanted = self.expect_authorization
        if wanted is not None and request.header("authorization") != wanted:
            raise RefusedError(401, "Incorrect API key provided.", "invalid_api_key")

    def _route(self, request: Request) -> Script:
        for method, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, request.path)
            if found and (method in ("*", request.method)):
                return handler(self, request, *map(unquote, found.groups()))
        raise RefusedError(404, f"Unknown request URL: {request.method} {request.path}.", "unknown_url")

    def _wire(self, request: Request) -> Wire:
        request_id = "req_" + hashlib.sha256(f"{request.number}".encode()).hexdigest()[:24]
        return {"close": self.close, "headers": [("x-request-id", request_id), ("openai-processing-ms", "1")]}

    def _stream_wire(self, request: Request) -> Wire:
        return {**self._wire(request), "pace": self.pace}

    def chat(self, request: Request) -> Script:
        body = _json_object(request)
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            raise RefusedError(400, "'messages' must be a list with at least one message.", "invalid_messages")
        text = reply_to(last_user_text(body["messages"]))
        model = str(body.get("model", MODEL))
        limited = _limited(text, _limit(body))
        finish_reason = "stop" if limited == text else "length"
        tool_calls = _tool_calls(body, text)
        n = body.get("n") or 1
        completion_id = "chatcmpl-" + request.body_sha256[:24]
        if not body.get("stream"):
            return chat_completion(
                limited,
                model=model,
                finish_reason="tool_calls" if tool_calls else finish_reason,
                n=n,
                tool_calls=tool_calls,
                completion_id=completion_id,
                **self._wire(request),
            )
        return chat_stream(
            "" if tool_calls else limited,
            usage=bool((body.get("stream_options") or {}).get("include_usage")),
            model=model,
            finish_reason="tool_calls" if tool_calls else finish_reason,
            n=n,
            tool_calls=tool_calls,
            completion_id=completion_id,
            **self._stream_wire(request),
        )

    def responses(self, request: Request) -> Script:
        body = _json_object(request)
        text = reply_to(_input_text(body.get("input")))
        model = str(body.get("model", MODEL))
        response_id = "resp_" + request.body_sha256[:24]
        if body.get("stream"):
            return responses_stream(text, model=model, response_id=response_id, **self._stream_wire(request))
        return json_answer(response_object(text, model=model, response_id=response_id), **self._wire(request))

    def embeddings(self, request: Request) -> Script:
        body = _json_object(request)
        texts = [body["input"]] if isinstance(body.get("input"), str) else list(body.get("input") or [])
        shape = int(body.get("dimensions") or 8), str(body.get("encoding_format") or "float")
        vectors = [embedding(str(text), *shape) for text in texts]
        tokens = sum(len(words(str(text))) for text in texts)
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return self._say(request, {"object": "list", "data": data, "model": body.get("model", MODEL), "usage": usage})

    def models(self, request: Request) -> Script:
        return self._say(request, {"object": "list", "data": [_model(MODEL), _model("loopback-2")]})

    def model(self, request: Request, name: str) -> Script:
        if name not in (MODEL, "loopback-2"):
            raise RefusedError(404, f"The model '{name}' does not exist.", "model_not_found")
        return self._say(request, _model(name))

    def deleted(self, request: Request, kind: str, name: str) -> Script:
        return self._say(request, {"id": name, "object": kind.removesuffix("s"), "deleted": True})

    def images(self, request: Request) -> Script:
        body = _json_object(request)
        images = [
            {"b64_json": base64.b64encode(_noise(f"{body.get('prompt')}{i}", 96)).decode()}
            for i in range(body.get("n") or 1)
        ]
        return self._say(request, {"created": CREATED, "data": images})

    def image_edit(self, request: Request) -> Script:
        image = _file_part(request)
        return self._say(request, {"created": CREATED, "data": [{"b64_json": base64.b64encode(image.data).decode()}]})

    def speech(self, request: Request) -> Script:
        sound = _noise(str(_json_object(request).get("input")), 300_000)
        wire = self._stream_wire(request)
        wire["framing"] = "chunked"
        return file_answer(sound, "audio/mpeg", **wire)

    def transcription(self, request: Request) -> Script:
        sound = _file_part(request)
        return self._say(request, {"text": f"{len(sound.data)} bytes of {sound.filename}"})

    def upload(self, request: Request) -> Script:
        part = _file_part(request)
        fields = {p.name: p.data.decode("utf-8", "replace") for p in _parts(request) if p.filename is None}
        digest = hashlib.sha256(part.data).hexdigest()
        sizes = {
            "bytes": len(part.data),
            "sha256": digest,
            "body_size": request.body_size,
            "body_sha256": request.body_sha256,
        }
        return self._say(
            request, {**_file("file-" + digest[:16], part.filename), **sizes, "purpose": fields.get("purpose")}
        )

    def files(self, request: Request) -> Script:
        return self._say(request, {"object": "list", "data": [_file("file-1", "one.txt")], "has_more": False})

    def file(self, request: Request, name: str) -> Script:
        return self._say(request, _file(name, "one.txt"))

    def file_content(self, request: Request, name: str) -> Script:
        return file_answer(_noise(name, 200_000), **self._wire(request))

    def moderations(self, request: Request) -> Script:
        _json_object(request)
        result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
        return self._say(request, {"id": "modr-1", "model": MODEL, "results": [result]})

    def batches(self, request: Request) -> Script:
        body = _json_object(request)
        state = {"id": "batch_1", "object": "batch", "status": "validating", "created_at": CREATED}
        return self._say(request, {**state, **body})

    def echo(self, request: Request) -> Script:
        """Any method; tells what came, so that a relay's changes show."""
        if request.method == "HEAD":
            return answer([], content_type="application/json", **self._wire(request))
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers]
        seen = {"method": request.method, "target": request.target, "headers": headers}
        return self._say(request, {**seen, "size": request.body_size, "sha256": request.body_sha256})

    def _say(self, request: Request, body: object) -> Script:
        return json_answer(body, **self._wire(request))


ROUTES: tuple[tuple[str, str, Callable[..., Script]], ...] = (
    ("POST", r"/v1/chat/completions", OpenAiLike.chat),
    ("POST", r"/v1/responses", OpenAiLike.responses),
    ("POST", r"/v1/embeddings", OpenAiLike.embeddings),
    ("GET", r"/v1/models", OpenAiLike.models),
    ("GET", r"/v1/models/([^/]+)", OpenAiLike.model),
    ("DELETE", r"/v1/(models|files|responses)/([^/]+)", OpenAiLike.deleted),
    ("POST", r"/v1/images/generations", OpenAiLike.images),
    ("POST", r"/v1/images/edits", OpenAiLike.image_edit),
    ("POST", r"/v1/audio/speech", OpenAiLike.speech),
    ("POST", r"/v1/audio/transcriptions", OpenAiLike.transcription),
    ("POST", r"/v1/files", OpenAiLike.upload),
    ("GET", r"/v1/files", OpenAiLike.files),
    ("GET", r"/v1/files/([^/]+)", OpenAiLike.file),
    ("GET", r"/v1/files/([^/]+)/content", OpenAiLike.file_content),
    ("POST", r"/v1/moderations", OpenAiLike.moderations),
    ("POST", r"/v1/batches", OpenAiLike.batches),
    ("*", r"/v1/echo(?:/.*)?", OpenAiLike.echo),
)


def _json_object(request: Request) -> Json:
    try:
        body = json.loads(request.body)
    except ValueError:
        raise RefusedError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "The JSON body must be an object.")
    return body


def _input_text(value: object) -> str:
    """The newest user text of a Responses API `input`: a string, or a list of items."""
    if isinstance(value, str):
        return value
    return last_user_text(value)


def _limit(body: Json) -> int | None:
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return limit if isinstance(limit, int) else None


def _limited(text: str, limit: int | None) -> str:
    return text if limit is None else "".join(words(text)[:limit])


def _tool_calls(body: Json, text: str) -> list[ToolCall]:
    """One call of the first tool, if the request insists on a call."""
    tools: list[Any] = body.get("tools") or []
    if body.get("tool_choice") != "required" or not tools:
        return []
    arguments = json.dumps({"text": text}, ensure_ascii=False)
    return [{"id": "call_loopback", "name": tools[0]["function"]["name"], "arguments": arguments}]


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "loopback"}


def _file(name: str, filename: str | None) -> Json:
    kept = {"bytes": 3, "created_at": CREATED, "filename": filename, "purpose": "assistants", "status": "processed"}
    return {"id": name, "object": "file", **kept}


def _parts(request: Request) -> list[Part]:
    return parts_of(request.body, request.header("content-type") or "")


def _file_part(request: Request) -> Part:
    found = [part for part in _parts(request) if part.filename is not None]
    if not found:
        raise RefusedError(400, "'file' is a required property.")
    return found[0]


def _noise(seed: str, size: int) -> bytes:
    """Bytes that are neither text nor compressible, the same for the same seed."""
    return hashlib.shake_256(seed.encode("utf-8", "surrogatepass")).digest(size)
