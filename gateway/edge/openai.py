"""`/v1/*`: what OpenAI's SDKs call. Conversations are assembled; everything else passes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web
from msgspec.structs import replace

from gateway.edge.bodies import Pieces, parse_chat, read_body, require_json
from gateway.edge.guard import require_typed
from gateway.edge.keys import EXCHANGE, SETTINGS
from gateway.edge.paths import RESPONSES_PATH, passed_on
from gateway.edge.talks import client_of, open_talk, path_of
from gateway.errors import UpgradeRequired
from gateway.exchange import Upload
from gateway.model import Kind
from gateway.relay.care import CHAT, RESPONSES
from gateway.upstream.origin import CHAT_PATH

if TYPE_CHECKING:
    from gateway.relay.care import Dialect

COMMON_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # HEAD comes with GET
READING_METHODS = ("GET", "HEAD", "OPTIONS")
_CONVERSATIONS = {CHAT_PATH: CHAT, RESPONSES_PATH: RESPONSES}  # what is handled here, of `paths.GUARDED`


async def chat_completions(request: web.Request) -> web.StreamResponse:
    return await _converse(request, CHAT)


async def responses(request: web.Request) -> web.StreamResponse:
    return await _converse(request, RESPONSES)


async def _converse(request: web.Request, dialect: Dialect) -> web.StreamResponse:
    _require_plain_http(request)
    settings = request.app[SETTINGS]
    talk = await open_talk(request)
    require_json(request, talk.caller)
    asked = parse_chat(await read_body(request, settings), settings.server.max_depth)
    if asked.root_id is None and (conversation := request.headers.get("x-conversation-id")):
        asked = replace(asked, root_id=conversation[:512])
    client = client_of(request, talk)
    await request.app[EXCHANGE].converse(talk, asked, dialect, client)
    return client.answered()


async def anything(request: web.Request) -> web.StreamResponse:
    """Any other path and method, present or future; a guarded route, however it is spelled, is that route."""
    _require_plain_http(request)
    bare, mark, query = path_of(request).partition("?")
    path = passed_on(bare)
    if path in _CONVERSATIONS:
        if request.method == "POST":
            return await _converse(request, _CONVERSATIONS[path])
        if request.method not in READING_METHODS or request.can_read_body:
            raise web.HTTPMethodNotAllowed(request.method, ("POST", *READING_METHODS))
    path += mark + query
    talk = await open_talk(request)
    require_typed(request, talk.caller)
    client = client_of(request, talk)
    kind = Kind.IMAGE if request.method == "POST" and path.lower().startswith("/images/") else Kind.OTHER
    upload = await _upload(request)
    await request.app[EXCHANGE].pass_through(talk, kind, path, upload, client)
    return client.answered()


async def any_method(request: web.Request) -> web.StreamResponse:
    """A method that OpenAI's API does not have today. TRACE is none that may pass: its answer would show the credential
    with which the upstream is called. CONNECT is for proxies."""
    if request.method in ("TRACE", "CONNECT"):
        raise web.HTTPMethodNotAllowed(request.method, COMMON_METHODS)
    return await anything(request)


def _require_plain_http(request: web.Request) -> None:
    """WebSocket is not served: who tries it first falls back when told so. Raises UpgradeRequired."""
    if request.headers.get("Upgrade", "").strip().lower() == "websocket":
        raise UpgradeRequired("this gateway does not serve WebSocket: use plain HTTP, with `stream` for events")


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
