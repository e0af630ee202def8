"""`/report`: usage, cost, outcomes and times. Auditors see the figures of all users, others their own."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from gateway.edge.http.app_keys import PAGE, PRICES, READINESS, REPORTS
from gateway.edge.http.callers import caller_of
from gateway.edge.http.params import text_param
from gateway.edge.ops.page import HEADERS
from gateway.errors import CallerError
from gateway.identity.authenticators import LOCAL_USER
from gateway.store.reports import ReportQuery

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.model import Json
    from gateway.prices import Prices
    from gateway.store.reports import Figures

    Row = Mapping[str, Any]

USUAL_DAYS = 30
OUTCOMES = ("complete", "truncated", "upstream_error", "client_cancelled", "policy_blocked", "interrupted")
SUMS = ("calls", "prompt_tokens", "completion_tokens", "total_tokens", "estimated_calls", *OUTCOMES)


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(request.app[PAGE] / "report.html", headers=HEADERS)


async def figures(request: web.Request) -> web.Response:
    """GET /report/figures?from=&to=&user=&model=&title=

    All figures of the report. `from` and `to` are days in UTC, both included; by default the last 30 days.
    """
    caller = await caller_of(request)
    question = ReportQuery(caller, *_asked(request, datetime.now(UTC).date()))
    found = await request.app[REPORTS].read(question)
    readiness = request.app[READINESS].report()
    body = {**report(question, found, request.app[PRICES]), "freshness": _freshness(found, readiness.checks["journal"])}
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers={"Cache-Control": "no-store"})


def report(question: ReportQuery, found: Figures, prices: Prices) -> Json:
    """The figures in the form that the page draws. Pure."""
    of_days = [row for row in found.usage if row["is_of_day"]]
    of_users = [row for row in found.usage if not row["is_of_day"]]
    return {
        "from": question.first.isoformat(),
        "to": question.last.isoformat(),
        "is_of_everybody": question.caller.is_auditor,
        "needs_link": question.caller is LOCAL_USER,
        "totals": {
            **_sum(of_days, prices),
            "conversations": _conversations(found),
            "users": _count(of_users, "user_name"),
        },
        "days": _by(of_days, "day", prices),
        "users": _most_first(_by(of_users, "user_name", prices)),
        "models": _most_first(_by(of_days, "model", prices)),
        "conversations_by_day": [
            {"day": row["day"].isoformat(), "user_name": row["user_name"], "conversations": row["conversations"]}
            for row in found.conversations
        ],
        "largest_conversations": [
            {name: value for name, value in row.items() if name != "conversations"} for row in found.largest
        ],
        "times": [_time(row) for row in found.times],
        "policy_by_day": [
            {"day": row["day"].isoformat(), "outcome": row["outcome"], "requests": row["requests"]}
            for row in found.policy
            if row["rule"] is None
        ],
        "policy_rules": [
            {name: row[name] for name in ("rule", "outcome", "requests", "users")}
            for row in found.policy
            if row["rule"] is not None
        ],
        "choices": {
            name: [row[name] for row in found.choices if row[name]] for name in ("user_name", "model", "title")
        },
    }


def _asked(request: web.Request, today: date) -> tuple[date, date, str | None, str | None, str | None]:
    last = _day(request, "to", today)
    first = _day(request, "from", date.fromordinal(max(1, last.toordinal() - USUAL_DAYS + 1)))
    if first > last:
        raise CallerError("`from` must not come after `to`", param="from")
    user, model, title = (text_param(request, name) for name in ("user", "model", "title"))
    return first, last, user, model, title


def _day(request: web.Request, name: str, usual: date) -> date:
    given = request.query.get(name)
    if given is None:
        return usual
    try:
        return datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise CallerError(f"`{name}` must be a day such as 2026-01-31", param=name) from error


def _freshness(found: Figures, journal: Mapping[str, Any]) -> Json:
    """The age of the figures: rows that are not added up yet, and records that are not stored yet."""
    newest = found.newest
    return {
        "newest_row": newest.isoformat() if newest is not None else None,
        "is_behind": found.is_behind,
        "waiting": journal.get("pending", 0),
        "waiting_s": journal.get("oldest_s", 0.0),
    }


def _by(rows: Iterable[Row], name: str, prices: Prices) -> list[Json]:
    """Sums of the rows grouped by one column, in the order in which its values first occur."""
    groups: defaultdict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[name]].append(row)
    return [
        {name: key.isoformat() if isinstance(key, date) else key, **_sum(members, prices)}
        for key, members in groups.items()
    ]


def _sum(rows: Iterable[Row], prices: Prices) -> Json:
    """Sums of rows. `cost_usd` is null when no price is known; `unpriced_tokens` are not part of it.

    A row has its own cost; rows of a seed system, and rows from before a price was known, get today's price."""
    sums: Json = dict.fromkeys(SUMS, 0)
    cost: float | None = None
    unpriced = 0
    for row in rows:
        for name in SUMS:
            sums[name] += row[name]
        if row["cost_usd"] is not None:
            cost = (cost or 0.0) + row["cost_usd"]
        price = prices.price_of(row["model"])
        if price is None:
            unpriced += row["open_tokens"]
        elif row["open_tokens"]:
            cost = (cost or 0.0) + price.cost(row["open_prompt_tokens"], row["open_completion_tokens"])
    sums["refused"] = sums["calls"] - sum(sums[outcome] for outcome in OUTCOMES)  # every other call has one of these
    return {**sums, "cost_usd": cost, "unpriced_tokens": unpriced}


def _most_first(groups: list[Json]) -> list[Json]:
    return sorted(groups, key=lambda group: -int(group["total_tokens"]))


def _time(row: Row) -> Json:
    """A row of times; null as `day` or `model` stands for all of them."""
    day = row["day"]
    return {
        "day": day.isoformat() if day is not None else None,
        "model": row["model"],
        "measure": row["measure"],
        "chats": row["chats"],
        "p50_ms": row["p50_ms"],
        "p95_ms": row["p95_ms"],
    }


def _conversations(found: Figures) -> int:
    return next((int(row["conversations"]) for row in found.largest), 0)


def _count(rows: Iterable[Row], name: str) -> int:
    return len({row[name] for row in rows})
