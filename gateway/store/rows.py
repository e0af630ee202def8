"""A record as a row: JSON for `json_to_recordset`, with the bytes that are no JSON beside it. Pure."""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from gateway.dialects.fingerprints import NONE, Fingerprints, fingerprints_of
from gateway.errors import RecordRefused, safe_text
from gateway.model import Kind, Outcome
from gateway.store.jsonb import NOTHING, JsonbValue, to_jsonb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from gateway.model import Record, Usage

    CostOf = Callable[[Record], float | None]  # USD; None: not known

# What a record itself is to blame for when a row is made of it. Anything else is the machine's fault, or a bug of ours:
# then nothing is decided about the record.
ENCODING_ERRORS = (ValueError, TypeError, RecursionError, OverflowError)
CHATS = (Kind.CHAT, Kind.RESPONSE)
MOST_TOKENS = 2**63 - 1
MOST_LETTERS = 250  # of a name in an index: two of them must fit into 2,704 bytes
MOST_SEARCHED = 8000  # of a title, whose words are in the search index; of question and answer it takes as many
LARGEST_REAL = 3e38  # of the type `real`, about
SMALLEST_REAL = 1e-37
_NUL = "\x00"


def told_cost(record: Record) -> float | None:
    """What the record itself says."""
    return record.answer.usage_cost


class Row(Struct):
    """One row before its place among the conversations is known; `columns` are all but that and the bodies.

    Of the bodies it has what `JsonbValue` has, but not their parsed values: they would keep the collector busy.
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
    marks: Fingerprints = NONE


def row_of(record: Record, cost_of: CostOf = told_cost) -> Row:
    """Raises RecordRefused for a record that cannot even be written as a row."""
    try:
        return _row_of(record, to_jsonb(record.interaction.body), to_jsonb(record.answer.body), cost_of)
    except ENCODING_ERRORS as error:
        raise RecordRefused(f"no row can be made of it: {safe_text(error)}") from error


def raw_row_of(record: Record, cost_of: CostOf = told_cost) -> Row:
    """The plainest form: both bodies as bytes alone. Raises RecordRefused."""
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
        columns["prompt_tokens"] = _count(usage.prompt_tokens)
        columns["completion_tokens"] = _count(usage.completion_tokens)
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
        marks = fingerprints_of(interaction.kind, request.value, response.value)
        # A refused request is no turn: it goes on from nothing, and nothing goes on from it.
        row.marks = NONE if answer.outcome is Outcome.REFUSED else marks
        root = interaction.root_id if interaction.root_id is not None else marks.conversation
        row.root_id = _indexed(root)
    return row


def _indexed(text: str | None) -> str | None:
    if text is None:
        return None
    return _short_text(text) if len(text) <= MOST_LETTERS else indexed_text(text)


def _count(tokens: int) -> int:
    return tokens if -MOST_TOKENS <= tokens <= MOST_TOKENS else MOST_TOKENS if tokens > 0 else -MOST_TOKENS


def _real(cost: float | None) -> float | None:
    """The cost where a column of type `real` takes it. Too large: not known; too small: nothing."""
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
    """Rows as the parameters of one statement: a JSON array, and the raw bytes that its rows point at."""

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
            columns["request_raw"] = self._place_of(row.request_raw)
        if row.response_raw is not None:
            columns["response_raw"] = self._place_of(row.response_raw)
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

    def _place_of(self, raw: bytes) -> int:
        """In `raws`, counted as Postgres counts."""
        self.raws.append(raw)
        return len(self.raws)


def _object(columns: dict[str, Any]) -> bytes:
    try:
        text = orjson.dumps(columns)
    except TypeError:  # a lone surrogate in a name: a header byte above 127 arrives as one
        return orjson.dumps(_storable_columns(columns))
    return orjson.dumps(_storable_columns(columns)) if b"\\" in text and b"\\u0000" in text else text


def _storable_columns(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: storable_text(value) if isinstance(value, str) else value for name, value in columns.items()}


def storable_text(text: str) -> str:
    """The same where Postgres takes it; lone surrogates written out, NUL characters replaced."""
    if text.isascii() and _NUL not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace(_NUL, "\ufffd")


def indexed_text(text: str) -> str:
    """Bounds a text for a B-tree index, of our tables or of the report's; reads must ask for the same."""
    return _short_text(text) if len(text) <= MOST_LETTERS else _cut(storable_text(text), MOST_LETTERS)


@lru_cache(1024)
def _short_text(text: str) -> str:
    """The names of users, models and titles, which come again and again."""
    return _cut(storable_text(text), MOST_LETTERS)


def searched_text(text: str) -> str:
    """Bounds a text whose words are in the search index: a tsvector holds 1 MB, and parsing takes its time."""
    return _cut(storable_text(text), MOST_SEARCHED)


def _cut(stored: str, most: int) -> str:
    """At most so many characters: a visible cut, with a digest of the whole, so that two long names stay different."""
    if len(stored) <= most:
        return stored
    digest = sha256(stored.encode()).hexdigest()
    return f"{stored[: most - len(digest) - 1]}…{digest}"
