"""Answers of /chat that are being made: which there are, and joining one, after a reload of the page or on another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gateway.edge.chats import peer_answers
from gateway.edge.chats.peer_answers import EVENTS, NOT_MADE
from gateway.edge.http.app_keys import LIVE, SETTINGS
from gateway.edge.http.callers import caller_of, client_of
from gateway.edge.http.params import id_in
from gateway.edge.http.request_keys import FOLLOWED
from gateway.errors import CallerError, NotFound
from gateway.in_flight.in_flight import header_of

if TYPE_CHECKING:
    from gateway.in_flight.in_flight import RunningAnswer

_SHOWN = ("id", "root_id", "model", "started_at", "stream")


async def running(request: web.Request) -> web.Response:
    """GET /chat/running: the caller's answers that are being made on this host, newest first.

    `{"object": "list", "data": [{"id", "root_id", "model", "started_at", "stream"}, …]}`.
    """
    user = (await caller_of(request)).user
    told = [story.told() for story in request.app[LIVE].stories_of(user)]
    told += [found.told for found in await peer_answers.answers_of(request, user)]
    told.sort(key=lambda story: story["id"], reverse=True)
    data = [{name: story[name] for name in _SHOWN} for story in told]
    return web.json_response({"object": "list", "data": data}, headers={"Cache-Control": "no-store"})


async def join(request: web.Request) -> web.StreamResponse:
    """GET /chat/{id}/stream: an answer that is being made, from its beginning and then as it goes on, as server-sent
    events. 404 when none of the caller's with that id is being made: it may be over, and GET /chat/{id} has it."""
    caller, interaction_id = await caller_of(request), id_in(request)
    story = request.app[LIVE].story(interaction_id, caller.user)
    if story is not None:
        return await _join_here(request, story)
    found = await peer_answers.answer(request, caller.user, interaction_id)
    if found is None:
        raise NotFound(NOT_MADE)
    if not found.told["stream"]:
        raise _no_stream()
    return await peer_answers.join(request, caller.user, found)


async def _join_here(request: web.Request, story: RunningAnswer) -> web.StreamResponse:
    if story.replay is None:
        raise _no_stream()
    request[FOLLOWED] = context = story.context
    client = client_of(request, context, x_conversation_id=header_of(story.root, context))
    await story.replay.follow(client, EVENTS, request.app[SETTINGS].server.heartbeat_s)
    return client.answered()


def _no_stream() -> CallerError:
    return CallerError("this answer is no stream; GET /chat/{id} has it when it is over", code="not_a_stream")
