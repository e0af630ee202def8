"""Gauges for requests, journal, sinks, pool and hosts, read at scrape time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gateway.telemetry.metrics import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from gateway.health.hosts import HostWatch
    from gateway.journal.journal import JournalState
    from gateway.shipping.reshipping import ReshipCounts
    from gateway.shipping.shipper import Shipper, SinkState
    from gateway.store.partitions import Partitions
    from gateway.store.pool import PoolState
    from gateway.submissions.submissions import SubmissionsState


@dataclass(frozen=True, slots=True)
class LoadGauges:
    """The load of this process."""

    requests: int
    streams: int

    def families(self) -> Iterator[Metric]:
        yield _gauge("requests_in_progress", "Requests in progress.", self.requests)
        yield _gauge("open_streams", "Streams that are relayed now.", self.streams)


@dataclass(frozen=True, slots=True)
class Gauges:
    """The sources of the gauges of journal, shipper and PostgreSQL, and of the security monitor if there is one."""

    journal: Callable[[], JournalState]
    journal_max_bytes: int
    shipper: Shipper
    pool: Callable[[], PoolState]
    hosts: HostWatch
    partitions: Partitions
    submissions: Callable[[], SubmissionsState] | None = None

    def families(self, *, has_postgres: bool) -> Iterator[Metric]:
        yield _gauge("postgres_up", "1: PostgreSQL answers.", has_postgres)
        yield from _pool(self.pool())
        yield from _journal(self.journal(), self.journal_max_bytes)
        submissions = self.submissions() if self.submissions is not None else None
        is_monitor_away = submissions is not None and submissions.monitor == "away"
        yield from _sinks(self.shipper.sinks(), is_monitor_away=is_monitor_away)
        takeovers, quarantined = self.shipper.takeovers, self.shipper.state().quarantined
        yield _gauge("adopted_journals", "Journals of dead processes that are shipped now.", takeovers)
        yield _gauge("quarantined_records", "Records that PostgreSQL refuses, kept as files.", quarantined)
        yield from _reship(self.shipper.reship)
        yield from _hosts(self.hosts)
        missing = len(self.partitions.missing)
        yield _gauge("missing_partitions", "Missing partitions of this month and the next two.", missing)
        if submissions is not None:
            yield from _submissions(submissions)


def _pool(pool: PoolState) -> Iterator[Metric]:
    yield _gauge("pool_connections", "Open connections to PostgreSQL, for readers.", pool.open)
    yield _gauge("pool_used_connections", "Open connections that are in use.", pool.used)
    yield _gauge("pool_max_connections", "The limit of open connections.", pool.most)


def _journal(journal: JournalState, max_bytes: int) -> Iterator[Metric]:
    yield _gauge("journal_bytes", "Bytes on disk of the journals of all processes in this directory.", journal.bytes)
    yield _gauge("journal_kept_bytes", "Bytes of shipped files; they go when room is short.", journal.kept_bytes)
    yield _gauge("journal_max_bytes", "The limit of journal_bytes.", max_bytes)
    yield _gauge(
        "journal_room_bytes",
        "Bytes by which they may grow, by settings and disk.",
        journal.room_bytes,
    )
    yield _gauge("journal_accepting", "0: new requests cannot be recorded.", journal.refusal is None)
    yield _gauge("journal_open_records", "Interactions in progress.", journal.open)
    yield _gauge("journal_unwritten_records", "Records in memory only, because the disk is full.", journal.unwritten)
    yield _counter("journal_refusals", "Requests refused because they cannot be recorded.", journal.refusals)
    yield _counter("journal_lost_records", "Records lost, whole or in part: no room, damage.", journal.lost_records)
    yield _counter("journal_lost_parts", "Parts of running answers that were not written at once.", journal.lost_parts)
    yield _counter("journal_syncs", "Syncs of the journal to disk.", journal.syncs)


def _sinks(sinks: Sequence[SinkState], *, is_monitor_away: bool) -> Iterator[Metric]:
    """The sink of submissions waits for its monitor by itself and rarely fails: its state is that of the monitor."""
    pending = _gauge("waiting_records", "Records in the journal that a sink has yet to get.", labels=("sink",))
    oldest = _gauge("oldest_waiting_seconds", "Age of the oldest of them.", labels=("sink",))
    is_up = _gauge("sink_up", "0: the last delivery failed.", labels=("sink",))
    kept = _counter("shipped_records", "Records that a sink has stored.", labels=("sink",))
    retried = _gauge("retried_records", "Records in retry: a sink takes others, not these.", labels=("sink",))
    faults = _gauge(
        "sink_fault",
        "1: the cause why a sink does not take all records: `away`, an SQLSTATE, or the name of an error.",
        labels=("sink", "cause"),
    )
    for sink in sinks:
        pending.add_metric((sink.name,), sink.pending)
        oldest.add_metric((sink.name,), sink.oldest_s)
        waits = is_monitor_away and sink.name == "submissions"
        is_up.add_metric((sink.name,), not (sink.is_down or waits))
        kept.add_metric((sink.name,), sink.kept)
        retried.add_metric((sink.name,), sink.retrying)
        for cause in sink.causes or ("away" if waits else "",):
            faults.add_metric((sink.name, cause), bool(cause))
    yield from (pending, oldest, is_up, kept, retried, faults)


def _reship(reship: ReshipCounts) -> Iterator[Metric]:
    yield _counter(
        "set_backs", "Journals whose rows PostgreSQL had lost, after a restore or a failover.", reship.set_backs
    )
    yield _counter("shipped_again_records", "Records shipped again after that.", reship.reshipped)
    yield _counter("gone_records", "Lost records that no kept file holds any more.", reship.gone)


def _hosts(hosts: HostWatch) -> Iterator[Metric]:
    left = hosts.left
    yield _gauge("left_journals", "Journals of other hosts that left with records, or that are silent.", len(left))
    yield _gauge("left_records", "Records in them at the last sign of life.", sum(one.waiting for one in left))
    yield _gauge("clock_ahead_seconds", "Seconds by which this clock is ahead of PostgreSQL's.", hosts.skew_s or 0.0)


def _submissions(state: SubmissionsState) -> Iterator[Metric]:
    yield _gauge("monitor_up", "0: the security monitor is down.", state.monitor != "away")
    yield _counter("submissions_delivered", "Submissions that the security monitor has taken.", state.delivered)
    yield _counter("submissions_failed", "Attempts that failed.", state.failed)
    yield _gauge("submissions_set_aside", "Submissions in the spool, which are retried.", state.waiting)
    yield _gauge("dead_letters", "Submissions that were given up, kept as files.", state.dead_letters)


def _gauge(name: str, text: str, value: float | None = None, labels: Sequence[str] | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value, labels)


def _counter(
    name: str, text: str, value: float | None = None, labels: Sequence[str] | None = None
) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, value, labels)
