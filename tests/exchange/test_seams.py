"""A trial of each seam: one observer, one gate, one stage and one provider, each one class and one row in a list."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.codec.sse import split_events
from gateway.dialects.dialect import CHAT
from gateway.edge.http.bodies import parse_chat
from gateway.errors import GatewayError, NotAllowed, ShuttingDown, Stopped, UpstreamUnreachable
from gateway.exchange.context import PassthroughRequest, Permit, RequestContext
from gateway.exchange.exchange import Exchange
from gateway.exchange.observers import Observer, callbacks_of
from gateway.exchange.options import ExchangeOptions
from gateway.exchange.stages import StageChain
from gateway.in_flight.in_flight import InFlight
from gateway.in_flight.shutdown_gate import ShutdownGate
from gateway.model import Kind, Outcome, Principal
from gateway.policy.engine import Policy
from gateway.providers.openai import OpenAICompatible
from gateway.providers.routing import Catalogue, Route
from gateway.relay.stream import Relay
from gateway.relay.ticker import Ticker
from gateway.transport.call import BodySink, Call, Ending, Provider, Reply
from gateway.transport.origin import Origin, Timeouts
from tests.dialects.streams import cut
from tests.fakes import FakeCaller, FakeClient, FakeEntry, FakeJournal, FakeReply, head
from tests.loopback import LoopbackUpstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.dialects.dialect import Dialect
    from gateway.exchange.gates import Gate
    from gateway.exchange.recording import Recording
    from gateway.exchange.stages import StageFactory
    from gateway.relay.stage import Stage
    from gateway.transport.call import RawHeaders

DONE = b"data: [DONE]\n\n"


def event(content: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"model": "m", "choices": [choice]}).encode() + b"\n\n"


STREAM = [event("one "), event("two "), event("three", "stop"), DONE]


class FakeProvider(Provider):
    """Answers every call with the same events, once `may_answer` is set."""

    def __init__(self, name: str = "fake", events: Sequence[bytes] = STREAM) -> None:
        self.name = name
        self.calls: list[Call] = []
        self.is_closed = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._events = events

    async def open(self, call: Call) -> Reply:
        self.calls.append(call)
        await self.may_answer.wait()
        return FakeReply(head(content_type="text/event-stream"), self._events)

    async def aclose(self) -> None:
        self.is_closed = True


class Fakes:
    """An exchange among fakes."""

    def __init__(
        self,
        *,
        gates: Sequence[Gate] = (),
        observers: Sequence[Observer] = (),
        stages: Sequence[StageFactory] = (),
        catalogue: Catalogue | None = None,
        provider: Provider | None = None,
    ) -> None:
        self.journal = FakeJournal()
        self.ticker = Ticker()
        self.exchange = Exchange(
            Policy(),
            catalogue or Catalogue(provider or FakeProvider()),
            self.journal.begin,
            self.ticker,
            ExchangeOptions(),
            gates=gates,
            observers=observers,
            stages=stages,
        )

    async def chat(self, context: RequestContext | None = None, model: str = "m") -> FakeCaller:
        caller = FakeCaller()
        try:
            await self.exchange.converse(context or context_of(), asked_of(model), CHAT, caller)
        finally:
            self.ticker.close()
        return caller


def asked_of(model: str = "m") -> Any:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    return parse_chat(json.dumps(body).encode(), 100)


def context_of(**more: Any) -> RequestContext:
    known = {"caller": Principal("ann"), "method": "POST", "path": "/v1/chat/completions", **more}
    return RequestContext(id=uuid4(), request_id="r-1", headers=(), **known)


# --- an observer -----------------------------------------------------------------------------------------------------


class Timeline(Observer):
    def __init__(self) -> None:
        self.moments: list[str] = []

    def begun(self, recording: Recording) -> None:
        assert recording.head is None
        self.moments.append(f"begun by {recording.interaction.principal.user}")

    def head(self, recording: Recording) -> None:
        assert recording.head is not None
        self.moments.append(f"head {recording.head.status}")

    def first_token(self, recording: Recording) -> None:
        assert recording.answer is None
        assert recording.first_at is not None
        self.moments.append("first token")

    def closed(self, recording: Recording) -> None:
        assert recording.answer is not None
        self.moments.append(f"closed {recording.answer.outcome}")
        recording.add_log_fields({"trace": "t-1"})


async def test_an_observer_is_one_class_and_one_row() -> None:
    observer, context = Timeline(), context_of()
    await Fakes(observers=[observer]).chat(context)
    assert observer.moments == ["begun by ann", "head 200", "first token", "closed complete"]
    assert context.recording is not None
    assert context.recording.log_fields == {"trace": "t-1"}


async def test_observers_see_an_answer_that_is_not_a_stream_alike() -> None:
    class Whole(FakeProvider):
        async def open(self, call: Call) -> Reply:
            return FakeReply(head(content_type="application/json"), [b'{"choices": [', b"]}"])

    for name in ("converse", "pass_through"):
        observer = Timeline()
        fakes = Fakes(observers=[observer], provider=Whole())
        if name == "converse":
            await fakes.chat()
        else:
            await fakes.exchange.pass_through(
                context_of(), Kind.OTHER, "/x", PassthroughRequest(b"{}", model="m"), FakeCaller()
            )
        assert observer.moments == ["begun by ann", "head 200", "first token", "closed complete"], name


def test_methods_that_no_observer_overrides_are_not_called() -> None:
    class Closing(Observer):
        def closed(self, recording: Recording) -> None:
            """Settle a limit."""

    callbacks = callbacks_of([Closing(), Observer(), Closing()])
    assert [len(each) for each in callbacks] == [0, 0, 0, 2]


# --- a gate ----------------------------------------------------------------------------------------------------------


class OneAtATime:
    """Lets one request in flight; its permit counts down when the exchange is over."""

    def __init__(self) -> None:
        self.in_flight = 0

    async def enter(self, context: RequestContext) -> Permit | GatewayError:
        assert context.recording is None
        assert context.asked is not None
        if self.in_flight:
            return NotAllowed("one at a time", code="too_many_requests")
        self.in_flight += 1
        return Counted(self)


class Counted(Permit):
    def __init__(self, gate: OneAtATime) -> None:
        self._gate = gate

    def release(self) -> None:
        self._gate.in_flight -= 1


async def test_a_gate_is_one_class_and_one_row() -> None:
    gate, provider = OneAtATime(), FakeProvider()
    provider.may_answer.clear()
    fakes = Fakes(gates=[gate], provider=provider)
    first = asyncio.create_task(fakes.chat())
    while not provider.calls:
        await asyncio.sleep(0)
    with pytest.raises(NotAllowed, match="one at a time"):
        await fakes.chat()
    assert gate.in_flight == 1
    provider.may_answer.set()
    assert (await first).has_end
    assert gate.in_flight == 0
    assert (await fakes.chat()).has_end
    begun = [entry.interaction for entry in fakes.journal.entries]
    outcomes = [entry.answers[0].outcome for entry in fakes.journal.entries]
    assert outcomes == [Outcome.COMPLETE, Outcome.REFUSED, Outcome.COMPLETE]
    assert [each and each.upstream for each in begun] == ["fake", None, "fake"]
    assert len(provider.calls) == 2


@pytest.mark.parametrize("how", ["upstream", "journal", "cancelled"])
async def test_a_permit_is_released_however_the_exchange_ends(how: str) -> None:
    class Failing(FakeProvider):
        async def open(self, call: Call) -> Reply:
            if how == "cancelled":
                raise asyncio.CancelledError
            raise UpstreamUnreachable("no")

    gate = OneAtATime()
    fakes = Fakes(gates=[gate], provider=Failing())
    if how == "journal":

        def begin_nothing(interaction: object) -> Any:
            raise ShuttingDown("the journal is closed")

        fakes.exchange._begin_entry = begin_nothing
    with pytest.raises((GatewayError, asyncio.CancelledError)):
        await fakes.chat()
    assert gate.in_flight == 0


async def test_a_request_that_comes_after_the_shutdown_is_refused_and_on_record() -> None:
    in_flight, provider = InFlight(), FakeProvider()
    fakes = Fakes(gates=[ShutdownGate(in_flight)], provider=provider)
    assert (await fakes.chat()).has_end
    in_flight.cut_short()
    with pytest.raises(ShuttingDown):
        await fakes.chat()
    with pytest.raises(ShuttingDown):
        await fakes.exchange.pass_through(context_of(), Kind.OTHER, "/models", PassthroughRequest(b""), FakeCaller())
    outcomes = [entry.answers[0].outcome for entry in fakes.journal.entries]
    assert outcomes == [Outcome.COMPLETE, Outcome.REFUSED, Outcome.REFUSED]
    assert len(provider.calls) == 1


# --- a stage ---------------------------------------------------------------------------------------------------------


class UpperCase:
    """Changes the text of each event as it comes."""

    def feed(self, events: bytes) -> bytes:
        return re.sub(rb'"content": "([^"]*)"', lambda found: b'"content": "%b"' % found[1].upper(), events)

    def flush(self) -> bytes:
        return b""


class OneBehind:
    """Holds the last event back until the next one is here, as a mask does that must see more text."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, events: bytes) -> bytes:
        *ready, held = split_events(events)
        if held == DONE:
            ready, held = [*ready, held], b""
        ready, self._held = [self._held, *ready], held
        return b"".join(ready)

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return held


def upper_case(context: RequestContext, dialect: Dialect) -> Stage | None:
    return UpperCase() if context.caller.user == "ann" else None


async def test_a_stage_is_one_class_and_one_row() -> None:
    fakes = Fakes(stages=[upper_case])
    for user, text in (("ann", "ONE TWO THREE"), ("bob", "one two three")):
        caller = await fakes.chat(context_of(caller=Principal(user)))
        assert b"".join(re.findall(rb'"content": "([^"]*)"', caller.body)).decode() == text
        (answer,) = fakes.journal.entries[-1].answers
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == text
        assert (answer.outcome, answer.bytes_out) == (Outcome.COMPLETE, len(caller.body))


def staged(stage: Stage) -> tuple[Relay, FakeClient, FakeEntry]:
    client, entry = FakeClient(), FakeEntry()
    return Relay(client, entry, CHAT.classifier(False), CHAT.assembler(), 1 << 20, stage), client, entry


def text_of(relay: Relay) -> str:
    return str(json.loads(relay.completion_json())["choices"][0]["message"]["content"])


@given(places=st.lists(st.integers(0, 1 << 12), max_size=8), tick=st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_a_staged_answer_is_the_same_at_every_cut(places: list[int], tick: int) -> None:
    relay, client, entry = staged(StageChain([OneBehind(), UpperCase()]))
    for number, read in enumerate(cut(b"".join(STREAM), places)):
        if relay.feed(read):
            break
        if number == tick:
            relay.tick(1.0)
        for block in client.blocks:
            assert block.endswith(b"\n\n")  # so that a heartbeat stands between events
    relay.close(Ending.ENOUGH)
    assert relay.outcome is Outcome.COMPLETE
    assert client.body + relay.last == UpperCase().feed(b"".join(STREAM))
    assert text_of(relay) == "ONE TWO THREE"
    assert b"".join(entry.parts) in client.body + relay.last


def test_what_a_stage_holds_back_is_sent_when_the_upstream_ends() -> None:
    relay, client, _ = staged(OneBehind())
    relay.feed(event("one ") + event("two", "stop"))
    assert client.body == event("one ")
    relay.close(Ending.WHOLE)
    assert client.body + relay.last == event("one ") + event("two", "stop")
    assert (relay.outcome, text_of(relay)) == (Outcome.COMPLETE, "one two")


def test_a_last_event_without_its_blank_line_goes_through_the_stage() -> None:
    relay, client, _ = staged(StageChain([OneBehind(), UpperCase()]))
    relay.feed(event("one ") + event("two", "stop")[:-2])
    relay.close(Ending.WHOLE)
    assert client.body + relay.last == event("ONE ") + event("TWO", "stop")
    assert relay.outcome is Outcome.COMPLETE


def test_a_cut_off_event_does_not_reach_the_stage() -> None:
    relay, client, _ = staged(UpperCase())
    relay.feed(event("one ") + event("two")[:-9])
    relay.close(Ending.CUT)
    assert client.body == event("ONE ")
    assert (relay.outcome, text_of(relay)) == (Outcome.TRUNCATED, "ONE ")


def test_what_a_stage_holds_back_is_recorded_and_sent_when_the_answer_is_stopped() -> None:
    relay, client, _ = staged(StageChain([OneBehind(), UpperCase()]))
    relay.feed(event("one ") + event("two "))
    relay.close_early(Outcome.CLIENT_CANCELLED, Stopped("stopped"))
    assert client.body == event("ONE ") + event("TWO ")
    assert b'"code":"stopped"' in relay.last
    assert (relay.outcome, text_of(relay)) == (Outcome.CLIENT_CANCELLED, "ONE TWO ")


async def test_a_slow_reader_holds_a_staged_answer_up() -> None:
    relay, client, _ = staged(OneBehind())
    client.is_full = True
    assert relay.is_full
    await relay.drained()
    assert not relay.is_full


# --- a provider ------------------------------------------------------------------------------------------------------


async def test_a_provider_is_one_class_and_one_row() -> None:
    main, other = FakeProvider("main"), FakeProvider("other")
    catalogue = Catalogue(main, models={"alias": Route(other, "real-1")})
    fakes = Fakes(catalogue=catalogue)
    await fakes.chat(model="alias")
    await fakes.chat(model="m")
    assert [json.loads(one.body)["model"] for one in other.calls if isinstance(one.body, bytes)] == ["real-1"]
    assert len(main.calls) == 1
    begun = [entry.interaction for entry in fakes.journal.entries]
    assert [(each.model, each.upstream) for each in begun if each] == [("alias", "other"), ("m", "main")]
    assert [json.loads(each.body)["model"] for each in begun if each] == ["alias", "m"]
    await catalogue.aclose()
    assert main.is_closed
    assert other.is_closed


async def test_a_provider_may_sign_each_call() -> None:
    class Signature:
        async def headers(self, call: Call) -> RawHeaders:
            await asyncio.sleep(0)  # a token is fetched
            assert isinstance(call.body, bytes)
            return ((b"Authorization", b"Signature %d" % len(call.body)),)

    class Body(BodySink):
        is_full = False

        def feed(self, data: bytes) -> bool:
            return False

        async def drained(self) -> None: ...

    async with LoopbackUpstream() as upstream:
        origin = Origin.of_base(upstream.url, "Bearer fixed")
        provider = OpenAICompatible(origin, Timeouts(1, 5, 5, 5), auth=Signature())
        reply = await provider.open(Call("POST", "/chat/completions", ((b"Content-Type", b"application/json"),), b"{}"))
        await reply.pump(Body())
        reply.close()
        await provider.aclose()
        assert upstream.requests[-1].header("authorization") == "Signature 2"
