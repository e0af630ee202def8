"""What the handlers reach in the application, by typed key. `app.py` puts it there."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from gateway.edge.guard import Guard
from gateway.edge.live import Live
from gateway.exchange import Exchange
from gateway.identity.identity import Identity
from gateway.ids import Ids
from gateway.readiness import Readiness
from gateway.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
IDS = web.AppKey("ids", Ids)
GUARD = web.AppKey("guard", Guard)
IDENTITY = web.AppKey("identity", Identity)
EXCHANGE = web.AppKey("exchange", Exchange)
LIVE = web.AppKey("live", Live)
READINESS = web.AppKey("readiness", Readiness)
PAGE = web.AppKey("page", Path)
