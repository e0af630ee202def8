"""What the handlers reach in the application, by typed key. `app.py` puts it there."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from gateway.edge.http.origin_check import Guard
from gateway.exchange.exchange import Exchange
from gateway.health.readiness import Readiness
from gateway.identity.authenticators import Identity
from gateway.identity.one_time_link import OneTimeLinks
from gateway.ids import Ids
from gateway.in_flight.in_flight import Live
from gateway.in_flight.live_tail import Watchers
from gateway.in_flight.recent import RecentAnswers
from gateway.in_flight.replay import Room
from gateway.in_flight.snapshot import Underway
from gateway.peers.metrics import Scrape
from gateway.peers.peers import Siblings
from gateway.prices import Prices
from gateway.settings.settings import Settings
from gateway.store.answers import Answers
from gateway.store.audit import Audit
from gateway.store.conversation_settings import ConversationSettings
from gateway.store.history import History
from gateway.store.reports import Reports
from gateway.store.summaries import Summaries
from gateway.telemetry.metrics import Metrics

SETTINGS = web.AppKey("settings", Settings)
IDS = web.AppKey("ids", Ids)
GUARD = web.AppKey("guard", Guard)
IDENTITY = web.AppKey("identity", Identity)
LINKS = web.AppKey("one-time links", OneTimeLinks)
EXCHANGE = web.AppKey("exchange", Exchange)
LIVE = web.AppKey("live", Live)
READINESS = web.AppKey("readiness", Readiness)
METRICS = web.AppKey("metrics", Metrics)
SCRAPE = web.AppKey("scrape", Scrape)
SIBLINGS = web.AppKey("siblings", Siblings)
RECENT = web.AppKey("recent answers", RecentAnswers)
ROOM = web.AppKey("room for replays", Room)
HISTORY = web.AppKey("history", History)
ANSWERS = web.AppKey("answers", Answers)
CONVERSATION_SETTINGS = web.AppKey("conversation settings", ConversationSettings)
REPORTS = web.AppKey("reports", Reports)
AUDIT = web.AppKey("audit", Audit)
WATCHERS = web.AppKey("watchers", Watchers)
UNDERWAY = web.AppKey("underway", Underway)
SUMMARIES = web.AppKey("summaries", Summaries)
PRICES = web.AppKey("prices", Prices)
PAGE = web.AppKey("page", Path)
