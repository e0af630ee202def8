"""Processes that tests kill: `write DIRECTORY SEED` writes records forever, `takeover DIRECTORY` ships dead journals.

A line on standard output reports each event after it has happened.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.journal.journal import Journal
from gateway.model import Outcome
from gateway.settings import JournalSettings
from gateway.shipping.shipper import Shipper
from tests.journal.samples import Memory, answer, chunk, interaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.journal.entry import JournalEntry
    from gateway.model import Record

WORDS = JournalSettings(segment_bytes=64 * 1024, max_bytes=1 << 30, min_free_bytes=0, shipped_s=0)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def write(directory: Path, seed: int) -> None:
    """Writes many streams at once, in all states; standard output is the ledger of their progress."""
    chance = random.Random(seed)
    journal = Journal(WORDS, directory)
    journal.subscribe("memory")
    await journal.open()
    live: dict[JournalEntry, int] = {}
    while True:
        step = chance.random()
        if step < 0.3 or not live:
            asked = interaction(b"asked " + b"x" * chance.randrange(3000), is_stream=True)
            live[journal.begin(asked)] = 0
            say("begun", asked.id, len(asked.body))
        elif step < 0.7:
            entry = chance.choice(list(live))
            count = chance.randrange(1, 4)
            entry.part([chunk(f"{live[entry] + number} ") for number in range(count)])
            live[entry] += count
            say("part", entry.id, live[entry])
        else:
            entry = chance.choice(list(live))
            count = live.pop(entry)
            entry.finish(answer(b"%d" % count, outcome=Outcome.COMPLETE))
            say("finished", entry.id, count)
        if chance.random() < 0.05:
            await asyncio.sleep(0)


class Loud(Memory):
    async def keep(self, records: Sequence[Record]) -> None:
        await asyncio.sleep(0.02)
        for record in records:
            say("kept", record.interaction.id)


async def takeover(directory: Path) -> None:
    journal = Journal(WORDS, directory)
    shipper = Shipper(journal, [Loud()])
    await journal.open()
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    await shipper.start()
    await asyncio.to_thread(sys.stdin.readline)
    await shipper.aclose(5)
    await journal.aclose()


if __name__ == "__main__":
    where = Path(sys.argv[2])
    asyncio.run(write(where, int(sys.argv[3])) if sys.argv[1] == "write" else takeover(where))
