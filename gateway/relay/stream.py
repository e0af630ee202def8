"""The relay: takes an answer's bytes as they come, passes whole events on at once, and records the answer.

It is a `BodySink` without tasks of its own. The dialect's `EventClassifier` decides how it treats each event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.codec.sse import BOM, EventSplitter, EventTooLong, line_end_of, split_events
from gateway.dialects.assembler import recorded_body
from gateway.dialects.classifier import EventAction, EventClassifier
from gateway.dialects.fold_queue import FoldQueue
from gateway.dialects.shapes import ENDED_BY_ERROR, UNFINISHED
from gateway.model import Outcome
from gateway.relay.stage import StagedSplitter
from gateway.transport.call import BodySink, Ending

if TYPE_CHECKING:
    from gateway.dialects.assembler import Assembler
    from gateway.errors import GatewayError
    from gateway.relay.stage import Stage

# Blocks, and bytes: parsing each block as it comes costs twice as much, parsing all at the end blocks the loop.
FOLD_EVERY = 64
FOLD_AT_BYTES = 32 * 1024
FLUSH_AT_BYTES = 256 * 1024  # of answer that is not in the journal yet; smaller amounts wait for the ticker
MAX_EVENT_BYTES = 16 * 1024 * 1024
_PASSING = (EventAction.PASS, EventAction.PASS_UNKEPT)
_WAITING = (EventAction.KEEP_THEN_PASS, EventAction.ERROR)


class RelayClient(Protocol):
    """The caller's side of an exchange, as the relay needs it. Writes to a caller who has left are dropped."""

    @property
    def is_full(self) -> bool: ...

    def write(self, block: bytes) -> None: ...

    async def drained(self) -> None: ...

    def tick(self, now: float) -> bool:
        """Send a heartbeat if one is due: the ticker calls this between two events. `now` is the event loop's clock.
        Returns whether one was sent."""
        ...


class AnswerRecord(Protocol):
    """The record of an answer, as the relay needs it."""

    def first_token(self) -> None:
        """Note the time of the answer's first bytes."""
        ...

    def part(self, chunks: list[bytes], /) -> None:
        """Write a part of the unfinished answer to the journal."""
        ...


class Relay(BodySink):
    """One streamed answer. `close` or `close_early` settles `outcome`, `fault` and `last`, the last bytes for the
    client. The record keeps what the client gets, after the stage if there is one."""

    __slots__ = (
        "_assembler",
        "_classifier",
        "_client",
        "_drops_line_feed",
        "_error",
        "_fold_queue",
        "_has_begun",
        "_has_failed",
        "_limit",
        "_line_end",
        "_recording",
        "_sent_heartbeat",
        "_splitter",
        "_stage",
        "_tee",
        "_tee_size",
        "bytes_in",
        "bytes_out",
        "fault",
        "last",
        "outcome",
    )

    def __init__(
        self,
        client: RelayClient,
        recording: AnswerRecord,
        classifier: EventClassifier,
        assembler: Assembler,
        limit: int,
        stage: Stage | None = None,
    ) -> None:
        event_limit = min(limit, MAX_EVENT_BYTES)
        self._client = client
        self._recording = recording
        self._classifier = classifier
        self._assembler = assembler
        self._limit = limit
        self._stage = stage
        self._splitter = EventSplitter(event_limit) if stage is None else StagedSplitter(event_limit, stage)
        self._tee: list[bytes] = []
        self._tee_size = 0
        self._fold_queue = FoldQueue()
        self._line_end = b"\n"
        self._has_begun = False  # the first event was here
        self._sent_heartbeat = False  # before the first event
        self._drops_line_feed = False  # of a dropped event's CRLF, whose LF may come with the next read
        self._has_failed = False  # the upstream has reported an error: the client has it, whatever follows
        self._error: tuple[str, str, str] | None = None  # message, type, code: the gateway's own, for the client
        self.bytes_in = 0
        self.bytes_out = 0
        self.outcome: Outcome | None = None
        self.fault: str | None = None
        self.last = b""

    @property
    def is_full(self) -> bool:
        return self._client.is_full

    async def drained(self) -> None:
        await self._client.drained()

    def feed(self, data: bytes) -> bool:
        if self.outcome is not None:  # settled since the last read, by the ticker
            return True
        self.bytes_in += len(data)
        try:
            block = self._splitter.feed(data)
        except EventTooLong as error:
            return self._look_closely(error.whole) or self._broken(error.message)
        if not block:
            return False
        if not self._has_begun:
            self._has_begun = True
            self._recording.first_token()
            self._line_end = line_end_of(block)
            if self._sent_heartbeat and not (block := block.removeprefix(BOM)):  # it may only be a stream's first byte
                return False
        if self.bytes_in > self._limit:
            return self._broken(f"the answer is longer than {self._limit} bytes")
        classifier = self._classifier
        plain, texts = classifier.scan_deltas(block)
        if plain < len(block):
            if plain:
                self._keep(block[:plain])
            return self._look_closely(block, plain)
        if texts is None:
            self._keep(block)
        else:
            self._fold_queue.add_run(classifier.template, texts)
            self._tee_off(block)
        self._pass_on(block)
        if self._fold_queue.count >= FOLD_EVERY or len(block) > FOLD_AT_BYTES:
            self._fold()
        return self.outcome is not None

    def tick(self, now: float) -> None:
        self.flush_to_journal()
        if self._client.tick(now) and not self._has_begun:
            self._sent_heartbeat = True

    def flush_to_journal(self) -> None:
        """Write the answer's new events to the journal, which is at most one tick behind an unfinished answer."""
        if self._tee:
            self._fold()
            self._recording.part(self._tee)
            self._tee = []
            self._tee_size = 0

    def close(self, ending: Ending) -> None:
        """Settle the outcome and the last bytes for the client: the upstream's body is over."""
        if self.outcome is None:
            self._take_rest(self._unfinished())
        self._fold()
        if self.outcome is None:
            self._settle_by(ending)
        self._conclude()

    def _settle_by(self, ending: Ending) -> None:
        if ending is Ending.GARBLED:
            self._broken("the upstream's answer broke the protocol in its middle")
        elif self._assembler.finished and not self._has_failed:
            self.outcome = Outcome.COMPLETE  # without `[DONE]`, but with a `finish_reason` for every choice
        elif ending is Ending.STALLED:
            self._truncated("the upstream fell silent in the middle of its answer", "upstream_timeout")
        else:
            self._truncated("the upstream's answer ended before it was whole", "upstream_cut")

    def _conclude(self) -> None:
        """Decide the outcome once all is folded: `[DONE]` alone proves nothing. An error of ours comes last of all."""
        if self.outcome is Outcome.COMPLETE and not self._assembler.finished:
            self.outcome = Outcome.TRUNCATED
            self.fault = UNFINISHED
        if self._error is not None:
            self.last += self.error_events(*self._error)
            self._error = None

    def error_events(self, message: str, kind: str, code: str) -> bytes:
        """Error events of the gateway's own, with the line ends of the stream so far."""
        events = self._assembler.error_events(message, kind, code).replace(b"\n", self._line_end)
        return b"\n" + events if self._line_end == b"\r\n" and self._splitter.is_in_line_end else events

    def _unfinished(self) -> bytes:
        """The last event, completed if only its blank line is missing; nothing if the event itself was cut off."""
        event = self._splitter.pending
        if not event or self._classifier.classify_raw(event) in (EventAction.GARBLED, EventAction.PASS_UNKEPT):
            return b""
        return event + (b"\n" if event.endswith(b"\n") else b"\n\n")

    def _take_rest(self, events: bytes) -> None:
        """Take the last events, and those that a stage has held back."""
        if self._stage is not None:
            events = (self._stage.feed(events) if events else b"") + self._stage.flush()
        if events:
            self._look_closely(events)

    def completion_json(self) -> bytes:
        return recorded_body(self._assembler)

    def close_early(self, outcome: Outcome, error: GatewayError) -> None:
        """Settle an answer that the gateway's side ends: the caller left or stopped it, or the gateway shuts down."""
        if self._stage is not None and self.outcome is None:
            self._take_rest(b"")
        self._fold()
        if self.outcome is None:
            self._fail(outcome, error.message, "gateway_error", error.code)
        self._conclude()

    # --- event by event ----------------------------------------------------------------------------------------------

    def _look_closely(self, block: bytes, plain: int = 0) -> bool:
        """Classify the events after the first `plain` bytes, and pass on in one piece those that may pass.

        Some clients take certain events for the end: from the first of these on, events wait until they are recorded,
        by a part or, if the answer ends in this block, by the end of the record. In that case the whole block waits,
        which takes a moment and saves a write. Returns whether the answer is settled.
        """
        if self._drops_line_feed:
            self._drops_line_feed = False
            if not plain and not (block := block.removeprefix(b"\n")):
                return False
        passing = [block[:plain]]
        waiting: list[bytes] = []
        for raw in split_events(block[plain:]):
            action = self._classifier.classify_raw(raw)
            if action is not EventAction.PASS_UNKEPT:
                self._keep(raw)
            if self.outcome is not None:
                break
            if action is EventAction.ERROR and not self._has_failed:
                self._has_failed = True
                self.fault = ENDED_BY_ERROR
            if action in _WAITING or (waiting and action in _PASSING):
                waiting.append(raw)
            elif action in _PASSING:
                passing.append(raw)
            elif action is not EventAction.KEEP_ONLY:
                self._ends(action, raw)
                break
            else:
                self._drops_line_feed = raw.endswith(b"\r")
        if waiting and self.outcome is None:
            self.flush_to_journal()
        passed = b"".join(passing + waiting)
        if self.outcome is None:
            self._pass_on(passed)
        else:
            self.last = passed + self.last
        return self.outcome is not None

    def _ends(self, action: EventAction, raw: bytes) -> None:
        if raw.endswith(b"\r\n\r"):
            raw += b"\n"  # of the CRLF that ends it; it has not come yet, and we do not wait for it
        match action:
            case EventAction.LAST:
                self._settle(Outcome.UPSTREAM_ERROR if self._has_failed else Outcome.COMPLETE, raw)
            case EventAction.LAST_ERROR:
                self.fault = ENDED_BY_ERROR
                self._settle(Outcome.UPSTREAM_ERROR, raw)
            case _:
                self._broken("the upstream sent an event that is not JSON")

    def _keep(self, raw: bytes) -> None:
        self._fold_queue.add(self._classifier.take_parsed(raw) or raw)
        self._tee_off(raw)

    def _tee_off(self, raw: bytes) -> None:
        self._tee.append(raw)
        self._tee_size += len(raw)
        if self._tee_size > FLUSH_AT_BYTES:
            self.flush_to_journal()

    def _pass_on(self, block: bytes) -> None:
        if block:
            self.bytes_out += len(block)
            self._client.write(block)

    def _fold(self) -> None:
        if not self._fold_queue.count:
            return
        self._fold_queue.fold_into(self._assembler)
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
        """Settle with an error event for the client, unless the upstream has sent it one already."""
        if self._has_failed:
            return self._settle(Outcome.UPSTREAM_ERROR, b"")
        self.fault = fault
        self._error = fault, kind, code
        return self._settle(outcome, b"")
