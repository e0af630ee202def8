"""A record as a row: JSON for `llm_logs.keep`, and the bytes that jsonb cannot hold beside it. Pure."""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from gateway.dialects.dialect import fingerprints_of
from gateway.dialects.fingerprints import NONE, Fingerprints
from gateway.errors import RecordRefused, safe_text
from gateway.model import Kind, Outcome
from gateway.store.jsonb import NOTHING, JsonbValue, to_jsonb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from gateway.model import Record, Usage

    CostOf = Callable[[Record], float | None]  # USD; None: not known

# Errors that the data of a record causes while its row is made. Any other error is the machine's or a bug of ours, and
# decides nothing about the record.
ENCODING_ERRORS = (ValueError, TypeError, RecursionError, OverflowError)
CHATS = (Kind.CHAT, Kind.RESPONSE)
MAX_TOKENS = 2**63 - 1
MAX_NAME_CHARS = 250  # of a name in an index: two names must fit into 2,704 bytes
MAX_SEARCHED_CHARS = 8000  # of a title: the search index takes as many of question and answer
LARGEST_REAL = 3e38  # of the type `real`, about
SMALLEST_REAL = 1e-37
_NUL = "\x00"


def recorded_cost(record: Record) -> float | None:
    """The cost that the record itself holds."""
    return record.answer.usage_cost


class ConversationPlace(Struct, frozen=True):
    """The conversation and the parent of a row, and whether the gateway inferred the conversation."""

    root: str
    parent: UUID | None
    is_inferred: bool
    title: str | None


class Row(Struct):
    """One row. `columns` holds all columns but the bodies, and the place in the conversation from `set_place` on.

    It has the texts and raw bytes of the bodies, not their parsed values: these would cost the garbage collector time.
    """

    id: UUID
    kind: Kind
    user: str
    columns: dict[str, Any]
    request_text: bytes | None
    request_raw: bytes | None
    response_text: bytes | None
    response_raw: bytes | None
    root_id: str | None = None
    convo_title: str | None = None
    fingerprints: Fingerprints = NONE

    def set_place(self, its: ConversationPlace) -> None:
        """Fill the columns of the row's place in its conversation."""
        found, columns = self.fingerprints, self.columns
        columns["root_gpt_id"] = its.root
        columns["root_inferred"] = its.is_inferred
        columns["parent_id"] = its.parent
        columns["convo_title"] = its.title
        for name, hash_ in (
            ("snapshot_hash", found.snapshot),
            ("answer_hash", found.answer),
            ("item_hash", found.item),
            ("parent_hash", found.best_parent),
        ):
            if hash_ is not None:
                columns[name] = "\\x" + hash_.hex()


def row_of(record: Record, cost_of: CostOf = recorded_cost) -> Row:
    """The row of a record. Raises RecordRefused if the record cannot be written as a row."""
    try:
        return _row_of(record, to_jsonb(record.interaction.body), to_jsonb(record.answer.body), cost_of)
    except ENCODING_ERRORS as error:
        raise RecordRefused(f"no row can be made of it: {safe_text(error)}") from error


def raw_row_of(record: Record, cost_of: CostOf = recorded_cost) -> Row:
    """The row of a record with both bodies as bytes alone. Raises RecordRefused."""
    try:
        row = _row_of(record, _bytes_only(record.interaction.body), _bytes_only(record.answer.body), cost_of)
    except ENCODING_ERRORS as error:
        raise RecordRefused(f"no row can be made of it: {safe_text(error)}") from error
    row.columns.pop("usage_info", None)
    return row


def _bytes_only(body: bytes) -> JsonbValue:
    return JsonbValue(None, body, None) if body else NOTHING


def _row_of(record: Record, request: JsonbValue, response: JsonbValue, cost_of: CostOf) -> Row:
    interaction, answer = record.interaction, record.answer
    principal, usage, ruling = interaction.principal, answer.usage, interaction.policy
    user = indexed_text(principal.user)
    columns = {
        "id": interaction.id,
        "kind": interaction.kind,
        "user_name": user,
        "title": _indexed(principal.title),
        "key_id": principal.key_id,
        "outcome": answer.outcome,
        "status": answer.status,
        "method": interaction.method,
        "path": interaction.path,
        "model": _indexed(interaction.model),
        "answered_model": answer.model,
        "upstream": interaction.upstream,
        "request_id": interaction.request_id,
        "upstream_request_id": answer.upstream_request_id,
        "is_stream": interaction.is_stream,
        "started_at": interaction.started_at,
        "finished_at": answer.finished_at,
        "first_token_ms": answer.first_token_ms,
        "duration_ms": answer.duration_ms,
        "bytes_in": answer.bytes_in,
        "bytes_out": answer.bytes_out,
        "error": answer.error,
        "usage_cost": _real(cost_of(record)),
        "request_type": interaction.request_type,
        "response_type": answer.body_type,
    }
    if usage is not None:
        columns["usage_info"] = _usage_info(usage)
        columns["prompt_tokens"] = _bounded(usage.prompt_tokens)
        columns["completion_tokens"] = _bounded(usage.completion_tokens)
        columns["usage_estimated"] = usage.is_estimate
    if ruling is not None:
        columns["policy_outcome"] = ruling.outcome
        columns["policy_rules"] = [indexed_text(rule) for rule in ruling.rules]
    if answer.request_sha256 is not None or answer.response_sha256 is not None:
        columns["request_size"] = answer.request_size
        columns["response_size"] = answer.response_size
        columns["request_sha256"] = answer.request_sha256
        columns["response_sha256"] = answer.response_sha256
    row = Row(interaction.id, interaction.kind, user, columns, request.text, request.raw, response.text, response.raw)
    if interaction.kind in CHATS:
        columns["convo_show"] = interaction.convo_show
        row.convo_title = None if interaction.convo_title is None else searched_text(interaction.convo_title)
        fingerprints = fingerprints_of(interaction.kind, request.value, response.value)
        # A refused request is not a turn: it has no parent and no children.
        row.fingerprints = NONE if answer.outcome is Outcome.REFUSED else fingerprints
        root = interaction.root_id if interaction.root_id is not None else fingerprints.conversation
        row.root_id = _indexed(root)
    return row


def _indexed(text: str | None) -> str | None:
    if text is None:
        return None
    return _short_text(text) if len(text) <= MAX_NAME_CHARS else indexed_text(text)


def _bounded(tokens: int) -> int:
    return tokens if -MAX_TOKENS <= tokens <= MAX_TOKENS else MAX_TOKENS if tokens > 0 else -MAX_TOKENS


def _real(cost: float | None) -> float | None:
    """The cost as a value that the type `real` holds; None if it is too large, 0 if it is too small."""
    if cost is None or not abs(cost) <= LARGEST_REAL:
        return None
    return cost if abs(cost) >= SMALLEST_REAL else 0.0


def _usage_info(usage: Usage) -> orjson.Fragment:
    text = _json(usage.raw if usage.raw is not None else _counts(usage))
    return orjson.Fragment(text if b"\\u" not in text else to_jsonb(text).text or b"null")


def _counts(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "estimated": usage.is_estimate,
    }


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # integers beyond 64 bits, lone surrogates
        return json.dumps(dict(value), separators=(",", ":"), default=str).encode()


class Batch:
    """Rows as parameters of `llm_logs.keep`: a JSON array, and the raw bytes that its rows number."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = [b"["]
        self._rows = 0
        self.raws: list[bytes] = []

    def __len__(self) -> int:
        return self._rows

    @property
    def json(self) -> bytes:
        return b"".join([*self._pieces, b"]"])  # copied once: a batch may have megabytes

    def add(self, row: Row) -> None:
        columns = row.columns
        if row.request_raw is not None:
            columns["request_raw"] = self._added(row.request_raw)
        if row.response_raw is not None:
            columns["response_raw"] = self._added(row.response_raw)
        if self._rows:
            self._pieces.append(b",")
        self._rows += 1
        self._pieces += (
            _object(columns)[:-1],
            b',"request":',
            row.request_text or b"null",
            b',"response":',
            row.response_text or b"null",
            b"}",
        )

    def _added(self, raw: bytes) -> int:
        """Append to `raws`; the position there, which begins at 1 in Postgres."""
        self.raws.append(raw)
        return len(self.raws)


def _object(columns: dict[str, Any]) -> bytes:
    try:
        text = orjson.dumps(columns)
    except TypeError:  # a lone surrogate in a name: a header byte above 127 arrives as one
        return orjson.dumps(_storable_columns(columns))
    return orjson.dumps(_storable_columns(columns)) if b"\\u0000" in text else text


def _storable_columns(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: storable_text(value) if isinstance(value, str) else value for name, value in columns.items()}


def storable_text(text: str) -> str:
    """The text as Postgres takes it: lone surrogates as escapes, NUL characters replaced."""
    if text.isascii() and _NUL not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace(_NUL, "\ufffd")


def indexed_text(text: str) -> str:
    """The text, bounded for a B-tree index of our tables or the report's; reads must bound it in the same way."""
    return _short_text(text) if len(text) <= MAX_NAME_CHARS else _cut(storable_text(text), MAX_NAME_CHARS)


@lru_cache(1024)
def _short_text(text: str) -> str:
    """The same, cached: names of users, models and titles repeat."""
    return _cut(storable_text(text), MAX_NAME_CHARS)


def searched_text(text: str) -> str:
    """The text, bounded for the search index: a tsvector holds 1 MB, and parsing costs time."""
    return _cut(storable_text(text), MAX_SEARCHED_CHARS)


def _cut(stored: str, most: int) -> str:
    """At most `most` characters; a longer text ends with … and a digest of the whole, which keeps texts distinct."""
    if len(stored) <= most:
        return stored
    digest = sha256(stored.encode()).hexdigest()
    return f"{stored[: most - len(digest) - 1]}…{digest}"
