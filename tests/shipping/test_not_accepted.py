"""A sink that refuses records for another cause than their data: all wait, or these are retried; none is lost."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from gateway.errors import RecordNotAccepted
from gateway.journal.journal import Journal, JournalOptions
from gateway.model import Principal, Record
from gateway.shipping.circuit_breaker import Backoff
from gateway.shipping.retry_queue import RetryOptions
from gateway.shipping.shipper import Shipper, ShipperOptions
from tests.journal.old_frames import begun, finished
from tests.journal.samples import SMALL, Memory, answer, interaction
from tests.journal.test_takeover import dead_folder
from tests.polling import until
from tests.shipping.test_shipper import settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import pytest

QUICK = RetryOptions(scan_s=0.02, backoff=Backoff(first_s=0.02, longest_s=0.1))


@asynccontextmanager
async def shipping(
    directory: Path, *sinks: Memory, retry: RetryOptions = QUICK, **more: Any
) -> AsyncIterator[tuple[Journal, Shipper]]:
    journal = Journal(more.pop("settings", SMALL), directory, options=JournalOptions(tick_s=0.02))
    shipper = Shipper(journal, sinks, options=ShipperOptions(retry=retry))
    await journal.open()
    await shipper.start()
    try:
        yield journal, shipper
    finally:
        await shipper.aclose(more.pop("deadline_s", 0.3))
        await journal.aclose()


def say(journal: Journal, count: int = 1, by: str = "ann", **more: Any) -> list[UUID]:
    entries = [journal.begin(interaction(b"{}", principal=Principal(by), **more)) for _ in range(count)]
    for entry in entries:
        entry.finish(answer(b"{}"))
    return [entry.id for entry in entries]


def is_by(name: str) -> Any:
    return lambda record: record.interaction.principal.user == name


async def test_e1_when_every_record_is_refused_all_wait_in_order_and_the_cause_is_named(tmp_path: Path) -> None:
    memory = Memory()
    memory.rejects = lambda _record: True
    with structlog.testing.capture_logs() as logged:
        async with shipping(tmp_path, memory) as (journal, shipper):
            said: list[UUID] = []
            for number in range(40):
                said += say(journal, 5, by=f"user {number % 3}")
                await asyncio.sleep(0.01)
            await until(lambda: shipper.state().fault is not None)
            state, (sink,) = shipper.state(), shipper.sinks()
            assert (state.pending, state.retrying, state.quarantined) == (200, 0, 0)
            assert state.fault == "a constraint does not like it"
            assert (sink.is_down, sink.causes) == (True, ("23514",))
            memory.rejects = lambda _record: False
            await until(lambda: len(memory.records) == 200)
            assert list(memory.records) == said
            assert memory.raw == {}
            await until(lambda: shipper.state().pending == 0)
            assert shipper.state().fault is None
    assert [line["cause"] for line in logged if line["event"] == "sink_accepts_nothing"] == ["23514"]  # once


async def test_e1_a_lone_record_waits_and_is_tried_again(tmp_path: Path) -> None:
    memory = Memory()
    memory.rejects = lambda _record: True
    async with shipping(tmp_path, memory) as (journal, shipper):
        said = say(journal)
        await until(lambda: shipper.state().fault is not None)
        await asyncio.sleep(0.5)
        assert shipper.state().pending == 1
        memory.rejects = lambda _record: False
        await until(lambda: list(memory.records) == said)
        assert memory.raw == {}


async def test_e1_refused_records_of_one_user_are_retried_and_delay_no_other(tmp_path: Path) -> None:
    memory = Memory()
    memory.rejects = is_by("bob")
    with structlog.testing.capture_logs() as logged:
        async with shipping(tmp_path, memory) as (journal, shipper):
            others, bobs = say(journal, 20), say(journal, 5, by="bob")
            others += say(journal, 20)
            await until(lambda: shipper.state().pending == 0)
            assert set(memory.records) == set(others)
            state, (sink,) = shipper.state(), shipper.sinks()
            assert (state.retrying, state.quarantined) == (5, 0)
            assert state.fault == "a constraint does not like it"
            assert (sink.is_down, sink.causes, sink.retrying) == (False, ("23514",), 5)
            bobs += say(journal, 5, by="bob")
            others += say(journal, 5)
            await until(lambda: len(memory.records) == 45 and shipper.state().retrying == 10)
            memory.rejects = lambda _record: False
            await until(lambda: len(memory.records) == 55)
            assert set(memory.records) == {*others, *bobs}
            assert memory.raw == {}
            await until(lambda: shipper.state().fault is None)
            assert shipper.state().kept == 55
    assert len([line for line in logged if line["event"] == "record_waits_apart"]) < 6  # not for every record
    assert not list((tmp_path / "retry-memory").iterdir())


async def test_e1_the_retry_queue_survives_the_process(tmp_path: Path) -> None:
    memory = Memory()
    memory.rejects = is_by("bob")
    async with shipping(tmp_path, memory) as (journal, shipper):
        bobs = say(journal, 3, by="bob", root_id="one")
        say(journal, 3)
        await until(lambda: shipper.state().retrying == 3)
        said = {key: Record(interaction(), answer()) for key in bobs}
    again = Memory()
    again.rejects = is_by("bob")
    async with shipping(tmp_path, again) as (journal, shipper):
        assert shipper.state().retrying == 3
        bobs += say(journal, 1, by="bob", root_id="one")  # its conversation waits, so it waits behind
        await until(lambda: shipper.state().retrying == 4)
        again.rejects = lambda _record: False
        await until(lambda: len(again.records) == 4)
        assert list(again.records) == bobs
        assert said.keys() < again.records.keys()
        (one, *_) = again.records.values()
        assert (one.interaction.body, one.answer.body, one.interaction.root_id) == (b"{}", b"{}", "one")


async def test_e1_later_records_of_a_conversation_wait_behind_the_one_that_is_refused(tmp_path: Path) -> None:
    memory = Memory()
    poison = "not this one"
    memory.rejects = lambda record: record.interaction.request_id == poison
    async with shipping(tmp_path, memory) as (journal, shipper):
        before = say(journal, 2, root_id="r")
        behind = say(journal, 1, root_id="r", request_id=poison)
        behind += say(journal, 3, root_id="r")
        elsewhere = say(journal, 2, root_id="other")
        await until(lambda: shipper.state().retrying == 4)
        assert sorted(memory.records) == sorted(before + elsewhere)
        behind += say(journal, 2, root_id="r")
        elsewhere += say(journal, 2, root_id="other")
        await until(lambda: shipper.state().retrying == 6)
        memory.rejects = lambda _record: False
        await until(lambda: len(memory.records) == 12)
        assert [key for key in memory.records if key in behind] == behind


async def test_e1_a_flood_that_is_refused_does_not_hide_those_behind_it(tmp_path: Path) -> None:
    memory = Memory()
    memory.gate.clear()
    memory.rejects = is_by("bob")
    async with shipping(tmp_path, memory, settings=settings_for(large=True)) as (journal, shipper):
        bobs, anns = say(journal, 700, by="bob"), say(journal, 30)
        memory.gate.set()
        await until(lambda: len(memory.records) == 30, 30)
        assert set(memory.records) == set(anns)
        await until(lambda: shipper.state().retrying == 700, 30)
        memory.rejects = lambda _record: False
        await until(lambda: len(memory.records) == 730, 30)
        assert set(memory.records) == {*anns, *bobs}


async def test_e1_when_the_retry_queue_is_full_the_sink_waits(tmp_path: Path) -> None:
    memory = Memory()
    memory.rejects = is_by("bob")
    async with shipping(tmp_path, memory, retry=replace(QUICK, max_records=2)) as (journal, shipper):
        say(journal, 5)
        await until(lambda: len(memory.records) == 5)
        say(journal, 4, by="bob")
        say(journal, 1)
        await until(lambda: shipper.state().retrying == 2)
        await until(lambda: "no more records can wait apart" in (shipper.state().fault or ""))
        assert shipper.state().pending >= 4
        memory.rejects = lambda _record: False
        await until(lambda: len(memory.records) == 10)
        assert memory.raw == {}
        await until(lambda: shipper.state().pending == 0 and shipper.state().retrying == 0)


async def test_e1_a_refused_record_of_a_dead_process_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    bad, good = interaction(principal=Principal("bob")), interaction()
    dead_folder(tmp_path, [begun(bad), finished(bad, answer())])
    dead_folder(tmp_path, [begun(good), finished(good, answer())])
    memory = Memory()
    memory.rejects = is_by("bob")
    async with shipping(tmp_path, memory) as (journal, shipper):
        await until(lambda: shipper.state().fault is not None)
        new = say(journal)  # by which it shows that the sink takes others
        await until(lambda: shipper.state().retrying == 1)
        await until(lambda: set(memory.records) == {*new, good.id})
        await until(lambda: shipper.state().taking_over is None)
        memory.rejects = lambda _record: False
        await until(lambda: bad.id in memory.records)


async def test_e1_a_record_with_bad_data_goes_to_quarantine_at_once_but_not_a_whole_stream(tmp_path: Path) -> None:
    memory = Memory()
    memory.refuses = memory.refuses_raw = is_by("bob")
    async with shipping(tmp_path, memory) as (journal, shipper):
        say(journal, 1, by="bob")
        await until(lambda: shipper.state().quarantined == 1)
        assert shipper.state().fault is None
        memory.refuses = memory.refuses_raw = lambda _record: True  # as if a column had another type
        say(journal, 50)
        await until(lambda: shipper.state().fault is not None)
        assert shipper.state().quarantined <= 4
        memory.refuses = memory.refuses_raw = lambda _record: False
        await until(lambda: shipper.state().pending == 0)
        assert len(memory.records) >= 51 - shipper.state().quarantined


async def test_e1_a_refusal_that_comes_and_goes_loses_and_alters_nothing(tmp_path: Path) -> None:
    memory = Memory()
    calls = 0

    def rejects(record: Record) -> bool:
        nonlocal calls
        calls += 1
        return calls % 7 < 3 and hash(record.interaction.id) % 3 < calls // 50 % 3

    memory.rejects = rejects
    async with shipping(tmp_path, memory) as (journal, shipper):
        said = []
        for number in range(100):
            said += say(journal, 3, by=f"user {number % 5}", root_id=f"root {number % 10}")
            await asyncio.sleep(0.005)
        memory.rejects = lambda _record: False
        await until(lambda: len(memory.records) == 300, 30)
        assert set(memory.records) == set(said)
        assert memory.raw == {}
        await until(lambda: shipper.state().retrying == 0)
        assert shipper.state().quarantined == 0


async def test_a_damaged_file_of_the_retry_queue_goes_to_quarantine(tmp_path: Path) -> None:
    memory = Memory()
    memory.rejects = is_by("bob")
    async with shipping(tmp_path, memory) as (journal, shipper):
        say(journal, 1, by="bob")
        say(journal, 1)
        await until(lambda: shipper.state().retrying == 1)
        (file,) = (tmp_path / "retry-memory").iterdir()
        file.write_bytes(file.read_bytes()[:-1])
        await until(lambda: shipper.state().quarantined == 1 and shipper.state().retrying == 0)


async def test_on_a_disk_with_failing_writes_no_record_is_spooled_twice_and_no_partial_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    memory.rejects = is_by("bob")
    sync, writes = os.fsync, 0

    def fsync(fd: int) -> None:
        nonlocal writes
        if Path(f"/proc/self/fd/{fd}").readlink().suffix == ".new":
            writes += 1
            if writes in (2, 3, 5):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    async with shipping(tmp_path, memory) as (journal, shipper):
        said = say(journal, 3, by="bob")
        say(journal, 1)
        await until(lambda: len(memory.records) == 1 and shipper.state().pending == 0)
        names = [path.name for path in (tmp_path / "retry-memory").iterdir()]
        assert sorted(name[-36:] for name in names) == sorted(map(str, said))
        assert shipper.state().retrying == 3


async def test_e7_a_sink_without_free_descriptors_is_tried_again(tmp_path: Path) -> None:
    class Short(Memory):
        def __init__(self) -> None:
            super().__init__()
            self.errors = [OSError(24, "Too many open files"), MemoryError(), RuntimeError("can't start new thread")]

        async def keep(self, records: Any) -> None:
            if self.errors:
                error = self.errors.pop()
                raise RecordNotAccepted(f"no row can be made: {error}", type(error).__name__) from error
            await super().keep(records)

    short = Short()
    async with shipping(tmp_path, short) as (journal, shipper):
        said = say(journal)
        await until(lambda: list(short.records) == said)
        assert short.raw == {}
        assert shipper.state().quarantined == 0
