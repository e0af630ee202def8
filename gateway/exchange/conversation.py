"""A chat completion or response in flight: the call to the upstream, the answer, the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gateway.codec import jsontext
from gateway.dialects.request_body import OPTIONS, asking_for_usage, with_member, without_members
from gateway.dialects.shapes import estimate_usage
from gateway.errors import JournalFull
from gateway.exchange.stages import stage_of
from gateway.model import Outcome
from gateway.relay.buffered import read_whole, whole_of
from gateway.relay.opening import EVENTS, Enough, Opening
from gateway.relay.passthrough import BufferSink
from gateway.relay.stream import Relay
from gateway.relay.usage import UncountedModels, refuses_usage
from gateway.transport.call import Call, Ending
from gateway.transport.encoding import decoded, plain_head

if TYPE_CHECKING:
    from gateway.dialects.assembler import Assembler
    from gateway.dialects.dialect import Dialect
    from gateway.exchange.client import Client
    from gateway.exchange.context import RequestContext
    from gateway.exchange.options import ExchangeOptions
    from gateway.exchange.recording import Recording
    from gateway.exchange.stages import StageFactory
    from gateway.model import ChatRequest
    from gateway.relay.buffered import BufferedAnswer
    from gateway.relay.ticker import Ticker
    from gateway.transport.call import Head, Provider, Reply


@dataclass(frozen=True, slots=True)
class Shared:
    """State and services that all conversations of a process share."""

    options: ExchangeOptions
    ticker: Ticker
    uncounted: UncountedModels
    stages: tuple[StageFactory, ...] = ()


class ConversationCall:
    """One turn of a conversation, from the call to the upstream to the end of the answer. `asked` goes upstream."""

    __slots__ = ("_asked", "_client", "_context", "_dialect", "_provider", "_recording", "_shared")

    def __init__(
        self,
        shared: Shared,
        context: RequestContext,
        recording: Recording,
        asked: ChatRequest,
        dialect: Dialect,
        provider: Provider,
        client: Client,
    ) -> None:
        self._shared = shared
        self._context = context
        self._recording = recording
        self._asked = asked
        self._dialect = dialect
        self._provider = provider
        self._client = client

    async def answer(self) -> None:
        """Call the upstream and answer the caller. Raises UpstreamError, JournalFull, Stopped and CallerError as long
        as nothing has been sent; later faults end the stream with an error event."""
        reply, drops_usage = await self._open()
        self._recording.take_head(reply.head)
        try:
            if reply.head.status == 200 and (self._asked.is_stream or reply.head.media_type == EVENTS):
                await self._relay(reply, drops_usage=drops_usage)
            else:
                limit = self._shared.options.answer_bytes
                await self._send(await read_whole(reply, self._dialect, limit, self._recording.first_token), reply.head)
        finally:
            reply.close()

    # --- the call ----------------------------------------------------------------------------------------------------

    async def _open(self) -> tuple[Reply, bool]:
        """The upstream's answer, and whether only the gateway asked for its usage event."""
        context, dialect, provider, shared = self._context, self._dialect, self._provider, self._shared
        path = f"{dialect.path}?{context.query}" if context.query else dialect.path
        asking, plain = self._usage_bodies()
        call = Call("POST", path, shared.options.headers.of(context.headers), plain)
        model = (provider.name, self._asked.model)
        if asking is None or model in shared.uncounted:
            return await provider.open(call), False
        reply = await provider.open(replace(call, body=asking))
        if reply.head.status not in (400, 422):
            return reply, not self._asked.wants_usage
        refusal = BufferSink(shared.options.inline_bytes)
        await reply.pump(refusal)
        reply.close()
        reply = await provider.open(call)  # so that a refusal, too, is about what the caller wrote
        if reply.head.status not in (400, 422) and refuses_usage(refusal.body, plain):
            shared.uncounted.add(model)
        return reply, False

    def _usage_bodies(self) -> tuple[bytes | None, bytes]:
        """The request that asks for the stream's usage, or None if none is to be asked for; and one that does not ask.

        Our page asks for usage, but works without it: at the gateway's own endpoint it is a wish. On /v1 a program
        asks, and its request passes as it is.
        """
        asked, dialect = self._asked, self._dialect
        if not (dialect.counts_on_request and asked.is_stream):
            return None, asked.raw
        if asked.wants_usage:
            is_wish = self._context.shows_ids
            return (asked.raw, without_members(asked.raw, (OPTIONS,))) if is_wish else (None, asked.raw)
        return (asking_for_usage(asked.raw, asked.body) if self._shared.options.asks_usage else None), asked.raw

    # --- the answer --------------------------------------------------------------------------------------------------

    async def _relay(self, reply: Reply, *, drops_usage: bool) -> None:
        """Relay an answer that is a stream; send it whole if its first bytes show that it is not one."""
        context, dialect, client, shared = self._context, self._dialect, self._client, self._shared
        limit = shared.options.answer_bytes
        assembler = dialect.assembler()
        stage = stage_of(shared.stages, context, dialect) if shared.stages else None
        relay = Relay(client, self._recording, dialect.classifier(drops_usage), assembler, limit, stage)
        opening = Opening(reply.head, client, relay, limit, self._recording.first_token)
        inflating = decoded(reply.head, opening)
        if inflating is not None:
            opening.head = plain_head(reply.head)
        try:
            with shared.ticker.watching(opening):
                try:
                    if opening.waits_for_head:
                        await opening.start()
                    ending = await reply.pump(inflating or opening)
                except Enough:
                    ending = Ending.ENOUGH
                else:
                    await opening.over()
            if not opening.is_stream:
                whole = whole_of(opening.head, opening.held, inflating, ending, dialect, limit)
                await self._send(whole, opening.head)
                return
            relay.close(ending if inflating is None else inflating.ending(ending))
            self._close(relay, assembler)
        except asyncio.CancelledError:
            if not opening.is_stream:
                raise
            relay.close_early(*context.why_cancelled())
            if context.stopped is None:
                relay.last = b""  # the caller left: nobody reads it
            self._close(relay, assembler)
            if context.stopped is None:
                raise
            context.take_back_cancellation()
        await self._end(relay)

    def _close(self, relay: Relay, assembler: Assembler) -> None:
        """Complete the record of a relayed answer."""
        self._recording.close(
            relay.outcome or Outcome.UPSTREAM_ERROR,
            body=self._with_ids(relay.completion_json()),
            body_type="application/json",
            model=assembler.model,
            usage=assembler.usage or estimate_usage(self._asked.body, assembler.completion()),
            bytes_in=relay.bytes_in,
            bytes_out=relay.bytes_out + len(relay.last),
            error=relay.fault,
        )

    async def _end(self, relay: Relay) -> None:
        """Send the end, which goes out only when the record is kept."""
        last = relay.last
        try:
            await self._recording.kept()
        except JournalFull as error:
            last = relay.error_events(error.message, "server_error", error.code)
        await self._client.end(last)

    async def _send(self, whole: BufferedAnswer, head: Head) -> None:
        """Record and send an answer that is not a stream."""
        is_answer = whole.answer is not None
        body = self._with_ids(whole.body) if is_answer else whole.body
        sent = body if whole.replacement is None else whole.replacement
        self._recording.close(
            whole.outcome,
            body=body,
            body_type=head.media_type,
            model=whole.model,
            usage=whole.usage or (estimate_usage(self._asked.body, whole.answer) if whole.answer is not None else None),
            bytes_in=whole.size,
            bytes_out=len(sent),
            error=whole.fault,
        )
        await self._recording.kept()
        if whole.error is not None and whole.replacement is None:
            raise whole.error
        await self._client.send(whole.status, whole.head, sent)

    def _with_ids(self, body: bytes) -> bytes:
        """The completion with `uuid` and `root_uuid`, at the gateway's own endpoints."""
        if not self._context.shows_ids:
            return body
        own_id = str(self._context.id)
        root = jsontext.write(self._asked.root_id or own_id, is_plain=True)  # a caller's own id may hold anything
        return with_member(body, b'"uuid":"%b","root_uuid":%b' % (own_id.encode(), root))
