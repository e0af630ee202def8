"""The fields of the canonical log line of a request. Never a prompt, an answer or a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.exchange import Talk


def canonical_line(talk: Talk | None, **known: Any) -> dict[str, Any]:
    """What is known of a request; with a `talk`, also of the interaction that it was. Unknown fields are left out."""
    line = known
    if talk is not None:
        line["caller"] = talk.caller.user
        line["key_id"] = talk.caller.key_id
        if talk.account is not None:
            line |= _of_interaction(talk)
    return {name: value for name, value in line.items() if value is not None}


def _of_interaction(talk: Talk) -> dict[str, Any]:
    assert talk.account is not None
    interaction, answer = talk.account.interaction, talk.account.answer
    fields: dict[str, Any] = {
        "interaction_id": str(interaction.id),
        "conversation_id": interaction.root_id,
        "model": interaction.model,
        "upstream": interaction.upstream,
        "stream": interaction.is_stream,
    }
    if answer is None:
        return fields
    fields |= {
        "outcome": answer.outcome.value,
        "upstream_status": answer.status,
        "first_token_ms": _rounded(answer.first_token_ms),
        "duration_ms": _rounded(answer.duration_ms),
        "bytes_in": answer.bytes_in,
        "bytes_out": answer.bytes_out,
        "error": answer.error,
    }
    if answer.usage is not None:
        fields |= {
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
            "usage_estimated": answer.usage.is_estimate or None,
        }
    return fields


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)
