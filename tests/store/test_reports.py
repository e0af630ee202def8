"""The report's figures are those of the rows, whenever and however these came."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from gateway.model import Principal, Role
from gateway.store.interactions import Interactions
from gateway.store.reports import SHOWN_USERS, Figures, ReportQuery, Reports
from tests.store.samples import chat, rows_of, store, user

if TYPE_CHECKING:
    from gateway.store.pool import Database

ANN = Principal("ann")
EVE = Principal("eve", roles=frozenset((Role.AUDITOR,)))
FIRST, LAST = date(2020, 1, 1), date(2099, 1, 1)
ALL = ReportQuery(EVE, FIRST, LAST)

# Of many users, models and outcomes, on three days; some as a seed system writes them
ROWS = """
insert into llm_logs.chatgpt_logs (
    request, user_name, title, response_time, root_gpt_id, model, outcome, prompt_tokens, completion_tokens,
    duration_ms, first_token_ms, usage_info
)
select
    '{"model": "seeds"}', 'user ' || n % 12, 'title ' || n % 3, timestamp '2026-01-01' + n * interval '1 hour',
    case when n % 7 > 0 then 'root ' || n / 5 end,
    case when n % 4 > 0 then 'model ' || n % 2 end,
    (array['complete', 'truncated', 'upstream_error', 'client_cancelled', 'policy_blocked', 'interrupted'])[1 + n % 6],
    case when n % 4 > 0 then n end, case when n % 4 > 0 then 2 * n end, 100 * n, n,
    case
        when n % 4 = 0
            then jsonb_build_object('prompt_tokens', n, 'completion_tokens', 2 * n, 'total_tokens', 3 * n)
    end
from generate_series(1, 70) as n
"""

PERCENTILES = """
select percentile_disc(array[0.5, 0.95]) within group (order by duration_ms) as found
from llm_logs.chatgpt_logs
where outcome = 'complete' and ($1::text is null or title = $1)
"""

INSERT = """
insert into llm_logs.chatgpt_logs (request, usage_info, user_name, response_time, root_gpt_id)
values ($3::text::jsonb, '{"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}', $1, $2, 'root')
"""


async def insert(db: Database, by: str | None = "ann", day: date = date(2026, 1, 1), asked: str = "{}") -> None:
    await rows_of(db, INSERT, by, day, asked)


async def tokens(reports: Reports, question: ReportQuery = ALL) -> int:
    return total(await reports.read(question))


def total(figures: Figures, column: str = "total_tokens") -> int:
    return sum(row[column] for row in figures.usage if row["is_of_day"])


async def test_all_figures_are_those_of_the_views(database: str) -> None:
    async with store(database) as (db, _):
        await rows_of(db, ROWS)
        await rows_of(db, "insert into llm_logs.image_logs (user_name, usage_cost) values ('user 1', 0.5)")
        figures = await Reports(db).read(ALL)
        for day in await rows_of(db, "select * from llm_logs.usage_by_day"):
            found = [row for row in figures.usage if row["is_of_day"] and row["day"] == day["day"]]
            for name in ("calls", "prompt_tokens", "completion_tokens", "total_tokens", "complete", "policy_blocked"):
                assert sum(row[name] for row in found) == day[name], name
            chats = [row["conversations"] for row in figures.conversations if row["day"] == day["day"]]
            assert sum(chats) == day["conversations"]
        for person in await rows_of(db, "select * from llm_logs.usage_by_user"):
            found = [row for row in figures.usage if not row["is_of_day"] and row["user_name"] == person["user_name"]]
            assert sum(row["total_tokens"] for row in found) == person["total_tokens"]
            assert sum(row["cost_usd"] or 0 for row in found) == (person["cost_usd"] or 0)
        largest = {(row["user_name"], row["conversation"]): row["total_tokens"] for row in figures.largest}
        wanted = await rows_of(db, "select * from llm_logs.usage_by_conversation order by total_tokens desc limit 50")
        assert largest == {(row["user_name"], row["conversation"]): row["total_tokens"] for row in wanted}
        assert not figures.is_behind


@pytest.mark.parametrize("title", [None, "title 0"])
async def test_percentiles_are_those_of_the_rows_within_a_step(database: str, title: str | None) -> None:
    async with store(database) as (db, _):
        await rows_of(db, ROWS)
        figures = await Reports(db).read(ReportQuery(EVE, FIRST, LAST, title=title))
        (exact,) = await rows_of(db, PERCENTILES, title)
        (row,) = [
            row
            for row in figures.times
            if not row["is_of_day"] and not row["is_of_model"] and row["measure"] == "duration"
        ]
        assert [row["p50_ms"], row["p95_ms"]] == pytest.approx(exact["found"], rel=0.026)


async def test_percentiles_of_everybody_and_of_each_title_agree(database: str) -> None:
    async with store(database) as (db, _):
        await rows_of(db, ROWS)
        reports = Reports(db)
        counts: dict[str | None, int] = {}
        for title in (None, "title 0", "title 1", "title 2"):
            figures = await reports.read(ReportQuery(EVE, FIRST, LAST, title=title))
            counts[title] = sum(row["chats"] for row in figures.times if row["is_of_day"])
        assert counts[None] == counts["title 0"] + counts["title 1"] + counts["title 2"] > 70


async def test_users_see_their_own_figures_only(database: str) -> None:
    async with store(database) as (db, _):
        await insert(db, "ann")
        await insert(db, "bob")
        reports = Reports(db)
        figures = await reports.read(ReportQuery(ANN, FIRST, LAST))
        assert total(figures, "calls") == 1
        assert {row["user_name"] for row in figures.conversations} == {"ann"}
        assert {row["user_name"] for row in figures.largest} == {"ann"}
        assert {row["user_name"] for row in figures.choices} == {"ann", None}
        others = await reports.read(ReportQuery(ANN, FIRST, LAST, user="bob"))
        assert not [*others.usage, *others.conversations, *others.largest, *others.times]
        assert await tokens(reports) == 24


async def test_what_the_policy_did_is_counted_by_day_and_by_rule_within_the_callers_reach(database: str) -> None:
    async with store(database) as (db, _):
        await rows_of(
            db,
            "insert into llm_logs.chatgpt_logs (user_name, title, model, response_time, policy_outcome, policy_rules)"
            " select (array['ann', 'bob'])[1 + n % 2], 'title', 'model ' || n % 3,"
            " timestamp '2026-01-01 12:00' + n * interval '1 day',"
            " (array['masked', 'redirected', 'rejected', null])[1 + n % 4],"
            " (array['{a,b}', '{b}', '{c}', null])[1 + n % 4]::text[]"
            " from generate_series(0, 23) as n",
        )
        reports = Reports(db)
        found = (await reports.read(ALL)).policy
        assert sum(row["requests"] for row in found if row["rule"] is None) == 18
        assert {(row["rule"], row["outcome"]): row["requests"] for row in found if row["rule"] is not None} == {
            ("a", "masked"): 6, ("b", "masked"): 6, ("b", "redirected"): 6, ("c", "rejected"): 6,
        }  # fmt: skip
        day = replace(ALL, first=date(2026, 1, 3), last=date(2026, 1, 3))
        assert [(row["rule"], row["outcome"]) for row in (await reports.read(day)).policy] == [
            (None, "rejected"), ("c", "rejected"),
        ]  # fmt: skip
        anns = (await reports.read(ReportQuery(ANN, FIRST, LAST))).policy
        assert {row["outcome"] for row in anns} == {"masked", "rejected"}
        assert {row["users"] for row in anns} == {1}
        assert not (await reports.read(ReportQuery(ANN, FIRST, LAST, user="bob"))).policy
        of_a_model = (await reports.read(replace(ALL, model="model 1", title="title"))).policy
        assert sum(row["requests"] for row in of_a_model if row["rule"] is None) == 6


async def test_rows_that_come_days_late_count(database: str) -> None:
    async with store(database) as (db, _):
        reports = Reports(db)
        await insert(db, day=date(2026, 5, 5))
        assert await tokens(reports) == 12
        await insert(db, day=date(2026, 1, 1))
        assert await tokens(reports) == 24


async def test_a_row_whose_transaction_ends_after_later_ones_counts(database: str) -> None:
    async with store(database) as (db, _):
        reports = Reports(db)
        async with db.connection() as slow:
            transaction = slow.transaction()
            await transaction.start()
            await slow.execute(INSERT, "ann", date(2026, 1, 1), "{}")
            await insert(db)
            assert await tokens(reports) == 12
            await transaction.commit()
        assert await tokens(reports) == 24


async def test_what_is_changed_or_deleted_by_hand_is_added_up_anew(database: str) -> None:
    async with store(database) as (db, _):
        reports = Reports(db)
        await insert(db)
        assert await tokens(reports) == 12
        await rows_of(db, "update llm_logs.chatgpt_logs set user_name = 'bob', response_time = '2026-02-02'")
        figures = await reports.read(ALL)
        assert [row["day"] for row in figures.usage if row["is_of_day"]] == [date(2026, 2, 2)]
        assert [row["user_name"] for row in figures.largest] == ["bob"]
        await rows_of(db, "delete from llm_logs.chatgpt_logs")
        assert await tokens(reports) == 0


async def test_rows_without_a_user_count_for_auditors_and_rows_without_a_time_do_not(database: str) -> None:
    async with store(database) as (db, _):
        await insert(db, None)
        await rows_of(db, "insert into llm_logs.chatgpt_logs (user_name, response_time) values ('ann', null)")
        await rows_of(db, "insert into llm_logs.chatgpt_logs (user_name, response_time) values ('ann', 'infinity')")
        figures = await Reports(db).read(ALL)
        assert total(figures, "calls") == 1
        assert [row["user_name"] for row in figures.usage if not row["is_of_day"]] == [""]


async def test_names_of_any_length_are_added_up(database: str) -> None:
    async with store(database) as (db, _):
        await insert(db, asked='{"model": "' + "m" * 50_000 + '"}')
        assert await tokens(Reports(db)) == 12


async def test_what_the_gateway_keeps_is_in_the_next_report(database: str) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep([chat(user("hello"))])
        figures = await Reports(db).read(ALL)
        assert total(figures, "calls") == 1
        assert len(figures.largest) == 1
        assert figures.newest is not None


async def test_what_a_chat_cost_is_in_its_row_in_the_views_and_in_the_report(database: str) -> None:
    async with store(database) as (db, _):
        keeper = Interactions(db, lambda record: 0.25 if record.answer.usage else None)
        told = chat(user("hello"))
        await keeper.keep([told, structs.replace(chat(user("hm")), answer=structs.replace(told.answer, usage=None))])
        await keeper.aclose()
        rows = await rows_of(
            db,
            "select usage_cost, cost_usd from llm_logs.chatgpt_logs inner join llm_logs.usage_by_call using (id)",
        )
        assert sorted(map(tuple, rows), key=str) == [(0.25, 0.25), (None, None)]
        await insert(db)
        figures = await Reports(db).read(ALL)
        assert sum(row["cost_usd"] or 0 for row in figures.usage if row["is_of_day"]) == 0.25
        assert total(figures, "open_tokens") == 12, "of the row that says no cost"


async def test_a_conversation_over_midnight_is_one_and_after_a_part_is_gone_still_is(database: str) -> None:
    async with store(database) as (db, _):
        reports = Reports(db)
        for day in (1, 2, 3):
            await insert(db, day=date(2026, 1, day))
            figures = await reports.read(ALL)
            assert [row["total_tokens"] for row in figures.largest] == [12 * day]
            assert figures.largest[0]["conversations"] == 1
        for day, left in ((2, 24), (1, 12)):
            await rows_of(db, "delete from llm_logs.chatgpt_logs where response_time = $1", date(2026, 1, day))
            figures = await reports.read(ALL)
            assert [row["total_tokens"] for row in figures.largest] == [left]
        one_day = await reports.read(ReportQuery(EVE, date(2026, 1, 3), date(2026, 1, 3)))
        assert [row["total_tokens"] for row in one_day.largest] == [12]
        alone = await rows_of(db, "select is_alone from llm_logs.report_conversations")
        assert [row["is_alone"] for row in alone] == [True]


async def test_many_may_refresh_at_once_and_nothing_counts_twice(database: str) -> None:
    async with store(database) as (db, _):
        await rows_of(db, ROWS)
        reports = Reports(db)
        await asyncio.gather(*(reports.refresh(3) for _ in range(8)))
        while await reports.refresh(3):
            pass
        assert total(await reports.read(ALL), "calls") == 70


async def test_users_beyond_the_first_few_are_added_up_in_the_picture(database: str) -> None:
    async with store(database) as (db, _):
        for number in range(SHOWN_USERS + 3):
            await insert(db, f"user {number}")
        figures = await Reports(db).read(ALL)
        named: dict[Any, int] = {row["user_name"]: row["conversations"] for row in figures.conversations}
        assert len(named) == SHOWN_USERS + 1
        assert named[None] == 3
