"""`/chat`: the seed's own endpoint. Its answers are finished and kept though the caller leaves, and can be stopped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

from aiohttp import web

from gateway.edge.bodies import parse_chat, read_body, require_json
from gateway.edge.keys import EXCHANGE, LIVE, SETTINGS
from gateway.edge.middlewares import write_detached_line
from gateway.edge.talks import caller_of, client_of, open_talk
from gateway.errors import NotFound
from gateway.relay.care import CHAT


async def chat(request: web.Request) -> web.StreamResponse:
    """A chat completion with `uuid` (this interaction) and `root_uuid` (its conversation) in the answer; a stream has
    both in its headers."""
    settings = request.app[SETTINGS]
    talk = await open_talk(request, shows_ids=True)
    require_json(request)
    asked = parse_chat(await read_body(request, settings), settings.server.max_depth)
    root = asked.root_id or request.headers.get("x-conversation-id", "")[:512] or str(talk.id)
    asked = replace(asked, root_id=root)
    client = client_of(request, talk, x_conversation_id=root if root.isascii() and root.isprintable() else str(talk.id))
    task = request.app[LIVE].start(talk, request.app[EXCHANGE].converse(talk, asked, CHAT, client))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            client.leave()
            write_detached_line(request, task)
        raise
    return client.answered()


async def stop(request: web.Request) -> web.Response:
    """End an answer that is being made. 404 when there is none of the caller's with that id."""
    caller = await caller_of(request)
    try:
        interaction_id = UUID(request.match_info["id"])
    except ValueError as error:
        raise NotFound("no such answer is being made") from error
    request.app[LIVE].stop(interaction_id, caller)
    return web.json_response({"message": "stopped"})
