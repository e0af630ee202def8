"""What the handlers reach in the application, by typed key. `app.py` puts it there."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from gateway.edge.http.origin_check import OriginCheck
from gateway.exchange.exchange import Exchange
from gateway.health.readiness import Readiness
from gateway.identity.authenticators import Authenticators
from gateway.identity.one_time_link import OneTimeLinks
from gateway.ids import Ids
from gateway.in_flight.in_flight import InFlight
from gateway.in_flight.live_tail import LiveTail
from gateway.in_flight.recent import RecentAnswers
from gateway.in_flight.replay import MemoryBudget
from gateway.in_flight.snapshot import InFlightSnapshot
from gateway.peers.metrics import PeerMetrics
from gateway.peers.peers import Peers
from gateway.prices import Prices
from gateway.settings import Settings
from gateway.store.answers import Answers
from gateway.store.audit import Audit
from gateway.store.conversation_settings import ConversationSettings
from gateway.store.history import History
from gateway.store.reports import Reports
from gateway.store.summaries import Summaries
from gateway.telemetry.metrics import Metrics

SETTINGS = web.AppKey("settings", Settings)
IDS = web.AppKey("ids", Ids)
GUARD = web.AppKey("guard", OriginCheck)
IDENTITY = web.AppKey("identity", Authenticators)
LINKS = web.AppKey("one-time links", OneTimeLinks)
EXCHANGE = web.AppKey("exchange", Exchange)
LIVE = web.AppKey("live", InFlight)
READINESS = web.AppKey("readiness", Readiness)
METRICS = web.AppKey("metrics", Metrics)
SCRAPE = web.AppKey("scrape", PeerMetrics)
SIBLINGS = web.AppKey("siblings", Peers)
RECENT = web.AppKey("recent answers", RecentAnswers)
ROOM = web.AppKey("room for replays", MemoryBudget)
HISTORY = web.AppKey("history", History)
ANSWERS = web.AppKey("answers", Answers)
CONVERSATION_SETTINGS = web.AppKey("conversation settings", ConversationSettings)
REPORTS = web.AppKey("reports", Reports)
AUDIT = web.AppKey("audit", Audit)
WATCHERS = web.AppKey("watchers", LiveTail)
UNDERWAY = web.AppKey("underway", InFlightSnapshot)
SUMMARIES = web.AppKey("summaries", Summaries)
PRICES = web.AppKey("prices", Prices)
PAGE = web.AppKey("page", Path)
