"""Records in quarantine: files that are whole, come back exactly once, and go only when they are rows."""

from __future__ import annotations

import asyncio
import errno
import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.journal.frames import FrameWriter
from gateway.journal.meta import encode_answer, encode_interaction
from gateway.model import Principal, Record, Usage
from gateway.shipping.quarantine import Quarantine
from gateway.shipping.quarantine_retry import QuarantineOptions, QuarantineRetry, RetryFailure, retry_quarantined
from tests.journal.samples import Memory, answer, interaction
from tests.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.shipping.quarantine import QuarantineItem


def record(**more: Any) -> Record:
    return Record(interaction(b'{"asked":"\xc3\xa9"}', **more), answer(b"\x00\xff said"))


def put(quarantine: Quarantine, *records: Record) -> list[str]:
    for each in records:
        quarantine.put_record(each, "it is odd", "memory")
    return [str(each.interaction.id) for each in records]


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "quarantine").iterdir() if path.name != "tried-with")


async def test_a_record_comes_back_as_it_was_and_its_files_go(tmp_path: Path) -> None:
    odd = "b\udcffob\x00"
    usage = Usage(3, 4, raw={"prompt_tokens": 3, "n": 2**63, "deep": {"x": [None, 1.5]}})
    one = Record(
        interaction(b'{"a":1}', principal=Principal("ann", title="engineer", key_id="k"), root_id="r", convo_title="t"),
        answer(b"\x00\xff", usage=usage),
    )
    two = Record(interaction(b"", principal=Principal(odd)), answer(b"", error=odd))
    memory, quarantine = Memory(), Quarantine(tmp_path)
    for name in put(quarantine, one, two):
        assert await retry_quarantined(quarantine, memory, name) is None
    assert memory.records[one.interaction.id] == one
    assert memory.records[two.interaction.id].interaction.body == b""
    assert memory.records[two.interaction.id].answer.error == "b\\udcffob\x00"  # as the journal has it
    assert files(tmp_path) == []
    quarantine.update_count()
    assert quarantine.count == 0


async def test_files_of_an_older_gateway_come_back(tmp_path: Path) -> None:
    """Its format names no sink; its reasons may quote what was said."""
    one = record()
    folder = tmp_path / "quarantine"
    folder.mkdir()
    name = str(one.interaction.id)
    note = {
        "id": name,
        "interaction": orjson.Fragment(encode_interaction(one.interaction)),
        "answer": orjson.Fragment(encode_answer(one.answer)),
        "reason": 'Postgres refuses it: index row size 2736 exceeds btree version 4 maximum 2704 for index "x"',
    }
    (folder / f"{name}.json").write_bytes(orjson.dumps(note, option=orjson.OPT_INDENT_2))
    (folder / f"{name}.request").write_bytes(one.interaction.body)
    (folder / f"{name}.response").write_bytes(one.answer.body)
    memory = Memory("postgres")
    assert await retry_quarantined(Quarantine(tmp_path), memory, name) is None
    assert memory.records == {one.interaction.id: one}
    assert files(tmp_path) == []


async def test_a_record_that_is_refused_again_stays_with_the_reason(tmp_path: Path) -> None:
    memory, quarantine = Memory(), Quarantine(tmp_path)
    (name,) = put(quarantine, record())
    before = files(tmp_path)
    memory.rejects = lambda _record: True
    assert await retry_quarantined(quarantine, memory, name) == RetryFailure(
        "a constraint does not like it", is_final=False
    )
    memory.rejects = lambda _record: False
    memory.refuses = memory.refuses_raw = lambda _record: True
    assert await retry_quarantined(quarantine, memory, name) == RetryFailure("not even as bytes", is_final=True)
    assert files(tmp_path) == before
    other = Memory("other")
    assert await retry_quarantined(quarantine, other, name) == RetryFailure("it is for memory", is_final=True)
    assert other.records == {}


async def test_concurrent_retries_store_a_record_once(tmp_path: Path) -> None:
    memory, quarantine = Memory(), Quarantine(tmp_path)
    names = put(quarantine, *(record() for _ in range(5)))
    found = await asyncio.gather(
        *(retry_quarantined(Quarantine(tmp_path), memory, name) for name in names * 3), return_exceptions=True
    )
    assert found.count(None) == 5
    assert all(each is None or isinstance(each, FileNotFoundError) for each in found)
    assert memory.taken == 5
    assert files(tmp_path) == []


async def test_an_interrupted_removal_is_finished_and_restores_no_record_without_its_body(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    (name,) = put(quarantine, record())
    folder = tmp_path / "quarantine"
    (folder / f"{name}.json").rename(folder / f"{name}.gone")
    with pytest.raises(FileNotFoundError):
        await retry_quarantined(quarantine, Memory(), name)
    quarantine = Quarantine(tmp_path)
    quarantine.update_count()
    assert quarantine.count == 0
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["../secret", "nothing", "/etc/passwd", ".", "a\0b"])
async def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.json").write_text("{}")
    put(Quarantine(tmp_path), record())
    with pytest.raises(FileNotFoundError):
        await retry_quarantined(Quarantine(tmp_path), Memory(), name)


def journal_frames(one: Record, *, is_finished: bool = True) -> bytes:
    key = one.interaction.id.bytes
    frames = FrameWriter(b"a marker")
    written = frames.begun(key, encode_interaction(one.interaction), one.interaction.body)
    if is_finished:
        written += frames.finished(key, encode_answer(one.answer), one.answer.body)
    return b"".join(written)


async def test_frames_come_back_when_all_of_them_can_be_read_now(tmp_path: Path) -> None:
    quarantine, memory = Quarantine(tmp_path), Memory("postgres")
    whole, cut = record(), record()
    quarantine.put_frames("whole", journal_frames(whole), "cannot be read")
    quarantine.put_frames("interrupted", journal_frames(cut, is_finished=False), "cannot be read")
    assert await retry_quarantined(quarantine, memory, "whole") is None
    assert await retry_quarantined(quarantine, memory, "interrupted") is None
    assert memory.records[whole.interaction.id] == whole
    assert memory.records[cut.interaction.id].answer.outcome == "interrupted"
    assert files(tmp_path) == []


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[40:], lambda data: b"canary" + data])
async def test_frames_that_cannot_be_read_stay(tmp_path: Path, spoil: Any) -> None:
    quarantine, memory = Quarantine(tmp_path), Memory("postgres")
    quarantine.put_frames("spoilt", spoil(journal_frames(record())), "cannot be read")
    stays = await retry_quarantined(quarantine, memory, "spoilt")
    assert stays is not None
    assert stays.is_final
    assert "canary" not in stays.reason
    assert memory.records == {}
    assert files(tmp_path) == ["spoilt.frames", "spoilt.json"]


async def test_all_are_tried_again_when_a_version_changes_and_not_before(tmp_path: Path) -> None:
    memory, quarantine = Memory(), Quarantine(tmp_path)
    names = put(quarantine, *(record() for _ in range(3)))
    versions = "gateway 1, schema 0009"
    tries = 0

    def refuses(_record: Record) -> bool:
        nonlocal tries
        tries += 1
        return True

    async def known() -> str:
        return versions

    async def once() -> None:
        await QuarantineRetry(quarantine, memory, known).check()

    memory.refuses, memory.refuses_raw = refuses, lambda _record: True
    await once()
    assert (tries, quarantine.count) == (3, 3)
    await once()
    assert tries == 3
    memory.refuses = memory.refuses_raw = lambda _record: False
    await once()
    assert memory.records == {}
    versions = "gateway 1, schema 0010"
    await once()
    assert sorted(map(str, memory.records)) == sorted(names)
    assert quarantine.count == 0
    assert files(tmp_path) == []


async def test_a_disk_that_fails_for_a_moment_ends_no_task_and_holds_up_no_other_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, quarantine = Memory(), Quarantine(tmp_path)
    names = sorted(put(quarantine, *(record() for _ in range(3))))
    counts, count, item = 0, quarantine.update_count, quarantine.item

    def failing_count() -> None:
        nonlocal counts
        counts += 1
        if 1 < counts < 5:
            raise OSError(errno.EMFILE, "no descriptor")
        count()

    def failing_item(name: str) -> QuarantineItem:
        if name == names[0]:
            raise PermissionError(errno.EACCES, "not yours")
        return item(name)

    async def known() -> str:
        return "gateway 1"

    monkeypatch.setattr(quarantine, "update_count", failing_count)
    monkeypatch.setattr(quarantine, "item", failing_item)
    retry = QuarantineRetry(quarantine, memory, known, options=QuarantineOptions(count_s=0.01, versions_s=0.05))
    retry.start()
    await until(lambda: len(memory.records) == 2)
    monkeypatch.setattr(quarantine, "item", item)
    await until(lambda: len(memory.records) == 3)
    await retry.aclose()


async def test_the_count_follows_other_processes(tmp_path: Path) -> None:
    ours, theirs, memory = Quarantine(tmp_path), Quarantine(tmp_path), Memory()
    names = put(theirs, record(), record())
    ours.update_count()
    assert ours.count == 2
    await retry_quarantined(theirs, memory, names[0])
    ours.update_count()
    assert ours.count == 1


def test_the_metadata_holds_reason_sink_and_user(tmp_path: Path) -> None:
    one = replace(record(), interaction=interaction(b"asked", principal=Principal("ann")))
    (name,) = put(Quarantine(tmp_path), one)
    note = json.loads((tmp_path / "quarantine" / f"{name}.json").read_bytes())
    assert (note["reason"], note["sink"], note["interaction"]["user"]) == ("it is odd", "memory", "ann")


async def test_waiting_for_the_lock_can_be_cancelled(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    put(quarantine, record())
    async with quarantine.lock():
        waiting = asyncio.create_task(retry_quarantined(Quarantine(tmp_path), Memory(), "x"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting})
    await until(lambda: waiting.cancelled())
