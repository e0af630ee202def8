"""The bytes that the emulator sends and the client expects, encoded once. A request's `model` orders its answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

CHUNK_SIZE = 294  # bytes of one event, as OpenAI's were measured
PLAIN_SIZE = 1024
HURRY = 2**32 - 1  # in place of a stream's number: send what is left without waiting
Manner = Literal["paced", "turns", "steps", "burst", "held"]
MODEL = re.compile(rb'"model":\s*"bench-(\d+)-(\d+)-(paced|turns|steps|burst|held)"')
NUMBER = re.compile(rb"question (\d{9})")
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Order:
    """A streamed answer: `chunks` events and `[DONE]`.

    All write each event by itself. paced: one each `pace_us`; turns: in turn with all other streams, as fast as it
    goes; steps: each when the client has the one before, so that nothing can join them; burst: without a break; held:
    the first event, and the rest paced after the release.
    """

    chunks: int
    manner: Manner
    pace_us: int = 0

    @property
    def model(self) -> str:
        return f"bench-{self.chunks}-{self.pace_us}-{self.manner}"


def order_in(body: bytes) -> Order | None:
    """The stream that a request body asks for; None: a plain answer."""
    found = MODEL.search(body)
    if found is None:
        return None
    manner: Manner = found[3].decode()  # type: ignore[assignment]  # the pattern admits nothing else
    return Order(int(found[1]), manner, int(found[2]))


def number_in(body: bytes) -> int:
    found = NUMBER.search(body)
    return int(found[1]) if found else -1


@lru_cache(maxsize=64)
def events(chunks: int) -> tuple[bytes, ...]:
    """The events of an answer, each of CHUNK_SIZE bytes: role first, finish_reason last; at least these two."""
    deltas = (
        [{"role": "assistant", "content": ""}] + [{"content": f" word{i % 1000}"} for i in range(chunks - 2)] + [{}]
    )
    last = len(deltas) - 1
    return tuple(_event(delta, "stop" if i == last else None) for i, delta in enumerate(deltas))


@lru_cache(maxsize=64)
def stream_body(chunks: int) -> bytes:
    return b"".join(events(chunks)) + DONE


@lru_cache(maxsize=64)
def usage_event(chunks: int) -> bytes:
    """For requests with `stream_options.include_usage`."""
    usage = {"prompt_tokens": 20, "completion_tokens": chunks, "total_tokens": 20 + chunks}
    return b"data: " + _json({**_base("chat.completion.chunk"), "choices": [], "usage": usage}) + b"\n\n"


@lru_cache(maxsize=1)
def plain_body() -> bytes:
    """A completion of PLAIN_SIZE bytes that is not streamed."""

    def body(text: str) -> bytes:
        message = {"role": "assistant", "content": text, "refusal": None}
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 200, "completion_tokens": 120, "total_tokens": 320}
        return _json({**_base("chat.completion"), "choices": choices, "usage": usage})

    return body("word " * ((PLAIN_SIZE - len(body(""))) // 5) + "x" * ((PLAIN_SIZE - len(body(""))) % 5))


def request_body(order: Order | None, number: int, size: int) -> bytes:
    """A chat request of about `size` bytes; each number has another text."""
    model = order.model if order else "bench-plain"
    filler = f"question {number:09d} " + "why " * (size // 4)
    content = filler[: max(20, size - 80)]
    return _json({"model": model, "messages": [{"role": "user", "content": content}], "stream": order is not None})


def _event(delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    chunk = {**_base("chat.completion.chunk"), "choices": [choice], "obfuscation": ""}
    missing = CHUNK_SIZE - len(_framed(chunk))
    return _framed({**chunk, "obfuscation": "x" * missing})


def _framed(chunk: dict[str, object]) -> bytes:
    return b"data: " + _json(chunk) + b"\n\n"


def _base(kind: str) -> dict[str, object]:
    return {
        "id": "chatcmpl-bench",
        "object": kind,
        "created": 1_700_000_000,
        "model": "bench",
        "system_fingerprint": "fp_bench",
    }


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
