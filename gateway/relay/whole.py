"""Answers of a conversation that came as one body: what they are, and what the caller is told when they are no answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from gateway.chat.shapes import usage_of
from gateway.errors import GatewayError, UpstreamCut, UpstreamGarbled, UpstreamStalled
from gateway.model import Outcome
from gateway.relay.bodies import Digest, Passage, WholeBody
from gateway.upstream.encoding import InflatingSink, decoded
from gateway.upstream.provider import Ending

if TYPE_CHECKING:
    from gateway.model import Json, Usage
    from gateway.relay.care import Dialect
    from gateway.upstream.provider import Head, Reply


@dataclass(frozen=True, slots=True)
class Whole:
    """A body as the upstream sent it, and the judgement of it. With `error`, the caller gets that error instead."""

    body: bytes
    size: int
    outcome: Outcome
    first_at: float | None = None
    fault: str | None = None
    error: GatewayError | None = None
    status: int = 200  # for the caller
    model: str | None = None
    usage: Usage | None = None
    answer: Json | None = None


async def read_whole(reply: Reply, dialect: Dialect, limit: int) -> Whole:
    """Read a body to its end and judge it. Raises UpstreamGarbled for a content coding that is not known."""
    held = WholeBody(limit)
    inflating = decoded(reply.head, held)
    ending = await reply.pump(inflating or held)
    if inflating is not None:
        ending = inflating.ending(ending)
    error = _fault(held, inflating, ending, limit)
    if error is not None:
        outcome = Outcome.TRUNCATED if isinstance(error, UpstreamCut) and held.size else Outcome.UPSTREAM_ERROR
        return Whole(held.body, held.size, outcome, held.first_at, fault=error.message, error=error)
    return judged(reply.head, held, dialect, is_proved=ending is Ending.WHOLE)


def _fault(held: WholeBody, inflating: InflatingSink | None, ending: Ending, limit: int) -> GatewayError | None:
    if held.is_too_large:
        return UpstreamGarbled(f"the upstream's answer is longer than {limit} bytes")
    if inflating is not None and inflating.fault is not None:
        return UpstreamGarbled(inflating.fault)
    if ending is Ending.STALLED:
        return UpstreamStalled("the upstream fell silent in the middle of its answer")
    if ending is Ending.GARBLED:
        return UpstreamGarbled("the upstream's answer broke the protocol in its middle")
    if ending is Ending.CUT:
        return UpstreamCut("the upstream's answer ended before it was whole")
    return None


def judged(head: Head, held: WholeBody, dialect: Dialect, *, is_proved: bool) -> Whole:
    """What a body that came to its end is: an answer, the upstream's own error, or nothing of this protocol."""
    body = _object(held.body)
    failed = Whole(held.body, held.size, Outcome.UPSTREAM_ERROR, held.first_at)
    if body is None and held.size and not is_proved:
        cut = UpstreamCut("the upstream's answer ended before it was whole")
        return replace(failed, outcome=Outcome.TRUNCATED, fault=cut.message, error=cut)
    if body is not None and head.status < 300 and dialect.is_answer(body):
        has_failed = body.get("status") == "failed"
        return replace(
            failed,
            outcome=Outcome.UPSTREAM_ERROR if has_failed else Outcome.COMPLETE,
            fault="the upstream's answer says that it failed" if has_failed else None,
            status=head.status,
            model=_text(body.get("model")),
            usage=usage_of(body.get("usage")),
            answer=body,
        )
    if body is not None and body.get("error") and not 300 <= head.status < 400:
        # The upstream's own error passes as it is; one that came as a success is told as what it is.
        fault = f"the upstream answered {head.status} with an error"
        return replace(failed, fault=fault, status=head.status if head.status >= 400 else 502)
    kind = head.media_type or "a body without a type"
    error = UpstreamGarbled(f"the upstream answered {head.status} with {kind} that is not an answer")
    return replace(failed, fault=error.message, error=error)


def kept_fields(passage: Passage, head: Head, sent: Digest | None) -> dict[str, Any]:
    """What the record keeps of a call that was streamed through: small texts whole, the rest by size and digest."""
    digest = passage.digest
    kept = digest.body if is_text(head) else None
    body = _object(kept or b"") or {}
    known: dict[str, Any] = {
        "body": kept or b"",
        "body_type": head.media_type,
        "model": _text(body.get("model")),
        "usage": usage_of(body.get("usage")),
        "bytes_in": digest.size,
        "bytes_out": digest.size,
    }
    if kept is None:
        known |= {"response_size": digest.size, "response_sha256": digest.hexdigest}
    if sent is not None:
        known |= {"request_size": sent.size, "request_sha256": sent.hexdigest}
    return known


def is_text(head: Head) -> bool:
    """Whether a body is of a kind that is kept as it is, when it is small."""
    if head.get(b"content-encoding") not in (None, b"identity"):
        return False
    kind = head.media_type
    return kind.startswith("text/") or kind.endswith(("/json", "+json", "/x-ndjson", "/jsonl", "/xml"))


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
