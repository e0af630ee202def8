"""Every URL on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gateway.edge import openai
from gateway.edge.admin import audit, keys, one_time_link, own_keys, reports
from gateway.edge.chats import chat, conversations, history, images, recovery, resume, summaries
from gateway.edge.ops import docs, health, metrics, page

if TYPE_CHECKING:
    from collections.abc import Iterable


def routes() -> Iterable[web.AbstractRouteDef]:
    return (
        web.post("/v1/chat/completions", openai.chat_completions),
        web.post("/v1/responses", openai.responses),
        *(web.route(method, "/v1/{path:.*}", openai.anything) for method in openai.COMMON_METHODS),
        web.route("*", "/v1/{path:.*}", openai.any_method),
        web.post("/chat", chat.chat),
        web.get("/chat/running", resume.running),
        web.get("/chat/{id}", recovery.show),
        web.get("/chat/{id}/stream", resume.resume, allow_head=False),
        web.post("/chat/{id}/stop", chat.stop),
        web.post("/checkchat", recovery.recover),
        web.post("/update_title", conversations.update_title),
        web.post("/update_title_openai", summaries.update_title_openai),
        web.post("/metadata_check", summaries.metadata_check),
        web.get("/history", history.history),
        web.get("/history_v2", history.conversations),
        web.post("/remove_convo", conversations.remove),
        web.post("/restore_convo", conversations.restore),
        web.post("/image_gen", images.image_gen),
        web.get("/keys", own_keys.list_own),
        web.post("/keys", own_keys.create),
        web.delete("/keys/{id}", own_keys.revoke),
        web.get("/admin/keys", keys.list_all),
        web.post("/admin/keys", keys.create),
        web.delete("/admin/keys/{id}", keys.revoke),
        web.get("/ping", health.ping),
        web.get("/healthz", health.healthz),
        web.get("/readyz", health.readyz),
        web.get("/metrics", metrics.metrics),
        web.get("/", page.index),
        web.get("/page.json", page.config),
        web.get("/open", one_time_link.open_once, allow_head=False),
        web.get("/report", reports.page),
        web.get("/report/figures", reports.figures),
        web.get("/live", audit.page),
        web.get("/live/events", audit.events, allow_head=False),
        web.get("/live/search", audit.search),
        web.get("/live/conversations/{id}", audit.conversation),
        web.get("/docs", docs.page),
        web.get("/openapi.json", docs.openapi),
        web.get("/static/{path:.+}", page.asset),
    )
