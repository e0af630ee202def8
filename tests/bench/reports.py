"""Times the report at a million rows: `python -m tests.bench.reports [rows]`.

The rows are those of a company of 200 people in 90 days: conversations of eight chats, four models, ten job titles.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from datetime import date

from gateway.model import Principal, Role
from gateway.settings import StoreSettings
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.reports import ReportQuery, Reports
from tests.postgres import running_postgres
from tests.store.samples import SQL

FIRST, LAST = date(2026, 1, 1), date(2026, 3, 31)
PATIENT = StoreSettings(connect_s=10.0, statement_s=900.0)
ROUNDS = 5

# $1, $2: from and up to which number; $3: all rows
FILL = """
insert into llm_logs.chatgpt_logs (
    request, response, user_name, title, response_time, root_gpt_id, convo_title, model, outcome, prompt_tokens,
    completion_tokens, duration_ms, first_token_ms
)
select
    '{"model": "gpt-4o"}', '{"choices": []}', 'user ' || u, 'title ' || u % 10,
    timestamp '2026-01-01' + n * (interval '90 days' / $3), 'conversation ' || u || '-' || n / 1600, 'about this',
    (array['gpt-4o', 'gpt-4o-mini', 'claude-sonnet-4-5', 'demo'])[1 + (u + n / 1600) % 4],
    case when n % 50 = 0 then 'upstream_error' else 'complete' end,
    100 + n % 900, 50 + n % 500, 500 + (n * 7919) % 20000, 100 + (n * 104729) % 2000
from generate_series($1::bigint, $2::bigint - 1) as n cross join lateral (select n % 200 as u) as who
"""

AUDITOR = Principal("auditor", roles=frozenset((Role.AUDITOR,)))
QUESTIONS = {
    "everybody, 90 days": ReportQuery(AUDITOR, FIRST, LAST),
    "everybody, 7 days": ReportQuery(AUDITOR, date(2026, 3, 25), LAST),
    "one model": ReportQuery(AUDITOR, FIRST, LAST, model="gpt-4o"),
    "one job title": ReportQuery(AUDITOR, FIRST, LAST, title="title 3"),
    "a user's own": ReportQuery(Principal("user 7"), FIRST, LAST),
}


async def measured(dsn: str, rows: int) -> None:
    database = Database(dsn, PATIENT)
    try:
        await migrate(database, SQL)
        began = time.perf_counter()
        async with database.asking() as connection:
            for start in range(0, rows, 50_000):
                await connection.execute(FILL, start, min(start + 50_000, rows), rows)
        print(f"{rows:,} rows stored: {time.perf_counter() - began:.1f} s")
        reports = Reports(database)
        began = time.perf_counter()
        while await reports.refresh():
            pass
        print(f"added up for the first time: {time.perf_counter() - began:.1f} s")
        async with database.asking() as connection:
            await connection.execute("vacuum analyze")
        for name, question in QUESTIONS.items():
            await reports.read(question)
            times = [await _seconds(reports, question) for _ in range(ROUNDS)]
            print(f"{name}: median {statistics.median(times) * 1000:.0f} ms, worst {max(times) * 1000:.0f} ms")
    finally:
        await database.aclose()


async def _seconds(reports: Reports, question: ReportQuery) -> float:
    began = time.perf_counter()
    await reports.read(question)
    return time.perf_counter() - began


def main() -> None:
    with running_postgres() as server:
        asyncio.run(measured(server.dsn, int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))


if __name__ == "__main__":
    main()
