"""`/history` and `/history_v2`: the caller's chats and conversations, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from gateway.edge.http.app_keys import HISTORY
from gateway.edge.http.callers import caller_of, not_allowed
from gateway.edge.http.params import limit_in
from gateway.errors import CallerError
from gateway.store.history import HistoryQuery
from gateway.store.page_cursor import NEWEST, PageCursor

if TYPE_CHECKING:
    from gateway.model import Principal
    from gateway.store.page_cursor import Page

MOST_ROWS = 1000
MOST_BYTES = 16 << 20  # of one answer, about; a single row may be longer
LONGEST_QUERY = 200  # characters


async def history(request: web.Request) -> web.Response:
    """GET /history?limit=&before=&user=

    `{"Historical_list": [{"request", "response_time"}, …]}`: all chats of the caller, also those that are removed from
    the history. Without `limit` and `before` the response has the seed's form, with the newest 1,000 rows or 16 MiB of
    them; with one of the two it also has `next_before`, the `before` of the next page. Auditors may name another
    `user`.
    """
    reading = _reading(request, await caller_of(request))
    return _answer(request, "Historical_list", await request.app[HISTORY].rows(reading))


async def conversations(request: web.Request) -> web.Response:
    """GET /history_v2?q=&limit=&before=&user=

    `{"Historical_Conversations": [row, …]}`: the newest row of each conversation that is not removed. With `q`, only
    conversations whose title, questions and answers contain all of its words, or words that begin with them. The other
    parameters are those of /history.
    """
    reading = _reading(request, await caller_of(request))
    words = request.query.get("q", "").strip()
    if len(words) > LONGEST_QUERY:
        raise CallerError(f"`q` must be at most {LONGEST_QUERY} characters", param="q")
    store = request.app[HISTORY]
    page = await (store.search(reading, words) if words else store.conversations(reading))
    return _answer(request, "Historical_Conversations", page)


def _reading(request: web.Request, caller: Principal) -> HistoryQuery:
    user = request.query.get("user", caller.user)
    if user != caller.user and not caller.is_auditor:
        raise not_allowed(caller, "only auditors read the chats of other users", param="user")
    before = request.query.get("before")
    try:
        cursor = NEWEST if before is None else PageCursor.read(before)
    except ValueError as error:
        raise CallerError("`before` must be the `next_before` of another page", param="before") from error
    return HistoryQuery(caller, user, limit_in(request, MOST_ROWS, MOST_ROWS), MOST_BYTES, cursor)


def _answer(request: web.Request, name: str, page: Page) -> web.Response:
    """A page of rows, whose JSON Postgres wrote."""
    body = [b'{"%b":[' % name.encode(), ",".join(page.rows).encode(), b"]"]
    following = None if page.next is None else str(page.next)
    if "limit" in request.query or "before" in request.query:
        body.append(b',"next_before":%b' % orjson.dumps(following))
    headers = {"Cache-Control": "no-store"}
    if following is not None:
        url = request.rel_url.update_query(before=following)
        headers["Link"] = f'<{url}>; rel="next"'
    return web.Response(body=b"".join([*body, b"}"]), content_type="application/json", headers=headers)
