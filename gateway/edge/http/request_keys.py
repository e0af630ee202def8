"""What a request carries through the edge, by typed key."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from gateway.exchange.context import RequestContext

ID = web.RequestKey("id", UUID)  # of the interaction, if it becomes one
REQUEST_ID = web.RequestKey("request id", str)
CONTEXT = web.RequestKey("talk", RequestContext)
IS_DETACHED = web.RequestKey("is detached", bool)  # the caller left; the log line is written when the answer is over
FOLLOWED = web.RequestKey("followed", RequestContext)  # somebody's running answer, which this request only watches
