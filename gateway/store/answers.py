"""Finds one stored answer: by its request, or by the interaction's id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations of StoredAnswer

from gateway.model import Outcome, PolicyOutcome, Ruling
from gateway.store.jsonb import to_jsonb
from gateway.store.pool import plain_uuid
from gateway.store.rows import indexed_text, storable_text

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.model import Principal
    from gateway.store.pool import Database

# The newest answer of /chat to a request. The index is on the hash; the comparison excludes collisions.
# $1: user; $2: the request as JSON; $3: not older than this; $4: its conversation, or null
ANSWER_TO = """
select
    id, coalesce(root_gpt_id, id::text) as root, outcome, error, model, started_at, response::text as response,
    response_raw, policy_outcome, policy_rules
from llm_logs.chatgpt_logs
where user_name = $1 and path like '/chat%'
    and jsonb_hash_extended(request, 0) = jsonb_hash_extended($2::json::jsonb, 0) and request = $2::json::jsonb
    and response_time > $3 and ($4::text is null or coalesce(root_gpt_id, id::text) = $4)
order by response_time desc, id desc
limit 1
"""

# $1: user; $2: the interaction; $3: whether the user is an auditor
BY_ID = """
select
    id, coalesce(root_gpt_id, id::text) as root, outcome, error, model, started_at, response::text as response,
    response_raw, policy_outcome, policy_rules
from llm_logs.chatgpt_logs
where id = $2 and (user_name = $1 or $3)
"""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A stored answer and its outcome. `body` is JSON text, or the bytes of another answer; empty: none."""

    id: UUID
    root: str
    outcome: Outcome
    body: bytes
    error: str | None = None
    model: str | None = None
    started_at: float | None = None  # Unix time; None: a row of the original system
    policy: Ruling | None = None

    def as_stored(self) -> StoredAnswer:
        """The answer with its texts as its row holds them: storable in Postgres, names bounded."""
        return replace(
            self,
            root=indexed_text(self.root),
            error=None if self.error is None else storable_text(self.error),
            model=None if self.model is None else indexed_text(self.model),
        )


class Answers:
    """The answers of one database. All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answer_to(
        self, caller: Principal, request: bytes, *, since: float, root: str | None
    ) -> StoredAnswer | None:
        """The newest answer of /chat to this request of this caller."""
        text = to_jsonb(request).text
        if text is None:
            return None
        moment = datetime.fromtimestamp(since, UTC).replace(tzinfo=None)
        of_root = None if root is None else indexed_text(root)
        async with self._database.asking() as connection:
            row = await connection.fetchrow(ANSWER_TO, indexed_text(caller.user), text, moment, of_root)
        return None if row is None else _answer(row)

    async def by_id(self, caller: Principal, interaction_id: UUID) -> StoredAnswer | None:
        """The answer of the interaction, if the caller may read it."""
        async with self._database.asking() as connection:
            row = await connection.fetchrow(BY_ID, indexed_text(caller.user), interaction_id, caller.is_auditor)
        return None if row is None else _answer(row)


def _answer(row: Record) -> StoredAnswer:
    raw, text = row["response_raw"], row["response"]
    started_at = row["started_at"]
    return StoredAnswer(
        id=plain_uuid(row["id"]),
        root=row["root"],
        outcome=Outcome(row["outcome"] or Outcome.COMPLETE),  # the original system stored no others
        body=raw if raw is not None else (text or "").encode(),
        error=row["error"],
        model=row["model"],
        started_at=None if started_at is None else started_at.timestamp(),
        policy=_ruling(row["policy_outcome"], row["policy_rules"]),
    )


def _ruling(outcome: str | None, rules: list[str] | None) -> Ruling | None:
    return None if outcome is None else Ruling(PolicyOutcome(outcome), tuple(rules or ()))
