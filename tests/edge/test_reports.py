"""What `/report/figures` answers: to whom, about which days, and at what cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.edge.admin.reports import report
from gateway.edge.ops.openapi import document
from gateway.model import Principal, Role
from gateway.prices import Prices
from gateway.store.reports import Figures, ReportQuery
from tests.edge.test_openapi import is_fitting

if TYPE_CHECKING:
    from gateway.model import Json

TODAY = datetime.now(UTC).date()
PRICES = Prices()
AUDITOR = Principal("eve", roles=frozenset((Role.AUDITOR,)))


def cell(**more: Any) -> Json:
    """A row of usage as the store gives it."""
    tokens = more.pop("tokens", (0, 0))
    cost = more.get("cost_usd")
    still_open = (0, 0) if cost is not None else tokens
    names = ("truncated", "upstream_error", "client_cancelled", "policy_blocked", "interrupted", "estimated_calls")
    return {
        **dict.fromkeys(names, 0),
        "is_of_day": True,
        "day": TODAY,
        "user_name": None,
        "model": "gpt-4o",
        "calls": 1,
        "complete": 1,
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "total_tokens": sum(tokens),
        "open_prompt_tokens": still_open[0],
        "open_completion_tokens": still_open[1],
        "open_tokens": sum(still_open),
        "cost_usd": None,
        "last_at": datetime.now(UTC),
        **more,
    }


def made(*usage: Json, prices: Prices = PRICES) -> Json:
    question = ReportQuery(AUDITOR, TODAY - timedelta(7), TODAY)
    return report(question, Figures(usage, (), (), (), (), (), is_behind=False), prices)


def test_a_cost_is_that_of_the_list_for_each_kind_of_token() -> None:
    price = PRICES.price_of("gpt-4o")
    assert price is not None
    assert price == PRICES.price_of("openai/gpt-4o")
    found = made(cell(tokens=(3_000_000, 1_000_000)))["totals"]
    assert found["cost_usd"] == pytest.approx(3_000_000 * price.prompt + 1_000_000 * price.completion)
    assert found["unpriced_tokens"] == 0


def test_a_model_without_a_price_costs_null_and_its_tokens_are_told() -> None:
    assert PRICES.price_of("demo") is None
    found = made(cell(model="demo", tokens=(7, 5)))
    assert found["totals"]["cost_usd"] is None
    assert found["totals"]["unpriced_tokens"] == 12
    assert found["models"][0]["cost_usd"] is None
    mixed = made(cell(model="demo", tokens=(7, 5)), cell(tokens=(1000, 0)))["totals"]
    assert mixed["cost_usd"] > 0
    assert mixed["unpriced_tokens"] == 12


def test_a_price_that_the_row_says_wins_over_the_list() -> None:
    assert made(cell(cost_usd=0.5, tokens=(1_000_000, 0)))["totals"]["cost_usd"] == 0.5


def test_the_companys_own_price_wins_over_the_list_and_may_be_nothing() -> None:
    own = Prices((("gpt-4o", (1.0, 1.0, 2.0)), ("demo", (0.0, 0.0, 0.0))))
    found = made(cell(tokens=(1_000_000, 1_000_000)), cell(model="demo", tokens=(7, 5)), prices=own)["totals"]
    assert (found["cost_usd"], found["unpriced_tokens"]) == (3.0, 0)


def test_rows_are_added_up_by_day_model_and_user() -> None:
    found = made(
        cell(tokens=(1, 2)),
        cell(model="demo", tokens=(10, 20)),
        cell(is_of_day=False, day=None, user_name="ann", tokens=(1, 2)),
        cell(is_of_day=False, day=None, user_name="bob", model="demo", tokens=(10, 20)),
    )
    assert [(row["day"], row["total_tokens"]) for row in found["days"]] == [(TODAY.isoformat(), 33)]
    assert [(row["model"], row["total_tokens"]) for row in found["models"]] == [("demo", 30), ("gpt-4o", 3)]
    assert [(row["user_name"], row["total_tokens"]) for row in found["users"]] == [("bob", 30), ("ann", 3)]
    assert found["totals"]["users"] == 2
    assert is_fitting(
        document(),
        document()["components"]["schemas"]["Report"],
        {**found, "freshness": {"newest_row": None, "is_behind": False, "waiting": 0, "waiting_s": 0.0}},
    )
