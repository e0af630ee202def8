"""Several sinks: none delays another, and an ordered one gets dead processes' records before new ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.journal.journal import Journal
from gateway.shipping.shipper import Shipper
from tests.journal.old_frames import begun, finished
from tests.journal.samples import SMALL, Memory, answer, interaction
from tests.journal.test_takeover import dead_folder
from tests.polling import until
from tests.shipping.test_shipper import say

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_sink_that_is_down_keeps_no_other_from_the_journals_of_dead_processes(tmp_path: Path) -> None:
    asked = [interaction() for _ in range(3)]
    folders = [dead_folder(tmp_path, [begun(one), finished(one, answer())]) for one in asked]
    here, away = Memory("here"), Memory("away")
    away.is_down = True
    journal = Journal(SMALL, tmp_path)
    shipper = Shipper(journal, [here, away])
    await journal.open()
    await shipper.start()
    await until(lambda: len(here.records) == 3)
    assert all(folder.exists() for folder in folders)
    away.is_down = False
    await until(lambda: not any(folder.exists() for folder in folders))
    assert list(away.records) == [one.id for one in asked]
    assert here.taken == 3
    await shipper.aclose(1)
    await journal.aclose()


async def test_an_ordered_sink_gets_dead_processes_records_before_new_ones(tmp_path: Path) -> None:
    asked = [interaction() for _ in range(3)]
    for one in asked:
        dead_folder(tmp_path, [begun(one), finished(one, answer())])
    quick, strict = Memory("quick"), Memory("strict", is_ordered=True)
    strict.gate.clear()
    journal = Journal(SMALL, tmp_path)
    shipper = Shipper(journal, [quick, strict])
    await journal.open()
    new = say(journal)
    await shipper.start()
    await until(lambda: len(quick.records) == 4)
    strict.gate.set()
    await until(lambda: len(strict.records) == 4)
    assert list(strict.records) == [one.id for one in asked] + new
    await shipper.aclose(1)
    await journal.aclose()


async def test_an_ordered_sink_does_not_wait_when_no_journal_was_left(tmp_path: Path) -> None:
    strict = Memory("strict", is_ordered=True)
    journal = Journal(SMALL, tmp_path)
    shipper = Shipper(journal, [strict])
    await journal.open()
    await shipper.start()
    say(journal)
    await until(lambda: len(strict.records) == 1, timeout_s=1)
    await shipper.aclose(1)
    await journal.aclose()


async def test_one_sink_can_start_before_the_others(tmp_path: Path) -> None:
    early, late = Memory("early"), Memory("late")
    journal = Journal(SMALL, tmp_path)
    shipper = Shipper(journal, [late, early])
    await journal.open()
    old = interaction()
    folder = dead_folder(tmp_path, [begun(old), finished(old, answer())])
    (new,) = say(journal)
    await shipper.start({"early"})
    await until(lambda: set(early.records) == {old.id, new})
    assert late.records == {}
    assert shipper.state().pending_for == {"late": 1, "early": 0}
    await shipper.start()
    await until(lambda: set(late.records) == {old.id, new})
    await until(lambda: not folder.exists())
    assert early.taken == 2
    await shipper.aclose(1)
    await journal.aclose()


async def test_a_folder_that_one_sink_has_not_got_stays_for_the_next_process(tmp_path: Path) -> None:
    old = interaction()
    folder = dead_folder(tmp_path, [begun(old), finished(old, answer())])
    here, away = Memory("here"), Memory("away", is_ordered=True)
    away.is_down = True
    for _ in range(2):
        journal = Journal(SMALL, tmp_path)
        shipper = Shipper(journal, [here, away])
        await journal.open()
        await shipper.start()
        await until(lambda: len(here.records) == 1)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(3):
            await shipper.aclose(10)  # its new records wait for those of the dead process, so it drains nothing
            await journal.aclose()
        away.is_abandoned = False
        assert folder.exists()
    assert here.taken == 1
