"""Counts every recorded interaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.exchange.observers import Observer

if TYPE_CHECKING:
    from gateway.exchange.recording import Recording
    from gateway.telemetry.metrics import Metrics


class MetricsObserver(Observer):
    """Counts bytes, tokens and durations when an exchange closes."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def closed(self, recording: Recording) -> None:
        assert recording.answer is not None
        self._metrics.interaction_finished(recording.interaction, recording.answer)
