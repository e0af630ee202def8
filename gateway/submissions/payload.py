"""The JSON text of one submission, made from a record. Pure."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from gateway.model import Record


def payload_of(record: Record) -> bytes:
    """Returns the payload; never raises. Bodies that are JSON are in it byte for byte.

    `time_logged` is the answer's end, because the record is in the journal before the client sees that end. A retry
    sends the same text. `associated_devices` and `associated_software` are empty: a record has neither.
    """
    interaction, answer, ruling = record.interaction, record.answer, record.interaction.policy
    ended = _time(answer.finished_at)
    return orjson.dumps(
        {
            "interaction_id": str(interaction.id),
            "raw_request": _body(interaction.body, answer.request_size, answer.request_sha256),
            "raw_response": _body(answer.body, answer.response_size, answer.response_sha256),
            "associated_users": [_text(interaction.principal.user)],
            "time_submitted": _time(interaction.started_at),
            "time_logged": ended,
            "response_timestamp": ended,
            "llm_model": _text(answer.model or interaction.model),
            "llm_provider": _text(interaction.upstream),
            "associated_devices": [],
            "associated_software": [],
            "api_token_id": _text(interaction.principal.key_id),
            "outcome": answer.outcome,
            "policy": ruling and {"outcome": ruling.outcome, "rules": [_text(rule) for rule in ruling.rules]},
            "error": _text(answer.error),
        }
    )


def _body(body: bytes, size: int | None, digest: str | None) -> object:
    """Returns JSON if the body is JSON, else text, else base64; size and digest of a body that was not kept."""
    if not body:
        return None if size is None else {"encoding": "not_kept", "size": size, "sha256": digest}
    if _is_json(body):
        return orjson.Fragment(body)
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"encoding": "base64", "data": base64.b64encode(body).decode()}


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return _is_unusual_json(body)
    return True


def _is_unusual_json(body: bytes) -> bool:
    """Returns whether a body that orjson refuses is JSON: it may have escaped lone surrogates or very large numbers."""
    try:
        json.loads(body.decode(), parse_constant=_refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _text(value: str | None) -> str | None:
    """Escapes lone surrogates: a header byte above 127 arrives as one."""
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()
