"""`/chat`: the seed's own endpoint. Its answers are finished and kept though the caller leaves, and can be stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec.structs import replace

from gateway.dialects.dialect import CHAT
from gateway.edge.chats import peer_answers
from gateway.edge.http.app_keys import EXCHANGE, LIVE, RECENT, ROOM, SETTINGS
from gateway.edge.http.bodies import parse_chat, read_body, require_json
from gateway.edge.http.callers import caller_of, client_of, open_context
from gateway.edge.http.middlewares import write_detached_line
from gateway.edge.http.params import id_in
from gateway.errors import GatewayError
from gateway.in_flight.in_flight import header_of
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
    replay = ReplayBuffer(request.app[ROOM]) if asked.is_stream else None
    answering = request.app[EXCHANGE].converse(
        context, asked, CHAT, client if replay is None else ReplayingClient(client, replay)
    )
    story = request.app[LIVE].start(context, answering, root, digest(asked.body), replay)
    recent = request.app[RECENT]
    story.task.add_done_callback(lambda _: _conclude(story, recent))
    try:
        await asyncio.shield(story.task)
    except asyncio.CancelledError:
        if not story.task.done():
            client.leave()
            write_detached_line(request, story.task)
        raise
    return client.answered()


async def read_chat(request: web.Request, caller: Principal) -> ChatRequest:
    """The body of /chat, with the conversation that its header may name. Raises CallerError."""
    settings = request.app[SETTINGS]
    require_json(request, caller)
    asked = parse_chat(await read_body(request, settings), settings.server.max_depth)
    root = asked.root_id or request.headers.get("x-conversation-id", "")[:512] or None
    return replace(asked, root_id=root)


def _conclude(story: RunningAnswer, recent: RecentAnswers) -> None:
    """The answer is over: keep it in mind for those who ask for it again, and let its followers go."""
    error = None if story.task.cancelled() else story.task.exception()
    if story.replay is not None:
        story.replay.close(error if isinstance(error, GatewayError) else None)
    recording = story.context.recording
    if recording is None or recording.answer is None:
        return
    answer = StoredAnswer(
        id=story.context.id,
        root=story.root,
        outcome=recording.answer.outcome,
        body=recording.answer.body,
        error=error.message if isinstance(error, GatewayError) else recording.answer.error,
        model=recording.interaction.model,
        started_at=recording.interaction.started_at,
        policy=recording.interaction.policy,
    )
    recent.note(story.context.caller.user, story.asked, answer)


async def stop(request: web.Request) -> web.Response:
    """POST /chat/{id}/stop: end an answer that is being made. 404 when there is none of the caller's with that id."""
    caller, interaction_id = await caller_of(request), id_in(request)
    live = request.app[LIVE]
    story = live.story(interaction_id, caller.user)
    if story is not None:
        live.stop(story)
    else:
        await peer_answers.stop(request, caller.user, interaction_id)
    return web.json_response({"message": "stopped"})
