"""Screenshots of the pages for the README: `python -m tests.page.screenshots`, at a gateway with the demo model.

The data of the report is invented. A palette (pngquant) makes the files three times smaller.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
from playwright.async_api import async_playwright

from tests.gateway_process import GatewayProcess
from tests.page.conftest import ARGUMENTS
from tests.postgres import running_postgres

if TYPE_CHECKING:
    from playwright.async_api import Browser

PICTURES = Path(__file__).resolve().parents[2] / "deploy" / "pictures"
EARLIER = ("Draft a reply to the supplier", "Hello! What can you do?", "How do I connect a real model?")
SHOWN = "Show me some Python code"
WIDE: dict[str, Any] = {"viewport": {"width": 1180, "height": 760}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 1.5, "has_touch": True}
SHOTS = (
    ("page-light", {**WIDE, "color_scheme": "light"}),
    ("page-dark", {**WIDE, "color_scheme": "dark"}),
    ("page-phone", {**PHONE, "color_scheme": "light"}),
)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
REPORT: dict[str, Any] = {"viewport": {"width": 1180, "height": 880}}

# Thirty days of a company of fourteen: fewer calls at weekends, more from week to week.
COMPANY = """
insert into llm_logs.chatgpt_logs (
    request, response, user_name, title, response_time, root_gpt_id, convo_title, model, outcome, prompt_tokens,
    completion_tokens, duration_ms, first_token_ms
)
select
    '{}', '{}', person, job,
    date_trunc('day', now() at time zone 'utc') - day * interval '1 day' + n * interval '7 minutes',
    person || day || '-' || n / 4, about, model,
    case when random() < 0.93 then 'complete' when random() < 0.4 then 'client_cancelled'
        when random() < 0.7 then 'upstream_error' else 'truncated' end,
    (200 + 2600 * random() * (1 + n % 4))::int, (80 + 900 * random())::int,
    900 + 9000 * random() * random() * case model when 'gpt-5' then 2 else 1 end, 180 + 900 * random() * random()
from (
    values ('amara.okafor', 'Analyst', 9), ('ben.fischer', 'Engineer', 14), ('chiara.rossi', 'Engineer', 11),
    ('dmitri.volkov', 'Analyst', 6), ('elena.garcia', 'Counsel', 5), ('farid.haddad', 'Support', 8),
    ('grace.lin', 'Engineer', 16), ('hugo.martin', 'Sales', 4), ('ines.costa', 'Support', 7),
    ('jonas.berg', 'Engineer', 12), ('keiko.sato', 'Analyst', 5), ('liam.byrne', 'Sales', 3),
    ('mina.park', 'Counsel', 2), ('noor.khan', 'Support', 6)
) as people (person, job, keen)
cross join generate_series(0, 29) as day
cross join lateral (
    select case when extract(isodow from now() - day * interval '1 day') > 5 then 0.15 else 1 end
        * (1.25 - day / 50.0) * (0.7 + 0.6 * random()) * keen as calls
) as volume
cross join lateral generate_series(1, (2 * calls)::int) as n
cross join lateral (
    select (array['gpt-5', 'gpt-5', 'gpt-5-mini', 'claude-sonnet-4-5'])[1 + (length(person) + n / 4) % 4] as model,
        (array['Migration plan', 'Contract review', 'Reply to a supplier', 'Flaky test', 'Quarterly figures',
            'Release notes', 'Incident timeline', 'Interview questions'])[1 + (length(person) * 3 + day + n / 4) % 8]
            as about
) as topic
"""


async def ask(browser: Browser, url: str, question: str) -> None:
    page = await browser.new_page()
    await page.goto(url)
    await page.wait_for_selector(".starters")
    await page.locator("#composer-text").fill(question)
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".assistant.complete", timeout=60_000)
    await page.close()


async def shoot(browser: Browser, url: str, name: str, options: dict[str, Any]) -> None:
    context = await browser.new_context(**options)
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_selector(".starters")
    await page.locator("#composer-text").fill(SHOWN)
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".assistant.complete", timeout=60_000)
    await page.locator(f".history [aria-current]:text-is('{SHOWN}')").wait_for(state="attached")
    await page.mouse.wheel(0, -5000)
    await asyncio.sleep(1)
    await page.screenshot(path=PICTURES / f"{name}.png")
    await context.close()


async def shoot_report(browser: Browser, url: str, link: str) -> None:
    """The figures of all users, which the one-time link opens."""
    context = await browser.new_context(**REPORT)
    page = await context.new_page()
    await page.goto(link)
    for scheme in SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        await page.goto(f"{url}/report")
        await page.wait_for_selector(".picture canvas")
        await page.screenshot(path=PICTURES / f"report-{scheme}.png")
    await context.close()


async def shoot_all(url: str, dsn: str, link: str) -> None:
    database = await asyncpg.connect(dsn)
    async with async_playwright() as driver:
        chromium = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        for question in EARLIER:
            await ask(chromium, url, question)
        for name, options in SHOTS:
            await shoot(chromium, url, name, options)
            await database.execute("delete from llm_logs.chatgpt_logs where request::text like $1", f"%{SHOWN}%")
        for table in ("chatgpt_logs", "api_logs"):
            await database.execute(f"delete from llm_logs.{table}")
        await database.execute("select setseed(0.5)")
        await database.execute(COMPANY)
        await shoot_report(chromium, url, link)
        await chromium.close()
    await database.close()


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_postgres() as server:
        dsn = server.create_database()
        async with GatewayProcess(Path(folder), {"DATABASE_URL": dsn}) as gateway:
            link = (Path(folder) / "data" / "open" / "link").read_text().strip()
            await shoot_all(gateway.url, dsn, link)


if __name__ == "__main__":
    asyncio.run(main())
