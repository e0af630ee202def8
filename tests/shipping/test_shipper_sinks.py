"""Several keepers, each on its own way: none holds up another, and those that want order get the old before the new."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.journal.journal import Journal
from gateway.shipping.shipper import Shipper
from tests.journal.old_frames import begun, finished
from tests.journal.samples import SMALL, Memory, answer, interaction
from tests.journal.test_takeover import orphan
from tests.shipping.test_shipper import say, until

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_keeper_that_is_away_keeps_no_other_from_the_journals_of_the_dead(tmp_path: Path) -> None:
    asked = [interaction() for _ in range(3)]
    folders = [orphan(tmp_path, [begun(one), finished(one, answer())]) for one in asked]
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


async def test_in_order_what_the_dead_have_left_comes_before_what_is_new(tmp_path: Path) -> None:
    asked = [interaction() for _ in range(3)]
    for one in asked:
        orphan(tmp_path, [begun(one), finished(one, answer())])
    quick, strict = Memory("quick"), Memory("strict")
    strict.gate.clear()
    journal = Journal(SMALL, tmp_path)
    shipper = Shipper(journal, [quick, strict], in_order={"strict"})
    await journal.open()
    new = say(journal)
    await shipper.start()
    await until(lambda: len(quick.records) == 4)
    strict.gate.set()
    await until(lambda: len(strict.records) == 4)
    assert list(strict.records) == [one.id for one in asked] + new
    await shipper.aclose(1)
    await journal.aclose()


async def test_in_order_nothing_is_waited_for_when_nothing_was_left(tmp_path: Path) -> None:
    strict = Memory("strict")
    journal = Journal(SMALL, tmp_path)
    shipper = Shipper(journal, [strict], in_order={"strict"})
    await journal.open()
    await shipper.start()
    say(journal)
    await until(lambda: len(strict.records) == 1, patience=1)
    await shipper.aclose(1)
    await journal.aclose()


async def test_one_keeper_may_begin_before_the_others(tmp_path: Path) -> None:
    early, late = Memory("early"), Memory("late")
    journal = Journal(SMALL, tmp_path)
    shipper = Shipper(journal, [late, early])
    await journal.open()
    old = interaction()
    folder = orphan(tmp_path, [begun(old), finished(old, answer())])
    (new,) = say(journal)
    await shipper.start("early")
    await until(lambda: set(early.records) == {old.id, new})
    assert late.records == {}
    assert shipper.state().pending_for == {"late": 1, "early": 0}
    await shipper.start()
    await until(lambda: set(late.records) == {old.id, new})
    await until(lambda: not folder.exists())
    assert early.taken == 2
    await shipper.aclose(1)
    await journal.aclose()


async def test_a_folder_that_one_keeper_has_not_got_is_left_for_the_next_process(tmp_path: Path) -> None:
    old = interaction()
    folder = orphan(tmp_path, [begun(old), finished(old, answer())])
    here, away = Memory("here"), Memory("away")
    away.is_down = True
    for _ in range(2):
        journal = Journal(SMALL, tmp_path)
        shipper = Shipper(journal, [here, away], in_order={"away"})
        await journal.open()
        await shipper.start()
        await until(lambda: len(here.records) == 1)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(3):
            await shipper.aclose(10)  # what it would send next waits for the dead's: there is nothing to wait for
            await journal.aclose()
        away.is_abandoned = False
        assert folder.exists()
    assert here.taken == 1
