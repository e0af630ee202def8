"""Every URL on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gateway.edge import chat, health, openai, page

if TYPE_CHECKING:
    from collections.abc import Iterable


def routes() -> Iterable[web.AbstractRouteDef]:
    return (
        web.post("/v1/chat/completions", openai.chat_completions),
        web.post("/v1/responses", openai.responses),
        web.route("*", "/v1/{path:.*}", openai.anything),
        web.post("/chat", chat.chat),
        web.post("/chat/{id}/stop", chat.stop),
        web.get("/healthz", health.healthz),
        web.get("/readyz", health.readyz),
        web.get("/", page.index),
        web.get("/static/{path:.+}", page.asset),
    )
