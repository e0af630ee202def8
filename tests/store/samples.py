"""Records as the journal hands them over, and what the store made of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gateway.model import Kind, Principal, Record
from gateway.settings import StoreSettings
from gateway.store.interactions import Interactions
from gateway.store.migrations import MAKE_PARTITIONS, MONTHS_AHEAD, migrate
from gateway.store.pool import Database
from tests.journal.samples import answer, interaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import asyncpg

SQL = Path(__file__).parents[2] / "sql"
IMPATIENT = StoreSettings(connect_s=1.0, statement_s=2.0)
PATIENT = StoreSettings(connect_s=20.0, statement_s=30.0)  # where seventy ask at once, also on a machine that is busy


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def model(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def chat(*messages: dict[str, Any], says: str | None = "ok", by: str = "ann", **more: Any) -> Record:
    """A chat completion; `says` None: the upstream gave an error."""
    said: dict[str, Any] = {"error": {"message": "no"}}
    if says is not None:
        said = {"choices": [{"index": 0, "message": {**model(says), "refusal": None}, "finish_reason": "stop"}]}
    asked = interaction(orjson.dumps({"model": "m", "messages": messages}), principal=Principal(by), **more)
    return Record(asked, answer(orjson.dumps(said)))


def response(
    asked: object, number: int = 1, says: str | None = "ok", by: str = "ann", *, row: UUID | None = None, **more: Any
) -> Record:
    """A response with this input, whose id is `resp_<number>`; `more` are further members of the request."""
    said: dict[str, Any] = {"error": {"message": "no"}}
    if says is not None:
        said = {"id": f"resp_{number}", "object": "response", "output": [spoken(says, number)]}
    body = orjson.dumps({"model": "m", "input": asked, **more})
    its = {} if row is None else {"id": row}
    return Record(interaction(body, principal=Principal(by), kind=Kind.RESPONSE, **its), answer(orjson.dumps(said)))


def spoken(text: str, number: int = 1) -> dict[str, Any]:
    """The item in which a response of this number says so."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def record(asked: bytes = b"{}", said: bytes = b"{}", **more: Any) -> Record:
    return Record(interaction(asked, **more), answer(said))


@asynccontextmanager
async def store(dsn: str, settings: StoreSettings = IMPATIENT) -> AsyncIterator[tuple[Database, Interactions]]:
    """A database with its schema, and the keeper of interactions."""
    database = Database(dsn, settings)
    await migrate(database, SQL)
    interactions = Interactions(database)
    try:
        yield database, interactions
    finally:
        await interactions.aclose()
        await database.aclose()


async def rows_of(database: Database, sql: str, *arguments: Any) -> list[asyncpg.Record]:
    async with database.connection() as connection:
        return await connection.fetch(sql, *arguments)


async def make_partitions(database: Database, months_ahead: int = MONTHS_AHEAD) -> int:
    """How many of those that are missing could be made at once."""
    (row,) = await rows_of(database, MAKE_PARTITIONS, months_ahead)
    return int(row["make_partitions"])
