"""A company's own rows, and what its report reads: the seed's INSERTs load, show in history, and count in the views."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from gateway.model import Kind, Outcome, Principal, Usage
from gateway.store.history import History, HistoryQuery
from tests.store.samples import chat, record, rows_of, store, user

if TYPE_CHECKING:
    from gateway.store.pool import Database

SEED = (Path(__file__).parent / "seed.sql").read_text()
ROOT = "1a481b96-c7fd-4526-91b8-57bfb2a255a5"
VIEWS = (
    "interactions",
    "turns",
    "usage_by_call",
    "usage_by_conversation",
    "usage_by_day",
    "usage_by_day_and_user",
    "usage_by_model",
    "usage_by_user",
)


async def load(db: Database) -> None:
    async with db.connection() as connection:
        await connection.execute(SEED)


async def view(db: Database, name: str, where: str = "true", *values: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in await rows_of(db, f"select * from llm_logs.{name} where {where}", *values)]


def part(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def reading(name: str) -> HistoryQuery:
    return HistoryQuery(Principal(name), name, limit=100, budget=1 << 20)


async def test_a_seeds_rows_show_in_history(database: str) -> None:
    async with store(database) as (db, _):
        await load(db)
        history = History(db)
        rows = [json.loads(row) for row in (await history.rows(reading("user"))).rows]
        assert [row["response_time"] for row in rows] == [
            "2023-04-27T16:29:00",
            "2023-04-27T16:28:01.604278",
            "2023-04-27T16:25:48.872857",
        ]
        (conversation,) = [json.loads(row) for row in (await history.conversations(reading("user"))).rows]
        assert conversation["id"] == "3f04805a-78e7-4c13-842a-4f777f0dc7a9"
        assert conversation["root_gpt_id"] == ROOT
        assert conversation["convo_title"] == "A horror story was requested and extended."
        assert conversation["usage_info"]["total_tokens"] == 71
        assert conversation.keys() >= {
            "id", "request", "usage_info", "user_name", "title", "response_time", "response", "convo_title",
            "convo_show", "root_gpt_id",
        }  # fmt: skip
        roots = [json.loads(row)["root_gpt_id"] for row in (await history.conversations(reading("analyst"))).rows]
        assert "chatcmpl-79zzz" in roots
        assert len(roots) == 2
        assert len((await history.search(reading("user"), "icy breath")).rows) == 1


async def test_a_seeds_rows_count_in_the_views(database: str) -> None:
    async with store(database) as (db, _):
        await load(db)
        (day,) = await view(db, "usage_by_day", "day = $1", date(2023, 4, 27))
        assert day == {
            "day": date(2023, 4, 27),
            "users": 1,
            "calls": 4,
            "chats": 3,
            "images": 1,
            "conversations": 1,
            "prompt_tokens": 16 + 49 + 40,
            "completion_tokens": 17 + 22 + 10,
            "total_tokens": 33 + 71 + 50,
            "estimated_calls": 0,
            "cost_usd": pytest.approx(0.032),
            "complete": 4,
            "truncated": 0,
            "upstream_error": 0,
            "client_cancelled": 0,
            "policy_blocked": 0,
            "interrupted": 0,
            "refused": 0,
        }
        users = {row["user_name"]: row for row in await view(db, "usage_by_user")}
        assert part(users["user"], "title", "calls", "conversations", "total_tokens") == {
            "title": "app",
            "calls": 4,
            "conversations": 1,
            "total_tokens": 154,
        }
        assert part(users["analyst"], "conversations", "prompt_tokens", "total_tokens", "cost_usd") == {
            "conversations": 2,
            "prompt_tokens": 0,
            "total_tokens": 7,
            "cost_usd": None,
        }
        (talk,) = await view(db, "usage_by_conversation", "conversation = $1", ROOT)
        assert part(talk, "user_name", "chats", "prompt_tokens", "completion_tokens", "convo_title") == {
            "user_name": "user",
            "chats": 2,
            "prompt_tokens": 65,
            "completion_tokens": 39,
            "convo_title": "A horror story was requested and extended.",
        }
        assert talk["first_at"] == datetime(2023, 4, 27, 16, 25, 48, 872857)  # noqa: DTZ001 - as the seed's column
        models = {row["model"]: row["chats"] for row in await view(db, "usage_by_model")}
        assert models == {"gpt-3.5-turbo": 3, "gpt-4": 2, None: 0}
        days = await view(db, "usage_by_day_and_user", "user_name = 'user'")
        assert [part(row, "day", "conversations", "calls") for row in days] == [
            {"day": date(2023, 4, 27), "conversations": 1, "calls": 4}
        ]


async def test_the_gateways_rows_count_beside_them(database: str) -> None:
    async with store(database) as (db, interactions):
        await load(db)
        asked = chat(user("hi"), by="user")
        estimate = Usage(10, 5, is_estimate=True)
        records = [
            asked,
            replace(
                chat(user("hm"), by="user"), answer=replace(asked.answer, outcome=Outcome.TRUNCATED, usage=estimate)
            ),
            chat(user("name it"), by="user", convo_title="summarizer", convo_show=False),
        ]
        image = record(b'{"model": "dall-e-2"}', kind=Kind.IMAGE, principal=Principal("user"))
        records.append(replace(image, answer=replace(image.answer, usage_cost=0.04)))
        records.append(record(kind=Kind.OTHER, principal=Principal("user")))
        await interactions.keep(records)
        (before, now) = sorted(
            await view(db, "usage_by_day_and_user", "user_name = 'user'"), key=lambda row: row["day"]
        )
        assert before["calls"] == 4
        assert part(now, "calls", "chats", "images", "conversations", "estimated_calls") == {
            "calls": 5,
            "chats": 3,
            "images": 1,
            "conversations": 2,
            "estimated_calls": 1,
        }
        assert part(now, "complete", "truncated") == {"complete": 4, "truncated": 1}
        assert now["cost_usd"] == pytest.approx(0.04)
        calls = await view(db, "usage_by_call", "user_name = 'user' and response_time > '2024-01-01'")
        assert sum(call["prompt_tokens"] for call in calls) == now["prompt_tokens"]
        assert sorted(call["source"] for call in calls) == ["api", "chat", "chat", "chat", "image"]
        assert [call["is_internal"] for call in calls].count(True) == 1


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        7,
        "many",
        {"prompt_tokens": "16"},
        {"prompt_tokens": -1, "completion_tokens": 1e300, "total_tokens": None},
        {"prompt_tokens": {"deep": 1}},
    ],
)
async def test_a_strange_usage_object_counts_nothing_and_breaks_nothing(database: str, usage: object) -> None:
    async with store(database) as (db, _):
        await rows_of(
            db, "insert into llm_logs.chatgpt_logs (request, usage_info, user_name) values ($1, $2, 'ann')", [], usage
        )
        (row,) = await view(db, "usage_by_user")
        assert part(row, "calls", "prompt_tokens", "completion_tokens", "total_tokens", "complete") == {
            "calls": 1,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "complete": 1,
        }


async def test_every_column_of_every_table_and_view_is_explained(database: str) -> None:
    async with store(database) as (db, _):
        missing = await rows_of(
            db,
            """
            select c.relname, a.attname
            from pg_class as c
            inner join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'llm_logs'
            inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where c.relkind in ('r', 'p', 'v') and not c.relispartition and col_description(c.oid, a.attnum) is null
            """,
        )
        assert [tuple(row) for row in missing] == []
        views = await rows_of(db, "select viewname from pg_views where schemaname = 'llm_logs' order by viewname")
        assert tuple(row["viewname"] for row in views) == VIEWS
