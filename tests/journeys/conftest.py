"""Fixtures of the journeys: one gateway a module, an upstream that each test finds as new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.gateway_process import GatewayProcess
from tests.journeys.stage import Stage, open_stage
from tests.loopback import LoopbackUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.postgres import PostgresServer


@pytest.fixture(scope="module")
def module_database(postgres: PostgresServer) -> Iterator[str]:
    """The DSN of an empty database that is this module's own."""
    dsn = postgres.create_database()
    yield dsn
    postgres.drop_database(dsn)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, module_database: str
) -> AsyncIterator[Stage]:
    """The module's gateway; what the module calls `ENV` is its environment."""
    env: dict[str, str] = getattr(request.module, "ENV", {})
    async with LoopbackUpstream() as upstream:
        gateway = GatewayProcess.upon(tmp_path_factory.mktemp("gateway"), upstream.url, module_database, **env)
        async for stage in open_stage(gateway, upstream, module_database):
            yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(standing: Stage) -> AsyncIterator[Stage]:
    """The module's gateway, with an upstream that is as new; afterwards it lives on and complains of nothing."""
    upstream = standing.upstream
    upstream.forget()
    standing.complaints()
    yield standing
    await standing.clear()
    assert standing.gateway.is_running
    assert not standing.complaints()
    failures, upstream.failures = upstream.failures, []
    assert not failures
