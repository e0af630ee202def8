"""A connection that is given back serves the next call as if it were new."""

from __future__ import annotations

import asyncio

from gateway.transport.call import Call, Ending
from gateway.transport.origin import Origin, Timeouts
from gateway.transport.pool import ConnectionPool
from tests.loopback import LoopbackUpstream, file_answer, json_answer

CALL = Call("GET", "/files/1/content")


class FullSink:
    """Full after each read until it has drained, as a client is that reads slowly."""

    def __init__(self) -> None:
        self.size = 0
        self.is_full = False

    def feed(self, data: bytes) -> bool:
        self.size += len(data)
        self.is_full = True
        return False

    async def drained(self) -> None:
        await asyncio.sleep(0)
        self.is_full = False


async def test_a_sink_that_is_full_at_the_end_does_not_leave_the_connection_paused() -> None:
    body = bytes(300_000)
    async with LoopbackUpstream() as upstream:
        upstream.on = lambda request: file_answer(body)
        pool = ConnectionPool(Origin.of_base(upstream.url, None), Timeouts(2.0, 2.0, 2.0, 30.0))
        for _ in range(3):
            reply, sink = await pool.open(CALL), FullSink()
            assert await reply.pump(sink) is Ending.WHOLE
            assert sink.size == len(body)
        assert upstream.connection_count == 1
        await pool.aclose()


async def test_a_body_that_comes_behind_the_head_of_head_is_nobodys() -> None:
    async with LoopbackUpstream() as upstream:
        upstream.script(json_answer({"stray": True}))
        pool = ConnectionPool(Origin.of_base(upstream.url, None), Timeouts(2.0, 2.0, 2.0, 30.0))
        reply, sink = await pool.open(Call("HEAD", "/models")), FullSink()
        assert await reply.pump(sink) is Ending.ENOUGH
        assert sink.size == 0
        reply, sink = await pool.open(CALL), FullSink()
        assert await reply.pump(sink) is Ending.WHOLE
        assert sink.size == 200_000
        await pool.aclose()
