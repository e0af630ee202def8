"""Between an exchange and whoever records it: what is recorded is counted, all of it and once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.exchange.recording import Entry, Recorder
    from gateway.model import Answer, Interaction
    from gateway.telemetry.metrics import Metrics


class Counted:
    """A recorder that counts what another one records."""

    def __init__(self, recorder: Recorder, metrics: Metrics) -> None:
        self._recorder = recorder
        self._metrics = metrics

    def begin(self, interaction: Interaction) -> CountedEntry:
        return CountedEntry(self._recorder.begin(interaction), interaction, self._metrics)


class CountedEntry:
    """One record, counted when it ends."""

    __slots__ = ("_entry", "_interaction", "_metrics", "kept", "part")

    def __init__(self, entry: Entry, interaction: Interaction, metrics: Metrics) -> None:
        self._entry = entry
        self._interaction = interaction
        self._metrics = metrics
        self.part = entry.part
        self.kept = entry.kept

    def finish(self, answer: Answer) -> None:
        self._metrics.recorded(self._interaction, answer)
        self._entry.finish(answer)
