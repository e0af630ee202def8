"""Typed keys of the values that the edge stores in a request."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from gateway.exchange.context import RequestContext

ID = web.RequestKey("id", UUID)  # of the interaction, if the request becomes one
REQUEST_ID = web.RequestKey("request id", str)
CONTEXT = web.RequestKey("context", RequestContext)
IS_DETACHED = web.RequestKey("is detached", bool)  # the caller left; the log line is written when the answer is over
FOLLOWED = web.RequestKey("followed", RequestContext)  # the running answer that this request only reads
