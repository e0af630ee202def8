"""Damage in a dead process's journal: bounded to the record it touches, and reported with its count."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import threading
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import orjson
import pytest
from structlog.testing import capture_logs

from gateway.journal import disk as disks
from gateway.journal import reading
from gateway.journal.frames import HEADER_SIZE, MARKER_SIZE, Frame, FrameKind
from gateway.journal.journal import Journal, JournalOptions
from gateway.journal.locations import segment_numbers, segment_path
from gateway.model import Outcome
from gateway.shipping.quarantine import Quarantine
from gateway.shipping.shipper import Shipper
from tests.journal.dead import flip, frames_of, kill, take_over_all
from tests.journal.samples import SMALL, Memory, answer, chunk, interaction
from tests.journal.test_journal import opened, taken
from tests.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from gateway.journal.locations import Extent


MANY = replace(SMALL, max_bytes=1 << 26)


@asynccontextmanager
async def written(directory: Path, count: int, *, is_open_at_once: int = 20) -> AsyncIterator[Journal]:
    """A journal with so many finished records, several under way at any time; nothing of it is shipped."""
    async with opened(directory / "live", MANY, options=JournalOptions(tick_s=1000)) as journal:
        live = []
        for number in range(count):
            entry = journal.begin(interaction(b"asked %d" % number * 60, is_stream=True))
            entry.part([chunk(f"{number} ")])
            live.append(entry)
            if len(live) == is_open_at_once or number > count - is_open_at_once:
                first = live.pop(0)
                first.part([chunk("more")])
                first.finish(answer(b"said"))
            if number % 20 == 0:
                await asyncio.sleep(0.002)
        for entry in live:
            entry.finish(answer(b"said"))
        yield journal
        taken(journal)


def keys_of(folder: Path, number: int, kind: FrameKind) -> set[UUID]:
    return {UUID(bytes=one.key) for one in frames_of(folder, number) if isinstance(one, Frame) and one.kind is kind}


def all_keys(folder: Path) -> set[UUID]:
    return set().union(*(keys_of(folder, number, FrameKind.BEGUN) for number in segment_numbers(folder)))


def whole_in(memory: Memory) -> set[UUID]:
    return {key for key, record in memory.records.items() if record.answer.outcome is Outcome.COMPLETE}


def set_aside(directory: Path) -> list[str]:
    return sorted(path.stem for path in directory.glob("quarantine/*.json"))


# --- segments that a gateway from before their format has set aside ---------------------------------------------------


async def test_segments_in_an_older_gateways_quarantine_become_rows(tmp_path: Path) -> None:
    """It does so with the whole file; the oldest ones had been shipped before."""
    async with written(tmp_path, 200) as journal:
        folder, directory = kill(journal, tmp_path / "dead"), tmp_path / "again"
        numbers = [
            number for number in segment_numbers(folder) if segment_path(folder, number).read_bytes().strip(b"\0")
        ][2:]
        wanted = set().union(*(keys_of(folder, number, FrameKind.BEGUN) for number in numbers))
        quarantine, memory = Quarantine(directory), Memory()
        for number in numbers:
            data = segment_path(folder, number).read_bytes().rstrip(b"\0")
            quarantine.put_frames(f"{folder.name}-{number}-0", data, "unknown kind 248")
        quarantine.put_frames("x", b"something else", "cut short")
        live = await take_over_all(directory, memory)
        assert set(memory.records) == whole_in(memory) == wanted
        assert live.losses.records == 0
        assert set_aside(directory) == ["x"]


# --- one flipped bit -------------------------------------------------------------------------------------------------


async def test_e5_one_flipped_bit_costs_at_most_the_one_record_that_it_touches_and_is_reported(tmp_path: Path) -> None:
    chance = random.Random(5)
    async with written(tmp_path, 200) as journal:
        assert len(segment_numbers(journal.folder)) > 4
        for trial in range(40):
            directory = tmp_path / f"dead-{trial}"
            folder = kill(journal, directory)
            wanted = all_keys(folder)
            assert len(wanted) == 200
            path = chance.choice([path for path in sorted(folder.glob("*.seg")) if path.stat().st_size])
            frames = frames_of(folder, int(path.stem))
            at = chance.randrange(path.stat().st_size)
            flip(path, at, chance.randrange(8))
            memory = Memory()
            with capture_logs() as lines:
                successor = await take_over_all(directory, memory)
            touched = next((one for one in frames if one.start <= at < one.end), None)
            assert isinstance(touched, Frame | None)
            lost = wanted - whole_in(memory)
            assert lost <= ({UUID(bytes=touched.key)} if touched else set())
            assert successor.state.lost_records == len(lost)
            assert (successor.state.loss is not None) is bool(lost)
            damaged = [line for line in lines if line["event"] == "journal_damaged"]
            is_marker = touched is not None and at - touched.start < MARKER_SIZE
            assert len(damaged) == (0 if is_marker else 1), (at, touched)
            assert memory.taken == len(memory.records)
            for key in lost & memory.records.keys():
                assert memory.records[key].answer.outcome is Outcome.INTERRUPTED


def place_of(folder: Path, kind: FrameKind, nth: int) -> tuple[Path, Frame]:
    number = segment_numbers(folder)[0]
    frames = [one for one in frames_of(folder, number) if isinstance(one, Frame) and one.kind is kind]
    return segment_path(folder, number), frames[nth]


WHERE = {"length": MARKER_SIZE, "crc": 12, "kind": 16, "id": 20, "payload": HEADER_SIZE + 20}


@pytest.mark.parametrize("where", WHERE)
async def test_e5_a_damaged_request_sends_all_frames_of_its_record_to_quarantine(tmp_path: Path, where: str) -> None:
    async with written(tmp_path, 60) as journal:
        folder = kill(journal, tmp_path / "dead")
        wanted = all_keys(folder)
    path, frame = place_of(folder, FrameKind.BEGUN, 5)
    whole = path.read_bytes()[frame.start : frame.end]
    flip(path, frame.start + WHERE[where], 1)
    memory = Memory()
    successor = await take_over_all(tmp_path / "dead", memory)
    key = UUID(bytes=frame.key)
    assert memory.records.keys() == whole_in(memory) == wanted - {key}
    assert successor.state.lost_records == 1
    aside = (tmp_path / "dead" / "quarantine" / f"{key}.frames").read_bytes()
    assert whole[HEADER_SIZE + 40 :] in aside  # the request
    assert b"said" in aside  # and its answer


@pytest.mark.parametrize("where", WHERE)
async def test_e5_a_record_with_a_damaged_end_has_its_parts_in_the_row(tmp_path: Path, where: str) -> None:
    async with written(tmp_path, 60) as journal:
        folder = kill(journal, tmp_path / "dead")
        wanted = all_keys(folder)
    path, frame = place_of(folder, FrameKind.FINISHED, 5)
    flip(path, frame.start + WHERE[where], 1)
    memory = Memory()
    successor = await take_over_all(tmp_path / "dead", memory)
    key = UUID(bytes=frame.key)
    assert memory.records.keys() == wanted
    assert wanted - whole_in(memory) == {key}
    said = memory.records[key].answer
    assert said.outcome is Outcome.INTERRUPTED
    assert orjson.loads(said.body)["choices"][0]["message"]["content"].endswith(" more")
    assert successor.state.lost_records == 1
    (name,) = set_aside(tmp_path / "dead")
    assert name == f"{folder.name}-{int(path.stem)}-{frame.start}"


async def test_e5_an_interrupted_answer_ends_before_a_damaged_piece_of_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "live", MANY) as journal:
        entry = journal.begin(interaction(is_stream=True))
        for number in range(6):
            entry.part([chunk(f"{number} ")])
        folder = kill(journal, tmp_path / "dead")
        entry.finish(answer())
        taken(journal)
    parts = [one for one in frames_of(folder, 1) if isinstance(one, Frame) and one.kind is FrameKind.PART]
    for name, at in (("header", MARKER_SIZE + 1), ("payload", HEADER_SIZE + 3)):
        directory = tmp_path / name
        shutil.copytree(tmp_path / "dead", directory)
        flip(segment_path(directory / folder.name, 1), parts[3].start + at)
        memory = Memory()
        successor = await take_over_all(directory, memory)
        body = orjson.loads(memory.records[entry.id].answer.body)
        assert body["choices"][0]["message"]["content"] == "0 1 2 "
        assert successor.state.lost_records == 0
        assert len(set_aside(directory)) == 1


async def test_e5_damage_to_a_finished_answers_parts_or_a_segments_header_costs_nothing(tmp_path: Path) -> None:
    async with written(tmp_path, 60) as journal:
        folder = kill(journal, tmp_path / "dead")
        wanted = all_keys(folder)
    path, frame = place_of(folder, FrameKind.PART, 3)
    flip(path, frame.start + HEADER_SIZE)
    for number in segment_numbers(folder):
        if frames_of(folder, number):
            flip(segment_path(folder, number), number)
    memory = Memory()
    successor = await take_over_all(tmp_path / "dead", memory)
    assert whole_in(memory) == wanted
    assert successor.state.lost_records == 0
    assert successor.state.loss is None


async def test_e5_a_compacted_record_survives_damage_to_either_copy(tmp_path: Path) -> None:
    async with opened(tmp_path / "live", MANY) as journal:
        slow = journal.begin(interaction(b"slow", is_stream=True))
        slow.part([chunk("one "), chunk("two ")])
        while slow.begun is None or slow.begun.segment == 1:
            journal.begin(interaction(b"x" * 10_000)).finish(answer())
            await asyncio.sleep(0.01)
        slow.part([chunk("three")])
        folder = kill(journal, tmp_path / "dead")
        old, new = 1, slow.begun.segment
        slow.finish(answer())
        taken(journal)
    words = {
        (old, FrameKind.BEGUN): "one two three",
        (new, FrameKind.BEGUN): "one two three",
        (old, FrameKind.PART): "one two three",
        (new, FrameKind.PART): "one two ",  # the old one has these; "three" would stand behind a hole
    }
    for (number, kind), said in words.items():
        directory = tmp_path / f"{number}-{kind}"
        shutil.copytree(tmp_path / "dead", directory, ignore=shutil.ignore_patterns("*.cursor"))
        frame = next(one for one in frames_of(folder, number) if one.header and one.header[3:5] == (kind, slow.key))
        flip(segment_path(directory / folder.name, number), frame.end - 1)
        memory = Memory()
        await take_over_all(directory, memory)
        body = orjson.loads(memory.records[slow.id].answer.body)
        assert body["choices"][0]["message"]["content"] == said, (number, kind)
        assert memory.records[slow.id].interaction.body == b"slow"


async def test_pages_that_the_disk_cannot_read_cost_the_records_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with written(tmp_path, 60) as journal:
        folder = kill(journal, tmp_path / "dead")
        wanted = all_keys(folder)
    number = segment_numbers(folder)[0]
    frames = frames_of(folder, number)
    touched = {one.header.key for one in frames if one.header and one.start < 12_288 and one.end > 8192}
    broken = segment_path(folder, number).stat().st_ino
    read = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == broken and offset < 12_288 and offset + size > 8192:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    memory = Memory()
    successor = await take_over_all(tmp_path / "dead", memory)
    lost = wanted - whole_in(memory)
    assert 0 < successor.state.lost_records <= len(lost)
    assert {key.bytes for key in lost} <= touched


# --- missing segments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", [0, 1, 3, -1])
async def test_e6_a_missing_segment_is_reported_with_its_number_and_its_records(tmp_path: Path, nth: int) -> None:
    async with written(tmp_path, 300) as journal:
        folder = kill(journal, tmp_path / "dead")
    wanted = all_keys(folder)
    numbers = [number for number in segment_numbers(folder) if frames_of(folder, number)]
    number = numbers[nth]
    begun, finished = (keys_of(folder, number, kind) for kind in (FrameKind.BEGUN, FrameKind.FINISHED))
    segment_path(folder, number).unlink()
    memory = Memory()
    with capture_logs() as lines:
        successor = await take_over_all(tmp_path / "dead", memory)
    assert wanted - whole_in(memory) == begun | finished
    assert wanted - memory.records.keys() == begun
    (line,) = [line for line in lines if line["event"] == "journal_segment_missing"]
    assert number in line["segments"]
    assert line["records"] == max(len(begun), len(finished)) == successor.state.lost_records
    assert str(number) in (successor.state.loss or "")
    later = set(set_aside(tmp_path / "dead"))
    assert later == {str(key) for key in begun - finished}  # whose ends are at hand


async def test_e6_shipped_records_of_the_cursors_segment_are_not_counted(tmp_path: Path) -> None:
    async with written(tmp_path, 300) as journal:
        (subscription,) = journal.subscriptions
        shipped = subscription.peek(100, 1 << 30)
        subscription.acknowledge(shipped)
        folder = kill(journal, tmp_path / "dead")
        number = subscription.delivered_up_to(journal.end).segment
    assert number > 1
    done = {pending.id for pending in shipped}
    begun = keys_of(folder, number, FrameKind.BEGUN) - done
    wanted = all_keys(folder) - done
    segment_path(folder, number).unlink()
    memory = Memory()
    successor = await take_over_all(tmp_path / "dead", memory)
    assert wanted - memory.records.keys() == begun
    assert successor.state.lost_records == len(begun)


async def test_e6_segments_dropped_after_shipping_are_not_missing(tmp_path: Path) -> None:
    async with written(tmp_path, 300) as journal:
        (subscription,) = journal.subscriptions
        subscription.acknowledge(subscription.peek(150, 1 << 30))
        folder = kill(journal, tmp_path / "dead")
    for path in folder.glob("*.kept"):
        path.unlink()
    assert segment_numbers(folder)[0] > 2
    for name in ("memory", "newcomer", "damaged"):
        directory = tmp_path / name
        shutil.copytree(tmp_path / "dead", directory)
        if name == "damaged":
            flip(directory / folder.name / "memory.cursor", 3)
        memory = Memory("newcomer" if name == "newcomer" else "memory")
        with capture_logs() as lines:
            successor = await take_over_all(directory, memory)
        assert successor.state.lost_records == 0
        assert len(memory.records) >= 150
        assert Counter(line["event"] for line in lines)["journal_segment_missing"] == 0
        assert set_aside(directory) == []


async def test_e6_all_segments_missing_and_a_cut_one_are_reported(tmp_path: Path) -> None:
    async with written(tmp_path, 100) as journal:
        folder = kill(journal, tmp_path / "dead")
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "dead", cut)
    for number in segment_numbers(folder):
        segment_path(folder, number).unlink()
    successor = await take_over_all(tmp_path / "dead", Memory())
    assert successor.state.lost_records == 100
    number = next(number for number in segment_numbers(cut / folder.name)[1:] if frames_of(cut / folder.name, number))
    frames = frames_of(cut / folder.name, number)
    begun = keys_of(cut / folder.name, number, FrameKind.BEGUN)
    with segment_path(cut / folder.name, number).open("r+b") as file:
        file.truncate(frames[0].end)
    memory = Memory()
    successor = await take_over_all(cut, memory)
    is_begun = frames[0].header is not None and frames[0].header.kind is FrameKind.BEGUN
    assert len(memory.records) == 100 - len(begun) + is_begun
    assert successor.state.lost_records >= 100 - len(memory.records) > 0


async def test_e6_each_loss_is_counted_once_however_many_sinks_meet_it(tmp_path: Path) -> None:
    async with written(tmp_path, 100) as journal:
        folder = kill(journal, tmp_path / "dead")
    number = next(number for number in segment_numbers(folder)[1:] if frames_of(folder, number))
    missing = max(len(keys_of(folder, number, kind)) for kind in (FrameKind.BEGUN, FrameKind.FINISHED))
    segment_path(folder, number).unlink()
    path, frame = place_of(folder, FrameKind.BEGUN, 1)
    flip(path, frame.start + HEADER_SIZE)
    one, two = Memory("one"), Memory("two")
    successor = await take_over_all(tmp_path / "dead", one, two)
    assert one.records.keys() == two.records.keys()
    assert successor.state.lost_records == missing + 1


async def test_a_lack_of_descriptors_delays_shipping_and_reports_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    journal = Journal(SMALL, tmp_path, options=JournalOptions(tick_s=0.05, cached_bytes=0))
    shipper = Shipper(journal, [memory])
    await journal.open()
    entry = journal.begin(interaction())
    entry.finish(answer())
    tried = asyncio.Event()
    loop = asyncio.get_running_loop()
    read_extents = reading.read_extents
    has_descriptors = threading.Event()

    def read(folder: Path, spans: Iterable[Extent]) -> dict[Extent, bytes]:
        loop.call_soon_threadsafe(tried.set)
        if not has_descriptors.is_set():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read_extents(folder, spans)

    monkeypatch.setattr(disks, "RETRY_S", 0.01)
    monkeypatch.setattr(reading, "read_extents", read)
    await shipper.start()
    await tried.wait()
    has_descriptors.set()
    await until(lambda: entry.id in memory.records)
    assert set_aside(tmp_path) == []
    await shipper.aclose(1)
    await journal.aclose()


async def test_e6_a_missing_last_segment_is_reported_within_a_second_of_its_start(
    tmp_path: Path,
) -> None:
    async with written(tmp_path, 100) as journal:
        folder = kill(journal, tmp_path / "dead", has_noted=False)
    number = [number for number in segment_numbers(folder) if frames_of(folder, number)][-1]
    for path in folder.glob("*.seg"):
        if int(path.stem) >= number:
            path.unlink()
    with capture_logs() as lines:
        await take_over_all(tmp_path / "dead", Memory())
    (line,) = [line for line in lines if line["event"] == "journal_segment_missing"]
    assert line["segments"] == (number,)
