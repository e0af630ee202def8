"""The application that this worker serves to its peers: its answers and its metrics. `peer_answers` asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import orjson
from aiohttp import web

from gateway.edge.chats.peer_answers import IN_FLIGHT_PATH, RECENT_PATH, RUNNING_PATH
from gateway.edge.chats.resume import EVENTS, NOT_RUNNING
from gateway.edge.http.app_keys import IN_FLIGHT, PEER_METRICS, RECENT, SETTINGS
from gateway.edge.http.errors import error_response
from gateway.edge.http.params import id_in
from gateway.edge.http.response import HttpClient
from gateway.errors import GatewayError, NotFound
from gateway.in_flight.snapshot import rows_of
from gateway.peers.metrics import METRICS_PATH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.in_flight.in_flight import RunningAnswer
    from gateway.store.answers import StoredAnswer

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def peer_app(app: web.Application) -> web.Application:
    """The requests that the other workers may send to the worker that runs `app`."""
    made = web.Application(middlewares=[_errors])
    made[IN_FLIGHT], made[RECENT] = app[IN_FLIGHT], app[RECENT]
    made[SETTINGS], made[PEER_METRICS] = app[SETTINGS], app[PEER_METRICS]
    made.add_routes(
        (
            web.get(METRICS_PATH, _metrics),
            web.get(RUNNING_PATH, _running),
            web.post(RUNNING_PATH + "/{id}/stop", _stop),
            web.get(RUNNING_PATH + "/{id}/stream", _stream, allow_head=False),
            web.get(IN_FLIGHT_PATH, _in_flight),
            web.get(RECENT_PATH, _recent_answer_to),
            web.get(RECENT_PATH + "/{id}", _recent),
        )
    )
    return made


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except GatewayError as error:
        return error_response(error)


async def _metrics(request: web.Request) -> web.Response:
    return _json(await request.app[PEER_METRICS].own())


async def _running(request: web.Request) -> web.Response:
    answers = request.app[IN_FLIGHT].running(request.query["user"])
    return _json([answer.info() for answer in answers])


async def _stop(request: web.Request) -> web.Response:
    request.app[IN_FLIGHT].stop(_find(request))
    return _json({})


async def _stream(request: web.Request) -> web.StreamResponse:
    answer = _find(request)
    if answer.replay is None:
        raise NotFound(NOT_RUNNING)
    server = request.app[SETTINGS].server
    client = HttpClient(
        request, answer.headers(), answer.context, heartbeat_s=server.heartbeat_s, stall_s=server.client_stall_s
    )
    await answer.replay.follow(client, EVENTS, server.heartbeat_s)
    return client.answered()


async def _in_flight(request: web.Request) -> web.Response:
    return _json(rows_of(request.app[IN_FLIGHT]))


async def _recent(request: web.Request) -> web.Response:
    return _stored(request.app[RECENT].by_id(request.query["user"], id_in(request)))


async def _recent_answer_to(request: web.Request) -> web.Response:
    query = request.query
    request_digest = bytes.fromhex(query["request_digest"])
    return _stored(request.app[RECENT].answer_to(query["user"], request_digest, query.get("root")))


def _stored(found: StoredAnswer | None) -> web.Response:
    answer = None if found is None else found.as_stored()
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _find(request: web.Request) -> RunningAnswer:
    answer = request.app[IN_FLIGHT].find(id_in(request), request.query["user"])
    if answer is None:
        raise NotFound(NOT_RUNNING)
    return answer


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
