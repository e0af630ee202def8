"""Request bodies: read and inflated within bounds, parsed once."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import TYPE_CHECKING, Any

import orjson

from gateway.codec.jsontext import brackets
from gateway.dialects.request_body import (
    DECIDING,
    DECIDING_WITHIN,
    FURTHER_MODELS,
    ambiguous_member,
    further_models,
    may_name_models,
    values_of,
    without_members,
)
from gateway.edge.http.origin_check import require_typed
from gateway.errors import BodyTooLarge, BodyTooSlow, MalformedBody, UnsupportedMediaType
from gateway.model import ChatRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from aiohttp import web

    from gateway.model import Principal
    from gateway.settings import Settings

OWN_FIELDS = ("root_id", "convo_title")


async def read_body(request: web.Request, settings: Settings) -> bytes:
    """The whole body, decoded. Raises BodyTooLarge, BodyTooSlow, UnsupportedMediaType, MalformedBody."""
    limit = settings.server.max_body_bytes
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(f"the body is longer than {limit} bytes")
    content = request.content
    if content.is_eof():  # it arrived with the head, as small bodies do
        raw = content.read_nowait()
        if len(raw) > limit:
            raise BodyTooLarge(f"the body is longer than {limit} bytes")
    else:
        raw = await _read_slowly(request, limit, settings.server.body_timeout_s)
    coding = request.headers.get("Content-Encoding")
    return raw if coding is None else _inflated(raw, coding.strip().lower(), limit)


async def _read_slowly(request: web.Request, limit: int, timeout_s: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.content.iter_any():
                size += len(part)
                if size > limit:
                    raise BodyTooLarge(f"the body is longer than {limit} bytes")
                parts.append(part)
    except TimeoutError as error:
        raise BodyTooSlow(f"the body did not arrive within {timeout_s:g} s") from error
    return b"".join(parts)


class BodyChunks:
    """The chunks of a body that is passed on as it arrives. Raises BodyTooSlow where the next chunk is late."""

    __slots__ = ("_content", "_timeout_s")

    def __init__(self, request: web.Request, timeout_s: float) -> None:
        self._content = request.content
        self._timeout_s = timeout_s

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                chunk = await self._content.readany()
        except TimeoutError as error:
            raise BodyTooSlow(f"no more of the body came within {self._timeout_s:g} s") from error
        if not chunk:
            raise StopAsyncIteration
        return chunk


class PrefixedChunks:
    """A streamed body whose first bytes were read before: yields them, then the rest."""

    __slots__ = ("_chunks", "_prefix")

    def __init__(self, prefix: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._prefix = prefix
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        prefix, self._prefix = self._prefix, b""
        return prefix or await anext(self._chunks)


async def take(chunks: AsyncIterator[bytes], least: int) -> bytes:
    """The first bytes of a streamed body: at least `least`, or the whole body."""
    taken = bytearray()
    async for chunk in chunks:
        taken += chunk
        if len(taken) >= least:
            break
    return bytes(taken)


def _inflated(raw: bytes, coding: str, limit: int) -> bytes:
    if coding in ("", "identity"):
        return raw
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedMediaType(f"the content coding {coding!r} is not supported")
    inflate = zlib.decompressobj(wbits=47)
    try:
        plain = inflate.decompress(raw, limit + 1)
    except zlib.error as error:
        raise MalformedBody(f"the body is not {coding}: {error}") from error
    if len(plain) > limit:
        raise BodyTooLarge(f"the inflated body is longer than {limit} bytes")
    if not inflate.eof:
        raise MalformedBody(f"the body's {coding} ends too early")
    if inflate.unused_data:
        raise MalformedBody(f"the body has more behind its {coding}")
    return plain


def parse_object(raw: bytes, max_depth: int) -> dict[str, Any]:
    """A JSON object of bounded depth. Raises MalformedBody."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        body = _parse_leniently(raw, error)
    if not isinstance(body, dict):
        raise MalformedBody("the body must be a JSON object")
    if len(raw) > 2 * max_depth and brackets(raw) > max_depth and _is_deeper(body, max_depth):
        raise MalformedBody(f"the body is nested deeper than {max_depth}", code="body_too_deep")
    return body


def _parse_leniently(raw: bytes, refusal: orjson.JSONDecodeError) -> object:
    """Escaped lone surrogates are JSON (RFC 8259 section 8.2), though orjson refuses them; NaN and Infinity are not."""
    try:
        return json.loads(raw.decode(), parse_constant=_refuse)
    except RecursionError as error:
        raise MalformedBody("the body is nested too deep", code="body_too_deep") from error
    except ValueError as error:
        raise MalformedBody(f"the body is not JSON: {refusal}") from error


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _is_deeper(body: object, max_depth: int) -> bool:
    level: list[Any] = [body]
    for _ in range(max_depth):
        level = [
            value
            for each in level
            for value in (each.values() if isinstance(each, dict) else each)
            if isinstance(value, dict | list)
        ]
        if not level:
            return False
    return True


def require_json(request: web.Request, caller: Principal) -> None:
    """Raises UnsupportedMediaType unless the body's type is JSON, or missing where the caller may omit it."""
    given = request.headers.get("Content-Type")
    if given == "application/json":
        return
    require_typed(request, caller)
    if given is None:
        return
    kind = request.content_type
    if not (kind == "application/json" or kind.endswith("+json")):
        raise UnsupportedMediaType(f"the body must be application/json, not {kind}")


def refuse_ambiguous(
    raw: bytes, names: Collection[str] | None, within: Mapping[str, Collection[str]] | None = None
) -> None:
    """Raises MalformedBody where one of `names` (None: any member) occurs twice in a JSON object, or in another case:
    the upstream might use another value than the one that was checked. The object has a bounded depth."""
    name = ambiguous_member(raw, names, within)
    if name is not None:
        raise MalformedBody(
            f"`{name}` stands in the body twice, or in another case: servers differ in what they take",
            code="ambiguous_member",
            param=name,
        )


def model_in(raw: bytes) -> str | None:
    """The model that a JSON body names; None where it names no model or is not JSON, which the upstream refuses.

    Raises MalformedBody where it names two models."""
    try:
        refuse_ambiguous(raw, ("model", *FURTHER_MODELS))
        model = orjson.loads(values_of(raw).get("model", b"null"))
    except (ValueError, RecursionError):
        return None
    return model if isinstance(model, str) else None


def further_models_in(raw: bytes) -> tuple[str, ...]:
    """The `further_models` of a body that `model_in` has accepted."""
    try:
        known = values_of(raw).items()
        return tuple(
            further_models({name: orjson.loads(value) for name, value in known if may_name_models(name, value)})
        )
    except (ValueError, RecursionError):
        return ("",)


def parse_chat(raw: bytes, max_depth: int) -> ChatRequest:
    """The request for a chat completion or response in a body. Raises MalformedBody."""
    body = parse_object(raw, max_depth)
    refuse_ambiguous(raw, DECIDING, DECIDING_WITHIN)
    model = body.get("model", "")
    if not isinstance(model, str):
        raise MalformedBody("`model` must be a string", param="model")
    own: dict[str, str | None] = {}
    for name in OWN_FIELDS:
        if name in body:
            own[name] = _own_text(body, name)
    if own:
        raw = without_members(raw, OWN_FIELDS)
        body = {name: value for name, value in body.items() if name not in OWN_FIELDS}
    options = body.get("stream_options")
    return ChatRequest(
        raw=raw,
        body=body,
        model=model,
        is_stream=body.get("stream") is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
        root_id=own.get("root_id"),
        convo_title=own.get("convo_title"),
    )


def _own_text(body: dict[str, Any], name: str) -> str | None:
    value = body[name]
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 512:
        raise MalformedBody(f"`{name}` must be a string of at most 512 characters", param=name)
    return value
