"""Answers found again: `/checkchat` by what was asked, `/chat/{id}` by the interaction's id."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import orjson
from aiohttp import web

from gateway.edge.chats import peer_answers
from gateway.edge.chats.chat import read_chat
from gateway.edge.http.app_keys import ANSWERS, EXCHANGE, LIVE, RECENT
from gateway.edge.http.callers import caller_of
from gateway.edge.http.params import id_in
from gateway.errors import AnswerNotWhole, NoAnswerYet, NotFound, StillRunning, StoreUnavailable
from gateway.in_flight.recent import KEEP_S, digest
from gateway.model import Outcome
from gateway.store.jsonb import to_jsonb
from gateway.store.rows import indexed_text

if TYPE_CHECKING:
    from gateway.model import ChatRequest, Principal
    from gateway.store.answers import StoredAnswer

NEVER = UUID(int=0)


async def checkchat(request: web.Request) -> web.Response:
    """POST /checkchat: the answer to a request that was sent to /chat, word for word the same but for the members'
    order; for when its connection was cut. With `root_id`, only in that conversation.

    200 with the completion, as /chat answers without a stream, if the same caller made the request within the last 15
    minutes; of several the newest. 404 until there is one, with the code `still_running` while it is being made,
    and `Retry-After`. 409 when it has ended, but not well: the code is the outcome, and GET /chat/{id} has what was
    said.
    """
    caller = await caller_of(request)
    asked = await read_chat(request, caller)
    asked_digest = digest(asked.body)
    being_made = await _being_made(request, caller, asked_digest, asked.root_id)
    recent = await _finished(request, caller, asked_digest, asked.root_id)
    if being_made is not None and (recent is None or being_made > recent.id):
        raise StillRunning("the answer is being made; ask again in a second")
    if recent is None or recent.outcome is not Outcome.COMPLETE:
        recent = await _newer(request, caller, asked, recent)
    if recent.outcome is not Outcome.COMPLETE:
        _tell_end(recent)
    return web.Response(
        body=recent.body,
        content_type="application/json",
        headers={"Cache-Control": "no-store", "x-interaction-id": str(recent.id)},
    )


async def _being_made(request: web.Request, caller: Principal, asked: bytes, root: str | None) -> UUID | None:
    """The newest answer to this request that is being made on this host."""
    told = [story.told() for story in request.app[LIVE].stories_of(caller.user)]
    told += [found.told for found in await peer_answers.answers_of(request, caller.user)]
    wanted = None if root is None else indexed_text(root)
    found = (story for story in told if story["asked"] == asked.hex() and wanted in (None, story["root_id"]))
    return max((UUID(story["id"]) for story in found), default=None)


async def _finished(request: web.Request, caller: Principal, asked: bytes, root: str | None) -> StoredAnswer | None:
    """The newest answer to this request that was finished on this host lately."""
    here = request.app[RECENT].answer_to(caller.user, asked, root)
    there = await peer_answers.finished_answer_to(request, caller.user, asked, root)
    return there if here is None or (there is not None and there.id > here.id) else here


async def _newer(
    request: web.Request, caller: Principal, asked: ChatRequest, recent: StoredAnswer | None
) -> StoredAnswer:
    """What the store knows, of this process or another, unless that is older than what is known here."""
    recorded = request.app[EXCHANGE].as_recorded(asked, caller)
    try:
        stored = await request.app[ANSWERS].answer_to(
            caller, recorded.raw, since=time.time() - KEEP_S, root=asked.root_id
        )
    except StoreUnavailable:
        if recent is None:
            raise
        return recent
    if stored is None or (recent is not None and recent.id > stored.id):
        stored = recent
    if stored is None:
        raise NoAnswerYet("there is no answer to this request of the last 15 minutes")
    return stored


def _tell_end(answer: StoredAnswer) -> NoReturn:
    why = f": {answer.error}" if answer.error else ""
    raise AnswerNotWhole(f"the answer {answer.id} ended as {answer.outcome}{why}", code=answer.outcome.value)


async def show(request: web.Request) -> web.Response:
    """GET /chat/{id}: one of the caller's chats, over or not; what was said, and how it ended. Auditors see anybody's.

    `{"uuid", "root_uuid", "running", "outcome", "error", "model", "started_at", "policy", "response"}`; `response` is
    the completion, also of an answer that was cut short, and null where there is none; `policy` says what the company's
    policy did, null: nothing.
    """
    caller, interaction_id = await caller_of(request), id_in(request)
    story = request.app[LIVE].story(interaction_id, caller.user)
    if story is not None:
        return _running(story.told())
    answer = request.app[RECENT].by_id(caller.user, interaction_id)
    if answer is None:
        found = await peer_answers.answer(request, caller.user, interaction_id)
        if found is not None:
            return _running(found.told)
        answer = await peer_answers.finished(request, caller.user, interaction_id)
    answer = answer or await request.app[ANSWERS].by_id(caller, interaction_id)
    if answer is None:
        raise NotFound("there is nothing with this id")
    answer = answer.as_stored()
    return _shown(
        uuid=str(answer.id),
        root_uuid=answer.root,
        running=False,
        outcome=answer.outcome.value,
        error=answer.error,
        model=answer.model,
        started_at=answer.started_at,
        policy=answer.policy,
        response=_json(answer.body),
    )


def _running(told: dict[str, Any]) -> web.Response:
    return _shown(
        uuid=told["id"],
        root_uuid=told["root_id"],
        running=True,
        outcome=None,
        error=None,
        model=told["model"],
        started_at=told["started_at"],
        policy=told["policy"],
        response=None,
    )


def _shown(**members: object) -> web.Response:
    return web.Response(
        body=orjson.dumps(members), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _json(body: bytes) -> orjson.Fragment | None:
    """The answer as it was kept, unless it is no JSON."""
    text = to_jsonb(body).text
    return None if text is None else orjson.Fragment(text)
