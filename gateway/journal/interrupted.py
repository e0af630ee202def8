"""The answer of an interaction that a dead process had begun: what had been said, as far as it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from msgspec.structs import replace

from gateway.codec.sse import data_payloads
from gateway.dialects.openai_chat.assembler import ChatAssembler
from gateway.dialects.openai_responses.assembler import ResponsesAssembler
from gateway.dialects.request_body import with_member
from gateway.dialects.shapes import ENDED_BY_ERROR, UNFINISHED, estimate_usage
from gateway.model import Answer, Kind, Outcome

if TYPE_CHECKING:
    from gateway.model import Interaction, Json, Usage

ASSEMBLERS: dict[Kind, type[ChatAssembler] | type[ResponsesAssembler]] = {
    Kind.CHAT: ChatAssembler,
    Kind.RESPONSE: ResponsesAssembler,
}


DIED = "the gateway went away before the answer was whole"


def interrupted_answer(interaction: Interaction, said: bytes, at: float, fault: str | None = None) -> Answer:
    """`said` is what the parts hold: whole events of a stream, or the beginning of a body; `at` the last sign of life.

    The outcome is `interrupted` even where all the words are there, for nobody was shown the end. Only an answer whose
    own last event (`[DONE]`, a terminal event) made it into a part has the outcome that it had had.
    """
    answer = Answer(
        outcome=Outcome.INTERRUPTED,
        finished_at=max(at, interaction.started_at),
        duration_ms=max(0.0, at - interaction.started_at) * 1000,
        bytes_in=len(said),
        bytes_out=len(said),
        error=fault or DIED,
    )
    assemble = ASSEMBLERS.get(interaction.kind) if interaction.is_stream else None
    payloads = data_payloads(said) if assemble is not None else []
    if assemble is None or not payloads:
        return replace(answer, body=said)
    assembler = assemble()
    assembler.feed(payloads)
    body = assembler.completion_json()
    if assembler.unparsed:
        texts = [payload.decode("utf-8", "backslashreplace") for payload in assembler.unparsed]
        body = with_member(body, b'"unparsed":' + orjson.dumps(texts))
    outcome, error = answer.outcome, answer.error
    if assembler.error is not None:
        outcome, error = Outcome.UPSTREAM_ERROR, ENDED_BY_ERROR
    elif assembler.is_done:
        outcome, error = (Outcome.COMPLETE, None) if assembler.finished else (Outcome.TRUNCATED, UNFINISHED)
    return replace(
        answer,
        outcome=outcome,
        body=body,
        body_type="application/json",
        model=assembler.model,
        usage=assembler.usage or _estimate(interaction.body, assembler.completion()),
        error=error,
    )


def _estimate(asked: bytes, completion: Json) -> Usage | None:
    """An upstream counts at the end of its answer, which never came."""
    try:
        request = orjson.loads(asked)
    except orjson.JSONDecodeError:
        return None
    return estimate_usage(request, completion) if isinstance(request, dict) else None
