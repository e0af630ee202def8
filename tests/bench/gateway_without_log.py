"""The gateway with everything but its log: nothing is journalled or shipped. What the log costs is the difference."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import uvloop

from gateway.journal.entry import JournalEntry
from gateway.process.server import serve
from gateway.settings import load
from gateway.telemetry import logs

if TYPE_CHECKING:
    from gateway.model import Answer, Interaction


class NoEntry(JournalEntry):
    """An entry of no journal: it writes nothing."""

    def __init__(self, interaction: Interaction) -> None:
        self.interaction = interaction

    def part(self, chunks: list[bytes]) -> None:
        """Write nothing."""

    def finish(self, answer: Answer) -> bool:
        return True

    async def kept(self) -> None:
        """Return at once."""


if __name__ == "__main__":
    settings = load(os.environ)
    writer = logs.configure(settings.log.format, settings.log.level)
    uvloop.run(serve(settings, NoEntry))
    writer.close()
