"""An HTTP/1.1 client protocol: bytes from the upstream reach the sink in the same call, without a task.

Against `aiohttp.ClientSession` this halves the CPU of a relayed chunk (tests/bench).
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Protocol, cast

from gateway.errors import UpstreamGarbled, UpstreamStalled, UpstreamUnreachable
from gateway.transport.answer_parser import MAX_FRAMING_BYTES, PARSER_ERRORS, AnswerParser
from gateway.transport.call import BodySink, Ending

if TYPE_CHECKING:
    from gateway.transport.call import Head
    from gateway.transport.origin import Timeouts
    from gateway.transport.upload import Upload

EARLY_BODY_BYTES = 256 * 1024  # of body that may wait for `pump`
DISCARD_BYTES = 64 * 1024  # of body behind the last event, read and discarded so that the connection can serve again


class StaleConnection(Exception):
    """The peer closed the connection before it sent a byte of an answer, as idle connections do."""


class Pool(Protocol):
    """The owner of a connection."""

    def give_back(self, connection: Connection, *, reusable: bool) -> None: ...

    def forget(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One connection to an upstream. It serves one call at a time."""

    __slots__ = (
        "_answer",
        "_discard_left",
        "_discard_timer",
        "_early",
        "_early_size",
        "_ending",
        "_fault",
        "_is_paused",
        "_last_read",
        "_poll",
        "_pool",
        "_sent_at",
        "_sink",
        "_sink_error",
        "_timeout_check",
        "_timeouts",
        "_transport",
        "_upload",
        "_upload_error",
        "_waiter",
        "loop",
    )

    def __init__(self, pool: Pool, timeouts: Timeouts) -> None:
        self._pool = pool
        self._timeouts = timeouts
        self.loop = asyncio.get_running_loop()
        self._answer = AnswerParser(self._head_arrived)
        self._transport: asyncio.Transport | None = None
        # One timer for many calls: a timer costs 3 µs, and nearly all of them would be cancelled.
        self._timeout_check: asyncio.TimerHandle | None = None
        self._discard_timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._upload: Upload | None = None  # of the present call, until its body is sent
        self._poll = select.poll()
        self._reset()

    def _reset(self) -> None:
        self._sink: BodySink | None = None
        self._early: list[bytes] = []
        self._early_size = 0
        self._ending: Ending | None = None
        self._fault = ""
        self._sink_error: Exception | None = None
        self._upload_error: Exception | None = None  # from the source of the request's body
        self._is_paused = False
        self._discard_left: int | None = None  # bytes that may still be discarded; None while there is a sink
        self._sent_at = self._last_read = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def can_serve(self) -> bool:
        """Whether the connection is open and its socket holds no unread bytes.

        Unread bytes are the peer's close, or an answer to no request, which the next call would take for its own. The
        event loop may not have seen either yet.
        """
        return self.is_open and not self._poll.poll(0)

    # --- called by the pool and the reply ----------------------------------------------------------------------------

    async def send(self, message: bytes, upload: Upload | None = None, *, headers_only: bool) -> Head:
        """Send a request, its streamed body behind it, and wait for the head of the answer.

        The upload goes on after the head has come, until the answer ends or is closed.

        Raises StaleConnection, UpstreamStalled, UpstreamGarbled, UpstreamUnreachable, and the errors of the upload's
        source.
        """
        if self._transport is None:
            raise StaleConnection
        self._reset()
        self._answer.reset(headers_only=headers_only)
        self._sent_at = self._last_read = self.loop.time()
        self._upload = upload
        self._transport.write(message)
        if upload is not None:
            upload.start(self._transport, self._upload_ended)
        if self._timeout_check is None:
            self._check_timeouts_after(self._timeouts.head_s)
        try:
            await self._wait()
        except asyncio.CancelledError:
            self.abort()
            raise
        head = self._answer.head
        if head is not None:
            return head
        self.abort()
        raise self._error_without_head()

    def _error_without_head(self) -> Exception:
        if self._upload_error is not None:
            return self._upload_error
        if self._ending is Ending.STALLED:
            return UpstreamStalled(self._fault)
        if self._ending is Ending.GARBLED:
            return UpstreamGarbled(f"the upstream's answer is not HTTP: {self._fault}")
        if self._answer.framing:
            return UpstreamUnreachable("the upstream closed the connection in the middle of its answer's head")
        if self.loop.time() - self._sent_at < self._timeouts.stale_s:
            return StaleConnection()
        return UpstreamUnreachable("the upstream closed the connection without an answer")

    def _upload_ended(self, error: Exception | None) -> None:
        self._upload = None
        if error is None:
            self._sent_at = self._last_read = self.loop.time()
        else:
            self._upload_error = error
            self.abort()

    async def pump(self, sink: BodySink) -> Ending:
        """Feed the body into the sink until it ends or the sink has enough. Raises what the sink raises."""
        self._sink = sink
        try:
            ending = await self._pump(sink)
        except BaseException:
            self.abort()
            raise
        self._release()
        return ending

    async def _pump(self, sink: BodySink) -> Ending:
        early, self._early = self._early, []
        for data in early:
            if sink.feed(data):
                self._ending = Ending.ENOUGH
                break
        while self._ending is None:
            if sink.is_full:
                self._pause()
                await sink.drained()
                if sink.is_full:
                    await asyncio.sleep(0)  # a `drained` that does not wait must not block the event loop
                    continue
            self._resume()
            await self._wait(sink)
        if self._sink_error is not None:
            raise self._sink_error
        return self._ending

    def abort(self) -> None:
        """Close at once. A pending `send` or `pump` sees Ending.CUT."""
        self._end(Ending.CUT)
        self._stop()
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, sink: BodySink | None = None) -> None:
        if self._ending is not None or (sink is not None and sink.is_full):
            return
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self, ending: Ending, fault: str = "") -> None:
        if self._ending is None:
            self._ending = ending
            self._fault = fault
        self._wake()

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._last_read = self.loop.time()  # the pause is not the upstream's silence
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _release(self) -> None:
        """Give the connection back, at once or when the rest of its body has been discarded."""
        self._sink = None
        if self._answer.is_complete:
            self._resume()  # the last read may have filled the sink
            self._pool.give_back(self, reusable=self._answer.is_reusable)
        elif self._can_discard_rest():
            self._discard_left = DISCARD_BYTES
            self._discard_timer = self.loop.call_later(self._timeouts.discard_s, self.abort)
            self._resume()
        else:
            self.abort()

    def _can_discard_rest(self) -> bool:
        is_enough = self._ending is Ending.ENOUGH and self._upload is None
        return is_enough and self.is_open and not self._answer.is_close_delimited

    # --- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer.is_complete:  # no request is open: these bytes must not become the answer to the next one
            self.abort()
            return
        self._last_read = self.loop.time()
        answer.framing += len(data)
        try:
            answer.feed(data)
        except PARSER_ERRORS as error:
            answer.fault = answer.fault or str(error) or type(error).__name__
        if answer.bodies:
            answer.framing = 0
            bodies, answer.bodies = answer.bodies, []
            try:
                self._deliver(bodies[0] if len(bodies) == 1 else b"".join(bodies))
            except Exception as error:  # noqa: BLE001 (raised again in `pump`, whose caller owns the sink)
                self._sink_error = error
                self.abort()
        if answer.is_complete:
            self._completed()
        elif answer.fault:
            self._broken(answer.fault)
        elif answer.framing > MAX_FRAMING_BYTES:
            self._broken("its head is too large" if answer.head is None else "its framing has no end")

    def _head_arrived(self) -> None:
        if self._answer.headers_only:
            self._ending = Ending.ENOUGH
        self._wake()

    def _deliver(self, data: bytes) -> None:
        """Pass on all body bytes of one read: many small chunks that came together cost one call and one write."""
        if self._answer.headers_only:  # an answer to HEAD has no body; an upstream that sends one breaks the framing
            self.abort()
            return
        sink = self._sink
        if sink is not None:
            if self._ending is not None:
                return
            if sink.feed(data):
                self._end(Ending.ENOUGH)
            elif sink.is_full:
                self._pause()
                self._wake()
        elif self._discard_left is not None:
            self._discard_left -= len(data)
            if self._discard_left < 0:
                self.abort()
        else:
            self._early.append(data)
            self._early_size += len(data)
            if self._early_size > EARLY_BODY_BYTES:
                self._pause()

    def _completed(self) -> None:
        """The answer is complete. Further bytes, or a request that is not fully sent, rule out reuse."""
        is_sent = self._transport is not None and self._transport.get_write_buffer_size() == 0 and self._upload is None
        answer = self._answer
        answer.is_reusable = answer.is_reusable and not answer.fault and is_sent
        if self._discard_left is not None:
            self._discard_left = None
            if self._discard_timer is not None:
                self._discard_timer.cancel()
            self._pool.give_back(self, reusable=self._answer.is_reusable)
        else:
            self._end(Ending.WHOLE)

    def _broken(self, fault: str) -> None:
        self._end(Ending.GARBLED, fault)
        self.abort()

    def pause_writing(self) -> None:
        if self._upload is not None:
            self._upload.pause()

    def resume_writing(self) -> None:
        if self._upload is not None:
            self._upload.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop()
        self._pool.forget(self)
        is_clean_end = self._answer.is_close_delimited and exc is None  # known with the head
        self._end(Ending.UNPROVED if is_clean_end else Ending.CUT)

    def _check_timeouts_after(self, left: float) -> None:
        """Check again when the upstream's time may be over, and no later than a wait that begins now could end."""
        longest = min(self._timeouts.head_s, self._timeouts.stall_s)
        self._timeout_check = self.loop.call_later(min(left, longest), self._check_timeouts)

    def _check_timeouts(self) -> None:
        self._timeout_check = None
        if self._ending is not None or not self._sent_at:  # nothing is awaited
            return
        timeouts = self._timeouts
        now = self.loop.time()
        upload = self._upload
        if self._is_paused or (upload is not None and upload.is_awaiting_source):  # the silence is not the upstream's
            left, fault = timeouts.stall_s, ""
        elif upload is not None:
            left = upload.paused_at + timeouts.stall_s - now
            fault = f"the upstream took no more of the request's body within {timeouts.stall_s:g} s"
        elif self._answer.head is None:
            left = self._sent_at + timeouts.head_s - now
            fault = f"the upstream sent no answer within {timeouts.head_s:g} s"
        else:
            left = self._last_read + timeouts.stall_s - now
            fault = ""
        if left > 0:
            self._check_timeouts_after(left)
        else:
            self._end(Ending.STALLED, fault)
            self.abort()

    def _stop(self) -> None:
        """Stop the timers and the upload."""
        for timer in (self._timeout_check, self._discard_timer):
            if timer is not None:
                timer.cancel()
        self._timeout_check = self._discard_timer = None
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None
