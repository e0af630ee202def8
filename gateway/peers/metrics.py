"""The figures of all workers on this host, whichever of them is asked.

Each worker's series carry its number. So a counter begins anew only where its own worker did, and never jumps because
another one answered, as sums over those that happen to be alive would. They are fresh, and nothing is done while nobody
looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import Metric

from gateway.telemetry.metrics import PREFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gateway.peers.peers import Peers

FIGURES = "/figures"  # where a worker tells its own to the others
WORKER = "worker"


class PeerMetrics:
    """One worker's figures, and those of all."""

    def __init__(self, siblings: Peers, look: Callable[[], Awaitable[Iterable[Metric]]]) -> None:
        self._siblings = siblings
        self._look = look

    async def collect(self) -> list[Metric]:
        """The families of all workers, each series with the number of its own."""
        told = await self._siblings.ask_all(FIGURES)
        told[self._siblings.number] = await self.own()
        is_up = Metric(f"{PREFIX}_worker_up", "0: a worker has not told its figures.", "gauge")
        families = {is_up.name: is_up}
        for number, figures in sorted(told.items()):
            label = {WORKER: str(number)}
            is_up.add_sample(is_up.name, label, float(figures is not None))
            for name, text, kind, unit, samples in figures or ():
                family = families.setdefault(name, Metric(name, text, kind, unit))
                for sample, labels, value in samples:
                    family.add_sample(sample, labels | label, value)
        return list(families.values())

    async def own(self) -> list[Any]:
        """This worker's, as JSON can hold them."""
        return [
            [
                metric.name,
                metric.documentation,
                metric.type,
                metric.unit,
                [(sample.name, sample.labels, sample.value) for sample in metric.samples],
            ]
            for metric in await self._look()
        ]
