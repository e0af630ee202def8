"""CPU of one relayed chunk without a stage, and with one that changes nothing: `python -m tests.bench.stage`."""

from __future__ import annotations

import json
import time
from statistics import median

from gateway.dialects.dialect import CHAT
from gateway.relay.stage import Stage
from gateway.relay.stream import Relay
from gateway.transport.call import Ending
from tests.fakes import FakeClient, FakeEntry

CHUNKS = 400
ROUNDS = 60
_CHOICE = {"index": 0, "delta": {"content": " word"}, "finish_reason": None}
CHUNK = b"data: " + json.dumps({"id": "c", "model": "m", "choices": [_CHOICE]}).encode() + b"\n\n"


class Unchanged(Stage):
    """Returns what it gets."""

    def feed(self, events: bytes) -> bytes:
        return events

    def flush(self) -> bytes:
        return b""


def chunk_us(stage: Stage | None) -> float:
    """Microseconds of CPU for one chunk of an answer."""
    relay = Relay(FakeClient(), FakeEntry(), CHAT.classifier(False), CHAT.assembler(), 1 << 26, stage)
    started = time.process_time()
    for _ in range(CHUNKS):
        relay.feed(CHUNK)
    relay.close(Ending.WHOLE)
    return (time.process_time() - started) / CHUNKS * 1e6


def main() -> None:
    """Alternate both forms, and print the medians."""
    pairs = [(chunk_us(None), chunk_us(Unchanged())) for _ in range(ROUNDS)]
    without, unchanged = (median(each) for each in zip(*pairs, strict=True))
    print(f"without a stage: {without:.2f} µs a chunk; with one that changes nothing: {unchanged:.2f} µs")


if __name__ == "__main__":
    main()
