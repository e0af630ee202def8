"""The composition root: everything is made here, handed to what needs it, and closed in the opposite order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiohttp import web

from gateway import __version__
from gateway.edge.admin.keys import KEY_OFFICE
from gateway.edge.chats.peer_answers import PeerAnswers
from gateway.edge.chats.peer_app import peer_app
from gateway.edge.http.app_keys import (
    ANSWERS,
    AUDIT,
    CONVERSATION_SETTINGS,
    EXCHANGE,
    HISTORY,
    IDENTITY,
    IDS,
    IN_FLIGHT,
    LINKS,
    LIVE_TAIL,
    LOCATOR,
    METRICS,
    ORIGIN_CHECK,
    PAGE,
    PEER_ANSWERS,
    PEER_METRICS,
    PRICES,
    READINESS,
    RECENT,
    REPLAY_BUDGET,
    REPORTS,
    SETTINGS,
    SNAPSHOT,
    SUMMARIES,
)
from gateway.edge.http.cors import allow_origins
from gateway.edge.http.log_line import InteractionFields
from gateway.edge.http.middlewares import one_line_per_request
from gateway.edge.http.origin_check import OriginCheck
from gateway.edge.routes import routes
from gateway.embedded_postgres.server import EmbeddedPostgres
from gateway.exchange.exchange import Exchange
from gateway.exchange.gates import ModelPermission
from gateway.exchange.metrics_observer import MetricsObserver
from gateway.exchange.options import ExchangeOptions
from gateway.health.database_watch import START_S, DatabaseWatch
from gateway.health.gauges import Gauges, LoadGauges
from gateway.health.hosts import HostWatch
from gateway.health.maintenance import maintenance_tasks
from gateway.health.readiness import Readiness
from gateway.identity.authenticators import Authenticators
from gateway.identity.key_service import KeyService
from gateway.identity.modes import open_authentication
from gateway.identity.one_time_link import OneTimeLinks
from gateway.ids import Ids
from gateway.in_flight.in_flight import InFlight
from gateway.in_flight.live_tail import LiveTail
from gateway.in_flight.locator import Locator
from gateway.in_flight.recent import RecentAnswers
from gateway.in_flight.replay import MemoryBudget
from gateway.in_flight.shutdown_gate import ShutdownGate
from gateway.in_flight.snapshot import InFlightSnapshot
from gateway.journal import archive
from gateway.journal.host_id import this_host
from gateway.journal.journal import Journal
from gateway.peers.metrics import PeerMetrics
from gateway.peers.peers import Peers, WorkerIdentity
from gateway.policy.engine import Policy
from gateway.prices import Prices
from gateway.providers.routing import Catalogue
from gateway.relay.ticker import Ticker
from gateway.resources import resource_folder
from gateway.shipping.edit_log import EditLog
from gateway.shipping.shipper import Shipper
from gateway.shipping.sink import open_sinks
from gateway.store.answers import Answers
from gateway.store.audit import Audit
from gateway.store.change_feed import ChangeFeed
from gateway.store.conversation_settings import ConversationSettings
from gateway.store.history import History
from gateway.store.hosts import Hosts
from gateway.store.interactions import Interactions
from gateway.store.keys import Keys
from gateway.store.partitions import Partitions
from gateway.store.pool import Database
from gateway.store.reports import Reports
from gateway.store.summaries import Summaries
from gateway.submissions.submissions import Submissions, open_submissions
from gateway.telemetry.dropped import DroppedHeaders
from gateway.telemetry.loop_lag import LoopLag
from gateway.telemetry.metrics import Metrics
from gateway.transport.headers import RequestHeaders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client import Metric

    from gateway.exchange.recording import BeginEntry
    from gateway.settings import Settings
    from gateway.shipping.sink import OpenSink

NO_RULES = Policy()
# The sinks beside PostgreSQL, one row each; a row yields None if the settings do not name its sink.
SINKS: tuple[OpenSink, ...] = (open_submissions,)
LEAST_SKEW_S = 0.02  # what is less may be the measurement's own
SHIP_AT_END_S = 10.0  # what is not in Postgres by then waits in the journal for the next start


def build_app(
    settings: Settings, begin: BeginEntry | None = None, seat: WorkerIdentity | None = None, policy: Policy = NO_RULES
) -> web.Application:
    """The application of one process; `seat` says which of its supervisor's workers it is. `begin` replaces the
    journal's, which is not opened then: the benchmark measures by it what the log costs."""
    app = web.Application(middlewares=[one_line_per_request])
    app[SETTINGS] = settings
    app[IDS] = Ids()
    app[IDENTITY] = Authenticators(is_open=settings.auth.is_open)
    app[ORIGIN_CHECK] = OriginCheck(settings)
    app[LINKS] = OneTimeLinks(settings.data_dir / "open")
    app[IN_FLIGHT] = InFlight()
    app[METRICS] = Metrics()
    app[RECENT] = RecentAnswers()
    app[REPLAY_BUDGET] = MemoryBudget()
    app[PAGE] = resource_folder("static").resolve()
    app.add_routes(routes())
    allow_origins(app, settings.page.allowed_origins)

    async def house(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _furnish(app, settings, begin, seat or WorkerIdentity(), policy, stack)
            yield

    app.cleanup_ctx.append(house)
    return app


async def _furnish(
    app: web.Application,
    settings: Settings,
    begin: BeginEntry | None,
    seat: WorkerIdentity,
    policy: Policy,
    stack: AsyncExitStack,
) -> None:
    ticker = Ticker()
    metrics = app[METRICS]
    catalogue = Catalogue.of(settings)
    stack.push_async_callback(catalogue.aclose)
    stack.callback(ticker.close)
    options = ExchangeOptions(
        answer_bytes=settings.upstream.max_answer_bytes,
        inline_bytes=settings.journal.inline_bytes,
        asks_usage=settings.upstream.ask_usage,
        headers=RequestHeaders(
            settings.upstream.pass_headers,
            keep_credentials=settings.upstream.pass_credentials,
            on_dropped=DroppedHeaders(metrics.dropped).note,
        ),
    )
    gauges: Gauges | None = None
    if begin is None:
        begin, gauges = await _open_journal(app, settings, stack)
    app[EXCHANGE] = Exchange(
        policy,
        catalogue,
        begin,
        ticker,
        options,
        gates=[ShutdownGate(app[IN_FLIGHT]), ModelPermission()],
        observers=[MetricsObserver(metrics), InteractionFields()],
    )
    stack.callback(LoopLag(metrics.lagged).close)

    async def look() -> list[Metric]:
        found = await asyncio.to_thread(list, metrics.collect())  # it takes its time when there are many series
        found += LoadGauges(app[IN_FLIGHT].count, ticker.count).families()
        if gauges is not None:
            report = app[READINESS].report()
            found += gauges.families(has_postgres=report.has_postgres)
        return found

    peers = Peers(seat)
    app[PEER_METRICS] = PeerMetrics(peers, look)
    app[PEER_ANSWERS] = peer_answers = PeerAnswers(peers)
    app[LOCATOR] = Locator(app[IN_FLIGHT], app[RECENT], peer_answers, app.get(ANSWERS))
    await peers.open(peer_app(app))
    stack.push_async_callback(peers.aclose)
    app[SNAPSHOT] = InFlightSnapshot(app[IN_FLIGHT], peer_answers.in_flight)
    stack.push_async_callback(app[SNAPSHOT].aclose)


async def _open_journal(app: web.Application, settings: Settings, stack: AsyncExitStack) -> tuple[BeginEntry, Gauges]:
    """The way of a record: journal, shipper, Postgres. What is opened first is closed last."""
    database = await stack.enter_async_context(open_database(settings, START_S))
    app[PRICES] = prices = Prices(settings.upstream.token_prices)
    host = this_host(settings.journal_dir, __version__)
    interactions = Interactions(database, prices.cost_of, host)
    stack.push_async_callback(interactions.aclose)
    journal = Journal(settings.journal, settings.journal_dir)
    sinks = await stack.enter_async_context(open_sinks(SINKS, settings))
    by_hand = ConversationSettings(database, EditLog(journal.folder, settings.journal.shipped_s).add)
    app[CONVERSATION_SETTINGS] = by_hand

    async def versions() -> str:
        return f"gateway {__version__}, schema {await interactions.schema_version()}"

    shipper = Shipper(
        journal,
        [interactions, *sinks],
        store=interactions,
        apply_edits=by_hand.apply_again,
        versions=versions,
    )
    await journal.open()
    stack.push_async_callback(journal.aclose)
    stack.push_async_callback(shipper.aclose, SHIP_AT_END_S)
    if sinks:
        await shipper.start({sink.name for sink in sinks})  # they need not wait for PostgreSQL
    database_watch = DatabaseWatch(database, shipper)
    await database_watch.start()
    stack.push_async_callback(database_watch.aclose)

    def allow_skew(seconds: float) -> None:
        interactions.slack_ms = round(seconds * 1000) if seconds > LEAST_SKEW_S else 0

    host_watch = HostWatch(
        Hosts(database, host),
        UUID(journal.folder.name),
        lambda: archive.list_journals(journal.directory),
        app[IDS],
        allow_skew,
    )
    host_watch.start()
    stack.push_async_callback(host_watch.aclose)
    app[HISTORY] = History(database)
    app[ANSWERS] = Answers(database)
    app[SUMMARIES] = Summaries(database)
    app[REPORTS] = Reports(database)
    app[AUDIT] = Audit(database)
    change_feed = ChangeFeed(database)
    app[LIVE_TAIL] = LiveTail(change_feed)
    stack.push_async_callback(app[LIVE_TAIL].aclose)
    partitions = Partitions(database)
    for task in maintenance_tasks(app[REPORTS], change_feed, partitions):
        task.start()
        stack.push_async_callback(task.aclose)
    keys = Keys(database)
    authentication = await stack.enter_async_context(open_authentication(settings, keys))
    app[IDENTITY] = authentication.authenticators
    app[KEY_OFFICE] = KeyService(keys, app[IDS], authentication.keys_changed, own_life_s=settings.auth.own_keys_s)

    submissions = next((sink for sink in sinks if isinstance(sink, Submissions)), None)

    def journal_state() -> dict[str, Any]:
        return {**asdict(journal.state), **asdict(shipper.state())}

    upstream = "demo" if settings.is_demo else str(settings.upstream_base)
    app[READINESS] = Readiness(
        upstream,
        lambda: database_watch.state,
        journal_state,
        submissions.state if submissions else None,
        host_watch.state,
        lambda: partitions.missing,
    )
    gauges = Gauges(
        journal=lambda: journal.state,
        journal_max_bytes=settings.journal.max_bytes,
        shipper=shipper,
        pool=database.state,
        hosts=host_watch,
        partitions=partitions,
        submissions=submissions.state if submissions else None,
    )
    return journal.begin, gauges


@asynccontextmanager
async def open_database(settings: Settings, start_s: float | None = None) -> AsyncIterator[Database]:
    """The database of DATABASE_URL, or the gateway's own, which lives as long as this; `start_s`: its recovery from a
    crash is not waited for any longer."""
    async with AsyncExitStack() as stack:
        if settings.store.url is not None:
            dsn = settings.store.url.reveal()
        else:
            server = EmbeddedPostgres(settings.data_dir / "postgres", start_s=start_s)
            await stack.enter_async_context(server)
            dsn = server.dsn
        database = Database(dsn, settings.store)
        stack.push_async_callback(database.aclose)
        yield database
