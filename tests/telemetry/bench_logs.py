"""What a log line costs the thread that logs it: `python -m tests.telemetry.bench_logs`.

Short bursts with pauses between them, as requests come; least and median of many, for a shared machine is noisy.
"""

from __future__ import annotations

import os
import statistics
import time
import uuid
from typing import TYPE_CHECKING

import structlog

from gateway.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 20
BURSTS = 1000


def measure(work: Callable[[], object]) -> str:
    costs = []
    for _ in range(BURSTS):
        begun = time.thread_time_ns()
        for _ in range(BURST):
            work()
        costs.append((time.thread_time_ns() - begun) / BURST / 1000)
        time.sleep(0.002)
    return f"least {min(costs):6.2f} µs, median {statistics.median(costs):6.2f} µs"


def main() -> None:
    fields = {
        "request_id": f"req_{uuid.uuid4().hex}",
        "interaction_id": str(uuid.uuid4()),
        "caller": "ada",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "gpt-4o-mini",
        "upstream": "openai",
        "status": 200,
        "outcome": "complete",
        "stream": True,
        "prompt_tokens": 812,
        "completion_tokens": 1204,
        "usage_estimated": False,
        "first_token_ms": 412.1,
        "duration_ms": 3200.25,
        "bytes_in": 2412,
        "bytes_out": 61234,
        "error": None,
    }
    with open(os.devnull, "wb") as null:  # noqa: PTH123 - os.devnull is no Path
        writer = logs.configure("json", "info", null.fileno())
    log = structlog.get_logger()
    renderer, line = logs.JsonLines(), b"x" * 450 + b"\n"
    record = {"event": "request", "fields": fields}
    print("the canonical line, in all ", measure(lambda: log.info("request", fields=fields)))
    print("  of it: making the line   ", measure(lambda: renderer(record, "info")))
    print("  of it: handing it over   ", measure(lambda: writer.write(line)))
    print("a line with two values     ", measure(lambda: log.info("listening", host="127.0.0.1", port=8000)))
    print("a line below the level     ", measure(lambda: log.debug("seen", host="127.0.0.1", port=8000)))
    writer.close()


if __name__ == "__main__":
    main()
