"""Answers recovered: `/checkchat` finds one by its request, `/chat/{id}` by its interaction's id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from gateway.edge.chats.chat import read_chat
from gateway.edge.http.app_keys import EXCHANGE, LOCATOR
from gateway.edge.http.callers import caller_of
from gateway.edge.http.params import id_in
from gateway.errors import AnswerNotWhole, NoAnswerYet, NotFound, StillRunning
from gateway.in_flight.locator import Stored
from gateway.in_flight.recent import digest
from gateway.model import Outcome
from gateway.store.jsonb import to_jsonb

if TYPE_CHECKING:
    from gateway.in_flight.in_flight import RunningInfo


async def recover(request: web.Request) -> web.Response:
    """POST /checkchat: the answer to a request that was sent to /chat before, for when its connection was cut. The body
    is the same but for the members' order; with `root_id`, only an answer in that conversation counts.

    200 with the completion, as /chat answers without a stream, if the same caller made the request within the last 15
    minutes; of several the newest. 404 until there is one, with the code `still_running` while it is being made,
    and `Retry-After`. 409 when it has ended without a complete answer: the code is the outcome, and GET /chat/{id} has
    the part that was made.
    """
    caller = await caller_of(request)
    asked = await read_chat(request, caller)
    exchange = request.app[EXCHANGE]
    found = await request.app[LOCATOR].find_answer_to(
        caller, digest(asked.body), asked.root_id, lambda: exchange.as_recorded(asked, caller).raw
    )
    if found is None:
        raise NoAnswerYet("there is no answer to this request of the last 15 minutes")
    if not isinstance(found, Stored):
        raise StillRunning("the answer is being made; ask again in a second")
    answer = found.answer
    if answer.outcome is not Outcome.COMPLETE:
        why = f": {answer.error}" if answer.error else ""
        raise AnswerNotWhole(f"the answer {answer.id} ended as {answer.outcome}{why}", code=answer.outcome.value)
    return web.Response(
        body=answer.body,
        content_type="application/json",
        headers={"Cache-Control": "no-store", "x-interaction-id": str(answer.id)},
    )


async def show(request: web.Request) -> web.Response:
    """GET /chat/{id}: one of the caller's chats, running or ended. Auditors see the chats of all users.

    `{"uuid", "root_uuid", "running", "outcome", "error", "model", "started_at", "policy", "response"}`; `response` is
    the completion, also a partial one, or null; `policy` has the outcome and the rules of the company's policy, or is
    null where it did nothing.
    """
    caller, interaction_id = await caller_of(request), id_in(request)
    found = await request.app[LOCATOR].find(interaction_id, caller)
    if found is None:
        raise NotFound("there is nothing with this id")
    if not isinstance(found, Stored):
        return _running(found.info)
    answer = found.answer.as_stored()
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


def _running(info: RunningInfo) -> web.Response:
    return _shown(
        uuid=str(info.id),
        root_uuid=info.root_id,
        running=True,
        outcome=None,
        error=None,
        model=info.model,
        started_at=info.started_at,
        policy=info.policy,
        response=None,
    )


def _shown(**members: object) -> web.Response:
    return web.Response(
        body=orjson.dumps(members), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _json(body: bytes) -> orjson.Fragment | None:
    """The answer as it was kept, unless it is not JSON."""
    text = to_jsonb(body).text
    return None if text is None else orjson.Fragment(text)
