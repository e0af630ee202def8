"""Reading a log as it grows: from the end, over rotation, truncation and lines cut anywhere."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry import follow
from gateway.telemetry.follow import FollowedFile, LineSplitter, stream_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.log"
    path.touch()
    return path


@pytest.fixture
def file(path: Path) -> Iterator[FollowedFile]:
    file = FollowedFile(path, sleep=lambda _: None)
    file.open()
    yield file
    file.close()


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def until_quiet(lines: Iterator[bytes | None], quiet: int = 3) -> list[bytes]:
    """What comes before it says so many times in a row that there is no more."""
    found: list[bytes] = []
    nones = 0
    for line in lines:
        nones = nones + 1 if line is None else 0
        if line is not None:
            found.append(line)
        elif nones >= quiet:
            break
    return found


@given(st.lists(st.binary(max_size=8)))
def test_lines_are_the_same_however_the_bytes_are_cut(blocks: list[bytes]) -> None:
    splitter = LineSplitter()
    lines = [line for block in blocks for line in splitter.feed(block)] + splitter.end()
    whole = b"".join(blocks)
    assert lines == whole.removesuffix(b"\n").split(b"\n") if whole else lines == []


def test_a_line_without_end_is_given_at_last() -> None:
    splitter = LineSplitter()
    found = [line for _ in range(20) for line in splitter.feed(b"x" * 65_536)]
    assert len(found) == 1
    assert len(found[0]) > follow.MAX_LINE_LENGTH


@pytest.mark.parametrize("block", [1, 2, 3, 7, 65_536])
@pytest.mark.parametrize(
    "text", [b"", b"\n", b"a", b"a\n", b"a\nb", b"a\nbc\n", b"\n\na\n\n", b"one\ntwo\nthree\nfour", b"\nlong" * 40]
)
def test_lines_from_the_end_and_then_the_rest(
    path: Path, file: FollowedFile, monkeypatch: pytest.MonkeyPatch, text: bytes, block: int
) -> None:
    monkeypatch.setattr(follow, "BLOCK", block)
    path.write_bytes(text)
    *whole, rest = text.split(b"\n")
    assert list(file.lines_backwards()) == whole[::-1]
    assert list(file.rest_of_lines()) == ([rest] if rest else [])


def test_stopping_early_on_the_way_back_does_not_repeat_lines(path: Path, file: FollowedFile) -> None:
    path.write_bytes(b"".join(b"%d\n" % number for number in range(50_000)) + b"unfin")
    lines_backwards = file.lines_backwards()
    assert [next(lines_backwards) for _ in range(3)] == [b"49999", b"49998", b"49997"]
    new_lines = file.new_lines()
    assert next(new_lines) is None
    append(path, b"ished\nnew\n")
    assert until_quiet(new_lines) == [b"unfinished", b"new"]


def test_what_is_added_comes_when_its_line_is_whole(path: Path, file: FollowedFile) -> None:
    new_lines = file.new_lines()
    append(path, b"one\ntw")
    assert until_quiet(new_lines) == [b"one"]
    append(path, b"o\n")
    assert until_quiet(new_lines) == [b"two"]


def test_a_rotated_file_is_read_to_its_end_and_then_the_new_one(path: Path, file: FollowedFile) -> None:
    new_lines = file.new_lines()
    append(path, b"one\n")
    assert until_quiet(new_lines) == [b"one"]
    path.rename(path.with_suffix(".1"))
    append(path.with_suffix(".1"), b"two\nthr")
    assert until_quiet(new_lines) == [b"two"]
    append(path.with_suffix(".1"), b"ee\nunfinished")
    append(path, b"four\n")
    assert until_quiet(new_lines) == [b"three", b"unfinished", b"four"]


def test_a_new_file_that_may_not_be_read_yet_is_waited_for(
    path: Path, file: FollowedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_lines = file.new_lines()
    append(path, b"one\n")
    assert until_quiet(new_lines) == [b"one"]
    path.unlink()
    append(path, b"two\n")
    real, refused = os.open, [True, True]

    def refuse(name: str | Path, *args: int) -> int:
        if name == path and refused:
            refused.pop()
            raise PermissionError(13, "not yet")
        return real(name, *args)

    monkeypatch.setattr(os, "open", refuse)
    assert until_quiet(new_lines) == [b"two"]
    assert not refused


def test_a_truncated_file_is_read_from_its_beginning(path: Path, file: FollowedFile) -> None:
    new_lines = file.new_lines()
    append(path, b"a long first line\n")
    assert until_quiet(new_lines) == [b"a long first line"]
    path.write_bytes(b"two\n")
    assert until_quiet(new_lines) == [b"two"]


def test_a_pipe_is_read_as_it_comes() -> None:
    reader, writer = os.pipe()
    lines = stream_lines(reader)
    os.write(writer, b"one\ntwo")
    assert next(lines) == b"one"
    assert next(lines) is None
    os.write(writer, b" and a half\n")
    assert next(lines) == b"two and a half"
    os.write(writer, b"end")
    os.close(writer)
    assert [line for line in lines if line is not None] == [b"end"]
    os.close(reader)


def test_a_file_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "later"
    file = FollowedFile(path, sleep=lambda _: path.touch())
    thread = threading.Thread(target=file.wait_until_exists)
    thread.start()
    thread.join(5)
    assert path.exists()
