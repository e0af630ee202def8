"""Metrics of all workers on this host, from any of them.

Each worker's series have its number as a label. A counter restarts only with its own worker; a sum over the workers
that are alive would jump. The metrics are collected at each scrape, and only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import Metric

from gateway.telemetry.metrics import PREFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gateway.peers.peers import Peers

METRICS_PATH = "/metrics"  # of the application that a worker serves to its peers
WORKER = "worker"


class PeerMetrics:
    """Collects this worker's metrics, and those of all workers."""

    def __init__(self, peers: Peers, collect_own: Callable[[], Awaitable[Iterable[Metric]]]) -> None:
        self._peers = peers
        self._collect_own = collect_own

    async def collect(self) -> list[Metric]:
        """The families of all workers, each series with its worker's number."""
        by_worker = await self._peers.ask_all(METRICS_PATH)
        by_worker[self._peers.number] = await self.own()
        is_up = Metric(f"{PREFIX}_worker_up", "0: the worker did not send its metrics.", "gauge")
        families = {is_up.name: is_up}
        for number, families_of_worker in sorted(by_worker.items()):
            label = {WORKER: str(number)}
            is_up.add_sample(is_up.name, label, float(families_of_worker is not None))
            for name, text, kind, unit, samples in families_of_worker or ():
                family = families.setdefault(name, Metric(name, text, kind, unit))
                for sample, labels, value in samples:
                    family.add_sample(sample, labels | label, value)
        return list(families.values())

    async def own(self) -> list[Any]:
        """This worker's metrics as plain lists, for JSON."""
        return [
            [
                metric.name,
                metric.documentation,
                metric.type,
                metric.unit,
                [(sample.name, sample.labels, sample.value) for sample in metric.samples],
            ]
            for metric in await self._collect_own()
        ]
