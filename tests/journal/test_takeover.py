"""Takeover: the next process ships a dead process's journal, all of it and once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from gateway.journal import lock
from gateway.journal.journal import Journal
from gateway.journal.locations import Position, segment_numbers, segment_path
from gateway.journal.subscription import Cursor
from gateway.model import Kind, Outcome
from gateway.settings import JournalSettings
from gateway.shipping.shipper import Shipper
from tests.journal.old_frames import begun, finished, part
from tests.journal.samples import SMALL, Memory, answer, chunk, interaction
from tests.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.model import Record

ROOT = Path(__file__).parents[2]
LARGE = JournalSettings(min_free_bytes=0, shipped_s=0)


async def taken_over(directory: Path, *sinks: Memory, timeout_s: float = 20.0) -> None:
    """Opens a journal there and ships until only its own folder is left."""
    journal = Journal(LARGE, directory)
    shipper = Shipper(journal, sinks)
    await journal.open()
    await shipper.start()
    try:
        async with asyncio.timeout(timeout_s):
            while others(directory, journal.folder):
                await asyncio.sleep(0.01)
    finally:
        await shipper.aclose(1)
        await journal.aclose()


def others(directory: Path, own: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path != own and path.name != "quarantine"]


def dead_folder(directory: Path, *parts: list[bytes] | bytes) -> Path:
    """Returns a dead process's folder; each part is the content of one segment."""
    folder = lock.JournalFolder.new(directory)
    folder.create()
    for number, content in enumerate(parts, 1):
        segment_path(folder.path, number).write_bytes(content if isinstance(content, bytes) else b"".join(content))
    folder.release()
    return folder.path


def words_of(record: Record) -> str:
    return str(json.loads(record.answer.body)["choices"][0]["message"]["content"])


# --- killed at random moments -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.journal.child", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ledger_until_killed(directory: Path, seed: int) -> list[list[str]]:
    with child("write", str(directory), str(seed)) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # it is under way
        time.sleep(random.Random(seed).uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    return [line.split() for line in lines if line.endswith("\n")]


async def test_nothing_is_lost_by_kill_9_at_random_moments(tmp_path: Path) -> None:
    for seed in range(8):
        ledger = await asyncio.to_thread(ledger_until_killed, tmp_path, seed)
        memory = Memory()
        await taken_over(tmp_path, memory)
        kept = {str(key): record for key, record in memory.records.items()}
        known = {"begun": 0, "part": 0, "finished": 0}
        for event, key, number in ledger:
            known[event] += 1
            record = kept[key]
            if event == "begun":
                assert len(record.interaction.body) == int(number)
            elif event == "part" and record.answer.outcome is Outcome.INTERRUPTED:
                assert words_of(record).split()[: int(number)] == [str(count) for count in range(int(number))]
            elif event == "finished":
                assert (record.answer.outcome, record.answer.body) == (Outcome.COMPLETE, number.encode())
        assert memory.taken == len(memory.records)
        assert len(kept) - known["begun"] in (0, 1)  # the last one may have been killed before it could say so
        assert known["finished"] > 0


async def test_two_processes_take_over_each_journal_once(tmp_path: Path) -> None:
    wanted = []
    for _ in range(15):
        asked = [interaction(b"x" * 100) for _ in range(20)]
        dead_folder(tmp_path, [begun(one) + finished(one, answer()) for one in asked])
        wanted += [str(one.id) for one in asked]
    with child("takeover", str(tmp_path)) as one, child("takeover", str(tmp_path)) as other:
        for process in (one, other):
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        await until(lambda: len(others(tmp_path, tmp_path)) <= 2, timeout_s=20, period_s=0.02)
        found = [out for process in (one, other) for out in process.communicate("end\n")[0].split("\n") if out]
    kept = Counter(line.removeprefix("kept ") for line in found if line.startswith("kept "))
    assert kept == Counter(wanted)


async def test_a_living_processs_journal_is_not_taken_over(tmp_path: Path) -> None:
    living = Journal(SMALL, tmp_path)
    await living.open()
    entry = living.begin(interaction())
    memory = Memory()
    journal = Journal(LARGE, tmp_path)
    shipper = Shipper(journal, [memory])
    await journal.open()
    await shipper.start()
    await asyncio.sleep(0.2)
    assert memory.records == {}
    entry.finish(answer())
    await shipper.aclose(1)
    await journal.aclose()
    await living.aclose()


# --- what a takeover ships --------------------------------------------------------------------------------------------


async def test_parts_of_a_dead_process_become_an_interrupted_record(tmp_path: Path) -> None:
    asked = interaction(is_stream=True, started_at=time.time() - 5)
    dead_folder(tmp_path, [begun(asked), part(asked, chunk("Hello, "), chunk("wor")), part(asked, chunk("ld"))])
    memory = Memory()
    await taken_over(tmp_path, memory)
    record = memory.records[asked.id]
    assert record.interaction == asked
    assert record.answer.outcome is Outcome.INTERRUPTED
    assert words_of(record) == "Hello, world"
    assert 4000 < record.answer.duration_ms < 20_000
    assert record.answer.error is not None
    assert record.answer.usage is not None
    assert record.answer.usage.is_estimate


async def test_an_interrupted_response_is_assembled_from_its_events(tmp_path: Path) -> None:
    asked = interaction(kind=Kind.RESPONSE, is_stream=True, path="/v1/responses")
    said = b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"Hel"}\n\n'
    dead_folder(tmp_path, [begun(asked), part(asked, said, said.replace(b"Hel", b"lo"))])
    memory = Memory()
    await taken_over(tmp_path, memory)
    body = json.loads(memory.records[asked.id].answer.body)
    assert body["output"][0]["content"][0]["text"] == "Hello"


async def test_parts_with_the_last_event_have_the_outcome_of_the_stream(tmp_path: Path) -> None:
    stop = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    failed, done = stop.replace(b"stop", b"error"), b"data: [DONE]\n\n"
    for number, (end, outcome) in enumerate(
        [
            ([stop, done], Outcome.COMPLETE),
            ([done], Outcome.TRUNCATED),  # B11
            ([failed], Outcome.UPSTREAM_ERROR),  # B10
            ([b'data: {"error":{"message":"no"}}\n\n', done], Outcome.UPSTREAM_ERROR),
            ([stop], Outcome.INTERRUPTED),
        ]
    ):
        asked = interaction(is_stream=True)
        dead_folder(tmp_path / str(number), [begun(asked), part(asked, chunk("all"), *end)])
        memory = Memory()
        await taken_over(tmp_path / str(number), memory)
        answered = memory.records[asked.id].answer
        assert (answered.outcome, answered.error is None) == (outcome, outcome is Outcome.COMPLETE)


async def test_parts_that_are_not_events_are_recorded_byte_for_byte(tmp_path: Path) -> None:
    chat, other = interaction(is_stream=True), interaction(kind=Kind.OTHER)
    dead_folder(tmp_path, [begun(chat), begun(other), part(chat, b'{"half'), part(other, b"\x00\xff")])
    memory = Memory()
    await taken_over(tmp_path, memory)
    assert memory.records[chat.id].answer.body == b'{"half'
    assert memory.records[other.id].answer.body == b"\x00\xff"


async def test_a_request_without_an_answer_is_recorded(tmp_path: Path) -> None:
    asked = interaction(b"only asked")
    dead_folder(tmp_path, [begun(asked)])
    memory = Memory()
    await taken_over(tmp_path, memory)
    assert memory.records[asked.id].interaction.body == b"only asked"
    assert memory.records[asked.id].answer.body == b""


async def test_a_compacted_record_keeps_all_its_parts(tmp_path: Path) -> None:
    asked, torn = interaction(is_stream=True), interaction(is_stream=True)
    first = [begun(asked), begun(torn), part(asked, chunk("one "), chunk("two ")), part(torn, chunk("uno "))]
    moved = [begun(asked), part(asked, chunk("one "), chunk("two ")), part(asked, chunk("three")), begun(torn)]
    dead_folder(tmp_path, first, moved)
    memory = Memory()
    await taken_over(tmp_path, memory)
    assert words_of(memory.records[asked.id]) == "one two three"
    assert words_of(memory.records[torn.id]) == "uno "  # died between the two frames of the move


async def test_a_torn_tail_is_cut_off_reported_and_set_aside(tmp_path: Path) -> None:
    whole, torn = interaction(b"whole"), interaction(b"torn")
    tail = finished(torn, answer(b"never came"))[:-3]
    folder = dead_folder(tmp_path, [begun(whole), begun(torn), finished(whole, answer()), tail])
    memory = Memory()
    await taken_over(tmp_path, memory)
    assert memory.records[whole.id].answer.outcome is Outcome.COMPLETE
    assert memory.records[torn.id].answer.outcome is Outcome.INTERRUPTED
    (aside,) = (tmp_path / "quarantine").glob("*.frames")
    assert aside.read_bytes() == tail
    assert folder.name in aside.name


async def test_damage_in_one_segment_does_not_hide_the_next_ones(tmp_path: Path) -> None:
    first, second = interaction(), interaction()
    damaged = bytearray(begun(first) + finished(first, answer()))
    damaged[-1] ^= 1
    dead_folder(tmp_path, bytes(damaged), [begun(second), finished(second, answer()), bytes(5000)])
    memory = Memory()
    await taken_over(tmp_path, memory)
    assert memory.records[first.id].answer.outcome is Outcome.INTERRUPTED
    assert memory.records[second.id].answer.outcome is Outcome.COMPLETE


async def test_a_takeover_begins_at_the_dead_processs_cursor(tmp_path: Path) -> None:
    shipped, left = interaction(), interaction()
    done = begun(shipped) + finished(shipped, answer())
    folder = dead_folder(tmp_path, [done, begun(left), finished(left, answer())])
    cursor = Cursor(folder / "memory.cursor")
    cursor.write(Position(1, len(done)))
    cursor.close()
    memory, newcomer = Memory(), Memory("newcomer")
    await taken_over(tmp_path, memory, newcomer)
    assert set(memory.records) == {left.id}
    assert set(newcomer.records) == {shipped.id, left.id}


async def test_a_takeover_waits_for_a_sink_that_is_away(tmp_path: Path) -> None:
    asked = interaction()
    folder = dead_folder(tmp_path, [begun(asked), finished(asked, answer())])
    memory = Memory()
    memory.is_down = True
    with pytest.raises(TimeoutError):
        await taken_over(tmp_path, memory, timeout_s=0.5)
    assert folder.exists()
    memory.is_down = memory.is_abandoned = False
    await taken_over(tmp_path, memory)
    assert set(memory.records) == {asked.id}


async def test_other_files_in_the_directory_stay(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    journal = Journal(SMALL, tmp_path)
    shipper = Shipper(journal, [Memory()])
    await journal.open()
    await shipper.start()
    await asyncio.sleep(0.1)
    await shipper.aclose(1)
    await journal.aclose()
    assert sorted(path.name for path in others(tmp_path, tmp_path)) == ["lost+found", "notes.txt"]
    assert others(tmp_path / "lost+found", tmp_path) == []


async def test_a_journal_of_many_megabytes_is_streamed(tmp_path: Path) -> None:
    class Forgetful(Memory):
        async def keep(self, records: object) -> None:
            self.taken += len(records)  # type: ignore[arg-type]

    count = 120
    for _ in range(5):
        content = []
        for _ in range(count // 5):
            asked = interaction(b"q" * 500_000)
            content += [begun(asked), finished(asked, answer(b"a" * 500_000))]
        dead_folder(tmp_path, content)
        del content
    forgetful = Forgetful()
    process = psutil.Process()
    before, most = process.memory_info().rss, 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    await taken_over(tmp_path, forgetful)
    watching.cancel()
    assert forgetful.taken == count
    assert most - before < 60 << 20


async def test_a_frame_larger_than_a_block_is_read(tmp_path: Path) -> None:
    asked = interaction(b"q" * 3_000_000)
    dead_folder(tmp_path, [begun(asked), finished(asked, answer(b"a" * 5_000_000)), bytes(100_000)])
    memory = Memory()
    await taken_over(tmp_path, memory)
    assert len(memory.records[asked.id].answer.body) == 5_000_000
    assert not (tmp_path / "quarantine").exists()


async def test_an_abandoned_new_folder_is_removed(tmp_path: Path) -> None:
    folder = lock.JournalFolder.new(tmp_path)
    unready = folder.path.with_name(folder.path.name + lock.NEW_SUFFIX)
    unready.mkdir()
    list(lock.lock_dead_folders(tmp_path))
    assert unready.exists()  # perhaps somebody is just making it
    long_ago = time.time() - 1000
    os.utime(unready, (long_ago, long_ago))
    list(lock.lock_dead_folders(tmp_path))
    assert not unready.exists()


def test_the_numbers_of_segments_may_have_gaps(tmp_path: Path) -> None:
    for number in (7, 2, 5):
        segment_path(tmp_path, number).write_bytes(b"")
    (tmp_path / "other.seg").write_bytes(b"")
    assert segment_numbers(tmp_path) == [2, 5, 7]
