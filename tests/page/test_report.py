"""The report in a browser: its figures are those of the rows; it is accessible, and has CSV downloads."""

from __future__ import annotations

import asyncio
import csv
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.edge.app import House, house
from tests.page.browser_checks import axe_violations, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from tests.postgres import PostgresServer

# All tests share one browser and one gateway, and therefore one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = """
insert into llm_logs.chatgpt_logs (
    request, user_name, title, response_time, root_gpt_id, convo_title, model, outcome, prompt_tokens,
    completion_tokens, duration_ms, first_token_ms, policy_outcome, policy_rules
)
select
    '{}', case when n % 9 = 0 then '=cmd|''calc''!A1' else 'user ' || n % 11 end, 'title ' || n % 2,
    (now() at time zone 'utc')::date - interval '1 day' * (n % 25), 'root ' || n / 4, 'About ' || n / 4,
    (array['gpt-4o', 'claude-sonnet-4-5', 'demo'])[1 + n / 4 % 3],
    (array['complete', 'complete', 'complete', 'upstream_error', 'policy_blocked'])[1 + n % 5],
    100 + n * 37 % 900, 50 + n * 53 % 500, 800 + n * 131 % 9000, 90 + n * 71 % 900,
    case when n % 5 = 4 then 'rejected' when n % 7 = 0 then 'masked' end,
    case when n % 5 = 4 then array['weapons'] when n % 7 = 0 then array['card numbers', 'names <b>'] end
from generate_series(1, 400) as n
"""
AUDITOR = {"X-User": "eve", "X-Groups": "auditors"}
ANN = {"X-User": "user 1"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    dsn = postgres.create_database()
    async with house(tmp_path_factory.mktemp("gateway"), dsn) as it:
        await it.fetch(ROWS)
        yield it
    postgres.drop_database(dsn)


@asynccontextmanager
async def opened(
    browser: Browser, it: House, query: str = "", who: dict[str, str] = AUDITOR, **options: Any
) -> AsyncIterator[Page]:
    """The open report. Fails at the end if there was a warning or a request to another host."""
    problems: list[str] = []
    hosts: set[str | None] = set()
    context = await browser.new_context(extra_http_headers=who, **options)
    shown = await context.new_page()
    shown.set_default_timeout(20_000)
    shown.on("pageerror", lambda fault: problems.append(str(fault)))
    shown.on("console", lambda line: problems.append(line.text) if line.type in ("error", "warning") else None)
    shown.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    await shown.goto(str(it.client.make_url("/report")) + query)
    await shown.wait_for_selector(".tiles")
    yield shown
    await context.close()
    assert problems == []
    assert hosts == {"127.0.0.1"}


async def table(shown: Page, section: str) -> list[list[str]]:
    """The cells of a section's table, also of a collapsed one."""
    rows = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    found: list[list[str]] = await shown.locator(f"#section-{section} tbody tr").evaluate_all(rows)
    return found


def number(text: str) -> int:
    return int(text.replace(",", ""))


async def test_figures_are_those_of_the_views(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as shown:
        users = {row[0]: number(row[4]) for row in await table(shown, "tokens-by-user")}
        expected = await filled.fetch("select user_name, total_tokens from llm_logs.usage_by_user")
        assert users == {row["user_name"]: row["total_tokens"] for row in expected}
        largest = [number(row[5]) for row in await table(shown, "tokens-by-conversation")]
        expected = await filled.fetch(
            "select * from llm_logs.usage_by_conversation order by total_tokens desc limit 50"
        )
        assert largest == [row["total_tokens"] for row in expected]
        tokens = {row[0]: (number(row[1]), number(row[2])) for row in await table(shown, "tokens")}
        chats = {row[0]: sum(map(number, row[1:])) for row in await table(shown, "conversations-a-day")}
        outcomes = {row[0]: number(row[1]) for row in await table(shown, "outcomes")}
        for row in await filled.fetch("select * from llm_logs.usage_by_day"):
            day = row["day"].isoformat()
            assert tokens[day] == (row["prompt_tokens"], row["completion_tokens"])
            assert chats[day] == row["conversations"]
            assert outcomes[day] == row["complete"]
        await expect(shown.locator(".picture canvas")).to_have_count(7)


async def test_policy_results_are_shown_by_day_and_by_rule(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as shown:
        by_day = {row[0]: [number(count) for count in row[1:]] for row in await table(shown, "policy")}
        for row in await filled.fetch(
            "select response_time::date as day, count(*) filter (where policy_outcome = 'masked') as masked,"
            " count(*) filter (where policy_outcome = 'rejected') as rejected from llm_logs.chatgpt_logs group by day"
        ):
            assert by_day[row["day"].isoformat()] == [row["masked"], row["rejected"]]
        rules = [(row[0], row[1], number(row[2]), number(row[3])) for row in await table(shown, "policy-rules")]
        expected = await filled.fetch(
            "select rule, policy_outcome, count(*) as requests, count(distinct user_name) as users"
            " from llm_logs.chatgpt_logs cross join unnest(policy_rules) as rule group by rule, policy_outcome"
        )
        words = {"masked": "Masked", "rejected": "Refused"}
        assert sorted(rules) == sorted(
            (each["rule"], words[each["policy_outcome"]], each["requests"], each["users"]) for each in expected
        )
    async with opened(browser, filled, who=ANN) as shown:
        (of_ann,) = await filled.fetch(
            "select count(*) as refused from llm_logs.chatgpt_logs"
            " where user_name = 'user 1' and policy_outcome = 'rejected'"
        )
        assert [number(row[2]) for row in await table(shown, "policy-rules") if row[0] == "weapons"] == [
            of_ann["refused"]
        ]


async def test_users_see_their_own_figures_and_auditors_all(browser: Browser, filled: House) -> None:
    async with opened(browser, filled, who=ANN) as shown:
        await expect(shown.locator("#status")).to_contain_text("Your own use")
        assert [row[0] for row in await table(shown, "tokens-by-user")] == ["user 1"]
    async with opened(browser, filled) as shown:
        await expect(shown.locator("#status")).to_contain_text("Everybody's use")
        assert len(await table(shown, "tokens-by-user")) == 12


async def test_filters_narrow_the_figures_and_are_in_the_url(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as shown:
        await shown.locator("select[name=user]").select_option("user 2")
        await shown.locator("#section-tokens-by-user tbody tr:only-child").wait_for()
        await shown.locator("select[name=model]").select_option("gpt-4o")
        await shown.locator("#section-models tbody tr:only-child").wait_for()
        (expected,) = await filled.fetch(
            "select sum(total_tokens) as tokens from llm_logs.usage_by_call where user_name = $1 and model = $2",
            "user 2",
            "gpt-4o",
        )
        assert number((await table(shown, "tokens-by-user"))[0][4]) == expected["tokens"]
        await shown.reload()
        await shown.wait_for_selector(".tiles")
        assert [row[0] for row in await table(shown, "models")] == ["gpt-4o"]
        await expect(shown.locator("select[name=user]")).to_have_value("user 2")


async def test_a_csv_has_the_numbers_of_the_table_and_no_formula(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as shown:
        async with shown.expect_download() as download:
            await shown.get_by_role("button", name="Download as CSV: Tokens by user").click()
        text = await asyncio.to_thread((await (await download.value).path()).read_text, "utf-8-sig")
        rows = list(csv.reader(io.StringIO(text)))
        assert [number(row[4]) for row in await table(shown, "tokens-by-user")] == [int(row[4]) for row in rows[1:]]
        assert "'=cmd|'calc'!A1" in {row[0] for row in rows}
        assert not any(cell[:1] in "=+-@" for row in rows for cell in row if cell)


async def test_the_keyboard_reaches_all_controls(browser: Browser, filled: House) -> None:
    async with opened(browser, filled) as shown:
        await shown.keyboard.press("Tab")
        await expect(shown.locator(".skip")).to_be_focused()
        await shown.locator("#section-tokens summary").focus()
        await shown.keyboard.press("Enter")
        await shown.keyboard.press("Tab")
        await expect(shown.get_by_role("region", name="Table: Tokens", exact=True)).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_it_has_no_overflow_and_axe_has_no_serious_finding(
    browser: Browser, filled: House, scheme: str, width: int
) -> None:
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    async with opened(browser, filled, **options) as shown:
        assert await shown.evaluate("document.documentElement.scrollWidth") <= width
        assert await axe_violations(shown) == []


async def test_without_calls_all_sections_are_empty(browser: Browser, filled: House) -> None:
    async with opened(browser, filled, "?from=2001-01-01&to=2001-01-31") as shown:
        await expect(shown.locator(".empty")).to_have_count(11)
        await expect(shown.locator("#status")).to_contain_text("No calls.")
