"""Running answers of /chat: list them, and resume one after a reload of the page or on another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from gateway.edge.chats.peer_answers import PEER_ANSWERS
from gateway.edge.http.app_keys import LOCATOR, SETTINGS
from gateway.edge.http.callers import caller_of, client_of
from gateway.edge.http.params import id_in
from gateway.edge.http.request_keys import FOLLOWED, REQUEST_ID
from gateway.edge.http.response import HttpClient
from gateway.errors import CallerError, NotFound
from gateway.in_flight.in_flight import header_of
from gateway.in_flight.locator import Local
from gateway.transport.call import Head

if TYPE_CHECKING:
    from gateway.in_flight.in_flight import RunningAnswer
    from gateway.in_flight.locator import Peer

EVENTS = Head(200, ((b"content-type", b"text/event-stream; charset=utf-8"),))
NOT_RUNNING = "no such answer is being made"
_SHOWN = ("id", "root_id", "model", "started_at", "stream")
_PASSED_ON = ("x-interaction-id", "x-conversation-id", "x-policy-outcome", "x-policy-rule")


async def running(request: web.Request) -> web.Response:
    """GET /chat/running: the caller's answers that are being made on this host, newest first.

    `{"object": "list", "data": [{"id", "root_id", "model", "started_at", "stream"}, …]}`.
    """
    found = await request.app[LOCATOR].running((await caller_of(request)).user)
    data = [{**{name: getattr(each.info, name) for name in _SHOWN}, "id": str(each.info.id)} for each in found]
    return web.json_response({"object": "list", "data": data}, headers={"Cache-Control": "no-store"})


async def resume(request: web.Request) -> web.StreamResponse:
    """GET /chat/{id}/stream: a running answer as server-sent events, from its beginning. 404 when the caller has no
    running answer with this id; GET /chat/{id} has one that has ended."""
    caller, interaction_id = await caller_of(request), id_in(request)
    found = await request.app[LOCATOR].find_running(interaction_id, caller.user)
    if found is None:
        raise NotFound(NOT_RUNNING)
    if not found.info.stream:
        raise CallerError("this answer is no stream; GET /chat/{id} has it when it is over", code="not_a_stream")
    if isinstance(found, Local):
        return await _resume_local(request, found.answer)
    return await _resume_at_peer(request, caller.user, found)


async def _resume_local(request: web.Request, answer: RunningAnswer) -> web.StreamResponse:
    assert answer.replay is not None
    request[FOLLOWED] = context = answer.context
    client = client_of(request, context, x_conversation_id=header_of(answer.root, context))
    await answer.replay.follow(client, EVENTS, request.app[SETTINGS].server.heartbeat_s)
    return client.answered()


async def _resume_at_peer(request: web.Request, user: str, found: Peer) -> web.StreamResponse:
    """The stream as the other worker sends it, with that worker's heartbeats. Raises NotFound."""
    try:
        async with request.app[PEER_ANSWERS].stream(user, found) as response:
            if response.status != 200:
                return web.Response(
                    status=response.status, body=await response.read(), content_type=response.content_type
                )
            return await _relay(request, response)
    except (OSError, aiohttp.ClientError) as error:
        raise NotFound(NOT_RUNNING) from error


async def _relay(request: web.Request, response: aiohttp.ClientResponse) -> web.StreamResponse:
    server = request.app[SETTINGS].server
    headers = {"x-request-id": request[REQUEST_ID]}
    headers |= {name: response.headers[name] for name in _PASSED_ON if name in response.headers}
    client = HttpClient(request, headers, heartbeat_s=server.heartbeat_s, stall_s=server.client_stall_s)
    await client.start(EVENTS, is_events=True)
    try:
        async for block in response.content.iter_any():
            client.write(block)
            if client.is_full:
                await client.drained()
    except (OSError, aiohttp.ClientError):
        client.cut()  # its worker is gone: a part must not look complete
    else:
        await client.end(b"")
    return client.answered()
