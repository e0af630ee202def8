"""Health, metrics, the page and this document itself, in the document. Only metrics ask who you are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.components import answer, headers, parameter
from gateway.edge.ops.openapi.errors import refusals

if TYPE_CHECKING:
    from gateway.model import Json

_READY: Json = {
    "status": "ready",
    "draining": False,
    "upstream": "demo",
    "postgres": "ok",
    "database": {"detail": None, "server": "16.4", "schema": "0008", "known_schema": "0008", "is_pooled": False},
    "journal": {"refusal": None},
}

_PAGE: Json = {
    "gateway": ".",
    "api": "gateway",
    "name": "LLM gateway",
    "auth": ["keys"],
    "policy_url": "https://intranet.example/llm-policy",
    "token_url": None,
    "own_keys_s": 43200,
    "report_url": "report",
    "docs_url": "docs",
    "default_model": None,
    "use_cases": [{"name": "Translator", "prompt": "Translate what you are given into English.", "description": ""}],
}
_LINK: Json = {"type": ["string", "null"]}

SCHEMAS: Json = {
    "PageConfig": {
        "type": "object",
        "required": list(_PAGE),
        "properties": {
            "gateway": {"type": "string", "description": "Whom the page asks; `.`: the gateway that serves it."},
            "api": {"enum": ["gateway", "openai"]},
            "name": {"type": "string"},
            "auth": {"type": "array", "items": {"enum": ["open", "keys", "jwt", "header"]}},
            "policy_url": _LINK,
            "token_url": _LINK,
            "own_keys_s": {
                "type": ["number", "null"],
                "description": "How long a key lasts that users make for themselves; null: they make none.",
            },
            "report_url": _LINK,
            "docs_url": _LINK,
            "default_model": _LINK,
            "use_cases": {
                "type": "array",
                "description": "Empty: those that the page brings along.",
                "items": {
                    "type": "object",
                    "required": ["name", "prompt", "description"],
                    "properties": {name: {"type": "string"} for name in ("name", "prompt", "description")},
                },
            },
        },
    },
    "Alive": {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}},
    "Pong": {"type": "object", "required": ["message"], "properties": {"message": {"const": "pong"}}},
    "Readiness": {
        "type": "object",
        "required": ["status"],
        "description": "A probe gets `status` alone; the rest is for those who may read `/metrics`.",
        "properties": {
            "status": {"enum": ["ready", "not ready"]},
            "draining": {"type": "boolean", "description": "The gateway is shutting down."},
            "upstream": {"type": "string", "description": "Where models are asked: a URL, or `demo`."},
            "postgres": {
                "enum": ["ok", "away", "read-only", "unprepared"],
                "description": "Unprepared: it answers, but its schema is not this gateway's yet, or cannot become it; "
                "`database.detail` says why. None counts against readiness: the journal keeps what is said.",
            },
            "database": {
                "type": "object",
                "description": "Why it is not ok, or what is odd; versions of the server, of its schema, and of the "
                "schema that this gateway knows; whether a connection pooler stands in front.",
            },
            "journal": {"type": "object", "description": "Its size, what waits in it, and why it refuses, if so."},
            "submissions": {
                "type": "object",
                "description": "The security monitor, if there is one: whether it is away, what was delivered, what "
                "waits aside, and how many dead letters there are. Does not count against readiness.",
            },
        },
    },
}


def _open(operation_id: str, tag: str, summary: str, responses: Json, *parameters: Json) -> Json:
    return {
        "operationId": operation_id,
        "tags": [tag],
        "summary": summary,
        "security": [],
        **({"parameters": list(parameters)} if parameters else {}),
        "responses": responses,
    }


def _file(kind: str) -> Json:
    return {"description": "The file.", "headers": headers(), "content": {kind: {}}}


PATHS: Json = {
    "/healthz": {
        "get": _open(
            "isAlive",
            "Health",
            "Whether the process lives",
            {"200": answer("It does.", "Alive", {"status": "ok"}), **refusals()},
        )
    },
    "/ping": {
        "get": _open(
            "ping",
            "Health",
            "Whether the process lives, as the seed system tells it",
            {"200": answer("It does.", "Pong", {"message": "pong"}), **refusals()},
        )
    },
    "/readyz": {
        "get": _open(
            "isReady",
            "Health",
            "Whether requests can be served now",
            {
                "200": answer("They can.", "Readiness", _READY),
                "503": answer(
                    "They would be refused: the journal is full, or the gateway is shutting down.",
                    "Readiness",
                    {**_READY, "status": "not ready", "journal": {"refusal": "the disk is full"}},
                ),
            },
        )
    },
    "/metrics": {
        "get": {
            "operationId": "getMetrics",
            "tags": ["Health"],
            "summary": "Figures for Prometheus",
            # The settings may let in without.
            "security": [{}, {"bearer": []}, {"x-api-key": []}, {"api-key": []}, {"session": []}],
            "description": "Of all workers of this host. For auditors, admins, and those whom the settings "
            "`metrics.token` and `metrics.networks` let in.",
            "responses": {
                "200": {
                    "description": "As OpenMetrics if `Accept` names it, else as Prometheus' own text.",
                    "headers": headers(),
                    "content": {"text/plain": {}, "application/openmetrics-text": {}},
                },
                **refusals(401, 403),
            },
        }
    },
    "/": {"get": _open("showPage", "Page", "The chat page", {"200": _file("text/html"), **refusals()})},
    "/page.json": {
        "get": _open(
            "getPageConfig",
            "Page",
            "What the chat page is set to show",
            {"200": answer("As the settings say.", "PageConfig", _PAGE), **refusals()},
        )
    },
    "/open": {
        "get": _open(
            "useOneTimeLink",
            "Page",
            "Open live page, report and keys in this browser, where nobody logs in",
            {
                "303": {"description": "To the live page, with the session's cookie.", "headers": headers()},
                **refusals(403, 404, 503),
            },
            {
                "name": "token",
                "in": "query",
                "required": True,
                "description": "As in the link that the gateway prints when it starts; it counts once, for an hour.",
                "schema": {"type": "string"},
            },
        )
    },
    "/docs": {"get": _open("showDocs", "Page", "This document, to read", {"200": _file("text/html"), **refusals()})},
    "/openapi.json": {
        "get": _open("getOpenapi", "Page", "This document", {"200": _file("application/json"), **refusals()})
    },
    "/static/{path}": {
        "get": _open(
            "getAsset", "Page", "A file of the pages", {"200": _file("*/*"), **refusals(404)}, parameter("file")
        )
    },
}
