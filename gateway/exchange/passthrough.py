"""Any call that is not a conversation: streamed through in both directions as it is, and recorded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import JournalFull, UpstreamElsewhere
from gateway.model import Outcome
from gateway.relay.buffered import is_text, kept_fields
from gateway.relay.passthrough import Digest, PassthroughSink
from gateway.transport.call import Call, Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.exchange.client import Client
    from gateway.exchange.context import PassthroughRequest, RequestContext
    from gateway.exchange.options import ExchangeOptions
    from gateway.exchange.recording import Recording
    from gateway.transport.call import Head, Provider

_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class PassthroughCall:
    """One call in flight. `uploaded` digests a request that the record does not hold; None if it holds it."""

    __slots__ = ("_client", "_context", "_options", "_path", "_upload", "uploaded")

    def __init__(
        self, options: ExchangeOptions, context: RequestContext, path: str, upload: PassthroughRequest, client: Client
    ) -> None:
        self._options = options
        self._context = context
        self._path = path  # below the provider's base URL
        self._upload = upload
        self._client = client
        self.uploaded = None if isinstance(upload.body, bytes) and upload.is_kept else Digest(keep=0)

    @property
    def recorded_body(self) -> bytes:
        """The request as the record holds it."""
        body = self._upload.body
        return body if isinstance(body, bytes) and self.uploaded is None else b""

    async def answer(self, provider: Provider, recording: Recording) -> None:
        """Call the upstream and stream its answer to the caller. Raises UpstreamError and CallerError as long as
        nothing has been sent; later faults cut the connection."""
        reply = await provider.open(self._call())
        head = reply.head
        recording.take_head(head)
        try:
            if head.status in _REDIRECTS and head.get(b"location") is None:
                raise UpstreamElsewhere(f"the upstream answered {head.status} without a location that we can reach")
            digest = Digest(self._options.inline_bytes if is_text(head) else 0)
            sink = PassthroughSink(self._client, recording, digest, head.content_length)
            await self._client.start(head, is_events=False)
            try:
                ending = await reply.pump(sink)
            except asyncio.CancelledError:
                outcome, reason = self._context.why_cancelled()
                recording.close(outcome, error=reason.message, **kept_fields(digest, head, self.uploaded))
                self._client.cut()  # an error response cannot follow a part of this one
                raise
            await self._end(sink, head, ending, recording)
        finally:
            reply.close()

    def _call(self) -> Call:
        upload, context = self._upload, self._context
        is_held = isinstance(upload.body, bytes)
        headers = self._options.headers.of(context.headers, is_decoded=is_held)
        return Call(context.method, self._path, headers, self._digested_body(), upload.length)

    def _digested_body(self) -> bytes | AsyncIterator[bytes]:
        body = self._upload.body
        if self.uploaded is None:
            return body
        if not isinstance(body, bytes):
            return self.uploaded.over(body)
        self.uploaded.update(body)
        return body

    async def _end(self, sink: PassthroughSink, head: Head, ending: Ending, recording: Recording) -> None:
        """Complete the record, then send the end; cut the connection if the answer is not whole or not kept."""
        is_whole = ending in (Ending.WHOLE, Ending.UNPROVED, Ending.ENOUGH)
        outcome = Outcome.COMPLETE if is_whole else Outcome.TRUNCATED
        recording.close(
            Outcome.UPSTREAM_ERROR if head.status >= 400 else outcome,
            error=None if is_whole else f"the upstream's answer ended early ({ending.name.lower()})",
            usage_cost=self._upload.cost if head.status < 300 else None,
            **kept_fields(sink.digest, head, self.uploaded),
        )
        try:
            await recording.kept()
        except JournalFull:
            is_whole = False
        if is_whole:
            await self._client.end(sink.last)
        else:
            self._client.cut()
