"""Every URL on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gateway.edge import chat, docs, health, keys_admin, openai, page

if TYPE_CHECKING:
    from collections.abc import Iterable

# HEAD comes with GET. Not TRACE: an upstream that answers it would show the credential that it is called with.
PASSED_ON = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def routes() -> Iterable[web.AbstractRouteDef]:
    return (
        web.post("/v1/chat/completions", openai.chat_completions),
        web.post("/v1/responses", openai.responses),
        *(web.route(method, "/v1/{path:.*}", openai.anything) for method in PASSED_ON),
        web.post("/chat", chat.chat),
        web.post("/chat/{id}/stop", chat.stop),
        web.get("/keys", keys_admin.list_own),
        web.get("/admin/keys", keys_admin.list_all),
        web.post("/admin/keys", keys_admin.create),
        web.delete("/admin/keys/{id}", keys_admin.revoke),
        web.get("/healthz", health.healthz),
        web.get("/readyz", health.readyz),
        web.get("/", page.index),
        web.get("/docs", docs.page),
        web.get("/openapi.json", docs.openapi),
        web.get("/static/{path:.+}", page.asset),
    )
