"""`/v1/*`, the API of OpenAI's SDKs. Conversations are assembled; all other calls pass through."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec.structs import replace

from gateway.dialects.dialect import CHAT, RESPONSES
from gateway.edge.http.app_keys import EXCHANGE, SETTINGS
from gateway.edge.http.bodies import (
    BodyChunks,
    PrefixedChunks,
    further_models_in,
    model_in,
    parse_chat,
    read_body,
    require_json,
    take,
)
from gateway.edge.http.callers import client_of, open_context, path_of
from gateway.edge.http.multipart import AmbiguousForm, model_in_form
from gateway.edge.http.origin_check import require_typed
from gateway.edge.http.paths import RESPONSES_PATH, passed_on
from gateway.errors import BodyTooLarge, MalformedBody, NotAllowed, UpgradeRequired
from gateway.exchange.context import PassthroughRequest
from gateway.model import Kind
from gateway.transport.origin import CHAT_PATH

if TYPE_CHECKING:
    from gateway.dialects.dialect import Dialect
    from gateway.model import Principal
    from gateway.settings import Settings

COMMON_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # HEAD comes with GET
READING_METHODS = ("GET", "HEAD", "OPTIONS")
HEAD_OF_FORM_BYTES = 64 * 1024  # of a form that are searched for its model if nothing depends on it
_CONVERSATIONS = {CHAT_PATH: CHAT, RESPONSES_PATH: RESPONSES}  # those of `paths.GUARDED` that are handled here


async def chat_completions(request: web.Request) -> web.StreamResponse:
    return await _converse(request, CHAT)


async def responses(request: web.Request) -> web.StreamResponse:
    return await _converse(request, RESPONSES)


async def _converse(request: web.Request, dialect: Dialect) -> web.StreamResponse:
    _require_plain_http(request)
    app = request.app
    settings = app[SETTINGS]
    context = await open_context(request)
    require_json(request, context.caller)
    asked = parse_chat(await read_body(request, settings), settings.server.max_depth)
    if asked.root_id is None and (conversation := request.headers.get("x-conversation-id")):
        asked = replace(asked, root_id=conversation[:512])
    client = client_of(request, context)
    await app[EXCHANGE].converse(context, asked, dialect, client)
    return client.answered()


async def anything(request: web.Request) -> web.StreamResponse:
    """Pass through any other path and method, present or future. A variant of a guarded route is handled as that
    route."""
    _require_plain_http(request)
    bare, mark, query = path_of(request).partition("?")
    path = passed_on(bare)
    if path in _CONVERSATIONS:
        if request.method == "POST":
            return await _converse(request, _CONVERSATIONS[path])
        if request.method not in READING_METHODS or request.can_read_body:
            raise web.HTTPMethodNotAllowed(request.method, ("POST",))
    path += mark + query
    context = await open_context(request)
    require_typed(request, context.caller)
    client = client_of(request, context)
    kind = Kind.IMAGE if request.method == "POST" and path.lower().startswith("/images/") else Kind.OTHER
    upload = await _upload(request, context.caller)
    await request.app[EXCHANGE].pass_through(context, kind, path, upload, client)
    return client.answered()


async def any_method(request: web.Request) -> web.StreamResponse:
    """Pass through a method that OpenAI's API does not have today. TRACE may not pass: its answer would show the
    upstream's credential. CONNECT is for proxies."""
    if request.method in ("TRACE", "CONNECT"):
        raise web.HTTPMethodNotAllowed(request.method, COMMON_METHODS)
    return await anything(request)


def _require_plain_http(request: web.Request) -> None:
    """Refuse WebSocket, so that clients that try it first fall back. Raises UpgradeRequired."""
    upgrade = request.headers.get("Upgrade")
    if upgrade is not None and upgrade.strip().lower() == "websocket":
        raise UpgradeRequired("this gateway does not serve WebSocket: use plain HTTP, with `stream` for events")


async def _upload(request: web.Request, caller: Principal) -> PassthroughRequest:
    """The body and the model that it names. JSON is read whole, other bodies are streamed. Raises CallerError."""
    if not request.can_read_body:
        return PassthroughRequest(b"")
    if len(request.headers.getall("Content-Type", ())) > 1:
        raise MalformedBody("the body has two types", code="ambiguous_type")
    settings = request.app[SETTINGS]
    kind = request.content_type
    if kind == "application/json" or kind.endswith("+json"):
        raw = await read_body(request, settings)
        return PassthroughRequest(
            raw,
            model=model_in(raw),
            further_models=further_models_in(raw) if caller.allowed_models is not None else (),
            is_kept=len(raw) <= settings.journal.inline_bytes,
        )
    if kind == "multipart/form-data" and caller.allowed_models is not None:
        return await _whole_form(request, settings)
    pieces = BodyChunks(request, settings.server.body_timeout_s)
    if kind != "multipart/form-data":
        return PassthroughRequest(pieces, request.content_length)
    taken = await take(pieces, HEAD_OF_FORM_BYTES)
    model = None
    with suppress(AmbiguousForm):  # nothing depends on the model
        model = model_in_form(taken[:HEAD_OF_FORM_BYTES], request.headers["Content-Type"], is_whole=False)
    return PassthroughRequest(PrefixedChunks(taken, pieces), request.content_length, model)


async def _whole_form(request: web.Request, settings: Settings) -> PassthroughRequest:
    """The whole form of a caller who may use some models only. It is read to its end before it goes on: SDKs put the
    file before the model, and a second model may follow the file. Raises CallerError."""
    try:
        form = await read_body(request, settings)
        model = model_in_form(form, request.headers["Content-Type"])
    except BodyTooLarge as error:
        message = (
            f"this key may use some models only, and {error.message}, up to which a form is searched for its model"
        )
        return PassthroughRequest(b"", refusal=NotAllowed(message, code="model_not_allowed", param="model"))
    except AmbiguousForm as error:
        raise MalformedBody(str(error), code="ambiguous_form") from error
    return PassthroughRequest(form, model=model, is_kept=False)
