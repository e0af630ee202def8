"""The composition root: everything is made here, handed to what needs it, and closed in the opposite order."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.edge.keys import EXCHANGE, IDENTITY, IDS, LIVE, PAGE, READINESS, SETTINGS
from gateway.edge.live import Live
from gateway.edge.middlewares import one_line_per_request
from gateway.edge.routes import routes
from gateway.exchange import Exchange, Terms
from gateway.identity.local import OpenIdentity
from gateway.ids import Ids
from gateway.policy.chain import Policy
from gateway.pulse import Pulse
from gateway.readiness import Readiness
from gateway.shipped import shipped
from gateway.upstream.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.account import Recorder
    from gateway.settings import Settings


def build_app(settings: Settings, recorder: Recorder | None = None) -> web.Application:
    """The application of one process. `recorder` stands in for the journal, which then is not opened (the benchmark's
    measure of what the log costs)."""
    app = web.Application(middlewares=[one_line_per_request])
    app[SETTINGS] = settings
    app[IDS] = Ids()
    app[IDENTITY] = OpenIdentity()
    app[LIVE] = Live()
    app[PAGE] = shipped("static").resolve()
    app.add_routes(routes())

    async def house(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _furnish(app, settings, recorder, stack)
            yield

    app.cleanup_ctx.append(house)
    return app


async def _furnish(
    app: web.Application, settings: Settings, recorder: Recorder | None, stack: AsyncExitStack
) -> None:
    pulse = Pulse()
    catalogue = Catalogue.of(settings)
    stack.push_async_callback(catalogue.aclose)
    stack.callback(pulse.close)
    terms = Terms(
        answer_bytes=settings.upstream.max_answer_bytes,
        inline_bytes=settings.journal.inline_bytes,
        asks_usage=settings.upstream.ask_usage,
        passes_credentials=settings.upstream.pass_credentials,
    )
    assert recorder is not None
    app[EXCHANGE] = Exchange(Policy(), catalogue, recorder, pulse, terms)
