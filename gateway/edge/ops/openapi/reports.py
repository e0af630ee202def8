"""The report in the document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.components import answer, headers
from gateway.edge.ops.openapi.errors import refusals
from gateway.model import PolicyOutcome

if TYPE_CHECKING:
    from gateway.model import Json

_COUNT: Json = {"type": "integer", "minimum": 0}
_NAME: Json = {"type": "string", "description": "Empty: not known."}
_NAMES: Json = {"type": "array", "items": {"type": "string"}}
_DAY: Json = {"type": "string", "format": "date", "description": "UTC."}
_POLICY_OUTCOME: Json = {"enum": list(PolicyOutcome)}
_DAY_OR_NULL: Json = {**_DAY, "type": ["string", "null"]}

_SUMS: Json = {
    "calls": _COUNT,
    "prompt_tokens": _COUNT,
    "completion_tokens": _COUNT,
    "total_tokens": _COUNT,
    "estimated_calls": {**_COUNT, "description": "Calls whose tokens are an estimate."},
    "complete": _COUNT,
    "truncated": _COUNT,
    "upstream_error": _COUNT,
    "client_cancelled": _COUNT,
    "policy_blocked": _COUNT,
    "interrupted": _COUNT,
    "refused": {**_COUNT, "description": "Calls that the gateway refused, such as for their model."},
    "cost_usd": {
        "type": ["number", "null"],
        "description": "By the prices of the time, or today's for calls stored without one; null: none is known.",
    },
    "unpriced_tokens": {
        **_COUNT,
        "description": "Tokens of models whose price is not known; the cost is without them.",
    },
}


def _rows(more: Json, base: Json = _SUMS) -> Json:
    properties = {**more, **base}
    return {
        "type": "array",
        "items": {"type": "object", "required": list(properties), "properties": properties},
    }


_PROPERTIES: Json = {
    "from": _DAY,
    "to": _DAY,
    "is_of_everybody": {"type": "boolean", "description": "Else of the caller alone."},
    "needs_link": {"type": "boolean", "description": "Whether a one-time link would show everybody's."},
    "totals": {
        "type": "object",
        "required": [*_SUMS, "conversations", "users"],
        "properties": {**_SUMS, "conversations": _COUNT, "users": _COUNT},
    },
    "days": _rows({"day": _DAY}),
    "users": _rows({"user_name": _NAME}),
    "models": _rows({"model": _NAME}),
    "conversations_by_day": _rows(
        {
            "day": _DAY,
            "user_name": {"type": ["string", "null"], "description": "Null: all but those with the most of them."},
            "conversations": _COUNT,
        },
        {},
    ),
    "largest_conversations": _rows(
        {
            "user_name": _NAME,
            "conversation": {"type": "string"},
            "convo_title": {"type": ["string", "null"]},
            "chats": _COUNT,
            "prompt_tokens": _COUNT,
            "completion_tokens": _COUNT,
            "total_tokens": _COUNT,
        },
        {},
    ),
    "times": _rows(
        {
            "day": _DAY_OR_NULL,
            "model": {"type": ["string", "null"], "description": "Null, as `day`: of all."},
            "measure": {"enum": ["duration", "first_token"]},
            "chats": _COUNT,
            "p50_ms": {"type": "number", "description": "Half of them were quicker; within 2.5 %."},
            "p95_ms": {"type": "number"},
        },
        {},
    ),
    "policy_by_day": _rows({"day": _DAY, "outcome": _POLICY_OUTCOME, "requests": _COUNT}, {}),
    "policy_rules": _rows(
        {"rule": {"type": "string"}, "outcome": _POLICY_OUTCOME, "requests": _COUNT, "users": _COUNT}, {}
    ),
    "choices": {
        "type": "object",
        "description": "What there is to filter by in these days.",
        "required": ["user_name", "model", "title"],
        "properties": {"user_name": _NAMES, "model": _NAMES, "title": _NAMES},
    },
    "freshness": {
        "type": "object",
        "required": ["newest_row", "is_behind", "waiting", "waiting_s"],
        "properties": {
            "newest_row": {"type": ["string", "null"], "format": "date-time", "description": "The newest that counts."},
            "is_behind": {"type": "boolean", "description": "More is stored than is added up here yet."},
            "waiting": {**_COUNT, "description": "Records in this process' journal that are not stored yet."},
            "waiting_s": {"type": "number", "description": "Age of the oldest of them, in seconds."},
        },
    },
}
SCHEMAS: Json = {"Report": {"type": "object", "required": list(_PROPERTIES), "properties": _PROPERTIES}}

_A_SUM: Json = {
    "calls": 2,
    "prompt_tokens": 12,
    "completion_tokens": 30,
    "total_tokens": 42,
    "estimated_calls": 0,
    "complete": 2,
    "truncated": 0,
    "upstream_error": 0,
    "client_cancelled": 0,
    "policy_blocked": 0,
    "interrupted": 0,
    "refused": 0,
    "cost_usd": 0.00033,
    "unpriced_tokens": 0,
}
_CONVERSATION: Json = {
    "user_name": "anna@example.com",
    "conversation": "01997b3c-64f1-7000-8000-000000000001",
    "convo_title": "Greetings",
    "chats": 2,
    "prompt_tokens": 12,
    "completion_tokens": 30,
    "total_tokens": 42,
}
_TIME: Json = {"day": None, "model": None, "measure": "duration", "chats": 2, "p50_ms": 812.0, "p95_ms": 2981.0}
_REPORT: Json = {
    "from": "2026-09-10",
    "to": "2026-10-09",
    "is_of_everybody": True,
    "needs_link": False,
    "totals": {**_A_SUM, "conversations": 1, "users": 1},
    "days": [{"day": "2026-10-09", **_A_SUM}],
    "users": [{"user_name": "anna@example.com", **_A_SUM}],
    "models": [{"model": "gpt-4o", **_A_SUM}],
    "conversations_by_day": [{"day": "2026-10-09", "user_name": "anna@example.com", "conversations": 1}],
    "largest_conversations": [_CONVERSATION],
    "times": [_TIME],
    "policy_by_day": [{"day": "2026-10-09", "outcome": "masked", "requests": 1}],
    "policy_rules": [{"rule": "card numbers", "outcome": "masked", "requests": 1, "users": 1}],
    "choices": {"user_name": ["anna@example.com"], "model": ["gpt-4o"], "title": ["Analyst"]},
    "freshness": {"newest_row": "2026-10-09T08:53:20+00:00", "is_behind": False, "waiting": 0, "waiting_s": 0.0},
}


def _query(name: str, description: str, of: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": of}


_FILTER: Json = {"type": "string", "maxLength": 512}

PATHS: Json = {
    "/report": {
        "get": {
            "operationId": "showReport",
            "tags": ["Page"],
            "summary": "The report, to look at",
            "security": [],
            "responses": {
                "200": {"description": "The page.", "headers": headers(), "content": {"text/html": {}}},
                **refusals(),
            },
        }
    },
    "/report/figures": {
        "get": {
            "operationId": "getReport",
            "tags": ["Report"],
            "summary": "What was used, by whom, at what cost and how well",
            "description": "Auditors get everybody's figures, others their own. Days are UTC's.",
            "parameters": [
                _query("from", "The first day; 29 days before the last one if it is not given.", _DAY),
                _query("to", "The last day, which counts, too; today if it is not given.", _DAY),
                _query("user", "Only this user's.", _FILTER),
                _query("model", "Only of this model.", _FILTER),
                _query("title", "Only of users with this job title.", _FILTER),
            ],
            "responses": {"200": answer("The figures.", "Report", _REPORT), **refusals(400, 401)},
        }
    },
}
