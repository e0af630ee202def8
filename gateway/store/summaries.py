"""Titles and metadata that a model derives from conversations: reads their source, stores the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.store.jsonb import to_jsonb
from gateway.store.pool import plain_uuid
from gateway.store.rows import indexed_text

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.model import Principal
    from gateway.store.pool import Database

# $1: user; $2: conversation
NEWEST = """
select id, request, response, coalesce(model, request ->> 'model') as model
from llm_logs.chatgpt_logs
where user_name = $1 and coalesce(root_gpt_id, id::text) = $2
order by response_time desc, id desc
limit 1
"""

# $1: id of the interaction that derived it; $2: its request; $3: its answer; $4: user; $5: job title; $6: when;
# $7: the summarised row; $8: the metadata
KEEP = """
insert into llm_logs.meta_summarizer_log
    (id, request, response, usage_info, user_name, title, response_time, orig_summarized_id, metadata)
values (
    $1, $2::json::jsonb, $3::json::jsonb, $3::json::jsonb -> 'usage', $4, $5, to_timestamp($6) at time zone 'utc', $7,
    $8::json::jsonb
)
on conflict (id) do nothing
"""


@dataclass(frozen=True, slots=True)
class NewestSnapshot:
    """The newest row of a conversation: all its messages, and the last answer."""

    id: UUID
    request: Any  # JSON
    response: Any
    model: str | None


@dataclass(frozen=True, slots=True)
class Derived:
    """Metadata of a conversation, and the interaction that derived them."""

    id: UUID
    at: float  # Unix time
    request: bytes
    response: bytes
    summarized_id: UUID
    metadata: bytes


class Summaries:
    """The derived metadata in one database. All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, caller: Principal, root: str) -> NewestSnapshot | None:
        """The newest row of a conversation; None: the caller has no such conversation."""
        async with self._database.asking() as connection:
            row = await connection.fetchrow(NEWEST, indexed_text(caller.user), indexed_text(root))
        if row is None:
            return None
        return NewestSnapshot(plain_uuid(row["id"]), row["request"], row["response"], row["model"])

    async def keep(self, caller: Principal, derived: Derived) -> None:
        """Store derived metadata."""
        async with self._database.asking() as connection:
            await connection.execute(
                KEEP,
                derived.id,
                to_jsonb(derived.request).text,
                to_jsonb(derived.response).text,
                indexed_text(caller.user),
                None if caller.title is None else indexed_text(caller.title),
                derived.at,
                str(derived.summarized_id),
                to_jsonb(derived.metadata).text,
            )
