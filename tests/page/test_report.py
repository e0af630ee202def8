"""The report in a real browser: its figures are those of the rows, and anybody can read and keep them."""

from __future__ import annotations

import csv
import io
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.edge.house import BY_HEADER, House, open_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from tests.postgres import PostgresServer

# One browser and one house for all of these tests, so they share their loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

AXE = Path(__file__).parent / "axe" / "axe.min.js"
ROWS = """
insert into llm_logs.chatgpt_logs (
    request, user_name, title, response_time, root_gpt_id, convo_title, model, outcome, prompt_tokens,
    completion_tokens, duration_ms, first_token_ms
)
select
    '{}', case when n % 9 = 0 then '=cmd|''calc''!A1' else 'user ' || n % 11 end, 'title ' || n % 2,
    (now() at time zone 'utc')::date - interval '1 day' * (n % 25), 'root ' || n / 4, 'About ' || n / 4,
    (array['gpt-4o', 'claude-sonnet-4-5', 'demo'])[1 + n / 4 % 3],
    (array['complete', 'complete', 'complete', 'upstream_error', 'policy_blocked'])[1 + n % 5],
    100 + n * 37 % 900, 50 + n * 53 % 500, 800 + n * 131 % 9000, 90 + n * 71 % 900
from generate_series(1, 400) as n
"""
