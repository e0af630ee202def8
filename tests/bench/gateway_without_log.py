"""The gateway with everything but its log: nothing is journalled or shipped. What the log costs is the difference."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import uvloop

from gateway.process.server import serve
from gateway.settings.settings import load
from gateway.telemetry import logs

if TYPE_CHECKING:
    from gateway.model import Answer, Interaction


class Nowhere:
    """Takes records and keeps none."""

    def begin(self, interaction: Interaction) -> Nowhere:
        return self

    def part(self, chunks: list[bytes]) -> None:
        """Forget it."""

    def finish(self, answer: Answer) -> None:
        """Forget it."""

    async def kept(self) -> None:
        """It never will be."""


if __name__ == "__main__":
    settings = load(os.environ)
    writer = logs.configure(settings.log.format, settings.log.level)
    uvloop.run(serve(settings, Nowhere()))
    writer.close()
