"""Titles and metadata that a model makes for a conversation.

The request to the model goes through the exchange like any other: under the same policy, and recorded as the caller's.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from gateway.dialects.dialect import CHAT
from gateway.dialects.summaries import (
    NotMetadataError,
    answer_text,
    metadata_of,
    metadata_request,
    request_json,
    retry_request,
    title_of,
    title_request,
    turns,
)
from gateway.edge.chats.conversations import SOON_S, UNKNOWN, set_title
from gateway.edge.http.app_keys import EXCHANGE, IDS, LOCATOR, SETTINGS, SUMMARIES
from gateway.edge.http.callers import open_context
from gateway.edge.http.params import read_object, text_in
from gateway.edge.http.request_keys import CONTEXT
from gateway.errors import CallerError, NotFound, StoreUnavailable, UpstreamError, UpstreamGarbled
from gateway.exchange.client import Client
from gateway.model import ChatRequest
from gateway.store.summaries import Derived

if TYPE_CHECKING:
    from gateway.exchange.context import RequestContext
    from gateway.model import Json, Principal
    from gateway.store.summaries import NewestSnapshot
    from gateway.transport.call import Head

SUMMARIZER = "summarizer"  # as the seed calls such rows


class DiscardingClient(Client):
    """Discards the answer: the gateway reads it from the recording."""

    is_full = False

    def write(self, block: bytes) -> None:
        """Discards an event of an upstream that streams without being asked to."""

    async def drained(self) -> None:
        """Never waits: it is never full."""

    def tick(self, now: float) -> bool:
        """Sends no heartbeat."""
        return False

    starts_at_once = True

    def start_now(self, head: Head) -> bool:
        """Always succeeds."""
        return True

    def send_head(self) -> None:
        """Does nothing."""

    async def start(self, head: Head, *, is_events: bool) -> None:
        """Does nothing."""

    async def end(self, last: bytes) -> None:
        """Does nothing."""

    def cut(self) -> None:
        """Does nothing."""

    async def send(self, status: int, head: Head, body: bytes) -> None:
        """Does nothing."""


async def update_title_openai(request: web.Request) -> web.Response:
    """POST /update_title_openai `{root_id}`: a model makes a title, of at most 49 characters, from the
    user's messages."""
    context = await open_context(request)
    root, newest = await _newest(request, context.caller)
    messages = turns(newest.request, newest.response)
    if not any(role == "user" for role, _ in messages):
        raise CallerError("the user has written no text in this conversation", code="nothing_said", param="root_id")
    answer = await _ask(request, context, title_request(_model(request, newest), messages))
    title = title_of(answer_text(answer))
    if not title:
        raise UpstreamGarbled("the model gave no title")
    await set_title(request, context.caller, root, title)
    return web.json_response({"message": "the title is set", "new_title": title})


async def metadata_check(request: web.Request) -> web.Response:
    """POST /metadata_check `{root_id}`: a model makes metadata from the conversation's newest row. They are checked,
    requested once more if they are invalid, and stored."""
    context = await open_context(request)
    _, newest = await _newest(request, context.caller)
    messages = turns(newest.request, newest.response)
    if not messages:
        raise CallerError("nothing was said in this conversation", code="nothing_said", param="root_id")
    asking = metadata_request(_model(request, newest), messages)
    answer = await _ask(request, context, asking)
    try:
        metadata = metadata_of(answer_text(answer))
    except NotMetadataError as fault:
        context = _next_context(request, context)
        asking = retry_request(asking, answer_text(answer), str(fault))
        answer = await _ask(request, context, asking)
        metadata = _second(answer)
    await _keep(request, context, newest, asking, metadata)
    return web.json_response({"message": "the metadata are stored", "metadata": metadata})


def _second(answer: Json) -> Json:
    try:
        return metadata_of(answer_text(answer))
    except NotMetadataError as fault:
        raise UpstreamGarbled(
            f"the model gave no metadata of the right form, twice: {fault}", code="metadata_invalid"
        ) from fault


async def _newest(request: web.Request, caller: Principal) -> tuple[str, NewestSnapshot]:
    """The conversation that the body names, and its newest row. Tries again after the pauses of SOON_S, as the row may
    not be in Postgres yet. Raises NotFound, StoreUnavailable."""
    root = text_in(await read_object(request), "root_id")
    for pause in (0, *SOON_S):
        await asyncio.sleep(pause)
        newest = await request.app[SUMMARIES].newest(caller, root)
        if newest is not None:
            return root, newest
    if request.app[LOCATOR].has_conversation(caller.user, root):
        raise StoreUnavailable("nothing of this conversation is in Postgres yet; ask again in a moment")
    raise NotFound(UNKNOWN)


def _model(request: web.Request, newest: NewestSnapshot) -> str:
    return request.app[SETTINGS].assistant.model or newest.model or ""


def _next_context(request: web.Request, context: RequestContext) -> RequestContext:
    request[CONTEXT] = following = replace(context, id=request.app[IDS].new(), recording=None)
    return following


async def _ask(request: web.Request, context: RequestContext, asking: Json) -> Json:
    """Makes one interaction, in a conversation of its own that the history does not show. Raises UpstreamError."""
    context.convo_show = False
    asked = ChatRequest(
        raw=request_json(asking),
        body=asking,
        model=asking.get("model", ""),
        is_stream=False,
        wants_usage=False,
        root_id=str(context.id),
        convo_title=SUMMARIZER,
    )
    await request.app[EXCHANGE].converse(context, asked, CHAT, DiscardingClient())
    answer = _answer(context)
    if not answer_text(answer):
        raise UpstreamError(_fault(answer))
    return answer


def _answer(context: RequestContext) -> Json:
    recording = context.recording
    body = recording.answer.body if recording is not None and recording.answer is not None else b""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _fault(answer: Json) -> str:
    """The error message, with the upstream's own where it sent one."""
    error = answer.get("error")
    message: Any = error.get("message") if isinstance(error, dict) else error
    detail = f": {message[:500]}" if isinstance(message, str) else ""
    return f"the model that was asked about the conversation did not answer{detail}"


async def _keep(
    request: web.Request, context: RequestContext, newest: NewestSnapshot, asking: Json, metadata: Json
) -> None:
    assert context.recording is not None and context.recording.answer is not None
    derived = Derived(
        id=context.id,
        at=time.time(),
        request=request_json(asking),
        response=context.recording.answer.body,
        summarized_id=newest.id,
        metadata=orjson.dumps(metadata),
    )
    await request.app[SUMMARIES].keep(context.caller, derived)
