"""Answers of /chat that are being made: which there are, and joining one, after a reload of the page or on another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway.edge.chat import header_of
from gateway.edge.fields import id_in
from gateway.edge.keys import LIVE, SETTINGS
from gateway.edge.request_keys import FOLLOWED
from gateway.edge.talks import caller_of, client_of
from gateway.errors import CallerError
from gateway.upstream.provider import Head

if TYPE_CHECKING:
    from gateway.edge.live import Story

EVENTS = Head(200, ((b"content-type", b"text/event-stream; charset=utf-8"),))


async def running(request: web.Request) -> web.Response:
    """GET /chat/running: the caller's answers that this process is making, newest first.

    `{"object": "list", "data": [{"id", "root_id", "model", "started_at", "stream"}, …]}`.
    """
    caller = await caller_of(request)
    data = [_shown(story) for story in request.app[LIVE].stories_of(caller)]
    return web.json_response({"object": "list", "data": data}, headers={"Cache-Control": "no-store"})


def _shown(story: Story) -> dict[str, Any]:
    account = story.talk.account
    return {
        "id": str(story.talk.id),
        "root_id": story.root,
        "model": None if account is None else account.interaction.model,
        "started_at": None if account is None else account.interaction.started_at,
        "stream": story.replay is not None,
    }


async def join(request: web.Request) -> web.StreamResponse:
    """GET /chat/{id}/stream: an answer that is being made, from its beginning and then as it goes on, as server-sent
    events. 404 when none of the caller's with that id is being made: it may be over, and GET /chat/{id} has it."""
    caller = await caller_of(request)
    story = request.app[LIVE].story(id_in(request), caller)
    if story.replay is None:
        raise CallerError("this answer is no stream; GET /chat/{id} has it when it is over", code="not_a_stream")
    request[FOLLOWED] = talk = story.talk
    client = client_of(request, talk, x_conversation_id=header_of(story.root, talk))
    await story.replay.follow(client, EVENTS, request.app[SETTINGS].server.heartbeat_s)
    return client.answered()
