"""The answer of an interaction whose process died: its parts, assembled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from msgspec.structs import replace

from gateway.codec.sse import data_payloads
from gateway.dialects.assembler import recorded_body
from gateway.dialects.dialect import BY_KIND
from gateway.dialects.shapes import ENDED_BY_ERROR, UNFINISHED, estimate_usage
from gateway.model import Answer, Outcome

if TYPE_CHECKING:
    from gateway.model import Interaction, Json, Usage

PROCESS_DIED = "the gateway went away before the answer was whole"


def interrupted_answer(interaction: Interaction, parts: bytes, at: float, fault: str | None = None) -> Answer:
    """Returns the answer that `parts` hold: whole events of a stream, or the beginning of a body.

    `at` is the Unix time of the process's last write. The outcome is `interrupted` even if the text is whole, because
    no client received the end. If the parts hold the stream's last event (`[DONE]`, a terminal event), the outcome is
    that of the stream.
    """
    answer = Answer(
        outcome=Outcome.INTERRUPTED,
        finished_at=max(at, interaction.started_at),
        duration_ms=max(0.0, at - interaction.started_at) * 1000,
        bytes_in=len(parts),
        bytes_out=len(parts),
        error=fault or PROCESS_DIED,
    )
    dialect = BY_KIND.get(interaction.kind) if interaction.is_stream else None
    payloads = data_payloads(parts) if dialect is not None else []
    if dialect is None or not payloads:
        return replace(answer, body=parts)
    assembler = dialect.assembler()
    assembler.feed(payloads)
    outcome, error = answer.outcome, answer.error
    if assembler.error is not None:
        outcome, error = Outcome.UPSTREAM_ERROR, ENDED_BY_ERROR
    elif assembler.is_done:
        outcome, error = (Outcome.COMPLETE, None) if assembler.finished else (Outcome.TRUNCATED, UNFINISHED)
    return replace(
        answer,
        outcome=outcome,
        body=recorded_body(assembler),
        body_type="application/json",
        model=assembler.model,
        usage=assembler.usage or _estimate(interaction.body, assembler.completion()),
        error=error,
    )


def _estimate(request_body: bytes, completion: Json) -> Usage | None:
    """Estimates the usage: the upstream sends its count at the end of the answer, which is missing."""
    try:
        request = orjson.loads(request_body)
    except orjson.JSONDecodeError:
        return None
    return estimate_usage(request, completion) if isinstance(request, dict) else None
