"""What state the house is in, as gauges: looked up when somebody asks, from what the house knows anyway."""

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
class Busy:
    """What the process is doing at the moment."""

    requests: int
    streams: int

    def families(self) -> Iterator[Metric]:
        yield _gauge("requests_in_progress", "Requests that are being answered.", self.requests)
        yield _gauge("open_streams", "Streams that are being relayed.", self.streams)


@dataclass(frozen=True, slots=True)
class Gauges:
    """Whom to ask about the way of a record: journal, shipper, Postgres, and the security monitor if there is one."""

    journal: Callable[[], JournalState]
    journal_max_bytes: int
    shipper: Shipper
    pool: Callable[[], PoolState]
    hosts: HostWatch
    partitions: Partitions
    submissions: Callable[[], SubmissionsState] | None = None

    def families(self, *, has_postgres: bool) -> Iterator[Metric]:
        yield _gauge("postgres_up", "1: Postgres answers.", has_postgres)
        yield from _of_pool(self.pool())
        yield from _of_journal(self.journal(), self.journal_max_bytes)
        submissions = self.submissions() if self.submissions is not None else None
        is_monitor_away = submissions is not None and submissions.monitor == "away"
        yield from _of_sinks(self.shipper.sinks(), is_monitor_away=is_monitor_away)
        adoptions, quarantined = self.shipper.takeovers, self.shipper.state().quarantined
        yield _gauge("adopted_journals", "Journals of dead processes that are being shipped.", adoptions)
        yield _gauge("quarantined_records", "Records that Postgres refuses, as files to look at.", quarantined)
        yield from _of_set_backs(self.shipper.reship)
        yield from _of_hosts(self.hosts)
        missing = len(self.partitions.missing)
        yield _gauge("missing_partitions", "Partitions of this month or the next two that could not be made.", missing)
        if submissions is not None:
            yield from _of_submissions(submissions)


def _of_pool(pool: PoolState) -> Iterator[Metric]:
    yield _gauge("pool_connections", "Connections to Postgres that are open, for readers.", pool.open)
    yield _gauge("pool_used_connections", "Those of them that are in use.", pool.used)
    yield _gauge("pool_max_connections", "How many there may be.", pool.most)


def _of_journal(journal: JournalState, max_bytes: int) -> Iterator[Metric]:
    yield _gauge("journal_bytes", "Disk that the journals of all processes in this directory take.", journal.bytes)
    yield _gauge("journal_kept_bytes", "Beside them: shipped files, which go when room is short.", journal.kept_bytes)
    yield _gauge("journal_max_bytes", "How much they may take.", max_bytes)
    yield _gauge("journal_room_bytes", "How much more, by the settings and by the disk.", journal.room_bytes)
    yield _gauge("journal_accepting", "0: nothing new can be recorded.", journal.refusal is None)
    yield _gauge("journal_open_records", "Interactions that have begun and not ended.", journal.open)
    yield _gauge("journal_unwritten_records", "Records in memory only, for the disk is full.", journal.unwritten)
    yield _counter("journal_refusals", "Callers that were told that nothing can be recorded.", journal.refusals)
    yield _counter("journal_lost_records", "Records lost, whole or in part: no room, damage.", journal.lost_records)
    yield _counter("journal_lost_parts", "Pieces of running answers that were not written at once.", journal.lost_parts)
    yield _counter("journal_syncs", "Times that the journal was brought to disk.", journal.syncs)


def _of_sinks(sinks: Sequence[SinkState], *, is_monitor_away: bool) -> Iterator[Metric]:
    """The sink of submissions waits for its monitor by itself, and fails towards the shipper only in the end."""
    pending = _gauge("waiting_records", "Records in the journal that a sink has yet to get.", labels=("sink",))
    oldest = _gauge("oldest_waiting_seconds", "Age of the oldest of them.", labels=("sink",))
    is_up = _gauge("sink_up", "0: the last attempt to bring it something failed.", labels=("sink",))
    kept = _counter("shipped_records", "Records that a sink has got.", labels=("sink",))
    apart = _gauge("retried_records", "Records that wait apart: a sink takes others, not these.", labels=("sink",))
    faults = _gauge(
        "sink_fault",
        "1: why a sink does not take all records: `away`, an SQLSTATE, or the name of an error.",
        labels=("sink", "cause"),
    )
    for sink in sinks:
        pending.add_metric((sink.name,), sink.pending)
        oldest.add_metric((sink.name,), sink.oldest_s)
        waits = is_monitor_away and sink.name == "submissions"
        is_up.add_metric((sink.name,), not (sink.is_down or waits))
        kept.add_metric((sink.name,), sink.kept)
        apart.add_metric((sink.name,), sink.retrying)
        for cause in sink.causes or ("away" if waits else "",):
            faults.add_metric((sink.name, cause), bool(cause))
    yield from (pending, oldest, is_up, kept, apart, faults)


def _of_set_backs(reship: ReshipCounts) -> Iterator[Metric]:
    yield _counter(
        "set_backs", "Journals of which Postgres had forgotten rows: a restore, a failover.", reship.set_backs
    )
    yield _counter("shipped_again_records", "Records that Postgres has got again after that.", reship.reshipped)
    yield _counter("gone_records", "Records that it had forgotten and that nobody keeps any more.", reship.gone)


def _of_hosts(hosts: HostWatch) -> Iterator[Metric]:
    left = hosts.left
    yield _gauge("left_journals", "Journals of others that left with records, or fell silent.", len(left))
    yield _gauge("left_records", "Records that waited in them, as last heard of.", sum(one.waiting for one in left))
    yield _gauge("clock_ahead_seconds", "By how much this clock is ahead of Postgres'.", hosts.skew_s or 0.0)


def _of_submissions(state: SubmissionsState) -> Iterator[Metric]:
    yield _gauge("monitor_up", "0: the security monitor is away.", state.monitor != "away")
    yield _counter("submissions_delivered", "Submissions that the security monitor has taken.", state.delivered)
    yield _counter("submissions_failed", "Attempts that failed.", state.failed)
    yield _gauge("submissions_set_aside", "Submissions that wait apart and are tried again.", state.waiting)
    yield _gauge("dead_letters", "Submissions that were given up, as files to look at.", state.dead_letters)


def _gauge(name: str, text: str, value: float | None = None, labels: Sequence[str] | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value, labels)


def _counter(
    name: str, text: str, value: float | None = None, labels: Sequence[str] | None = None
) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, value, labels)
