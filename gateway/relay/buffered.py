"""Classifies the whole body of an answer: an answer, an error of the upstream's, or not the protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from gateway.codec import jsontext
from gateway.dialects.parsing import object_in
from gateway.dialects.shapes import error_in, usage_of
from gateway.errors import GatewayError, UpstreamCut, UpstreamGarbled, UpstreamStalled
from gateway.model import Outcome
from gateway.relay.passthrough import BufferSink
from gateway.transport.call import Ending
from gateway.transport.encoding import InflatingSink, decoded, plain_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.dialects.dialect import Dialect
    from gateway.model import Json, Usage
    from gateway.relay.passthrough import Digest
    from gateway.transport.call import Head, Reply

SHOWN_BYTES = 1000  # of a plain text that explains an error


class BufferedAnswer(Struct, frozen=True):
    """A body as the upstream sent it, classified.

    The caller gets `replacement` or `body`, with `head` and `status`; or, with `error` and no replacement, that error.
    """

    body: bytes
    size: int
    outcome: Outcome
    head: Head  # as it fits what the caller gets
    fault: str | None = None
    error: GatewayError | None = None
    replacement: bytes | None = None  # OpenAI's form of an error that came in another form
    status: int = 200  # for the caller
    model: str | None = None
    usage: Usage | None = None
    answer: Json | None = None


async def read_whole(
    reply: Reply, dialect: Dialect, limit: int, on_first: Callable[[], None] | None = None
) -> BufferedAnswer:
    """Read a body to its end and classify it; `on_first` is called with its first bytes. Raises UpstreamGarbled for an
    unknown content coding."""
    held = BufferSink(limit, on_first)
    inflating = decoded(reply.head, held)
    ending = await reply.pump(inflating or held)
    return whole_of(reply.head, held, inflating, ending, dialect, limit)


def whole_of(
    head: Head, held: BufferSink, inflating: InflatingSink | None, ending: Ending, dialect: Dialect, limit: int
) -> BufferedAnswer:
    """Classify a body; `ending` is how it ended on the level of HTTP."""
    if inflating is not None:
        ending = inflating.ending(ending)
        head = plain_head(head)
    error = _fault(held, inflating, ending, limit)
    if error is not None:
        outcome = Outcome.TRUNCATED if isinstance(error, UpstreamCut) and held.size else Outcome.UPSTREAM_ERROR
        return BufferedAnswer(held.body, held.size, outcome, head, fault=error.message, error=error)
    return classified(head, held, dialect, is_proved=ending is Ending.WHOLE)


def _fault(held: BufferSink, inflating: InflatingSink | None, ending: Ending, limit: int) -> GatewayError | None:
    if held.is_too_large:
        return UpstreamGarbled(f"the upstream's answer is longer than {limit} bytes")
    if inflating is not None and inflating.fault is not None:
        return UpstreamGarbled(inflating.fault)
    if ending is Ending.STALLED:
        return UpstreamStalled("the upstream fell silent in the middle of its answer")
    if ending is Ending.GARBLED:
        return UpstreamGarbled("the upstream's answer broke the protocol in its middle")
    if ending is Ending.CUT:
        return _cut()
    return None


def _cut() -> UpstreamCut:
    return UpstreamCut("the upstream's answer ended before it was whole")


def classified(head: Head, held: BufferSink, dialect: Dialect, *, is_proved: bool) -> BufferedAnswer:
    """Classify a body that came to its end: an answer, the upstream's error, or not this protocol. `is_proved`: its end
    is certain, by Content-Length or the last chunk."""
    body = object_in(held.body)
    if head.status < 300 and body is not None and dialect.is_answer(body):
        has_failed = body.get("status") == "failed" or error_in(body) is not None
        return BufferedAnswer(
            held.body,
            held.size,
            Outcome.UPSTREAM_ERROR if has_failed else Outcome.COMPLETE,
            head,
            fault="the upstream's answer says that it failed" if has_failed else None,
            status=head.status,
            model=_text(body.get("model")),
            usage=usage_of(body.get("usage")),
            answer=body,
        )
    failed = BufferedAnswer(held.body, held.size, Outcome.UPSTREAM_ERROR, head)
    if head.status < 300 and body is None and not is_proved and held.body.lstrip().startswith(b"{"):
        return structs.replace(failed, outcome=Outcome.TRUNCATED, fault=_cut().message, error=_cut())
    if head.status >= 400 or (head.status < 300 and body is not None and error_in(body) is not None):
        return _refused(failed, body or {})
    error = UpstreamGarbled(f"the upstream answered {head.status} with {_kind(head)} that is not an answer")
    return structs.replace(failed, fault=error.message, error=error)


def _refused(failed: BufferedAnswer, body: Json) -> BufferedAnswer:
    """The upstream's own error with its own status; 502 if it came with the status of a success."""
    head = failed.head
    status = head.status if 400 <= head.status < 600 else 502
    if isinstance(body.get("error"), dict):
        return structs.replace(failed, fault=f"the upstream answered {head.status} with an error", status=status)
    error = UpstreamGarbled(f"the upstream answered {head.status} with {_kind(head)} that is not an answer")
    replacement = jsontext.write({"error": _shaped(body, _reason(failed, body) or error.message)}, is_plain=False)
    headers = tuple(header for header in plain_head(head).headers if header[0] != b"content-type")
    fitting = replace(head, headers=(*headers, (b"content-type", b"application/json")))
    return structs.replace(
        failed, fault=error.message, error=error, status=status, replacement=replacement, head=fitting
    )


def _shaped(body: Json, message: str) -> Json:
    """An error in OpenAI's form, the only one that clients show. Some servers send its members without the envelope."""
    kind, code = body.get("type"), body.get("code")
    return {
        "message": message,
        "type": kind if isinstance(kind, str) else "upstream_error",
        "param": _text(body.get("param")),
        "code": code if isinstance(code, str | int) else None,
    }


def _reason(failed: BufferedAnswer, body: Json) -> str | None:
    """The upstream's message for people, if there is one."""
    for name in ("error", "message", "detail", "errors"):
        found = body.get(name)
        if found:
            return found if isinstance(found, str) else jsontext.write(found, is_plain=False).decode()
    if failed.head.media_type == "text/plain":
        return failed.body[:SHOWN_BYTES].decode("utf-8", "replace").strip() or None
    return None


def _kind(head: Head) -> str:
    return head.media_type or "a body without a type"


def kept_fields(digest: Digest, head: Head, uploaded: Digest | None) -> dict[str, Any]:
    """Fields of `Answer` for a call that was streamed through: small texts whole, the rest as size and digest."""
    kept = digest.body if is_text(head) else None
    body = object_in(kept or b"") or {}
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
    return known | uploaded_fields(uploaded)


def uploaded_fields(uploaded: Digest | None) -> dict[str, Any]:
    """Fields of `Answer` for a request that the record does not hold: size and digest, as far as it came."""
    return {} if uploaded is None else {"request_size": uploaded.size, "request_sha256": uploaded.hexdigest}


def is_text(head: Head) -> bool:
    """Whether a small body of this type is recorded as it is."""
    if head.get(b"content-encoding") not in (None, b"identity"):
        return False
    kind = head.media_type
    return kind.startswith("text/") or kind.endswith(("/json", "+json", "/x-ndjson", "/jsonl", "/xml"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
