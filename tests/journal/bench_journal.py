"""CPU cost of the log: `python -m tests.journal.bench_journal`. microseconds of this process, 1 kB bodies.

Medians of several rounds; they grow on a busy machine, so compare the smallest, too.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import uvloop

from gateway.journal.disk import DiskThread
from gateway.journal.journal import Journal, JournalOptions
from gateway.model import Record, Usage
from gateway.settings import JournalSettings, StoreSettings
from gateway.shipping.shipper import Shipper
from gateway.store.interactions import Interactions
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.rows import Batch, row_of
from tests.journal.samples import Memory, answer, chunk, interaction
from tests.postgres import running_postgres
from tests.store.samples import SQL

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.journal.entry import JournalEntry
    from gateway.model import Answer, Interaction
    from gateway.store.rows import Row

ROUNDS = 7
MANY = 2000
ASKED = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hello " * 150}], "stream": True})
SAID = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "m-2026",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 150, "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 150, "completion_tokens": 150, "total_tokens": 300},
    }
)
SETTINGS = JournalSettings(min_free_bytes=0)


def asked() -> Interaction:
    return interaction(ASKED, is_stream=True)


def said() -> Answer:
    return answer(SAID, usage=Usage(150, 150, raw={"prompt_tokens": 150, "completion_tokens": 150}))


def show(name: str, costs: list[float]) -> None:
    print(f"{name:<58} {statistics.median(costs):8.1f} µs   (smallest {min(costs):.1f})")


def each(work: Callable[[int], object], count: int = MANY) -> float:
    """CPU of one call."""
    started = time.process_time()
    for number in range(count):
        work(number)
    return (time.process_time() - started) / count * 1e6


async def on_the_path() -> None:
    found = [await one_path() for _ in range(ROUNDS)]
    for name, costs in zip(
        (
            "begin",
            "part of six chunks",
            "finish",
            "begin, finish, kept; sixteen at a time (with their tasks)",
            "begin, finish, kept; one at a time",
        ),
        zip(*found, strict=True),
        strict=True,
    ):
        show(name, list(costs))


async def one_path() -> tuple[float, ...]:
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(SETTINGS, Path(directory))
        await journal.open()
        questions, end, words = [asked() for _ in range(MANY)], said(), [chunk("word ")] * 6
        entries: list[JournalEntry] = []
        begin = each(lambda number: entries.append(journal.begin(questions[number])))
        part = each(lambda number: entries[number].part(words))
        finish = each(lambda number: entries[number].finish(end))
        await entries[-1].kept()

        async def one() -> None:
            entry = journal.begin(asked())
            entry.finish(end)
            await entry.kept()

        started = time.process_time()
        for _ in range(40):
            await asyncio.gather(*[one() for _ in range(16)])
        together = (time.process_time() - started) / 640 * 1e6
        started = time.process_time()
        for _ in range(100):
            await one()
        alone = (time.process_time() - started) / 100 * 1e6
        await journal.aclose()
    return begin, part, finish, together, alone


async def syncs() -> None:
    thread = DiskThread()
    costs = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(200):
            await thread.run(lambda: None)
        costs.append((time.process_time() - started) / 200 * 1e6)
    thread.stop()
    show("a hand-over to the disk's thread and back", costs)


async def shipped(cached_bytes: int) -> list[float]:
    """Ships to a sink that does nothing."""
    costs = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as directory:
            memory = Memory()
            journal = Journal(SETTINGS, Path(directory), options=JournalOptions(cached_bytes=cached_bytes))
            shipper = Shipper(journal, [memory])
            await journal.open()
            end = said()
            for _ in range(MANY):
                journal.begin(asked()).finish(end)
            started = time.process_time()
            await shipper.start()
            while len(memory.records) < MANY:
                await asyncio.sleep(0.005)
            costs.append((time.process_time() - started) / MANY * 1e6)
            await shipper.aclose(1)
            await journal.aclose()
    return costs


def rows() -> None:
    found = [one_making() for _ in range(ROUNDS)]
    show("a record becomes a row (parsed, checked, hashed)", [made for made, _ in found])
    show("a row becomes JSON", [written for _, written in found])


def one_making() -> tuple[float, float]:
    records = [Record(asked(), said()) for _ in range(MANY)]
    found: list[Row] = []
    made = each(lambda number: found.append(row_of(records[number])))
    batch = Batch()
    for row in found:
        row.columns |= {"root_gpt_id": "r", "snapshot_hash": "\\x" + "00" * 32}
    return made, each(lambda number: batch.add(found[number]))


async def stored(dsn: str) -> None:
    database = Database(dsn, StoreSettings())
    await migrate(database, SQL)
    interactions = Interactions(database)
    for size in (500, 50, 5):
        costs = []
        for _ in range(ROUNDS):
            batches = [[Record(asked(), said()) for _ in range(size)] for _ in range(max(1, 1000 // size))]
            started = time.process_time()
            for batch in batches:
                await interactions.keep(batch)
            costs.append((time.process_time() - started) / (size * len(batches)) * 1e6)
        show(f"a record is kept in Postgres, {size} at a time", costs)
    await interactions.aclose()
    await database.aclose()


async def main(dsn: str) -> None:
    await on_the_path()
    await syncs()
    show("a record is shipped, from memory (without the store)", await shipped(1 << 30))
    show("a record is shipped, read back from disk (without store)", await shipped(0))
    rows()
    await stored(dsn)


if __name__ == "__main__":
    with running_postgres() as postgres:
        uvloop.run(main(postgres.create_database()))
