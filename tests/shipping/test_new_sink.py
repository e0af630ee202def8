"""A new sink is one file and one row of `gateway.app.SINKS`: this file is such a sink, and adds the row."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from gateway.app import SINKS
from gateway.journal.journal import Journal
from gateway.settings import Settings
from gateway.shipping.shipper import Shipper
from gateway.shipping.sink import open_sinks
from tests.journal.samples import SMALL, Memory
from tests.polling import until
from tests.shipping.test_shipper import say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from gateway.model import Record

# --- the file --------------------------------------------------------------------------------------------------------


@dataclass
class UsageLines:
    """Appends a line of JSON for each record to a file."""

    path: Path
    name: str = "usage_lines"
    is_ordered: bool = False

    async def keep(self, records: Sequence[Record]) -> None:
        with self.path.open("ab") as file:
            for record in records:
                file.write(orjson.dumps({"id": str(record.interaction.id), "model": record.answer.model}) + b"\n")

    async def keep_raw(self, record: Record) -> None:
        await self.keep([record])

    def abandon(self) -> None:
        pass


@asynccontextmanager
async def open_usage_lines(settings: Settings) -> AsyncIterator[UsageLines | None]:
    yield UsageLines(settings.data_dir / "usage.jsonl")


# --- the row ---------------------------------------------------------------------------------------------------------

ROWS = (*SINKS, open_usage_lines)


async def test_a_new_sink_is_one_file_and_one_row(tmp_path: Path) -> None:
    store, journal = Memory("postgres"), Journal(SMALL, tmp_path / "journal")
    async with open_sinks(ROWS, Settings(data_dir=tmp_path)) as sinks:
        assert [sink.name for sink in sinks] == ["usage_lines"]  # no monitor is configured
        shipper = Shipper(journal, [store, *sinks])
        await journal.open()
        await shipper.start()
        ids = say(journal, 20)
        await until(lambda: shipper.state().kept == 40)
        assert shipper.state().pending_for == {"postgres": 0, "usage_lines": 0}
        await shipper.aclose(1)
        await journal.aclose()
    lines = [orjson.loads(line) for line in (tmp_path / "usage.jsonl").read_bytes().splitlines()]
    assert [line["id"] for line in lines] == list(map(str, ids))
    assert len(store.records) == 20
