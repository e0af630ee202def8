"""`/chat`: the seed's own endpoint. An answer is completed and kept when its caller leaves, and can be stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec.structs import replace

from gateway.dialects.dialect import CHAT
from gateway.edge.chats.peer_answers import PEER_ANSWERS
from gateway.edge.chats.resume import NOT_RUNNING
from gateway.edge.http.app_keys import EXCHANGE, IN_FLIGHT, LOCATOR, RECENT, REPLAY_BUDGET, SETTINGS
from gateway.edge.http.bodies import parse_chat, read_body, require_json
from gateway.edge.http.callers import caller_of, client_of, open_context
from gateway.edge.http.middlewares import write_detached_line
from gateway.edge.http.params import id_in
from gateway.errors import GatewayError, NotFound
from gateway.in_flight.in_flight import header_of
from gateway.in_flight.locator import Local
from gateway.in_flight.recent import digest
from gateway.in_flight.replay import ReplayBuffer, ReplayingClient
from gateway.store.answers import StoredAnswer

if TYPE_CHECKING:
    from gateway.in_flight.in_flight import RunningAnswer
    from gateway.in_flight.recent import RecentAnswers
    from gateway.model import ChatRequest, Principal


async def chat(request: web.Request) -> web.StreamResponse:
    """A chat completion with `uuid` (this interaction) and `root_uuid` (its conversation) in the answer; a stream has
    both in its headers."""
    context = await open_context(request, shows_ids=True)
    asked = await read_chat(request, context.caller)
    root = asked.root_id or str(context.id)
    asked = replace(asked, root_id=root)
    client = client_of(request, context, x_conversation_id=header_of(root, context))
    replay = ReplayBuffer(request.app[REPLAY_BUDGET]) if asked.is_stream else None
    answering = request.app[EXCHANGE].converse(
        context, asked, CHAT, client if replay is None else ReplayingClient(client, replay)
    )
    running = request.app[IN_FLIGHT].start(context, answering, root, digest(asked.body), replay)
    recent = request.app[RECENT]
    running.task.add_done_callback(lambda _: _conclude(running, recent))
    try:
        await asyncio.shield(running.task)
    except asyncio.CancelledError:
        if not running.task.done():
            client.leave()
            write_detached_line(request, running.task)
        raise
    return client.answered()


async def read_chat(request: web.Request, caller: Principal) -> ChatRequest:
    """The body of a request to /chat; its header `x-conversation-id` replaces a missing `root_id`. Raises
    CallerError."""
    settings = request.app[SETTINGS]
    require_json(request, caller)
    asked = parse_chat(await read_body(request, settings), settings.server.max_depth)
    root = asked.root_id or request.headers.get("x-conversation-id", "")[:512] or None
    return replace(asked, root_id=root)


def _conclude(running: RunningAnswer, recent: RecentAnswers) -> None:
    """Keeps an answer that has ended in memory for /checkchat, and ends its followers' streams."""
    error = None if running.task.cancelled() else running.task.exception()
    if running.replay is not None:
        running.replay.close(error if isinstance(error, GatewayError) else None)
    recording = running.context.recording
    if recording is None or recording.answer is None:
        return
    answer = StoredAnswer(
        id=running.context.id,
        root=running.root,
        outcome=recording.answer.outcome,
        body=recording.answer.body,
        error=error.message if isinstance(error, GatewayError) else recording.answer.error,
        model=recording.interaction.model,
        started_at=recording.interaction.started_at,
        policy=recording.interaction.policy,
    )
    recent.add(running.context.caller.user, running.request_digest, answer)


async def stop(request: web.Request) -> web.Response:
    """POST /chat/{id}/stop: end a running answer. 404 when the caller has no running answer with this id."""
    caller, interaction_id = await caller_of(request), id_in(request)
    found = await request.app[LOCATOR].find_running(interaction_id, caller.user)
    if isinstance(found, Local):
        request.app[IN_FLIGHT].stop(found.answer)
    elif found is None or not await request.app[PEER_ANSWERS].stop(caller.user, found):
        raise NotFound(NOT_RUNNING)
    return web.json_response({"message": "stopped"})
