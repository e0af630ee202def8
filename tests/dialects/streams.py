"""The recorded shapes of many vendors' streams (`tests/streams/*.sse`), and ways to send them."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from gateway.codec.sse import EventSplitter, data_payloads

FOLDER = Path(__file__).parent.parent / "streams"
CHATS = sorted(path.stem for path in FOLDER.glob("*.sse") if path.stem != "responses")


def recorded(name: str) -> bytes:
    return (FOLDER / f"{name}.sse").read_bytes()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """A stream as a network may deliver it."""
    bounds = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]


def payloads_of(reads: list[bytes]) -> list[list[bytes]]:
    """The payloads that each read completes."""
    splitter = EventSplitter(1 << 20)
    return [data_payloads(splitter.feed(read)) for read in reads]


def as_payload(value: Any) -> bytes:
    return json.dumps(value).encode()


def chunk(delta: Any, finish_reason: str | None = None, index: Any = 0, **more: Any) -> bytes:
    """A chunk of one choice, as OpenAI sends it."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1741569952, "model": "gpt-4o"}
    return as_payload({**head, "choices": [choice], **more})
