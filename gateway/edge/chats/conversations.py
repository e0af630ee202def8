"""What callers set for their conversations by hand: a title, and whether they show in the history."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.edge.http.app_keys import CONVERSATION_SETTINGS, LIVE, RECENT
from gateway.edge.http.callers import caller_of
from gateway.edge.http.params import read_object, text_in
from gateway.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.model import Principal

# What another process has just been told is in its journal first, and in Postgres about a tenth of a second later.
SOON_S = (0.1, 0.2, 0.5)
UNKNOWN = "there is no such conversation"


async def update_title(request: web.Request) -> web.Response:
    """POST /update_title `{root_id, convo_title}`: every row of the conversation gets the title, also later ones."""
    caller = await caller_of(request)
    body = await read_object(request)
    root, title = text_in(body, "root_id"), " ".join(text_in(body, "convo_title").split())
    await set_title(request, caller, root, title)
    return web.json_response({"message": "the title is set", "new_title": title})


async def remove(request: web.Request) -> web.Response:
    """POST /remove_convo `{root_id}`: the conversation shows no more in /history_v2. Nothing is deleted, and what is
    said in it from now on shows again."""
    await _set_shown(request, is_shown=False)
    return web.json_response({"message": "the conversation is removed from the history"})


async def restore(request: web.Request) -> web.Response:
    """POST /restore_convo `{root_id}`: the conversation shows in /history_v2 again."""
    await _set_shown(request, is_shown=True)
    return web.json_response({"message": "the conversation is back in the history"})


async def set_title(request: web.Request, caller: Principal, root: str, title: str) -> None:
    """Raises NotFound, also for a conversation of somebody else."""

    async def attempt() -> bool:
        is_known = is_at_hand(request, caller, root)
        settings = request.app[CONVERSATION_SETTINGS]
        return await settings.set_title(caller, root, title, time.time(), is_known=is_known)

    await _soon(attempt)


async def _set_shown(request: web.Request, *, is_shown: bool) -> None:
    caller = await caller_of(request)
    root = text_in(await read_object(request), "root_id")

    async def attempt() -> bool:
        is_known = is_at_hand(request, caller, root)
        settings = request.app[CONVERSATION_SETTINGS]
        return await settings.set_shown(caller, root, time.time(), is_shown=is_shown, is_known=is_known)

    await _soon(attempt)


def is_at_hand(request: web.Request, caller: Principal, root: str) -> bool:
    """Whether this process knows of the conversation, though Postgres may not have heard of it yet."""
    stories = request.app[LIVE].stories_of(caller.user)
    return request.app[RECENT].has_conversation(caller.user, root) or any(story.root == root for story in stories)


async def _soon(attempt: Callable[[], Awaitable[bool]]) -> None:
    for pause in SOON_S:
        if await attempt():
            return
        await asyncio.sleep(pause)
    if not await attempt():
        raise NotFound(UNKNOWN)
