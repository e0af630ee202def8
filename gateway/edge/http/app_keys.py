"""Typed keys of the objects that handlers get from the application; `app.py` sets them."""

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
from gateway.in_flight.locator import Locator
from gateway.in_flight.recent import RecentAnswers
from gateway.in_flight.replay import MemoryBudget
from gateway.in_flight.snapshot import InFlightSnapshot
from gateway.peers.metrics import PeerMetrics
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
ORIGIN_CHECK = web.AppKey("origin check", OriginCheck)
IDENTITY = web.AppKey("identity", Authenticators)
LINKS = web.AppKey("one-time links", OneTimeLinks)
EXCHANGE = web.AppKey("exchange", Exchange)
IN_FLIGHT = web.AppKey("in flight", InFlight)
READINESS = web.AppKey("readiness", Readiness)
METRICS = web.AppKey("metrics", Metrics)
PEER_METRICS = web.AppKey("metrics of all workers", PeerMetrics)
LOCATOR = web.AppKey("locator", Locator)
RECENT = web.AppKey("recent answers", RecentAnswers)
REPLAY_BUDGET = web.AppKey("memory of replay buffers", MemoryBudget)
HISTORY = web.AppKey("history", History)
ANSWERS = web.AppKey("answers", Answers)
CONVERSATION_SETTINGS = web.AppKey("conversation settings", ConversationSettings)
REPORTS = web.AppKey("reports", Reports)
AUDIT = web.AppKey("audit", Audit)
LIVE_TAIL = web.AppKey("live tail", LiveTail)
SNAPSHOT = web.AppKey("in-flight snapshot", InFlightSnapshot)
SUMMARIES = web.AppKey("summaries", Summaries)
PRICES = web.AppKey("prices", Prices)
PAGE = web.AppKey("page", Path)
