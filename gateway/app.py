"""The composition root: one table of services, opened in order and closed in reverse order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiohttp import web

from gateway import __version__
from gateway.edge.admin.keys import KEY_SERVICE
from gateway.edge.chats.peer_answers import PEER_ANSWERS, PeerAnswers
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
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from prometheus_client import Metric

    from gateway.exchange.recording import BeginEntry
    from gateway.settings import Settings
    from gateway.shipping.sink import OpenSink, Sink

    OpenService = Callable[["Wiring"], Awaitable[None]]

NO_RULES = Policy()
# The sinks beside PostgreSQL, one row each; a row yields None if the settings do not name its sink.
SINKS: tuple[OpenSink, ...] = (open_submissions,)
LEAST_SKEW_S = 0.02  # a smaller difference may be an error of measurement
SHIP_AT_END_S = 10.0  # records that are not in PostgreSQL by then stay in the journal until the next start


def build_app(
    settings: Settings,
    begin: BeginEntry | None = None,
    worker: WorkerIdentity | None = None,
    policy: Policy = NO_RULES,
) -> web.Application:
    """The application of one process.

    `worker`: which of the supervisor's workers it is. `begin` replaces the journal's, which then stays closed: the
    benchmark uses it to measure the cost of the log.
    """
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

    async def lifespan(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            wiring = Wiring(app, settings, worker or WorkerIdentity(), policy, stack, begin)
            for open_service in SERVICES if begin is None else SERVICES_WITHOUT_JOURNAL:
                await open_service(wiring)
            yield

    app.cleanup_ctx.append(lifespan)
    return app


@dataclass(slots=True)
class Wiring:
    """The services opened so far. Each service reads those above it in the table; `stack` closes them."""

    app: web.Application
    settings: Settings
    worker: WorkerIdentity
    policy: Policy
    stack: AsyncExitStack
    begin: BeginEntry | None  # of the journal, or the caller's
    ticker: Ticker = field(init=False)
    catalogue: Catalogue = field(init=False)
    database: Database = field(init=False)
    interactions: Interactions = field(init=False)
    partitions: Partitions = field(init=False)
    journal: Journal = field(init=False)
    sinks: Sequence[Sink] = field(init=False)
    shipper: Shipper = field(init=False)
    database_watch: DatabaseWatch = field(init=False)
    host_watch: HostWatch = field(init=False)
    gauges: Gauges | None = None


async def open_upstreams(wiring: Wiring) -> None:
    """Providers with their connections, and the ticker of the relays."""
    wiring.catalogue = Catalogue.of(wiring.settings)
    wiring.stack.push_async_callback(wiring.catalogue.aclose)
    wiring.ticker = Ticker()
    wiring.stack.callback(wiring.ticker.close)


async def open_store(wiring: Wiring) -> None:
    """PostgreSQL, and its tables for reading."""
    app, settings = wiring.app, wiring.settings
    wiring.database = database = await wiring.stack.enter_async_context(open_database(settings, START_S))
    app[PRICES] = prices = Prices(settings.upstream.token_prices)
    wiring.interactions = Interactions(database, prices.cost_of, this_host(settings.journal_dir, __version__))
    wiring.stack.push_async_callback(wiring.interactions.aclose)
    wiring.partitions = Partitions(database)
    app[HISTORY] = History(database)
    app[ANSWERS] = Answers(database)
    app[SUMMARIES] = Summaries(database)
    app[REPORTS] = Reports(database)
    app[AUDIT] = Audit(database)


async def open_journal(wiring: Wiring) -> None:
    """Journal, sinks, and the shipper between them."""
    settings, interactions = wiring.settings, wiring.interactions
    wiring.journal = journal = Journal(settings.journal, settings.journal_dir)
    wiring.sinks = await wiring.stack.enter_async_context(open_sinks(SINKS, settings))
    edits = EditLog(journal.folder, settings.journal.shipped_s)
    wiring.app[CONVERSATION_SETTINGS] = conversation_settings = ConversationSettings(wiring.database, edits.add)

    async def versions() -> str:
        return f"gateway {__version__}, schema {await interactions.schema_version()}"

    wiring.shipper = Shipper(
        journal,
        [interactions, *wiring.sinks],
        store=interactions,
        apply_edits=conversation_settings.apply_again,
        versions=versions,
    )
    await journal.open()
    wiring.stack.push_async_callback(journal.aclose)
    wiring.stack.push_async_callback(wiring.shipper.aclose, SHIP_AT_END_S)
    if wiring.sinks:
        await wiring.shipper.start({sink.name for sink in wiring.sinks})  # they do not wait for PostgreSQL
    wiring.begin = journal.begin


async def open_watches(wiring: Wiring) -> None:
    """The watches over PostgreSQL and the other hosts. The first one also starts shipping to PostgreSQL."""
    wiring.database_watch = DatabaseWatch(wiring.database, wiring.shipper)
    await wiring.database_watch.start()
    wiring.stack.push_async_callback(wiring.database_watch.aclose)
    journal = wiring.journal

    def allow_skew(seconds: float) -> None:
        wiring.interactions.slack_ms = round(seconds * 1000) if seconds > LEAST_SKEW_S else 0

    wiring.host_watch = HostWatch(
        Hosts(wiring.database, this_host(wiring.settings.journal_dir, __version__)),
        UUID(journal.folder.name),
        lambda: archive.list_journals(journal.directory),
        wiring.app[IDS],
        allow_skew,
    )
    wiring.host_watch.start()
    wiring.stack.push_async_callback(wiring.host_watch.aclose)


async def open_maintenance(wiring: Wiring) -> None:
    """The live tail, and the periodic tasks on the database."""
    change_feed = ChangeFeed(wiring.database)
    wiring.app[LIVE_TAIL] = LiveTail(change_feed)
    wiring.stack.push_async_callback(wiring.app[LIVE_TAIL].aclose)
    for task in maintenance_tasks(wiring.app[REPORTS], change_feed, wiring.partitions):
        task.start()
        wiring.stack.push_async_callback(task.aclose)


async def open_identity(wiring: Wiring) -> None:
    """The authenticators, and the service that changes keys."""
    app, settings, keys = wiring.app, wiring.settings, Keys(wiring.database)
    authentication = await wiring.stack.enter_async_context(open_authentication(settings, keys))
    app[IDENTITY] = authentication.authenticators
    app[KEY_SERVICE] = KeyService(keys, app[IDS], authentication.keys_changed, own_life_s=settings.auth.own_keys_s)


async def open_health(wiring: Wiring) -> None:
    """Readiness, and the gauges of journal, sinks and pool."""
    settings, journal, shipper = wiring.settings, wiring.journal, wiring.shipper
    submissions = next((sink.state for sink in wiring.sinks if isinstance(sink, Submissions)), None)

    def journal_state() -> dict[str, Any]:
        return {**asdict(journal.state), **asdict(shipper.state())}

    wiring.app[READINESS] = Readiness(
        "demo" if settings.is_demo else str(settings.upstream_base),
        lambda: wiring.database_watch.state,
        journal_state,
        submissions,
        wiring.host_watch.state,
        lambda: wiring.partitions.missing,
    )
    wiring.gauges = Gauges(
        journal=lambda: journal.state,
        journal_max_bytes=settings.journal.max_bytes,
        shipper=shipper,
        pool=wiring.database.state,
        hosts=wiring.host_watch,
        partitions=wiring.partitions,
        submissions=submissions,
    )


async def open_exchange(wiring: Wiring) -> None:
    """The exchange with its gates and observers."""
    app, upstream, metrics = wiring.app, wiring.settings.upstream, wiring.app[METRICS]
    assert wiring.begin is not None
    app[EXCHANGE] = Exchange(
        wiring.policy,
        wiring.catalogue,
        wiring.begin,
        wiring.ticker,
        ExchangeOptions(
            answer_bytes=upstream.max_answer_bytes,
            inline_bytes=wiring.settings.journal.inline_bytes,
            asks_usage=upstream.ask_usage,
            headers=RequestHeaders(
                upstream.pass_headers,
                keep_credentials=upstream.pass_credentials,
                on_dropped=DroppedHeaders(metrics.headers_dropped).note,
            ),
        ),
        gates=[ShutdownGate(app[IN_FLIGHT]), ModelPermission()],
        observers=[MetricsObserver(metrics), InteractionFields()],
        stages=[],
    )


async def open_peers(wiring: Wiring) -> None:
    """The peers of this worker, with the metrics and the answers in flight of them all."""
    app, metrics = wiring.app, wiring.app[METRICS]
    wiring.stack.callback(LoopLag(metrics.loop_lagged).close)

    async def collect() -> list[Metric]:
        families = await asyncio.to_thread(list, metrics.collect())  # slow with many series
        families += LoadGauges(app[IN_FLIGHT].count, wiring.ticker.count).families()
        if wiring.gauges is not None:
            families += wiring.gauges.families(has_postgres=app[READINESS].report().has_postgres)
        return families

    peers = Peers(wiring.worker)
    app[PEER_METRICS] = PeerMetrics(peers, collect)
    app[PEER_ANSWERS] = peer_answers = PeerAnswers(peers)
    app[LOCATOR] = Locator(app[IN_FLIGHT], app[RECENT], peer_answers, app.get(ANSWERS))
    await peers.open(peer_app(app))
    wiring.stack.push_async_callback(peers.aclose)
    app[SNAPSHOT] = InFlightSnapshot(app[IN_FLIGHT], peer_answers.in_flight)
    wiring.stack.push_async_callback(app[SNAPSHOT].aclose)


SERVICES: tuple[OpenService, ...] = (
    open_upstreams,
    open_store,
    open_journal,
    open_watches,
    open_maintenance,
    open_identity,
    open_health,
    open_exchange,
    open_peers,
)
SERVICES_WITHOUT_JOURNAL: tuple[OpenService, ...] = (open_upstreams, open_exchange, open_peers)


@asynccontextmanager
async def open_database(settings: Settings, start_s: float | None = None) -> AsyncIterator[Database]:
    """The database of DATABASE_URL, or the embedded PostgreSQL, which stops at the end of this context.

    `start_s`: longest wait for the recovery of the embedded PostgreSQL from a crash.
    """
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
