"""The log writer: nothing waits for the pipe, nothing is mixed, what is dropped is counted."""

from __future__ import annotations

import fcntl
import os
import re
import select
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.telemetry.log_writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def notice(count: int) -> bytes:
    return b"dropped %d\n" % count


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with suppress(OSError):
                os.close(end)


def read_all(fd: int) -> bytes:
    """Until all writers have closed."""
    blocks = []
    while block := os.read(fd, 65_536):
        blocks.append(block)
    return b"".join(blocks)


def read_for(fd: int, seconds: float) -> bytes:
    """Whatever comes until it is quiet for so long."""
    blocks = []
    while select.select([fd], [], [], seconds)[0]:
        blocks.append(os.read(fd, 65_536))
    return b"".join(blocks)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert is_so()


def settled(writer: LogWriter) -> None:
    """Wait until the thread sleeps."""
    wait_until(lambda: writer._is_idle)


def test_lines_come_out_in_order_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno(), notice)
        lines = [b"%d %s\n" % (number, b"x" * (number % 700)) for number in range(5000)]
        for line in lines:
            writer.write(line)
        assert writer.close()
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.stopwatch
def test_a_lone_line_appears_at_once() -> None:
    delays = []
    with pipe() as (reader, end):
        writer = LogWriter(end, notice)
        for _ in range(5):
            settled(writer)
            begun = time.monotonic()
            writer.write(b"alone\n")
            assert os.read(reader, 100) == b"alone\n"
            delays.append(time.monotonic() - begun)
        writer.close()
    assert min(delays) < 0.05


@pytest.mark.stopwatch
def test_a_second_line_soon_after_the_first_is_not_kept_waiting_long() -> None:
    delays = []
    with pipe() as (reader, end):
        writer = LogWriter(end, notice)
        for _ in range(5):
            writer.write(b"one\n")
            os.read(reader, 100)
            begun = time.monotonic()
            writer.write(b"two\n")
            os.read(reader, 100)
            delays.append(time.monotonic() - begun)
        writer.close()
    assert min(delays) < 0.05


@pytest.mark.stopwatch
def test_a_full_pipe_delays_nobody_and_the_dropped_lines_are_counted() -> None:
    line = b"x" * 99 + b"\n"
    with pipe() as (reader, end):
        writer = LogWriter(end, notice, max_lines=1000)
        for _ in range(800):
            writer.write(line)
        wait_until(lambda: not select.select([], [end], [], 0)[1])
        slowest = 0.0
        for _ in range(5000):
            begun = time.thread_time()
            writer.write(line)
            slowest = max(slowest, time.thread_time() - begun)
        assert slowest < 0.05
        dropped = writer.dropped
        assert 4000 <= dropped <= 5000
        out = read_for(reader, 0.3)
        writer.write(b"moves again\n")
        writer.close()
        os.close(end)
        out += read_all(reader)
    assert out.count(line) + dropped == 5800
    assert [int(count) for count in re.findall(rb"dropped (\d+)\n", out)] == [dropped]
    assert out.endswith(b"moves again\n")
    assert writer.dropped == 0


def test_the_queue_is_bounded_in_bytes_too() -> None:
    with pipe() as (_, end):
        writer = LogWriter(end, notice, max_bytes=1 << 20)
        for _ in range(50):
            writer.write(b"x" * 100_000)
        assert writer.dropped >= 38
        assert not writer.close(0.05)


@pytest.mark.stopwatch
def test_closing_does_not_wait_longer_than_it_may() -> None:
    with pipe() as (_, end):
        writer = LogWriter(end, notice)
        for _ in range(5000):
            writer.write(b"x" * 100 + b"\n")
        begun = time.monotonic()
        assert not writer.close(0.2)
        assert time.monotonic() - begun < 2


def test_closing_writes_out_what_is_left_while_the_reader_is_slow() -> None:
    with pipe() as (reader, end):
        writer = LogWriter(end, notice)
        lines = [b"%d\n" % number for number in range(20_000)]
        for line in lines:
            writer.write(line)
        got: list[bytes] = []

        def read_late() -> None:
            time.sleep(0.2)
            got.append(read_all(reader))

        thread = threading.Thread(target=read_late)
        thread.start()
        assert writer.close(10)
        os.close(end)
        thread.join()
    assert got == [b"".join(lines)]


def test_a_line_after_closing_is_counted_and_harmless(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), notice)
        assert writer.close()
        writer.write(b"late\n")
        assert writer.dropped == 1
        assert writer.close()


def test_a_reader_that_leaves_ends_the_thread_and_nothing_else() -> None:
    reader, end = os.pipe()
    writer = LogWriter(end, notice)
    os.close(reader)
    for _ in range(100):
        writer.write(b"nobody reads this\n")
        time.sleep(0.001)
    writer._thread.join(2)
    assert not writer._thread.is_alive()
    writer.write(b"nor this\n")
    assert writer.dropped == 101
    assert writer.close()
    os.close(end)


def test_a_descriptor_that_is_closed_from_the_start_is_harmless() -> None:
    reader, end = os.pipe()
    os.close(reader)
    os.close(end)
    writer = LogWriter(end, notice)
    writer.write(b"nowhere\n")
    assert writer.dropped == 1
    assert writer.close()


@pytest.mark.stopwatch
def test_a_full_disk_neither_crashes_nor_spins() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer = LogWriter(full.fileno(), notice)
        writer.write(b"no room\n")
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.15
        assert writer._thread.is_alive()
        writer.close(2)
        assert not writer._thread.is_alive()


@pytest.mark.stopwatch
def test_a_non_blocking_pipe_is_waited_for_without_spinning() -> None:
    with pipe() as (reader, end):
        fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_NONBLOCK)
        writer = LogWriter(end, notice)
        lines = [b"%06d\n" % number for number in range(15_000)]
        for line in lines:
            writer.write(line)
        time.sleep(0.1)
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.15
        got = read_for(reader, 0.5)
        assert writer.close()
    assert got == b"".join(lines)


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno(), notice)

        def write(name: bytes) -> None:
            for number in range(1000):
                writer.write(b"%s%d\n" % (name * 50, number))

        threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b", b"c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3000
    for name in (b"a", b"b", b"c"):
        mine = [line for line in lines if line.startswith(name)]
        assert mine == [b"%s%d" % (name * 50, number) for number in range(1000)]


def test_a_line_written_while_the_lock_is_held_does_not_lock_up() -> None:
    """As a finalizer may do, which Python runs at any moment."""
    with pipe() as (reader, end):
        writer = LogWriter(end, notice)
        with writer._lock:
            writer.write(b"from within\n")
        assert os.read(reader, 100) == b"from within\n"
        assert writer.close()


@pytest.mark.stopwatch
def test_the_thread_is_not_woken_for_each_line() -> None:
    with pipe() as (reader, end):
        writer = LogWriter(end, notice)
        settled(writer)
        status = Path(f"/proc/self/task/{writer._thread.native_id}/status")

        def wakeups() -> int:
            return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)[0])

        before, begun, lines = wakeups(), time.monotonic(), 0
        while time.monotonic() < begun + 0.5:
            writer.write(b"one of many\n")
            lines += 1
            time.sleep(0.0005)
            if lines % 50 == 0:
                os.read(reader, 65_536)
        assert lines > 100
        assert wakeups() - before < 80
        writer.close()


CHILD = """
import sys
from gateway.telemetry.log_writer import LogWriter
writer = LogWriter(1, lambda count: b"dropped\\n")
name = sys.argv[1].encode()
for number in range(3000):
    writer.write(name * (10 + number * 7 % 900) + b"\\n")
writer.close(30)
"""


def test_processes_on_one_pipe_do_not_mix_their_lines() -> None:
    with pipe() as (reader, end):
        children = [subprocess.Popen([sys.executable, "-c", CHILD, name], stdout=end) for name in "ab"]
        os.close(end)
        out = read_all(reader)
        assert [child.wait(30) for child in children] == [0, 0]
    lines = out.splitlines()
    assert len(lines) == 6000
    assert all(set(line) in ({ord("a")}, {ord("b")}) for line in lines)


BLOCKED = """
import asyncio, sys, time
import structlog
from gateway.telemetry import logs

async def main():
    writer = logs.configure("json", "info", 1)
    log = structlog.get_logger()
    longest, last = 0.0, time.monotonic()
    for number in range(600):
        for _ in range(50):
            log.info("request", request_id="r" * 36, path="/v1/chat/completions", number=number)
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    sys.stderr.write(f"{longest} {writer.dropped}")
    sys.stderr.flush()
    sys.stdin.readline()
    while writer.dropped:
        await asyncio.sleep(0.01)
    log.info("the pipe moves again")
    writer.close(20)

asyncio.run(main())
"""


@pytest.mark.stopwatch
@pytest.mark.timeout(60)
def test_a_blocked_pipe_never_blocks_the_event_loop() -> None:
    """The best of three runs, since others share this machine; a blocked loop would hang in each."""
    longest = 1.0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(BLOCKED)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            assert child.stdin and child.stdout and child.stderr
            took, dropped = _words(child.stderr.fileno())
            child.stdin.write(b"go\n")
            child.stdin.close()
            lines = child.stdout.read().splitlines()
            assert child.wait(30) == 0
        assert int(dropped) > 5000
        assert sum(b'"event":"request"' in line for line in lines) + int(dropped) == 30_000
        assert sum(b'"log_lines_dropped"' in line and b'"count":%d' % int(dropped) in line for line in lines) == 1
        longest = min(longest, float(took))
        if longest < 0.05:
            break
    assert longest < 0.05


def _words(fd: int) -> list[str]:
    """What a child says on a pipe, which it does not close."""
    return os.read(fd, 200).decode().split()
