"""The columns of a record's row, listed once.

The SQL function `llm_logs.keep`, the comments in the database and the JSON schema of a row are made from this list.
Tests compare it with the tables, with the rows that rows.py makes, and with the OpenAPI document. A new column takes
one row here, its value in rows.py, and a migration, whose text `python deploy/keep_sql.py` prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.model import Json


class Column(NamedTuple):
    """One column of chatgpt_logs, image_logs and api_logs."""

    name: str
    type: str  # in the table
    comment: str
    chats_only: bool = False
    json_type: str | None = None  # PostgreSQL type of the member in a row's JSON, where that is not `type`
    value: str | None = None  # SQL expression of the stored value; None: the member `r.<name>`
    is_member: bool = True  # of a row's JSON


UNIX_TIME = "double precision"  # how a row's JSON carries a moment
_MOMENT = "timestamp with time zone"

COLUMNS = (
    Column(
        "response_time",
        "timestamp without time zone",
        "when the answer ended, UTC",
        value="to_timestamp(r.finished_at) at time zone 'utc'",
        is_member=False,
    ),
    Column("id", "uuid", "id of the interaction; a UUIDv7, which sorts by time, if the gateway made it"),
    Column("kind", "text", "chat, response, image or other; null: another program wrote the row"),
    Column("user_name", "text", "the user who sent the request"),
    Column("title", "text", "job title of the user"),
    Column("request", "jsonb", "the request as JSON; null with request_raw: the request is not JSON"),
    Column("response", "jsonb", "the answer as JSON; a stream as the completion that its chunks assemble to"),
    Column(
        "request_raw",
        "bytea",
        "the request byte for byte, if jsonb cannot hold it exactly",
        json_type="integer",
        value="raws[r.request_raw]",
    ),
    Column(
        "response_raw",
        "bytea",
        "the answer byte for byte, if jsonb cannot hold it exactly",
        json_type="integer",
        value="raws[r.response_raw]",
    ),
    # The title and the removal that the user set for the conversation apply to its later rows, too.
    Column(
        "convo_title",
        "text",
        "title of the conversation",
        chats_only=True,
        value="coalesce(s.convo_title, r.convo_title)",
    ),
    Column(
        "convo_show",
        "boolean",
        "false: the user removed the conversation from the history",
        chats_only=True,
        value="r.convo_show and (s.hidden_at is null or to_timestamp(r.started_at) > s.hidden_at)",
    ),
    Column(
        "root_gpt_id",
        "text",
        "id of the conversation: the id of its first interaction, or the id that the caller gave",
        chats_only=True,
    ),
    Column("parent_id", "uuid", "the interaction that this one continues; null: the first one", chats_only=True),
    Column(
        "root_inferred",
        "boolean",
        "true: the gateway found root_gpt_id from the messages; false: the caller gave it",
        chats_only=True,
    ),
    Column(
        "snapshot_hash",
        "bytea",
        "hash of the messages and the answer; a later request that begins with them continues this row",
        chats_only=True,
    ),
    Column(
        "answer_hash",
        "bytea",
        "hash of the answer's id; a later response that names this id continues this row",
        chats_only=True,
    ),
    Column(
        "item_hash",
        "bytea",
        "hash of the id of the answer's last item, which a later response may name",
        chats_only=True,
    ),
    Column(
        "parent_hash",
        "bytea",
        "hash of the messages up to the last earlier answer: the snapshot that this request continues",
        chats_only=True,
    ),
    Column(
        "outcome",
        "text",
        "how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked, refused (by a "
        "gate: no upstream was called) or interrupted",
    ),
    Column("status", "integer", "HTTP status of the upstream; null: the upstream did not answer"),
    Column("method", "text", "HTTP method of the request"),
    Column("path", "text", "path and query string of the request"),
    Column("model", "text", "model that the request names"),
    Column("answered_model", "text", "model that the answer names"),
    Column("upstream", "text", "the gateway's name of the upstream"),
    Column("key_id", "text", "id of the caller's key; never the key"),
    Column("request_id", "text", "x-request-id of the request at the gateway"),
    Column("upstream_request_id", "text", "x-request-id of the upstream's answer"),
    Column("is_stream", "boolean", "true: the request asks for a stream"),
    Column(
        "started_at",
        _MOMENT,
        "when the request arrived",
        json_type=UNIX_TIME,
        value="to_timestamp(r.started_at)",
    ),
    Column(
        "finished_at",
        _MOMENT,
        "when the answer ended; the same moment as response_time",
        json_type=UNIX_TIME,
        value="to_timestamp(r.finished_at)",
    ),
    Column(
        "first_token_ms",
        "double precision",
        "milliseconds from the request to the first piece of the answer",
    ),
    Column(
        "duration_ms",
        "double precision",
        "milliseconds from the request to the end of the answer",
    ),
    Column("usage_info", "jsonb", "the upstream's own usage object"),
    Column("usage_cost", "real", "price in USD when the row was written; null: not known"),
    Column("prompt_tokens", "bigint", "tokens of the request"),
    Column("completion_tokens", "bigint", "tokens of the answer"),
    Column(
        "usage_estimated",
        "boolean",
        "true: the upstream did not count tokens, and the gateway estimated them",
    ),
    Column("bytes_in", "bigint", "bytes received from the upstream"),
    Column("bytes_out", "bigint", "bytes sent to the caller"),
    Column("error", "text", "description of the error"),
    Column("request_type", "text", "Content-Type of the request"),
    Column("response_type", "text", "Content-Type of the answer"),
    Column("request_size", "bigint", "bytes of a request whose body is not kept"),
    Column("response_size", "bigint", "bytes of an answer whose body is not kept"),
    Column("request_sha256", "text", "SHA-256, in hex, of a request whose body is not kept"),
    Column("response_sha256", "text", "SHA-256, in hex, of an answer whose body is not kept"),
    Column(
        "policy_outcome",
        "text",
        "action of the company's policy: masked, redirected or rejected; null: none",
    ),
    Column(
        "policy_rules",
        "text[]",
        "the policy rules that matched, in order; a rule that rejects is the last",
    ),
)


def json_schema(column: Column) -> Json:
    """The JSON schema of the column's value, as `row_to_json` writes it."""
    described: Json = {"description": f"{column.comment[0].upper()}{column.comment[1:]}."}
    if column.type == "jsonb":
        return described
    if column.type == "text[]":
        return {"type": ["array", "null"], "items": {"type": "string"}, **described}
    return {"type": [_JSON_TYPES.get(column.type, "string"), "null"], **described}


_JSON_TYPES = {
    "bigint": "integer",
    "integer": "integer",
    "boolean": "boolean",
    "double precision": "number",
    "real": "number",
}
