"""Interactions and answers to record, and a sink in memory."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import RecordNotAccepted, RecordRefused, StoreUnavailable
from gateway.ids import Ids
from gateway.model import Answer, Interaction, Kind, Outcome, Principal, Record, Usage
from gateway.settings import JournalSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

IDS = Ids()
SMALL = JournalSettings(segment_bytes=64 * 1024, max_bytes=1 << 20, min_free_bytes=0, shipped_s=0)


def interaction(body: bytes = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}', **more: Any) -> Interaction:
    known: dict[str, Any] = {
        "id": IDS.new(),
        "kind": Kind.CHAT,
        "started_at": time.time(),
        "principal": Principal(user="ann", title="engineer", key_id="k1"),
        "request_id": "req-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "m",
        "upstream": "openai",
        "body": body,
    }
    return Interaction(**known | more)


def answer(body: bytes = b'{"choices":[{"message":{"role":"assistant","content":"ho"}}]}', **more: Any) -> Answer:
    known: dict[str, Any] = {
        "outcome": Outcome.COMPLETE,
        "finished_at": time.time(),
        "status": 200,
        "body": body,
        "body_type": "application/json",
        "model": "m-2026",
        "usage": Usage(3, 4, raw={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}),
        "first_token_ms": 1.5,
        "duration_ms": 12.25,
        "bytes_in": 10,
        "bytes_out": 11,
    }
    return Answer(**known | more)


def chunk(text: str) -> bytes:
    """One event of a streamed chat completion."""
    return b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}) + b"\n\n"


class Memory:
    """A sink that can be down, refuse some records, or be slow."""

    def __init__(self, name: str = "memory", *, is_ordered: bool = False) -> None:
        self.name = name
        self.is_ordered = is_ordered
        self.records: dict[UUID, Record] = {}
        self.raw: dict[UUID, Record] = {}
        self.batches: list[int] = []
        self.taken = 0  # also those that were there already
        self.is_down = False
        self.rejects: Callable[[Record], bool] = lambda _record: False  # for another cause than its data
        self.refuses: Callable[[Record], bool] = lambda _record: False
        self.refuses_raw: Callable[[Record], bool] = lambda _record: False
        self.gate = asyncio.Event()  # cleared: frozen
        self.gate.set()
        self.is_abandoned = False

    async def keep(self, records: Sequence[Record]) -> None:
        await self._reach()
        if any(map(self.rejects, records)):
            raise RecordNotAccepted("a constraint does not like it", "23514")
        if any(map(self.refuses, records)):
            raise RecordRefused("there is one that I do not like")
        self.batches.append(len(records))
        for record in records:
            self.taken += 1
            self.records.setdefault(record.interaction.id, record)

    async def keep_raw(self, record: Record) -> None:
        await self._reach()
        if self.rejects(record):
            raise RecordNotAccepted("a constraint does not like it", "23514")
        if self.refuses_raw(record):
            raise RecordRefused("not even as bytes")
        self.raw.setdefault(record.interaction.id, record)

    def abandon(self) -> None:
        self.is_abandoned = True
        self.gate.set()

    async def _reach(self) -> None:
        await self.gate.wait()
        if self.is_down or self.is_abandoned:
            raise StoreUnavailable("away")
