"""Answers of /chat that another worker of this host makes, or has made lately: found, stopped and joined through it.

The kernel spreads connections among the workers, so that a stop or a reloaded page mostly reaches another one than the
answer. What a worker tells the others is behind a socket that only this account can open; each asks in a user's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec
import orjson
from aiohttp import web

from gateway.edge.http.app_keys import LIVE, RECENT, SCRAPE, SETTINGS, SIBLINGS
from gateway.edge.http.errors import error_response
from gateway.edge.http.params import id_in
from gateway.edge.http.request_keys import REQUEST_ID
from gateway.edge.http.response import HttpClient
from gateway.errors import GatewayError, NotFound
from gateway.in_flight.snapshot import told_of
from gateway.peers.metrics import FIGURES
from gateway.store.answers import StoredAnswer
from gateway.transport.call import Head

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from gateway.in_flight.in_flight import RunningAnswer
    from gateway.peers.peers import Peers

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

EVENTS = Head(200, ((b"content-type", b"text/event-stream; charset=utf-8"),))
NOT_MADE = "no such answer is being made"
_STORIES = "/stories"
_RECENT = "/recent"
_UNDERWAY = "/underway"
_TOLD_ON = ("x-interaction-id", "x-conversation-id", "x-policy-outcome", "x-policy-rule")


class Found(NamedTuple):
    """An answer that another worker is making, as that tells of it: `RunningAnswer.told`."""

    worker: int
    told: dict[str, Any]


# --- as one who asks -------------------------------------------------------------------------------------------------


async def answers_of(request: web.Request, user: str) -> list[Found]:
    """All that the other workers are making for a user."""
    told = await request.app[SIBLINGS].ask_all(_STORIES, user=user)
    return [Found(worker, story) for worker, stories in told.items() for story in stories or ()]


async def answer(request: web.Request, user: str, interaction_id: UUID) -> Found | None:
    found = await answers_of(request, user)
    return next((each for each in found if each.told["id"] == str(interaction_id)), None)


async def finished(request: web.Request, user: str, interaction_id: UUID) -> StoredAnswer | None:
    """An answer that another worker has finished lately: its row may not be there yet."""
    return await _newest(request, f"{_RECENT}/{interaction_id}", user=user)


async def finished_answer_to(request: web.Request, user: str, asked: bytes, root: str | None) -> StoredAnswer | None:
    """The newest answer that another worker has finished lately to this request; with `root`, in this conversation."""
    return await _newest(request, _RECENT, user=user, asked=asked.hex(), **({} if root is None else {"root": root}))


async def _newest(request: web.Request, path: str, **query: str) -> StoredAnswer | None:
    told = await request.app[SIBLINGS].ask_all(path, **query)
    found = [msgspec.convert(each, StoredAnswer) for each in told.values() if each is not None]
    return max(found, key=lambda answer: answer.id, default=None)


async def underway(siblings: Peers) -> list[Any]:
    """What each of the other workers is answering at this moment, whoever asked."""
    return list((await siblings.ask_all(_UNDERWAY)).values())


async def stop(request: web.Request, user: str, interaction_id: UUID) -> None:
    """Raises NotFound."""
    found = await answer(request, user, interaction_id)
    if found is None:
        raise NotFound(NOT_MADE)
    try:
        async with _call(request, found, "POST", "stop", user) as response:
            is_stopped = response.status == 200
    except (OSError, aiohttp.ClientError):
        is_stopped = False
    if not is_stopped:  # it has ended meanwhile, or its worker has
        raise NotFound(NOT_MADE)


async def join(request: web.Request, user: str, found: Found) -> web.StreamResponse:
    """The stream as the other worker tells it, with that one's heartbeats. Raises NotFound."""
    try:
        async with _call(request, found, "GET", "stream", user) as response:
            if response.status != 200:
                return web.Response(
                    status=response.status, body=await response.read(), content_type=response.content_type
                )
            return await _tell(request, response)
    except (OSError, aiohttp.ClientError) as error:
        raise NotFound(NOT_MADE) from error


def _call(request: web.Request, found: Found, method: str, what: str, user: str) -> Any:
    path = f"{_STORIES}/{found.told['id']}/{what}"
    return request.app[SIBLINGS].call(found.worker, method, path, user=user)


async def _tell(request: web.Request, response: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {"x-request-id": request[REQUEST_ID]}
    headers |= {name: response.headers[name] for name in _TOLD_ON if name in response.headers}
    client = _client(request, headers)
    await client.start(EVENTS, is_events=True)
    try:
        async for piece in response.content.iter_any():
            client.write(piece)
            if client.is_full:
                await client.drained()
    except (OSError, aiohttp.ClientError):
        client.cut()  # its worker is gone: a part must not look like the whole
    else:
        await client.end(b"")
    return client.answered()


def _client(request: web.Request, headers: dict[str, str], story: RunningAnswer | None = None) -> HttpClient:
    server = request.app[SETTINGS].server
    context = None if story is None else story.context
    return HttpClient(request, headers, context, heartbeat_s=server.heartbeat_s, stall_s=server.client_stall_s)


# --- as one who is asked ---------------------------------------------------------------------------------------------


def told_to_siblings(app: web.Application) -> web.Application:
    """What the other workers may ask the one that runs this application."""
    told = web.Application(middlewares=[_errors])
    told[LIVE], told[RECENT], told[SETTINGS], told[SCRAPE] = app[LIVE], app[RECENT], app[SETTINGS], app[SCRAPE]
    told.add_routes(
        (
            web.get(FIGURES, _figures),
            web.get(_STORIES, _stories),
            web.post(_STORIES + "/{id}/stop", _stop),
            web.get(_STORIES + "/{id}/stream", _stream, allow_head=False),
            web.get(_UNDERWAY, _told_underway),
            web.get(_RECENT, _recent_answer_to),
            web.get(_RECENT + "/{id}", _recent),
        )
    )
    return told


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except GatewayError as error:
        return error_response(error)


async def _figures(request: web.Request) -> web.Response:
    return _json(await request.app[SCRAPE].own())


async def _stories(request: web.Request) -> web.Response:
    return _json([story.told() for story in request.app[LIVE].stories_of(request.query["user"])])


async def _stop(request: web.Request) -> web.Response:
    request.app[LIVE].stop(_story(request))
    return _json({})


async def _stream(request: web.Request) -> web.StreamResponse:
    story = _story(request)
    if story.replay is None:
        raise NotFound(NOT_MADE)
    client = _client(request, story.headers(), story)
    await story.replay.follow(client, EVENTS, request.app[SETTINGS].server.heartbeat_s)
    return client.answered()


async def _told_underway(request: web.Request) -> web.Response:
    return _json(told_of(request.app[LIVE]))


async def _recent(request: web.Request) -> web.Response:
    return _answer(request.app[RECENT].by_id(request.query["user"], id_in(request)))


async def _recent_answer_to(request: web.Request) -> web.Response:
    query = request.query
    return _answer(request.app[RECENT].answer_to(query["user"], bytes.fromhex(query["asked"]), query.get("root")))


def _answer(found: StoredAnswer | None) -> web.Response:
    told = None if found is None else found.as_stored()
    return web.Response(body=msgspec.json.encode(told), content_type="application/json")


def _story(request: web.Request) -> RunningAnswer:
    story = request.app[LIVE].story(id_in(request), request.query["user"])
    if story is None:
        raise NotFound(NOT_MADE)
    return story


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
