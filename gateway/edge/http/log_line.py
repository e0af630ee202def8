"""The fields of the canonical log line of a request. Never a prompt, an answer or a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.telemetry.logs import REQUEST_FIELDS

if TYPE_CHECKING:
    from gateway.exchange.exchange import RequestContext
    from gateway.exchange.recording import Recording

_NOTHING_KNOWN = dict.fromkeys(REQUEST_FIELDS)  # in the line's order, which a copy keeps


def canonical_line(context: RequestContext | None, **known: Any) -> dict[str, Any]:
    """The line's fields in their order; with a `context`, also those of its interaction. None where unknown."""
    line: dict[str, Any] = {**_NOTHING_KNOWN, **known}
    if context is not None:
        line["caller"] = context.caller.user
        line["key_id"] = context.caller.key_id
        if context.recording is not None:
            _add_interaction(line, context.recording)
    return line


def _add_interaction(line: dict[str, Any], recording: Recording) -> None:
    interaction, answer = recording.interaction, recording.answer
    line["interaction_id"] = interaction.id
    line["conversation_id"] = interaction.root_id
    line["model"] = interaction.model
    line["upstream"] = interaction.upstream
    line["stream"] = interaction.is_stream
    if interaction.policy is not None:
        line["policy"] = interaction.policy.outcome.value
        line["policy_rules"] = interaction.policy.rules
    if answer is None:
        return
    line["outcome"] = answer.outcome.value
    line["upstream_status"] = answer.status
    line["first_token_ms"] = _rounded(answer.first_token_ms)
    line["duration_ms"] = _rounded(answer.duration_ms)
    line["bytes_in"] = answer.bytes_in
    line["bytes_out"] = answer.bytes_out
    line["error"] = answer.error or line["error"]
    if answer.usage is not None:
        line["prompt_tokens"] = answer.usage.prompt_tokens
        line["completion_tokens"] = answer.usage.completion_tokens
        line["usage_estimated"] = answer.usage.is_estimate or None


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)
