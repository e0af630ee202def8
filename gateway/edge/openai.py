"""`/v1/*`: what OpenAI's SDKs call. Conversations are assembled; everything else passes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web
from msgspec.structs import replace

from gateway.edge.bodies import Pieces, parse_chat, read_body, require_json
from gateway.edge.keys import EXCHANGE, SETTINGS
from gateway.edge.talks import client_of, open_talk
from gateway.exchange import Upload
from gateway.model import Kind
from gateway.relay.care import CHAT, RESPONSES

if TYPE_CHECKING:
    from gateway.relay.care import Dialect

PREFIX = "/v1"
COMMON_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # HEAD comes with GET


async def chat_completions(request: web.Request) -> web.StreamResponse:
    return await _converse(request, CHAT)


async def responses(request: web.Request) -> web.StreamResponse:
    return await _converse(request, RESPONSES)


async def _converse(request: web.Request, dialect: Dialect) -> web.StreamResponse:
    settings = request.app[SETTINGS]
    talk = await open_talk(request)
    require_json(request)
    asked = parse_chat(await read_body(request, settings), settings.server.max_depth)
    if asked.root_id is None and (conversation := request.headers.get("x-conversation-id")):
        asked = replace(asked, root_id=conversation[:512])
    client = client_of(request, talk)
    await request.app[EXCHANGE].converse(talk, asked, dialect, client)
    return client.answered()


async def anything(request: web.Request) -> web.StreamResponse:
    """Any other path and method, present or future."""
    talk = await open_talk(request)
    client = client_of(request, talk)
    path = talk.path.removeprefix(PREFIX)
    kind = Kind.IMAGE if request.method == "POST" and path.startswith("/images/") else Kind.OTHER
    upload = await _upload(request)
    await request.app[EXCHANGE].pass_through(talk, kind, path, upload, client)
    return client.answered()


async def any_method(request: web.Request) -> web.StreamResponse:
    """A method that OpenAI's API does not have today. TRACE is none that may pass: its answer would show the credential
    with which the upstream is called. CONNECT is for proxies."""
    if request.method in ("TRACE", "CONNECT"):
        raise web.HTTPMethodNotAllowed(request.method, COMMON_METHODS)
    return await anything(request)


async def _upload(request: web.Request) -> Upload:
    """A small JSON body is read and kept whole; any other is streamed on as it comes."""
    settings = request.app[SETTINGS]
    length = request.content_length
    if not request.can_read_body:
        return Upload(b"")
    is_json = request.content_type == "application/json"
    if is_json and length is not None and length <= settings.journal.inline_bytes:
        raw = await read_body(request, settings)
        return Upload(raw, model=_model(raw))
    return Upload(Pieces(request, settings.server.body_timeout_s), length)


def _model(raw: bytes) -> str | None:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else None
