"""The relay: takes an answer's bytes as they come, passes whole events on at once, and keeps what was said.

It is a `BodySink` without tasks of its own. What an event means for it is said by the dialect's `EventClassifier`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import orjson

from gateway.codec.sse import BOM, EventSplitter, EventTooLong, line_end_of, split_events
from gateway.dialects.classifier import Assembler, EventAction, EventClassifier
from gateway.dialects.fold_queue import FoldQueue
from gateway.dialects.request_body import with_member
from gateway.dialects.shapes import ENDED_BY_ERROR, UNFINISHED
from gateway.model import Outcome
from gateway.transport.call import BodySink, Ending

if TYPE_CHECKING:
    from gateway.errors import GatewayError

# Blocks, and bytes: parsing them as they come costs twice as much, parsing all at the end blocks the loop.
FOLD_EVERY = 64
FOLD_AT_BYTES = 32 * 1024
FILE_AT_BYTES = 256 * 1024  # of unfiled answer; else it is filed by the pulse
MAX_EVENT_BYTES = 16 * 1024 * 1024
_PASSING = (EventAction.PASS, EventAction.PASS_UNKEPT)
_WAITING = (EventAction.KEEP_THEN_PASS, EventAction.ERROR)


class RelayClient(Protocol):
    """The caller's side of an exchange, as the relay needs it. What is written to one who has left goes nowhere."""

    @property
    def is_full(self) -> bool: ...

    def write(self, block: bytes) -> None: ...

    async def drained(self) -> None: ...

    def tick(self, now: float) -> bool:
        """A moment between two events, `now` on the event loop's clock: one for a heartbeat, if it is time. Returns
        whether it was."""
        ...


class Keeping(Protocol):
    """Where the parts of an unfinished answer are kept."""

    def part(self, chunks: list[bytes]) -> None: ...


class Relay(BodySink):
    """One streamed answer on its way. `close` or `close_early` settles `outcome`, `fault` and `last`: what the client
    gets last."""

    __slots__ = (
        "_assembler",
        "_care",
        "_client",
        "_drops_line_feed",
        "_error",
        "_has_beaten",
        "_has_failed",
        "_keeping",
        "_limit",
        "_line_end",
        "_splitter",
        "_tee",
        "_tee_size",
        "_unfolded",
        "bytes_in",
        "bytes_out",
        "fault",
        "first_at",
        "last",
        "outcome",
    )

    def __init__(
        self, client: RelayClient, keeping: Keeping, classifier: EventClassifier, assembler: Assembler, limit: int
    ) -> None:
        self._client = client
        self._keeping = keeping
        self._classifier = classifier
        self._assembler = assembler
        self._limit = limit
        self._splitter = EventSplitter(min(limit, MAX_EVENT_BYTES))
        self._tee: list[bytes] = []
        self._tee_size = 0
        self._unfolded = FoldQueue()
        self._line_end = b"\n"
        self._has_beaten = False  # before the first event
        self._drops_line_feed = False  # of an event that was dropped, which may come with the next read
        self._has_failed = False  # the upstream has reported an error: the client has it, whatever follows
        self._error: tuple[str, str, str] | None = None  # message, type, code: the gateway's own, for the client
        self.bytes_in = 0
        self.bytes_out = 0
        self.first_at: float | None = None
        self.outcome: Outcome | None = None
        self.fault: str | None = None
        self.last = b""

    @property
    def is_full(self) -> bool:
        return self._client.is_full

    async def drained(self) -> None:
        await self._client.drained()

    def feed(self, data: bytes) -> bool:
        if self.outcome is not None:  # settled since the last read, by the pulse
            return True
        self.bytes_in += len(data)
        try:
            block = self._splitter.feed(data)
        except EventTooLong as error:
            return self._look_closely(error.whole) or self._broken(error.message)
        if not block:
            return False
        if self.first_at is None:
            self.first_at = time.perf_counter()
            self._line_end = line_end_of(block)
            if self._has_beaten and not (block := block.removeprefix(BOM)):  # it marks a stream's first byte
                return False
        if self.bytes_in > self._limit:
            return self._broken(f"the answer is longer than {self._limit} bytes")
        classifier = self._classifier
        plain, texts = classifier.plain(block)
        if plain < len(block):
            if plain:
                self._keep(block[:plain])
            return self._look_closely(block, plain)
        if texts is None:
            self._keep(block)
        else:
            self._unfolded.add_run(classifier.shape, texts)
            self._file_later(block)
        self._pass_on(block)
        if self._unfolded.count >= FOLD_EVERY or len(block) > FOLD_AT_BYTES:
            self._fold()
        return self.outcome is not None

    def tick(self, now: float) -> None:
        self.file()
        if self._client.tick(now) and self.first_at is None:
            self._has_beaten = True

    def file(self) -> None:
        """Put what was said since the last time into the journal: an unfinished answer is at most a pulse behind."""
        if self._tee:
            self._fold()
            self._keeping.part(self._tee)
            self._tee = []
            self._tee_size = 0

    def close(self, ending: Ending) -> None:
        """The upstream's body is over: settle how the answer ended, and with what the client is told so."""
        if self.outcome is None:
            self._take_unfinished(self._splitter.pending)
        self._fold()
        if self.outcome is None:
            self._settle_by(ending)
        self._conclude()

    def _settle_by(self, ending: Ending) -> None:
        if ending is Ending.GARBLED:
            self._broken("the upstream's answer broke the protocol in its middle")
        elif self._assembler.finished and not self._has_failed:
            self.outcome = Outcome.COMPLETE  # without `[DONE]`, but with the last word of every choice
        elif ending is Ending.STALLED:
            self._truncated("the upstream fell silent in the middle of its answer", "upstream_timeout")
        else:
            self._truncated("the upstream's answer ended before it was whole", "upstream_cut")

    def _conclude(self) -> None:
        """All is folded. `[DONE]` proves nothing by itself; an error of ours stands behind all that is passed on."""
        if self.outcome is Outcome.COMPLETE and not self._assembler.finished:
            self.outcome = Outcome.TRUNCATED
            self.fault = UNFINISHED
        if self._error is not None:
            self.last += self.error_events(*self._error)
            self._error = None

    def error_events(self, message: str, kind: str, code: str) -> bytes:
        """An error of the gateway's own, as it fits behind what was passed on."""
        events = self._assembler.error_events(message, kind, code).replace(b"\n", self._line_end)
        return b"\n" + events if self._line_end == b"\r\n" and self._splitter.is_in_line_end else events

    def _take_unfinished(self, event: bytes) -> None:
        """The last event, if its upstream forgot the blank line behind it; one that was cut off is none."""
        if event and self._classifier.judge_raw(event) not in (EventAction.GARBLED, EventAction.PASS_UNKEPT):
            self._look_closely(event + (b"\n" if event.endswith(b"\n") else b"\n\n"))

    def said(self) -> bytes:
        """JSON of the completion, as far as it was said; beside it events that are no JSON, so that none is lost."""
        body = self._assembler.completion_json()
        if not self._assembler.unparsed:
            return body
        texts = [payload.decode("utf-8", "backslashreplace") for payload in self._assembler.unparsed]
        return with_member(body, b'"unparsed":' + orjson.dumps(texts))

    def close_early(self, outcome: Outcome, error: GatewayError) -> None:
        """The gateway's side ends the answer: the caller left, stopped it, or the gateway goes down."""
        self._fold()
        if self.outcome is None:
            self._fail(outcome, error.message, "gateway_error", error.code)
        self._conclude()

    # --- event by event ----------------------------------------------------------------------------------------------

    def _look_closely(self, block: bytes, plain: int = 0) -> bool:
        """Judge the events behind the first `plain` bytes, and pass on in one piece what may pass.

        From the first that some clients take for the end, they wait until they are kept: by a part or, if the answer
        ends in this block, by the record. Then the whole block waits for it, which takes a moment and saves a write.
        """
        if self._drops_line_feed:
            self._drops_line_feed = False
            if not plain and not (block := block.removeprefix(b"\n")):
                return False
        passing = [block[:plain]]
        waiting: list[bytes] = []
        for raw in split_events(block[plain:]):
            step = self._classifier.judge_raw(raw)
            if step is not EventAction.PASS_UNKEPT:
                self._keep(raw)
            if self.outcome is not None:
                break
            if step is EventAction.ERROR and not self._has_failed:
                self._has_failed = True
                self.fault = ENDED_BY_ERROR
            if step in _WAITING or (waiting and step in _PASSING):
                waiting.append(raw)
            elif step in _PASSING:
                passing.append(raw)
            elif step is not EventAction.KEEP_ONLY:
                self._ends(step, raw)
                break
            else:
                self._drops_line_feed = raw.endswith(b"\r")
        if waiting and self.outcome is None:
            self.file()
        passed = b"".join(passing + waiting)
        if self.outcome is None:
            self._pass_on(passed)
        else:
            self.last = passed + self.last
        return self.outcome is not None

    def _ends(self, step: EventAction, raw: bytes) -> None:
        if raw.endswith(b"\r\n\r"):
            raw += b"\n"  # of the CRLF that ends it; it had not come yet, and nobody waits for it
        match step:
            case EventAction.LAST:
                self._settle(Outcome.UPSTREAM_ERROR if self._has_failed else Outcome.COMPLETE, raw)
            case EventAction.LAST_ERROR:
                self.fault = ENDED_BY_ERROR
                self._settle(Outcome.UPSTREAM_ERROR, raw)
            case _:
                self._broken("the upstream sent an event that is not JSON")

    def _keep(self, raw: bytes) -> None:
        self._unfolded.add(self._classifier.take_parsed(raw) or raw)
        self._file_later(raw)

    def _file_later(self, raw: bytes) -> None:
        self._tee.append(raw)
        self._tee_size += len(raw)
        if self._tee_size > FILE_AT_BYTES:
            self.file()

    def _pass_on(self, block: bytes) -> None:
        if block:
            self.bytes_out += len(block)
            self._client.write(block)

    def _fold(self) -> None:
        if not self._unfolded.count:
            return
        self._unfolded.fold_into(self._assembler)
        if self._assembler.unparsed and self.outcome in (None, Outcome.COMPLETE) and not self._has_failed:
            self._broken("the upstream sent an event that is not JSON")

    def _settle(self, outcome: Outcome, last: bytes) -> bool:
        self.outcome = outcome
        self.last = last
        return True

    def _broken(self, fault: str) -> bool:
        return self._fail(Outcome.UPSTREAM_ERROR, fault, "upstream_error", "upstream_garbled")

    def _truncated(self, fault: str, code: str) -> None:
        outcome = Outcome.TRUNCATED if self._assembler.has_content else Outcome.UPSTREAM_ERROR
        self._fail(outcome, fault, "upstream_error", code)

    def _fail(self, outcome: Outcome, fault: str, kind: str, code: str) -> bool:
        """The client is told so, unless the upstream has told it already."""
        if self._has_failed:
            return self._settle(Outcome.UPSTREAM_ERROR, b"")
        self.fault = fault
        self._error = fault, kind, code
        return self._settle(outcome, b"")
