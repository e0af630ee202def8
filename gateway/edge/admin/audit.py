"""`/live`: auditors see interactions as they happen, search the whole log, and open whole conversations.

The log records each access of an auditor, without prompts or answers.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import structlog
from aiohttp import web

from gateway.edge.http.app_keys import AUDIT, IN_FLIGHT, LIVE_TAIL, PAGE, SETTINGS, SNAPSHOT
from gateway.edge.http.callers import caller_of, not_allowed
from gateway.edge.http.params import id_in, limit_in, text_param
from gateway.edge.http.request_keys import REQUEST_ID
from gateway.edge.http.response import HttpClient
from gateway.edge.ops.page import CHAT_HEADERS
from gateway.errors import CallerError, GatewayError, IdentityUnavailable, ShuttingDown
from gateway.model import Outcome, PolicyOutcome
from gateway.store.audit import ANY, AuditFilter, Search
from gateway.store.page_cursor import NEWEST, OLDEST, PageCursor
from gateway.transport.call import Head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.model import Principal
    from gateway.store.change_feed import Change
    from gateway.store.page_cursor import Page

EVENTS = Head(200, ((b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")))
SOURCES = ("chat", "image", "api")
USUAL_LINES, MOST_LINES = 50, 200
MOST_TURNS, MOST_BYTES = 100, 8 << 20  # of a page of a conversation
LONGEST_QUERY = 200  # characters
CHECK_S = 0.5  # how often a stream checks the reader's permission and the interactions in flight

log = structlog.get_logger()


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(request.app[PAGE] / "live.html", headers=CHAT_HEADERS)


async def search(request: web.Request) -> web.Response:
    """GET /live/search?q=&user=&model=&outcome=&policy=&kind=&from=&to=&limit=&before=

    `{"data": [line, …], "next_before"}`: interactions, newest first; with `q`, the chats of the last 31 days or since
    `from` in which all of its words were said, or words that begin so.
    """
    caller = await _auditor(request)
    words = request.query.get("q", "").strip()
    if len(words) > LONGEST_QUERY:
        raise CallerError(f"`q` must be at most {LONGEST_QUERY} characters", param="q")
    asked = Search(
        caller,
        _wanted(request),
        words,
        since=_moment(request, "from"),
        before=_cursor(request, "before", _until(request)),
        limit=limit_in(request, USUAL_LINES, MOST_LINES),
    )
    found = await request.app[AUDIT].search(asked)
    _note(request, caller, "search", has_words=bool(words), lines=len(found.rows))
    return _answer(b'{"data":[%b]' % ",".join(found.rows).encode(), b"next_before", found)


async def conversation(request: web.Request) -> web.Response:
    """GET /live/conversations/{id}?after=&limit=

    `{"user", "conversation", "data": [turn, …], "next_after"}`: the whole conversation of an interaction, oldest first,
    each turn with the messages that it adds and the policy's outcome; for an image or another call, this one alone.
    """
    caller = await _auditor(request)
    interaction = id_in(request)
    limit = limit_in(request, MOST_TURNS, MOST_TURNS)
    after = _cursor(request, "after", OLDEST)
    found = await request.app[AUDIT].conversation(caller, interaction, after=after, limit=limit, budget=MOST_BYTES)
    _note(request, caller, "conversation", interaction_id=str(interaction), of=found.user, conversation_id=found.root)
    begun = b'{"user":%b,"conversation":%b,"data":[%b]' % (
        orjson.dumps(found.user),
        orjson.dumps(found.root),
        ",".join(found.turns.rows).encode(),
    )
    return _answer(begun, b"next_after", found.turns)


async def events(request: web.Request) -> web.StreamResponse:
    """GET /live/events?user=&model=&outcome=&policy=&kind=

    Lines of interactions of all processes as they are stored, as server-sent events: each once, in the order of their
    arrival. `Last-Event-ID` continues after an event. Besides `interaction` there are the events `begun`, `missed`
    (the changes since the last event are dropped: search for them), `away` and `back` (Postgres), `passed` (the
    position of changes that the filters exclude), `underway` (the interactions in flight on this host, whenever they
    change) and `ended`, with the reason.
    """
    caller = await _auditor(request)
    wanted = _wanted(request)
    tail = request.app[LIVE_TAIL]
    with tail.reading(caller):
        position, has_missed = await tail.begin(_seen(request))
        _note(request, caller, "live")
        client = _client(request)
        await client.start(EVENTS, is_events=True)
        client.write(_event("missed" if has_missed else "begun", position))
        try:
            await _send(request, caller, client, wanted, position)
        except GatewayError as error:
            await client.end(_ended(error))
    return client.answered()


async def _send(
    request: web.Request, caller: Principal, client: HttpClient, wanted: AuditFilter, position: int
) -> None:
    """Sends events until the reader leaves. Raises GatewayError when it loses its permission, or the gateway stops."""
    tail, loop = request.app[LIVE_TAIL], asyncio.get_running_loop()
    sent, is_down = position, False
    in_flight: list[dict[str, Any]] = []
    while True:
        changes, position = await tail.after(caller, position, CHECK_S)
        await _check(request)
        if tail.is_down is not is_down:
            is_down = tail.is_down
            client.write(_event("away" if is_down else "back", sent))
        sent = await _write(client, changes, wanted, sent)
        if (found := [each for each in request.app[SNAPSHOT].now() if wanted.may_become(each)]) != in_flight:
            in_flight = found
            client.write(_in_flight(in_flight))
        now = loop.time()
        if position > sent and client.is_silent(now):
            client.write(_event("passed", position))  # a reader that returns need not get these again
            sent = position
        if client.tick(now):
            client.write(b"\n")  # no SDK reads this stream; a reader that splits at empty lines gets this at once


async def _write(client: HttpClient, changes: Sequence[Change], wanted: AuditFilter, sent: int) -> int:
    """Writes the changes that pass the filters; returns the position of the last event."""
    for each in changes:
        if each.body is not None and wanted.has(each):
            client.write(_line(each.position, each.body))
            sent = each.position
            if client.is_full:
                await client.drained()
    return sent


async def _check(request: web.Request) -> None:
    """Raises GatewayError if the stream must end."""
    if request.app[IN_FLIGHT].is_draining:
        raise ShuttingDown("the gateway is shutting down")
    try:
        await _auditor(request)
    except IdentityUnavailable:
        return  # the caller was identified at the start, and nothing contradicts that now


async def _auditor(request: web.Request) -> Principal:
    """The caller, who is an auditor. Raises NotAuthenticated, NotAllowed."""
    caller = await caller_of(request)
    if not caller.is_auditor:
        raise not_allowed(caller, "only auditors see the interactions of others")
    return caller


def _client(request: web.Request) -> HttpClient:
    server = request.app[SETTINGS].server
    headers = {"x-request-id": request[REQUEST_ID], "Cache-Control": "no-store"}
    return HttpClient(request, headers, heartbeat_s=server.heartbeat_s, stall_s=server.client_stall_s)


def _line(position: int, body: str) -> bytes:
    """The event of a row: its JSON object, with its position as the first member."""
    return b'id: %d\nevent: interaction\ndata: {"position":%d,%b\n\n' % (position, position, body[1:].encode())


def _event(name: str, position: int) -> bytes:
    """An event with a position, never one beyond the last line sent: a reader that is cut here continues from it."""
    return b'id: %d\nevent: %b\ndata: {"position":%d}\n\n' % (position, name.encode(), position)


def _in_flight(data: list[dict[str, Any]]) -> bytes:
    """The interactions in flight, with the gateway's time, as the reader's clock may differ. The event has no id: no
    reader can continue from it."""
    return b"event: underway\ndata: %b\n\n" % orjson.dumps({"now": time.time(), "data": data})


def _ended(error: GatewayError) -> bytes:
    """The last event. It has no id, so that the one before stays valid."""
    return b"event: ended\ndata: %b\n\n" % orjson.dumps({"code": error.code, "message": error.message})


def _seen(request: web.Request) -> int | None:
    given = request.headers.get("Last-Event-ID", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 19 else None


def _wanted(request: web.Request) -> AuditFilter:
    return AuditFilter(
        source=_one_of(request, "kind", SOURCES),
        user=text_param(request, "user"),
        model=text_param(request, "model"),
        outcome=_one_of(request, "outcome", tuple(Outcome)),
        policy=_one_of(request, "policy", (*PolicyOutcome, ANY)),
    )


def _one_of(request: web.Request, name: str, choices: Sequence[str]) -> str | None:
    given = request.query.get(name) or None
    if given is not None and given not in choices:
        raise CallerError(f"`{name}` must be one of {', '.join(choices)}", param=name)
    return given


def _moment(request: web.Request, name: str) -> datetime | None:
    """A time of the query as the column has it: UTC, without a zone. Raises CallerError."""
    given = request.query.get(name) or None
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment
    except (ValueError, OverflowError) as error:
        raise CallerError(f"`{name}` must be a time such as 2026-01-31T09:30:00Z", param=name) from error


def _until(request: web.Request) -> PageCursor:
    moment = _moment(request, "to")
    return NEWEST if moment is None else PageCursor(moment, UUID(int=0))


def _cursor(request: web.Request, name: str, usual: PageCursor) -> PageCursor:
    given = request.query.get(name) or None
    try:
        return usual if given is None else PageCursor.read(given)
    except ValueError as error:
        raise CallerError(f"`{name}` must be what another page says is next", param=name) from error


def _answer(begun: bytes, name: bytes, page: Page) -> web.Response:
    """A page of rows, whose JSON Postgres wrote."""
    following = orjson.dumps(None if page.next is None else str(page.next))
    body = b'%b,"%b":%b}' % (begun, name, following)
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _note(request: web.Request, caller: Principal, what: str, **more: object) -> None:
    """Logs an access: who, and the filters, but never the words of a search."""
    filters = {
        name: request.query[name] for name in ("user", "model", "outcome", "policy", "kind") if name in request.query
    }
    log.info("looked_at", what=what, caller=caller.user, request_id=request[REQUEST_ID], **filters, **more)
