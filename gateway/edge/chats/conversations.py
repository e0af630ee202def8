"""Settings of a conversation that its user changes: the title, and whether the history shows it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.edge.http.app_keys import CONVERSATION_SETTINGS, LOCATOR
from gateway.edge.http.callers import caller_of
from gateway.edge.http.params import read_object, text_in
from gateway.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.model import Principal

# A change at another process is in Postgres about a tenth of a second after that process has answered.
SOON_S = (0.1, 0.2, 0.5)
UNKNOWN = "there is no such conversation"


async def update_title(request: web.Request) -> web.Response:
    """POST /update_title `{root_id, convo_title}`: sets the title of all rows of a conversation, also of later ones."""
    caller = await caller_of(request)
    body = await read_object(request)
    root, title = text_in(body, "root_id"), " ".join(text_in(body, "convo_title").split())
    await set_title(request, caller, root, title)
    return web.json_response({"message": "the title is set", "new_title": title})


async def remove(request: web.Request) -> web.Response:
    """POST /remove_convo `{root_id}`: hides a conversation from /history_v2. Nothing is deleted; its next chat shows it
    again."""
    await _set_shown(request, is_shown=False)
    return web.json_response({"message": "the conversation is removed from the history"})


async def restore(request: web.Request) -> web.Response:
    """POST /restore_convo `{root_id}`: shows a conversation in /history_v2 again."""
    await _set_shown(request, is_shown=True)
    return web.json_response({"message": "the conversation is back in the history"})


async def set_title(request: web.Request, caller: Principal, root: str, title: str) -> None:
    """Sets a conversation's title. Raises NotFound, also for a conversation of another user."""

    async def attempt() -> bool:
        is_known = request.app[LOCATOR].has_conversation(caller.user, root)
        settings = request.app[CONVERSATION_SETTINGS]
        return await settings.set_title(caller, root, title, time.time(), is_known=is_known)

    await _retry(attempt)


async def _set_shown(request: web.Request, *, is_shown: bool) -> None:
    caller = await caller_of(request)
    root = text_in(await read_object(request), "root_id")

    async def attempt() -> bool:
        is_known = request.app[LOCATOR].has_conversation(caller.user, root)
        settings = request.app[CONVERSATION_SETTINGS]
        return await settings.set_shown(caller, root, time.time(), is_shown=is_shown, is_known=is_known)

    await _retry(attempt)


async def _retry(attempt: Callable[[], Awaitable[bool]]) -> None:
    """Tries until a row of the conversation is in Postgres, after the pauses of SOON_S. Raises NotFound."""
    for pause in SOON_S:
        if await attempt():
            return
        await asyncio.sleep(pause)
    if not await attempt():
        raise NotFound(UNKNOWN)
