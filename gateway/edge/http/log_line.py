"""The fields of a request's canonical log line. Never a prompt, an answer or a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.exchange.observers import Observer
from gateway.telemetry.logs import REQUEST_FIELDS

if TYPE_CHECKING:
    from gateway.exchange.context import RequestContext
    from gateway.exchange.recording import Recording

_EMPTY_LINE = dict.fromkeys(REQUEST_FIELDS)  # in the line's order, which a copy keeps


def canonical_line(context: RequestContext | None, **known: Any) -> dict[str, Any]:
    """The line's fields in their order, with those that observers of the exchange have added; None if unknown."""
    line: dict[str, Any] = {**_EMPTY_LINE, **known}
    if context is not None:
        line["caller"] = context.caller.user
        line["key_id"] = context.caller.key_id
        if context.recording is not None:
            line |= context.recording.log_fields
    return line


class InteractionFields(Observer):
    """Adds the fields of a recorded interaction to its request's log line."""

    def closed(self, recording: Recording) -> None:
        interaction, answer = recording.interaction, recording.answer
        assert answer is not None
        fields: dict[str, Any] = {
            "interaction_id": interaction.id,
            "conversation_id": interaction.root_id,
            "model": interaction.model,
            "upstream": interaction.upstream,
            "stream": interaction.is_stream,
            "outcome": answer.outcome.value,
            "upstream_status": answer.status,
            "first_token_ms": _rounded(answer.first_token_ms),
            "duration_ms": _rounded(answer.duration_ms),
            "bytes_in": answer.bytes_in,
            "bytes_out": answer.bytes_out,
        }
        if interaction.policy is not None:
            fields["policy"] = interaction.policy.outcome.value
            fields["policy_rules"] = interaction.policy.rules
        if answer.error:
            fields["error"] = answer.error
        if answer.usage is not None:
            fields["prompt_tokens"] = answer.usage.prompt_tokens
            fields["completion_tokens"] = answer.usage.completion_tokens
            fields["usage_estimated"] = answer.usage.is_estimate or None
        recording.add_log_fields(fields)


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)
