"""The story of a request on one page: policy, gates, route, record, upstream, answer, record again, the end."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gateway.errors import CallerError, GatewayError, PolicyRejected, UpstreamError
from gateway.exchange.context import PERMIT
from gateway.exchange.conversation import ConversationCall, Shared
from gateway.exchange.gates import refusal_of
from gateway.exchange.observers import callbacks_of
from gateway.exchange.passthrough import PassthroughCall
from gateway.exchange.recording import Recording
from gateway.model import Interaction, Kind, Outcome
from gateway.relay.buffered import uploaded_fields
from gateway.relay.usage import UncountedModels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.dialects.dialect import Dialect
    from gateway.exchange.client import Client
    from gateway.exchange.context import PassthroughRequest, RequestContext
    from gateway.exchange.gates import Gate
    from gateway.exchange.observers import Observer
    from gateway.exchange.options import ExchangeOptions
    from gateway.exchange.recording import BeginEntry
    from gateway.exchange.stages import StageFactory
    from gateway.model import ChatRequest, Principal, Ruling
    from gateway.policy.engine import Policy
    from gateway.providers.routing import Catalogue
    from gateway.relay.ticker import Ticker

REFUSED_BYTES = 64 * 1024  # of a refused request's body that are kept


class Exchange:
    """Carries requests through; one for the whole process. `begin` begins a record: `Journal.begin`."""

    def __init__(
        self,
        policy: Policy,
        catalogue: Catalogue,
        begin: BeginEntry,
        ticker: Ticker,
        options: ExchangeOptions,
        *,
        gates: Sequence[Gate] = (),
        observers: Sequence[Observer] = (),
        stages: Sequence[StageFactory] = (),
    ) -> None:
        self._policy = policy
        self._catalogue = catalogue
        self._begin_entry = begin
        self._options = options
        self._gates = tuple(gates)
        self._callbacks = callbacks_of(observers)
        self._shared = Shared(options, ticker, UncountedModels(), tuple(stages))

    async def converse(self, context: RequestContext, asked: ChatRequest, dialect: Dialect, client: Client) -> None:
        """Answer one chat completion or response, streamed or not.

        Raises NotAllowed, PolicyRejected, UpstreamError, JournalFull, Stopped, CallerError as long as nothing has been
        sent; later faults end the stream with an error event.
        """
        asked, ruling, rejection = self._policy.review(asked, context.caller)
        context.asked = asked
        try:
            for gate in self._gates:
                if (entered := gate.enter(context)) is not PERMIT and (refusal := await refusal_of(context, entered)):
                    raise self._refused(context, _chat_interaction(context, dialect.kind, asked, ruling), refusal)
            route = self._catalogue.for_model(asked.model)
            provider = route.provider
            recording = self._begin(context, _chat_interaction(context, dialect.kind, asked, ruling, provider.name))
            if rejection is not None:
                recording.close(Outcome.POLICY_BLOCKED, error=rejection)
                raise PolicyRejected(rejection)
            if route.upstream_model != asked.model:
                asked = asked.with_model(route.upstream_model)
            await ConversationCall(self._shared, context, recording, asked, dialect, provider, client).answer()
        except BaseException as error:
            if (stopped := _close_failed(context, error)) is not None:
                raise stopped from None
            raise
        finally:
            if context.permits:
                context.release_permits()

    async def pass_through(
        self, context: RequestContext, kind: Kind, path: str, upload: PassthroughRequest, client: Client
    ) -> None:
        """Answer any other call: stream it through in both directions and record it. `path` is below the base URL."""
        context.asked = upload
        call = PassthroughCall(self._options, context, path, upload, client)
        try:
            for gate in self._gates:
                if (entered := gate.enter(context)) is not PERMIT and (refusal := await refusal_of(context, entered)):
                    body = upload.body if isinstance(upload.body, bytes) else b""
                    raise self._refused(context, _call_interaction(context, kind, upload, body), refusal)
            provider = self._catalogue.for_path(path)
            recording = self._begin(
                context, _call_interaction(context, kind, upload, call.recorded_body, provider.name)
            )
            await call.answer(provider, recording)
        except BaseException as error:
            if (stopped := _close_failed(context, error, **uploaded_fields(call.uploaded))) is not None:
                raise stopped from None
            raise
        finally:
            if context.permits:
                context.release_permits()

    def as_recorded(self, asked: ChatRequest, caller: Principal) -> ChatRequest:
        """The request as the policy lets it pass: the form that the record keeps."""
        return self._policy.review(asked, caller).request

    def _begin(self, context: RequestContext, begun: Interaction) -> Recording:
        context.recording = recording = Recording(self._begin_entry(begun), self._callbacks)
        return recording

    def _refused(self, context: RequestContext, begun: Interaction, error: GatewayError) -> GatewayError:
        """Record a refused request, and return the error for the caller to raise.

        Of a body beyond REFUSED_BYTES the record keeps the beginning, and the size and digest of all of it.
        """
        known: dict[str, Any] = {}
        if len(begun.body) > REFUSED_BYTES:
            known = {"request_size": len(begun.body), "request_sha256": sha256(begun.body).hexdigest()}
        recording = self._begin(context, replace(begun, body=begun.body[:REFUSED_BYTES], convo_show=False))
        recording.close(Outcome.REFUSED, error=error.message, **known)
        return error


def _close_failed(context: RequestContext, error: BaseException, **known: Any) -> GatewayError | None:
    """Close the record of an exchange that failed, if it is open. Synchronous: no cancellation can come between.

    Returns the reason if the gateway itself cancelled the exchange: then the task goes on, and raises it.
    """
    recording = context.recording
    if recording is not None and recording.answer is None:
        _close(recording, context, error, known)
    if context.stopped is None or not isinstance(error, asyncio.CancelledError):
        return None
    context.take_back_cancellation()
    return context.stopped


def _close(recording: Recording, context: RequestContext, error: BaseException, known: dict[str, Any]) -> None:
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


def _chat_interaction(
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


def _call_interaction(
    context: RequestContext, kind: Kind, upload: PassthroughRequest, body: bytes, upstream: str | None = None
) -> Interaction:
    return Interaction(
        id=context.id,
        kind=kind,
        started_at=time.time(),
        principal=context.caller,
        request_id=context.request_id,
        method=context.method,
        path=context.path,
        model=upload.model,
        upstream=upstream,
        request_type=context.content_type,
        body=body,
    )
