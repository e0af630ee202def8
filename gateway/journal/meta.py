"""Encodes both halves of a record as the journal's meta, which is compact JSON, and decodes it. Bodies are kept beside
it, byte for byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from gateway.model import Answer, Interaction, Kind, Outcome, PolicyOutcome, Principal, Ruling, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from msgspec import Struct


def encode_interaction(interaction: Interaction) -> bytes:
    principal, ruling = interaction.principal, interaction.policy
    return _dumps(
        {
            "kind": interaction.kind,
            "started_at": interaction.started_at,
            "user": principal.user,
            "title": principal.title,
            "key_id": principal.key_id,
            "request_id": interaction.request_id,
            "method": interaction.method,
            "path": interaction.path,
            "model": interaction.model,
            "upstream": interaction.upstream,
            "is_stream": interaction.is_stream,
            "root_id": interaction.root_id,
            "convo_title": interaction.convo_title,
            "convo_show": interaction.convo_show,
            "request_type": interaction.request_type,
            "policy": ruling and {"outcome": ruling.outcome, "rules": ruling.rules},
        }
    )


def encode_answer(answer: Answer) -> bytes:
    usage = answer.usage
    return _dumps(
        {
            "outcome": answer.outcome,
            "finished_at": answer.finished_at,
            "status": answer.status,
            "body_type": answer.body_type,
            "model": answer.model,
            "usage": usage
            and {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "is_estimate": usage.is_estimate,
                "raw": usage.raw,
            },
            "first_token_ms": answer.first_token_ms,
            "duration_ms": answer.duration_ms,
            "bytes_in": answer.bytes_in,
            "bytes_out": answer.bytes_out,
            "error": answer.error,
            "usage_cost": answer.usage_cost,
            "upstream_request_id": answer.upstream_request_id,
            "response_size": answer.response_size,
            "response_sha256": answer.response_sha256,
            "request_size": answer.request_size,
            "request_sha256": answer.request_sha256,
        }
    )


def decode_interaction(key: bytes, meta: bytes, body: bytes) -> Interaction:
    fields = _loads(meta)
    principal = Principal(user=fields.pop("user"), title=fields.pop("title", None), key_id=fields.pop("key_id", None))
    kind = Kind(fields.pop("kind"))
    policy = _to_ruling(fields.pop("policy", None))  # journals of older gateways have no policy
    return Interaction(
        id=UUID(bytes=key),
        kind=kind,
        principal=principal,
        policy=policy,
        body=body,
        **_known_fields(fields, Interaction),
    )


def _to_ruling(fields: Mapping[str, Any] | None) -> Ruling | None:
    return None if fields is None else Ruling(PolicyOutcome(fields["outcome"]), tuple(fields["rules"]))


def decode_answer(meta: bytes, body: bytes) -> Answer:
    fields = _loads(meta)
    usage = fields.pop("usage", None)
    outcome = Outcome(fields.pop("outcome"))
    return Answer(outcome=outcome, body=body, usage=usage and Usage(**usage), **_known_fields(fields, Answer))


def _known_fields(fields: dict[str, Any], of: type[Struct]) -> dict[str, Any]:
    """Drops fields of a newer gateway that this one does not know."""
    names = of.__struct_fields__
    return fields if fields.keys() <= set(names) else {name: value for name, value in fields.items() if name in names}


def _dumps(value: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # lone surrogates (a header byte above 127 arrives as \udcff), integers beyond 64 bits
        pass
    try:
        return _dumps_slowly(value)
    except (RecursionError, ValueError):  # only the upstream's usage object can be that deep or that large
        return _dumps_slowly({**value, "usage": None})


def _dumps_slowly(value: Mapping[str, Any]) -> bytes:
    return json.dumps(_storable(value), ensure_ascii=False, separators=(",", ":"), default=str).encode()


def _storable(value: Any) -> Any:
    """Returns the value with lone surrogates as escaped text: no text column or file takes them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_storable(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value


def _loads(meta: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(meta)
    except orjson.JSONDecodeError:
        fields = json.loads(meta)
    if not isinstance(fields, dict):
        raise TypeError("the meta is not an object")
    return fields
