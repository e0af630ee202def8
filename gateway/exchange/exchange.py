"""The story of a request, on one page: policy, record, upstream, relay, record again, and only then the end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from gateway.codec import jsontext
from gateway.dialects.request_body import OPTIONS, asking_for_usage, further_models, with_member, without_members
from gateway.dialects.shapes import estimate_usage
from gateway.errors import (
    CallerError,
    GatewayError,
    JournalFull,
    NotAllowed,
    PolicyRejected,
    ShuttingDown,
    Stopped,
    UpstreamElsewhere,
    UpstreamError,
)
from gateway.exchange.recording import Recording
from gateway.model import ChatRequest, Interaction, Kind, Outcome, Principal
from gateway.relay.buffered import BufferedAnswer, is_text, kept_fields, read_whole, sent_fields, whole_of
from gateway.relay.opening import EVENTS, Enough, Opening
from gateway.relay.passthrough import BufferSink, Digest, PassthroughSink
from gateway.relay.stream import Relay, RelayClient
from gateway.relay.usage import UncountedModels, refuses_usage
from gateway.transport.call import Call, Ending, Head, Provider, RawHeaders, Reply
from gateway.transport.encoding import decoded, plain_head
from gateway.transport.headers import RequestHeaders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from uuid import UUID

    from gateway.dialects.classifier import Assembler, Dialect
    from gateway.exchange.recording import Recorder
    from gateway.model import Ruling
    from gateway.policy.engine import Policy
    from gateway.providers.routing import Catalogue
    from gateway.relay.ticker import Ticker
    from gateway.transport.encoding import InflatingSink


_REDIRECTS = frozenset((301, 302, 303, 307, 308))
REFUSED_BYTES = 64 * 1024  # of a refused request's body that are kept


class Client(RelayClient, Protocol):
    """The caller's side of an exchange; the edge has one for HTTP."""

    @property
    def starts_at_once(self) -> bool:
        """Whether `start_now` is likely to do."""
        ...

    def start_now(self, head: Head) -> bool:
        """As `start`, of events, without waiting: the head goes out with the first of them, with the end, or by
        `send_head`. False: only `start` can do it."""
        ...

    def send_head(self) -> None:
        """Send the head that `start_now` has made, if it is not out yet."""
        ...

    async def start(self, head: Head, *, is_events: bool) -> None:
        """Send status and headers; the body follows by `write`."""
        ...

    async def end(self, last: bytes) -> None:
        """Send the last bytes and end the body."""
        ...

    def cut(self) -> None:
        """End the connection, so that the body cannot be taken for a whole one."""
        ...

    async def send(self, status: int, head: Head, body: bytes) -> None:
        """Send a whole answer."""
        ...


@dataclass(slots=True)
class RequestContext:
    """One request on its way through the house. `recording` is there as soon as it is on record."""

    id: UUID
    caller: Principal
    request_id: str
    method: str
    path: str  # as the caller wrote it, with its query
    headers: RawHeaders
    content_type: str | None = None
    query: str = ""
    further_models: tuple[str, ...] = ()  # that path and query name, where the caller may use some only
    shows_ids: bool = False  # the gateway's own endpoints put the ids of interaction and conversation into the answer
    convo_show: bool = True  # False: asked by the gateway itself, and no conversation of the caller's history
    recording: Recording | None = None
    stopped: GatewayError | None = None  # why the gateway itself cancels it: at the caller's wish, or for its own end

    def why_cancelled(self) -> tuple[Outcome, GatewayError]:
        if self.stopped is None:
            return Outcome.CLIENT_CANCELLED, Stopped("the caller left")
        outcome = Outcome.INTERRUPTED if isinstance(self.stopped, ShuttingDown) else Outcome.CLIENT_CANCELLED
        return outcome, self.stopped

    def take_back_cancellation(self) -> None:
        """A stop has done its work: the task that it cancelled goes on to its orderly end."""
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()


@dataclass(frozen=True, slots=True)
class Upload:
    """The body of a call that is no conversation: at hand and decoded, or streamed as it comes."""

    body: bytes | AsyncIterator[bytes]
    length: int | None = None
    model: str | None = None
    further_models: tuple[str, ...] = ()  # that the upstream may use instead, where the caller may use some only
    cost: float | None = None  # USD, if the upstream does it
    refusal: NotAllowed | None = None  # where it cannot be told whether its model may be used
    is_kept: bool = True  # False: the record has size and digest only, as it has of one that is streamed


@dataclass(frozen=True, slots=True)
class ExchangeOptions:
    """What the configuration says about every exchange. Sizes in bytes."""

    answer_bytes: int = 64 * 1024 * 1024
    inline_bytes: int = 1024 * 1024
    asks_usage: bool = True
    headers: RequestHeaders = field(default_factory=RequestHeaders)


class Exchange:
    """Carries requests through: one for the whole process."""

    def __init__(
        self, policy: Policy, catalogue: Catalogue, recorder: Recorder, ticker: Ticker, terms: ExchangeOptions
    ) -> None:
        self._policy = policy
        self._catalogue = catalogue
        self._recorder = recorder
        self._ticker = ticker
        self._terms = terms
        self._uncounted = UncountedModels()

    # --- conversations -----------------------------------------------------------------------------------------------

    async def converse(self, context: RequestContext, asked: ChatRequest, dialect: Dialect, client: Client) -> None:
        """One chat completion or response, streamed or not.

        Raises NotAllowed, PolicyRejected, UpstreamError, JournalFull, Stopped, CallerError as long as nothing has been
        sent; what goes wrong later ends the stream with an error event.
        """
        asked, ruling, refusal = self._policy.review(asked, context.caller)
        if (not_allowed := _model_refusal(context, asked.model, further_models(asked.body))) is not None:
            raise self._refused(context, _interaction_of(context, dialect.kind, asked, ruling), not_allowed)
        provider = self._catalogue.for_model(asked.model)
        begun = _interaction_of(context, dialect.kind, asked, ruling, provider.name)
        context.recording = recording = Recording(self._recorder, begun)
        try:
            if refusal is not None:
                recording.close(Outcome.POLICY_BLOCKED, error=refusal)
                raise PolicyRejected(refusal)
            reply, drops_usage = await self._open(context, asked, dialect, provider)
            recording.head = reply.head
            try:
                if reply.head.status == 200 and (asked.is_stream or reply.head.media_type == EVENTS):
                    await self._relay(context, recording, asked, dialect, reply, client, drops_usage=drops_usage)
                else:
                    whole = await read_whole(reply, dialect, self._terms.answer_bytes)
                    await self._hand_over(context, recording, asked, whole, reply.head, client)
            finally:
                reply.close()
        except BaseException as error:
            self._close_failed(context, recording, error)
            if context.stopped is not None and isinstance(error, asyncio.CancelledError):
                context.take_back_cancellation()
                raise context.stopped from None
            raise

    def _refused(self, context: RequestContext, begun: Interaction, error: GatewayError) -> GatewayError:
        """Records a request that no upstream is asked for, and gives the error back to be raised.

        Of a body beyond REFUSED_BYTES the record has the beginning, and the size and digest of all of it.
        """
        known: dict[str, Any] = {}
        if len(begun.body) > REFUSED_BYTES:
            known = {"request_size": len(begun.body), "request_sha256": sha256(begun.body).hexdigest()}
        refused = replace(begun, body=begun.body[:REFUSED_BYTES], convo_show=False)
        context.recording = Recording(self._recorder, refused)
        context.recording.close(Outcome.REFUSED, error=error.message, **known)
        return error

    async def _open(
        self, context: RequestContext, asked: ChatRequest, dialect: Dialect, provider: Provider
    ) -> tuple[Reply, bool]:
        """The upstream's answer, and whether its usage event is the gateway's own wish."""
        path = f"{dialect.path}?{context.query}" if context.query else dialect.path
        asking, plain = self._usage_bodies(context, asked, dialect)
        call = Call("POST", path, self._terms.headers.of(context.headers), plain)
        model = (provider.name, asked.model)
        if asking is None or model in self._uncounted:
            return await provider.open(call), False
        reply = await provider.open(replace(call, body=asking))
        if reply.head.status not in (400, 422):
            return reply, not asked.wants_usage
        refusal = BufferSink(self._terms.inline_bytes)
        await reply.pump(refusal)
        reply.close()
        reply = await provider.open(call)  # so that a refusal, too, is about what the caller wrote
        if reply.head.status not in (400, 422) and refuses_usage(refusal.body, plain):
            self._uncounted.add(model)
        return reply, False

    def _usage_bodies(
        self, context: RequestContext, asked: ChatRequest, dialect: Dialect
    ) -> tuple[bytes | None, bytes]:
        """The request that asks for the stream's usage, None if none is to be asked for; and the one that does not.

        Our page asks for it, but does without: at the gateway's own endpoint it is a wish. On /v1 it is the program's.
        """
        if not (dialect.counts_on_request and asked.is_stream):
            return None, asked.raw
        if asked.wants_usage:
            return (asked.raw, without_members(asked.raw, (OPTIONS,))) if context.shows_ids else (None, asked.raw)
        return (asking_for_usage(asked.raw, asked.body) if self._terms.asks_usage else None), asked.raw

    async def _relay(
        self,
        context: RequestContext,
        recording: Recording,
        asked: ChatRequest,
        dialect: Dialect,
        reply: Reply,
        client: Client,
        *,
        drops_usage: bool,
    ) -> None:
        assembler = dialect.assembler()
        relay = Relay(client, recording, dialect.classifier(drops_usage), assembler, self._terms.answer_bytes)
        opening = Opening(reply.head, client, relay, self._terms.answer_bytes)
        inflating = decoded(reply.head, opening)
        if inflating is not None:
            opening.head = plain_head(reply.head)
        try:
            with self._ticker.watching(opening):
                ending = await _pumped(reply, opening, inflating)
            if not opening.is_stream:
                whole = whole_of(opening.head, opening.held, inflating, ending, dialect, self._terms.answer_bytes)
                await self._hand_over(context, recording, asked, whole, opening.head, client)
                return
            relay.close(ending if inflating is None else inflating.ending(ending))
            self._close_relayed(context, recording, asked, relay, assembler)
        except asyncio.CancelledError:
            if not opening.is_stream:
                raise
            relay.close_early(*context.why_cancelled())
            if context.stopped is None:
                relay.last = b""  # the caller left: nobody hears it
            self._close_relayed(context, recording, asked, relay, assembler)
            if context.stopped is None:
                raise
            context.take_back_cancellation()
        await self._end(recording, client, relay)

    def _close_relayed(
        self, context: RequestContext, recording: Recording, asked: ChatRequest, relay: Relay, assembler: Assembler
    ) -> None:
        recording.first_at = relay.first_at
        recording.close(
            relay.outcome or Outcome.UPSTREAM_ERROR,
            body=self._with_ids(context, asked, relay.said()),
            body_type="application/json",
            model=assembler.model,
            usage=assembler.usage or estimate_usage(asked.body, assembler.completion()),
            bytes_in=relay.bytes_in,
            bytes_out=relay.bytes_out + len(relay.last),
            error=relay.fault,
        )

    async def _end(self, recording: Recording, client: Client, relay: Relay) -> None:
        """The end is the last thing to be sent, and only when the record is kept."""
        last = relay.last
        try:
            await recording.kept()
        except JournalFull as error:
            last = relay.error_events(error.message, "server_error", error.code)
        await client.end(last)

    async def _hand_over(
        self,
        context: RequestContext,
        recording: Recording,
        asked: ChatRequest,
        whole: BufferedAnswer,
        head: Head,
        client: Client,
    ) -> None:
        """An answer that is no stream, and was read whole: recorded, sent."""
        recording.first_at = whole.first_at
        is_answer = whole.answer is not None
        body = self._with_ids(context, asked, whole.body) if is_answer else whole.body
        told = body if whole.told is None else whole.told
        recording.close(
            whole.outcome,
            body=body,
            body_type=head.media_type,
            model=whole.model,
            usage=whole.usage or (estimate_usage(asked.body, whole.answer) if whole.answer is not None else None),
            bytes_in=whole.size,
            bytes_out=len(told),
            error=whole.fault,
        )
        await recording.kept()
        if whole.error is not None and whole.told is None:
            raise whole.error
        await client.send(whole.status, whole.head, told)

    def _with_ids(self, context: RequestContext, asked: ChatRequest, body: bytes) -> bytes:
        if not context.shows_ids:
            return body
        root = asked.root_id or str(context.id)
        root_json = jsontext.write(root, is_plain=True)  # a caller's own id may hold anything
        return with_member(body, b'"uuid":"%b","root_uuid":%b' % (str(context.id).encode(), root_json))

    def as_recorded(self, asked: ChatRequest, caller: Principal) -> ChatRequest:
        """The request as the policy lets it through, which is what the record keeps of it."""
        return self._policy.review(asked, caller).request

    # --- everything else ---------------------------------------------------------------------------------------------

    async def pass_through(
        self, context: RequestContext, kind: Kind, path: str, upload: Upload, client: Client
    ) -> None:
        """Any other call: streamed through in both directions as it is, and recorded. `path` is below the base URL."""
        begun = Interaction(
            id=context.id,
            kind=kind,
            started_at=time.time(),
            principal=context.caller,
            request_id=context.request_id,
            method=context.method,
            path=context.path,
            model=upload.model,
            request_type=context.content_type,
            body=upload.body if isinstance(upload.body, bytes) else b"",
        )
        if context.method not in ("GET", "HEAD", "DELETE", "OPTIONS") or upload.body or upload.refusal is not None:
            not_allowed = upload.refusal or _model_refusal(context, upload.model, upload.further_models)
            if not_allowed is not None:
                raise self._refused(context, begun, not_allowed)
        provider = self._catalogue.for_path(path)
        is_at_hand = isinstance(upload.body, bytes)
        sent = None if is_at_hand and upload.is_kept else Digest(keep=0)
        begun = replace(begun, upstream=provider.name, body=begun.body if sent is None else b"")
        context.recording = recording = Recording(self._recorder, begun)
        body = upload.body
        if sent is not None:
            if isinstance(body, bytes):
                sent.update(body)
            else:
                body = sent.over(body)
        call = Call(
            context.method, path, self._terms.headers.of(context.headers, is_decoded=is_at_hand), body, upload.length
        )
        try:
            reply = await provider.open(call)
            recording.head = reply.head
            try:
                await self._pass(context, recording, reply, client, upload, sent)
            finally:
                reply.close()
        except BaseException as error:
            self._close_failed(context, recording, error, **sent_fields(sent))
            if context.stopped is not None and isinstance(error, asyncio.CancelledError):
                context.take_back_cancellation()
                raise context.stopped from None
            raise

    async def _pass(
        self,
        context: RequestContext,
        recording: Recording,
        reply: Reply,
        client: Client,
        upload: Upload,
        sent: Digest | None,
    ) -> None:
        head = reply.head
        if head.status in _REDIRECTS and head.get(b"location") is None:
            raise UpstreamElsewhere(f"the upstream answered {head.status} and named no place that can be reached here")
        passage = PassthroughSink(client, Digest(self._terms.inline_bytes if is_text(head) else 0), head.content_length)
        await client.start(head, is_events=False)
        try:
            ending = await reply.pump(passage)
        except asyncio.CancelledError:
            recording.first_at = passage.first_at
            outcome, reason = context.why_cancelled()
            recording.close(outcome, error=reason.message, **kept_fields(passage, head, sent))
            client.cut()  # whatever is told instead, it cannot be told behind a part of this
            raise
        is_whole = ending in (Ending.WHOLE, Ending.UNPROVED, Ending.ENOUGH)
        outcome = Outcome.COMPLETE if is_whole else Outcome.TRUNCATED
        recording.first_at = passage.first_at
        recording.close(
            Outcome.UPSTREAM_ERROR if head.status >= 400 else outcome,
            error=None if is_whole else f"the upstream's answer ended early ({ending.name.lower()})",
            usage_cost=upload.cost if head.status < 300 else None,
            **kept_fields(passage, head, sent),
        )
        try:
            await recording.kept()
        except JournalFull:
            is_whole = False
        if is_whole:
            await client.end(passage.last)
        else:
            client.cut()

    # --- ends that nobody wished for ---------------------------------------------------------------------------------

    def _close_failed(self, context: RequestContext, recording: Recording, error: BaseException, **known: Any) -> None:
        """Whatever ended the story early, its record is closed; synchronous, so that nothing can come between."""
        if isinstance(error, asyncio.CancelledError):
            outcome, reason = context.why_cancelled()
            recording.close(outcome, error=reason.message, **known)
        elif isinstance(error, UpstreamError):
            recording.close(Outcome.UPSTREAM_ERROR, error=error.message, **known)
        elif isinstance(error, CallerError):  # in the middle of an upload
            recording.close(Outcome.CLIENT_CANCELLED, error=error.message, **known)
        else:
            failure = error.message if isinstance(error, GatewayError) else type(error).__name__
            recording.close(Outcome.INTERRUPTED, error=f"the gateway failed: {failure}", **known)


async def _pumped(reply: Reply, opening: Opening, inflating: InflatingSink | None) -> Ending:
    """Pump an answer into what its beginning shows it to be."""
    try:
        if opening.waits_for_head:
            await opening.start()
        ending = await reply.pump(inflating or opening)
    except Enough:
        return Ending.ENOUGH
    await opening.over()
    return ending


def _interaction_of(
    context: RequestContext, kind: Kind, asked: ChatRequest, ruling: Ruling | None, upstream: str | None = None
) -> Interaction:
    return Interaction(
        id=context.id,
        kind=kind,
        started_at=time.time(),
        principal=context.caller,
        request_id=context.request_id,
        method=context.method,
        path=context.path,
        model=asked.model,
        upstream=upstream,
        is_stream=asked.is_stream,
        root_id=asked.root_id,
        convo_title=asked.convo_title,
        convo_show=context.convo_show,
        request_type=context.content_type,
        policy=ruling,
        body=asked.raw,
    )


def _model_refusal(context: RequestContext, model: str | None, further: Iterable[str]) -> NotAllowed | None:
    """For a caller who is bound to other models, also where a call does not show which it wants; None: it may."""
    caller = context.caller
    if caller.allowed_models is None:
        return None
    for one in (model, *further, *context.further_models):
        if not caller.may_use(one or ""):
            named = f"the model {one!r}" if one else "calls that do not show which model they want"
            return NotAllowed(f"this key may not use {named}", code="model_not_allowed", param="model")
    return None
